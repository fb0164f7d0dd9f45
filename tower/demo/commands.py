"""What is asked of a task, as its actor finds out: Redis first, REST where Redis does not know.

| found in ``cmd:instance:<trace id>`` along the path | then |
|---|---|
| a command | the strongest of them |
| none, and none was known, and ``cmd:tower:epoch`` stands | RUN |
| none, but one was known, or the sentinel is missing, or Redis is away | keep what was known, and ask REST |
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from urllib.parse import quote

from redis import RedisError
from redis.asyncio import Redis

from tower.demo.rest import Rest
from tower.schemas import ACTIONS, ControlAction

RUN = ControlAction.RUN
#: One task asks REST at most this often.
ASK_SECONDS = 0.8


class Commands:
    """The commands of one trace."""

    def __init__(self, trace_id: str, redis: Redis | None, rest: Rest) -> None:
        self._trace_id, self._redis, self._rest = trace_id, redis, rest
        self._known: dict[str, ControlAction] = {}
        self._asked: dict[str, float] = {}
        self._news = asyncio.Event()

    async def of(self, path: tuple[str, ...]) -> ControlAction:
        """The command in force for the last task of ``path``, which begins with the root."""
        found, trusted = await self._in_redis(path)
        if found is None:
            found = self._known.get(path[-1], RUN)
            if not trusted or found is not RUN:
                found = await self._ask(path[-1]) or found
        self._known[path[-1]] = found
        return found

    def told(self, task_id: str, action: ControlAction) -> None:
        """The answer to a report named a command."""
        if self._known.get(task_id, RUN) is not action:
            self._known[task_id] = action
            self._wake()

    async def news(self, seconds: float) -> float:
        """Wait for a hint that something was asked, ``seconds`` at most; how long it took."""
        start = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        return time.monotonic() - start

    async def listen(self) -> None:
        """Wake actors when a control is published. Hints only: a lost one costs an actor one stride."""
        while self._redis is not None:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(f"cmd:instance:{self._trace_id}")
                    self._wake()  # what was said before the subscription
                    while True:
                        if await channel.get_message(timeout=30) is not None:
                            self._wake()
            except (RedisError, OSError):
                await asyncio.sleep(1)

    async def _in_redis(self, path: tuple[str, ...]) -> tuple[ControlAction | None, bool]:
        """The strongest on the path, and whether a silence may be believed."""
        if self._redis is None:
            return None, False
        try:
            pipe = self._redis.pipeline(transaction=False)
            pipe.hmget(f"cmd:instance:{self._trace_id}", ["global_action", *path])
            pipe.exists("cmd:tower:epoch")
            values, sentinel = await pipe.execute()
        except (RedisError, OSError):
            return None, False
        return strongest(values), bool(sentinel)

    async def _ask(self, task_id: str) -> ControlAction | None:
        now = time.monotonic()
        if now - self._asked.get(task_id, 0.0) < ASK_SECONDS:
            return None
        self._asked[task_id] = now
        where = f"tasks/{quote(task_id)}/command/?trace_id={quote(self._trace_id)}"
        answer = await self._rest.call("GET", where)
        return ControlAction(answer.body["action"]) if answer.status == 200 else None

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def strongest(values: Iterable[str | None]) -> ControlAction | None:
    actions = [ControlAction(value) for value in values if value in ACTIONS]
    return max(actions, key=ACTIONS.index, default=None)
