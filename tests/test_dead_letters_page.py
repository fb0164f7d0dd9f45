"""The page of dead letters: looked at, put back, dropped; by admins only, and without scripts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from instances.models import Event
from instances.sources import DeadLetter, Entry
from instances.sources.streams import DEAD, STREAM, RedisStream
from tests.people import signed_in_as
from tests.test_consume import drain, event, put
from tower import redis

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = "/dead-letters/"


@pytest.fixture
def admin():
    return signed_in_as("admin", "li.wei")


def stream() -> Any:
    return redis.events()


def a_letter(raw: bytes = b"{", code: str = "invalid_json", **more: Any) -> str:
    """Put aside by the consumer; its own id."""
    entry = Entry("1734567890123-0", raw, 1_734_567_890_123)
    RedisStream(redis.events).bury(
        [DeadLetter(entry, more.get("reason", "It is no JSON."), code, more.get("field", ""))]
    )
    return str(stream().xrevrange(DEAD, "+", "-", 1)[0][0].decode())


def ids() -> list[str]:
    return [id.decode() for id, _ in stream().xrange(DEAD)]


def act(client, action, *letters, **more):
    return client.post(PAGE, {"action": action, "letter": letters, **more}, follow=True)


def said(answer):
    return [str(message) for message in answer.context["messages"]]


def rows(answer):
    return re.findall(r'data-letter="([^"]+)"', answer.content.decode())


# -- who


@pytest.mark.parametrize("role", ["viewer", "operator", "editor"])
def test_only_admins_look_at_them_or_change_them(role):
    letter = a_letter()
    client = signed_in_as(role)

    assert client.get(PAGE).status_code == 403
    assert client.get(f"{PAGE}{letter}/").status_code == 403
    assert client.post(PAGE, {"action": "replay", "letter": letter}).status_code == 403
    assert ids() == [letter]


def test_an_anonymous_visitor_is_sent_to_sign_in(client):
    assert client.get(PAGE)["Location"] == "/login/?next=%2Fdead-letters%2F"


def test_a_form_needs_its_token():
    letter = a_letter()
    client = signed_in_as("admin", csrf=True)

    assert client.post(PAGE, {"action": "replay", "letter": letter}).status_code == 403
    assert ids() == [letter]


def test_the_health_page_leads_there_for_who_may_go(admin):
    assert b'href="/dead-letters/"' in admin.get("/health/").content
    assert b'href="/dead-letters/"' not in signed_in_as("viewer").get("/health/").content


# -- looking


def test_each_is_listed_newest_first_with_why_and_what_it_held(admin):
    first = a_letter(b'{"a": 1', reason="EOF while parsing", field="")
    second = a_letter(b'{"event_id": "x y"}', "invalid_id", field="event_id")

    answer = admin.get(PAGE)

    assert rows(answer) == [second, first]
    text = answer.content.decode()
    for shown in ("invalid_json", "EOF while parsing", "invalid_id", "event_id", "{&quot;a&quot;: 1", "once"):
        assert shown in text


def test_one_is_shown_whole_as_text(admin):
    letter = a_letter(b'{"x": "<script>alert(1)</script>\xff\x00\x1b[31m"}')

    text = admin.get(f"{PAGE}{letter}/").content.decode()

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "\\xff" in text and "\\x00" in text and "\\x1b[31m" in text
    assert "2024-12-19T00:24:50.123Z" in text


def test_b71_markup_in_a_reason_stays_text(admin):
    a_letter(reason='"><img src=x onerror=alert(1)>', field="<b>")

    text = admin.get(PAGE).content.decode()

    assert "<img" not in text and "&lt;img" in text
    assert "<b>" not in text.partition('role="table"')[2].partition("</form>")[0]


@pytest.mark.parametrize("id", ["1-1", "x", "1-1%0a", "-", "99999999999999999999999-1"])
def test_one_that_is_not_there_is_not_found(admin, id):
    assert admin.get(f"{PAGE}{id}/").status_code == 404


def test_many_come_in_pages(admin, settings):
    settings.TOWER_PAGE_SIZE = 2
    letters = [a_letter() for _ in range(5)]

    first = admin.get(PAGE)
    second = admin.get(first.context["older"])
    third = admin.get(second.context["older"])

    assert rows(first) + rows(second) + rows(third) == letters[::-1]
    assert third.context["older"] is None
    assert rows(admin.get(third.context["newer"])) == rows(second)


def test_none_says_what_would_lie_there(admin):
    assert "No dead letters" in admin.get(PAGE).content.decode()


def test_without_redis_the_page_says_so(admin, valkey):
    letter = a_letter()
    valkey.stop()

    for path in (PAGE, f"{PAGE}{letter}/"):
        answer = admin.get(path)
        assert (answer.status_code, b"Redis does not answer" in answer.content) == (200, True)


# -- putting back


def test_a_replayed_one_goes_through_the_queue_again(admin):
    put(event("e1", payload={"message": "x" * 5_000}))
    drain()
    (letter,) = ids()
    stream().xdel(DEAD, letter)
    letter = a_letter(json.dumps(event("e1")).encode(), "too_large")

    answer = act(admin, "replay", letter)

    assert said(answer) == ["1 report is back in the queue."]
    assert ids() == []
    drain()
    assert list(Event.objects.values_list("event_id", flat=True)) == ["e1"]


def test_one_that_still_cannot_be_taken_comes_back(admin):
    act(admin, "replay", a_letter(b"{"))

    drain()

    assert len(ids()) == 1


def test_chosen_ones_are_put_back_byte_for_byte_and_others_stay(admin):
    raws = [b"{\xff", b'{"a": "\xc3\xa9"}', b"x"]
    letters = [a_letter(raw) for raw in raws]

    act(admin, "replay", *letters[:2])

    assert [fields[b"event"] for _, fields in stream().xrange(STREAM)] == raws[:2]
    assert ids() == letters[2:]


def test_all_of_the_page_are_put_back_without_a_script(admin):
    letters = [a_letter() for _ in range(3)]

    answer = act(admin, "replay", all="1", shown=letters[:2])

    assert said(answer) == ["2 reports are back in the queue."]
    assert ids() == letters[2:]


def test_one_that_was_cut_is_not_put_back(admin):
    letter = a_letter(b"x" * (64 << 10))

    answer = act(admin, "replay", letter)

    assert "only its beginning is kept" in said(answer)[0]
    assert ids() == [letter]
    assert stream().xlen(STREAM) == 0
    assert 'value="replay"' not in admin.get(f"{PAGE}{letter}/").content.decode()


def test_one_that_is_gone_meanwhile_is_said(admin):
    letter = a_letter()
    stream().xdel(DEAD, letter)

    assert said(act(admin, "replay", letter)) == ["1 was gone already."]
    assert stream().xlen(STREAM) == 0


# -- dropping


def test_dropping_asks_first(admin):
    letters = [a_letter(), a_letter()]

    answer = act(admin, "drop", *letters)

    assert "Drop 2 reports for good?" in answer.content.decode()
    assert ids() == letters

    answer = act(admin, "drop", *letters[:1], confirmed="1")

    assert said(answer) == ["1 report was dropped."]
    assert ids() == letters[1:]
    assert stream().xlen(STREAM) == 0


# -- odd requests


@pytest.mark.parametrize("action", ["replay", "drop"])
@pytest.mark.parametrize("letters", [(), ("x",), ("1-1; FLUSHALL",), ("+",)])
def test_nothing_chosen_changes_nothing(admin, action, letters):
    letter = a_letter()

    answer = act(admin, action, *letters, confirmed="1")

    assert said(answer) == ["Nothing was chosen."]
    assert ids() == [letter]


def test_another_action_is_refused(admin):
    assert admin.post(PAGE, {"action": "flush", "letter": a_letter()}).status_code == 400


def test_while_redis_is_away_nothing_is_done_and_that_is_said(admin, valkey):
    letter = a_letter()
    valkey.stop()

    answer = act(admin, "replay", letter)

    assert "not all of it was done" in said(answer)[0]


# -- the audit


@pytest.mark.parametrize(
    ("action", "event_name"), [("replay", "dead_letter_replayed"), ("drop", "dead_letter_dropped")]
)
def test_each_deed_stands_in_the_log_with_who_did_it(admin, caplog, action, event_name):
    letter = a_letter(b'{"secret": 1')

    act(admin, action, letter, confirmed="1")

    (record,) = [record for record in caplog.records if record.message == event_name]
    assert (record.user, record.entry, record.code) == ("li.wei", "1734567890123-0", "invalid_json")
    assert "secret" not in str(record.__dict__)
