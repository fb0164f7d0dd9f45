"""What the browsers of one process hear of one trace.

A feed joins the trace's group first and reads ``seq`` second, so a change in
between arrives twice and never not at all. It puts what it hears in order,
sends the first change at once, then at most one frame a tick, encoded once for
all its sockets. What is missing for longer than a tick it reads from the
database: browsers never see that hole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from django.conf import settings

from instances import reads, snapshot
from instances.live import Row, group_of, warn_seldom
from instances.live_reads import Since, Standing, in_database, read_head, read_since, read_texts
from instances.reads import Head
from instances.snapshot import Named
from instances.watcher import Watcher
from tower import metrics

#: Milliseconds between two frames; under pressure the next one.
TICKS = (100, 250, 500, 1_000)
#: So many flushes in time, and the tick is shortened again.
CALM_FLUSHES = 20
#: Silence after which a beat is sent, while the trace runs and once it has ended.
BEAT_SECONDS, BEAT_SECONDS_ENDED = 5.0, 30.0
#: A feed that the database fails tries again after this.
PATIENCE_SECONDS = 1.0
#: Rows that a feed remembers in order to send differences only.
REMEMBERED = 20_000
NO_SUCH_TRACE = 4404


def encoded(message: Mapping[str, Any]) -> str:
    return orjson.dumps(message).decode()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Around(Protocol):
    """What a feed needs of the hub that it belongs to."""

    mode: str
    epoch: str

    @property
    def names(self) -> Mapping[int, Named]: ...
    async def join(self, group: str) -> None: ...
    async def part(self, group: str) -> None: ...
    def unknown(self, rows: Iterable[Row]) -> set[int]: ...
    async def learn(self, versions: set[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of the group: (``before``, ``seq``] with rows that are still JSON."""

    before: int
    seq: int
    at: float
    rows: bytes
    new: bytes


