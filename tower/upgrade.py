"""Bringing the tables up to date, by one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from django.core.management import call_command
from django.db import connection
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


@cache
def known_migrations() -> frozenset[tuple[str, str]]:
    """Read from the disk once: 60 ms."""
    return frozenset(MigrationLoader(None).disk_migrations or {})


def migrate() -> bool:
    """Apply what is pending; whether there was any. Without a database: DatabaseError, at once."""
    # The pool would try for seconds and then hide the reason.
    connection.settings_dict["OPTIONS"].pop("pool", None)
    with alone():
        if not pending_migrations():
            return False
        call_command("migrate", interactive=False, verbosity=0)
        return True


@contextmanager
def alone() -> Iterator[None]:
    """Another machine's `up` waits until this one is through; SQLite's own lock is enough."""
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET lock_timeout = 0")
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    yield
    # The lock ends with the connection, also when the line above raises.
    connection.close()
