"""What every kind of queue does, whatever is behind it: a stream, the mock of a cluster, a real broker."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from django.db import OperationalError

from instances import ingest, pump
from instances.models import Event, Trace
from instances.sources import RAW_BYTES, DeadLetter, Entry, EventSource, SourceAway
from tests.servers import until
from tower.errors import Unavailable

NOW = 1_734_567_890_000


def got(source: EventSource, count: int, *, most: int = 5_000) -> list[Entry]:
    """So many entries, of as many reads as it takes."""
    found: list[Entry] = []

    def enough() -> bool:
        found.extend(source.read(most))
        return len(found) >= count

    until(enough, f"{count} entries", every=0)
    return found


def raws(entries: Sequence[Entry]) -> list[bytes]:
    return [entry.raw for entry in entries]


def nothing_waits(source: EventSource) -> bool:
    waits = source.standing()
    return (waits.lag, waits.pending) == (0, 0)


# -- reading and acknowledging


def test_what_was_put_is_read_in_order_and_once(queue):
    source = queue.source()
    queue.put(b"1", b"2", b"3", key="T")

    found = got(source, 3)
    source.acknowledge(found)

    assert raws(found) == [b"1", b"2", b"3"]
    assert [entry.deliveries for entry in found] == [1, 1, 1]
    assert all(entry.complete for entry in found)
    assert len({entry.id for entry in found}) == 3
    assert source.read(10) == []
    assert nothing_waits(source)


def test_what_was_put_before_anybody_read_is_read(queue):
    queue.put(b"1")

    assert raws(got(queue.source(), 1)) == [b"1"]


def test_an_entry_says_when_the_queue_took_it(queue):
    before = ingest.now_ms()
    queue.put(b"1")

    (entry,) = got(queue.source(), 1)

    assert before - 1_000 <= entry.put_ms <= ingest.now_ms() + 1_000


def test_a_read_gives_no_more_than_is_asked_for(queue):
    source = queue.source()
    queue.put(*(str(i).encode() for i in range(10)), key="T")

    found = got(source, 3, most=3)

    assert raws(found) == [b"0", b"1", b"2"]
    source.acknowledge(found)
    assert raws(got(source, 3, most=3)) == [b"3", b"4", b"5"]


def test_an_entry_without_a_report_shows_what_it_held(queue):
    queue.put_without_report()

    (entry,) = got(queue.source(), 1)

    assert not entry.complete
    assert isinstance(json.loads(entry.raw), dict)


def test_acknowledging_twice_or_nothing_is_fine(queue):
    source = queue.source()
    queue.put(b"1")
    found = got(source, 1)

    source.acknowledge(found)
    source.acknowledge(found)
    source.acknowledge([])

    assert nothing_waits(source)


def test_what_is_acknowledged_out_of_order_is_not_read_again(queue):
    source = queue.source()
    queue.put(b"1", b"2", b"3", key="T")
    first, second, third = got(source, 3)

    source.acknowledge([third])
    source.acknowledge([first])
    assert source.read(10) == []
    source.acknowledge([second])

    assert nothing_waits(source)


# -- consumers that die, and those that leave


def test_f21_what_a_dead_consumer_had_in_hand_is_another_s(queue):
    dead = queue.source()
    queue.put(b"1", b"2", key="T")
    got(dead, 2)
    queue.kill(dead)

    found = got(queue.source(), 2)

    assert raws(found) == [b"1", b"2"]
    assert [entry.deliveries for entry in found] == [2, 2]


def test_what_was_acknowledged_before_a_death_is_not_read_again(queue):
    dead = queue.source()
    queue.put(b"1", b"2", b"3", key="T")
    dead.acknowledge(got(dead, 3)[:2])
    queue.kill(dead)

    assert raws(got(queue.source(), 1)) == [b"3"]


def test_f19_an_entry_that_kills_its_readers_comes_with_few_others_and_at_last_alone(queue):
    queue.put(*(f"{i}".encode() for i in range(40)), key="T")
    sizes: list[tuple[int, int]] = []
    alive: list[bytes] = []
    poison: Entry | None = None
    while poison is None:
        source = queue.source()
        while True:
            found = source.read(5_000)
            if any(entry.raw == b"7" for entry in found):
                break
            source.acknowledge(found)
            alive += raws(found)
        sizes.append((len(found), found[0].deliveries))
        if found[0].deliveries > 5:
            (poison,) = found
        queue.kill(source)

    assert sizes[0] == (40, 1)
    assert [deliveries for _, deliveries in sizes] == [1, 2, 3, 4, 5, 6]
    assert [size for size, _ in sizes][3:] == [20, 1, 1]
    assert poison.raw == b"7"
    assert len(alive) == len(set(alive))


def test_what_comes_beside_and_behind_a_killer_is_read_all_the_same(queue):
    queue.put(*(f"{i}".encode() for i in range(30)), key="T")
    for _ in range(4):
        source = queue.source()
        got(source, 1)
        queue.kill(source)
    source = queue.source()

    seen: list[bytes] = []

    def read_all() -> bool:
        found = source.read(5_000)
        assert len(found) <= 20
        source.acknowledge(found)
        seen.extend(raws(found))
        return len(seen) >= 30

    until(read_all, "all are read", every=0)
    assert sorted(seen) == sorted(f"{i}".encode() for i in range(30))


def test_one_that_leaves_loses_nothing(queue):
    leaving = queue.source(idle_ms=1)
    queue.put(b"1", b"2", key="T")
    leaving.acknowledge(got(leaving, 2)[:1])

    leaving.close()

    assert raws(got(queue.source(idle_ms=1), 1)) == [b"2"]


def test_leaving_without_ever_having_read_is_fine(queue):
    queue.source().close()


def test_two_share_it_and_nothing_is_read_twice(queue):
    sources = [queue.source(), queue.source()]
    for number in range(60):
        queue.put(f"{number}".encode(), key=f"t{number}")
    seen: list[bytes] = []

    def read_all() -> bool:
        for source in sources:
            found = source.read(7)
            source.acknowledge(found)
            seen.extend(raws(found))
        return len(seen) >= 60

    until(read_all, "all are read", every=0)
    assert sorted(seen) == sorted(f"{i}".encode() for i in range(60))


# -- given back


def test_what_is_given_back_comes_again_at_once_in_order_and_uncounted(queue):
    source = queue.source()
    queue.put(b"1", b"2", b"3", key="T")
    first, *rest = got(source, 3)

    source.acknowledge([first])
    source.release(rest, at_once=True)
    again = got(source, 2)

    assert raws(again) == [b"2", b"3"]
    assert [entry.deliveries for entry in again] == [1, 1]


def test_what_was_given_back_before_a_death_was_not_handed_out(queue):
    source = queue.source(idle_ms=1)
    queue.put(b"1")
    source.release(got(source, 1), at_once=True)
    queue.kill(source)

    (entry,) = got(queue.source(idle_ms=1), 1)

    assert entry.deliveries == 1


def test_what_is_given_back_for_later_holds_up_no_other(queue):
    source = queue.source()
    queue.put(b"1", b"2", key="T")
    first, second = got(source, 2)
    source.acknowledge([second])

    source.release([first], at_once=False)
    queue.put(b"3", key="T")

    found = got(source, 1)
    assert raws(found) == [b"3"]
    source.acknowledge(found)
    assert source.standing().pending + source.standing().lag > 0


def test_what_is_given_back_for_later_comes_when_it_has_lain(queue):
    source = queue.source(idle_ms=1)
    queue.put(b"1")

    source.release(got(source, 1), at_once=False)

    assert raws(got(source, 1)) == [b"1"]


# -- dead letters


def test_f17_a_dead_letter_keeps_what_was_sent_and_why_it_was_not_taken(queue):
    source = queue.source()
    queue.put(b"{\xff" + b"x" * RAW_BYTES)
    (entry,) = got(source, 1)

    source.bury([DeadLetter(entry, "It is no JSON, ähem.", "invalid_json", "payload.x")])
    source.acknowledge([entry])

    (letter,) = queue.letters()
    assert sorted(letter) == ["code", "deliveries", "field", "first_seen", "id", "raw", "reason"]
    assert (letter["id"], letter["code"], letter["field"]) == (entry.id, "invalid_json", "payload.x")
    assert (letter["reason"], letter["deliveries"]) == ("It is no JSON, ähem.", "1")
    assert letter["raw"] == entry.raw[:RAW_BYTES].decode(errors="replace")
    assert letter["first_seen"].endswith("Z")
    assert nothing_waits(source)


def test_many_letters_are_kept_at_once(queue):
    source = queue.source()
    queue.put(*(f"{i}".encode() for i in range(150)), key="T")
    found = got(source, 150)

    source.bury([DeadLetter(entry, "no", "invalid_json") for entry in found])

    assert [letter["id"] for letter in queue.letters()] == [entry.id for entry in found]


# -- what waits


def test_what_waits_is_told_to_somebody_who_does_not_read(queue):
    source = queue.source()
    queue.put(*(f"{i}".encode() for i in range(5)), key="T")

    until(lambda: source.standing().lag == 5, "they are counted", every=0.01)
    assert source.standing().pending == 0
    got(source, 2, most=2)

    waits = source.standing()
    assert (waits.lag, waits.pending) == (3, 2)
    before = waits.oldest_ms
    until(lambda: source.standing().oldest_ms > before, "it grows older", every=0.01)


def test_of_a_queue_that_nobody_ever_used_nothing_waits(queue):
    waits = queue.source().standing()

    assert (waits.lag, waits.pending, waits.oldest_ms) == (0, 0, 0)


# -- the queue is away


def test_f3_a_queue_that_goes_and_comes_back_is_waited_for(queue):
    source = queue.source()
    queue.put(b"1", b"2", key="T")
    first, second = got(source, 2)

    queue.stop()
    with pytest.raises(SourceAway):
        source.acknowledge([first])
    until(lambda: is_away(source.read, 10), "it is known to be away", seconds=60)
    assert is_away(source.standing)
    queue.start()

    queue.put(b"3", key="T")
    seen: list[bytes] = []

    def read_on() -> bool:
        found = source.read(10)
        source.acknowledge([*found, first, second])
        seen.extend(raws(found))
        return b"3" in seen and nothing_waits(source)

    until(lambda: not is_away(read_on) and b"3" in seen and nothing_waits(source), "it is back", seconds=60)


def is_away(call: Any, *args: Any) -> bool:
    try:
        call(*args)
    except SourceAway:
        return True
    return False


# -- with the door behind it


def event(event_id: str, task_id: str = "a", event_type: str = "STARTED", **more: Any) -> bytes:
    body = {"event_id": event_id, "trace_id": "T", "task_id": task_id, "event_type": event_type}
    return json.dumps(body | {"timestamp_ms": NOW} | more).encode()


def a_pump(source: EventSource) -> pump.Pump:
    return pump.Pump(source, beat=lambda: None, stop=threading.Event())


def drained(one: pump.Pump) -> None:
    until(lambda: one.turn() == 0 and nothing_waits(one.source), "nothing waits", every=0)


def stored() -> list[str]:
    return sorted(Event.objects.values_list("event_id", flat=True))


@pytest.mark.django_db(transaction=True)
def test_reports_are_folded_and_what_is_none_is_a_dead_letter(queue):
    queue.put(event("e1"), b"{", event("e2", event_type="COMPLETED", timestamp_ms=NOW + 1), key="T")

    drained(a_pump(queue.source()))

    assert stored() == ["e1", "e2"]
    assert [letter["code"] for letter in queue.letters()] == ["invalid_json"]


class Killed(BaseException):
    """Nothing of ours runs after it, as after kill -9."""


@pytest.mark.django_db(transaction=True)
def test_f2_what_was_committed_and_not_acknowledged_comes_again_and_changes_nothing(queue, monkeypatch):
    source = queue.source()
    queue.put(event("e1"), key="T")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(source, "acknowledge", killed)
        until(lambda: a_pump(source).turn() and False, "it dies", every=0)
    assert (stored(), Trace.objects.get().seq) == (["e1"], 1)
    queue.kill(source)

    drained(a_pump(queue.source()))

    assert (stored(), Trace.objects.get().seq) == (["e1"], 1)


def killed(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.mark.django_db(transaction=True)
def test_f4_consumers_that_die_while_the_database_is_away_use_up_no_delivery(queue, monkeypatch):
    queue.put(event("e1"), key="T")

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(ingest, "ingest_sent", away)
        for _ in range(3):
            source = queue.source(idle_ms=1)
            turn = a_pump(source).turn
            with pytest.raises(Unavailable):
                until(lambda: turn() and False, "it is away", every=0)  # noqa: B023
            queue.kill(source)

    (entry,) = got(queue.source(idle_ms=1), 1)
    assert entry.deliveries == 1


@pytest.mark.django_db(transaction=True)
def test_f18_where_the_fold_raises_the_rest_is_stored_and_the_one_is_a_dead_letter(queue, monkeypatch):
    real = ingest.ingest_sent

    def fold(sent: Any, **options: Any) -> Any:
        if any(one.report.event_id == "e2" for one in sent):
            raise ValueError("boom")
        return real(sent, **options)

    monkeypatch.setattr(ingest, "ingest_sent", fold)
    queue.put(*(event(f"e{i}") for i in range(5)), key="T")

    drained(a_pump(queue.source()))

    assert stored() == ["e0", "e1", "e3", "e4"]
    assert [letter["code"] for letter in queue.letters()] == ["fold_failed"]
