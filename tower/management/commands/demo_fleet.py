"""``manage.py demo_fleet``: the simulated actors alone. ``up --demo`` starts it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tower.demo.fleet import KEPT, crew


class Command(BaseCommand):
    help = "Run simulated actors that speak only the public API, until interrupted."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--keep", type=int, default=KEPT, help="runs that are kept going (default %(default)s)"
        )
        parser.add_argument("--speed", type=float, default=1.0, help="how fast the actors work (default 1)")

    def handle(self, *args: Any, **options: Any) -> None:
        url, token = os.environ.get("TOWER_URL"), os.environ.get("TOWER_DEMO_TOKEN")
        if not url or not token:
            raise CommandError("demo_fleet needs TOWER_URL and TOWER_DEMO_TOKEN (scopes: ingest, read).")
        if not options["speed"] > 0:
            raise CommandError("--speed must be above 0.")
        fleet = crew(
            url=url,
            token=token,
            redis_url=os.environ.get("REDIS_URL", ""),
            kept=options["keep"],
            speed=options["speed"],
        )
        asyncio.run(until_signalled(fleet))


async def until_signalled(work: Any) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
