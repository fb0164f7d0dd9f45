"""One clock for all processes and machines: the database's."""

from __future__ import annotations

from typing import Final

from django.db import connection

#: Milliseconds since the epoch when the statement runs, also inside a long transaction.
CLOCK: Final = {
    "postgresql": "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint",
    "sqlite": "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
}


def now_ms() -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {CLOCK[connection.vendor]}")
        return int(cursor.fetchone()[0])
