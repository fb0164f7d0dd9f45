"""Make a token for a program and print it once, as the last word of the output."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tower.access.tokens import DAYS, SCOPES, make_token


class Command(BaseCommand):
    help = "Makes a token for a program. It is shown this once; the database keeps only its SHA-256."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="what it is for, as the audit will show it")
        parser.add_argument("--scopes", default="read", help=f"comma-separated, of {', '.join(SCOPES)}")
        parser.add_argument("--days", type=int, default=DAYS, help=f"valid for so many days (default {DAYS})")

    def handle(self, *args: Any, **options: Any) -> None:
        scopes = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
        name = options["name"].strip()
        if not name or len(name) > 150:
            raise CommandError("A name has 1 to 150 characters.")
        if not 1 <= options["days"] <= 36_500:
            raise CommandError("--days is between 1 and 36500.")
        try:
            raw = make_token(name, scopes, options["days"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"Token {name} with {', '.join(scopes)} for {options['days']} days, shown only now: {raw}"
        )
