"""Contract section 3 as properties: any order of arrival and any repetition give the same tree."""

from __future__ import annotations

import itertools
import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controls.issue import issue
from instances import ingest, tree
from instances.lifecycle import RUNNING
from instances.models import Event, TaskInstance, TaskSaid, Trace
from tower.definitions.models import DefinitionVersion, TaskDefinition
from tower.schemas import EVENT_TYPES, KINDS, ControlAction

pytestmark = pytest.mark.django_db(transaction=True)
serial = itertools.count(1)

JOINS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "all": {"policy": "all"},
    "half": {"policy": "at_least", "percent": 50},
    "early": {"policy": "any", "early": True},
}
IDS = [f"t{i}" for i in range(6)]

said = st.fixed_dictionaries(
    {},
    optional={
        "progress": st.sampled_from([10, 20]),
        "message": st.sampled_from(["m", "n"]),
        "split_count": st.integers(0, 3),
        "paused": st.booleans(),
        "skipped": st.booleans(),
        "attempt": st.integers(1, 2),
        "error_code": st.just("E"),
        "output_ref": st.just("s3://x"),
    },
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Registrations and reports that do not contradict each other; parents have smaller numbers: no ring."""
    registrations = []
    for i, id in enumerate(IDS):
        if draw(st.booleans()) or i == 0:
            parent = None if i == 0 else draw(st.sampled_from(IDS[:i]))
            kind = draw(st.sampled_from(["AGENT", "EXECUTION", "GROUP_AGG"])) if i else "AGENT"
            plan = draw(st.integers(0, 3))
            job = draw(st.sampled_from(list(JOINS)))
            registrations.append(
                {"id": id, "parent_id": parent, "job_id": job, "actor_type": kind, "split_count": plan}
            )
    if draw(st.booleans()):
        registrations = registrations[1:]
    reports = []
    for i in range(draw(st.integers(0, 10))):
        at = draw(st.integers(0, len(IDS) - 1))
        one: dict[str, Any] = {
            "event_id": f"e{i}",
            "task_id": IDS[at],
            "event_type": draw(st.sampled_from([kind.value for kind in EVENT_TYPES])),
            "timestamp_ms": draw(st.integers(0, 6)),
            "payload": draw(said),
        }
        if at and draw(st.booleans()):
            one["parent_id"] = draw(st.sampled_from(IDS[:at]))
        if draw(st.booleans()):
            one["actor_type"] = draw(st.sampled_from(["AGENT", "EXECUTION", "GROUP_AGG"]))
        reports.append(one)
    heard = {one["task_id"] for one in reports}
    for body in registrations:
        if body["actor_type"] == "GROUP_AGG" and body["id"] not in heard:
            body["actor_type"] = "EXECUTION"  # what a silent aggregator froze depends on the order
    return registrations, reports


@pytest.fixture
def joins() -> None:
    for id, join in JOINS.items():
        rules = {"name": id, "actor_type": "AGENT", "code_ref": "x", "join": join}
        definition = TaskDefinition.objects.create(id=id, version=1, **rules)
        DefinitionVersion.objects.create(definition=definition, number=1, **rules)


def play(operations: list[tuple[str, dict[str, Any]]], cuts: random.Random) -> Trace:
    """Send the operations to a trace of their own, several of a kind in one call now and then."""
    trace_id = f"h{next(serial)}"
    at = 0
    while at < len(operations):
        kind = operations[at][0]
        some = itertools.takewhile(
            lambda operation, kind=kind: operation[0] == kind,  # type: ignore[misc]
            operations[at : at + cuts.randint(1, 4)],
        )
        batch = [{**body, "trace_id": trace_id} for _, body in some]
        at += len(batch)
        if kind == "register":
            assert not (said := ingest.register(batch)).rejected, said.rejected
        else:
            assert not (told := ingest.ingest(batch)).rejected, told.rejected
    return Trace.objects.get(id=trace_id)


def facts(trace: Trace) -> dict[str, Any]:
    nodes = {node.key: node for node in TaskInstance.objects.filter(tree_id=trace.number)}
    texts = {row.task: row for row in TaskSaid.objects.filter(task__in=nodes)}
    return {
        node.id: {
            "parent": nodes[node.parent_id].id if node.parent_id is not None else None,
            "status": node.status,
            "times": (node.started_ms, node.finished_ms),
            "attempt": node.attempt,
            "progress": node.progress,
            "holds": node.holds,
            "plan": (node.planned, node.kids, node.kids_ended),
            "reported": node.reported_status,
            "kind": node.kind,
            "shape": (node.depth, node.registered, node.attached),
            "texts": tuple(
                getattr(texts[node.key], name) if node.key in texts else None
                for name in ("message", "worker", "output_ref", "error_code", "error_msg")
            ),
        }
        for node in nodes.values()
    }


def recount(trace: Trace) -> None:
    """P3: what is stored equals what can be counted."""
    nodes = list(TaskInstance.objects.filter(tree_id=trace.number))
    counts = [sum(node.status == status for node in nodes) for status in range(6)]
    stored = [
        trace.pending, trace.running, trace.success, trace.failed, trace.cancelled, trace.skipped,
    ]  # fmt: skip
    assert stored == counts
    group = KINDS.index(KINDS[1])
    for node in nodes:
        kids = [kid for kid in nodes if kid.parent_id == node.key and kid.kind != group]
        assert (node.kids, node.kids_ended) == (len(kids), sum(kid.status > RUNNING for kid in kids))
    ended = trace.root_n is not None and trace.status > RUNNING and counts[0] + counts[1] == 0
    assert (trace.ended_ms is not None) == ended


FEW = settings(
    max_examples=int(os.environ.get("TOWER_EXAMPLES", "60")),
    derandomize="TOWER_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FEW
@given(histories(), st.integers(0, 2**32))
def test_p1_any_order_and_repetition_gives_the_same_tree(
    joins: None, history: tuple[list[dict[str, Any]], list[dict[str, Any]]], seed: int
) -> None:
    chance = random.Random(seed)
    operations = [("register", body) for body in history[0]] + [("event", body) for body in history[1]]
    if not operations:
        return
    again = operations + chance.sample(operations, len(operations) // 2)
    chance.shuffle(again)

    straight, mixed = play(operations, random.Random(0)), play(again, chance)

    assert facts(straight) == facts(mixed)
    recount(straight)
    recount(mixed)
    assert Event.objects.filter(trace=mixed.number, origin=0).count() == len(history[1])


@FEW
@given(histories(), st.integers(0, 2**32), st.integers(0, 3))
def test_p1_what_comes_after_a_cancel_may_come_in_any_order_too(
    joins: None, history: tuple[list[dict[str, Any]], list[dict[str, Any]]], seed: int, share: int
) -> None:
    chance = random.Random(seed)
    operations = [("register", body) for body in history[0]] + [("event", body) for body in history[1]]
    cut = len(operations) * share // 4
    before, after = operations[:cut], operations[cut:]
    if not before or not after:
        return
    again = after + chance.sample(after, len(after) // 2)
    chance.shuffle(again)

    trees = []
    for later in (after, again):
        trace = play(before, random.Random(0))
        if trace.pending + trace.running == 0:
            return
        issue(trace.id, ControlAction.CANCEL, triggered_by="somebody")
        while ingest.sweep_cancelled(trace.number):
            pass
        known = set(TaskInstance.objects.filter(tree_id=trace.number).values_list("id", flat=True))
        _send_to(trace.id, later, chance)
        trees.append(facts(Trace.objects.get(number=trace.number)))
        recount(Trace.objects.get(number=trace.number))
        for id, fact in trees[-1].items():
            assert id in known or fact["status"] == 4, "first heard of under a CANCEL, it is cancelled"

    for id in trees[0].keys() | trees[1].keys():
        one, other = (_without_clock(tree[id]) for tree in trees)
        assert one == other, f"{id} after {before}, then {after} against {again}"


def _send_to(trace_id: str, operations: list[tuple[str, dict[str, Any]]], cuts: random.Random) -> None:
    for kind, body in operations:
        if kind == "register":
            ingest.register([{**body, "trace_id": trace_id}])
        else:
            ingest.ingest([{**body, "trace_id": trace_id}])


def _without_clock(fact: dict[str, Any]) -> dict[str, Any]:
    """The tower's own endings carry the server's clock."""
    late = 10**12
    times = tuple(None if at is None else "clock" if at > late else at for at in fact["times"])
    return {**fact, "times": times}


@FEW
@given(histories(), st.integers(0, 2**32))
def test_p4_the_tree_columns_equal_mptts_own_rebuild(
    joins: None, history: tuple[list[dict[str, Any]], list[dict[str, Any]]], seed: int
) -> None:
    operations = [("register", body) for body in history[0]]
    random.Random(seed).shuffle(operations)
    if not any(body["parent_id"] is None for _, body in operations):
        return
    trace = play(operations, random.Random(seed))
    if TaskInstance.objects.filter(tree_id=trace.number, parent=None).count() != 1:
        return  # mptt knows one root a tree
    columns = ("id", "lft", "rght", "level")

    ours = list(tree.numbered(trace).values_list(*columns))
    TaskInstance.objects.partial_rebuild(trace.number)
    theirs = list(TaskInstance.objects.filter(tree_id=trace.number).order_by("lft").values_list(*columns))

    assert ours == theirs
