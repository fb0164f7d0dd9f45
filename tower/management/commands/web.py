"""``manage.py web``: pages, REST and websockets alone, for one process per machine role."""

from __future__ import annotations

import logging
import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tower import binding, checks, interpreter, static, upgrade

log = logging.getLogger("tower.web")


class Command(BaseCommand):
    help = "Serve pages, REST and websockets until interrupted."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default=settings.TOWER_BIND, metavar="HOST:PORT")
        parser.add_argument("--fd", type=int, help="a socket that listens already, in place of --bind")

    def handle(self, *args: Any, **options: Any) -> None:
        upgrade.refuse_missing_columns()
        listening = self._socket(options)
        from tower.server import TowerServer  # installs Twisted's reactor

        from tower.asgi import application  # isort: skip

        def ready() -> None:
            log.info("listening")

        interpreter.settle()
        TowerServer(application, listening, ready).run()

    def _socket(self, options: dict[str, Any]) -> socket.socket:
        if options["fd"] is not None:
            return socket.socket(fileno=options["fd"])
        try:
            host, port = binding.parsed(options["bind"])
            checks.refuse_what_disagrees()
            binding.judge(host)
            static.collect()
            return binding.bound_socket(host, port)
        except binding.Refused as refused:
            raise CommandError(str(refused)) from refused
