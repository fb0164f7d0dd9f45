"""What actors answered to a control, the filters of the audit that ask for it, and the audit as a file."""

from __future__ import annotations

import csv
import io

import pytest

from controls import export, receipts
from controls.models import ControlRecord
from controls.receipts import receipts_of
from instances import ingest
from instances.models import Event
from tests.people import signed_in_as
from tests.test_controls_pages import listed, press, text
from tests.test_log_page import say

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator():
    return signed_in_as("operator", "li.wei")


@pytest.fixture
def run():
    """root over a (over b) and d; all at work."""
    shared = {"trace_id": "T", "job_id": "job", "actor_type": "AGENT"}
    parents = {"root": None, "a": "root", "b": "a", "d": "root"}
    ingest.register([{**shared, "id": id, "parent_id": parent} for id, parent in parents.items()])
    for id in parents:
        say(id, "STARTED")


def told(id):
    return receipts_of(ControlRecord.objects.get(id=id))


def answered(id):
    return [(one.task_id, one.word) for one in told(id).answers]


def asked(client, query):
    return listed(client.get(f"/controls/?{query}"))


# -- receipts


def test_a_pause_is_answered_by_who_says_that_it_holds(run, operator):
    say("d", "PROGRESS", paused=True)
    press(operator, "PAUSE", id="c1")
    say("a", "PROGRESS", progress=10)
    say("a", "PROGRESS", paused=True)
    say("b", "PROGRESS", paused=True)
    say("b", "PROGRESS", paused=True)

    assert answered("c1") == [("a", "PROGRESS"), ("b", "PROGRESS")]
    assert [id for id, _name in told("c1").silent] == ["root"]


def test_a_run_is_answered_by_the_next_report_without_a_hold(run, operator):
    press(operator, "PAUSE", "a", id="c1")
    say("a", "PROGRESS", paused=True)
    press(operator, "RUN", "a", id="c2")
    say("a", "PROGRESS", paused=True)
    say("a", "PROGRESS", progress=20)

    assert answered("c2") == [("a", "PROGRESS")]
    assert told("c2").silent == []


def test_a_cancel_is_answered_by_an_ending(run, operator):
    press(operator, "CANCEL", id="c1", confirmed="1")
    say("a", "PROGRESS", progress=20)
    say("b", "CANCELLED")
    say("d", "COMPLETED")

    assert answered("c1") == [("b", "CANCELLED"), ("d", "COMPLETED")]
    assert [id for id, _name in told("c1").silent] == ["root", "a"]


def test_only_what_is_below_the_place_answers(run, operator):
    press(operator, "PAUSE", "a", id="c1")
    say("d", "PROGRESS", paused=True)
    say("b", "PROGRESS", paused=True)

    assert answered("c1") == [("b", "PROGRESS")]
    assert [id for id, _name in told("c1").silent] == ["a"]


def test_what_is_said_behind_the_next_control_answers_that_one(run, operator):
    press(operator, "PAUSE", "a", id="c1")
    press(operator, "PAUSE", "a", id="c2")
    say("a", "PROGRESS", paused=True)

    assert answered("c1") == []
    assert told("c1").over
    assert answered("c2") == [("a", "PROGRESS")]


def test_times_are_counted_from_the_control_on(run, operator):
    press(operator, "CANCEL", id="c1", confirmed="1")
    for id in ("a", "b", "d"):
        say(id, "CANCELLED")
    record = ControlRecord.objects.get(id="c1")
    for id, ms in (("a", 400), ("b", 2_000), ("d", 61_000)):
        key = next(one.task for one in told("c1").answers if one.task_id == id)
        Event.objects.filter(task=key, kind=4).update(received_ms=record.created_ms + ms)

    found = told("c1")

    assert (found.first_ms, found.share(0.5), found.p95_ms, found.last_ms) == (400, 2_000, 61_000, 61_000)
    page = text(operator.get("/controls/c1/"))
    assert "after 400 ms" in page
    assert "within 1:01" in page


def test_in_a_long_log_the_reports_behind_the_control_are_found(run, operator):
    for n in range(40):
        say("a", "PROGRESS", progress=n)
    Event.objects.update(received_ms=1_000)
    press(operator, "PAUSE", id="c1")
    say("a", "PROGRESS", paused=True)
    record = ControlRecord.objects.get(id="c1")

    start = receipts._position(record.trace, record.created_ms - receipts.MARGIN_MS)

    assert Event.objects.filter(trace=record.trace, position__gte=start).count() == 1
    assert answered("c1") == [("a", "PROGRESS")]


def test_a_refused_control_was_asked_of_nobody(run, operator):
    press(operator, "RUN", "a", id="c1")

    page = text(operator.get("/controls/c1/"))

    assert answered("c1") == []
    assert "It was refused, so nobody was asked." in page


