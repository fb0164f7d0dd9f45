"""Any history of registrations, reports, controls and clocks, held to a small model of the contract."""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from controls import sweep
from controls.issue import ControlRefused, issue
from controls.models import ControlRecord
from controls.store import store
from instances import ingest, rows
from instances.models import Deadline, Event, FrozenResult, Intent, TaskInstance, TaskSaid, Trace
from instances.node import from_rows
from tests.faults.checker import wrong_in_the_tree
from tests.model import ENDED, WHOLE, Model, Plan, Said
from tests.test_cancel_races import side_by_side
from tests.test_order_freeness import recount
from tower import faults, redis
from tower.definitions.models import DefinitionVersion, TaskDefinition
from tower.errors import Unavailable
from tower.schemas import STATUSES, ControlAction

pytestmark = pytest.mark.django_db(transaction=True)
serial = itertools.count(1)

IDS = [f"t{i}" for i in range(7)]
#: The join of each job, by the model's name for it.
JOINS: dict[str, str | None] = {"plain": None, "all": "all", "early": "early", "gather": None}
POLICIES: dict[str, dict[str, Any] | None] = {
    "plain": None, "all": {"policy": "all"}, "early": {"policy": "any", "early": True}, "gather": None,
}  # fmt: skip
GATHER = IDS[-1]
KINDS = ["STARTED", "PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def definitions():
    for id, join in POLICIES.items():
        kind = "SINGLE_AGG" if id == "gather" else "AGENT"
        said = {"name": id, "actor_type": kind, "code_ref": "x", "join": join}
        definition = TaskDefinition.objects.create(id=id, version=1, **said)
        DefinitionVersion.objects.create(definition=definition, number=1, **said)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Plan]:
    """Parents have smaller numbers, so no hint makes a ring; the aggregator collects what hangs below it."""
    found = {IDS[0]: Plan(None, draw(st.sampled_from(["plain", "all", "early"])))}
    for i, id in enumerate(IDS[1:-1], 1):
        job = draw(st.sampled_from(["plain", "all", "early"]))
        parent = draw(st.sampled_from([*IDS[:i], GATHER] if i > 3 else IDS[:i]))
        found[id] = Plan(parent, job, draw(st.integers(0, 2)))
    found[GATHER] = Plan(draw(st.sampled_from(IDS[:3])), "gather", draw(st.integers(0, 2)))
    return found


def refuse(_: int) -> None:
    raise OSError(errno.ENOSPC, "on purpose")


