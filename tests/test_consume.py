"""The queue of reports: read, committed, acknowledged, and set aside where it cannot be taken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, ProgrammingError, connection, transaction
from redis.exceptions import ResponseError

from controls import sweep
from controls.clock import now_ms
from controls.models import Beat
from instances import ingest, pump
from instances.models import Deadline, Event, QueuePause, TaskInstance, Trace
from instances.sources import RAW_BYTES, SourceAway, Standing
from instances.sources.streams import DEAD, GROUP, STREAM, RedisStream
from tests.servers import ROOT, until
from tower import metrics, redis
from tower.errors import Unavailable
from tower.schemas import STATUSES

pytestmark = pytest.mark.django_db(transaction=True)

NOW = 1_734_567_890_000


def event(event_id: str, task_id: str = "a", event_type: str = "STARTED", **more: Any) -> dict[str, Any]:
    body = {"event_id": event_id, "trace_id": "T", "task_id": task_id, "event_type": event_type}
    return body | {"timestamp_ms": NOW} | more


def stream() -> Any:
    """A client that answers bytes; ``Any``, since the library's types promise a coroutine or its value."""
    return redis.events()


def put(*entries: Any, **options: Any) -> list[str]:
    """Into the stream: DTOs, or raw bytes; the ids of the entries."""
    raws = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in entries]
    return [stream().xadd(STREAM, {"event": raw}, **options).decode() for raw in raws]


def a_stream(**options: Any) -> RedisStream:
    return RedisStream(redis.events, **{"wait_ms": 1, "idle_ms": 30_000} | options)


def a_pump(source: Any = None, **options: Any) -> pump.Pump:
    return pump.Pump(source or a_stream(**options), beat=lambda: None, stop=threading.Event())


def drain(one: pump.Pump | None = None) -> pump.Pump:
    """Read until there is nothing more; the first turn makes the group."""
    one = one or a_pump()
    one.turn()
    while one.turn():
        pass
    return one


def stored() -> list[str]:
    return sorted(Event.objects.values_list("event_id", flat=True))


def status_of(task_id: str) -> str:
    return str(STATUSES[TaskInstance._base_manager.get(id=task_id).status])


