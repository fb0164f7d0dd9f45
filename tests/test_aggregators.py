"""Aggregators: what they collect, when they are ready, what is frozen and what comes late."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from controls.issue import issue
from instances import ingest
from instances.models import Deadline, TaskInstance, Trace
from tests.people import bearing
from tower.definitions import edit
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)
serial = itertools.count(1)


def register(*tasks: str, plan: int = 0, **more: Any) -> None:
    """``register("root", "a<root", "sum<root:GROUP_AGG")``; ``plan`` is the first one's."""
    items = []
    for i, text in enumerate(tasks):
        name, _, kind = text.partition(":")
        id, _, parent = name.partition("<")
        item = {
            "id": id,
            "trace_id": "T",
            "parent_id": parent or None,
            "job_id": more.get("jobs", {}).get(id, "undefined"),
            "actor_type": kind or "EXECUTION",
            "split_count": plan if i == 0 else 0,
        }
        items.append(item | more.get(id, {}))
    said = ingest.register(items)
    assert not said.rejected, said.rejected


def report(*reports: str) -> None:
    """``report("a COMPLETED", "b FAILED")``, each a second after the one before."""
    events = []
    for text in reports:
        task_id, kind = text.split()
        n = next(serial)
        payload = {"output_ref": f"s3://{task_id}"} if kind == "COMPLETED" else {}
        events.append(
            {
                "event_id": f"e{n}", "trace_id": "T", "task_id": task_id, "event_type": kind,
                "timestamp_ms": 1000 * n, "payload": payload,
            }
        )  # fmt: skip
    said = ingest.ingest(events)
    assert not said.rejected, said.rejected


