"""``manage.py consume``: reports from the queue, in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from controls.clock import now_ms
from controls.models import Beat
from instances import pump
from instances.sources.streams import queue
from instances.writer import in_transaction

ROLE = "consumer"
#: A signal finishes what is in hand. A database that hangs is not waited for: nothing is lost by going.
LEAVE_SECONDS = 9.0


class Command(BaseCommand):
    help = "Read reports from the queue. Any number may run."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--resume",
            action="store_true",
            help="let consumers go on that stopped because most of what came could not be taken",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["resume"]:
            went_on = pump.resume()
            self.stdout.write("The consumers go on." if went_on else "They had not stopped.")
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: leave(stop))
        pump.Pump(queue(consuming=True), beat=beat, stop=stop).run()


def leave(stop: threading.Event) -> None:
    if stop.is_set():
        os._exit(1)  # asked twice: at once
    stop.set()
    last = threading.Timer(LEAVE_SECONDS, os._exit, [1])
    last.daemon = True
    last.start()


def beat() -> None:
    in_transaction(lambda: Beat.objects.update_or_create(role=ROLE, defaults={"at_ms": now_ms()}))