def letters() -> list[dict[str, str]]:
    return [
        {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        for _, fields in stream().xrange(DEAD)
    ]


def waiting() -> Standing:
    return a_stream().standing()


# -- what is taken


def test_reports_of_the_stream_are_folded_acknowledged_and_trimmed():
    put(event("e1"), event("e2", event_type="COMPLETED", timestamp_ms=NOW + 1))

    drain()

    assert stored() == ["e1", "e2"]
    assert status_of("a") == "SUCCESS"
    assert stream().xlen(STREAM) == 0
    assert (waiting().lag, waiting().pending, letters()) == (0, 0, [])


def test_what_waits_is_one_transaction():
    put(*(event(f"e{i}", f"t{i}") for i in range(1_200)))

    drain()

    assert Event.objects.count() == 1_200
    assert Trace.objects.get().seq == 1


def test_what_is_free_is_folded_before_a_run_that_another_holds():
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    put(event("e1", trace_id="held"), event("e2", trace_id="free"))
    drain()
    put(event("e3", trace_id="held"), event("e4", trace_id="free"))
    holds = threading.Event()

    def hold() -> None:
        with transaction.atomic():
            list(Trace.objects.select_for_update().filter(id="held"))
            holds.set()
            until(lambda: "e4" in stored(), "what is free is folded meanwhile")
        connection.close()

    other = threading.Thread(target=hold)
    other.start()
    assert holds.wait(20)
    drain()
    other.join(20)

    assert sorted(stored()) == ["e1", "e2", "e3", "e4"]
    assert letters() == []


def test_the_same_report_over_rest_and_over_the_queue_counts_once():
    ingest.ingest([event("e1")])
    put(event("e1"), event("e1"))

    drain()

    assert stored() == ["e1"]
    assert Trace.objects.get().seq == 1


def test_they_are_counted_as_of_the_queue():
    counter = metrics.EVENTS.labels("queue", "unattached")
    before = counter._value.get()
    put(event("e1"))

    drain()

    assert counter._value.get() == before + 1


def test_b70_more_fields_than_event_are_fine():
    stream().xadd(STREAM, {"sent_by": "x", "event": json.dumps(event("e1"))})

    drain()

    assert stored() == ["e1"]


def test_what_another_group_has_not_read_is_kept():
    client = stream()
    client.xgroup_create(STREAM, "archive", id="0", mkstream=True)
    ids = put(event("e1"), event("e2"), event("e3"))
    drain()
    assert client.xlen(STREAM) == 3

    client.xreadgroup("archive", "x", {STREAM: ">"})
    client.xack(STREAM, "archive", ids[0])
    put(event("e4"))
    drain()

    assert [id.decode() for id, _ in client.xrange(STREAM)][:2] == ids[1:]


# -- what cannot be


DEEP = b'{"x":' * 65 + b"1" + b"}" * 65


def changed(**more: Any) -> bytes:
    return json.dumps({k: v for k, v in (event("bad") | more).items() if v is not ...}).encode()


@pytest.mark.parametrize(
    ("raw", "code", "field"),
    [
        pytest.param(b"", "invalid_json", "", id="b1"),
        pytest.param(b"{", "invalid_json", "", id="b1_open"),
        pytest.param(b"\xff\xfe{", "invalid_json", "", id="b2"),
        pytest.param(b"null", "invalid_body", "event", id="b3"),
        pytest.param(b'[{"event_id": "x"}]', "invalid_body", "event", id="b70_list"),
        pytest.param(b"[]", "invalid_body", "event", id="b70_empty_list"),
        pytest.param(DEEP, "too_deep", None, id="b12"),
        pytest.param(b'{"x":' * 100_000, "too_deep", None, id="b12_whole"),
        pytest.param(
            changed(payload={"x": 1}).replace(b"1}", b"1e400}"), "number_out_of_range", "payload.x", id="b13"
        ),
        pytest.param(changed(payload={"x": 1 << 63}), "number_out_of_range", "payload.x", id="b14"),
        pytest.param(changed(payload={"x": "\0"}), "invalid_string", "payload.x", id="b16"),
        pytest.param(changed(payload={"x": "\ud800"}), "invalid_string", "payload.x", id="b17"),
        pytest.param(changed(payload={"x": "y" * (64 << 10)}), "too_large", "payload", id="b19"),
        pytest.param(changed(task_id=...), "missing_field", "task_id", id="b20"),
        pytest.param(changed(task_id="a b"), "invalid_id", "task_id", id="b22"),
        pytest.param(changed(task_id="global_action"), "reserved_id", "task_id", id="b23"),
        pytest.param(changed(event_type="started"), "unknown_enum", "event_type", id="b26"),
        pytest.param(changed(timestamp_ms=-1), "timestamp_out_of_range", "timestamp_ms", id="b27"),
        pytest.param(changed(timestamp_ms="5"), "invalid_type", "timestamp_ms", id="b28"),
        pytest.param(changed(payload=[]), "invalid_type", "payload", id="b36"),
        pytest.param(changed(payload={"attempt": 0}), "attempt_out_of_range", "payload.attempt", id="b38"),
        pytest.param(changed(payload={"message": 1}), "invalid_type", "payload.message", id="b39"),
    ],
)
def test_f17_an_entry_that_is_refused_is_a_dead_letter_and_its_neighbours_are_applied(raw, code, field):
    _, bad, _ = put(event("e1"), raw, event("e2"))

    drain()

    assert stored() == ["e1", "e2"]
    (letter,) = letters()
    assert (letter["id"], letter["code"], letter["deliveries"]) == (bad, code, "1")
    assert field is None or letter["field"] == field
    assert letter["raw"] == raw[:RAW_BYTES].decode(errors="replace")
    assert waiting().pending == 0


def test_b70_an_entry_without_the_field_event_is_a_dead_letter_that_shows_what_it_held():
    stream().xadd(STREAM, {"evnt": b'{"a": "\xff"}'})

    drain()

    (letter,) = letters()
    assert (letter["code"], letter["field"]) == ("missing_field", "event")
    assert json.loads(letter["raw"]) == {"evnt": '{"a": "\\xff"}'}


def test_f17_a_dead_letter_has_these_fields_and_keeps_so_much(settings):
    settings.TOWER_MAX_BODY_BYTES = 100 << 10
    put(b"[" * (101 << 10))

    drain()

    (letter,) = letters()
    assert list(letter) == ["id", "reason", "code", "field", "raw", "first_seen", "deliveries"]
    assert (letter["code"], len(letter["raw"])) == ("body_too_large", 64 << 10)
    assert letter["first_seen"].endswith("Z")


def test_a_report_that_the_tree_refuses_is_a_dead_letter(settings):
    settings.TOWER_MAX_TRACE_NODES = 2
    put(event("e1", "a"), event("e2", "b"), event("e3", "c"), event("e4", "a"))

    drain()

    assert stored() == ["e1", "e2", "e4"]
    assert [letter["code"] for letter in letters()] == ["tree_too_large"]


def test_dead_letters_are_counted_by_code():
    counter = metrics.DEAD_LETTERS.labels("invalid_json")
    before = counter._value.get()
    put(b"{", b"{")

    drain()

    assert counter._value.get() == before + 2


# -- who dies in between


class Killed(BaseException):
    """Nothing of ours runs after it, as after kill -9."""


def test_f2_what_was_committed_and_not_acknowledged_comes_again_and_changes_nothing(monkeypatch):
    source = a_stream(name="one")
    source.read(1)
    put(event("e1"))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(source, "acknowledge", killed)
        a_pump(source).turn()
    assert (stored(), Trace.objects.get().seq) == (["e1"], 1)
    assert waiting().pending == 1

    drain(a_pump(name="one"))

    assert (stored(), Trace.objects.get().seq) == (["e1"], 1)
    assert waiting().pending == 0


def killed(*_: Any, **__: Any) -> None:
    raise Killed


def test_f17_a_kill_between_the_dead_letter_and_the_acknowledgement_loses_nothing(monkeypatch):
    source = a_stream(name="one")
    source.read(1)
    put(b"{")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(source, "acknowledge", killed)
        a_pump(source).turn()

    assert (len(letters()), waiting().pending) == (1, 1)


def test_f21_what_a_dead_consumer_had_in_hand_is_another_s_when_it_has_lain_long_enough():
    dead = a_stream()
    dead.read(1)
    put(event("e1"), event("e2"))
    assert len(dead.read(10)) == 2

    drain(a_pump(idle_ms=60_000))
    assert stored() == []

    another = a_pump(idle_ms=1)
    until(lambda: another.turn() == 2, "the entries are claimed")
    assert stored() == ["e1", "e2"]


def test_f21_entries_deleted_meanwhile_are_counted_as_lost():
    dead = a_stream()
    dead.read(1)
    ids = put(event("e1"), event("e2"))
    assert len(dead.read(10)) == 2
    stream().xdel(STREAM, ids[0])
    before = metrics.QUEUE_LOST._value.get()

    another = a_pump(idle_ms=1)
    until(lambda: another.turn() == 1, "what is left is claimed")

    assert stored() == ["e2"]
    assert metrics.QUEUE_LOST._value.get() == before + 1


def test_unread_entries_that_a_producer_trimmed_are_counted_as_lost_once():
    drain()
    before = metrics.QUEUE_LOST._value.get()
    put(*(event(f"e{i}") for i in range(10)), maxlen=4, approximate=False)

    drain()
    drain()

    assert len(stored()) == 4
    assert metrics.QUEUE_LOST._value.get() == before + 6


def test_what_was_trimmed_before_the_tower_ever_read_is_not_called_lost():
    before = metrics.QUEUE_LOST._value.get()
    put(*(event(f"e{i}") for i in range(10)), maxlen=4, approximate=False)

    drain()

    assert len(stored()) == 4
    assert metrics.QUEUE_LOST._value.get() == before


def kills(monkeypatch: pytest.MonkeyPatch, event_id: str) -> list[int]:
    """From now on folding this report kills the consumer; the sizes of the batches it came in."""
    real, sizes = ingest.ingest_sent, list[int]()

    def fold(sent: Any, **options: Any) -> Any:
        if event_id in {one.report.event_id for one in sent}:
            sizes.append(len(sent))
            raise Killed
        return real(sent, **options)

    monkeypatch.setattr(ingest, "ingest_sent", fold)
    return sizes


def test_f19_an_entry_that_kills_the_process_is_set_aside_and_takes_no_other_with_it(monkeypatch):
    a_stream().read(1)
    put(*(event(f"e{i:02}") for i in range(60)))
    sizes = kills(monkeypatch, "e30")

    def consumed() -> bool:
        try:
            one = a_pump(idle_ms=1)
            while one.turn():
                pass
        except Killed:
            pass
        return bool(letters())

    until(consumed, "the killer is a dead letter", every=0.002)

    assert stored() == [f"e{i:02}" for i in range(60) if i != 30]
    (letter,) = letters()
    assert (letter["code"], letter["deliveries"]) == ("too_many_deliveries", "6")
    assert (len(sizes), sizes[0], sizes[-1]) == (5, 60, 1)


def test_a_consumer_inherits_at_once_what_one_of_its_name_had_in_hand():
    first = a_stream(name="one")
    first.read(1)
    put(event("e1"))
    assert len(first.read(10)) == 1

    second = a_stream(name="one").read(10)

    assert [entry.deliveries for entry in second] == [2]


def test_what_may_have_killed_it_is_not_inherited_at_once():
    # Five deaths within a minute would end `up`.
    a_stream().read(1)
    put(event("e1"))
    taken = [len(a_stream(name="one").read(10)) for _ in range(4)]

    assert taken == [1, 1, 1, 0]


# -- the database is away


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception, *, times: int) -> None:
    real, left = ingest.ingest_sent, [times]

    def fold(*args: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return real(*args, **options)

    monkeypatch.setattr(ingest, "ingest_sent", fold)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("server closed the connection unexpectedly"),
        OperationalError("database is locked"),
        ProgrammingError("column does not exist"),
        OSError(28, "No space left on device"),
    ],
)
def test_f4_a_database_that_is_away_never_counts_against_an_entry(monkeypatch, error):
    one = drain()
    put(event("e1"), event("e2"))
    fails(monkeypatch, error, times=8)

    for _ in range(8):
        with pytest.raises(Unavailable):
            one.turn()
        assert waiting().pending == 2
    drain(one)

    assert stored() == ["e1", "e2"]
    assert letters() == []


