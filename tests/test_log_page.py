"""The log of a run and of a task: every report as received, with verdict, reason, attempt and clocks."""

from __future__ import annotations

import itertools
import re
from html import unescape
from typing import Any

import pytest
from django.test import Client

from controls.issue import issue
from instances import attempts, ingest
from instances.models import Deadline, Event, TaskInstance
from tests.people import bearing, signed_in_as
from tower.definitions import edit
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)
serial = itertools.count(1)


def register(*tasks: str, trace_id: str = "T", job: str = "undefined") -> None:
    """``register("root", "a<root")``"""
    items = []
    for text in tasks:
        id, _, parent = text.partition("<")
        items.append(
            {
                "id": id, "trace_id": trace_id, "parent_id": parent or None, "job_id": job,
                "actor_type": "EXECUTION", "name": f"name of {id}",
            }
        )  # fmt: skip
    said = ingest.register(items)
    assert not said.rejected, said.rejected


def say(task: str, kind: str, ms: int | None = None, *, trace_id: str = "T", **payload: Any) -> str:
    n = next(serial)
    event = {
        "event_id": payload.pop("event_id", f"e{n}"), "trace_id": trace_id, "task_id": task,
        "event_type": kind, "timestamp_ms": 1000 * n if ms is None else ms, "payload": payload,
    }  # fmt: skip
    if "parent_id" in payload:
        event["parent_id"] = payload.pop("parent_id")
    said = ingest.ingest([event])
    assert not said.rejected, said.rejected
    return str(event["event_id"])


def logged(query: str = "", path: str = "traces/T/events/") -> list[dict[str, Any]]:
    answer = bearing("read", name=f"reader{next(serial)}").get(f"/api/v1/{path}{query}")
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def ids(html: str) -> list[str]:
    return re.findall(r'data-event-id="([^"]*)"', html)


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html)).split())


def page(client: Client, query: str = "") -> str:
    answer = client.get(f"/traces/T/events/{query}")
    assert answer.status_code == 200, answer.content
    return answer.content.decode()


@pytest.fixture
def viewer() -> Client:
    return signed_in_as("viewer")


# -- the API


def test_a_conflict_names_the_ending_that_stands() -> None:
    register("root")
    say("root", "COMPLETED", 5_000, event_id="first")
    say("root", "FAILED", 9_000, event_id="other")

    other = logged()[1]

    assert (other["verdict"], other["attempt"]) == ("conflict", 1)
    assert other["reason"] == {
        "code": "other_ending", "message": "the ending of 1970-01-01T00:00:05.000Z stands",
        "at": "1970-01-01T00:00:05.000Z",
    }  # fmt: skip


def test_an_ending_that_was_overtaken_says_so_later() -> None:
    register("root")
    say("root", "FAILED", 9_000, event_id="later")
    assert logged()[0]["reason"] is None

    say("root", "COMPLETED", 5_000)

    assert (logged()[0]["verdict"], logged()[0]["reason"]["code"]) == ("applied", "overtaken")


def test_each_report_says_to_which_attempt_it_belongs() -> None:
    register("root", "a<root")
    say("root", "STARTED", 1_000, event_id="r1")
    say("root", "FAILED", 2_000, event_id="r2")
    say("root", "STARTED", 3_000, event_id="r3")
    say("root", "PROGRESS", 1_500, event_id="r4")
    say("a", "STARTED", 1_000, event_id="a1", attempt=7)

    found = {one["event_id"]: (one["attempt"], one["verdict"]) for one in logged()}

    assert found == {
        "r1": (1, "applied"), "r2": (1, "applied"), "r3": (2, "applied"), "r4": (1, "stale"),
        "a1": (7, "applied"),
    }  # fmt: skip
    stale = logged("?verdict=stale")[0]
    assert stale["reason"]["message"] == "of an older attempt: attempt 2 stands"


def test_where_too_many_reports_had_to_be_walked_the_attempt_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register("root")
    say("root", "FAILED", 1_000)
    say("root", "STARTED", 2_000)
    monkeypatch.setattr(attempts, "MOST_REPORTS", 1)

    assert [one["attempt"] for one in logged()] == [None, None]


