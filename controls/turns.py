"""Several sweepers take turns: a deed that one is at is left alone by the others.

Advisory locks and not ``SKIP LOCKED`` on the rows of the deed: those would be
held while Redis is asked, or while Trace rows are locked, and a control that
wants them waits behind a slow Redis or closes a deadlock with an ingest. They
end with their connection, so a sweeper that dies leaves none behind. Nothing
rests on them but thrift: each deed is guarded by its own write.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def alone(deed: str, number: int = 0) -> Iterator[bool]:
    """Whether nobody else is at this deed (of this trace) now; nobody will be until the block ends."""
    if connection.vendor != "postgresql":
        yield True  # one machine, one file, one writer at a time
        return
    lock = _lock(deed, number)
    if not _ask("SELECT pg_try_advisory_lock(%s)", lock):
        yield False
        return
    try:
        yield True
    finally:
        _ask("SELECT pg_advisory_unlock(%s)", lock)


def _lock(deed: str, number: int) -> int:
    """15 bits of the deed above 48 of the trace: within PostgreSQL's bigint."""
    return (zlib.crc32(deed.encode()) & 0x7FFF) << 48 | number


def _ask(sql: str, lock: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(sql, [lock])
        return bool(cursor.fetchone()[0])
