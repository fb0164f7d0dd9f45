"""What the browsers of one process hear. One ``Feed`` a watched trace, one ``Hub`` for all of them.

A feed joins the trace's group first and reads ``seq`` second, so a change in
between arrives twice and never not at all. It puts what it hears in order,
sends the first change at once, then at most one frame a tick, encoded once for
all its sockets. What is missing for longer than a tick it reads from the
database: browsers never see that hole. The hub asks the database each second
where the watched traces stand, so a lost message, a full layer or a Redis that
is away costs a second and no truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

import orjson
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings

from instances import reads, snapshot
from instances.live import Row, group_of, warn_seldom
from instances.reads import Asked, Head, at_one_moment
from instances.rows import keys_of, run
from tower import metrics
from tower.definitions import rules

P = ParamSpec("P")
T = TypeVar("T")

#: Milliseconds between two frames; under pressure the next one.
TICKS = (100, 250, 500, 1_000)
#: So many flushes in time, and the tick is shortened again.
CALM_FLUSHES = 20
#: Silence after which a beat is sent, while the trace runs and once it has ended.
BEAT_SECONDS, BEAT_SECONDS_ENDED = 5.0, 30.0
PULSE_SECONDS = 1.0
#: The hub hears its own announcement through the layer; without it for so long, the layer is away.
DEAF_SECONDS = 3.0
#: The layer may take so long, and not the feeds with it.
LAYER_SECONDS = 1.0
#: A socket with so many frames unacknowledged for so long, or so many bytes, gets no more until it acknowledges.
MOST_FRAMES, FRAME_SECONDS, MOST_BYTES = 8, 2.0, 1 << 20
#: One that does not come back is closed after this.
PATIENCE_SECONDS = 20.0
#: Up to here a batch is sent however small the tree is; above, a fifth of the rows.
FEW_ROWS = 1_000
#: Rows that a feed remembers in order to send differences only.
REMEMBERED = 20_000

TOO_SLOW, NO_SUCH_TRACE = 4408, 4404

_readers = ThreadPoolExecutor(4, thread_name_prefix="live-read")


async def in_database(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a read in a thread of our own: the one that Django shares is held by whoever is slow."""
    reading: Any = database_sync_to_async(read, thread_sensitive=False, executor=_readers)
    found: T = await reading(*args, **kwargs)
    return found


def encoded(message: Mapping[str, Any]) -> str:
    return orjson.dumps(message).decode()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Named:
    name: str
    number: int


# -- what is read


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


# -- one socket


@dataclass(slots=True, eq=False)
class Watcher:
    """One socket: what it was sent and has not acknowledged, and which task it looks at."""

    send: Callable[[str], Awaitable[None]]
    close: Callable[[int], Awaitable[None]]
    focus: int | None = None
    missed: bool = False
    choked_at: float | None = None
    #: Frames that came while a resync is read; None at all other times.
    held: list[tuple[str, int]] | None = None
    _unacked: deque[tuple[int, int, float]] = field(default_factory=deque)
    _bytes: int = 0

    async def offer(self, text: str, seq: int) -> None:
        if self.choked:
            self.missed = True
        elif self.held is not None:
            self._bytes += len(text)
            self.held.append((text, seq))
        else:
            await self.give(text, seq)

    async def give(self, text: str, seq: int) -> None:
        self._unacked.append((seq, len(text), time.monotonic()))
        self._bytes += len(text)
        await self.send(text)

    async def release(self, above: int) -> None:
        """Send what was held, as far as it is not in the batch up to ``above``."""
        held, self.held = self.held or [], None
        for text, seq in held:
            self._bytes -= len(text)
            if seq > above:
                await self.offer(text, seq)

    @property
    def choked(self) -> bool:
        late = len(self._unacked) >= MOST_FRAMES and time.monotonic() - self._unacked[0][2] >= FRAME_SECONDS
        return late or self._bytes >= MOST_BYTES

    async def ack(self, seq: int) -> None:
        while self._unacked and self._unacked[0][0] <= seq:
            self._bytes -= self._unacked.popleft()[1]
        if self.missed and not self.choked:
            await self.reset()

    async def reset(self) -> None:
        self.missed = False
        metrics.WS_RESETS.inc()
        await self.send('{"op":"reset"}')

    async def look(self, now: float) -> bool:
        """Whether it stays; it is closed where it has been choked for too long."""
        if not self.choked:
            self.choked_at = None
        elif self.choked_at is None:
            self.choked_at = now
        elif now - self.choked_at >= PATIENCE_SECONDS:
            metrics.WS_DROPPED.labels("slow").inc()
            await self.close(TOO_SLOW)
            return False
        return True


# -- one trace


@dataclass(frozen=True, slots=True)
class Heard:
    """A message of the group: (``before``, ``seq``] with rows that are still JSON."""

    before: int
    seq: int
    at: float
    rows: bytes
    new: bytes


class Feed:
    def __init__(self, hub: Hub, number: int) -> None:
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
                await asyncio.sleep(PULSE_SECONDS)
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
        """From here on the socket hears every frame behind the ``seq`` that it is told; behind ``since``, if given."""
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
            after=since, seq=found.head.seq, t0=self.t0, now_ms=now_ms(), tick=self.tick, new=found.rows, up=(),
            versions=self.hub.names, intents=found.intents, control=found.head.control,
        )  # fmt: skip
        return frame if len(frame) <= settings.TOWER_WS_MAX_MESSAGE_OUT else None

    async def focus(self, watcher: Watcher, n: int | None) -> None:
        watcher.focus = n
        if n is not None:
            texts = await in_database(read_texts, self.number, [n])
            await self._tell_text(watcher, texts[n])


# -- all traces of a process


