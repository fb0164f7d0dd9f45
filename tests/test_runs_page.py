"""The page of all runs, without scripts: rows, segments, filters, empty states."""

from __future__ import annotations

import itertools
import re
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from instances import finding, glance, ingest, runs_feed, segments
from instances.live_reads import in_database
from instances.models import SavedView, Trace, TraceLabel
from tests.people import bearing, signed_in_as
from tests.trees import a_tree
from tower.definitions import edit
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


# -- finding by whichever index


@pytest.fixture
def fifty():
    """Runs whose columns go through all that a filter may ask, in no order that another has."""
    made = Trace.objects.bulk_create(
        Trace(
            id=f"T{i:02}",
            next_n=1,
            job_id=f"job{i % 3}",
            status=i % 6,
            failed=i % 2,
            name=f"name{i % 7}",
            started_by=f"person{i % 4}",
            created_ms=1_000 * i,
            updated_ms=1_000 * i,
            started_ms=None if i % 11 == 5 else 1_000,
            finished_ms=None if i % 6 < 2 else 1_000 + i * 37 % 23,
        )
        for i in range(50)
    )
    TraceLabel.objects.bulk_create(
        TraceLabel(trace=trace, key="team", value=f"team{i % 5}") for i, trace in enumerate(made)
    )
    return [trace.number for trace in made]


ASKED = {
    "job": (finding.has("job_id", "job1"), lambda i: i % 3 == 1),
    "status": (finding.has("status", 3), lambda i: i % 6 == 3),
    "who": (finding.has("started_by", "person2"), lambda i: i % 4 == 2),
    "label": (finding.labelled("team", "team4"), lambda i: i % 5 == 4),
    "label of none": (finding.labelled("team", "team9"), lambda i: False),
    "since": (finding.made(">=", 20_000), lambda i: i >= 20),
    "before": (finding.made("<", 45_000), lambda i: i < 45),
    "need": (segments.SEGMENTS["attention"].condition, lambda i: i % 6 == 3 or (i % 2 and i % 6 < 2)),
    "open": (segments.SEGMENTS["running"].condition, lambda i: i % 6 < 2),
    "ended": (segments.SEGMENTS["finished"].condition, lambda i: i % 6 > 1),
}


@pytest.mark.parametrize("few", [0, 12, 5_000], ids=["walks only", "both", "names them"])
@pytest.mark.parametrize("sort", finding.SORTS)
def test_every_filter_with_every_other_finds_the_same_whichever_index_leads(fifty, monkeypatch, sort, few):
    monkeypatch.setattr(finding, "FEW", few)
    order = finding.SORTS[sort]
    length = {i: i * 37 % 23 for i in range(50) if i % 11 != 5 and i % 6 > 1}
    key = (lambda i: (length[i], i)) if order.by else (lambda i: i)
    pool = sorted(length if order.by else range(50), key=key, reverse=order.down)

    for (one, fits), (other, fits_too) in itertools.combinations_with_replacement(ASKED.values(), 2):
        assert one and other
        wanted = [fifty[i] for i in pool if fits(i) and fits_too(i)]
        conditions = list(dict.fromkeys([one, other]))

        found = finding.find(conditions, order, None, 100)

        assert found == wanted, (one.where, other.where)


@pytest.mark.parametrize("sort", finding.SORTS)
@pytest.mark.parametrize("label", ["", "team:team1"])
def test_pages_of_every_order_lead_through_all_and_back(fifty, viewer, sort, label):
    asked = f"sort={sort}&limit=4&label={label}"
    whole = shown(viewer.get(f"/?sort={sort}&limit=100&label={label}"))
    pages, address = [], f"/?{asked}"
    while address:
        answer = viewer.get(address)
        pages.append(shown(answer))
        back, address = answer.context["newer"], answer.context["older"]

    assert [id for page in pages for id in page] == whole
    assert shown(viewer.get(back)) == pages[-2]


def test_a_text_is_the_beginning_of_a_name_too(fifty, viewer, monkeypatch):
    wanted = [f"T{i:02}" for i in range(49, -1, -1) if i % 7 == 3]

    for few in (0, 5_000):
        monkeypatch.setattr(finding, "FEW", few)
        assert shown(viewer.get("/?q=name3")) == wanted
    assert shown(viewer.get("/?q=NAME3")) == []


def test_a_text_that_finds_runs_by_id_and_by_name_finds_all_of_them(viewer, monkeypatch):
    monkeypatch.setattr(finding, "VERY_FEW", 5)
    Trace.objects.bulk_create(
        Trace(id=f"{prefix}{i}", name=f"ab{i}", next_n=1, created_ms=0, updated_ms=0)
        for i, prefix in enumerate(["ab", "ab", "ab", "zz", "zz", "zz"])
    )

    assert len(shown(viewer.get("/?q=ab"))) == 6


def test_what_runs_longest_began_first(viewer):
    for id in ("first", "second"):
        a_tree("root:RUNNING", trace_id=id)

    assert shown(viewer.get("/?segment=running&sort=longest")) == ["first", "second"]
    assert shown(viewer.get("/?status=RUNNING&sort=shortest")) == ["second", "first"]