class Run(RuleBasedStateMachine):
    """One trace. Each rule does the same to the tower and to the model."""

    @initialize(plans=plans(), seed=SEEDS)
    def begin(self, plans: dict[str, Plan], seed: int) -> None:
        self.trace_id = f"run-{next(serial)}"
        self.model = Model(plans, JOINS)
        self.sent: list[tuple[str, Any]] = []
        self.reports = 0
        self.frozen: dict[str, Any] = {}
        rng = random.Random(seed)
        self._register(rng.sample(IDS, rng.randint(1, len(IDS))))
        for _ in range(rng.randint(0, 2)):
            self._report([self._said(rng)])

    # -- what actors send

    @rule(seed=SEEDS)
    def actors_send(self, seed: int) -> None:
        """A few calls; some of them have been sent before."""
        rng = random.Random(seed)
        for _ in range(rng.randint(1, 4)):
            if self.sent and rng.random() < 0.2:
                kind, what = rng.choice(self.sent)
            elif rng.random() < 0.4:
                kind, what = "register", rng.sample(IDS, rng.randint(1, 3))
            else:
                kind, what = "report", [self._said(rng) for _ in range(rng.randint(1, 4))]
            note(f"{kind} {what}")
            self.sent.append((kind, what))
            self._register(what) if kind == "register" else self._report(what)

    def _said(self, rng: random.Random) -> Said:
        self.reports += 1
        kind = rng.choice([*KINDS, "STARTED", "PROGRESS", "FAILED"])
        paused, hint = rng.random() < 0.3, rng.random() < 0.4
        return Said(f"e{self.reports}", rng.choice(IDS[:-1]), kind, rng.randint(1, 8), paused, hint)

    @rule(seed=SEEDS)
    def a_transaction_that_fails_at_its_end_changes_nothing(self, seed: int) -> None:
        rng = random.Random(seed)
        lost = [self._event(self._said(rng)) for _ in range(2)]
        faults.FAULTS = {"before_commit": [faults.Fault("", refuse, 0, 0)]}
        try:
            with pytest.raises(Unavailable):
                ingest.register([self._body(id) for id in rng.sample(IDS, 2)])
            with pytest.raises(Unavailable):
                ingest.ingest(lost)
        finally:
            faults.FAULTS = {}

    # -- what operators ask

    @rule(seed=SEEDS)
    def an_operator_asks(self, seed: int) -> None:
        if not self._exists():
            return
        rng = random.Random(seed)
        target = WHOLE if rng.random() < 0.2 else rng.choice(sorted(self.model.tasks))
        self._ask(rng.choice(["PAUSE", "RUN", "CANCEL"]), target)

    def _ask(self, action: str, target: str) -> None:
        note(f"{action} {target or 'the whole'}")
        before = self._rows()
        try:
            issued = issue(
                self.trace_id, ControlAction(action), task_id=target or None, triggered_by="somebody"
            )
            answer = "taken"
            assert issued.delivered
        except ControlRefused as refused:
            answer = refused.code
        assert self._rows() == before, "a control asks, and changes nothing by itself"
        some_open = self._some_open(target, told=answer != "already_ended")
        assert answer == self.model.control(action, target, some_open=some_open)

    def _some_open(self, target: str, *, told: bool) -> bool:
        """While plans that a CANCEL closes wait for the sweep, either answer may be right."""
        found = set()
        for closes in (True, False) if self.model.unswept else (True,):
            self.model.closes = closes
            found.add(self.model.some_open(target))
        self.model.closes = True
        return found.pop() if len(found) == 1 else told

    # -- what time brings

    @rule()
    def sweep(self) -> None:
        if self._exists():
            while ingest.sweep_cancelled(self._number()):
                pass
            self.model.sweep()

    @rule(kind=st.sampled_from([Deadline.GRACE, Deadline.TIMEOUT, Deadline.QUIET]))
    def deadlines_come(self, kind: int) -> None:
        if not self._exists():
            return
        due = Deadline.objects.filter(trace=self._number())
        others = list(due.exclude(kind=kind).values_list("pk", "due_ms"))
        due.filter(kind=kind).update(due_ms=1)
        ingest.expire(2)
        assert not due.filter(kind=kind, due_ms=1).exists()
        assert set(others) <= set(due.values_list("pk", "due_ms")), "only what is due is looked at"
        if kind == Deadline.GRACE:
            self.model.grace_is_over()
        if kind == Deadline.TIMEOUT:
            self.model.limit_is_over()

    @rule()
    def redis_loses_its_data(self) -> None:
        redis.client().flushall()
        sweep.restore(store())

    # -- what must hold after each step

    @invariant()
    def the_tower_is_as_the_model_says(self) -> None:
        if not hasattr(self, "model") or not self._exists():
            return
        stored = self._stored()
        assert stored.keys() == self.model.tasks.keys(), "no task is lost, none invented"
        self._look_at_the_aggregator(stored)
        ids = {node.key: id for id, node in stored.items()}
        for id, node in stored.items():
            task, own = self.model.tasks[id], self.model.own(id)
            assert ids.get(node.parent_id) == task.parent, id
            assert node.registered == task.registered, id
            status = str(STATUSES[node.status])
            if (expected := self._status(id)) is not None:
                assert status == expected, f"{id} is {status}, not {expected}"
                assert node.holds == (own.holds and expected == "RUNNING"), id
            if task.killed is None:
                assert node.attempt == own.attempt, id
        recount(Trace.objects.get(id=self.trace_id))

    def _status(self, id: str) -> str | None:
        """None where it depends on whether the sweep has come."""
        found = set()
        for closes in (True, False) if self.model.unswept else (True,):
            self.model.closes = closes
            found.add(self.model.status(id))
        self.model.closes = True
        return found.pop() if len(found) == 1 else None

    def _look_at_the_aggregator(self, stored: dict[str, Any]) -> None:
        """What it froze stays, and was complete; before that it has not ended."""
        if GATHER not in stored or not stored[GATHER].registered:
            return
        node = from_rows(rows.tasks_by_key([stored[GATHER].key]))[0]
        self.model.collected[GATHER] = (str(STATUSES[node.status]), node.started_ms is not None)
        results = FrozenResult.objects.filter(aggregator=node.key).order_by("position")
        now = (node.frozen, list(results.values_list("task", "status")))
        if GATHER in self.frozen:
            assert now == self.frozen[GATHER], "frozen once, and for good"
        elif node.frozen is not None:
            kids = {stored[kid].key for kid in self.model.kids(GATHER)}
            assert {task for task, _ in now[1]} == kids
            assert all(str(STATUSES[status]) in ENDED for _, status in now[1])
            self.frozen[GATHER] = now
        elif node.killed_ms is None:
            assert node.status <= 1 or not self.model.kids(GATHER)

    # -- at rest

    def teardown(self) -> None:
        if not hasattr(self, "model") or not self._exists():
            return
        number = self._number()
        self.redis_loses_its_data()
        self.sweep()
        for kind in (Deadline.GRACE, Deadline.QUIET, Deadline.GRACE):
            self.deadlines_come(kind)
        self.the_tower_is_as_the_model_says()

        nodes = TaskInstance._base_manager.filter(tree_id=number)
        free = [
            node.id for node in nodes
            if self.model.asked(node.id) == "CANCEL" and str(STATUSES[node.status]) not in ENDED
        ]  # fmt: skip
        assert free == [], "none runs free under a CANCEL"
        codes = dict(TaskSaid.objects.filter(task__in=nodes.values("key")).values_list("task", "error_code"))
        for node in nodes:
            if (killed := self.model.tasks[node.id].killed) is not None:
                assert (codes.get(node.key) or "") == killed
        said = sum(len(task.reports) for task in self.model.tasks.values())
        assert Event.objects.filter(trace=number, origin=0).count() == said
        places = dict(Intent.objects.filter(trace=number).values_list("target", "number"))
        assert places == {target: at for target, (_, at) in self.model.intents.items()}
        taken = ControlRecord.objects.filter(trace=number, outcome="taken")
        numbers = taken.order_by("intent_number").values_list("intent_number", flat=True)
        assert list(numbers) == [*range(1, self.model.controls + 1)]
        assert list(wrong_in_the_tree(Trace.objects.get(number=number))) == []

    # -- the wire

    def _stored(self) -> dict[str, Any]:
        return {node.id: node for node in TaskInstance._base_manager.filter(tree_id=self._number())}

    def _exists(self) -> bool:
        return bool(self.model.tasks)

    def _rows(self) -> tuple[Any, ...]:
        seq = Trace.objects.values_list("seq", flat=True).get(id=self.trace_id)
        tasks = TaskInstance._base_manager.filter(tree_id=self._number()).order_by("key")
        return seq, list(tasks.values_list("key", "status", "rev", "memory"))

    def _number(self) -> int:
        return int(Trace.objects.values_list("number", flat=True).get(id=self.trace_id))

    def _body(self, id: str) -> dict[str, Any]:
        plan = self.model.plans[id]
        return {
            "id": id, "trace_id": self.trace_id, "parent_id": plan.parent, "job_id": plan.job,
            "split_count": plan.split,
        }  # fmt: skip

    def _event(self, said: Said) -> dict[str, Any]:
        body = {
            "event_id": said.event_id, "trace_id": self.trace_id, "task_id": said.task,
            "event_type": said.kind, "timestamp_ms": said.ms, "payload": {"paused": said.paused},
        }  # fmt: skip
        return body | ({"parent_id": self.model.plans[said.task].parent} if said.hint else {})

    def _register(self, ids: list[str]) -> None:
        told = ingest.register([self._body(id) for id in ids])
        before = {id for id, task in self.model.tasks.items() if task.registered}
        self.model.register(ids)
        assert not told.rejected
        assert {one.id for one in told.results if one.created} == set(ids) - before
        assert {one.id: one.command for one in told.results} == {id: self.model.asked(id) for id in ids}
        self._look_at_the_aggregator(self._stored())

    def _report(self, reports: list[Said]) -> None:
        told = ingest.ingest([self._event(one) for one in reports])
        assert told.accepted == self.model.report(reports)
        assert told.accepted + told.duplicates == len(reports)
        asked = {one.task: self.model.asked(one.task) for one in reports}
        assert told.commands == {id: action for id, action in asked.items() if action != "RUN"}
        self._look_at_the_aggregator(self._stored())


