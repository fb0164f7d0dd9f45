"""Actors at work on one run: they report, look up at checkpoints, hold when paused, stop when cancelled."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ulid import ULID

from tower.demo.commands import Commands
from tower.demo.reports import Reports
from tower.demo.rest import Rest
from tower.demo.work import Failure, Work, id_of
from tower.schemas import ActorType, ControlAction, TaskEventType, TaskInstanceStatus

STARTED, PROGRESS = TaskEventType.STARTED, TaskEventType.PROGRESS
COMPLETED, FAILED, CANCELLED = TaskEventType.COMPLETED, TaskEventType.FAILED, TaskEventType.CANCELLED

ENDED = frozenset(TaskInstanceStatus) - {TaskInstanceStatus.PENDING, TaskInstanceStatus.RUNNING}
AGGREGATORS = frozenset({ActorType.GROUP_AGG, ActorType.SINGLE_AGG})
#: A held actor looks up this often without a hint.
HOLD_SECONDS = 0.5
RETRY_SECONDS = 2.0
#: A leader reports its progress in steps of so much.
STEP_PERCENT = 4.0
REGISTER_AT_ONCE = 500


class Stopped(Exception):
    """CANCEL is in force here."""


class Refused(Exception):
    """The tower does not take this run from the fleet."""


@dataclass(slots=True)
class Actor:
    """Who works on one task. Its own reports rise in time, so that the newest is the last one it sent."""

    work: Work
    path: tuple[str, ...]
    name: str
    attempt: int = 1
    progress: float = 0.0
    message: str = ""
    clock: int = 0
    spoke: bool = False

    @property
    def id(self) -> str:
        return self.path[-1]

    def tick(self) -> int:
        self.clock = max(time.time_ns() // 1_000_000, self.clock + 1)
        return self.clock


@dataclass(slots=True)
class Run:
    trace_id: str
    root: Work
    root_id: str
    rest: Rest
    reports: Reports
    commands: Commands
    speed: float = 1.0
    standing: dict[str, str] = field(default_factory=dict)
    #: How many tasks below each have ended.
    ended_below: Counter[str] = field(default_factory=Counter)

    async def play(self) -> None:
        """Work on the run until its root has ended. Nothing is lost when this is stopped and begun again."""
        ears = asyncio.create_task(self.commands.listen())
        try:
            await self._perform(self.root, (self.root_id,))
        finally:
            ears.cancel()
            with suppress(asyncio.CancelledError):
                await ears

    # -- one task

    async def _perform(self, work: Work, path: tuple[str, ...]) -> str:
        status = await self._attempt(work, path)
        self.ended_below.update(path[:-1])
        return status

    async def _attempt(self, work: Work, path: tuple[str, ...]) -> str:
        standing = self.standing.get(path[-1], "PENDING")
        if standing in ENDED:
            return standing
        actor = Actor(work, path, worker_of(path[-1]))
        try:
            await self._cleared(path)
            return await (self._lead(actor) if work.stages else self._toil(actor))
        except Stopped:
            if actor.spoke or work.kind in AGGREGATORS:
                await self._say(actor, CANCELLED, message="stopped, as asked")
            return "CANCELLED"

    async def _toil(self, actor: Actor) -> str:
        """A task without children: its attempts, one after the other."""
        work = actor.work
        for failure in work.fails:
            await self._say(actor, STARTED, worker=actor.name)
            await self._spend(actor, work.seconds * 0.6)
            await self._fail(actor, failure)
            if failure is work.fails[-1] and work.gives_up:
                return "FAILED"
            await self._rest_between(actor)
            actor.attempt += 1
            actor.progress = 0.0
        await self._say(actor, STARTED, worker=actor.name)
        await self._spend(actor, work.seconds, says=work.says)
        return await self._complete(actor)

    async def _lead(self, actor: Actor) -> str:
        """A task that splits: its own part, its children stage by stage, then its ending."""
        work = actor.work
        if not work.silent:
            await self._say(actor, STARTED, worker=actor.name, split_count=work.planned)
            await self._spend(actor, work.seconds, says=work.says, share=0.1)
        ids = await self._split(actor)
        ended: list[str] = []
        for stage in work.stages:
            outcome = await self._stage(actor, stage, ids[len(ended) :][: len(stage)])
            ended += outcome
            if broken := [
                w.name for w, s in zip(stage, outcome, strict=True) if w.critical and s != "SUCCESS"
            ]:
                await self._skip_rest(actor, ids, len(ended))
                return await self._fail(actor, Failure("CHILD_FAILED", f"{broken[0]} did not succeed"))
        if "SUCCESS" not in ended:
            return await self._fail(actor, Failure("NOTHING_DONE", "none of its tasks succeeded"))
        return await self._complete(actor, f"{ended.count('SUCCESS')} of {len(ended)} succeeded")

    async def _stage(self, lead: Actor, stage: Sequence[Work], ids: Sequence[str]) -> list[str]:
        """The children of one stage side by side, while their leader looks up as they do."""
        places = asyncio.Semaphore(lead.work.width)

        async def one(work: Work, path: tuple[str, ...]) -> str:
            async with places:
                return await self._perform(work, path)

        team = [
            asyncio.create_task(one(work, (*lead.path, task_id)))
            for work, task_id in zip(stage, ids, strict=True)
        ]
        try:
            while not all(member.done() for member in team):
                await self.commands.news(lead.work.stride / self.speed)
                await self._checkpoint(lead)
                done = 10 + 89 * self.ended_below[lead.id] / lead.work.below
                if not lead.work.silent and done >= lead.progress + STEP_PERCENT:
                    await self._progress(lead, done)
            return [member.result() for member in team]
        except Stopped:
            # The children meet the same CANCEL; the leader need not wait for them to say that it stops.
            if lead.spoke:
                await self._say(lead, CANCELLED, message="stopped, as asked")
                lead.spoke = False
            await asyncio.wait(team)
            raise
        finally:
            for member in team:
                member.cancel()

    # -- commands

    async def _cleared(self, path: tuple[str, ...]) -> None:
        """Wait where nothing may begin. Says nothing: a task that has not begun is pending, not holding."""
        while (asked := await self.commands.of(path)) is ControlAction.PAUSE:
            await self.commands.news(HOLD_SECONDS)
        if asked is ControlAction.CANCEL:
            raise Stopped

    async def _checkpoint(self, actor: Actor) -> None:
        if actor.work.silent:
            return await self._cleared(actor.path)
        asked = await self.commands.of(actor.path)
        if asked is ControlAction.PAUSE:
            await self._say(actor, PROGRESS, paused=True)
            await self._cleared(actor.path)
            await self._say(actor, PROGRESS, progress=round(actor.progress, 1))
        elif asked is ControlAction.CANCEL:
            raise Stopped
        return None

    async def _spend(
        self, actor: Actor, seconds: float, *, says: Sequence[str] = (), share: float = 1.0
    ) -> None:
        """Work for so long, with a checkpoint at each stride; time in which it holds is not work."""
        whole = left = seconds / self.speed
        said = -1
        while left > 0:
            stride = min(left, actor.work.stride / self.speed)
            left -= await self.commands.news(stride)
            await self._checkpoint(actor)
            done = 1 - max(left, 0.0) / whole
            if says and (step := min(int(done * len(says)), len(says) - 1)) > said and left > 0:
                said = step
                await self._progress(actor, 100 * share * done, says[step])

    async def _rest_between(self, actor: Actor) -> None:
        """Before another attempt. The task has failed and is not running: it says nothing while it waits."""
        actor.spoke = False
        left = RETRY_SECONDS / self.speed
        while left > 0:
            left -= await self.commands.news(left)
            await self._cleared(actor.path)

    # -- reports

    async def _progress(self, actor: Actor, progress: float, message: str = "") -> None:
        actor.progress = max(actor.progress, progress)
        more = {"message": message} if message else {}
        await self._say(actor, PROGRESS, progress=round(actor.progress, 1), **more)

    async def _complete(self, actor: Actor, message: str = "") -> str:
        work = actor.work
        if work.silent:
            return "SUCCESS"
        if work.skipped:
            await self._say(actor, COMPLETED, skipped=True, message=work.skipped)
            return "SKIPPED"
        said = {"output_ref": work.output} if work.output else {}
        if message:
            said["message"] = message
        await self._say(actor, COMPLETED, **said)
        return "SUCCESS"

    async def _fail(self, actor: Actor, failure: Failure) -> str:
        if not actor.work.silent:
            await self._say(actor, FAILED, error_code=failure.code, error_msg=failure.message)
        return "FAILED"

    async def _say(self, actor: Actor, kind: TaskEventType, **payload: Any) -> None:
        actor.spoke = True
        if actor.attempt > 1:
            payload["attempt"] = actor.attempt
        await self.reports.send(
            {
                "event_id": str(ULID()),
                "trace_id": self.trace_id,
                "task_id": actor.id,
                "actor_type": actor.work.kind.value,
                "event_type": kind.value,
                "payload": payload,
                "timestamp_ms": actor.tick(),
            }
        )

    # -- the tree

    async def _split(self, actor: Actor) -> list[str]:
        """Register all children; what is known already, say from before a restart, is only looked up."""
        children = actor.work.children
        ids = [id_of(child, k, actor.path, self.trace_id) for k, child in enumerate(children)]
        bodies = [self._body(child, task_id, actor.id) for child, task_id in zip(children, ids, strict=True)]
        for start in range(0, len(bodies), REGISTER_AT_ONCE):
            answer = await self.rest.surely("POST", "tasks/", bodies[start : start + REGISTER_AT_ONCE])
            if answer.status != 201:
                raise Refused(f"POST tasks/ answered {answer.status}: {str(answer.body)[:300]}")
            for known in answer.body["results"]:
                self.standing[known["id"]] = known["status"]
        return ids

    def _body(self, work: Work, task_id: str, parent_id: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "id": task_id,
            "trace_id": self.trace_id,
            "parent_id": parent_id,
            "job_id": work.job_id,
            "actor_type": work.kind.value,
            "name": work.name,
            "input_params": work.params,
        }
        if work.silent:
            body["split_count"] = work.planned
        return body

    async def _skip_rest(self, actor: Actor, ids: Sequence[str], begun: int) -> None:
        for child, task_id in zip(actor.work.children[begun:], ids[begun:], strict=True):
            spared = Actor(child, (*actor.path, task_id), worker_of(task_id))
            await self._say(spared, COMPLETED, skipped=True, message="not needed any more")


def worker_of(task_id: str) -> str:
    return f"demo-{sum(task_id.encode()) % 8 + 1}"
