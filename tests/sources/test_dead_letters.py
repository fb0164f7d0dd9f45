"""The page of dead letters over every kind of queue; then over Kafka, where nothing can be removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, Producer
from django.db.models import F

from instances import dead_letters, sources
from instances.dead_letters import Letter, settled, topic
from instances.dead_letters.topic import Visit
from instances.models import SettledLetter
from instances.sources import DeadLetter, Entry, SourceAway, kafka
from tests.people import signed_in_as
from tests.servers import until
from tests.sources.mock import TOPIC_FORBIDDEN
from tests.sources.queues import Topics
from tests.sources.test_contract import a_pump, drained, event, got, is_away, stored
from tests.test_dead_letters_page import PAGE, act, rows, said
from tower import health

pytestmark = pytest.mark.django_db(transaction=True)

#: Numbers of the protocol.
FETCH, LIST_OFFSETS = 1, 2


@pytest.fixture
def tower(queue, settings):
    """One whose queue this is."""
    settings.TOWER_EVENTS_URL = queue.url
    return queue


@pytest.fixture
def admin():
    return signed_in_as("admin", "li.wei")


def a_letter(raw: bytes = b"{", code: str = "invalid_json", **more: Any) -> str:
    """Put aside by a consumer; its own id."""
    entry = Entry("7-1", raw, 1_734_567_890_123, key=more.get("key"))
    sources.queue().bury([DeadLetter(entry, more.get("reason", "It is no JSON."), code, "payload.x")])
    return dead_letters.place().newest(1)[0].id


def ids() -> list[str]:
    return [letter.id for letter in dead_letters.place().newest(1_000)]


# -- every kind of queue


def test_each_is_listed_newest_first_counted_and_shown(tower, admin):
    first = a_letter(b'{"a": 1', reason="EOF while parsing")
    second = a_letter(b"<b>\xff", "invalid_id")

    answer = admin.get(PAGE)
    one = admin.get(f"{PAGE}{second}/").content.decode()

    assert (rows(answer), answer.context["total"]) == ([second, first], 2)
    assert health.consumer()[0]["dead"] == 2
    for shown in ("invalid_json", "EOF while parsing", "payload.x", "{&quot;a&quot;: 1", "once"):
        assert shown in answer.content.decode()
    for shown in ("invalid_id", "&lt;b&gt;\\xff", "7-1", "2024-12-19T00:24:50.123Z"):
        assert shown in one


def test_many_come_in_pages_in_both_directions(tower, admin, settings):
    settings.TOWER_PAGE_SIZE = 2
    letters = [a_letter() for _ in range(5)]

    first = admin.get(PAGE)
    second = admin.get(first.context["older"])
    third = admin.get(second.context["older"])
    again = admin.get(third.context["newer"])

    assert rows(first) + rows(second) + rows(third) == letters[::-1]
    assert third.context["older"] is None
    assert rows(again) == rows(second)
    assert rows(admin.get(again.context["newer"])) == rows(first)


def test_where_nobody_put_anything_nothing_lies(tower, admin):
    assert b"No dead letters" in admin.get(PAGE).content
    assert health.consumer()[0]["dead"] == 0


@pytest.mark.parametrize("id", ["1-1", "0-9", "9999999999999999999-1", "1-9999999999999999999"])
def test_one_that_is_not_there_is_not_found(tower, admin, id):
    a_letter()

    assert admin.get(f"{PAGE}{id}/").status_code == 404


def test_a_replayed_one_is_folded_by_a_consumer_and_is_gone_here(tower, admin):
    letter, other = a_letter(event("e1"), "too_large"), a_letter()

    answer = act(admin, "replay", letter)

    assert said(answer) == ["1 report is back in the queue."]
    assert (rows(answer), answer.context["total"]) == ([other], 1)
    assert admin.get(f"{PAGE}{letter}/").status_code == 404
    drained(a_pump(tower.source()))
    assert stored() == ["e1"]


def test_one_that_still_cannot_be_taken_comes_back_as_another(tower, admin):
    letter = a_letter(b"{\xff")

    act(admin, "replay", letter)
    drained(a_pump(tower.source()))

    (found,) = dead_letters.place().newest(10)
    assert found.id != letter
    assert (found.raw, found.code) == (b"{\xff", "invalid_json")


def test_a_dropped_one_is_gone_and_goes_nowhere(tower, admin):
    letter, other = a_letter(event("e1")), a_letter()

    assert "Drop 1 report for good?" in act(admin, "drop", letter).content.decode()
    assert ids() == [other, letter]
    answer = act(admin, "drop", letter, confirmed="1")

    assert said(answer) == ["1 report was dropped."]
    assert rows(answer) == [other]
    assert sources.queue().standing().lag == 0


def test_all_of_the_page_are_put_back_and_no_other(tower, admin):
    letters = [a_letter(f"{number}".encode()) for number in range(4)]

    answer = act(admin, "replay", all="1", shown=letters[1:])

    assert said(answer) == ["3 reports are back in the queue."]
    assert ids() == letters[:1]
    assert {entry.raw for entry in got(tower.source(), 3)} == {b"1", b"2", b"3"}


def test_one_that_was_cut_is_not_put_back(tower, admin):
    letter = a_letter(b"x" * (64 << 10))

    answer = act(admin, "replay", letter)

    assert "only its beginning is kept" in said(answer)[0]
    assert ids() == [letter]
    assert sources.queue().standing().lag == 0
    assert 'value="replay"' not in admin.get(f"{PAGE}{letter}/").content.decode()


@pytest.mark.parametrize("deeds", [("replay", "replay"), ("drop", "drop"), ("drop", "replay")])
def test_of_two_who_found_one_at_once_one_is_said_to_have_settled_it(tower, deeds):
    a_letter(b"1")
    a_letter(b"2")
    found = [dead_letters.place().find(ids()) for _ in deeds]

    done = [
        list(getattr(dead_letters.place(), deed)(letters, by=deed))
        for deed, letters in zip(deeds, found, strict=True)
    ]

    assert [len(letters) for letters in done] == [2, 0]
    assert ids() == []


def test_one_that_another_settled_meanwhile_is_said(tower, admin):
    letter = a_letter()
    dead_letters.drop([letter], by="somebody")

    assert said(act(admin, "replay", letter)) == ["1 was gone already."]
    assert said(act(admin, "drop", letter, confirmed="1")) == ["0 reports were dropped."]


@pytest.mark.parametrize("action", ["replay", "drop"])
def test_each_deed_stands_in_the_log_with_who_did_it(tower, admin, caplog, action):
    act(admin, action, a_letter(b'{"secret": 1'), confirmed="1")

    (record,) = [record for record in caplog.records if record.message.startswith("dead_letter_")]
    assert (record.user, record.entry, record.code) == ("li.wei", "7-1", "invalid_json")
    assert "secret" not in str(record.__dict__)


def test_while_the_queue_is_away_the_page_says_which_and_nothing_is_done(tower, admin):
    letter = a_letter()
    tower.stop()

    try:
        for path in (PAGE, f"{PAGE}{letter}/"):
            answer = admin.get(path)
            assert (answer.status_code, answer.context["away"]) == (200, tower.name)
            assert f"{tower.name} does not answer" in answer.content.decode()
        for action in ("replay", "drop"):
            # To the page and no further, which would ask once more.
            answer = admin.post(PAGE, {"action": action, "letter": letter, "confirmed": "1"})
            assert answer.status_code == 303
        answer = admin.get("/health/")
        assert f"Not known now: {tower.name} does not answer." in answer.content.decode()
        assert (
            said(answer) == [f"{tower.name} does not answer, or takes nothing: not all of it was done."] * 2
        )
    finally:
        tower.start()


# -- what only Kafka does


@pytest.fixture
def several(mock, settings):
    """Dead letters in several partitions."""
    made = Topics(mock, dead_partitions=3)
    settings.TOWER_EVENTS_URL = made.url
    yield made
    made.close()


@pytest.fixture
def one(topics, settings):
    settings.TOWER_EVENTS_URL = topics.url
    return topics


def put(topics: Topics, partition: int, at_ms: int, value: bytes | None = b"{", **more: Any) -> None:
    """A dead letter by anybody."""
    producer: Any = Producer(topics.address.client(**{"linger.ms": 0}))
    producer.produce(
        f"{topics.address.prefix}tms.task.events.dead", value, partition=partition, timestamp=at_ms, **more
    )
    assert producer.flush(10) == 0


def test_letters_of_several_partitions_come_by_their_times_and_each_once(several, admin, settings):
    settings.TOWER_PAGE_SIZE = 3
    times = {0: [10, 20, 20, 70], 1: [20, 30, 60], 2: [5, 40, 35]}  # one clock was set back
    for partition, row in times.items():
        for at_ms in row:
            put(several, partition, at_ms)
    pages = [admin.get(PAGE)]
    while older := pages[-1].context["older"]:
        pages.append(admin.get(older))
    back = [pages[-1]]
    while newer := back[-1].context["newer"]:
        back.append(admin.get(newer))

    down = [id for one in pages for id in rows(one)]
    assert down == ["0-3", "1-2", "2-2", "2-1", "1-1", "1-0", "0-2", "0-1", "0-0", "2-0"]
    assert sorted(id for one in back for id in rows(one)) == sorted(down)
    assert pages[0].context["total"] == 10


def test_settled_ones_are_skipped_and_a_page_reads_no_more_than_it_shows(one, admin, settings, monkeypatch):
    settings.TOWER_PAGE_SIZE = 5
    sources.queue().bury([DeadLetter(Entry(f"0-{n}", b"{", 1), "no", "invalid_json") for n in range(300)])
    dead_letters.drop([f"0-{n}" for n in range(100, 298)], by="a")
    asked: list[int] = []
    read = Visit.read

    def counted(visit: Visit, number: int, offsets: Sequence[int]) -> dict[int, Letter]:
        asked.extend(offsets)
        return read(visit, number, offsets)

    monkeypatch.setattr(Visit, "read", counted)

    first = admin.get(PAGE)
    second = admin.get(first.context["older"])

    assert rows(first) == ["0-299", "0-298", "0-99", "0-98", "0-97"]
    assert rows(second) == ["0-96", "0-95", "0-94", "0-93", "0-92"]
    assert rows(admin.get(second.context["newer"])) == rows(first)
    assert first.context["total"] == 102
    # Of each page one more, which says whether there is another page; and one that was settled.
    assert len(asked) == 7 + 7 + 6


def test_a_walk_over_what_was_settled_ends_with_the_time_of_a_visit(one, monkeypatch):
    sources.queue().bury([DeadLetter(Entry(f"0-{n}", b"{", 1), "no", "invalid_json") for n in range(6)])
    dead_letters.drop([f"0-{n}" for n in range(1, 6)], by="a")
    monkeypatch.setattr(settled, "READ", 2)
    reads: list[float] = []

    def left(visit: Visit) -> float:
        reads.append(1.0)
        if len(reads) > 2:
            raise SourceAway("Kafka answers too slowly")
        return 1.0

    with dead_letters.place()._visit() as visit:  # type: ignore[attr-defined]
        monkeypatch.setattr(Visit, "_left", left)
        with pytest.raises(SourceAway, match="too slowly"):
            list(visit.still_open(0, range(5, -1, -1)))


def test_what_somebody_else_put_there_is_shown_as_it_is(one, admin):
    put(one, 0, 0, None)
    put(one, 0, 9_000_000_000_000_000, b"", headers=[("code", None), ("deliveries", b"many"), ("x", b"\xff")])
    put(one, 0, 1, None, key=b"K", headers=[("why", b"<b>"), ("first_seen", b"yesterday")])
    put(one, 0, 2, b"y" * 200_000, headers=[("reason", b"r" * 5_000), ("deliveries", b"9" * 5_000)])

    answer = admin.get(PAGE)

    assert sorted(rows(answer)) == ["0-0", "0-1", "0-2", "0-3"]
    assert "&quot;why&quot;:&quot;&lt;b&gt;&quot;" in admin.get(f"{PAGE}0-2/").content.decode()
    for id in rows(answer):
        assert admin.get(f"{PAGE}{id}/").status_code == 200
    assert [len(letter.raw) for letter in dead_letters.place().find(["0-3"])] == [64 << 10]


def test_the_key_goes_along_into_the_dead_letter_and_back(one):
    one.put(b"{", key="the-trace")
    source = one.source()
    drained(a_pump(source))

    (letter,) = dead_letters.place().newest(10)
    dead_letters.replay([letter.id], by="a")

    (entry,) = got(source, 1)
    assert (letter.key, entry.key, entry.raw) == (b"the-trace", b"the-trace", b"{")


def test_a_key_that_is_too_long_does_not_make_a_letter_too_large(one):
    a_letter(b"{", key=b"k" * 2_000)

    assert dead_letters.place().newest(1)[0].key is None


def test_what_was_done_stands_there_with_who_did_it_until_its_letter_is_gone(one, mock):
    letters = [a_letter() for _ in range(4)]
    dead_letters.replay(letters[:1], by="li.wei")
    dead_letters.drop(letters[1:2], by="wang.fang")
    assert list(SettledLetter.objects.order_by("offset").values_list("offset", "deed", "by")) == [
        (0, SettledLetter.REPLAYED, "li.wei"),
        (1, SettledLetter.DROPPED, "wang.fang"),
    ]

    mock.trim(f"{one.address.prefix}tms.task.events.dead", 0, 2)
    assert dead_letters.place().count() == 2
    dead_letters.drop(letters[2:3], by="li.wei")

    assert list(SettledLetter.objects.values_list("offset", flat=True)) == [2]
    assert (ids(), dead_letters.place().count()) == (letters[3:], 1)


def test_letters_that_retention_took_are_not_found(one, mock):
    letters = [a_letter() for _ in range(3)]
    mock.trim(f"{one.address.prefix}tms.task.events.dead", 0, 2)

    assert ids() == letters[2:]
    assert dead_letters.place().find(letters) == dead_letters.place().find(letters[2:])


def test_what_was_settled_in_a_topic_that_was_made_anew_hides_nothing(one):
    letters = [a_letter() for _ in range(2)]
    dead_letters.drop(letters[:1], by="a")
    assert ids() == letters[1:]

    SettledLetter.objects.update(died_ms=F("died_ms") - 1)

    assert (ids(), dead_letters.place().count()) == (letters[::-1], 2)
    assert not SettledLetter.objects.exists()


def test_what_was_settled_behind_the_end_is_of_a_topic_before_unless_it_is_new(one):
    letters = [a_letter() for _ in range(2)]
    dead_letters.drop(letters[:1], by="a")
    place = SettledLetter.objects.values("topic", "partition").get()
    row = SettledLetter.objects.create(**place, offset=7, died_ms=1, deed=2, by="a", at_ms=sources.LATEST_MS)

    assert ids() == letters[1:]  # somebody is just settling what came since

    SettledLetter.objects.filter(pk=row.pk).update(at_ms=0)
    assert (ids(), dead_letters.place().count()) == (letters[::-1], 2)
    assert not SettledLetter.objects.exists()


def test_on_another_cluster_the_same_offset_is_another_letter(one):
    letter = a_letter()
    dead_letters.drop([letter], by="a")

    SettledLetter.objects.update(topic="other/" + SettledLetter.objects.get().topic.partition("/")[2])

    assert ids() == [letter]


def test_of_many_at_once_what_the_cluster_did_not_take_stays(one, admin, monkeypatch):
    letters = [a_letter(f"{number}".encode()) for number in range(3)]

    def send_one(producer: Any, name: str, records: Any, seconds: float) -> Any:
        return [*kafka.send(producer, name, records[:1], seconds), *[KafkaError(TOPIC_FORBIDDEN)] * 2]

    monkeypatch.setattr(topic, "send", send_one)

    answer = act(admin, "replay", *letters)

    assert said(answer) == ["Kafka does not answer, or takes nothing: not all of it was done."]
    assert ids() == letters[:0:-1]


@pytest.mark.parametrize("request_kind", [FETCH, LIST_OFFSETS])
def test_a_right_that_is_missing_is_told_from_a_cluster_that_is_away(one, mock, admin, request_kind):
    a_letter()

    mock.fail(request_kind, *[TOPIC_FORBIDDEN] * 2)
    text = admin.get(PAGE).content.decode()

    assert "Kafka does not let the tower look" in text


def test_a_cursor_of_the_other_kind_of_queue_is_refused(one, admin, settings):
    settings.TOWER_PAGE_SIZE = 1
    for _ in range(2):
        a_letter()
    older = admin.get(PAGE).context["older"]

    settings.TOWER_EVENTS_URL = ""

    assert admin.get(older).status_code == 400


def test_a_cluster_that_was_away_has_all_letters_when_it_is_back(one):
    letter = a_letter()
    one.stop()
    for deed in (dead_letters.replay, dead_letters.drop):
        with pytest.raises(SourceAway):
            deed([letter], by="a")
    one.start()

    until(lambda: not is_away(ids), "it is back")

    assert ids() == [letter]
    assert sources.queue().standing().lag == 0


def test_the_payload_of_a_replay_is_what_was_sent_byte_for_byte(one):
    raw = json.dumps({"a": "é"}).encode() + b"\xff"
    letter = a_letter(raw)

    dead_letters.replay([letter], by="a")

    assert [entry.raw for entry in got(one.source(), 1)] == [raw]
