"""Answers of the write threads on their way into an event loop: one wake for all that a commit answers.

``asyncio.wrap_future`` wakes the loop for each of them, and ``wait_for`` makes a
task of each; most of a small request's way back was that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary


class Landing:
    """What has come for one loop and was not told there yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._came: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._called = False

    def add(self, own: asyncio.Future[Any], answered: Future[Any]) -> None:
        """From any thread."""
        self._came.append((own, answered))
        # Looked at after the append, as ``_tell`` empties after it takes the mark away: nothing lies unseen.
        if not self._called and not self._loop.is_closed():
            self._called = True
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._called = False
        while self._came:
            own, answered = self._came.popleft()
            if own.done():
                continue
            if answered.cancelled():
                own.cancel()
            elif (error := answered.exception()) is not None:
                own.set_exception(error)
            else:
                own.set_result(answered.result())


_LANDINGS: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, Landing]] = WeakKeyDictionary()


async def landed(future: Future[Any], seconds: float) -> Any:
    """The answer of a future of another thread; TimeoutError after so long.

    Who leaves cancels it, and where nobody has begun with it, nobody will.
    """
    loop = asyncio.get_running_loop()
    landing = _LANDINGS.get(loop)
    if landing is None:
        landing = _LANDINGS[loop] = Landing(loop)
    own = loop.create_future()
    future.add_done_callback(partial(landing.add, own))
    timer = loop.call_later(seconds, _late, own)
    try:
        return await own
    except (asyncio.CancelledError, TimeoutError):
        future.cancel()
        raise
    finally:
        timer.cancel()


def _late(own: asyncio.Future[Any]) -> None:
    if not own.done():
        own.set_exception(TimeoutError())
