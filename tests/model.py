"""A small model of one run, written from the contract and sharing nothing with the program.

It keeps every report of a task and walks through them anew for each question; it knows
neither database nor transactions. ``tests/test_state_machine.py`` holds the program to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

WHOLE = ""
ENDED = {"SUCCESS", "FAILED", "CANCELLED", "SKIPPED"}
ENDINGS = {"COMPLETED": "SUCCESS", "FAILED": "FAILED", "CANCELLED": "CANCELLED"}
STRENGTH = {"RUN": 0, "PAUSE": 1, "CANCEL": 2}


@dataclass(frozen=True)
class Plan:
    """What a task's registration says."""

    parent: str | None
    job: str
    split: int = 0


@dataclass(frozen=True)
class Said:
    """A report."""

    event_id: str
    task: str
    kind: str
    ms: int
    paused: bool = False
    hint: bool = False  # it names the parent


class Own(NamedTuple):
    """What a task's own reports make of it."""

    status: str
    attempt: int
    ended: bool
    holds: bool


@dataclass
class Task:
    plan: Plan
    registered: bool = False
    #: None for the root, and for what hangs nowhere yet.
    parent: str | None = None
    reports: dict[str, Said] = field(default_factory=dict)
    #: How the tower ended it: "" by a CANCEL, or the error code of its grace.
    killed: str | None = None
    #: It had a start when the tower ended it.
    ran: bool = False
    #: No attempt above this one is opened.
    cap: int | None = None
    timed_out: int | None = None
    #: A deadline stands: of a CANCEL's grace; of the time limit, with the attempt it was wound for.
    grace: bool = False
    limit: bool = False
    clock: tuple[int, bool] | None = None


