"""``manage.py sweep``: a sweeper in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import threading
from typing import Any

from django.core.management.base import BaseCommand

from controls import sweep
from tower import leaving, upgrade


class Command(BaseCommand):
    help = "Deliver commands, end what was cancelled, act on deadlines. Any number may run."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        upgrade.refuse_missing_columns()
        stop = threading.Event()
        leaving.at_a_signal(stop)
        sweep.run(stop)
