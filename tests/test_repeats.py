"""A report is recorded once, whatever else comes with it and however its repeat looks."""

from __future__ import annotations

import json

import pytest

from instances import ingest, rows
from instances.models import Event, TaskInstance
from tower import metrics
from tower.errors import Warned

pytestmark = pytest.mark.django_db(transaction=True)
NOW = ingest.now_ms()


def event(id, task="a", kind="PROGRESS", ms=0, **said):
    parent = {"parent_id": said.pop("parent_id")} if "parent_id" in said else {}
    return {
        "event_id": id, "trace_id": "t", "task_id": task, "event_type": kind, "timestamp_ms": NOW + ms,
        "payload": said, **parent,
    }  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """The ids that the log was asked for."""
    ids: list[str] = []
    real = rows.known_events

    def known(pairs):
        ids.extend(id for _, id in pairs)
        return real(pairs)

    monkeypatch.setattr(rows, "known_events", known)
    return ids


def ids_in_log():
    return sorted(Event.objects.values_list("event_id", flat=True))


def test_the_log_is_not_asked_for_what_is_newer_than_all_of_its_task(asked):
    ingest.ingest([event("1", ms=1), event("2", ms=2), event("3", "b", ms=1)])
    told = ingest.ingest([event("4", ms=3), event("5", "b", ms=9)])

    assert (told.accepted, asked) == (2, [])


def test_a_repeat_is_known_by_its_time_and_its_task(asked):
    ingest.ingest([event("1", ms=1), event("2", ms=2)])

    told = ingest.ingest([event("1", ms=1), event("2", ms=2), event("3", ms=3)])

    assert (told.accepted, told.duplicates, asked) == (1, 2, ["1", "2"])


def test_the_id_of_another_task_is_known_and_what_comes_with_it_is_stored():
    ingest.ingest([event("1", ms=1)])

    told = ingest.ingest([event("1", "b", ms=1), event("2", "b", ms=2), event("3", "c")])

    assert (told.accepted, told.duplicates) == (2, 1)
    assert told.warnings == [Warned(0, "event_conflict", "event_id")]
    assert ids_in_log() == ["1", "2", "3"]


def test_the_id_of_another_time_is_known():
    ingest.ingest([event("1", ms=1)])

    told = ingest.ingest([event("1", ms=5), event("2", ms=6)])

    assert (told.accepted, told.duplicates) == (1, 1)
    assert told.warnings == [Warned(0, "event_conflict", "event_id")]


def test_a_repeat_of_an_older_attempt_that_came_later_is_known():
    ingest.ingest([event("1", ms=1), event("2", ms=2, attempt=2), event("3", ms=9, attempt=1)])

    told = ingest.ingest([event("3", ms=9, attempt=1), event("4", ms=10, attempt=2)])

    assert (told.accepted, told.duplicates) == (1, 1)
    assert ids_in_log() == ["1", "2", "3", "4"]


def test_a_batch_that_runs_again_warns_once_and_is_counted_once():
    def counted():
        return sum(
            metrics.EVENTS.labels("rest", verdict)._value.get() for verdict in ("applied", "unattached")
        )

    ingest.ingest([event("1", parent_id="b"), event("2", "b")])
    before = counted()

    told = ingest.ingest([event("3", "b", ms=1, parent_id="a"), event("2", "c", ms=2), event("4", "c", ms=3)])

    assert sorted((w.index, w.code) for w in told.warnings) == [(0, "cycle"), (1, "event_conflict")]
    assert json.loads(Event.objects.get(event_id="3").warnings or "") == [["cycle", "parent_id"]]
    assert counted() - before == told.accepted == 2
    assert TaskInstance.objects.filter(id="c").count() == 1


def test_a_batch_of_repeats_changes_nothing():
    first = [event(f"{n}", f"a{n % 3}", ms=n) for n in range(30)]
    ingest.ingest(first)
    before = list(TaskInstance.objects.order_by("key").values_list("key", "rev", "status"))

    told = ingest.ingest([{**item, "task_id": "other"} for item in first])

    assert (told.accepted, told.duplicates) == (0, 30)
    assert list(TaskInstance.objects.order_by("key").values_list("key", "rev", "status")) == before