class Feed:
    def __init__(self, hub: Around, number: int) -> None:
        self.hub = hub
        self.number = number
        self.users = 0
        self.watchers: set[Watcher] = set()
        self.head: Head | None = None
        self.intents = reads.NOTHING_ASKED
        self.control = 0
        self.ended = False
        #: What the sockets were sent; what is in order and waits for the tick; the highest heard of.
        self.sent = self.ready = self.target = -1
        self.tick = TICKS[0]
        self.started = asyncio.get_running_loop().create_task(self._start())
        self._waiting: dict[int, Heard] = {}
        self._rows: dict[int, Row] = {}
        self._masks: dict[int, int] = {}
        self._new: set[int] = set()
        self._seen: dict[int, Row] = {}
        self._ask_again = False
        self._wake = asyncio.Event()
        self._hole_since: float | None = None
        self._oldest = 0.0
        self._flushed_at = self._spoke_at = 0.0
        self._calm = 0
        self._end_told = False
        self._running: asyncio.Task[None] | None = None

    @property
    def t0(self) -> int:
        assert self.head is not None
        return self.head.created_ms

    async def _start(self) -> None:
        await self.hub.join(group_of(self.number))
        found = await in_database(read_head, self.number)
        if found is None:
            return
        self.head, self.intents, epoch = found
        # A new one is for the pulse to find: it has to reset the older feeds too.
        self.hub.epoch = self.hub.epoch or epoch
        self.control, self.ended = self.head.control, self.head.ended_ms is not None
        self._end_told = self.ended
        self.sent = self.ready = self.head.seq
        self.target = max(self.target, self.ready)
        self._running = asyncio.get_running_loop().create_task(self._run())
        self._chain()

    async def stop(self) -> None:
        tasks = [task for task in (self.started, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.hub.part(group_of(self.number))

    # -- what comes in

    def heard(self, message: Heard) -> None:
        """Rows of one batch, in whatever order they come."""
        if message.seq > self.ready:
            self._waiting[message.before] = message
            self.told(message.seq)

    def told(self, seq: int) -> None:
        """The trace has come so far, whoever says so."""
        self.target = max(self.target, seq)
        self._chain()

    def asked(self) -> None:
        self._ask_again = True
        self._wake.set()

    def stands(self, standing: Standing) -> None:
        """What the database said in this second."""
        self.ended = standing.ended
        if standing.control > self.control:
            self._ask_again = True
        self.told(standing.seq)

    def _chain(self) -> None:
        """Take what follows on what is there."""
        if self.head is None:
            return
        while (message := self._waiting.pop(self.ready, None)) is not None:
            self._take(message)
        self._waiting = {before: m for before, m in self._waiting.items() if m.seq > self.ready}
        if self.ready >= self.target:
            self._hole_since = None
        elif self._hole_since is None:
            self._hole_since = time.monotonic()
        if self.ready > self.sent or self.target > self.ready or self._ask_again:
            self._wake.set()

    def _take(self, message: Heard) -> None:
        self._oldest = self._oldest or message.at
        for raw in orjson.loads(message.rows):
            self._note(tuple(raw))
        for raw in orjson.loads(message.new):
            self._note(tuple(raw))
            self._new.add(raw[0])
        self.ready = message.seq

    def _note(self, row: Row) -> None:
        n = row[0]
        was = self._seen.get(n)
        # The mask is of all steps of the tick: a value that went there and back may differ in a
        # browser whose snapshot is from in between.
        mask = snapshot.EVERY if was is None else snapshot.difference(was, row)
        self._masks[n] = self._masks.get(n, 0) | mask
        self._rows[n] = self._seen[n] = row

    # -- what goes out

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(0.0, self._flushed_at + self.tick / 1_000 - time.monotonic()))
            self._wake.clear()
            due = time.monotonic()
            try:
                await self._mend()
                await self._flush()
            except Exception as error:
                # The database is away: what was not sent is still missing, and the next second tries again.
                warn_seldom("live feed: %r", error)
                await asyncio.sleep(PATIENCE_SECONDS)
                self._wake.set()
            self._adapt(time.monotonic() - due)

    async def _mend(self) -> None:
        """Read a hole from the database once it has outlived a tick (at once where Redis is away)."""
        if self._hole_since is not None:
            left = self._hole_since + self.tick / 1_000 - time.monotonic()
            if left <= 0 or self.hub.mode == "poll":
                await self._fill()
            else:
                asyncio.get_running_loop().call_later(left, self._wake.set)
        if self._ask_again:
            self._ask_again = False
            await self._fill()

    async def _fill(self) -> None:
        since = self.ready
        found = await in_database(read_since, self.number, since)
        if found is None:
            for watcher in list(self.watchers):
                await watcher.close(NO_SUCH_TRACE)
            return
        self.head = found.head
        if found.head.control != self.control or found.intents != self.intents:
            self.intents, self.control = found.intents, found.head.control
            await self._tell_intents()
        await self._take_read(found, since)
        self._hole_since = None
        self._chain()

    async def _take_read(self, found: Since, since: int) -> None:
        if found.head.seq < since or (found.rows is None and found.head.seq > self.ready):
            # A restored backup, or too much to send.
            await self._reset(found.head.seq)
        elif found.head.seq > self.ready and found.rows is not None:
            # Not where messages have overtaken the read: its rows would take newer ones back.
            for row in found.rows:
                self._note(row)
                self._new.add(row[0])
            self.ready = found.head.seq

    async def _tell_intents(self) -> None:
        frame = snapshot.frame(
            after=self.sent, seq=self.sent, t0=self.t0, now_ms=now_ms(), tick=self.tick, new=(), up=(),
            versions={}, intents=self.intents, control=self.control,
        )  # fmt: skip
        await self._tell_all(frame.decode(), self.sent)

    async def _reset(self, seq: int) -> None:
        self._forget()
        self._seen.clear()
        self.sent = self.ready = seq
        for watcher in list(self.watchers):
            await watcher.reset()

    def _forget(self) -> None:
        self._rows, self._masks, self._new, self._oldest = {}, {}, set(), 0.0
        if len(self._seen) > REMEMBERED:
            self._seen.clear()

    async def _flush(self) -> None:
        if self.ready == self.sent:
            return
        # More rows may come while names are read; nothing is taken before all are known.
        while unknown := self.hub.unknown(self._rows.values()):
            await self.hub.learn(unknown)
        rows, masks, new, oldest = self._rows, self._masks, self._new, self._oldest
        after, seq = self.sent, self.ready
        self._forget()
        self.sent = seq
        frame = snapshot.frame(
            after=after,
            seq=seq,
            t0=self.t0,
            now_ms=now_ms(),
            tick=self.tick,
            new=[row for n, row in rows.items() if n in new],
            up=[(row, masks[n]) for n, row in rows.items() if n not in new],
            versions=self.hub.names,
        )
        self._flushed_at = time.monotonic()
        if len(frame) > settings.TOWER_WS_MAX_MESSAGE_OUT:
            await self._reset(seq)
            return
        await self._tell_all(frame.decode(), seq)
        if oldest:
            metrics.LIVE_DELAY_SECONDS.observe(max(0.0, time.time() - oldest))
        await self._tell_texts(rows.keys())

    async def _tell_all(self, text: str, seq: int) -> None:
        self._spoke_at = time.monotonic()
        for watcher in list(self.watchers):
            await watcher.offer(text, seq)

    async def _tell_texts(self, changed: Iterable[int]) -> None:
        looked_at = {watcher.focus for watcher in self.watchers} & set(changed)
        if looked_at:
            texts = await in_database(read_texts, self.number, [n for n in looked_at if n is not None])
            for watcher in list(self.watchers):
                if watcher.focus in texts:
                    await self._tell_text(watcher, texts[watcher.focus])

    async def _tell_text(self, watcher: Watcher, texts: Mapping[str, Any]) -> None:
        if not watcher.choked:
            await watcher.send(encoded({"op": "focus", "n": watcher.focus, "seq": self.sent, **texts}))

    def _adapt(self, took: float) -> None:
        """A longer tick where half of one is spent on a flush, a shorter one after a calm while."""
        at = TICKS.index(self.tick)
        if took > self.tick / 2_000:
            self._calm, self.tick = 0, TICKS[min(at + 1, len(TICKS) - 1)]
        else:
            self._calm += 1
            if self._calm >= CALM_FLUSHES and at:
                self._calm, self.tick = 0, TICKS[at - 1]

    async def look(self, now: float) -> None:
        """Once a second: the end, the beat, sockets that do not read."""
        if self.ended and not self._end_told and self.ready == self.target == self.sent:
            self._end_told = True
            await self._tell_all(encoded({"op": "end", "seq": self.sent}), self.sent)
        elif not self.ended:
            self._end_told = False
        if now - self._spoke_at >= (BEAT_SECONDS_ENDED if self.ended else BEAT_SECONDS):
            self._spoke_at = now
            for watcher in list(self.watchers):
                await watcher.send(self.beat())
        for watcher in list(self.watchers):
            if not await watcher.look(now):
                self.watchers.discard(watcher)

    # -- what one socket asks

    def beat(self) -> str:
        """Also tells the last control: a frame of intents that got lost shows in no ``seq``."""
        return encoded(
            {
                "op": "beat",
                "seq": self.sent,
                "control": self.control,
                "t": now_ms(),
                "tick": self.tick,
                "mode": self.hub.mode,
            }
        )

    async def greet(self, watcher: Watcher, since: int | None = None, epoch: str | None = None) -> None:
        """From here on the socket hears every frame behind the ``seq`` that it is told, or ``since``."""
        assert self.head is not None
        if since is not None:
            watcher.held = []
        self.watchers.add(watcher)
        await watcher.send(
            encoded(
                {
                    "op": "hello",
                    "v": 1,
                    "trace": self.head.id,
                    "seq": self.sent,
                    "epoch": self.hub.epoch,
                    "t0": self.t0,
                    "tick": self.tick,
                    "mode": self.hub.mode,
                    "control": self.control,
                    "intents": self.intents.as_columns(),
                    "ended": self.ended,
                }
            )
        )
        if since is not None:
            await self._catch_up(watcher, since, epoch)

    async def resync(self, watcher: Watcher, since: int) -> None:
        """One batch from ``since`` on, or a reset; frames that come meanwhile follow it."""
        if watcher.held is None:
            watcher.held = []
            await self._catch_up(watcher, since, None)

    async def _catch_up(self, watcher: Watcher, since: int, epoch: str | None) -> None:
        above = -1
        try:
            found = await in_database(read_since, self.number, since)
            frame = await self._batch(found, since) if found and epoch in (None, self.hub.epoch) else None
            if found and frame:
                above = found.head.seq
                await watcher.give(frame.decode(), above)
            else:
                await watcher.reset()
        finally:
            await watcher.release(above)

    async def _batch(self, found: Since, since: int) -> bytes | None:
        """All behind ``since`` as one frame; None where that is too much, or ``since`` was never reached."""
        if found.rows is None or since > found.head.seq:
            return None
        await self.hub.learn(self.hub.unknown(found.rows))
        frame = snapshot.frame(
            after=since, seq=found.head.seq, t0=self.t0, now_ms=now_ms(), tick=self.tick, new=found.rows,
            up=(), versions=self.hub.names, intents=found.intents, control=found.head.control,
        )  # fmt: skip
        return frame if len(frame) <= settings.TOWER_WS_MAX_MESSAGE_OUT else None

    async def focus(self, watcher: Watcher, n: int | None) -> None:
        watcher.focus = n
        if n is not None:
            texts = await in_database(read_texts, self.number, [n])
            await self._tell_text(watcher, texts[n])