FEW = settings(
    max_examples=int(os.environ.get("TOWER_EXAMPLES", "20")),
    stateful_step_count=30,
    derandomize="TOWER_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_p7_p9_any_history_of_a_run_gives_what_the_model_says(definitions):
    run_state_machine_as_test(Run, settings=FEW)


# -- many writers


WRITERS, JOINED, EACH = 6, 8, 5


def a_tree_of_joins(trace_id: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A root over joins over children, and two reports of each child; an aggregator beside the joins."""
    base = {"trace_id": trace_id, "job_id": "all"}
    tasks = [{**base, "id": "root", "split_count": JOINED + 1}]
    tasks += [{**base, "id": f"j{j}", "parent_id": "root", "split_count": EACH} for j in range(JOINED)]
    tasks += [{**base, "id": "agg", "job_id": "gather", "parent_id": "root", "split_count": EACH}]
    places = [*(f"j{j}" for j in range(JOINED)), "agg"]
    kids = [{**base, "id": f"{at}.{i}", "parent_id": at} for at in places for i in range(EACH)]
    reports = [
        {
            "event_id": f"{kid['id']}-{kind}", "trace_id": trace_id, "task_id": kid["id"],
            "event_type": kind, "timestamp_ms": at,
        }
        for kid in kids
        for at, kind in ((1, "STARTED"), (2, "COMPLETED"))
    ]  # fmt: skip
    return tasks + kids, reports


def everybody_sends(
    tasks: list[dict[str, Any]], reports: list[dict[str, Any]], seed: int, *more: Any
) -> None:
    """Each task and each report by several writers, in other orders and other batches."""

    def send(who: int) -> None:
        rng = random.Random(f"{seed} {who}")
        mine = [("task", body) for body in tasks if hash_of(body["id"]) % 3 != who % 3]
        mine += [("event", body) for body in reports if hash_of(body["event_id"]) % 3 != who % 3]
        rng.shuffle(mine)
        while mine:
            kind = mine[-1][0]
            batch = list[dict[str, Any]]()
            while mine and mine[-1][0] == kind and len(batch) < 4:
                batch.append(mine.pop()[1])
            told = ingest.register(batch) if kind == "task" else ingest.ingest(batch)
            assert not told.rejected, told.rejected

    side_by_side(*(lambda who=who: send(who) for who in range(WRITERS)), *more)


def hash_of(text: str) -> int:
    return sum(map(ord, text))


@pytest.mark.parametrize("seed", range(3))
def test_p7_p17_many_writers_in_any_order_close_every_join_once(definitions, seed):
    traces = [f"many-{seed}-{i}" for i in range(2)]
    sent = [a_tree_of_joins(trace_id) for trace_id in traces]

    everybody_sends(
        [body for tasks, _ in sent for body in tasks], [body for _, said in sent for body in said], seed
    )

    for trace in Trace.objects.filter(id__in=traces):
        stored = {node.id: node for node in TaskInstance._base_manager.filter(tree_id=trace.number)}
        assert {str(STATUSES[node.status]) for node in stored.values()} == {"SUCCESS"}
        assert trace.ended_ms is not None
        joins = [node for id, node in stored.items() if id.startswith("j") and "." not in id]
        assert {(node.kids, node.kids_ended) for node in joins} == {(EACH, EACH)}
        assert FrozenResult.objects.filter(aggregator=stored["agg"].key).count() == EACH
        assert Event.objects.filter(trace=trace.number).count() == len(sent[0][1])
        recount(trace)
        assert list(wrong_in_the_tree(trace)) == []


@pytest.mark.parametrize("seed", range(3))
def test_p7_no_task_runs_free_where_many_writers_meet_a_cancel(definitions, seed):
    trace_id = f"cancelled-{seed}"
    tasks, reports = a_tree_of_joins(trace_id)
    assert not ingest.register(tasks[:1]).rejected
    stop = threading.Event()

    def cancel() -> None:
        try:
            for _ in range(20):
                ingest.expire(1)
                sweep.sweep_cancels()
            issue(trace_id, ControlAction.CANCEL, triggered_by="somebody")
        finally:
            stop.set()

    def sweeper() -> None:
        while not stop.is_set() or sweep.sweep_cancels():
            sweep.sweep_cancels()
            sweep.deliver(store())

    everybody_sends(tasks, [one for one in reports if one["event_type"] == "STARTED"], seed, cancel, sweeper)
    while sweep.sweep_cancels():
        pass
    Deadline.objects.update(due_ms=1)
    ingest.expire(2)

    trace = Trace.objects.get(id=trace_id)
    stored = TaskInstance._base_manager.filter(tree_id=trace.number)
    assert stored.count() == len(tasks)
    assert [node.id for node in stored if str(STATUSES[node.status]) not in ENDED] == []
    assert (trace.pending, trace.running) == (0, 0)
    recount(trace)
    assert list(wrong_in_the_tree(trace)) == []