def test_f4_consumers_that_die_while_the_database_is_away_use_up_no_delivery(monkeypatch):
    drain()
    put(event("e1"))
    fails(monkeypatch, OperationalError("connection refused"), times=8)
    for _ in range(8):
        with pytest.raises(Unavailable):
            a_pump(name="one").turn()

    seen = a_stream(name="one").read(10)

    assert [entry.deliveries for entry in seen] == [1]


def test_f4_nothing_is_read_while_the_database_does_not_answer(monkeypatch):
    one = drain()
    put(event("e1"))

    def away() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(one, "beat", away)
    one._beaten_at = -10.0
    with pytest.raises(Unavailable):
        one.turn()

    assert (waiting().lag, waiting().pending) == (1, 0)


def test_a_transaction_that_takes_too_long_is_tried_in_halves(monkeypatch):
    real, sizes = ingest.ingest_sent, []

    def fold(sent: Any, **options: Any) -> Any:
        sizes.append(len(sent))
        if len(sent) > 2:
            raise Unavailable("slow", code="query_timeout")
        return real(sent, **options)

    monkeypatch.setattr(ingest, "ingest_sent", fold)
    put(*(event(f"e{i}") for i in range(8)))

    drain()

    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert len(stored()) == 8


def test_it_waits_a_second_at_least_and_with_jitter():
    waits = [pump._patience(tries) for tries in range(1, 50)]

    assert min(waits) >= 1
    assert max(waits) <= 3.5
    assert len(set(waits)) > 40


