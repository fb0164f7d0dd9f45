"""Registrations, reports and attachments that race a CANCEL: none lets a task escape (architecture.md, 6).

On PostgreSQL every pair of transactions may interleave; on SQLite there is one
writer, and the same holds because they take turns.
"""

from __future__ import annotations

import random
import threading

import pytest
from django.db import connection, connections, transaction

from controls import sweep
from controls.clock import now_ms
from controls.issue import issue
from instances import ingest
from instances.models import Intent, TaskInstance, Trace
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)

CANCELLED, ENDED = 4, range(2, 6)
ROUNDS = 8


def register(*tasks, trace_id="T"):
    base = {"trace_id": trace_id, "job_id": "job", "actor_type": "AGENT"}
    report = ingest.register([base | dict(zip(("id", "parent_id"), task, strict=False)) for task in tasks])
    assert not report.rejected
    return report


def started(*ids, trace_id="T", ms=1):
    base = {"trace_id": trace_id, "event_type": "STARTED", "timestamp_ms": ms}
    report = ingest.ingest([base | {"event_id": f"{id}-s", "task_id": id} for id in ids])
    assert not report.rejected


def cancel(task_id=None):
    return issue("T", ControlAction.CANCEL, task_id=task_id, triggered_by="li.wei")


def side_by_side(*calls):
    """Each call in a thread of its own, let go together; an exception of any fails the test."""
    barrier, errors = threading.Barrier(len(calls)), []

    def run(call):
        try:
            barrier.wait()
            call()
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def sweep_to_the_end():
    while sweep.sweep_cancels():
        pass
    ingest.expire(now_ms() + 3_600_000)


def free(below):
    """Ids of open tasks at and below these places."""
    nodes = list(TaskInstance._base_manager.values_list("key", "parent_id", "id", "status"))
    covered = {key for key, _, id, _ in nodes if id in below}
    while more := {key for key, parent, _, _ in nodes if parent in covered} - covered:
        covered |= more
    return sorted(id for key, _, id, status in nodes if key in covered and status not in ENDED)


def counts_agree():
    trace = Trace.objects.get(id="T")
    stored = [trace.pending, trace.running, trace.success, trace.failed, trace.cancelled, trace.skipped]
    statuses = list(TaskInstance._base_manager.values_list("status", flat=True))
    return stored == [statuses.count(status) for status in range(6)]


@pytest.mark.parametrize("target", [None, "top"])
@pytest.mark.parametrize("round_", range(ROUNDS))
def test_no_child_that_is_registered_while_a_cancel_comes_escapes_it(target, round_):
    register(("root",), ("top", "root"))
    started("root", "top")
    rng = random.Random(round_)

    def spawn(worker):
        known = ["top"]
        for i in range(4):
            batch = [(f"w{worker}-{i}-{j}", rng.choice(known)) for j in range(5)]
            register(*batch)
            started(*[id for id, _ in batch[::2]], ms=i + 2)
            known += [id for id, _ in batch]

    side_by_side(*(lambda worker=worker: spawn(worker) for worker in range(4)), lambda: cancel(target))
    sweep_to_the_end()

    assert free({"top"} if target else {"root"}) == []
    assert counts_agree()
    assert all(Intent.objects.values_list("swept", flat=True))


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_no_task_that_is_attached_while_a_cancel_of_the_branch_comes_escapes_it(round_):
    """Each task reports before anybody has said where it hangs; below each hang others."""
    register(("root",), ("top", "root"))
    started("root", "top")
    loose = [f"l{i}" for i in range(12)]
    started(*loose)
    register(*[(f"{id}-kid", id) for id in loose])
    random.Random(round_).shuffle(loose)

    def attach(ids):
        for id in ids:
            register((id, "top"))

    side_by_side(lambda: attach(loose[:6]), lambda: attach(loose[6:]), lambda: cancel("top"))
    sweep_to_the_end()

    assert free({"top"}) == []
    assert counts_agree()


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_what_was_pending_when_the_cancel_was_taken_never_runs(round_):
    """Its first report comes between the cancel and its sweep, and changes nothing."""
    kids = [f"k{i}" for i in range(10)]
    register(("root",), *[(kid, "root") for kid in kids])
    cancel()

    side_by_side(*(lambda kid=kid: started(kid) for kid in kids[:5]), sweep.sweep_cancels)
    sweep_to_the_end()

    stored = dict(TaskInstance._base_manager.values_list("id", "status"))
    assert {stored[kid] for kid in kids} == {CANCELLED}
    assert all(
        started_ms is None for started_ms in TaskInstance._base_manager.values_list("started_ms", flat=True)
    )
    assert counts_agree()


def test_a_control_waits_for_no_ingest():
    """The ledger's row is all that it locks: a batch that holds the trace's row does not hold it up."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer")
    register(("root",))
    started("root")
    answers = []

    def ask():
        answers.append(cancel())
        connections.close_all()

    with transaction.atomic():
        list(Trace.objects.select_for_update().filter(id="T"))
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(5)

        assert [answer.delivered for answer in answers] == [True]