class Model:
    def __init__(self, plans: dict[str, Plan], joins: dict[str, str | None]) -> None:
        self.plans, self.joins = plans, joins
        self.tasks: dict[str, Task] = {}
        self.intents: dict[str, tuple[str, int]] = {}
        self.controls = 0
        #: By the place of a CANCEL, in the order in which they were taken first: who had ended, or was
        #: ending by its children, at that time.
        self.stood: dict[str, set[str]] = {}
        #: Status and start of silent aggregators, which depend on the moment: the model is told.
        self.collected: dict[str, tuple[str, bool]] = {}
        #: Whether a CANCEL closes plans yet: what ends by its children is looked at by the sweep.
        self.closes = True
        self.unswept = False
        self._started_before: set[str] = set()

    # -- where tasks hang

    def path(self, id: str) -> list[str]:
        found = [id]
        while (parent := self.tasks[found[-1]].parent) is not None:
            found.append(parent)
        return found[::-1]

    def kids(self, id: str) -> list[str]:
        return [kid for kid, task in self.tasks.items() if task.parent == id]

    def below(self, id: str) -> Iterator[str]:
        yield id
        for kid in self.kids(id):
            yield from self.below(kid)

    def reach(self, target: str) -> list[str]:
        return list(self.tasks) if target == WHOLE else list(self.below(target))

    # -- what is asked

    def over(self, id: str) -> list[str]:
        """The places along the path where a control stands."""
        return [at for at in (WHOLE, *self.path(id)) if at in self.intents]

    def asked(self, id: str) -> str:
        return max((self.intents[at][0] for at in self.over(id)), key=STRENGTH.__getitem__, default="RUN")

    def cancel_over(self, id: str) -> str | None:
        """The place whose CANCEL covered the task first."""
        cancels = [at for at in self.over(id) if self.intents[at][0] == "CANCEL"]
        return min(cancels, key=list(self.stood).index, default=None)

    # -- what a task is

    def walk(self, id: str) -> tuple[int, dict[str, int]]:
        """Contract 3.3: the attempt that is reached, and to which one each report belongs."""
        task = self.tasks[id]
        cap = None if task.killed is not None else task.cap
        reached, failed, ended, of = 1, False, set[int](), dict[str, int]()
        for said in sorted(task.reports.values(), key=lambda s: (s.ms, s.kind != "STARTED", s.event_id)):
            at = reached
            if said.kind == "STARTED" and failed:
                at = reached + 1
                if cap is None or at <= cap:
                    reached, failed = at, False
            of[said.event_id] = at
            if said.kind in ENDINGS and at not in ended:
                ended.add(at)
                failed = said.kind == "FAILED" if at == reached else failed
        return reached, of

    def mine(self, id: str) -> list[Said]:
        """The reports of the standing attempt."""
        reached, of = self.walk(id)
        return [said for said in self.tasks[id].reports.values() if of[said.event_id] == reached]

    def own(self, id: str) -> Own:
        reached, mine = self.walk(id)[0], self.mine(id)
        if not mine:
            return Own("PENDING", reached, False, False)
        newest = max(mine, key=lambda s: (s.ms, s.event_id))
        endings = [said for said in mine if said.kind in ENDINGS]
        if endings:
            first = min(endings, key=lambda s: (s.ms, s.event_id))
            return Own(ENDINGS[first.kind], reached, True, newest.paused)
        return Own("RUNNING", reached, False, newest.paused)

    def heard(self, id: str) -> bool:
        return bool(self.tasks[id].reports)

    def join(self, id: str) -> str | None:
        task = self.tasks[id]
        return self.joins[task.plan.job] if task.registered else None

    def _collects(self, id: str) -> bool:
        task = self.tasks[id]
        return task.registered and task.plan.job == "gather" and bool(self.kids(id))

    def by_children(self, id: str) -> bool:
        return bool(self.kids(id)) and (not self.heard(id) or self.join(id) is not None)

    def idle(self, id: str) -> bool:
        return self.tasks[id].killed is None and not self.heard(id) and not self.kids(id)

    def status(self, id: str) -> str:
        task, own = self.tasks[id], self.own(id)
        if task.killed is not None:
            return "CANCELLED"
        if task.timed_out == own.attempt and not own.ended:
            return "FAILED"
        if self._collects(id):
            return self.collected[id][0]
        if not self.by_children(id):
            return own.status
        if own.ended and own.status != "SUCCESS":
            return own.status
        kids = [self.status(kid) for kid in self.kids(id)]
        closed = own.ended or (self.closes and self.cancel_over(id) is not None)
        planned = task.plan.split if task.registered else 0
        settled = closed or (len(kids) >= planned if planned else ENDED.issuperset(kids))
        if settled and ENDED.issuperset(kids):
            return verdict(self.join(id) or "any", kids)
        if self.join(id) == "early" and "SUCCESS" in kids:
            return "SUCCESS"
        stirred = any(self._ran(kid) for kid in self.kids(id))
        return "RUNNING" if stirred or own.status != "PENDING" else "PENDING"

    def _ran(self, id: str) -> bool:
        """It left PENDING other than by a cancel."""
        status = self.status(id)
        return status != "PENDING" and (status != "CANCELLED" or self.started(id))

    def started(self, id: str) -> bool:
        """Whether it has a start: by its actor, or from below where it ends by its children."""
        if self.tasks[id].killed is not None:
            return self.tasks[id].ran
        if self._collects(id):
            return self.collected[id][1]
        told = any(said.kind in {"STARTED", "PROGRESS"} for said in self.mine(id))
        return told or (self.by_children(id) and any(self.started(kid) for kid in self.kids(id)))

    def open(self, id: str) -> bool:
        return self.status(id) not in ENDED

    # -- what happens

    def know(self, id: str) -> bool:
        """Whether it was new; the first word of a task under a CANCEL of the whole is its end."""
        if id in self.tasks:
            return False
        self.tasks[id] = Task(self.plans[id])
        if self.cancel_over(id) is not None:
            self.kill(id)
        return True

    def kill(self, id: str, code: str = "") -> None:
        if self.tasks[id].killed is None:
            self.tasks[id].ran = id in self._started_before
            self.tasks[id].killed = code

    def hang(self, id: str, new: set[str]) -> None:
        """Below the parent of its plan, with all that hangs below itself."""
        task, parent = self.tasks[id], self.plans[id].parent
        if parent is None or task.parent == parent:
            return
        if self.know(parent):
            new.add(parent)
        cancel = self.cancel_over(parent)
        if cancel is not None and self.idle(parent):
            self.kill(parent)
        covered = {one for one in self.below(id) if self.cancel_over(one) is not None}
        task.parent = parent
        if cancel is None:
            return
        for one in self.below(id):
            if one in new or (one not in covered and one not in self.stood[cancel]):
                self.kill(one)

    def _begin(self) -> None:
        self._started_before = {id for id in self.tasks if self.started(id)}

    def register(self, ids: list[str]) -> None:
        self._begin()
        new = set[str]()
        for id in ids:
            if id in self.tasks and self.tasks[id].registered:
                continue
            if self.know(id):
                new.add(id)
            self.tasks[id].registered = True
            self.hang(id, new)
            self._wind(id)

    def report(self, reports: list[Said]) -> int:
        """How many of them were new."""
        fresh = {said.event_id: said for said in reports}
        for said in list(fresh.values()):
            if said.task in self.tasks and said.event_id in self.tasks[said.task].reports:
                del fresh[said.event_id]
        self._begin()
        new = set[str]()
        for said in fresh.values():
            if self.know(said.task):
                new.add(said.task)
            if said.hint and not self.tasks[said.task].registered:
                self.hang(said.task, new)
            elif said.hint and (parent := self.plans[said.task].parent) is not None and self.know(parent):
                new.add(parent)
        touched = dict.fromkeys(said.task for said in fresh.values())
        for id in touched:
            self._meet_cancel(id, new)
        for said in fresh.values():
            self.tasks[said.task].reports[said.event_id] = said
        for id in touched:
            self._wind(id)
        return len(fresh)

    def _meet_cancel(self, id: str, new: set[str]) -> None:
        task = self.tasks[id]
        if self.cancel_over(id) is None or task.killed is not None:
            return
        if id in new or self.idle(id):
            self.kill(id)
            return
        if task.cap is None:
            task.cap = self.own(id).attempt
        task.grace = task.grace or not self.heard(id)

    def _wind(self, id: str) -> None:
        """Its clock runs from the first report of an attempt, and not while it holds."""
        task, own = self.tasks[id], self.own(id)
        if not task.registered or not self.heard(id) or own.ended or task.killed is not None:
            return
        if self.by_children(id) or task.clock == (own.attempt, own.holds):
            return
        task.clock = (own.attempt, own.holds)
        task.limit = task.limit or not own.holds

    def some_open(self, target: str) -> bool:
        return any(self.open(id) for id in self.reach(target))

    def control(self, action: str, target: str, *, some_open: bool) -> str:
        """What is answered: taken, or the code of the refusal."""
        places = [WHOLE] if target == WHOLE else self.over(target)
        under = any(self.intents.get(at, ("RUN",))[0] == "CANCEL" for at in places)
        if action != "RUN" and not some_open:
            return "already_ended"
        if action != "CANCEL" and under:
            return "cancelled"
        if action == "RUN" and self.intents.get(target, ("RUN",))[0] != "PAUSE":
            return "not_paused_here"
        if action == "CANCEL" and target not in self.stood:
            self.stood[target] = {id for id in self.tasks if not self.open(id) or self.by_children(id)}
        self.unswept = self.unswept or action == "CANCEL"
        self.controls += 1
        self.intents[target] = (action, self.controls)
        return "taken"

    def sweep(self) -> None:
        """End what the CANCELs found pending; what runs gets its grace, or is left to its children."""
        self._begin()
        for id in [id for id in self.tasks if self.cancel_over(id) is not None and self.open(id)]:
            if self.idle(id):
                self.kill(id)
            elif not self.by_children(id):
                self.tasks[id].grace = True
        self.unswept = False

    def grace_is_over(self) -> None:
        self._begin()
        for id, task in self.tasks.items():
            due, task.grace = task.grace, False
            if due and self.open(id) and self.cancel_over(id) is not None and not self.by_children(id):
                self.kill(id, "CANCEL_UNACKNOWLEDGED")

    def limit_is_over(self) -> None:
        for id, task in self.tasks.items():
            due, task.limit = task.limit, False
            own = self.own(id)
            if due and self.open(id) and task.clock == (own.attempt, False) and not self.by_children(id):
                task.timed_out = own.attempt


def verdict(join: str, kids: list[str]) -> str:
    success, failed, cancelled = (kids.count(status) for status in ("SUCCESS", "FAILED", "CANCELLED"))
    good = success and not failed and not cancelled if join == "all" else success
    if good:
        return "SUCCESS"
    if failed:
        return "FAILED"
    if cancelled:
        return "CANCELLED"
    return "FAILED" if success else "SKIPPED"
