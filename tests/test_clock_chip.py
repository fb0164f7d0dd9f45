"""The chip of a clock that is more than a day off, on a run's row (reliability.md, B29)."""

from __future__ import annotations

import time

import pytest

from tests.people import signed_in_as
from tests.test_log_page import say

pytestmark = pytest.mark.django_db(transaction=True)

DAY_MS = 86_400_000


def shown():
    page = signed_in_as("viewer").get("/")
    return {run.trace_id: run.skew for run in page.context["runs"]}, page.content.decode()


def test_b29_a_run_whose_reports_are_more_than_a_day_off_says_so_in_the_list():
    now = time.time_ns() // 1_000_000
    say("a", "STARTED", now, trace_id="true")
    say("a", "STARTED", now - DAY_MS // 2, trace_id="late")
    say("a", "STARTED", now + 2 * DAY_MS, trace_id="ahead")
    say("a", "STARTED", 0, trace_id="zero")

    skews, html = shown()

    assert (skews["true"], skews["late"]) == ("", "")
    assert skews["ahead"].startswith("+")
    assert skews["zero"].startswith("−")
    assert html.count("data-skew") == 2


def test_b29_the_farthest_of_its_newest_reports_counts():
    now = time.time_ns() // 1_000_000
    say("a", "STARTED", now - 3 * DAY_MS, trace_id="T")
    say("b", "STARTED", now, trace_id="T")
    assert shown()[0]["T"].startswith("−")