# -- Redis is away, full, or empty


def test_f3_a_redis_that_went_is_waited_for_and_then_read_again(valkey):
    one = drain()
    valkey.stop()
    with pytest.raises(SourceAway):
        one.turn()

    valkey.start()
    put(event("e1"))
    drain(one)

    assert stored() == ["e1"]


def test_f3_an_acknowledgement_that_redis_did_not_hear_is_said_again(valkey, monkeypatch):
    one = drain()
    put(event("e1"))
    real = ingest.ingest_sent

    def and_then_redis_hangs(*args: Any, **options: Any) -> Any:
        report = real(*args, **options)
        valkey.freeze()
        return report

    monkeypatch.setattr(ingest, "ingest_sent", and_then_redis_hangs)
    with pytest.raises(SourceAway):
        one.turn()
    valkey.thaw()

    until(lambda: one.turn() == 0 and waiting().pending == 0, "it is acknowledged")
    assert stored() == ["e1"]


def test_what_redis_handed_out_without_being_heard_comes_again_uncounted():
    source = a_stream()
    source.read(1)
    put(event("e1"))
    unheard = stream().xreadgroup(GROUP, source.consumer, {STREAM: ">"})
    source._unsure = True  # as after an answer that never came

    found = source.read(10)

    assert [entry.id for entry in found] == [unheard[0][1][0][0].decode()]
    assert found[0].deliveries == 1


