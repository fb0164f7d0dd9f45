"""Bringing the tables up to date, by one `up` at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TextIO

from django.core.management import CommandError, call_command
from django.db import DatabaseError, OperationalError, connection
from django.db.migrations.loader import MigrationLoader

#: Names our lock in a PostgreSQL; any number that nobody else takes.
LOCK = 0x746F776572


def pending_migrations() -> int:
    with connection.cursor() as cursor:
        if "django_migrations" not in connection.introspection.table_names(cursor):
            return len(known_migrations())
        cursor.execute("SELECT app, name FROM django_migrations")
        # A newer schema than this program knows is fine: migrations only add.
        return len(known_migrations() - {(app, name) for app, name in cursor.fetchall()})


def refuse_missing_columns() -> None:
    """Ends a program that is newer than its database; one that is away is waited for, as at any time."""
    try:
        pending = pending_migrations()
    except DatabaseError:
        return
    finally:
        connection.close()
    if pending:
        raise CommandError(
            f"The database lacks {pending} of this program's migrations:"
            " run `manage.py migrate`, or `manage.py up`, which does so by itself."
        )


@cache
def known_migrations() -> frozenset[tuple[str, str]]:
    """Read from the disk once: 60 ms."""
    return frozenset(MigrationLoader(None).disk_migrations or {})


def migrate() -> bool:
    """Apply what is pending; whether there was any."""
    if not pending_migrations():
        return False
    call_command("migrate", interactive=False, verbosity=0)
    return True


@contextmanager
def alone() -> Iterator[None]:
    """Another `up` on this database waits until this one is through, and then finds all of it there.

    Without a database: DatabaseError, at once.
    """
    if connection.vendor != "postgresql":
        # SQLite's own lock is let go between the look at what is there and the first statement.
        with opened(Path(f"{connection.settings_dict['NAME']}-starting")) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    # The pool would try for seconds and then hide the reason.
    connection.settings_dict["OPTIONS"].pop("pool", None)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    yield
    # The lock ends with the connection, also when the line above raises.
    connection.close()


def opened(path: Path) -> TextIO:
    try:
        return path.open("a")
    except OSError as error:
        raise OperationalError(f"unable to open {path.parent}: {error.strerror}") from error