def test_what_the_tower_decided_stands_in_the_log_with_its_reason() -> None:
    body = {"id": "step", "name": "Step", "actor_type": "EXECUTION", "code_ref": "x", "timeout_sec": 300}
    edit.create(body, by="test")
    register("root", job="step")
    say("root", "STARTED", 1_000)
    Deadline.objects.update(due_ms=0)
    ingest.expire(1)

    (one,) = logged("?origin=tower")

    assert (one["event_type"], one["attempt"], one["reason"]["code"]) == ("FAILED", 1, "timed_out")
    say("root", "COMPLETED", 2_000)
    assert logged("?origin=tower")[0]["reason"]["code"] == "timeout_overtaken"


def test_what_comes_after_a_forced_cancel_only_tells() -> None:
    register("root")
    issue("T", ControlAction.CANCEL, triggered_by="ada")
    ingest.sweep_cancelled(TaskInstance.objects.values_list("tree_id", flat=True).get(id="root"))
    say("root", "COMPLETED", 1_000)

    tower, actor = logged()

    assert (tower["origin"], tower["reason"]["code"]) == ("tower", "under_cancel")
    assert (actor["origin"], actor["reason"]["code"]) == ("actor", "forced")


def test_the_skew_is_the_actors_clock_against_the_servers() -> None:
    register("root")
    say("root", "STARTED", 1_000)
    Event.objects.update(received_ms=4_000)

    assert logged()[0]["skew_ms"] == -3_000


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("?verdict=conflict", ["a2"]),
        ("?event_type=STARTED", ["r1", "a0"]),
        ("?task_id=a", ["a0", "a1", "a2"]),
        ("?task_id=a&event_type=FAILED", ["a2"]),
        ("?origin=tower", []),
        ("?task_id=nobody", []),
        ("?verdict=applied&task_id=root", ["r1"]),
    ],
)
def test_the_log_is_filtered(query: str, wanted: list[str]) -> None:
    register("root", "a<root")
    say("root", "STARTED", event_id="r1")
    say("a", "STARTED", event_id="a0")
    say("a", "COMPLETED", event_id="a1")
    say("a", "FAILED", event_id="a2")

    assert [one["event_id"] for one in logged(query)] == wanted


@pytest.mark.parametrize("query", ["?verdict=odd", "?origin=me", "?event_type=started", "?nothing=1"])
def test_b92_a_filter_that_is_none_is_refused(query: str) -> None:
    register("root")

    answer = bearing("read").get(f"/api/v1/traces/T/events/{query}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_query")


def test_the_log_of_a_task_takes_the_same_filters() -> None:
    register("root")
    say("root", "COMPLETED", event_id="x")
    say("root", "FAILED", event_id="y")

    assert [one["event_id"] for one in logged("?verdict=conflict", "tasks/root/events/")] == ["y"]


# -- the page


def test_a_visitor_is_sent_to_sign_in(client: Client) -> None:
    register("root")

    assert client.get("/traces/T/events/").status_code == 302


def test_the_page_shows_every_report_newest_first(viewer: Client) -> None:
    register("root", "a<root")
    say("root", "STARTED", event_id="r1", worker="w1")
    say("a", "COMPLETED", 5_000, event_id="a1", output_ref="s3://x")
    say("a", "FAILED", 9_000, event_id="a2", error_code="HTTP_429")

    html = page(viewer)

    assert ids(html) == ["a2", "a1", "r1"]
    assert ids(page(viewer, "?order=oldest")) == ["r1", "a1", "a2"]
    text = text_of(html)
    assert "conflict the ending of 1 Jan 1970 stands" in text
    assert "HTTP_429" in text and "s3://x" in text and "name of a" in text and "attempt 1" in text
    assert 'href="/traces/T/?node=a&amp;tab=events"' in html


def test_pages_lead_both_ways_in_either_order(viewer: Client) -> None:
    register("root")
    said = [say("root", "PROGRESS") for _ in range(5)]

    for query, order in (("?limit=2", said[::-1]), ("?limit=2&order=oldest", said)):
        first = page(viewer, query)
        (link,) = re.findall(r'rel="next" href="http://testserver/traces/T/events/([^"]*)"', first)
        second = page(viewer, unescape(link))
        (back,) = re.findall(r'rel="prev" href="http://testserver/traces/T/events/([^"]*)"', second)

        assert ids(first) == order[:2] and ids(second) == order[2:4]
        assert ids(page(viewer, unescape(back))) == order[:2]


