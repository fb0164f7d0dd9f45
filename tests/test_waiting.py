"""What a task that ends by others waits for: the facts, the sentence, the tab, the results of aggregators."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import pytest
from django.test import Client

from controls.issue import issue
from instances import ingest, pane, sentences
from instances.aggregation import Standing, Tally
from instances.lifecycle import CANCELLED, FAILED, PENDING, RUNNING, SUCCESS
from instances.models import Deadline, TaskInstance
from instances.pieces import Piece, fill, plain
from instances.sentences import Named
from instances.waiting import By, Plan, Waiting, of_children
from tests.people import signed_in_as
from tower.definitions import edit
from tower.schemas import ControlAction, Join, JoinPolicy

serial = itertools.count(1)


def standing(*, of: int = 0, join: Join | None = None, **counts: int) -> Standing:
    names = ("pending", "running", "success", "failed", "cancelled", "skipped")
    tally = Tally([counts.get(name, 0) for name in names])
    return Standing(
        own_status=PENDING, heard=False, own_ended=False, planned=of, join=join, under_cancel=False,
        forced=None, kids=tally, aggregators=Tally(),
    )  # fmt: skip


def facts(standing: Standing, status: int = RUNNING) -> Waiting:
    found = of_children(standing, status=status)
    assert found is not None
    return found


def lines(found: Waiting, names: Named = sentences.NOBODY) -> list[str]:
    return [plain(sentence) for sentence in sentences.waiting(found, names=names)]


AT_LEAST_90 = Join(policy=JoinPolicy.AT_LEAST, percent=90)


def test_the_sentence_says_what_is_waited_for_what_is_needed_and_who() -> None:
    found = facts(standing(of=40, join=AT_LEAST_90, success=35, failed=2, running=3))
    names = Named([(id, id) for id in ("fetch-17", "fetch-21", "fetch-33")])

    first, *others = lines(found, names)

    assert first == (
        "Waiting for 3 of 40 children: at_least 90 % needs 36, has 35 (fetch-17, fetch-21, fetch-33)."
    )
    assert others == ["Its plan is closed: all that were planned are here."]


def test_more_than_five_are_counted() -> None:
    found = facts(standing(of=40, running=17, success=23))
    names = Named([(f"f{n}", f"f{n}") for n in range(5)], 12)

    assert lines(found, names)[0].endswith("any needs 1, has 23 (f0, f1, f2, f3, f4 and 12 more).")


def test_names_are_links_and_never_patterns() -> None:
    named = Named([("t-1", "{need}")])

    (sentence, *_) = sentences.waiting(facts(standing(running=1)), names=named)

    assert Piece("{need}", task_id="t-1") in sentence


def test_what_cannot_be_met_any_more_is_said() -> None:
    found = facts(standing(of=40, join=AT_LEAST_90, success=30, failed=5, running=5))

    assert lines(found)[:2] == [
        "Waiting for 5 of 40 children.",
        (
            "Cannot be met any more: at_least 90 % needs 36, has 30, 5 are left."
            " It ends without success once all have ended."
        ),
    ]


def test_what_is_met_already_is_said() -> None:
    found = facts(standing(of=10, join=Join(policy=JoinPolicy.AT_LEAST, count=3), success=4, running=6))

    assert "Met already; it ends with success once all have ended." in lines(found)


def test_planned_children_that_are_not_here_are_waited_for_and_counted_apart() -> None:
    found = facts(standing(of=10, success=7, running=1))

    assert (found.plan, found.waits_for, found.missing) == (Plan.OPEN, 3, 2)
    assert lines(found)[-1] == "2 of them are planned and not registered yet."


def test_without_a_plan_a_later_child_may_reopen_it() -> None:
    found = facts(standing(success=7, running=1))

    assert found.plan is Plan.NONE
    assert lines(found)[-1] == "No number was planned: it ends once all that are here have ended."


@pytest.mark.parametrize(
    ("changed", "plan", "end"),
    [
        ({"own_ended": True, "own_status": SUCCESS, "join": AT_LEAST_90}, Plan.ENDED, "ending"),
        ({"under_cancel": True}, Plan.CANCELLED, "cancel"),
    ],
)
def test_a_plan_that_was_closed_says_by_what(changed: dict[str, Any], plan: Plan, end: str) -> None:
    found = facts(replace(standing(of=10, success=7, running=1), **changed))

    assert (found.plan, found.of, found.missing) == (plan, 8, 0)
    assert end in lines(found)[-1]


def test_children_that_only_run_beside_are_no_join() -> None:
    heard = replace(standing(success=3, running=1), heard=True, own_status=RUNNING)

    assert facts(heard).by is By.ACTOR
    assert lines(facts(heard)) == ["It ends when its own actor says so; 3 of 4 children have ended."]


def test_aggregators_speak_for_the_other_children() -> None:
    found = facts(replace(standing(success=3), aggregators=Tally([1, 0, 1, 0, 0, 0])))

    assert (found.by, found.waits_for, found.of) == (By.AGGREGATORS, 1, 2)
    assert lines(found) == ["Waiting for 1 of 2 aggregators, which speak for the other children."]


@pytest.mark.parametrize("policy", JoinPolicy)
@pytest.mark.parametrize("status", [SUCCESS, FAILED, CANCELLED])
def test_what_has_ended_says_by_which_rule(policy: JoinPolicy, status: int) -> None:
    count = 2 if policy in {JoinPolicy.AT_LEAST, JoinPolicy.AT_MOST_FAILED} else None
    found = facts(standing(join=Join(policy=policy, count=count), success=2, failed=1, cancelled=1), status)

    (line,) = lines(found)

    assert line.startswith(f"Ended by its 4 children: {policy.value} ")


def test_a_leaf_waits_for_nobody() -> None:
    assert of_children(standing(), status=RUNNING) is None


def test_a_filled_pattern_has_no_empty_pieces() -> None:
    assert fill("{a}x{b}", a="", b=[Piece("y", ms=1)]) == [Piece("x"), Piece("y", ms=1)]


# -- the pane, from real reports


def register(*tasks: str, plan: int = 0, **more: Any) -> None:
    """``register("root", "a<root", "sum<root:GROUP_AGG")``; ``plan`` is the first one's."""
    items = []
    for i, text in enumerate(tasks):
        name, _, kind = text.partition(":")
        id, _, parent = name.partition("<")
        item = {
            "id": id, "trace_id": "T", "parent_id": parent or None, "job_id": "undefined",
            "actor_type": kind or "EXECUTION", "split_count": plan if i == 0 else 0,
        }  # fmt: skip
        items.append(item | more.get(id, {}))
    said = ingest.register(items)
    assert not said.rejected, said.rejected


