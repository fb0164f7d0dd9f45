"""The fleet: takes up what waits, and keeps a few live runs on the screen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from random import Random
from typing import Any
from urllib.parse import quote

from redis.asyncio import Redis
from ulid import ULID

from tower.demo.commands import Commands
from tower.demo.definitions import RUNS
from tower.demo.plans import PLANS, plan, some_params
from tower.demo.reports import EVENTS_PER_SECOND, Reports
from tower.demo.rest import Rest
from tower.demo.runs import Refused, Run
from tower.schemas import ControlAction

log = logging.getLogger("tower.demo")

#: Runs that the fleet keeps going by itself; those that people start come on top, up to MOST.
KEPT, MOST = 3, 20
LOOK_SECONDS = 1.0
FIRST_GAP_SECONDS = 5.0
GAP_SECONDS = 30.0
#: After this many runs new ones come rarely, so that a tower left alone over night does not fill its disk.
MANY, LONG_GAP_SECONDS = 20, 180.0


class Fleet:
    def __init__(self, rest: Rest, redis: Redis | None, *, kept: int = KEPT, speed: float = 1.0) -> None:
        self._rest, self._redis, self._kept, self._speed = rest, redis, kept, speed
        self._reports = Reports(rest, self._told, rate=EVENTS_PER_SECOND * speed)
        self._at_work: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._over: set[str] = set()
        self._started = 0
        self._last_start = float("-inf")
        self._chance = Random()

    async def work(self) -> None:
        """Until it is cancelled. The tower may go and come back meanwhile."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reports.carry())
            group.create_task(self._keep(group))

    async def _keep(self, group: asyncio.TaskGroup) -> None:
        # What an earlier fleet left running is gone on with; its plan can be made again from the trace id.
        await self._take_up(group, "RUNNING")
        while True:
            await self._take_up(group, "PENDING")
            await self._start_another()
            await asyncio.sleep(LOOK_SECONDS / self._speed)

    # -- taking up

    async def _take_up(self, group: asyncio.TaskGroup, status: str) -> None:
        async for row in self._listed(status):
            trace_id, job_id = row["trace_id"], row.get("job_id") or ""
            if job_id not in PLANS or trace_id in self._at_work or trace_id in self._over:
                continue
            if len(self._at_work) >= MOST:
                return
            run = await self._run_of(trace_id, job_id, row.get("root_task_id"))
            if run is not None:
                task = group.create_task(self._play(run), name=trace_id)
                self._at_work[trace_id] = run, task

    async def _listed(self, status: str) -> AsyncIterator[dict[str, Any]]:
        where = f"traces/?status={status}&limit=200"
        for _ in range(5):
            answer = await self._rest.surely("GET", where)
            if answer.status != 200:
                log.warning("demo_runs_not_listed", extra={"status": answer.status})
                return
            for row in answer.body["results"]:
                yield row
            if not answer.body.get("next"):
                return
            where = answer.body["next"].split("/api/v1/", 1)[1]

    async def _run_of(self, trace_id: str, job_id: str, root_id: str | None) -> Run | None:
        if root_id is None:
            return None
        where = f"tasks/{quote(root_id)}/?trace_id={quote(trace_id)}"
        answer = await self._rest.call("GET", where)
        root = plan(job_id, trace_id, answer.body.get("input_params") or {}) if answer.status == 200 else None
        if root is None:
            return None
        commands = Commands(trace_id, self._redis, self._rest)
        return Run(trace_id, root, root_id, self._rest, self._reports, commands, self._speed)

    async def _play(self, run: Run) -> None:
        log.info("demo_run_taken_up", extra={"trace_id": run.trace_id})
        try:
            await run.play()
        except Refused as error:
            log.warning("demo_run_given_up", extra={"trace_id": run.trace_id, "error": str(error)})
        except Exception:
            # One run that cannot be worked on must not end the others.
            log.exception("demo_run_given_up", extra={"trace_id": run.trace_id})
        finally:
            # Its last reports may still be on their way: the list may show it as waiting for a moment.
            self._over.add(run.trace_id)
            del self._at_work[run.trace_id]

    def _told(self, trace_id: str, task_id: str, action: ControlAction) -> None:
        if trace_id in self._at_work:
            self._at_work[trace_id][0].commands.told(task_id, action)

    # -- starting

    async def _start_another(self) -> None:
        if len(self._at_work) >= self._kept or time.monotonic() - self._last_start < self._gap():
            return
        job_id = RUNS[self._started % len(RUNS)]["id"]
        self._last_start = time.monotonic()
        self._started += 1
        body = {
            "trace_id": str(ULID()),
            "job_id": job_id,
            "input_params": some_params(job_id, self._chance),
            "labels": {"from": "demo-fleet"},
        }
        answer = await self._rest.call("POST", "traces/", body)
        if answer.status not in (200, 201):
            log.warning("demo_run_not_started", extra={"status": answer.status})

    def _gap(self) -> float:
        if self._started < self._kept:
            return FIRST_GAP_SECONDS / self._speed
        return (GAP_SECONDS if self._started < MANY else LONG_GAP_SECONDS) / self._speed


async def crew(*, url: str, token: str, redis_url: str, kept: int = KEPT, speed: float = 1.0) -> None:
    """One fleet with connections of its own, until it is cancelled."""
    rest = Rest(url, token)
    redis = _redis(redis_url) if redis_url else None
    try:
        await Fleet(rest, redis, kept=kept, speed=speed).work()
    finally:
        rest.close()
        if redis is not None:
            await redis.aclose()


def _redis(url: str) -> Redis:
    return Redis.from_url(url, decode_responses=True, socket_connect_timeout=0.5, socket_timeout=1.0)