def test_the_answers_are_paged(run, operator, settings):
    settings.TOWER_PAGE_SIZE = 2
    press(operator, "CANCEL", id="c1", confirmed="1")
    for id in ("a", "b", "d"):
        say(id, "CANCELLED")

    first, second = operator.get("/controls/c1/"), operator.get("/controls/c1/?from=2")

    assert [one.task_id for one in first.context["answers"]] == ["a", "b"]
    assert [one.task_id for one in second.context["answers"]] == ["d"]
    assert 'href="?from=2"' in first.content.decode()
    assert 'href="?from=0"' in second.content.decode()


@pytest.mark.parametrize("path", ["/controls/nobody/", "/controls/file/xls/"])
def test_what_there_is_not_is_not_found(operator, path):
    assert operator.get(path).status_code == 404


def test_a_page_of_receipts_costs_few_queries(run, operator, django_assert_max_num_queries):
    press(operator, "PAUSE", "a", id="c1")
    for id in ("a", "b"):
        say(id, "PROGRESS", paused=True)

    with django_assert_max_num_queries(25):
        operator.get("/controls/c1/")


# -- filters


def test_controls_that_are_not_answered_are_found_wherever_they_stand(run, operator):
    ingest.register([{"trace_id": "T2", "id": "x", "job_id": "job", "actor_type": "AGENT"}])
    say("x", "STARTED", trace_id="T2")
    press(operator, "PAUSE", "a", id="below")
    press(operator, "PAUSE", "d", id="answered")
    say("d", "PROGRESS", paused=True)
    operator.post("/traces/T2/control/", {"action": "CANCEL", "id": "whole", "confirmed": "1"})

    assert set(asked(operator, "unanswered=1")) == {"below", "whole"}

    for id in ("a", "b"):
        say(id, "PROGRESS", paused=True)
    say("x", "CANCELLED", trace_id="T2")

    assert asked(operator, "unanswered=1") == []


def test_controls_of_one_person_or_one_run_are_found_and_the_filter_is_a_chip(run, operator):
    press(operator, "PAUSE", id="c1")
    press(signed_in_as("admin", "li"), "PAUSE", id="c2")

    assert asked(operator, "by=li") == ["c2"]
    assert asked(operator, "run=T&by=li.wei") == ["c1"]
    assert asked(operator, "run=other") == []
    page = operator.get("/controls/?run=T&by=li").content.decode()
    assert 'href="/controls/?run=T"' in page
    assert 'href="/controls/?by=li"' in page
    assert 'href="/controls/?by=li.wei"' in operator.get("/controls/").content.decode()


# -- files


def test_the_filters_hold_for_the_file(run, operator):
    press(operator, "PAUSE", "a", id="c1", reason='why, "so"\nit is')
    press(operator, "PAUSE", "d", id="c2")
    press(operator, "RUN", "d", id="c3")

    answer = operator.get("/controls/file/csv/?action=PAUSE")

    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="controls.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert [row["id"] for row in rows] == ["c2", "c1"]
    assert rows[1]["reason"] == 'why, "so"\nit is'
    assert (rows[1]["task_id"], rows[1]["triggered_by"], rows[1]["running"]) == ("a", "li.wei", "2")
    assert (
        'href="/controls/file/csv/?action=PAUSE"' in operator.get("/controls/?action=PAUSE").content.decode()
    )


@pytest.mark.parametrize("first", export.FORMULA)
def test_no_cell_is_a_formula(run, operator, first):
    press(operator, "PAUSE", "a", id="c1")
    ControlRecord.objects.update(reason=f"{first}cmd|' /C calc'!A0")

    [row] = csv.DictReader(
        io.StringIO(operator.get("/controls/file/csv/").content.decode("utf-8-sig"), newline="")
    )

    assert row["reason"] == f"'{first}cmd|' /C calc'!A0"


def test_as_json_a_file_has_what_the_api_has_and_says_whether_it_is_all(run, operator, monkeypatch):
    for n in range(3):
        press(operator, "PAUSE", id=f"c{n}")

    whole = operator.get("/controls/file/json/").json()
    monkeypatch.setattr(export, "MOST_ROWS", 2)
    cut = operator.get("/controls/file/json/").json()

    assert ([one["id"] for one in whole["controls"]], whole["more"]) == (["c2", "c1", "c0"], False)
    assert ([one["id"] for one in cut["controls"]], cut["more"]) == (["c2", "c1"], True)
    assert whole["controls"][0] == operator.get("/api/v1/controls/c2/").json()


def test_a_file_of_long_reasons_ends_in_time(run, operator, monkeypatch):
    monkeypatch.setattr(export, "MOST_BYTES", 150)
    for n in range(3):
        press(operator, "PAUSE", id=f"c{n}", reason="x" * 100)

    assert operator.get("/controls/file/json/").json()["more"]


def test_a_broken_filter_of_a_file_is_refused(operator):
    assert operator.get("/controls/file/csv/?action=STOP").status_code == 400
    assert operator.get("/controls/file/csv/?cursor=x").status_code == 400
