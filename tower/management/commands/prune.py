"""``manage.py prune``: whole ended runs go; what was asked of them stays in the audit."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controls.clock import now_ms
from controls.store import StoreAway, store
from instances.intake import DAY_MS
from instances.retention import Going, going, prune
from tower.marks import iso


class Command(BaseCommand):
    help = "Remove runs that ended some time ago, in small steps; runs that have not ended stay."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--older-than", type=days, required=True, metavar="DAYS")
        parser.add_argument("--dry-run", action="store_true", help="only say what would go")

    def handle(self, *args: Any, **options: Any) -> None:
        now = now_ms()
        cutoff = now - options["older_than"] * DAY_MS
        dry = options["dry_run"]
        runs = tasks = events = 0
        try:
            for one in going(cutoff) if dry else prune(cutoff, now, forget=store().forget):
                self.stdout.write(told(one))
                runs, tasks, events = runs + 1, tasks + one.tasks, events + one.events
        except StoreAway as error:
            raise CommandError("Redis does not answer: the rest goes with the next prune.") from error
        said = "would go" if dry else "went"
        held = f"{counted(tasks, 'task')} and {counted(events, 'event')}"
        self.stdout.write(f"{counted(runs, 'run')} with {held} {said}.")


def days(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def told(one: Going) -> str:
    held = f"{counted(one.tasks, 'task')}  {counted(one.events, 'event')}"
    return f"{one.trace_id}  ended {iso(one.ended_ms)}  {held}"