def test_where_nothing_has_ended_an_order_by_duration_says_so(viewer):
    a_tree("root:RUNNING", trace_id="T")

    assert "Nothing has finished yet" in text(viewer.get("/?sort=longest"))


def test_the_head_that_sorts_says_how_and_turns_the_order(viewer):
    a_tree("root:RUNNING", trace_id="T")

    columns = viewer.get("/?sort=longest&status=RUNNING").context["columns"]

    assert (columns["took"].state, columns["took"].url) == ("descending", "/?status=RUNNING&sort=shortest")
    assert (columns["started"].state, columns["started"].url) == ("none", "/?status=RUNNING")


# -- filters


def test_who_started_them_is_a_filter_and_a_menu(viewer):
    for id, who in (("a", "ann"), ("b", "bo"), ("c", "ann"), ("d", "")):
        tree = a_tree("root:RUNNING", trace_id=id)
        Trace.objects.filter(number=tree.number).update(started_by=who)

    assert shown(viewer.get("/?started_by=ann")) == ["c", "a"]
    assert glance.starters() == ["ann", "bo"]


def test_labels_add_up_and_each_can_be_taken_away_alone(viewer):
    for id, labels in (("a", {"team": "x", "env": "prod"}), ("b", {"team": "x"}), ("c", {"env": "prod"})):
        number = a_tree("root:RUNNING", trace_id=id).number
        for key, value in labels.items():
            TraceLabel.objects.create(trace_id=number, key=key, value=value)

    answer = viewer.get("/?label=team:x&label=env:prod")

    assert shown(answer) == ["a"]
    assert answer.context["labels"] == [("team:x", "/?label=env%3Aprod"), ("env:prod", "/?label=team%3Ax")]
    assert answer.content.decode().count('type="hidden" name="label"') == 2


def test_a_label_in_a_row_leads_to_its_runs_among_these(viewer):
    number = a_tree("root:RUNNING", trace_id="T").number
    for i in range(5):
        TraceLabel.objects.create(trace_id=number, key=f"k{i}", value="v")

    said = row(viewer.get("/?status=RUNNING"), "T")

    assert 'href="/?status=RUNNING&amp;label=k0%3Av"' in said
    assert said.count('class="label"') == 3 and "+2" in said


def test_a_run_shows_the_version_that_it_pinned(viewer):
    for id in ("other", "mine"):
        edit.create({"id": id, "name": id, "actor_type": "AGENT", "code_ref": "x"}, by="me")
    for n in range(3):
        edit.change("mine", {"description": f"{n}"}, by="me")
    early = ingest.start_run(job_id="other", input_params={}, labels=None, started_by="me", trace_id=None)
    late = ingest.start_run(job_id="mine", input_params={}, labels=None, started_by="me", trace_id=None)
    edit.change("mine", {"description": "later"}, by="me")

    answer = viewer.get("/")

    assert f"v1 · {early.trace_id}" in row(answer, early.trace_id)
    assert f"v4 · {late.trace_id}" in row(answer, late.trace_id)


# -- new ones of a filtered list


def test_of_a_filtered_list_only_new_runs_that_belong_are_counted(viewer):
    for id, who in (("a", "ann"), ("b", "bo"), ("c", "ann")):
        tree = a_tree("root:RUNNING", trace_id=id)
        Trace.objects.filter(number=tree.number).update(started_by=who)

    def count(query):
        return viewer.get(f"/runs/new/?{query}").json()["n"]

    assert count("started_by=ann&after=a") == 1
    assert count("started_by=bo&after=b") == 0
    assert count("started_by=ann") == 2


# -- at a glance


def test_the_strip_says_what_began_and_what_failed_by_hour(db):
    now = 1_790_000_000_000
    for hours_ago, status in ((0, 1), (2, 2), (2, 3), (23, 3), (30, 3)):
        tree = a_tree("root:RUNNING")
        Trace.objects.filter(number=tree.number).update(created_ms=now - hours_ago * 3_600_000, status=status)

    day = glance.read_day(now)

    assert (day.runs, day.ended, day.failed, day.cut) == (4, 3, 2, False)
    assert [(hour.runs, hour.failed) for hour in day.hours if hour.runs] == [(1, 1), (2, 1), (1, 0)]
    assert day.failed_share == pytest.approx(200 / 3)


def test_of_a_very_full_day_the_newest_runs_are_counted_and_the_page_says_so(db, monkeypatch):
    monkeypatch.setattr(glance, "MOST_COUNTED", 3)
    now = 1_790_000_000_000
    for n in range(5):
        tree = a_tree("root:RUNNING")
        Trace.objects.filter(number=tree.number).update(created_ms=now - (5 - n) * 3_600_000)

    day = glance.read_day(now)

    assert (day.runs, day.cut) == (3, True)
    assert [hour.runs for hour in day.hours][-4:] == [1, 1, 1, 0]