def status(id: str) -> str:
    words = ("PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "SKIPPED")
    return words[TaskInstance.objects.get(id=id).status]


def context(id: str, query: str = "") -> dict[str, Any]:
    answer = bearing("read", name=f"reader{next(serial)}").get(
        f"/api/v1/tasks/{id}/aggregation/?trace_id=T{query}"
    )
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def pass_quiet_time() -> None:
    Deadline.objects.filter(kind=Deadline.QUIET).update(due_ms=0)
    ingest.expire(1)


def test_a_silent_group_aggregator_ends_by_its_siblings_once_the_plan_is_closed() -> None:
    register("root", "a<root", "sum<root:GROUP_AGG", plan=2)
    report("a COMPLETED")
    assert (status("sum"), status("root")) == ("PENDING", "RUNNING")

    register("b<root")
    report("b COMPLETED")

    assert (status("sum"), status("root")) == ("SUCCESS", "SUCCESS")
    assert TaskInstance.objects.get(id="root").kids == 2, "an aggregator is none of the planned children"


def test_its_verdict_is_that_of_its_own_join() -> None:
    strict = {"id": "strict", "name": "s", "actor_type": "GROUP_AGG", "code_ref": "x"}
    edit.create({**strict, "join": {"policy": "all"}}, by="t")
    register("root", "a<root", "b<root", "sum<root:GROUP_AGG", plan=2, jobs={"sum": "strict"})

    report("a COMPLETED", "b FAILED")

    assert (status("sum"), status("root")) == ("FAILED", "FAILED")


def test_a_single_aggregator_collects_its_own_children() -> None:
    register("root", "sum<root:SINGLE_AGG", "a<sum", "b<sum", sum={"split_count": 2})
    report("a STARTED")
    assert status("sum") == "RUNNING"

    report("a COMPLETED", "b COMPLETED")

    assert status("sum") == "SUCCESS"
    told = context("sum")
    assert (told["expected_children"], told["received_children"], told["is_ready"]) == (2, 2, True)
    assert [(r["task_id"], r["status"], r["output_ref"]) for r in told["child_results"]] == [
        ("a", "SUCCESS", "s3://a"),
        ("b", "SUCCESS", "s3://b"),
    ]


def test_an_aggregator_that_names_what_it_collects_waits_for_those_alone() -> None:
    register("root", "a<root", "b<root", "c<a", "sum<root:GROUP_AGG", sum={"collects": ["c", "later"]})
    report("a COMPLETED", "b COMPLETED", "c COMPLETED")
    assert status("sum") == "PENDING"
    assert (context("sum")["expected_children"], context("sum")["received_children"]) == (2, 1)

    register("later<b")
    report("later FAILED")

    assert status("sum") == "SUCCESS"
    assert [r["task_id"] for r in context("sum")["child_results"]] == ["c", "later"]


def test_with_nothing_planned_it_waits_for_a_quiet_time_after_the_last_ending() -> None:
    register("root", "a<root", "sum<root:GROUP_AGG")
    report("a COMPLETED")
    assert status("sum") == "PENDING"

    register("b<root")
    pass_quiet_time()
    assert status("sum") == "PENDING", "a new child came"

    report("b COMPLETED")
    pass_quiet_time()

    assert (status("sum"), status("root")) == ("SUCCESS", "SUCCESS")


def test_what_ends_after_it_was_ready_is_listed_late_and_changes_nothing_frozen() -> None:
    register("root", "a<root", "b<root", "sum<root:GROUP_AGG", plan=2)
    report("a COMPLETED", "b COMPLETED")
    before = context("sum")

    register("c<root")
    report("c FAILED")

    after = context("sum")
    assert after["child_results"][:2] == before["child_results"]
    assert after["child_results"][2] == {
        "task_id": "c", "status": "FAILED", "output_ref": None, "late": True,
    }  # fmt: skip
    assert (after["received_children"], after["late_children"]) == (2, 1)
    assert status("sum") == "SUCCESS"


def test_an_early_join_freezes_as_soon_as_its_verdict_is_fixed() -> None:
    join = {"policy": "at_least", "count": 1, "early": True}
    edit.create(
        {"id": "quick", "name": "q", "actor_type": "GROUP_AGG", "code_ref": "x", "join": join}, by="t"
    )
    register("root", "a<root", "b<root", "sum<root:GROUP_AGG", plan=2, jobs={"sum": "quick"})

    report("a COMPLETED")

    assert status("sum") == "SUCCESS"
    report("b COMPLETED")
    assert [r["late"] for r in context("sum")["child_results"]] == [False, True]


def test_its_own_report_stands_over_what_it_collected() -> None:
    register("root", "a<root", "sum<root:GROUP_AGG", plan=1)
    report("sum STARTED", "a COMPLETED")

    assert status("sum") == "RUNNING"
    assert context("sum")["is_ready"]

    report("sum FAILED")
    assert (status("sum"), status("root")) == ("FAILED", "FAILED")


def test_a_cancel_closes_what_an_aggregator_waits_for() -> None:
    register("root", "a<root", "b<root", "sum<root:GROUP_AGG", plan=5)
    report("a COMPLETED")

    issue("T", ControlAction.CANCEL, triggered_by="somebody")
    while ingest.sweep_cancelled(Trace.objects.get().number):
        pass

    assert (status("b"), status("sum"), status("root")) == ("CANCELLED", "SUCCESS", "SUCCESS")


def test_an_aggregator_with_nothing_to_collect_is_cancelled_like_any_other() -> None:
    register("root", "sum<root:GROUP_AGG")

    issue("T", ControlAction.CANCEL, triggered_by="somebody")
    while ingest.sweep_cancelled(Trace.objects.get().number):
        pass

    assert (status("sum"), status("root")) == ("CANCELLED", "CANCELLED")


def test_results_come_in_pages() -> None:
    register("root", *[f"k{i}<root" for i in range(5)], "sum<root:GROUP_AGG", plan=5)
    report(*[f"k{i} COMPLETED" for i in range(5)])
    register("late<root")
    report("late COMPLETED")

    seen, after = [], ""
    while page := context("sum", f"&limit=2{after}")["child_results"]:
        seen += [r["task_id"] for r in page]
        after = f"&after={seen[-1]}"

    assert seen == ["k0", "k1", "k2", "k3", "k4", "late"]


def test_a_task_that_is_no_aggregator_has_no_context() -> None:
    register("root")

    answer = bearing("read").get("/api/v1/tasks/root/aggregation/?trace_id=T")

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_an_aggregator")
