"""The page of all runs, without scripts: rows, segments, filters, empty states."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from instances import segments
from instances.models import Trace, TraceLabel
from tests.people import bearing, signed_in_as
from tests.trees import a_tree
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def viewer():
    return signed_in_as("viewer")


def shown(answer):
    """Ids of the runs on a page, in their order."""
    return re.findall(r'role="row" data-trace="([^"]+)"', answer.content.decode())


def text(answer):
    return " ".join(re.sub(r"<[^>]*>", " ", answer.content.decode()).split())


def row(answer, trace_id):
    page = answer.content.decode()
    start = page.index(f'data-trace="{trace_id}"')
    return page[start : page.index('role="row"', start) if 'role="row"' in page[start:] else None]


def test_each_run_is_a_link_newest_first(viewer):
    for id in ("first", "second", "third"):
        a_tree("root:RUNNING", trace_id=id)

    answer = viewer.get("/")

    assert shown(answer) == ["third", "second", "first"]
    assert '<a href="/traces/second/">' in answer.content.decode()


def test_a_row_says_status_and_counts_in_words(viewer):
    a_tree("root:RUNNING(a:SUCCESS b:FAILED c d)", trace_id="T")

    said = row(viewer.get("/"), "T")

    assert 'data-status="RUNNING"' in said
    assert "1 success, 1 running, 1 failed, 2 pending" in said
    assert "2 / 5" in said
    assert 'data-need="failed"' in said


def test_a_pause_of_the_whole_run_is_told_from_one_inside(viewer):
    a_tree("root:RUNNING(a:RUNNING)", trace_id="whole").ask("", ControlAction.PAUSE)
    a_tree("root:RUNNING(a:RUNNING)", trace_id="inside").ask("a", ControlAction.PAUSE)

    answer = viewer.get("/")

    assert 'data-need="pause"' in row(answer, "whole")
    assert 'data-need="pause_in"' in row(answer, "inside")


def test_a_run_that_ended_needs_nothing_of_an_old_pause(viewer):
    a_tree("root:SUCCESS", trace_id="T").ask("", ControlAction.PAUSE)

    assert "data-need" not in row(viewer.get("/"), "T")


@pytest.mark.parametrize(
    ("segment", "runs"),
    [
        ("", ["paused", "stumbles", "broke", "done"]),
        ("running", ["paused", "stumbles"]),
        ("attention", ["stumbles", "broke"]),
        ("paused", ["paused"]),
        ("finished", ["broke", "done"]),
    ],
)
def test_segments_show_what_they_count(viewer, segment, runs):
    a_tree("root:SUCCESS", trace_id="done")
    a_tree("root:FAILED", trace_id="broke")
    a_tree("root:RUNNING(a:FAILED)", trace_id="stumbles")
    a_tree("root:RUNNING", trace_id="paused").ask("", ControlAction.PAUSE)

    answer = viewer.get("/", {"segment": segment})

    assert shown(answer) == runs
    assert segments.counts()[segment] == len(runs)
    badges = {tab.key: tab.shown for tab in answer.context["segments"]}
    assert badges[segment] == str(len(runs))


def test_a_segment_with_very_many_runs_is_counted_no_further(viewer, monkeypatch):
    monkeypatch.setattr(segments, "MOST_COUNTED", 2)
    monkeypatch.setattr("instances.runs.MOST_COUNTED", 2)
    for i in range(4):
        a_tree("root:SUCCESS", trace_id=f"T{i}")

    assert segments.counts()["finished"] == 3
    assert "2+" in text(viewer.get("/"))


def test_filters_stand_in_the_address_and_add_up(viewer):
    for id, job, status in (("a1", "crawl", 1), ("a2", "crawl", 2), ("b1", "index", 1)):
        tree = a_tree("root:RUNNING", trace_id=id)
        Trace.objects.filter(number=tree.number).update(job_id=job, status=status)
    TraceLabel.objects.create(trace=Trace.objects.get(id="a1"), key="team", value="research")

    assert shown(viewer.get("/?job_id=crawl")) == ["a2", "a1"]
    assert shown(viewer.get("/?job_id=crawl&status=RUNNING")) == ["a1"]
    assert shown(viewer.get("/?label=team:research")) == ["a1"]
    assert shown(viewer.get("/?q=b")) == ["b1"]
    assert shown(viewer.get("/?since=1h")) == []


def test_the_form_keeps_what_was_chosen(viewer):
    a_tree("root:RUNNING", trace_id="T")

    page = viewer.get("/?segment=running&status=RUNNING&q=T&label=a:b").content.decode()

    assert '<input type="hidden" name="segment" value="running">' in page
    assert '<option value="RUNNING" selected>' in page
    assert 'name="q" value="T"' in page
    assert 'name="label" value="a:b"' in page


def test_pages_lead_on_and_back_and_keep_the_filters(viewer):
    for i in range(5):
        a_tree("root:RUNNING", trace_id=f"T{i}")

    first = viewer.get("/?limit=2&segment=running")
    second = viewer.get(first.context["older"])
    back = viewer.get(second.context["newer"])

    assert (shown(first), shown(second), shown(back)) == (["T4", "T3"], ["T2", "T1"], ["T4", "T3"])
    assert first.context["newer"] is None
    assert "segment=running" in first.context["older"]


def test_a_page_costs_as_many_statements_for_fifty_runs_as_for_one(viewer):
    a_tree("root:RUNNING", trace_id="T0").ask("", ControlAction.PAUSE)
    viewer.get("/")
    with CaptureQueriesContext(connection) as few:
        viewer.get("/")
    for i in range(1, 50):
        a_tree("root:RUNNING", trace_id=f"T{i}")

    with CaptureQueriesContext(connection) as many:
        viewer.get("/")

    assert len(many) == len(few) <= 12


def test_names_are_text_and_never_markup(viewer):
    tree = a_tree("root:RUNNING", trace_id="T")
    Trace.objects.filter(number=tree.number).update(name="<img src=x onerror=alert(1)>")

    page = viewer.get("/").content.decode()

    assert "<img" not in page
    assert "&lt;img src=x" in page


def test_without_any_run_the_page_tells_a_newcomer_how_to_begin(viewer):
    answer = viewer.get("/", headers={"host": "localhost"})

    assert "No runs yet" in text(answer)
    assert "curl -X POST http://localhost/api/v1/tasks/" in answer.context["curl"]
    assert "up --demo" in text(answer)


def test_the_command_for_newcomers_is_a_request_that_works(viewer):
    body = viewer.get("/").context["curl"].partition("-d '")[2].removesuffix("'")

    answer = bearing("ingest").post("/api/v1/tasks/", body, content_type="application/json")

    assert answer.status_code == 201
    assert shown(viewer.get("/")) == ["my-first-run"]


def test_where_nothing_matches_each_filter_can_be_taken_away(viewer):
    a_tree("root:RUNNING", trace_id="T")

    answer = viewer.get("/?status=SKIPPED&q=zzz")

    assert "No run matches" in text(answer)
    assert {chip["without"] for chip in answer.context["chips"]} == {"/?status=SKIPPED", "/?q=zzz"}


def test_an_empty_segment_says_so_in_its_own_words(viewer):
    a_tree("root:RUNNING", trace_id="T")

    assert "Nothing has failed" in text(viewer.get("/?segment=attention"))


@pytest.mark.parametrize(
    "query", ["segment=none", "status=DONE", "since=9y", "cursor=abc", "label=none", "x=1"]
)
def test_an_address_that_asks_for_nonsense_is_told_so(viewer, query):
    assert viewer.get(f"/?{query}").status_code == 400


def test_only_who_may_start_runs_is_offered_to(viewer):
    a_tree("root:RUNNING", trace_id="T")

    assert "Start a run" not in text(viewer.get("/"))
    assert "Start a run" in text(signed_in_as("operator").get("/"))


def test_without_a_role_nothing_is_shown_and_the_page_says_who_can_help():
    answer = signed_in_as("", "newcomer").get("/")

    assert answer.status_code == 403
    assert "An administrator can give you another role" in text(answer)
