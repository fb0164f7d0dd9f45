"""An attempt that is not heard to end: heard time, holds, and endings that come late after all."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.db.models import F

from instances import ingest, rows
from instances.models import Deadline, Event, TaskInstance, TaskSaid
from tower.definitions import edit

pytestmark = pytest.mark.django_db(transaction=True)
serial = itertools.count(1)
MINUTE = 60_000


class Clock:
    """The server's clock, handed in."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def pass_minutes(self, minutes: float) -> None:
        self.now += round(minutes * MINUTE)
        ingest.expire(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ingest, "now_ms", lambda: clock.now)
    return clock


@pytest.fixture(autouse=True)
def definitions() -> None:
    base = {"actor_type": "EXECUTION", "code_ref": "x"}
    edit.create({**base, "id": "ten", "name": "ten minutes", "timeout_sec": 600}, by="t")
    edit.create({**base, "id": "never", "name": "never", "timeout_sec": 0}, by="t")
    edit.create({**base, "id": "joined", "name": "j", "timeout_sec": 600, "join": {"policy": "all"}}, by="t")


def register(id: str, job: str = "ten", parent: str | None = None) -> None:
    item = {"id": id, "trace_id": "T", "parent_id": parent, "job_id": job}
    assert not ingest.register([item]).rejected


def report(task_id: str, kind: str, ms: int = 0, **payload: Any) -> None:
    n = next(serial)
    event = {
        "event_id": f"e{n}", "trace_id": "T", "task_id": task_id, "event_type": kind,
        "timestamp_ms": ms or n, "payload": payload,
    }  # fmt: skip
    assert not ingest.ingest([event]).rejected


def standing(id: str = "a") -> tuple[str, str | None]:
    """(status, error code)."""
    task = TaskInstance.objects.get(id=id)
    said = TaskSaid.objects.filter(task=task.key).first()
    words = ("PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "SKIPPED")
    return words[task.status], said.error_code if said else None


def test_an_attempt_that_is_not_heard_to_end_is_ended_failed(clock: Clock) -> None:
    register("a")
    report("a", "STARTED")

    clock.pass_minutes(9)
    assert standing() == ("RUNNING", None)
    clock.pass_minutes(1)

    assert standing() == ("FAILED", "TIMEOUT")
    assert TaskInstance.objects.get(id="a").finished_ms == clock.now
    assert Event.objects.filter(origin=1, kind=3).count() == 1
    assert not Deadline.objects.exists()


def test_time_runs_from_the_receipt_of_the_first_report_and_not_from_the_actors_clock(clock: Clock) -> None:
    register("a")
    clock.pass_minutes(60)
    report("a", "STARTED", ms=5)

    clock.pass_minutes(9)

    assert standing() == ("RUNNING", None)


def test_a_task_that_reported_before_it_was_registered_has_its_limit_from_then_on(clock):
    report("a", "STARTED")
    register("a")

    clock.pass_minutes(11)

    assert standing() == ("FAILED", "TIMEOUT")


def test_the_clock_stands_still_while_the_task_holds(clock: Clock) -> None:
    register("a")
    report("a", "STARTED")
    clock.pass_minutes(6)
    report("a", "PROGRESS", paused=True)
    clock.pass_minutes(60)
    assert standing() == ("RUNNING", None)

    report("a", "PROGRESS")
    clock.pass_minutes(3)
    assert standing() == ("RUNNING", None)
    clock.pass_minutes(1)

    assert standing() == ("FAILED", "TIMEOUT")


def test_the_actors_own_ending_stands_over_a_timeout_when_it_comes_late(clock: Clock) -> None:
    register("a")
    report("a", "STARTED")
    clock.pass_minutes(10)

    report("a", "COMPLETED", output_ref="s3://late")

    assert standing() == ("SUCCESS", None)
    assert TaskSaid.objects.get().output_ref == "s3://late"


def test_a_later_started_without_an_attempt_does_not_undo_a_timeout(clock: Clock) -> None:
    register("a")
    report("a", "STARTED")
    clock.pass_minutes(10)

    report("a", "STARTED")

    assert standing() == ("FAILED", "TIMEOUT")
    assert TaskInstance.objects.get(id="a").reported_status == 1


def test_the_next_attempt_has_a_clock_of_its_own(clock: Clock) -> None:
    register("a")
    report("a", "STARTED")
    clock.pass_minutes(8)
    report("a", "FAILED", error_code="E")
    report("a", "STARTED")

    clock.pass_minutes(9)
    assert standing()[0] == "RUNNING"
    clock.pass_minutes(1)

    assert standing() == ("FAILED", "TIMEOUT")
    assert TaskInstance.objects.get(id="a").attempt == 2


def test_a_named_next_attempt_goes_on_after_a_timeout(clock: Clock) -> None:
    register("a")
    report("a", "STARTED")
    clock.pass_minutes(10)

    report("a", "STARTED", attempt=2)

    assert standing() == ("RUNNING", None)


def test_a_limit_of_zero_is_no_limit(clock: Clock) -> None:
    register("a", job="never")
    report("a", "STARTED")

    clock.pass_minutes(60 * 24 * 365)

    assert standing() == ("RUNNING", None)


def test_a_task_that_ends_by_its_children_has_no_limit(clock: Clock) -> None:
    register("a", job="joined")
    register("b", job="never", parent="a")
    report("a", "STARTED")
    report("b", "STARTED")

    clock.pass_minutes(60)

    assert standing("a") == ("RUNNING", None)


def test_a_silent_task_has_no_limit(clock: Clock) -> None:
    register("a")

    clock.pass_minutes(60)

    assert standing() == ("PENDING", None)


def test_time_in_which_nobody_listened_is_not_counted_by_a_hold_either(clock: Clock) -> None:
    register("a")
    report("a", "STARTED")
    clock.now += 60 * MINUTE
    Deadline.objects.update(due_ms=F("due_ms") + 60 * MINUTE)  # as the sweeper does for deaf time
    report("a", "PROGRESS", paused=True)
    report("a", "PROGRESS")

    clock.pass_minutes(9)

    assert standing() == ("RUNNING", None)


def test_many_that_hold_at_once_are_asked_for_with_one_statement(clock, monkeypatch) -> None:
    sent: list[str] = []
    real = rows.run

    def run(sql, *given, **how):
        sent.append(sql)
        return real(sql, *given, **how)

    monkeypatch.setattr(rows, "run", run)
    register("root", "never")

    def taken(prefix: str, count: int) -> int:
        ids = [f"{prefix}{n}" for n in range(count)]
        for id in ids:
            register(id, parent="root")
        told = [
            {"event_id": f"{id}-{k}", "trace_id": "T", "task_id": id, "event_type": "PROGRESS",
             "timestamp_ms": k, "payload": {"paused": k == 2}}
            for id in ids for k in (1, 2)
        ]  # fmt: skip
        ingest.ingest(told[::2])
        clock.now += MINUTE
        sent.clear()
        ingest.ingest(told[1::2])
        return len(sent)

    assert taken("few", 2) == taken("many", 30)
    holding = TaskInstance.objects.filter(holds=True)
    assert holding.count() == 32
    clock.pass_minutes(60)
    assert holding.count() == 32
