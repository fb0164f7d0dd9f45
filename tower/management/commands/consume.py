"""``manage.py consume``: reports from the queue, in the foreground, until SIGTERM or SIGINT."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from controls.clock import now_ms
from controls.models import Beat
from instances import pump
from instances.sources import queue
from instances.writer import in_transaction
from tower import interpreter, leaving, upgrade

ROLE = "consumer"


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
        upgrade.refuse_missing_columns()
        stop = threading.Event()
        leaving.at_a_signal(stop)
        interpreter.settle()
        with a_name() as name:
            pump.Pump(queue(consuming=True, name=name), beat=beat, stop=stop).run()


@contextmanager
def a_name() -> Iterator[str]:
    """The lowest that is free here: the kernel frees that of a consumer that died, and the next one inherits.

    Two that share one all the same (one path on two machines of one name) only do some work twice.
    """
    home = zlib.crc32(str(settings.TOWER_HOME).encode())
    for number in itertools.count():
        lock = os.open(settings.TOWER_HOME / f"consumer-{number}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        yield f"{socket.gethostname()}:{home:08x}:{number}"
        os.close(lock)
        return


def beat() -> None:
    in_transaction(lambda: Beat.objects.update_or_create(role=ROLE, defaults={"at_ms": now_ms()}))
