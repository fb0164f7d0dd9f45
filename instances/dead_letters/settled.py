"""Which dead letters of a topic were put back or dropped: rows of the database. Knows nothing of Kafka.

A topic is named with its cluster; ``edges`` are, by partition, the first offset
that is kept and that behind the last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from django.db.models import QuerySet

from instances.models import SettledLetter
from instances.rows import run
from instances.writer import in_transaction

Edges = Mapping[int, tuple[int, int]]

#: Rows of one read (5 ms), and of one clearing.
READ: Final = 5_000
CLEARED: Final = 500


def still_open(
    topic: str, partition: int, offsets: range, *, before_each: Callable[[], object]
) -> Iterator[int]:
    """Those of a range, up or down, that nobody settled. ``before_each`` read it may be given up."""
    settled = _settled(topic, partition, offsets, before_each)
    skip = next(settled, None)
    for offset in offsets:
        if offset == skip:
            skip = next(settled, None)
        else:
            yield offset


def _settled(topic: str, partition: int, offsets: range, before_each: Callable[[], object]) -> Iterator[int]:
    rows = SettledLetter.objects.filter(topic=topic, partition=partition)
    order = "offset" if offsets.step > 0 else "-offset"
    while offsets:
        before_each()
        low, high = sorted((offsets[0], offsets[-1]))
        within = rows.filter(offset__range=(low, high)).order_by(order)
        found = list(within.values_list("offset", flat=True)[:READ])
        yield from found
        if len(found) < READ:
            return
        offsets = offsets[offsets.index(found[-1]) + 1 :]


def count(topic: str, edges: Edges) -> int:
    rows = SettledLetter.objects.filter(topic=topic)
    within = ((number, *edges[number]) for number in _partitions(topic) if number in edges)
    return sum(
        rows.filter(partition=number, offset__gte=first, offset__lt=end).count()
        for number, first, end in within
    )


def lasts(topic: str) -> list[SettledLetter]:
    """The last in each partition where any was settled."""
    rows = SettledLetter.objects.filter(topic=topic)
    return [rows.filter(partition=number).latest("offset") for number in _partitions(topic)]


def _partitions(topic: str) -> list[int]:
    return list(SettledLetter.objects.filter(topic=topic).values_list("partition", flat=True).distinct())


#: Partition, offset, time of the record.
Settled = tuple[int, int, int]


def settle(topic: str, letters: Sequence[Settled], *, deed: int, by: str) -> set[tuple[int, int]]:
    """Partition and offset of those that nobody had settled before."""
    if not letters:
        return set()
    at_ms = now_ms()
    values = [value for letter in letters for value in (topic, *letter, deed, by, at_ms)]
    # Of two who settle one at the same time, one gets its row back.
    sql = (
        'INSERT INTO instances_settledletter (topic, "partition", "offset", died_ms, deed, "by", at_ms)'
        " VALUES "
        + ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(letters))
        + ' ON CONFLICT (topic, "partition", "offset") DO NOTHING RETURNING "partition", "offset"'
    )
    return {(number, offset) for number, offset in in_transaction(partial(run, sql, values))}


def clear(topic: str, edges: Edges) -> None:
    """Forget some of those whose letters retention took."""
    for number in _partitions(topic):
        if number in edges:
            rows = SettledLetter.objects.filter(topic=topic, partition=number, offset__lt=edges[number][0])
            in_transaction(partial(_forget, rows.order_by("offset")))


def forget(topic: str, partition: int) -> None:
    in_transaction(SettledLetter.objects.filter(topic=topic, partition=partition).delete)


def _forget(rows: QuerySet[SettledLetter]) -> None:
    SettledLetter.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:CLEARED])).delete()


def now_ms() -> int:
    return time.time_ns() // 1_000_000
