"""The feeds of one process: who watches what, and the way to them from the channel layer and the database.

The layer makes it fast, the database makes it true: each second the hub asks
where the watched traces stand, so a lost message, a full layer or a Redis that
is away costs a second and no change.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from channels.layers import get_channel_layer

from instances.feed import Feed, Heard
from instances.live import Row, warn_seldom
from instances.live_reads import in_database, read_standings
from instances.watcher import Watcher
from tower.definitions import rules

PULSE_SECONDS = 1.0
#: The hub hears its own announcement through the layer; without it for so long, the layer is away.
DEAF_SECONDS = 3.0
#: The layer may take so long, and not the feeds with it.
LAYER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Named:
    name: str
    number: int


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
        """Never raises: where the layer is away, ``_listen`` joins again; until then there is the pulse."""
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
            if known := self.feeds.get(number):
                known.stands(standing)
        now = time.monotonic()
        for feed in list(self.feeds.values()):
            await feed.look(now)
        for other in list(self.others):
            await other.look(now)

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