def report(*reports: str) -> None:
    """``report("a COMPLETED", "b FAILED")``, each a second after the one before."""
    events = []
    for text in reports:
        task_id, kind = text.split()
        n = next(serial)
        events.append(
            {
                "event_id": f"e{n}", "trace_id": "T", "task_id": task_id, "event_type": kind,
                "timestamp_ms": 1000 * n,
                "payload": {"output_ref": f"s3://{task_id}"} if kind == "COMPLETED" else {},
            }
        )  # fmt: skip
    said = ingest.ingest(events)
    assert not said.rejected, said.rejected


@pytest.fixture
def viewer(transactional_db: None) -> Client:
    return signed_in_as("viewer")


def join_of(client: Client, id: str, query: str = "") -> dict[str, Any]:
    answer = client.get(f"/traces/T/tasks/{id}/{query}")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()["join"]
    return found


def said(join: dict[str, Any]) -> list[str]:
    return ["".join(piece["text"] for piece in sentence) for sentence in join["say"]]


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", html).split())


def test_the_pane_names_who_is_waited_for_with_links(viewer: Client) -> None:
    body = {"id": "fan", "name": "Fan", "actor_type": "AGENT", "code_ref": "x"}
    edit.create(body | {"join": {"policy": "at_least", "percent": 50}}, by="test")
    register("root", *(f"k{n}<root" for n in range(9)), plan=10, root={"job_id": "fan"})
    report("k0 COMPLETED", "k1 COMPLETED", "k2 STARTED")

    join = join_of(viewer, "root")
    html = viewer.get("/traces/T/?node=root").content.decode()

    assert said(join) == [
        "Waiting for 8 of 10 children: at_least 50 % needs 5, has 2 (k2, k3, k4, k5, k6 and 2 more).",
        "1 of them is planned and not registered yet.",
    ]
    linked = [piece["task_id"] for piece in join["say"][0] if "task_id" in piece]
    assert linked == ["k2", "k3", "k4", "k5", "k6"]
    assert join["counts"] == [["SUCCESS", 2], ["RUNNING", 1], ["PENDING", 6]]
    assert said(join)[0] in text_of(html)
    assert 'href="?node=k2" data-task="k2"' in html


def test_a_task_whose_children_only_run_beside_has_a_tab_without_a_rule(viewer: Client) -> None:
    register("root", "a<root", "b<root")
    report("root STARTED", "a COMPLETED")

    join = join_of(viewer, "root")

    assert said(join) == ["It ends when its own actor says so; 1 of 2 children have ended."]
    assert "Policy" not in dict(join["facts"])


