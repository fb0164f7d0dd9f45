"""One clock for all processes and machines: the database's."""

from __future__ import annotations

from typing import Final

from django.db import connection
from django.db.models import BigIntegerField
from django.db.models.expressions import RawSQL

#: Milliseconds since the epoch when the statement runs, also inside a long transaction.
_SQL: Final = {
    "postgresql": "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint",
    "sqlite": "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
}


def clock() -> RawSQL:
    """The clock as a column of a query."""
    return RawSQL(_SQL[connection.vendor], (), output_field=BigIntegerField())


def now_ms() -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_SQL[connection.vendor]}")
        return int(cursor.fetchone()[0])
