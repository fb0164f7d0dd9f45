"""``manage.py sweep``: a sweeper in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from controls import sweep


class Command(BaseCommand):
    help = "Deliver commands, end what was cancelled, act on deadlines. Any number may run."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        sweep.run(stop)
