"""``manage.py demo_definitions``: what the demo fleet works for. ``up --demo`` calls it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from tower.definitions import edit
from tower.demo.definitions import DEFINITIONS
from tower.errors import Conflict


class Command(BaseCommand):
    help = (
        "Create the definitions of the demo fleet. One that is there already, or was changed, stays as it is."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        made = sum(self._made(body) for body in DEFINITIONS)
        self.stdout.write(f"{made} definitions created, {len(DEFINITIONS) - made} were there.")

    def _made(self, body: dict[str, Any]) -> bool:
        try:
            return edit.create(body, by="demo").created
        except Conflict:
            return False
