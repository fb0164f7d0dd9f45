"""What browsers are told: each committed change, out of the way of the one who commits.

``publish`` and ``publish_intents`` never raise and never wait. A daemon thread
with a loop of its own sends to the channel layer, and what waits still goes out
when the process ends. What gets lost there (Redis away, the outbox full) is an
ordinary gap: ``instances.feed`` reads it from the database. The protocol of the
browser stands in ``docs/live.md``.

| group | message |
|---|---|
| ``traces`` | ``{"type": "moved", "changes": [[number, before, seq], …]}``, one a batch |
| | ``{"type": "asked", "number"}`` |
| ``trace.<number>`` | ``{"type": "rows", "number", "before", "seq", "at", "rows", "new"}``, if watched |
| ``watchers`` | ``{"type": "watch", "numbers": […]}`` from each process with feeds, each second |
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from channels.layers import get_channel_layer

from tower import metrics

log = logging.getLogger(__name__)

#: One node as it crosses the channel layer. ``version`` is ``DefinitionVersion.id``, ``name`` "" where the
#: definition's stands in; times are epoch milliseconds; ``parent`` is None for a top.
COLUMNS = (
    "n", "id", "parent", "kind", "name", "job", "version", "status", "progress",
    "start", "end", "attempt", "split", "done", "over",
)  # fmt: skip
Row = tuple[Any, ...]

#: Bits of ``over``.
HOLDS, DIFFERS, UNATTACHED, PLACEHOLDER, HEARD = 1, 2, 4, 8, 16

#: Above either, feeds read the rows from the database instead.
MOST_ROWS, MOST_BYTES = 2_000, 256 << 10
#: Batches that wait for Redis; the rest is dropped.
OUTBOX = 1_000
#: A watcher that was not heard for so long is gone (it announces itself each second).
WATCHER_SECONDS = 4.0
#: Nothing asks a Redis that is away more often.
PATIENCE_SECONDS = 1.0


class Node(Protocol):
    """The attributes of a task that a row is made of."""

    @property
    def n(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def parent_n(self) -> int | None: ...
    @property
    def kind(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def job_id(self) -> str: ...
    @property
    def version(self) -> int | None: ...
    @property
    def status(self) -> int: ...
    @property
    def progress(self) -> float | None: ...
    @property
    def started_ms(self) -> int | None: ...
    @property
    def finished_ms(self) -> int | None: ...
    @property
    def attempt(self) -> int: ...
    @property
    def planned(self) -> int: ...
    @property
    def kids(self) -> int: ...
    @property
    def kids_ended(self) -> int: ...
    @property
    def holds(self) -> bool: ...
    @property
    def reported_status(self) -> int | None: ...
    @property
    def attached(self) -> bool: ...
    @property
    def registered(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class TraceChange:
    """One committed batch of one trace: (``before``, ``seq``]. ``new`` are whole rows of tasks made by it.

    None for rows that were not made because nobody watched: feeds read them from the database.
    """

    number: int
    trace_id: str
    before: int
    seq: int
    rows: list[Row] | None
    new: list[Row] | None


def row_of(node: Node) -> Row:
    return (
        node.n,
        node.id,
        node.parent_n,
        node.kind,
        node.name,
        node.job_id,
        node.version,
        node.status,
        node.progress,
        node.started_ms,
        node.finished_ms,
        node.attempt,
        max(node.planned, node.kids),
        node.kids_ended,
        over_of(node.holds, node.status, node.reported_status, node.attached, node.registered),
    )


def over_of(holds: bool, status: int, reported: int | None, attached: bool, registered: bool) -> int:
    differs = reported is not None and reported != status
    return (
        (HOLDS if holds else 0)
        | (DIFFERS if differs else 0)
        | (0 if attached else UNATTACHED)
        | (0 if registered else PLACEHOLDER)
        | (0 if reported is None else HEARD)
    )


def group_of(number: int) -> str:
    return f"trace.{number}"


def watched(number: int) -> bool:
    """Whether some process is known to watch a trace; a guess that only saves work."""
    return _publisher.watches(number)


def publish(changes: Sequence[TraceChange]) -> None:
    """Tell the browsers what was committed. Never raises, never waits; what cannot be sent is dropped."""
    _publisher.post(list(changes))


def publish_intents(number: int, trace_id: str) -> None:
    """Tell the browsers that the intents of a trace have changed; they are read anew."""
    _publisher.post(number)


class Publisher:
    """The outbox of a process and the thread that empties it."""

    def __init__(self) -> None:
        self.dropped = 0
        self._outbox: deque[list[TraceChange] | int] = deque()
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._more: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._sending: asyncio.Task[None] | None = None
        self._closed = False
        #: Trace number → until when somebody is known to watch it (monotonic).
        self._watched: dict[int, float] = {}
        self._away_until = 0.0

    def watches(self, number: int) -> bool:
        return self._watched.get(number, 0.0) > time.monotonic()

    def post(self, what: list[TraceChange] | int) -> None:
        if not what:
            return
        if len(self._outbox) >= OUTBOX:
            self._drop(1, "outbox full")
            return
        self._outbox.append(what)
        try:
            self._wake()
        except RuntimeError:  # the interpreter is ending
            self.dropped += 1

    def _drop(self, count: int, why: object) -> None:
        self.dropped += count
        metrics.WS_DROPPED.labels("layer").inc(count)
        warn_seldom("live messages dropped: %s", why)

    def close(self) -> None:
        """Send what waits, as long as that is quick, and end the thread; what is posted later is dropped.

        Python ends a daemon thread in the middle of whatever it does; in an extension that catches
        all exceptions the process then aborts ("exception not rethrown") and its exit says failure.
        """
        with self._starting:
            self._closed = True
            loop, more, thread, sending = self._loop, self._more, self._thread, self._sending
        if loop is None or more is None or thread is None or sending is None:
            return
        for ask in (more.set, sending.cancel):
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(ask)
            thread.join(PATIENCE_SECONDS)

    def _wake(self) -> None:
        if self._loop is None:
            with self._starting:
                if self._loop is None:
                    self._start()
        assert self._loop is not None and self._more is not None
        self._loop.call_soon_threadsafe(self._more.set)

    def _start(self) -> None:
        if self._closed:
            raise RuntimeError("closed")
        loop, more, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

        def run() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(ready.set)
            self._sending = loop.create_task(self._send_all(more))
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(self._sending)
            loop.close()

        self._thread = threading.Thread(target=run, name="live-publisher", daemon=True)
        self._thread.start()
        ready.wait()
        self._more, self._loop = more, loop
        atexit.register(self.close)

    async def _send_all(self, more: asyncio.Event) -> None:
        listening = asyncio.create_task(self._listen())
        try:
            while not self._closed:
                await more.wait()
                more.clear()
                while self._outbox:
                    await self._send(self._take())
        finally:
            listening.cancel()
            await asyncio.wait([listening])

    def _take(self) -> tuple[list[TraceChange], set[int]]:
        """All that waits, so that a slow Redis costs one message and not one a batch."""
        changes: list[TraceChange] = []
        asked: set[int] = set()
        while self._outbox:
            what = self._outbox.popleft()
            if isinstance(what, int):
                asked.add(what)
            else:
                changes += what
        return changes, asked

    async def _send(self, waiting: tuple[list[TraceChange], set[int]]) -> None:
        changes, asked = waiting
        if time.monotonic() < self._away_until:
            self._drop(len(changes) + len(asked), "channel layer away")
            return
        try:
            async with asyncio.timeout(PATIENCE_SECONDS * 2):
                await self._send_now(changes, asked)
        except Exception as error:
            # Whatever the layer raises: the commit stands, and the feeds will miss it and read.
            self._away_until = time.monotonic() + PATIENCE_SECONDS
            self._drop(len(changes) + len(asked), error)

    async def _send_now(self, changes: list[TraceChange], asked: set[int]) -> None:
        layer = get_channel_layer()
        for change in changes:
            if self.watches(change.number) and (message := rows_message(change)):
                await layer.group_send(group_of(change.number), message)
        if changes:
            moved = [[change.number, change.before, change.seq] for change in changes]
            await layer.group_send("traces", {"type": "moved", "changes": moved})
        for number in asked:
            await layer.group_send("traces", {"type": "asked", "number": number})

    async def _listen(self) -> None:
        """Learn who watches what, so that a trace that nobody looks at costs no message of its own."""
        while True:
            try:
                layer = get_channel_layer()
                channel = await layer.new_channel()
                await layer.group_add("watchers", channel)
                while True:
                    message = await layer.receive(channel)
                    until = time.monotonic() + WATCHER_SECONDS
                    self._watched.update(dict.fromkeys(message["numbers"], until))
                    self._forget()
            except Exception as error:
                warn_seldom("channel layer away: %s", error)
                await asyncio.sleep(PATIENCE_SECONDS)

    def _forget(self) -> None:
        now = time.monotonic()
        for number in [number for number, until in self._watched.items() if until < now]:
            del self._watched[number]


def rows_message(change: TraceChange) -> dict[str, Any] | None:
    """The rows of a batch; None where they were not made, or are too many to be sent."""
    if change.rows is None or change.new is None:
        return None
    if len(change.rows) + len(change.new) > MOST_ROWS:
        return None
    rows, new = orjson.dumps(change.rows), orjson.dumps(change.new)
    if len(rows) + len(new) > MOST_BYTES:
        return None
    return {
        "type": "rows",
        "number": change.number,
        "before": change.before,
        "seq": change.seq,
        "at": time.time(),
        "rows": rows,
        "new": new,
    }


_said_at: dict[str, float] = {}


def warn_seldom(message: str, *args: object) -> None:
    """A warning at most once a minute for each text."""
    now = time.monotonic()
    if now - _said_at.get(message, -60.0) >= 60:
        _said_at[message] = now
        with contextlib.suppress(Exception):
            log.warning(message, *args)


_publisher = Publisher()
