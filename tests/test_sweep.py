"""What the sweeper does later: deliver, restore, end what was cancelled, act on deadlines; each deed once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models import F

from controls import sweep
from controls.clock import now_ms
from controls.issue import delivery_of, issue
from controls.models import Beat, ControlRecord
from controls.store import SENTINEL, MemoryStore, RedisStore, StoreAway, store
from instances import ingest
from instances.models import Deadline, Intent, IntentLedger, TaskInstance, Trace
from tests.servers import ROOT, until
from tests.trees import a_tree
from tower import redis
from tower.schemas import STATUSES, ControlAction

RUN, PAUSE, CANCEL = ControlAction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tree():
    return a_tree("root:RUNNING(a:RUNNING(b c:SUCCESS) d:SUCCESS)")


def ask(tree, action, task_id=None, **more):
    return issue(tree.id, action, task_id=task_id, triggered_by="li.wei", **more)


def a_grown_tree(trace_id, pending, *, started=False):
    """Made through the doors, so that a cancel can end it: a root and children that wait."""
    base = {"trace_id": trace_id, "job_id": "job", "actor_type": "EXECUTION"}
    children = [base | {"id": f"{trace_id}.{i}", "parent_id": trace_id} for i in range(pending)]
    assert not ingest.register([base | {"id": trace_id}, *children]).rejected
    if started:
        said = {"event_id": "s", "trace_id": trace_id, "task_id": trace_id, "event_type": "STARTED"}
        assert ingest.ingest([said | {"timestamp_ms": 1}]).accepted == 1
    return trace_id


def cancel(trace_id, task_id=None):
    return issue(trace_id, CANCEL, task_id=task_id, triggered_by="li.wei")


def statuses(trace_id):
    number = Trace.objects.get(id=trace_id).number
    found = TaskInstance._base_manager.filter(tree_id=number).values_list("status", flat=True)
    return sorted({STATUSES[status].value for status in found})


def ttl(tree) -> int:
    seconds: Any = redis.client().ttl(f"cmd:instance:{tree.id}")  # typed as a coroutine or its value
    return int(seconds)


def in_redis(tree):
    return redis.client().hgetall(f"cmd:instance:{tree.id}")


def run_out(deed):
    while deed():
        pass


# -- delivery


def test_f3_what_waited_for_redis_is_delivered_when_it_is_back(tree, valkey):
    valkey.stop()
    record = ask(tree, CANCEL).record
    with pytest.raises(StoreAway):
        sweep.deliver(store())
    valkey.start()

    sweep.deliver(store())

    assert in_redis(tree) == {"global_action": "CANCEL", "#global_action": "1"}
    record.refresh_from_db()
    assert record.delivered_ms >= record.created_ms
    assert Intent.objects.get().delivered_number == 1


def test_f2_a_process_that_dies_between_commit_and_put_leaves_it_to_the_sweeper(tree, monkeypatch):
    def die(self, delivery):
        raise SystemExit("killed")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(RedisStore, "put", die)
        ask(tree, PAUSE)
    assert in_redis(tree) == {}

    sweep.deliver(store())

    assert in_redis(tree)["global_action"] == "PAUSE"
    assert ControlRecord.objects.count() == 1


def test_f2_a_process_that_dies_between_put_and_mark_leads_to_no_second_message(tree):
    memory = MemoryStore()
    ask(tree, PAUSE)
    Intent.objects.update(delivered_number=0)
    memory.put(delivery_of(ControlRecord.objects.get()))

    sweep.deliver(memory)

    assert len(memory.published) == 1
    assert Intent.objects.get().delivered_number == 1


def test_only_the_control_that_stands_is_delivered_and_the_ones_before_it_count_as_delivered(tree, valkey):
    valkey.stop()
    for action in (PAUSE, RUN, PAUSE, CANCEL):
        ask(tree, action)
    valkey.start()
    memory = MemoryStore()

    sweep.deliver(memory)

    assert memory.along(tree.id, [""]) == [CANCEL]
    assert len(memory.published) == 1
    assert not ControlRecord.objects.undelivered().exists()


def test_what_is_delivered_is_not_delivered_again(tree):
    ask(tree, PAUSE)
    memory = MemoryStore()

    assert sweep.deliver(memory) is False
    assert memory.published == []


# -- restore


def test_f6_an_emptied_redis_is_filled_with_the_commands_of_live_trees(tree):
    other, ended = a_tree("root:RUNNING"), a_tree("root:RUNNING")
    sweep.restore(store())
    ask(tree, PAUSE)
    ask(tree, CANCEL, "a")
    ask(other, PAUSE)
    ask(ended, PAUSE)
    ended.end()
    redis.client().flushall()

    sweep.restore(store())

    assert in_redis(tree) == {"global_action": "PAUSE", "#global_action": "1", "a": "CANCEL", "#a": "2"}
    assert in_redis(other) == {"global_action": "PAUSE", "#global_action": "1"}
    assert in_redis(ended) == {}
    assert redis.client().exists(SENTINEL)


def test_f6_a_redis_that_was_not_emptied_is_left_alone(tree):
    sweep.restore(store())
    epoch = redis.client().get(SENTINEL)
    ask(tree, PAUSE)
    redis.client().delete(f"cmd:instance:{tree.id}")

    sweep.restore(store())

    assert in_redis(tree) == {}
    assert redis.client().get(SENTINEL) == epoch


# -- ended and opened again


def test_commands_of_an_ended_trace_go_a_day_later_and_come_back_with_a_late_child(tree):
    ask(tree, PAUSE)
    ended_ms = now_ms()
    tree._set_trace(ended_ms=ended_ms)

    sweep.retire(store())
    assert redis.client().pexpiretime(f"cmd:instance:{tree.id}") == ended_ms + 24 * 3600 * 1000
    assert IntentLedger.objects.get().expiring is True

    tree._set_trace(ended_ms=None)
    redis.client().delete(f"cmd:instance:{tree.id}")
    sweep.revive(store())
    sweep.deliver(store())

    assert IntentLedger.objects.get().expiring is False
    assert in_redis(tree) == {"global_action": "PAUSE", "#global_action": "1"}
    assert ttl(tree) == -1


def test_a_live_trace_and_one_that_was_never_controlled_keep_their_ledgers(tree):
    ended = a_tree("root:SUCCESS")
    IntentLedger.objects.create(trace=ended.number)
    ended.end()
    ask(tree, PAUSE)

    sweep.retire(store())

    assert not IntentLedger.objects.filter(expiring=True).exists()
    assert ttl(tree) == -1


def test_a_run_on_an_ended_trace_leaves_no_key_for_ever(tree):
    ask(tree, PAUSE)
    tree._set_trace(ended_ms=now_ms())
    sweep.retire(store())

    ask(tree, RUN)
    sweep.retire(store())

    assert ttl(tree) > 0


# -- cancels


def test_a_cancel_ends_what_it_found_pending_and_is_then_swept():
    a_grown_tree("T", 5)
    cancel("T")
    assert statuses("T") == ["PENDING"]

    run_out(sweep.sweep_cancels)

    assert statuses("T") == ["CANCELLED"]
    assert Intent.objects.get().swept is True
    assert sweep.sweep_cancels() is False


def test_one_large_cancel_does_not_keep_another_waiting(monkeypatch):
    """Each trace gets its transaction in each round."""
    seen: list[int] = []
    a_grown_tree("big", 1)
    a_grown_tree("small", 1)
    cancel("big")
    cancel("small")

    def sweep_some(number: int, limit: int) -> bool:
        seen.append(number)
        return number == min(seen)

    monkeypatch.setattr(ingest, "sweep_cancelled", sweep_some)

    more = sweep.sweep_cancels()

    assert more is True
    assert len(seen) == 2
    assert Intent.objects.filter(swept=True).count() == 1


def test_a_tree_that_cannot_be_swept_keeps_no_other_waiting(monkeypatch):
    real = ingest.sweep_cancelled
    a_grown_tree("broken", 1)
    a_grown_tree("T", 1)
    broken = Trace.objects.get(id="broken").number
    cancel("broken")
    cancel("T")

    def sweep_cancelled(number, *, limit):
        if number == broken:
            raise RuntimeError("broken on purpose")
        return real(number, limit=limit)

    monkeypatch.setattr(ingest, "sweep_cancelled", sweep_cancelled)
    run_out(sweep.sweep_cancels)

    assert "PENDING" not in statuses("T")
    assert Intent.objects.get(trace=broken).swept is False


def test_a_cancel_that_came_while_its_place_was_swept_is_swept_again(monkeypatch):
    a_grown_tree("T", 1, started=True)
    cancel("T")
    real = ingest.sweep_cancelled

    def and_meanwhile(number, *, limit):
        if not (touched := real(number, limit=limit)):
            cancel("T")
        return touched

    monkeypatch.setattr(ingest, "sweep_cancelled", and_meanwhile)
    run_out(sweep.sweep_cancels)

    assert Intent.objects.get().number == 2
    assert Intent.objects.get().swept is False


# -- deadlines and deaf time


def test_a_running_task_that_does_not_answer_a_cancel_is_ended_after_its_grace():
    a_grown_tree("T", 0, started=True)
    cancel("T")
    run_out(sweep.sweep_cancels)
    assert statuses("T") == ["RUNNING"]
    sweep.expire()
    assert statuses("T") == ["RUNNING"]

    Deadline.objects.update(due_ms=now_ms())
    sweep.expire()

    assert statuses("T") == ["CANCELLED"]


def test_f15_time_in_which_no_sweeper_listened_is_counted_by_no_deadline():
    now = now_ms()
    Beat.objects.create(role=sweep.ROLE, at_ms=now - 3_600_000)
    Deadline.objects.create(task=1, trace=1, kind=0, due_ms=now - 3_595_000)
    Deadline.objects.create(task=2, trace=1, kind=0, due_ms=now - 3_700_000)

    sweep.beat()

    moved, stood = Deadline.objects.get(task=1).due_ms, Deadline.objects.get(task=2).due_ms
    assert moved - Beat.objects.get().at_ms == 5_000
    assert stood == now - 3_700_000


def test_f14_a_clock_that_was_set_back_moves_deadlines_back_with_it():
    now = now_ms()
    Beat.objects.create(role=sweep.ROLE, at_ms=now + 3_600_000)
    Deadline.objects.create(task=1, trace=1, kind=0, due_ms=now + 3_605_000)

    sweep.beat()

    assert Deadline.objects.get().due_ms - Beat.objects.get().at_ms == 5_000


def test_f14_a_clock_that_was_set_ahead_ends_nothing():
    a_grown_tree("T", 0, started=True)
    cancel("T")
    run_out(sweep.sweep_cancels)
    sweep.beat()
    # As after an hour's step ahead: the last beat and the deadline lie that far behind.
    Beat.objects.update(at_ms=F("at_ms") - 3_600_000)
    Deadline.objects.update(due_ms=F("due_ms") - 3_600_000)

    sweep.beat()
    sweep.expire()

    assert statuses("T") == ["RUNNING"]


def test_a_sweeper_that_beats_moves_no_deadline():
    sweep.beat()
    Deadline.objects.create(task=1, trace=1, kind=0, due_ms=5)

    sweep.beat()

    assert Deadline.objects.get().due_ms == 5
    assert Beat.objects.count() == 1


# -- trees at rest


def test_a_tree_that_ended_and_rests_is_numbered():
    a_grown_tree("T", 2)
    Trace.objects.update(ended_ms=now_ms(), shape_ms=now_ms() - sweep.REST_MS)

    sweep.number_trees()

    assert Trace.objects.get().numbered_seq == Trace.objects.get().shape_seq
    assert sorted(TaskInstance._base_manager.values_list("lft", "rght")) == [(1, 6), (2, 3), (4, 5)]


def test_a_tree_that_still_grows_is_not_numbered():
    a_grown_tree("T", 2)
    Trace.objects.update(ended_ms=now_ms())

    sweep.number_trees()

    assert Trace.objects.get().numbered_seq == -1


# -- several, and a real one


def in_threads(count, work):
    errors = []

    def run():
        try:
            work()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_f22_ten_sweepers_do_each_deed_once(valkey):
    traces = [a_grown_tree(f"T{i}", 20) for i in range(5)]
    valkey.stop()
    for trace in traces:
        cancel(trace)
    valkey.start()
    memory = MemoryStore()

    def a_sweeper():
        ending, delivering = sweep.rounds(memory)
        for _ in range(3):
            until(lambda: not ending.turn(), "nothing more to end")
            delivering.turn()

    in_threads(10, a_sweeper)
    run_out(lambda: any(each.turn() for each in sweep.rounds(memory)))

    assert all(statuses(trace) == ["CANCELLED"] for trace in traces)
    assert len(memory.published) == len(traces)
    assert all(Intent.objects.values_list("swept", flat=True))
    with connection.cursor() as cursor:
        cursor.execute("SELECT task FROM instances_event WHERE origin <> 0 GROUP BY task HAVING count(*) > 1")
        assert cursor.fetchall() == []


def test_f7_a_redis_that_is_away_holds_up_no_cancel(valkey):
    a_grown_tree("T", 3)
    valkey.freeze()
    cancel("T")
    ending, delivering = sweep.rounds(store())

    until(lambda: not ending.turn(), "nothing more to end")

    assert statuses("T") == ["CANCELLED"]
    with pytest.raises(StoreAway):
        delivering.turn()


@pytest.fixture
def sweeper(suite_database):
    """``manage.py sweep`` on the database and the Valkey of this suite."""
    environment = os.environ | {"DATABASE_URL": suite_database, "DJANGO_SETTINGS_MODULE": "tower.settings"}
    process = subprocess.Popen([sys.executable, "manage.py", "sweep"], cwd=ROOT, env=environment)
    until(lambda: Beat.objects.exists() and redis.client().pubsub_numpat(), "the sweeper beats and listens")
    yield process
    process.kill()
    process.wait()


def test_the_sweeper_delivers_restores_and_ends_and_leaves_at_a_signal(sweeper, valkey):
    a_grown_tree("T", 5)
    cancel("T")
    until(lambda: statuses("T") == ["CANCELLED"], "what was pending is cancelled")
    until(lambda: redis.client().exists(SENTINEL), "the sentinel stands")

    paused = a_grown_tree("P", 1)
    issue(paused, PAUSE, triggered_by="li.wei")
    redis.client().flushall()
    until(lambda: redis.client().hget("cmd:instance:P", "global_action") == "PAUSE", "commands are restored")
    until(lambda: redis.client().exists(SENTINEL), "the sentinel stands again")

    valkey.stop()
    record = cancel(paused).record
    until(lambda: statuses("P") == ["CANCELLED"], "it is cancelled without Redis")
    valkey.start()
    until(lambda: ControlRecord.objects.undelivered().count() == 0, "the control is delivered")
    assert redis.client().hget("cmd:instance:P", "#global_action") == str(record.intent_number)

    sweeper.send_signal(signal.SIGTERM)
    assert sweeper.wait(10) == 0
