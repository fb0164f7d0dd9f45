"""Who holds a token, for callers in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from django.db import DatabaseError, connection

from tower.access.principal import Principal
from tower.access.tokens import principals_of_tokens

Found = dict[str, Principal | None]


class Gate:
    """All that wait at the same moment share one query, by a thread that keeps its connection.

    The query begins after each of them came, so a revoked token is refused at
    the next request, as by a query of its own. Belongs to one loop.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tower-gate")
        self._waiting: dict[str, asyncio.Future[Principal | None]] = {}
        self._asking: asyncio.Task[None] | None = None

    async def principal(self, raw: str) -> Principal | None:
        """As ``tokens.principal_of_token``; raises DatabaseError."""
        loop = asyncio.get_running_loop()
        answer = self._waiting.setdefault(raw, loop.create_future())
        if self._asking is None or self._asking.done():
            self._asking = loop.create_task(self._ask())
        # One that goes away must not take the answer of the others with it.
        return await asyncio.shield(answer)

    def close(self) -> None:
        """Give the connection back."""
        self._thread.submit(lambda: connection.close()).result()  # the one of that thread
        self._thread.shutdown()

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            try:
                found = await loop.run_in_executor(self._thread, look_up, list(asked))
            except Exception as error:
                for answer in asked.values():
                    answer.set_exception(error)
                    answer.exception()  # a caller that has gone does not hear it
            else:
                for raw, answer in asked.items():
                    answer.set_result(found[raw])


def look_up(raws: Collection[str]) -> Found:
    try:
        return principals_of_tokens(raws)
    except DatabaseError:
        # Perhaps only the connection: one that the server cut while nobody asked.
        connection.close()
        return principals_of_tokens(raws)
