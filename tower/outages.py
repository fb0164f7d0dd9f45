"""What a failed database is called in an answer. A fault of ours (a wrong statement) stays a 500."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

from tower.errors import Unavailable

#: SQLSTATE, or its class: what the answer says of it.
SQLSTATES = {
    "40001": "database_busy",
    "40P01": "database_busy",
    "55P03": "database_busy",
    "57014": "query_timeout",
    "53100": "storage_full",
    "08": "database_unavailable",
    "53": "database_unavailable",
    "57P": "database_unavailable",
}
SQLITE = {
    sqlite3.SQLITE_BUSY: "database_busy",
    sqlite3.SQLITE_LOCKED: "database_busy",
    sqlite3.SQLITE_FULL: "storage_full",
    sqlite3.SQLITE_IOERR: "storage_full",
    sqlite3.SQLITE_READONLY: "storage_full",
    sqlite3.SQLITE_CANTOPEN: "database_unavailable",
    sqlite3.SQLITE_INTERRUPT: "query_timeout",
}
MESSAGES = {
    "database_busy": "The database is busy; send the request again.",
    "database_unavailable": "The database does not answer; send the request again.",
    "query_timeout": "This took too long; ask for less.",
    "storage_full": "The disk is full or cannot be written; nothing was stored.",
}


def outage(error: BaseException) -> Unavailable | None:
    """The 503 that a database's failure becomes; None where the statement itself was at fault."""
    for cause in _causes(error):
        if code := _code(cause):
            return Unavailable(MESSAGES[code], code=code, retry_after=1)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _code(error: BaseException) -> str | None:
    if isinstance(error, PoolTimeout):
        return "database_unavailable"
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EROFS}:
        return "storage_full"
    if isinstance(error, sqlite3.Error):
        number = getattr(error, "sqlite_errorcode", None)
        # The low byte is the kind, the rest says where it happened.
        return _by_message(str(error)) if number is None else SQLITE.get(number & 0xFF)
    state = getattr(error, "sqlstate", None)
    if state:
        return next((SQLSTATES[part] for part in (state, state[:3], state[:2]) if part in SQLSTATES), None)
    if isinstance(error, DatabaseError) and error.__cause__ is not None:
        return None  # the driver's own error says it better
    # Without a state: the driver could not reach the server, or lost it.
    away = isinstance(
        error, OperationalError | InterfaceError | psycopg.OperationalError | psycopg.InterfaceError
    )
    return "database_unavailable" if away else None


def _by_message(said: str) -> str | None:
    for words, code in (("locked", "database_busy"), ("full", "storage_full"), ("readonly", "storage_full")):
        if words in said:
            return code
    return None
