"""The runs before and behind one in the list that a reader came from: its filters, its order."""

from __future__ import annotations

import pytest

from instances.models import Trace
from tests.people import signed_in_as
from tests.trees import NOW_MS, a_tree

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def viewer():
    return signed_in_as("viewer")


@pytest.fixture
def runs():
    return [a_tree("root:SUCCESS" if n % 2 else "root:RUNNING", trace_id=f"run-{n}") for n in range(6)]


def beside(client, of, query=""):
    found = client.get(f"/runs/beside/?of={of}&{query}").json()
    return [url and url.split("/")[2] for url in (found["newer"], found["older"])]


def test_without_a_filter_they_are_the_newer_and_the_older_one(runs, viewer):
    assert beside(viewer, "run-3") == ["run-4", "run-2"]
    assert beside(viewer, "run-5") == [None, "run-4"]
    assert beside(viewer, "run-0") == ["run-1", None]


def test_a_filter_leaves_others_out(runs, viewer):
    assert beside(viewer, "run-2", "status=RUNNING") == ["run-4", "run-0"]
    assert beside(viewer, "run-3", "segment=finished") == ["run-5", "run-1"]


def test_a_run_that_no_longer_matches_keeps_its_place_in_the_list(runs, viewer):
    assert beside(viewer, "run-3", "status=RUNNING") == ["run-4", "run-2"]


def test_the_order_of_the_list_holds(runs, viewer):
    for run, took in ((1, 500), (3, 100), (5, 300)):
        Trace.objects.filter(number=runs[run].number).update(started_ms=NOW_MS, finished_ms=NOW_MS + took)

    assert beside(viewer, "run-2", "sort=oldest") == ["run-1", "run-3"]
    assert beside(viewer, "run-5", "sort=longest") == ["run-1", "run-3"]
    assert beside(viewer, "run-5", "sort=shortest") == ["run-3", "run-1"]
    assert beside(viewer, "run-2", "sort=longest") == [None, None]


def test_what_is_unknown_is_refused(runs, viewer):
    assert viewer.get("/runs/beside/?of=nowhere").status_code == 404
    assert viewer.get("/runs/beside/?of=run-1&cursor=x").status_code == 400
