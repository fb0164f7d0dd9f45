"""Part of a restore: every browser loads its trees anew."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from instances import snapshot


class Command(BaseCommand):
    help = "After a backup was restored: make all that browsers and caches keep of it void."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"epoch {snapshot.new_epoch()}")
