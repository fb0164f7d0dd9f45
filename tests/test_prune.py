"""Pruning: whole ended runs go, in bounded steps; the audit and a tombstone stay."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controls import ledger, sweep
from controls.issue import issue
from controls.models import ControlRecord
from controls.store import store
from instances import ingest, retention
from instances.intake import read_events
from instances.models import Intent, TaskInstance, Tombstone, Trace
from instances.sources.streams import STREAM
from tests.people import bearing
from tests.test_consume import drain, letters
from tower import redis
from tower.errors import NotFound
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)

DAY_MS = int(timedelta(days=1).total_seconds() * 1000)


def task(trace_id: str, id: str, parent_id: str | None = None, **more: Any) -> dict[str, Any]:
    kind = {"job_id": "job", "actor_type": "EXECUTION"}
    return kind | {"id": id, "trace_id": trace_id, "parent_id": parent_id} | more


def event(trace_id: str, task_id: str, kind: str, event_id: str = "") -> dict[str, Any]:
    body = {"event_id": event_id or f"{task_id}-{kind}", "trace_id": trace_id, "task_id": task_id}
    return body | {
        "event_type": kind,
        "timestamp_ms": 1,
        "payload": {"message": "said", "output_ref": "s3://x"},
    }


def a_run(trace_id: str, *, ended_days_ago: float | None, tasks: int = 3) -> Trace:
    """Through the doors: a root with labels, an aggregator, children that reported, a control."""
    family = [
        task(trace_id, "root", labels={"team": "search"}),
        task(trace_id, "all", "root", actor_type="SINGLE_AGG", collects=["t0"]),
        *(task(trace_id, f"t{i}", "root") for i in range(tasks)),
    ]
    assert not ingest.register(family).rejected
    ids = ["root", "all", *(f"t{i}" for i in range(tasks))]
    issue(trace_id, ControlAction.PAUSE, triggered_by="li.wei", reason="kept")
    issue(trace_id, ControlAction.RUN, triggered_by="li.wei")
    said = [event(trace_id, id, "STARTED") for id in ids]
    if ended_days_ago is not None:
        said += [event(trace_id, id, "COMPLETED") for id in ids]
    ingest.ingest(said)
    trace = Trace.objects.get(id=trace_id)
    assert (trace.ended_ms is not None) is (ended_days_ago is not None)
    if ended_days_ago is not None:
        Trace.objects.filter(id=trace_id).update(ended_ms=ingest.now_ms() - int(ended_days_ago * DAY_MS))
    return trace


def prune(*args: str) -> None:
    call_command("prune", "--older-than", "30", *args)


def rows_of(trace: Trace) -> dict[str, int]:
    """How many rows each table holds of a trace."""
    found = {}
    for table, column, keyed in [*retention.LEFT, ("instances_trace", "number", False)]:
        low, high = trace.number << 32 * keyed, (trace.number + 1) << 32 * keyed
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT count(*) FROM {table} WHERE {column} >= %s AND {column} < %s", [low, high]
            )
            found[table] = cursor.fetchone()[0]
    return found


def test_an_old_ended_run_goes_with_all_its_rows_and_its_keys():
    trace = a_run("old", ended_days_ago=31)
    before = rows_of(trace)
    empty = {table for table, count in before.items() if not count}
    assert empty <= {"instances_frozenresult", "instances_deadline"}
    assert redis.client().exists("cmd:instance:old")

    prune()

    assert set(rows_of(trace).values()) == {0}
    assert not redis.client().exists("cmd:instance:old")
    stone = Tombstone.objects.get()
    assert (stone.trace_id, stone.number, stone.emptied) == ("old", trace.number, True)


def test_every_table_that_holds_rows_of_a_trace_is_emptied():
    of_a_trace = {"trace", "task", "tree_id", "aggregator"}
    holding = {
        model._meta.db_table
        for model in apps.get_app_config("instances").get_models()
        if of_a_trace & {field.name for field in model._meta.get_fields()}
    }

    assert holding - {"instances_tracelabel"} == {table for table, *_ in retention.LEFT}


def test_the_audit_stays():
    a_run("old", ended_days_ago=31)

    prune()

    assert [row.reason for row in ControlRecord.objects.order_by("number")] == ["kept", ""]
    found = bearing("read").get("/api/v1/controls/?trace_id=old").json()
    assert len(found["results"]) == 2


def test_a_younger_run_stays_and_so_does_one_that_has_not_ended():
    young, running = a_run("young", ended_days_ago=29), a_run("running", ended_days_ago=None)
    Trace.objects.filter(id="running").update(created_ms=1, updated_ms=1)
    before = rows_of(young), rows_of(running)

    prune()

    assert (rows_of(young), rows_of(running)) == before
    assert not Tombstone.objects.exists()


def test_a_dry_run_says_what_would_go_and_changes_nothing(capsys):
    old = a_run("old", ended_days_ago=31)
    a_run("young", ended_days_ago=1)
    before = rows_of(old)

    prune("--dry-run")

    said = capsys.readouterr().out
    assert "old  ended" in said and "young" not in said
    assert "1 run with 5 tasks and 10 events would go." in said
    assert rows_of(old) == before
    assert not Tombstone.objects.exists()


def test_it_says_what_went(capsys):
    a_run("old", ended_days_ago=31)

    prune()

    assert "1 run with 5 tasks and 10 events went." in capsys.readouterr().out


def test_no_transaction_deletes_more_than_its_step(monkeypatch):
    monkeypatch.setattr(retention, "STEP_ROWS", 4)
    trace = a_run("old", ended_days_ago=31, tasks=9)
    deleted: list[int] = []
    real = retention._step

    def step(*args: Any) -> int:
        deleted.append(real(*args))
        return deleted[-1]

    monkeypatch.setattr(retention, "_step", step)

    prune()

    assert max(deleted) == 4
    assert set(rows_of(trace).values()) == {0}


@pytest.mark.parametrize("days", ["-1", "x", "1.5"])
def test_days_are_a_whole_number(days):
    with pytest.raises(CommandError, match="older-than"):
        call_command("prune", f"--older-than={days}")


# -- what comes later


@pytest.fixture
def pruned() -> str:
    a_run("old", ended_days_ago=31)
    prune()
    return "old"


def test_b40_a_late_report_is_refused_and_its_neighbours_are_applied(pruned):
    client = bearing("ingest")
    batch = [event(pruned, "t0", "STARTED"), event("new", "t0", "STARTED")]

    answer = client.post("/api/v1/events/", batch, content_type="application/json")

    body = answer.json()
    assert (answer.status_code, body["accepted"]) == (207, 1)
    [rejected] = body["rejected"]
    assert (rejected["index"], rejected["event_id"]) == (0, "t0-STARTED")
    assert rejected["error"]["code"] == "trace_gone"
    assert rejected["error"]["details"] == {"field": "trace_id"}
    assert list(Trace.objects.values_list("id", flat=True)) == ["new"]


def test_b40_a_late_registration_is_refused(pruned):
    client = bearing("ingest")

    answer = client.post("/api/v1/tasks/", [task(pruned, "root")], content_type="application/json")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "trace_gone")
    assert answer.json()["rejected"][0]["id"] == "root"
    assert not TaskInstance._base_manager.exists()


def test_b40_a_run_is_not_started_under_its_id(pruned):
    editor = bearing("admin")
    definition = {"id": "job", "name": "job", "actor_type": "AGENT", "code_ref": "docker://x/y:1"}
    assert editor.post("/api/v1/definitions/", definition, content_type="application/json").status_code == 201

    answer = editor.post(
        "/api/v1/traces/", {"job_id": "job", "trace_id": pruned}, content_type="application/json"
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "trace_gone")
    assert not Trace.objects.exists()


def test_b40_a_late_report_over_the_queue_is_a_dead_letter(pruned):
    redis.events().xadd(STREAM, {"event": json.dumps(event(pruned, "t0", "STARTED"))})

    drain()

    assert [(letter["code"], letter["field"]) for letter in letters()] == [("trace_gone", "trace_id")]
    assert not Trace.objects.exists()


def test_a_control_finds_it_no_more(pruned):
    with pytest.raises(NotFound):
        issue(pruned, ControlAction.PAUSE, triggered_by="li.wei")


def test_a_report_for_a_known_trace_asks_for_no_tombstone():
    a_run("live", ended_days_ago=None)

    with CaptureQueriesContext(connection) as queries:
        sent, _ = read_events([event("live", "t0", "PROGRESS")], ingest.now_ms())
        ingest.ingest_sent(sent, source="rest")

    assert not [query for query in queries if "tombstone" in query["sql"]]


def test_a_tombstone_stands_for_so_many_days_and_then_the_id_may_begin_anew(pruned, settings):
    aged = ingest.now_ms() - (settings.TOWER_TOMBSTONE_DAYS * DAY_MS + 1000)
    Tombstone.objects.update(gone_ms=aged)

    assert ingest.ingest([event(pruned, "t0", "STARTED")]).accepted == 1

    prune()
    assert not Tombstone.objects.exists()


# -- races and breaks


def test_a_run_that_a_late_child_opened_again_stays():
    trace = a_run("old", ended_days_ago=31)
    cutoff = ingest.now_ms() - 30 * DAY_MS
    found = retention._ended(cutoff).get()
    assert not ingest.register([task("old", "late", "root")]).rejected
    assert Trace.objects.get().ended_ms is None

    assert retention._bury(found.number, cutoff, ingest.now_ms()) is None

    assert rows_of(trace)["instances_taskinstance"] == 6


def test_what_a_prune_that_died_left_behind_goes_with_the_next(monkeypatch):
    class Killed(BaseException):
        pass

    def die(trace_id: str) -> None:
        raise Killed

    trace = a_run("old", ended_days_ago=31)
    with pytest.raises(Killed):
        list(retention.prune(ingest.now_ms(), ingest.now_ms(), forget=die))
    assert not Tombstone.objects.get().emptied
    assert ingest.ingest([event("old", "t0", "STARTED")]).rejected

    prune()

    assert set(rows_of(trace).values()) == {0}
    assert Tombstone.objects.get().emptied
    assert not redis.client().exists("cmd:instance:old")


def test_while_redis_is_away_its_keys_wait_for_the_next_prune(valkey):
    a_run("old", ended_days_ago=31)
    valkey.stop()
    with pytest.raises(CommandError, match="Redis does not answer"):
        prune()
    valkey.start()
    redis.client().hset("cmd:instance:old", "global_action", "RUN")

    prune()

    assert not redis.client().exists("cmd:instance:old")


def test_the_sweeper_brings_no_command_of_it_back():
    a_run("old", ended_days_ago=31)
    Intent.objects.update(delivered_number=0)
    prune()

    sweep.deliver(store())
    sweep.sweep_cancels()

    assert not redis.client().exists("cmd:instance:old")


def test_a_control_that_was_looked_up_before_the_prune_is_not_found():
    trace = a_run("old", ended_days_ago=31)
    prune()

    with pytest.raises(NotFound):
        ledger.moment(trace.number)
