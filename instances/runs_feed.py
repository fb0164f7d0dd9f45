"""The list of runs, live: rows in view that changed, at most one batch a second (``docs/live.md``)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from instances import reads, segments
from instances.feed import BEAT_SECONDS, encoded, now_ms
from instances.hub import Hub
from instances.live_reads import in_database
from instances.reads import Head, at_one_moment
from instances.rows import keys_of, run

#: Of all runs, by status and by segment of the list.
Counts = dict[str, dict[str, int]]

#: Runs that began which one message names; a page shows their number and loads them when asked.
MOST_NEW = 100
#: Counting all runs may take a twentieth of the time.
COUNTING_SHARE = 20


@dataclass(slots=True, eq=False)
class Reader:
    """One socket: the runs that its page shows, by number, with the ``seq`` and control that it knows."""

    send: Callable[[str], Awaitable[None]]
    view: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    rows: dict[int, dict[str, Any]]
    new: list[tuple[int, str]]
    newest: int


def read_marks(numbers: Iterable[int]) -> tuple[dict[int, tuple[int, int]], int]:
    """(seq, last control) of runs, and the number of the newest run of all."""
    source, param = keys_of(numbers)
    with at_one_moment():
        rows = run(
            f"SELECT t.number, t.seq, COALESCE(l.last_number, 0) FROM {source}"
            " JOIN instances_trace t ON t.number = w.key"
            " LEFT JOIN instances_intentledger l ON l.trace = t.number",
            [param],
        )
        newest = run("SELECT number FROM instances_trace WHERE next_n > 0 ORDER BY number DESC LIMIT 1")
    return {number: (seq, control) for number, seq, control in rows}, newest[0][0] if newest else 0


def read_runs(numbers: Iterable[int], above: int, born: Iterable[int] = ()) -> Found:
    """Summaries of some runs; those that began: all behind number ``above``, and ``born``."""
    with at_one_moment():
        heads = reads.heads(numbers)
        rows = {head.number: row for head, row in zip(heads, reads.summaries(heads), strict=True)}
        new: list[Head] = reads.heads_where(["t.number > %s"], [above], MOST_NEW)
        # A run may get its first task after one with a greater number did.
        new += [head for head in reads.heads(born) if head.number <= above]
    return Found(rows, [(head.number, head.id) for head in new], max([above, *(head.number for head in new)]))


def read_counts() -> Counts:
    with at_one_moment(2.0):
        return {"counts": segments.counts_by_status(), "segments": segments.counts()}


class RunsFeed:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.readers: set[Reader] = set()
        self._marks: dict[int, tuple[int, int]] = {}
        self._newest = 0
        self._dirty: set[int] = set()
        self._born: set[int] = set()
        self._counts: Counts = {}
        self._count_at = 0.0
        #: Something was said with counts from before it.
        self._owes_counts = False
        self._spoke_at = 0.0

    # -- what the hub tells

    def moved(self, changes: Iterable[tuple[int, int, int]]) -> None:
        self._dirty.update(number for number, _, _ in changes)
        self._born.update(number for number, before, _ in changes if not before)

    def asked(self, number: int) -> None:
        self._dirty.add(number)

    async def look(self, now: float) -> None:
        """Once a second. The marks are read even where nothing was heard: a lost message is found here."""
        shown = {number for reader in self.readers for number in reader.view}
        marks, newest = await in_database(read_marks, shown)
        changed = {number for number, mark in marks.items() if self._marks.get(number) != mark}
        self._marks = marks
        heard, self._dirty = self._dirty, set()
        if changed or newest > self._newest:
            await self._tell((changed | heard) & shown, now)
        elif heard or (self._owes_counts and now >= self._count_at):
            await self._tell(heard & shown, now)
        elif now - self._spoke_at >= BEAT_SECONDS:
            self._spoke_at = now
            for reader in list(self.readers):
                await reader.send(encoded({"op": "beat", "t": now_ms(), "mode": self.hub.mode}))

    async def _tell(self, numbers: set[int], now: float) -> None:
        born, self._born = self._born, set()
        found = await in_database(read_runs, numbers, self._newest, born)
        self._newest = found.newest
        counts = await self._count(now)
        self._spoke_at = now
        for reader in list(self.readers):
            rows = [row for number, row in found.rows.items() if number in reader.view]
            await reader.send(
                self._message(rows, [id for number, id in found.new if number not in reader.view], counts)
            )

    async def _count(self, now: float) -> Counts:
        """Counts of all runs; read more seldom where there are so many that it takes long."""
        if now >= self._count_at:
            start = time.monotonic()
            self._counts = await in_database(read_counts)
            self._count_at = now + COUNTING_SHARE * (time.monotonic() - start)
            self._owes_counts = False
        else:
            self._owes_counts = True
        return self._counts

    def _message(self, rows: list[dict[str, Any]], new: list[str], counts: Counts) -> str:
        return encoded(
            {
                "op": "runs",
                "t": now_ms(),
                "mode": self.hub.mode,
                "epoch": self.hub.epoch,
                "rows": rows,
                "new": new,
                **counts,
            }
        )

    # -- what a socket asks

    async def show(self, reader: Reader, trace_ids: list[str], after: str | None = None) -> None:
        """Rows of all runs in view now, and from here on with each change.

        ``after`` is the newest run that the page knows: those that began behind it, while the
        page was on its way or the line was down, are named at once.
        """
        numbers = await in_database(reads.numbers_of, trace_ids)
        reader.view = {number: id for id, number in numbers.items()}
        if not self._newest:
            _, self._newest = await in_database(read_marks, [])
        self.readers.add(reader)
        above = next((number for number, id in reader.view.items() if id == after), self._newest)
        found = await in_database(read_runs, reader.view, above)
        new = [id for number, id in found.new if number not in reader.view]
        counts = await self._count(time.monotonic())
        await reader.send(self._message(list(found.rows.values()), new, counts))