class Listener(Protocol):
    """What else hears of every change and is looked after each second (the list of runs)."""

    def moved(self, changes: Iterable[tuple[int, int, int]]) -> None: ...
    def asked(self, number: int) -> None: ...
    async def look(self, now: float) -> None: ...


class Hub:
    """The way from the channel layer and the database to the feeds of one event loop."""

    def __init__(self) -> None:
        self.feeds: dict[int, Feed] = {}
        self.others: set[Listener] = set()
        #: The feed of the list of runs, once somebody has looked at it.
        self.runs: Listener | None = None
        self.epoch = ""
        self.mode = "live"
        self._groups: set[str] = {"traces", "watchers"}
        self._channel: str | None = None
        self._heard_itself = 0.0
        self.names: dict[int, Named] = {}
        self._tasks: list[asyncio.Task[None]] = []

    # -- who watches

    async def watch(self, number: int) -> Feed | None:
        """The feed of a trace, running; None where there is no such trace. Give it back with ``leave``."""
        feed = self.feeds.get(number)
        if feed is None:
            feed = self.feeds[number] = Feed(self, number)
            self._work()
        feed.users += 1
        try:
            await asyncio.shield(feed.started)
        except BaseException:
            await self.leave(feed)
            raise
        if feed.head is None:
            await self.leave(feed)
            return None
        return feed

    async def leave(self, feed: Feed, watcher: Watcher | None = None) -> None:
        if watcher is not None:
            feed.watchers.discard(watcher)
        feed.users -= 1
        if not feed.users and self.feeds.get(feed.number) is feed:
            del self.feeds[feed.number]
            await feed.stop()
            await self._rest()

    def add(self, other: Listener) -> None:
        self.others.add(other)
        self._work()

    async def remove(self, other: Listener) -> None:
        self.others.discard(other)
        await self._rest()

    def _work(self) -> None:
        if not self._tasks:
            # Innocent until it was silent for a while.
            self._heard_itself, self.mode = time.monotonic(), "live"
            loop = asyncio.get_running_loop()
            self._tasks = [
                loop.create_task(work()) for work in (self._listen, self._announce_always, self._pulse)
            ]

    async def _rest(self) -> None:
        if self.feeds or self.others or not self._tasks:
            return
        tasks, self._tasks = self._tasks, []
        for group in ("traces", "watchers"):
            await self._leave_group(group)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._channel = None

    # -- the channel layer

    async def join(self, group: str) -> None:
        """Never raises: where the layer is away, ``_listen`` joins again and the pulse covers the time between."""
        self._groups.add(group)
        if self._channel is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LAYER_SECONDS):
                    await get_channel_layer().group_add(group, self._channel)
                    await self._announce()

    async def part(self, group: str) -> None:
        self._groups.discard(group)
        await self._leave_group(group)

    async def _leave_group(self, group: str) -> None:
        if self._channel is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LAYER_SECONDS):
                    await get_channel_layer().group_discard(group, self._channel)

    async def _listen(self) -> None:
        while True:
            try:
                layer = get_channel_layer()
                if self._channel is None:
                    self._channel = await layer.new_channel()
                for group in sorted(self._groups):
                    await layer.group_add(group, self._channel)
                await self._announce()
                while True:
                    self._route(await layer.receive(self._channel))
            except Exception as error:
                warn_seldom("channel layer away: %s", error)
                await asyncio.sleep(PULSE_SECONDS)

    def _route(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "rows":
                if feed := self.feeds.get(message["number"]):
                    feed.heard(Heard(*(message[name] for name in ("before", "seq", "at", "rows", "new"))))
            case "moved":
                for number, _, seq in message["changes"]:
                    if feed := self.feeds.get(number):
                        feed.told(seq)
                for other in self.others:
                    other.moved(message["changes"])
            case "asked":
                if feed := self.feeds.get(message["number"]):
                    feed.asked()
                for other in self.others:
                    other.asked(message["number"])
            case "watch":
                if message["hub"] == self._channel:
                    self._heard_itself = time.monotonic()

    async def _announce(self) -> None:
        numbers = list(self.feeds)
        message = {"type": "watch", "hub": self._channel, "numbers": numbers}
        await get_channel_layer().group_send("watchers", message)

    async def _announce_always(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LAYER_SECONDS):
                    await self._announce()
            except Exception as error:
                warn_seldom("channel layer away: %s", error)
            await asyncio.sleep(PULSE_SECONDS)

    # -- the database, each second

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(PULSE_SECONDS)
            self.mode = "live" if time.monotonic() - self._heard_itself < DEAF_SECONDS else "poll"
            try:
                await self._look()
            except Exception as error:
                warn_seldom("live pulse: %r", error)

    async def _look(self) -> None:
        standings, epoch = await in_database(read_standings, list(self.feeds))
        if epoch != self.epoch:
            self.epoch = epoch
            for feed in list(self.feeds.values()):
                for watcher in list(feed.watchers):
                    await watcher.reset()
        for number, standing in standings.items():
            if feed := self.feeds.get(number):
                feed.stands(standing)
        now = time.monotonic()
        for looked in [*self.feeds.values(), *self.others]:
            await looked.look(now)

    def unknown(self, rows: Iterable[Row]) -> set[int]:
        """The versions that rows pin and whose names are not at hand."""
        return {row[6] for row in rows} - self.names.keys() - {None}

    async def learn(self, versions: set[int]) -> None:
        """Names and numbers of a version never change, so they are kept."""
        if versions:
            found = await in_database(rules.versions, versions)
            self.names.update(dict.fromkeys(versions, Named("", 0)))
            self.names.update({pk: Named(version.name, version.number) for pk, version in found.items()})


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running loop: one a process, since a server has one loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