def test_f6_the_group_is_made_anew_where_redis_came_back_empty():
    one = drain()
    stream().flushall()
    put(event("e1"))

    drain(one)

    assert stored() == ["e1"]


@pytest.fixture
def full_redis():
    client = stream()
    yield lambda: client.config_set("maxmemory", "1mb")
    client.config_set("maxmemory", "0")


def test_f8_a_full_redis_still_keeps_dead_letters_and_hands_out_entries(full_redis):
    put(b"{", event("e1"))
    full_redis()
    with pytest.raises(ResponseError, match="memory"):
        put(event("e2"))

    drain()

    assert stored() == ["e1"]
    assert [letter["code"] for letter in letters()] == ["invalid_json"]
    assert stream().xlen(STREAM) == 0


def test_f8_a_dead_letter_that_cannot_be_kept_stays_pending_and_holds_up_no_other():
    one = a_pump(idle_ms=1)
    one.turn()
    stream().set(DEAD, "somebody else's")
    put(b"{", event("e1"))

    for _ in range(8):
        one.turn()
    assert stored() == ["e1"]
    assert stream().xpending(STREAM, GROUP)["pending"] == 1

    stream().delete(DEAD)
    until(lambda: one.turn() or letters(), "it is kept", every=0.002)
    assert [letter["code"] for letter in letters()] == ["invalid_json"]


# -- the fold raises


def raises(monkeypatch: pytest.MonkeyPatch, bad: Callable[[str], bool]) -> list[int]:
    real, sizes = ingest.ingest_sent, list[int]()

    def fold(sent: Any, **options: Any) -> Any:
        sizes.append(len(sent))
        if any(bad(one.report.event_id) for one in sent):
            raise ValueError("boom\nat this entry")
        return real(sent, **options)

    monkeypatch.setattr(ingest, "ingest_sent", fold)
    return sizes


def test_f18_an_entry_that_makes_the_fold_raise_is_found_by_halving(monkeypatch):
    put(*(event(f"e{i}") for i in range(8)))
    sizes = raises(monkeypatch, lambda id: id == "e5")

    drain()

    assert stored() == [f"e{i}" for i in range(8) if i != 5]
    (letter,) = letters()
    assert (letter["code"], letter["reason"]) == ("fold_failed", "ValueError: boom\nat this entry")
    assert sizes == [8, 4, 4, 2, 1, 1, 2]


def test_f18_a_signal_ends_the_halving_and_gives_the_rest_back(monkeypatch):
    one = drain()
    put(*(event(f"e{i}") for i in range(8)))
    raises(monkeypatch, lambda id: one.stop.set() or True)  # type: ignore[func-returns-value]

    one.turn()

    assert (stored(), letters(), waiting().pending) == ([], [], 8)
    assert [entry.deliveries for entry in a_stream(idle_ms=30_000).read(10)] == [1] * 8


# -- most of it is bad


def test_f20_where_most_is_bad_it_stops_reading_until_it_is_let_go_on(capsys):
    put(*[b"{"] * 200)
    one = drain()

    assert len(letters()) == 100
    assert waiting().pending == 100
    assert QueuePause.objects.get().dead == 100
    put(event("e1"))
    one.stop.set()  # a turn that is paused waits for it
    assert one.turn() == 0
    assert stored() == []

    call_command("consume", "--resume")
    assert "go on" in capsys.readouterr().out
    drain(one)

    assert len(letters()) == 200
    assert stored() == ["e1"]


def test_f20_what_comes_after_the_resumption_is_watched_again():
    one = drain()
    pump.pause(seen=100, dead=100)
    assert pump.resume()
    resumed_ms = QueuePause.objects.get().resumed_ms or 0
    until(lambda: ingest.now_ms() > resumed_ms, "a millisecond has passed")

    put(*[b"{"] * 150)
    drain(one)

    assert len(letters()) == 100
    assert QueuePause.objects.get().resumed_ms is None


def test_f20_a_wrong_deploy_that_fails_every_fold_ends_there_too(monkeypatch):
    put(*(event(f"e{i:03}") for i in range(400)))
    raises(monkeypatch, lambda id: True)

    drain()

    assert len(letters()) == 100
    assert waiting().pending == 300


