"""What each attempt of a task did: the pure history, what the API says of it, what the pane shows."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from controls.issue import issue
from instances import attempts, ingest
from instances.lifecycle import (
    CANCELLED,
    FAILED,
    PENDING,
    RUNNING,
    SUCCESS,
    Decree,
    Report,
    history,
    refold,
)
from instances.models import Deadline, TaskInstance
from tests.people import bearing, signed_in_as
from tower.definitions import edit
from tower.schemas import ControlAction

STARTED, PROGRESS, COMPLETED, SAID_FAILED, SAID_CANCELLED = range(5)
serial = itertools.count(1)


def report(kind: int, ms: int, id: str = "", **said: Any) -> Report:
    return Report(id or f"{kind}-{ms}", "task", kind, ms, **said)


# -- the pure part


def test_each_attempt_has_its_own_start_ending_and_worker() -> None:
    told = [
        report(STARTED, 1, worker="w1"),
        report(SAID_FAILED, 5, error_code="HTTP_429", error_msg="slow down"),
        report(STARTED, 7, worker="w2"),
        report(PROGRESS, 8),
        report(COMPLETED, 9, output_ref="s3://x"),
    ]

    first, second = history(told)

    assert (first.attempt, first.status, first.started_ms, first.finished_ms) == (1, FAILED, 1, 5)
    assert (first.ending, first.worker, first.error_code, first.error_msg) == (
        "FAILED", "w1", "HTTP_429", "slow down",
    )  # fmt: skip
    assert (second.attempt, second.status, second.ending, second.output_ref) == (
        2, SUCCESS, "COMPLETED", "s3://x",
    )  # fmt: skip
    assert (first.reports, second.reports, first.by_tower) == (2, 3, False)


def test_an_attempt_that_runs_has_no_ending() -> None:
    (only,) = history([report(STARTED, 1)])

    assert (only.status, only.ending, only.finished_ms, only.reported_status) == (RUNNING, None, None, None)


def test_a_timeout_is_an_ending_until_the_actor_gives_its_own() -> None:
    decree = Decree(SAID_FAILED, 100, 1, "TIMEOUT", "silent")

    (silent,) = history([report(STARTED, 1)], decrees=[decree])
    (found,) = history([report(STARTED, 1), report(COMPLETED, 50)], decrees=[decree])

    assert (silent.ending, silent.by_tower, silent.status, silent.finished_ms) == (
        "TIMEOUT",
        True,
        FAILED,
        100,
    )
    assert (silent.error_code, silent.reported_status) == ("TIMEOUT", RUNNING)
    assert (found.ending, found.by_tower, found.status, found.finished_ms) == (
        "COMPLETED", False, SUCCESS, 50,
    )  # fmt: skip
    assert found.timed_out_ms == 100


def test_a_forced_cancel_stays_and_what_the_actor_says_stands_beside_it() -> None:
    decree = Decree(SAID_CANCELLED, 100, 1, "CANCEL_UNACKNOWLEDGED")

    (only,) = history([report(STARTED, 1), report(COMPLETED, 150)], decrees=[decree])

    assert (only.ending, only.by_tower, only.status, only.finished_ms) == ("CANCELLED", True, CANCELLED, 100)
    assert (only.reported_status, only.output_ref) == (SUCCESS, None)


def test_an_attempt_that_a_cancel_did_not_let_be_opened_is_told_as_such() -> None:
    told = [report(STARTED, 1), report(SAID_FAILED, 2), report(STARTED, 3)]

    first, second = history(told, cap=1)

    assert (first.counted, second.counted, second.status) == (True, False, RUNNING)


def test_a_task_that_the_tower_cancelled_unheard_has_one_attempt_without_reports() -> None:
    (only,) = history([], decrees=[Decree(SAID_CANCELLED, 9, 1)])

    assert (only.status, only.reports, only.started_ms, only.reported_status) == (CANCELLED, 0, None, None)


kinds = st.integers(STARTED, SAID_CANCELLED)
some_reports = st.lists(
    st.tuples(kinds, st.integers(0, 12), st.one_of(st.none(), st.integers(1, 4))), max_size=14
)


@given(some_reports, st.one_of(st.none(), st.integers(1, 3)), st.randoms(use_true_random=False))
def test_the_history_knows_no_order_and_its_standing_attempt_is_the_folds(
    drawn: list[tuple[int, int, int | None]], cap: int | None, chance: random.Random
) -> None:
    told = [report(k, ms, f"e{i}", attempt=a) for i, (k, ms, a) in enumerate(drawn)]
    shuffled = chance.sample(told, len(told))

    found = history(shuffled, cap=cap)

    assert found == history(told, cap=cap)
    assert [one.attempt for one in found] == sorted({one.attempt for one in found})
    assert sum(one.reports for one in found) == len(told)
    own = refold(told, cap=cap).own
    standing = [one for one in found if one.attempt == own.attempt]
    if standing:
        assert (standing[0].status, standing[0].started_ms) == (own.status, own.start)
        assert standing[0].finished_ms == own.ended_ms
    else:
        assert own.status == PENDING


# -- the API


def register(id: str = "t", **more: Any) -> None:
    item = {"id": id, "trace_id": "T", "parent_id": None, "job_id": "step", "actor_type": "EXECUTION"}
    said = ingest.register([item | more])
    assert not said.rejected, said.rejected


def say(kind: str, ms: int, task: str = "t", **payload: Any) -> None:
    event = {
        "event_id": f"e{next(serial)}", "trace_id": "T", "task_id": task, "event_type": kind,
        "timestamp_ms": ms, "payload": payload,
    }  # fmt: skip
    said = ingest.ingest([event])
    assert not said.rejected, said.rejected


def told(id: str = "t") -> dict[str, Any]:
    answer = bearing("read", name=f"reader{next(serial)}").get(f"/api/v1/tasks/{id}/?trace_id=T")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def pass_deadlines(kind: int) -> None:
    Deadline.objects.filter(kind=kind).update(due_ms=0)
    ingest.expire(1)


def pane(client: Client, id: str = "t") -> dict[str, Any]:
    answer = client.get(f"/traces/T/tasks/{id}/")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def said_in(sentences: list[list[dict[str, Any]]]) -> list[str]:
    return ["".join(piece["text"] for piece in sentence) for sentence in sentences]


@pytest.mark.django_db(transaction=True)
def test_the_api_tells_each_attempt_in_whatever_order_its_reports_came() -> None:
    register()
    say("COMPLETED", 9_000, output_ref="s3://x", worker="w2")
    say("STARTED", 7_000)
    say("FAILED", 5_000, error_code="HTTP_429", error_msg="slow down")
    say("STARTED", 1_000, worker="w1")

    body = told()

    assert (body["attempt"], body["attempts_left_out"]) == (2, 0)
    assert body["attempts"][0] == {
        "attempt": 1, "status": "FAILED", "started_at": "1970-01-01T00:00:01.000Z",
        "finished_at": "1970-01-01T00:00:05.000Z", "ending": "FAILED", "origin": "actor",
        "reported_status": None, "timed_out_at": None, "worker": "w1", "output_ref": None,
        "error_code": "HTTP_429", "error_msg": "slow down", "reports": 2, "counted": True,
    }  # fmt: skip
    second = body["attempts"][1]
    assert (second["attempt"], second["status"], second["worker"], second["reports"]) == (
        2,
        "SUCCESS",
        "w2",
        2,
    )


@pytest.mark.django_db(transaction=True)
def test_one_plain_attempt_is_told_from_memory_as_from_its_reports() -> None:
    register()
    say("STARTED", 1_000, worker="w1")
    say("PROGRESS", 2_000, progress=40, worker="w2")
    say("FAILED", 5_000, error_code="X")
    node = attempts.node_of(*TaskInstance.objects.values_list("tree_id", "n").get(id="t"))
    assert node is not None and attempts.uneventful(node)

    remembered = attempts.attempts(node)
    node.own.plain = False

    assert remembered == attempts.attempts(node)
    assert (remembered.shown[0].worker, remembered.shown[0].reports) == ("w2", 3)


@pytest.mark.django_db(transaction=True)
def test_what_was_never_heard_has_no_attempts() -> None:
    register()

    assert told()["attempts"] == []


@pytest.mark.django_db(transaction=True)
def test_too_many_reports_leave_the_standing_attempt_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    say("STARTED", 1_000, attempt=1)
    say("STARTED", 2_000, attempt=3, worker="w3")
    monkeypatch.setattr(attempts, "MOST_REPORTS", 1)

    body = told()

    assert [one["attempt"] for one in body["attempts"]] == [3]
    assert (body["attempts"][0]["worker"], body["attempts_left_out"]) == ("w3", 2)


@pytest.mark.django_db(transaction=True)
def test_more_attempts_than_are_shown_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    for n in range(1, 6):
        say("FAILED", 1_000 * n, attempt=n)
    monkeypatch.setattr(attempts, "MOST_SHOWN", 2)

    body = told()

    assert ([one["attempt"] for one in body["attempts"]], body["attempts_left_out"]) == ([4, 5], 3)


def a_definition(**rules: Any) -> None:
    body = {"id": "step", "name": "Step", "actor_type": "EXECUTION", "code_ref": "x"}
    edit.create(body | rules, by="test")


@pytest.mark.django_db(transaction=True)
def test_a_timeout_is_an_attempt_that_the_tower_ended_and_the_next_one_may_follow() -> None:
    a_definition(timeout_sec=300)
    register()
    say("STARTED", 1_000, worker="w1")
    pass_deadlines(Deadline.TIMEOUT)

    (first,) = told()["attempts"]
    assert (first["ending"], first["origin"], first["status"]) == ("TIMEOUT", "tower", "FAILED")
    assert (first["error_code"], first["reported_status"]) == ("TIMEOUT", "RUNNING")

    say("STARTED", 9_000, attempt=2)
    first, second = told()["attempts"]
    assert (first["ending"], second["status"], second["ending"]) == ("TIMEOUT", "RUNNING", None)


@pytest.mark.django_db(transaction=True)
def test_the_page_says_that_a_timeout_ended_it_and_what_overtook_it() -> None:
    a_definition(timeout_sec=300)
    register()
    say("STARTED", 1_000)
    pass_deadlines(Deadline.TIMEOUT)
    viewer = signed_in_as("viewer")

    before = pane(viewer)
    say("COMPLETED", 2_000)
    behind = pane(viewer)

    (line,) = said_in(before["say"])
    assert line.startswith("The tower ended attempt 1 FAILED at ")
    assert line.endswith(
        "no ending was heard within 5 min. Should its actor's own ending come yet, that stands."
    )
    (line,) = said_in(behind["say"])
    assert line.startswith("The tower had timed attempt 1 out at ")
    assert line.endswith("own ending of 1970-01-01T00:00:02.000Z was heard after that and stands.")
    assert behind["say"][0][5] == {"text": "1970-01-01T00:00:02.000Z", "ms": 2000}
    (attempt,) = behind["attempts"]
    assert (attempt["status"], attempt["text"]) == ("SUCCESS", "Success after 0:01")
    assert said_in(attempt["notes"])[0].startswith("The tower had timed it out at ")


@pytest.mark.django_db(transaction=True)
def test_the_page_says_what_the_actor_says_beside_a_forced_cancel() -> None:
    a_definition(cancel_grace_sec=30)
    register()
    say("STARTED", 1_000)
    issue("T", ControlAction.CANCEL, triggered_by="ada")
    number = TaskInstance.objects.values_list("tree_id", flat=True).get(id="t")
    ingest.sweep_cancelled(number)
    pass_deadlines(Deadline.GRACE)
    viewer = signed_in_as("viewer")

    before = said_in(pane(viewer)["say"])
    say("COMPLETED", 2_000)
    (line,) = said_in(pane(viewer)["say"])

    assert "its actor did not answer the cancel within its grace of 30 s." in before[0]
    assert line.startswith("The actor says SUCCESS; the tower had ended it CANCELLED at ")
    assert "because the cancel was not answered within its grace of 30 s." in line
    (attempt,) = told()["attempts"]
    assert (attempt["ending"], attempt["origin"], attempt["reported_status"]) == (
        "CANCELLED",
        "tower",
        "SUCCESS",
    )
    assert attempt["error_code"] == "CANCEL_UNACKNOWLEDGED"


@pytest.mark.django_db(transaction=True)
def test_the_page_says_that_a_cancel_stood_above_what_never_began() -> None:
    register()
    number = TaskInstance.objects.values_list("tree_id", flat=True).get(id="t")
    issue("T", ControlAction.CANCEL, triggered_by="ada")
    ingest.sweep_cancelled(number)
    viewer = signed_in_as("viewer")

    before = said_in(pane(viewer)["say"])
    say("STARTED", 1_000)
    (line,) = said_in(pane(viewer)["say"])

    assert before[0].endswith("a cancel stood above it before it began.")
    assert line.startswith("The actor says RUNNING; the tower had ended it CANCELLED at ")


@pytest.mark.django_db(transaction=True)
def test_the_pane_lists_the_attempts_of_a_retried_task_and_nothing_of_a_plain_one() -> None:
    register()
    say("STARTED", 1_000, worker="w1")
    viewer = signed_in_as("viewer")
    assert pane(viewer)["attempts"] == []

    say("FAILED", 42_000, error_code="HTTP_429", worker="w3")
    say("STARTED", 50_000)

    second, first = pane(viewer)["attempts"]
    assert (first["number"], first["text"]) == (1, "Failed HTTP_429 after 0:41 on worker w3")
    assert (first["reports"], second["text"]) == ("2 reports", "Running")
    html = viewer.get("/traces/T/?node=t").content.decode()
    assert "Failed HTTP_429 after 0:41 on worker w3" in html and "attempt 2" in html


@pytest.mark.django_db(transaction=True)
def test_a_task_that_is_not_there_is_not_found() -> None:
    register()
    viewer = signed_in_as("viewer")

    assert viewer.get("/traces/T/tasks/nobody/").status_code == 404
    assert viewer.get("/traces/nowhere/tasks/t/").status_code == 404
    assert viewer.post("/traces/T/tasks/t/").status_code == 405
