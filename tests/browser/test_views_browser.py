"""The views of a run in a real Chromium: its tree, a flat list, its failures by error code."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.test_trace_browser import Run, grid, open_page, row, shown


@pytest.fixture
def run(live_tower):
    """a and b failed for one reason, and so did all above b; c for another."""
    run = Run(live_tower, "a above c d")
    run.register("b", "above")
    run.say("d", "STARTED", at=1_734_567_000_000)
    for name, code in (("a", "HTTP_429"), ("b", "HTTP_429"), ("above", "CHILD"), ("c", "TIMEOUT")):
        run.say(name, "STARTED")
        run.say(name, "FAILED", error_code=code, error_msg=f"{code} it said")
    return run


def cause(page, code):
    return page.locator(f"[role=row][data-group='{code}']")


def test_v_goes_round_the_views_and_the_address_says_which(page, run):
    open_page(page, run)
    row(page, run, "a").focus()

    page.keyboard.press("v")
    expect(grid_of(page)).to_have_attribute("data-view", "flat")
    expect(page.locator("[data-view-of=flat]")).to_have_attribute("aria-current", "true")
    assert page.url.endswith("?view=flat")
    expect(row(page, run, "a")).to_be_focused()
    page.keyboard.press("v")
    expect(grid_of(page)).to_have_attribute("data-view", "failures")
    page.keyboard.press("v")

    expect(grid_of(page)).to_have_attribute("data-view", "tree")
    assert "view=" not in page.url


def grid_of(page):
    return page.locator(".trace .grid")


def opened(page, run, query):
    page.goto(f"/traces/{run.id}/{query}")
    expect(grid_of(page)).to_have_attribute("data-live", "live")


def test_a_flat_list_has_all_in_order_of_their_start_and_is_no_tree(page, run):
    run.register("e", "above")

    opened(page, run, "?view=flat")

    expect(row(page, run, "e")).to_be_visible()
    assert shown(page) == ["Tesla", "d", "a", "b", "above", "c", "e"]
    expect(grid_of(page)).to_have_attribute("role", "grid")
    assert (
        row(page, run, "b").evaluate(
            "r => r.getAttributeNames().filter(n => /level|posin|setsize|expand/.test(n))"
        )
        == []
    )
    expect(row(page, run, "b").locator(".where")).to_have_text("in above")
    assert violations(page) == []


def test_a_flat_list_follows_what_begins_and_what_comes(page, run):
    run.register("e", "above")
    opened(page, run, "?view=flat")
    expect(row(page, run, "e")).to_be_visible()

    run.say("e", "STARTED", at=1_734_566_000_000)
    run.register("f", "e")

    expect(row(page, run, "f")).to_be_visible()
    expect(page.locator("[role=row][data-task-id] .name").first).to_have_text("e")
    assert shown(page) == ["e", "Tesla", "d", "a", "b", "above", "c", "f"]


def test_a_filter_leaves_nothing_but_its_matches_in_a_flat_list(page, run):
    opened(page, run, "?view=flat&status=FAILED")
    expect(page.locator("[data-found]")).to_have_text("4 matches")
    assert shown(page) == ["a", "b", "above", "c"]

    page.locator("[data-search]").fill("nowhere")

    expect(page.locator(".none")).to_contain_text("No task matches.")


def test_failures_are_root_causes_by_error_code_the_most_first(page, run):
    opened(page, run, "?view=failures")

    expect(cause(page, "HTTP_429").locator(".times")).to_have_text("× 2")
    expect(cause(page, "HTTP_429").locator(".said")).to_have_text("HTTP_429 it said")
    expect(cause(page, "TIMEOUT").locator(".times")).to_have_text("× 1")
    assert page.locator("[role=row][data-group] .name").all_inner_texts() == ["HTTP_429", "TIMEOUT"]
    expect(grid_of(page)).to_have_attribute("role", "treegrid")
    cause(page, "HTTP_429").click()
    assert shown(page) == ["a", "b"]
    expect(row(page, run, "b")).to_have_attribute("aria-level", "2")
    expect(row(page, run, "b")).to_have_attribute("aria-setsize", "2")
    assert violations(page) == []


def test_what_fails_comes_into_the_list_with_its_code(page, run):
    opened(page, run, "?view=failures")
    expect(cause(page, "HTTP_429").locator(".times")).to_have_text("× 2")

    run.register("g", "d")
    run.say("g", "FAILED", error_code="HTTP_429")
    run.say("d", "FAILED")

    expect(cause(page, "HTTP_429").locator(".times")).to_have_text("× 3")
    expect(page.locator("[role=row][data-group]")).to_have_count(2)


def test_a_failure_leads_to_its_place_in_the_tree(page, run):
    opened(page, run, "?view=failures")
    cause(page, "HTTP_429").click()

    row(page, run, "b").locator(".where").click()

    expect(grid(page)).to_have_attribute("data-view", "tree")
    expect(row(page, run, "b")).to_be_focused()
    expect(row(page, run, "b")).to_have_attribute("aria-selected", "true")
    expect(row(page, run, "b")).to_have_attribute("aria-level", "3")


def test_the_next_failure_is_found_in_the_list_of_failures_too(page, run):
    opened(page, run, "?view=failures")
    cause(page, "HTTP_429").focus()

    page.keyboard.press("n")
    expect(row(page, run, "a")).to_be_focused()
    page.keyboard.press("n")

    expect(row(page, run, "b")).to_be_focused()
    expect(page.locator("#status")).to_have_text("failure 2 of 3")


def test_without_failures_the_list_says_so(page, live_tower):
    run = Run(live_tower)

    opened(page, run, "?view=failures")

    expect(page.locator(".none")).to_have_text("Nothing has failed.")


@pytest.mark.console_may_say("500", "Internal Server Error")
def test_codes_that_could_not_be_asked_for_are_asked_for_again(page, run):
    page.route("**/errors/?*", lambda route: route.fulfill(status=500), times=1)

    opened(page, run, "?view=failures")

    expect(cause(page, "HTTP_429").locator(".times")).to_have_text("× 2", timeout=15_000)
