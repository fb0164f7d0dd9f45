"""One search for everything: what the palette is answered, and the page of it without scripts."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from instances import palette
from instances.models import Trace, TraceLabel
from tests.people import signed_in_as
from tests.trees import a_tree
from tower.definitions import edit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def viewer():
    return signed_in_as("viewer")


def a_run(id, name="", **fields):
    tree = a_tree("root:RUNNING(a:SUCCESS)", trace_id=id)
    Trace.objects.filter(number=tree.number).update(name=name, **fields)
    return tree


def hits(client, q):
    """Addresses by kind, in their order."""
    answer = client.get("/search/hits/", {"q": q})
    assert answer.status_code == 200
    return {group["key"]: [hit["href"] for hit in group["hits"]] for group in answer.json()["groups"]}


def found(answer):
    return re.findall(r'<li><a href="([^"]+)"', answer.content.decode())


def test_a_run_is_found_by_the_beginning_of_its_id_or_name_newest_first(viewer):
    a_run("night-1")
    a_run("other", "night shift")
    a_run("third", "the night")

    assert hits(viewer, "night")["runs"] == ["/traces/other/", "/traces/night-1/", "/traces/third/"]


def test_the_run_of_this_very_id_comes_first(viewer):
    a_run("run")
    for n in range(palette.MOST + 3):
        a_run(f"run-{n}")

    found = hits(viewer, "run")["runs"]

    assert found[0] == "/traces/run/"
    assert len(found) == palette.MOST


def test_a_run_is_found_by_a_part_of_its_name_in_any_case(viewer):
    a_run("T", "Bericht für ÖSTERREICH")

    assert hits(viewer, "österreich")["runs"] == ["/traces/T/"]


def test_a_run_is_found_by_a_label(viewer):
    labelled = a_run("T")
    a_run("other")
    TraceLabel.objects.create(trace_id=labelled.number, key="team", value="blue")

    assert hits(viewer, "team:blue")["runs"] == ["/traces/T/"]
    assert "runs" not in hits(viewer, "team:red")


def test_an_id_with_a_colon_is_no_label(viewer):
    a_run("team:blue")

    assert hits(viewer, "team:bl")["runs"] == ["/traces/team:blue/"]


def test_a_task_is_found_by_its_whole_id_in_each_run_that_has_it(viewer):
    a_run("one")
    a_run("two")

    assert hits(viewer, "a")["tasks"] == ["/traces/two/?node=a", "/traces/one/?node=a"]
    assert "tasks" not in hits(viewer, "roo")


def test_definitions_are_found_by_a_part_those_that_begin_so_first(viewer):
    for id, name in (("a_report", "Weekly"), ("report", "Daily"), ("none", "Other")):
        edit.create({"id": id, "name": name, "actor_type": "AGENT", "code_ref": "docker://x/y:1"}, by="li")

    assert hits(viewer, "REPORT")["definitions"] == ["/definitions/report/", "/definitions/a_report/"]


@pytest.mark.parametrize("q", ["", "   ", "%", "_", "nowhere", "\U0010ffff", 'it\'s "so" \\'])
def test_what_nothing_is_called_finds_nothing(viewer, q):
    a_run("T", "A name")

    assert hits(viewer, q) == {}
    assert found(viewer.get("/search/", {"q": q})) == []


@pytest.mark.parametrize("query", ["q=%00", "q=" + "x" * 201, "p=1"])
def test_a_search_that_cannot_be_is_refused(viewer, query):
    assert viewer.get(f"/search/hits/?{query}").status_code == 400
    assert viewer.get(f"/search/?{query}").status_code == 400


def test_the_statements_do_not_grow_with_what_is_there(viewer):
    def asked():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            hits(viewer, "run")
        return len(queries)

    a_run("run-0")
    few = asked()
    for n in range(1, 30):
        a_run(f"run-{n}")

    assert asked() <= few <= 25


def test_the_page_shows_all_kinds_and_goes_on_by_pages(viewer):
    for n in range(7):
        a_run(f"report-{n}")
    a_run("T", "A report")
    edit.create(
        {"id": "report", "name": "Report", "actor_type": "AGENT", "code_ref": "docker://x/y:1"}, by="li"
    )

    first = viewer.get("/search/", {"q": "report", "limit": "5"})
    second = viewer.get(first.context["older"])

    runs = [f"/traces/report-{n}/" for n in range(7)][::-1]
    assert found(first) == [*runs[:5], "/traces/T/", "/definitions/report/"]
    assert found(second) == runs[5:]


def test_the_page_without_a_text_says_what_can_be_found(viewer):
    answer = viewer.get("/search/")

    assert "beginning of their id or name" in answer.content.decode()
    assert 'name="q"' in answer.content.decode()


@pytest.mark.parametrize("role", ["viewer", "operator", "editor", "admin"])
def test_each_page_that_the_palette_offers_opens_for_who_is_offered_it(role):
    client = signed_in_as(role, "li")
    page = client.get("/").content.decode()
    offered = re.search(r"data-palette-pages>(.*?)</div>", page, re.DOTALL)
    assert offered

    links = re.findall(r'<a href="([^"]+)"', offered[1])

    assert [client.get(link).status_code for link in links] == [200] * len(links)
    assert ("/dead-letters/" in links, "/admin/" in links) == (role == "admin", role in {"editor", "admin"})


def test_a_visitor_is_sent_to_sign_in_and_is_shown_no_palette(client):
    assert client.get("/search/hits/?q=a").status_code == 302
    assert "data-palette" not in client.get("/login/").content.decode()
