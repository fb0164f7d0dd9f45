"""Pruning: whole ended traces go, in short transactions; a tombstone stays.

The first transaction takes the trace out of everybody's sight and puts the
tombstone there, so no reader meets half a tree and no late report begins it
anew. What is left of its rows goes in steps that any later prune takes up
again. The audit of its controls stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.db import connection
from django.db.models import Q, QuerySet

from instances import partitions
from instances.intake import DAY_MS
from instances.models import Event, Tombstone, Trace
from instances.rows import run
from instances.writer import in_transaction

#: Rows of one transaction, and a breath after it, since nobody waits for this.
STEP_ROWS: Final = 5_000
BREATH_SECONDS: Final = 0.005
#: Runs that are buried before the first of them is emptied: many, so that whole partitions of the log go.
AT_ONCE: Final = 200_000

#: Table, column, whether that holds a task's key (else the trace's number); first what the sweeper reads.
LEFT: Final = (
    ("instances_deadline", "task", True),
    ("instances_intent", "trace", False),
    ("instances_intentledger", "trace", False),
    ("instances_event", "trace", False),
    ("instances_collected", "trace", False),
    ("instances_frozenresult", "aggregator", True),
    ("instances_tasksaid", "task", True),
    ("instances_taskbody", "task", True),
    ("instances_taskinstance", "pk", True),
)


@dataclass(frozen=True, slots=True)
class Going:
    """A trace that would go."""

    trace_id: str
    ended_ms: int
    tasks: int
    events: int


def going(cutoff_ms: int) -> Iterator[Going]:
    """Those that ended up to then, the oldest first."""
    for trace in _ended(cutoff_ms).iterator():
        events = Event.objects.filter(trace=trace.number).count()
        yield Going(trace.id, trace.ended_ms or 0, trace.next_n, events)


def prune(cutoff_ms: int, now_ms: int, *, forget: Callable[[str], object]) -> Iterator[Going]:
    """Remove the traces that ended up to ``cutoff_ms``; each is given when nothing of it is left.

    ``forget`` removes what Redis holds of a trace; where it raises, the next prune goes on from there.
    """
    for stone in Tombstone.objects.filter(emptied=False).order_by("trace_id"):
        _empty(stone, forget)
    while buried := dict(_buried(cutoff_ms, now_ms)):
        # Whole partitions of the log first: what they hold need not be removed row by row.
        went = partitions.drop_left()
        for stone, ended_ms in buried.items():
            rows = _empty(stone, forget)
            events = rows["instances_event"] + went[stone.number]
            yield Going(stone.trace_id, ended_ms, rows["instances_taskinstance"], events)
    _weather(now_ms - settings.TOWER_TOMBSTONE_DAYS * DAY_MS)


def _buried(cutoff_ms: int, now_ms: int) -> Iterator[tuple[Tombstone, int]]:
    """Bury those that ended up to then, not more than are to be remembered; each with when it ended."""
    left = AT_ONCE
    while left > 0 and (found := list(_ended(cutoff_ms)[:500])):
        left -= len(found)
        for trace in found:
            if stone := in_transaction(partial(_bury, trace.number, cutoff_ms, now_ms)):
                yield stone, trace.ended_ms or 0


def _ended(cutoff_ms: int) -> QuerySet[Trace]:
    return Trace.objects.filter(ended_ms__lte=cutoff_ms).order_by("ended_ms", "number")


def _bury(number: int, cutoff_ms: int, now_ms: int) -> Tombstone | None:
    # A late child may have opened it again since it was found: then the row does not match.
    gone = run(
        "DELETE FROM instances_trace WHERE number = %s AND ended_ms <= %s RETURNING id", [number, cutoff_ms]
    )
    if not gone:
        return None
    run("DELETE FROM instances_tracelabel WHERE trace_id = %s", [number])
    values = {"number": number, "gone_ms": now_ms, "emptied": False}
    return Tombstone.objects.update_or_create(trace_id=gone[0][0], defaults=values)[0]


def _empty(stone: Tombstone, forget: Callable[[str], object]) -> dict[str, int]:
    """Remove the rows of a buried trace; how many of each table."""
    erased = {}
    for table, column, keyed in LEFT:
        low, high = stone.number << 32 * keyed, (stone.number + 1) << 32 * keyed
        erased[table] = 0
        while rows := in_transaction(partial(_step, table, f"{column} >= %s AND {column} < %s", [low, high])):
            erased[table] += rows
            time.sleep(BREATH_SECONDS)
    forget(stone.trace_id)
    in_transaction(partial(_emptied, stone))
    return erased


def _emptied(stone: Tombstone) -> None:
    Tombstone.objects.filter(pk=stone.pk).update(emptied=True)


def _step(table: str, where: str, params: list[Any]) -> int:
    # By the rows' own places: to find so many by their keys again would cost more than all the rest.
    row = "ctid" if connection.vendor == "postgresql" else "rowid"
    found = f"SELECT {row} FROM {table} WHERE {where} LIMIT {STEP_ROWS}"
    among = f"= ANY(ARRAY({found}))" if connection.vendor == "postgresql" else f"IN ({found})"
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {row} {among}", params)
        return int(cursor.rowcount)


def _weather(before_ms: int) -> None:
    """Tombstones that have stood long enough."""
    old = Q(gone_ms__lt=before_ms, emptied=True)
    while ids := list(Tombstone.objects.filter(old).values_list("pk", flat=True)[:STEP_ROWS]):
        in_transaction(partial(_drop, ids))


def _drop(ids: list[str]) -> None:
    # One that stands anew meanwhile is another.
    for at in range(0, len(ids), 500):
        Tombstone.objects.filter(pk__in=ids[at : at + 500], emptied=True).delete()