def test_f20_half_bad_or_few_is_no_reason_to_stop():
    put(*[b"{"] * 99)
    drain()
    put(*(event(f"e{i}") for i in range(100)), *[b"{"] * 100)
    drain()

    assert len(letters()) == 199
    assert not QueuePause.objects.exists()


def test_resume_says_where_there_was_nothing_to_resume(capsys):
    call_command("consume", "--resume")

    assert "had not stopped" in capsys.readouterr().out


# -- deaf time


def a_deadline(due_ms: int) -> Deadline:
    return Deadline.objects.create(task=1, trace=1, kind=0, due_ms=due_ms)


def a_queue(*, oldest_ms: int) -> RedisStream:
    """A queue of which only the age of its oldest entry is asked."""
    queue = a_stream()
    queue.standing = lambda: Standing(lag=1, oldest_ms=oldest_ms)  # type: ignore[method-assign]
    return queue


def test_f15_no_deadline_is_looked_at_while_reports_wait_unread():
    deadline = a_deadline(now_ms() + 5)
    sweep.hear(a_queue(oldest_ms=31_000))

    until(lambda: now_ms() > deadline.due_ms, "it is due")
    assert sweep.expire() is False
    assert Deadline.objects.count() == 1

    sweep.hear(a_queue(oldest_ms=10))
    moved = Deadline.objects.get().due_ms - deadline.due_ms
    assert moved >= sweep.DEAF_MS
    assert not sweep.unheard()


def test_f15_a_backlog_in_time_stops_no_clock():
    a_deadline(now_ms() - 1)

    sweep.hear(a_queue(oldest_ms=29_000))
    sweep.expire()

    assert Deadline.objects.count() == 0


def test_f15_time_in_which_nobody_swept_is_not_counted_out_twice():
    now = now_ms()
    deadline = a_deadline(now + 10_000)
    Beat.objects.create(role=sweep.ROLE, at_ms=now - 3_600_000)
    sweep.hear(a_queue(oldest_ms=3_600_000))

    sweep.beat()
    assert Deadline.objects.get().due_ms == deadline.due_ms
    sweep.hear(a_queue(oldest_ms=0))

    assert sweep.DEAF_MS <= Deadline.objects.get().due_ms - deadline.due_ms < 3_600_000


def test_f15_a_real_stream_that_nobody_reads_is_unheard_until_it_is_folded():
    drain()
    stream().xadd(STREAM, {"event": json.dumps(event("e1"))}, id=f"{now_ms() - 40_000}-0")
    queue = a_stream()
    sweep.hear(queue)
    assert sweep.unheard()

    drain()
    sweep.hear(queue)

    assert not sweep.unheard()


# -- the process


@pytest.fixture
def consume(suite_database, tmp_path):
    """Starts ``manage.py consume`` on the database and the Valkey of this suite."""
    environment = os.environ | {
        "DATABASE_URL": suite_database,
        "DJANGO_SETTINGS_MODULE": "tower.settings",
        "TOWER_HOME": str(tmp_path),
    }
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen([sys.executable, "manage.py", "consume"], cwd=ROOT, env=environment))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f5_the_consumer_reads_beats_and_leaves_at_a_signal(consume, number):
    put(event("e1"))
    process = consume()
    until(lambda: stored() == ["e1"], "the report is folded")
    until(lambda: Beat.objects.filter(role="consumer").exists(), "it beats")
    assert waiting().consumers == 1

    process.send_signal(number)

    assert process.wait(10) == 0
    assert stream().xinfo_consumers(STREAM, GROUP) == []


def test_f1_a_killed_consumer_s_successor_takes_up_what_it_had_in_hand(consume):
    process = consume()
    until(lambda: waiting().consumers == 1, "it reads")
    (name,) = [one["name"].decode() for one in stream().xinfo_consumers(STREAM, GROUP)]
    process.kill()
    process.wait()
    put(event("e1"))
    stream().xreadgroup(GROUP, name, {STREAM: ">"})  # what it read last, and died

    consume()

    until(lambda: stored() == ["e1"], "the report is folded", seconds=20)


def test_two_consumers_share_the_queue_and_none_is_stored_twice(consume):
    consume()
    consume()
    until(lambda: waiting().consumers == 2, "both read")

    put(*(event(f"e{i}", f"t{i % 7}") for i in range(2_000)))

    until(lambda: waiting().lag + waiting().pending == 0, "all is folded")
    assert Event.objects.count() == 2_000
    assert letters() == []
