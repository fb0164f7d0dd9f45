"""The door of controls: what is taken, numbered, recorded and delivered."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest
from django.db import connections

from controls import issue as door
from controls import reach
from controls.issue import ControlRefused, issue
from controls.models import ControlRecord
from controls.store import Delivery, MemoryStore, RedisStore, store
from instances.models import Intent, IntentLedger, TaskInstance, Trace
from tests.trees import a_tree
from tower import redis
from tower.errors import Conflict, NotFound
from tower.marks import iso
from tower.schemas import ACTIONS, ControlAction

RUN, PAUSE, CANCEL = ControlAction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tree():
    return a_tree("root:RUNNING(a:RUNNING(b c:SUCCESS) d:SUCCESS)")


def ask(tree, action, task_id=None, **more):
    return issue(tree.id, action, task_id=task_id, triggered_by="li.wei", **more)


def in_redis(tree):
    return redis.client().hgetall(f"cmd:instance:{tree.id}")


def intent(tree, target=""):
    return Intent.objects.get(trace=tree.number, target=target)


def at_once(*calls):
    """Run each call in a thread of its own, all starting together; what each returned or raised."""
    barrier = threading.Barrier(len(calls))
    answers: list[Any] = [None] * len(calls)

    def run(at, call):
        barrier.wait()
        try:
            answers[at] = call()
        except Exception as error:
            answers[at] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


# -- taken


def test_a_control_is_audited_kept_as_intent_and_delivered(tree):
    issued = ask(tree, PAUSE, reason="rate limit")

    assert (issued.created, issued.delivered) == (True, True)
    assert in_redis(tree) == {"global_action": "PAUSE", "#global_action": "1"}
    record = ControlRecord.objects.get()
    assert (record.outcome, record.intent_number, record.reason) == ("taken", 1, "rate limit")
    assert record.delivered_ms is not None
    assert record.delivered_ms >= record.created_ms
    stands = intent(tree)
    assert ACTIONS[stands.action] is PAUSE
    assert (stands.number, stands.delivered_number, stands.control_id) == (1, 1, record.id)


def test_a_control_is_published_as_its_control_event(tree, monkeypatch):
    memory = MemoryStore()
    monkeypatch.setattr(door, "store", lambda: memory)

    issued = ask(tree, PAUSE, "a", control_id="c1")

    [(channel, event)] = memory.published
    assert channel == f"cmd:instance:{tree.id}"
    assert orjson.loads(event) == {
        "id": "c1",
        "trace_id": tree.id,
        "task_id": "a",
        "action": "PAUSE",
        "triggered_by": "li.wei",
        "created_at": iso(issued.record.created_ms),
    }


def test_a_control_changes_no_status_and_raises_no_seq(tree):
    before = list(TaskInstance._base_manager.values()), Trace.objects.values().get()

    ask(tree, PAUSE)
    ask(tree, CANCEL, "a")

    assert (list(TaskInstance._base_manager.values()), Trace.objects.values().get()) == before


def test_controls_of_a_trace_are_numbered_one_after_the_other(tree):
    numbers = [
        ask(tree, action, target).record.intent_number
        for action, target in [(PAUSE, None), (PAUSE, "a"), (RUN, None), (CANCEL, "a")]
    ]

    assert numbers == [1, 2, 3, 4]
    assert in_redis(tree) == {"global_action": "RUN", "#global_action": "3", "a": "CANCEL", "#a": "4"}
    assert IntentLedger.objects.get(trace=tree.number).last_number == 4


def test_a_first_cancel_remembers_the_seq_and_the_clock_and_a_second_one_keeps_them(tree):
    ask(tree, PAUSE)
    first = ask(tree, CANCEL)
    tree.grow("root", "late")
    Intent.objects.update(swept=True)

    second = ask(tree, CANCEL)

    stands = intent(tree)
    assert (stands.number, stands.control_id) == (3, second.record.id)
    assert (stands.cancel_seq, stands.cancel_ms) == (tree.seq - 1, first.record.created_ms)
    assert stands.swept is False


def test_b54_a_repeated_cancel_or_pause_is_taken_and_delivered_again(tree, monkeypatch):
    memory = MemoryStore()
    monkeypatch.setattr(door, "store", lambda: memory)

    for action in (PAUSE, PAUSE, CANCEL, CANCEL):
        assert ask(tree, action).delivered is True

    assert [orjson.loads(event)["action"] for _, event in memory.published] == 2 * ["PAUSE"] + 2 * ["CANCEL"]


@pytest.mark.parametrize(
    ("target", "pending", "running"), [(None, 1, 2), ("root", 1, 2), ("a", 1, 1), ("b", 1, 0)]
)
def test_affected_counts_what_is_open_at_the_place_and_below(tree, target, pending, running):
    issued = ask(tree, PAUSE, target)

    assert issued.affected.as_json() == {"pending": pending, "running": running}


def test_a_branch_is_counted_up_to_a_cap(tree, monkeypatch):
    many = " ".join(f"k{i}" for i in range(reach.CAP + 1))
    tree.grow("b", many)

    whole, branch = ask(tree, PAUSE), ask(tree, PAUSE, "root")

    assert whole.affected.as_json() == {"pending": reach.CAP + 2, "running": 2}
    assert branch.affected.as_json() == {"pending": "10000+", "running": 2}


def test_open_children_of_an_ended_task_are_still_reached(tree):
    tree.grow("d", "e")

    assert ask(tree, CANCEL, "d").affected.as_json() == {"pending": 1, "running": 0}


def test_an_unattached_task_is_a_place_too_under_the_whole_trees_controls(tree):
    tree.grow(None, "stray:RUNNING", registered=False)

    assert ask(tree, PAUSE, "stray").affected.as_json() == {"pending": 0, "running": 1}
    ask(tree, CANCEL)
    with pytest.raises(ControlRefused) as refused:
        ask(tree, RUN, "stray")
    assert refused.value.code == "cancelled"


# -- refused


@pytest.mark.parametrize("action", [CANCEL, PAUSE])
@pytest.mark.parametrize("target", ["d", "c"])
def test_b53_what_has_ended_takes_no_cancel_and_no_pause(tree, action, target):
    with pytest.raises(ControlRefused) as refused:
        ask(tree, action, target)

    assert (refused.value.code, refused.value.http_status) == ("already_ended", 409)
    record = ControlRecord.objects.get()
    assert (record.outcome, record.intent_number, record.delivered_ms) == ("already_ended", None, None)
    assert in_redis(tree) == {}
    assert not Intent.objects.exists()


@pytest.mark.parametrize("action", [PAUSE, RUN])
@pytest.mark.parametrize("target", [None, "a", "b"])
def test_b54_under_a_cancel_nothing_is_paused_or_run(tree, action, target):
    ask(tree, CANCEL)

    with pytest.raises(ControlRefused) as refused:
        ask(tree, action, target)

    assert refused.value.code == "cancelled"
    assert IntentLedger.objects.get(trace=tree.number).last_number == 1


def test_b54_a_run_names_the_ancestor_that_holds(tree):
    ask(tree, PAUSE, "root")

    with pytest.raises(ControlRefused) as refused:
        ask(tree, RUN, "b")

    assert (refused.value.code, refused.value.details) == ("not_paused_here", {"held_by": "root"})
    assert ControlRecord.objects.get(outcome="not_paused_here").held_by == "root"


@pytest.mark.parametrize(("trace_id", "task_id"), [("nobody", None), ("nobody", "a"), (None, "nobody")])
def test_b52_an_unknown_trace_or_task_is_not_found_and_leaves_no_row(tree, trace_id, task_id):
    with pytest.raises(NotFound):
        issue(trace_id or tree.id, PAUSE, task_id=task_id, triggered_by="li.wei")

    assert not ControlRecord.objects.exists()


def test_a_pause_is_lifted_where_it_was_put_even_after_all_below_has_ended(tree):
    ask(tree, PAUSE, "a")
    tree.change(["a", "b"], status=2)

    assert ask(tree, RUN, "a").created is True


# -- again


def test_b55_the_same_id_and_body_gives_the_first_answer_and_does_nothing(tree):
    first = ask(tree, PAUSE, "a", control_id="c1", reason="why")

    again = ask(tree, PAUSE, "a", control_id="c1", reason="why")

    assert (again.created, again.delivered) == (False, True)
    assert again.record.pk == first.record.pk
    assert again.affected == first.affected
    assert IntentLedger.objects.get(trace=tree.number).last_number == 1


@pytest.mark.parametrize(
    "other", [{"action": CANCEL}, {"task_id": "b"}, {"reason": "other"}, {"on_behalf_of": "chen"}]
)
def test_b55_the_same_id_with_another_body_is_a_conflict(tree, other):
    body: dict[str, Any] = {"action": PAUSE, "task_id": "a", "control_id": "c1", "triggered_by": "li.wei"}
    issue(tree.id, **body)

    with pytest.raises(Conflict) as refused:
        issue(tree.id, **body | other)

    assert (refused.value.code, refused.value.http_status) == ("conflict", 409)
    assert ControlRecord.objects.count() == 1


def test_b55_a_refusal_is_repeated_too(tree):
    ask(tree, PAUSE)
    answers = []
    for _ in range(2):
        with pytest.raises(ControlRefused) as refused:
            ask(tree, RUN, "b", control_id="c1")
        answers.append((refused.value.code, refused.value.details))

    assert answers == 2 * [("not_paused_here", {"held_by": "global_action"})]
    assert ControlRecord.objects.count() == 2


def test_p17_of_two_that_ask_at_once_with_one_id_one_does_it(tree):
    answers = at_once(*4 * [lambda: ask(tree, PAUSE, control_id="c1")])

    assert sorted(answer.created for answer in answers) == [False, False, False, True]
    assert ControlRecord.objects.count() == 1


def test_p17_one_id_asked_at_once_for_two_traces_is_a_conflict_for_one(tree):
    other = a_tree("root:RUNNING")

    answers = at_once(
        *(lambda at=at: issue(at, PAUSE, control_id="c1", triggered_by="x") for at in 2 * [tree.id, other.id])
    )

    assert sum(isinstance(answer, Conflict) for answer in answers) == 2
    assert sum(getattr(answer, "created", False) for answer in answers) == 1


def test_controls_that_are_asked_at_once_get_a_number_each_and_the_last_one_stands(tree):
    answers = at_once(*(lambda action=action: ask(tree, action) for action in 4 * [PAUSE, CANCEL]))

    taken = [answer.record for answer in answers if not isinstance(answer, Exception)]
    refused = [answer.code for answer in answers if isinstance(answer, ControlRefused)]
    assert len(taken) + len(refused) == len(answers)
    assert sorted(record.intent_number for record in taken) == list(range(1, len(taken) + 1))
    assert set(refused) <= {"cancelled"}
    assert in_redis(tree) == {"global_action": "CANCEL", "#global_action": str(intent(tree).number)}


# -- delivery


def test_f3_redis_away_the_control_is_taken_and_says_that_it_waits(tree, valkey):
    valkey.stop()

    issued = ask(tree, CANCEL)

    assert (issued.created, issued.delivered) == (True, False)
    stands = intent(tree)
    assert (stands.number, stands.delivered_number) == (1, 0)
    assert ControlRecord.objects.get().delivered_ms is None


def test_f23_a_request_that_delivers_late_does_not_overrule_a_later_control(tree, monkeypatch):
    """PAUSE commits first and reaches Redis after RUN has."""
    late: list[Delivery] = []
    with monkeypatch.context() as patch:
        patch.setattr(RedisStore, "put", lambda self, delivery: late.append(delivery))
        ask(tree, PAUSE)

    ask(tree, RUN)
    store().put(late[0])

    assert in_redis(tree) == {"global_action": "RUN", "#global_action": "2"}
    assert intent(tree).delivered_number == 2


def test_a_control_that_was_overruled_before_it_was_delivered_does_not_stay_undelivered(tree, valkey):
    valkey.stop()
    first = ask(tree, PAUSE)
    valkey.start()

    ask(tree, RUN)

    first.record.refresh_from_db()
    assert first.record.delivered_ms is not None


def test_b62_what_was_asked_without_the_right_is_in_the_audit(tree):
    door.refuse_unseen(tree.id, CANCEL, task_id="a", reason="", triggered_by="viewer")
    door.refuse_unseen("nobody", CANCEL, task_id=None, reason="", triggered_by="viewer")

    record = ControlRecord.objects.get()
    assert (record.outcome, record.triggered_by, record.intent_number) == ("forbidden", "viewer", None)


def test_the_audit_is_append_only(tree):
    record = ask(tree, PAUSE).record

    with pytest.raises(TypeError):
        record.delete()
