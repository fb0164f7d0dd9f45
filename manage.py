#!/usr/bin/env python
from __future__ import annotations

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tower.settings")
    from django.core.management import execute_from_command_line

    import tower  # noqa: F401  (puts the newer SQLite in before Django loads its own)

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
