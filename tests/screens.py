"""A browser's side of the live protocol (``docs/live.md``), as small as it can be and still be right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson

from instances import reads, snapshot
from instances.feed import Feed
from instances.live_reads import in_database
from instances.reads import at_one_moment
from instances.snapshot import WIRE
from instances.watcher import Watcher

Tasks = dict[int, dict[str, Any]]


async def until(ask: Callable[[], Any], what: str, *, seconds: float = 20) -> Any:
    """Ask until the answer is true, and give it back."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.005)
    return answer


def fresh_snapshot(number: int) -> dict[str, Any]:
    epoch = snapshot.epoch()
    with at_one_moment():
        head = reads.head_of(number)
        assert head is not None
        intents, columns = reads.asked_of(number), snapshot.columns(head)
    found: dict[str, Any] = orjson.loads(snapshot.snapshot(head, intents, epoch, columns))
    return found


def spelled(values: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """Columns with the words in the place of their numbers."""
    values = dict(values)
    if "name" in values:
        values["name"] = message["names"][values["name"]]
    if "def" in values:
        values["def"] = tuple(message["defs"][values["def"]]) if values["def"] >= 0 else None
    return values


def tasks_of(found: dict[str, Any]) -> Tasks:
    columns = found["cols"]
    return {n: spelled({name: columns[name][i] for name in WIRE}, found) for i, n in enumerate(columns["n"])}


class Screen:
    """Loads a snapshot, applies what it hears, asks for what is missing; what ``loses`` says never comes."""

    def __init__(self, feed: Feed, loses: Callable[[], bool] = lambda: False) -> None:
        self.feed = feed
        self.watcher = Watcher(self.hear, self.close)
        self.loses = loses
        self.seq = -1
        self.tasks: Tasks = {}
        self.intents: list[Any] = []
        self.control = -1
        self.heard: list[dict[str, Any]] = []
        self.closed: int | None = None
        self.acks = True
        self._buffer: list[dict[str, Any]] | None = []
        self._busy: set[asyncio.Task[None]] = set()
        self._asking = False
        self._loads = 0

    @property
    def idle(self) -> bool:
        return not self._busy and self._buffer is None

    async def open(self) -> Screen:
        await self.feed.greet(self.watcher)
        await self.load()
        return self

    async def load(self) -> None:
        self._loads += 1
        mine = self._loads
        found = await in_database(fresh_snapshot, self.feed.number)
        if mine != self._loads:
            return  # told to load once more meanwhile
        self.seq, self.tasks = found["seq"], tasks_of(found)
        self.know(found["intents"], found["control"])
        buffer, self._buffer = self._buffer or [], None
        for message in buffer:
            self.apply(message)

    def know(self, intents: list[Any], control: int) -> None:
        if control >= self.control:
            self.intents, self.control = intents, control

    async def hear(self, text: str) -> None:
        message = orjson.loads(text)
        self.heard.append(message)
        match message["op"]:
            case "reset":
                self._buffer = self._buffer or []
                self._do(self.load())
            case "d" if self.loses():
                pass
            case "d" if self._buffer is not None:
                self._buffer.append(message)
            case "d":
                self.apply(message)
            case "beat" if self._buffer is None:
                if message["seq"] > self.seq or message["control"] > self.control:
                    self.catch_up()
        if self.acks and "seq" in message:
            self._do(self.watcher.ack(message["seq"]))

    def apply(self, message: dict[str, Any]) -> None:
        if "intents" in message:
            self.know(message["intents"], message["control"])
        if message["from"] > self.seq:
            self.catch_up()
            return
        if message["seq"] <= self.seq:
            return
        for n, *values in message["new"]:
            self.tasks[n] = spelled(dict(zip(WIRE, values, strict=True)), message)
        for n, mask, *values in message["up"]:
            names = [name for bit, name in enumerate(WIRE) if mask >> bit & 1]
            self.tasks[n] |= spelled(dict(zip(names, values, strict=True)), message)
        self.seq = message["seq"]

    def catch_up(self) -> None:
        if not self._asking:
            self._asking = True
            self._do(self._ask())

    async def _ask(self) -> None:
        await self.feed.resync(self.watcher, self.seq)
        self._asking = False

    async def close(self, code: int) -> None:
        self.closed = code

    def _do(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