def test_filters_stand_in_the_address_and_in_the_form(viewer: Client) -> None:
    register("root", "a<root")
    say("root", "STARTED")
    say("a", "COMPLETED", event_id="one")
    say("a", "FAILED", event_id="other")

    html = page(viewer, "?verdict=conflict&task_id=a")

    assert ids(html) == ["other"]
    assert '<option value="conflict" selected>' in html and 'name="task_id" value="a"' in html
    assert "No report matches" in page(viewer, "?origin=tower")


def test_a_run_without_reports_says_what_will_stand_here(viewer: Client) -> None:
    register("root")

    assert "No report has been received" in page(viewer)


def test_b71_markup_in_a_report_is_text(viewer: Client) -> None:
    register("root")
    evil = '"><img src=x onerror=alert(1)>'
    say("root", "FAILED", error_msg=evil, message=evil, extra={evil: evil})

    assert "<img" not in page(viewer)


def test_warnings_are_said_in_words(viewer: Client) -> None:
    register("root", "a<root")
    say("a", "STARTED", parent_id="elsewhere")

    text = text_of(page(viewer))

    assert "parent_id: differs from the registration" in text
    assert "timestamp_ms: a clock more than a day away" in text


def test_a_long_payload_is_cut_on_the_page_and_whole_in_the_api(viewer: Client) -> None:
    register("root")
    say("root", "PROGRESS", note="x" * 20_000)

    assert len(page(viewer)) < 20_000
    assert len(logged()[0]["payload"]["note"]) == 20_000


def test_an_unknown_run_is_not_found_and_a_strange_filter_refused(viewer: Client) -> None:
    register("root")

    assert viewer.get("/traces/nowhere/events/").status_code == 404
    assert viewer.get("/traces/T/events/?verdict=odd").status_code == 400


def test_the_page_costs_few_queries_however_many_tasks(
    viewer: Client, django_assert_max_num_queries: Any
) -> None:
    register("root", *(f"k{n}<root" for n in range(40)))
    for n in range(40):
        say(f"k{n}", "FAILED", 1_000)
        say(f"k{n}", "STARTED", 2_000)

    with django_assert_max_num_queries(10):
        page(viewer)


def test_the_trace_page_leads_to_the_log_and_the_pane_to_that_of_its_task(viewer: Client) -> None:
    register("root")

    html = viewer.get("/traces/T/?node=root&tab=events").content.decode()

    assert 'href="/traces/T/events/"' in html and 'href="/traces/T/events/?task_id=root"' in html


def test_the_pane_shows_why_a_report_changed_nothing(viewer: Client) -> None:
    register("root")
    say("root", "COMPLETED", 5_000)
    say("root", "FAILED", 9_000, error_code="X")

    html = viewer.get("/traces/T/?node=root&tab=events").content.decode()

    assert "the ending of 1 Jan 1970 stands" in text_of(html)
    assert "&quot;error_code&quot;: &quot;X&quot;" in html


def test_unattached_tasks_have_a_place_and_an_explanation(viewer: Client) -> None:
    register("root")
    for n in range(7):
        say(f"loose{n}", "STARTED")

    html = viewer.get("/traces/T/").content.decode()

    (place,) = re.findall(r"<details class=\"loose\".*?</details>", html, re.DOTALL)
    assert "7 tasks have no place in the tree yet" in text_of(place) and "and 2 more" in text_of(place)
    assert re.findall(r'href="\?node=([^"]*)"', place) == [f"loose{n}" for n in range(5)]
    register("loose0<root")
    assert "6 tasks have no place in the tree yet" in viewer.get("/traces/T/").content.decode()


def test_where_all_is_attached_nothing_is_said_of_it(viewer: Client) -> None:
    register("root")

    assert re.search(r"data-loose hidden", viewer.get("/traces/T/").content.decode())
