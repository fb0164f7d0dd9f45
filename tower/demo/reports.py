"""Reports on their way to the tower: gathered for a moment, and sent until they are stored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from tower.demo.rest import Answer, Rest
from tower.schemas import ControlAction

log = logging.getLogger("tower.demo")

#: A demo is watched, not measured.
EVENTS_PER_SECOND = 60
GATHER_SECONDS = 0.1
BATCH = 100

Event = dict[str, Any]


class Reports:
    """The one way from the fleet to ``POST events/``. A full queue holds the actors back."""

    def __init__(self, rest: Rest, told: Callable[[str, str, ControlAction], None], *, rate: float) -> None:
        self._rest, self._told, self._rate = rest, told, rate
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(maxsize=200)

    async def send(self, event: Event) -> None:
        await self._waiting.put(event)

    async def carry(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(GATHER_SECONDS)
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            start = time.monotonic()
            await self._deliver(batch)
            await asyncio.sleep(max(0.0, len(batch) / self._rate - (time.monotonic() - start)))

    async def _deliver(self, batch: list[Event]) -> None:
        while batch:
            answer = await self._rest.surely("POST", "events/", batch)
            self._pass_on(batch, answer)
            batch = self._left(batch, answer)
            if batch:
                await asyncio.sleep(1)

    def _pass_on(self, batch: list[Event], answer: Answer) -> None:
        commands = answer.body.get("commands", {}) if isinstance(answer.body, dict) else {}
        for event in batch:
            if event["task_id"] in commands:
                self._told(event["trace_id"], event["task_id"], ControlAction(commands[event["task_id"]]))

    def _left(self, batch: list[Event], answer: Answer) -> list[Event]:
        """What was not stored and may be by another try; what is refused for good is said and let go."""
        if not isinstance(answer.body, dict) or "rejected" not in answer.body:
            if answer.status >= 400:
                log.warning("demo_reports_refused", extra={"status": answer.status, "count": len(batch)})
            return []
        refused = {item["index"]: item["error"]["code"] for item in answer.body["rejected"]}
        final = sorted({code for code in refused.values() if code != "unavailable"})
        if final:
            log.warning("demo_reports_refused", extra={"count": len(refused), "code": ", ".join(final)})
        return [batch[k] for k, code in refused.items() if code == "unavailable"]