def test_a_leaf_has_no_tab(viewer: Client) -> None:
    register("root", "a<root")

    assert join_of(viewer, "a") is None
    html = viewer.get("/traces/T/?node=a").content.decode()
    assert re.search(r'data-tab="join"[^>]* hidden', html)


def test_a_cancel_closes_the_plan_and_the_pane_says_so(viewer: Client) -> None:
    register("root", "a<root", "b<root", plan=9)
    report("a STARTED", "b STARTED", "a COMPLETED")
    issue("T", ControlAction.CANCEL, triggered_by="ada")

    assert said(join_of(viewer, "root")) == [
        "Waiting for 1 of 2 children: any needs 1, has 1 (b).",
        "Met already; it ends with success once all have ended.",
        "Its plan was closed by a cancel: no more are waited for.",
    ]


def test_an_aggregator_names_the_siblings_that_it_waits_for(viewer: Client) -> None:
    register("root", "a<root", "b<root", "sum<root:GROUP_AGG", plan=3)
    report("a COMPLETED", "b STARTED")

    join = join_of(viewer, "sum")

    assert said(join) == [
        "Collecting, waiting for 2 of 3: any needs 1, has 1 (b).",
        "Met already; it ends with success once all have ended.",
        "1 of them is planned and not registered yet.",
    ]
    assert join["results"] == [{"task_id": "a", "status": "SUCCESS", "output_ref": "s3://a", "late": False}]
    assert said(join_of(viewer, "root")) == [
        "Waiting for 1 of 1 aggregators, which speak for the other children (sum)."
    ]


def test_an_aggregator_names_what_nobody_has_heard_of(viewer: Client) -> None:
    register("root", "a<root", "sum<root:GROUP_AGG", sum={"collects": ["a", "x1", "x2"]})
    report("a COMPLETED")

    assert said(join_of(viewer, "sum"))[-1] == "Not heard of yet: x1, x2."


def test_the_quiet_time_of_an_aggregator_is_said_with_its_end(viewer: Client) -> None:
    register("root", "a<root", "sum<root:GROUP_AGG")
    report("a COMPLETED")
    due = Deadline.objects.get(kind=Deadline.QUIET).due_ms

    (sentence,) = join_of(viewer, "sum")["say"]

    assert "".join(p["text"] for p in sentence[:1]).startswith("All ")
    assert [piece["ms"] for piece in sentence if "ms" in piece] == [due]


def test_results_are_frozen_and_late_ones_are_marked(viewer: Client) -> None:
    register("root", "a<root", "b<root", "sum<root:GROUP_AGG", plan=2)
    report("a COMPLETED", "b FAILED")
    register("c<root")
    report("c COMPLETED")

    join = join_of(viewer, "sum")
    html = viewer.get("/traces/T/?node=sum&tab=join").content.decode()

    assert said(join)[0].endswith(": 2 results are frozen, SUCCESS by the join “any”.")
    assert join["counts"] == [["SUCCESS", 1], ["FAILED", 1]]
    assert said(join)[-1] == "1 ending came later; it changes nothing."
    assert [(one["task_id"], one["late"]) for one in join["results"]] == [
        ("a", False), ("b", False), ("c", True),
    ]  # fmt: skip
    assert html.count('data-part="late"') - html.count('data-part="late" hidden') == 1


def test_results_are_paged_with_and_without_scripts(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pane, "RESULTS", 2)
    register("root", *(f"k{n}<root" for n in range(5)), "sum<root:GROUP_AGG", plan=5)
    report(*(f"k{n} COMPLETED" for n in range(5)))

    pages = [join_of(viewer, "sum", query) for query in ("", "?after=k1", "?after=k3")]
    html = viewer.get("/traces/T/?node=sum&tab=join&after=k1").content.decode()

    assert [[one["task_id"] for one in page["results"]] for page in pages] == [
        ["k0", "k1"], ["k2", "k3"], ["k4"],
    ]  # fmt: skip
    assert [page["after"] for page in pages] == ["k1", "k3", ""]
    assert 'href="?node=sum&amp;tab=join&amp;after=k3"' in html and 'data-task="k2"' in html


def test_what_the_pane_waits_for_is_what_the_fold_does(viewer: Client) -> None:
    """Once nobody is waited for, the task has ended; before that it has not."""
    register("root", "a<root", "b<root", "c<root", plan=3)

    for kid in "abc":
        assert TaskInstance.objects.get(id="root").status <= RUNNING
        assert said(join_of(viewer, "root"))[0].startswith("Waiting for ")
        report(f"{kid} COMPLETED")

    assert TaskInstance.objects.get(id="root").status == SUCCESS
    assert said(join_of(viewer, "root")) == ["Ended by its 3 children: any needs 1, has 3."]