def test_durations_are_those_of_the_newest_that_succeeded(viewer):
    for n in range(1, 22):
        tree = a_tree("root:SUCCESS", trace_id=f"T{n}")
        Trace.objects.filter(number=tree.number).update(
            job_id="crawl", status=2, started_ms=0, finished_ms=n * 1_000
        )
    Trace.objects.filter(id="T21").update(status=3)

    found = glance.durations(["crawl", "none"])

    assert found == {"crawl": glance.Durations(10_000, 19_000, 20)}
    assert glance.durations(["crawl"], most=2)["crawl"].of == 2
    assert "p50 0:10 p95 0:19" in text(viewer.get("/?job_id=crawl"))


# -- saved views


def test_a_view_is_a_name_for_filters_and_a_tab(viewer):
    a_tree("root:RUNNING", trace_id="T")

    saved = viewer.post(
        "/runs/views/", {"name": " My  failures ", "query": "status=FAILED&q=&sort=oldest&cursor=x"}
    )
    answer = viewer.get("/?sort=oldest&status=FAILED")

    assert saved.headers["Location"] == "/?sort=oldest&status=FAILED"
    assert '<a class="view begins" href="/?sort=oldest&amp;status=FAILED" aria-current="true">' in (
        answer.content.decode()
    )
    assert [view.name for view, _ in answer.context["views"]] == ["My failures"]
    assert 'data-segment="" aria-current' not in answer.content.decode()


def test_the_same_name_takes_the_new_filters(viewer):
    for query in ("status=FAILED", "status=RUNNING"):
        viewer.post("/runs/views/", {"name": "mine", "query": query})

    assert [view.query for view in SavedView.objects.all()] == ["status=RUNNING"]


def test_the_list_opens_with_the_first_view_and_all_runs_stay_a_click_away(viewer):
    a_tree("root:RUNNING", trace_id="T")
    viewer.post("/runs/views/", {"name": "failures", "query": "status=FAILED", "first": "yes"})
    viewer.post("/runs/views/", {"name": "all", "query": "", "first": "yes"})
    viewer.post("/runs/views/", {"name": "bad", "query": "status=FAILED", "first": "yes"})

    opened = viewer.get("/")
    every = viewer.get("/?segment=")

    assert opened.headers["Location"] == "/?status=FAILED"
    assert SavedView.objects.filter(first=True).count() == 1
    assert shown(every) == ["T"]
    assert every.context["segments"][0].url == "/?segment="


def test_a_first_view_can_be_put_back_and_deleted(viewer):
    viewer.post("/runs/views/", {"name": "v", "query": "status=FAILED", "first": "yes"})
    view = SavedView.objects.get()

    viewer.post(f"/runs/views/{view.pk}/", {"do": "not_first"})
    assert viewer.get("/").status_code == 200
    viewer.post(f"/runs/views/{view.pk}/", {"do": "first"})
    assert viewer.get("/").status_code == 302
    viewer.post(f"/runs/views/{view.pk}/", {"do": "delete"})
    assert not SavedView.objects.exists()


def test_nobody_sees_or_changes_the_views_of_another(viewer):
    other = signed_in_as("admin", "other")
    other.post("/runs/views/", {"name": "mine", "query": "status=FAILED", "first": "yes"})
    view = SavedView.objects.get()

    assert viewer.get("/").status_code == 200
    assert viewer.post(f"/runs/views/{view.pk}/", {"do": "delete"}).status_code == 404
    assert viewer.post("/runs/views/none/", {"do": "delete"}).status_code == 404
    assert SavedView.objects.exists()


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, "a\0b"])
def test_a_view_without_a_fit_name_is_not_saved_and_the_page_says_why(viewer, name):
    a_tree("root:RUNNING", trace_id="T")

    answer = viewer.post("/runs/views/", {"name": name, "query": "status=RUNNING"}, follow=True)

    assert not SavedView.objects.exists()
    assert "A view needs a name" in text(answer)


def test_twenty_views_are_enough(viewer):
    for n in range(21):
        viewer.post("/runs/views/", {"name": f"v{n}", "query": f"q={n}"})

    assert SavedView.objects.count() == 20


def test_in_a_view_a_segment_leaves_its_filters(viewer):
    a_tree("root:RUNNING", trace_id="T")
    viewer.post("/runs/views/", {"name": "v", "query": "status=FAILED"})

    in_view = viewer.get("/?status=FAILED").context["segments"]
    beside = viewer.get("/?status=RUNNING").context["segments"]

    assert [tab.url for tab in in_view[:2]] == ["/", "/?segment=running"]
    assert [tab.url for tab in beside[:2]] == ["/?status=RUNNING", "/?status=RUNNING&segment=running"]


# -- live


async def test_counts_that_were_spared_are_sent_once_they_may_be_read(monkeypatch):
    monkeypatch.setattr(runs_feed, "COUNTING_SHARE", 1e9)
    said = []

    async def hear(text):
        said.append(orjson.loads(text))

    hub: Any = SimpleNamespace(mode="push", epoch="e")
    feed = runs_feed.RunsFeed(hub)
    await feed.show(runs_feed.Reader(hear), [])
    await in_database(partial(a_tree, "root:RUNNING", trace_id="T"))
    now = time.monotonic()

    await feed.look(now)
    await feed.look(now + 1e12)

    assert [message["segments"]["running"] for message in said] == [0, 0, 1]
