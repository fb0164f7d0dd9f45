"""What the live feeds read, each in a thread of their own and at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from channels.db import database_sync_to_async

from instances import reads, snapshot
from instances.live import Row
from instances.reads import Asked, Head, at_one_moment
from instances.rows import keys_of, run

P = ParamSpec("P")
T = TypeVar("T")

#: Up to here a batch is sent however small the tree is; above, a fifth of the rows.
FEW_ROWS = 1_000

_readers = ThreadPoolExecutor(4, thread_name_prefix="live-read")


async def in_database(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a read in a thread of our own: the one that Django shares is held by whoever is slow."""
    reading: Any = database_sync_to_async(read, thread_sensitive=False, executor=_readers)
    found: T = await reading(*args, **kwargs)
    return found


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a watched trace stands in the database."""

    seq: int
    ended: bool
    control: int


@dataclass(frozen=True, slots=True)
class Since:
    """All that changed behind a ``seq``; ``rows`` is None where that is too much."""

    head: Head
    intents: Asked
    rows: list[Row] | None


def read_since(number: int, since: int) -> Since | None:
    with at_one_moment():
        head = reads.head_of(number)
        if head is None:
            return None
        rows = snapshot.rows_since(head, since, max(FEW_ROWS, head.total // 5))
        return Since(head, reads.asked_of(number), rows)


def read_head(number: int) -> tuple[Head, Asked, str] | None:
    epoch = snapshot.epoch()
    with at_one_moment():
        head = reads.head_of(number)
        return (head, reads.asked_of(number), epoch) if head else None


def read_standings(numbers: Iterable[int]) -> tuple[dict[int, Standing], str]:
    source, param = keys_of(numbers)
    with at_one_moment():
        rows = run(
            f"SELECT t.number, t.seq, t.ended_ms, COALESCE(l.last_number, 0) FROM {source}"
            " JOIN instances_trace t ON t.number = w.key"
            " LEFT JOIN instances_intentledger l ON l.trace = t.number WHERE t.next_n > 0",
            [param],
        )
    found = {number: Standing(seq, ended is not None, control) for number, seq, ended, control in rows}
    return found, snapshot.epoch()


def read_texts(number: int, ns: Iterable[int]) -> dict[int, dict[str, Any]]:
    names = ("message", "worker", "output_ref", "error_code", "error_msg")
    source, param = keys_of((number << 32) | n for n in ns)
    rows = run(
        "SELECT w.key, s.message, s.worker, s.output_ref, s.error_code, s.error_msg"
        f" FROM {source} LEFT JOIN instances_tasksaid s ON s.task = w.key",
        [param],
    )
    return {row[0] & reads.MASK: dict(zip(names, row[1:], strict=True)) for row in rows}
