"""Runs ticked in the list, in a real Chromium: ranges, live rows, compare, pause, cancel; without scripts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.test_pages_browser import row, say, start

#: The list of these tests alone.
LIST = "/?q=chosen-"


@pytest.fixture(scope="module", autouse=True)
def runs(live_tower):
    for n in range(1, 6):
        start(live_tower, f"chosen-{n}", name=f"chosen-name {n}")


def tick(page, n):
    return row(page, f"chosen-{n}").get_by_role("checkbox")


def chosen(page):
    return page.locator("[data-chosen]")


@pytest.fixture
def listed(page):
    page.goto(LIST)
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    expect(chosen(page)).to_be_hidden()
    return page


def test_shift_ticks_a_range_and_the_bar_says_how_many(listed):
    tick(listed, 5).click()
    expect(chosen(listed)).to_contain_text("1 run chosen")
    tick(listed, 2).click(modifiers=["Shift"])

    expect(chosen(listed)).to_contain_text("4 runs chosen")
    expect(tick(listed, 3)).to_be_checked()
    expect(tick(listed, 1)).not_to_be_checked()
    assert listed.url.endswith(LIST)

    listed.get_by_role("button", name="Choose none").click()
    expect(chosen(listed)).to_be_hidden()
    expect(tick(listed, 3)).not_to_be_checked()


def test_all_of_the_page_are_ticked_by_the_head(listed):
    head = listed.get_by_role("checkbox", name="Choose all on this page")

    head.check()
    expect(chosen(listed)).to_contain_text("5 runs chosen")
    tick(listed, 3).uncheck()

    assert head.evaluate("box => [box.checked, box.indeterminate]") == [False, True]


def test_what_is_ticked_stays_so_while_its_row_changes(listed, live_tower):
    tick(listed, 4).check()

    say(live_tower, "chosen-4", ("root", "STARTED"))

    expect(row(listed, "chosen-4")).to_have_attribute("data-status", "RUNNING")
    expect(tick(listed, 4)).to_be_checked()


def test_two_are_compared_and_another_number_is_not(listed):
    tick(listed, 1).check()
    compare = chosen(listed).get_by_role("button", name="Compare")
    expect(compare).to_have_attribute("aria-disabled", "true")
    compare.click(force=True)
    assert listed.url.endswith(LIST)
    tick(listed, 2).check()

    compare.click()

    expect(listed).to_have_url(re.compile(r"/compare/\?a=chosen-1&b=chosen-2$"))
    expect(listed.get_by_role("heading", name="A: chosen-name 1")).to_be_visible()


def test_pause_of_several_leads_to_what_became_of_each_also_after_a_reload(listed):
    tick(listed, 1).check()
    tick(listed, 2).check()

    chosen(listed).get_by_role("button", name="Pause").click()

    expect(listed.get_by_text("Asked of 2 runs.", exact=True).first).to_be_visible()
    listed.reload()
    expect(listed.locator("[data-control-id]")).to_have_count(2)
    expect(listed.locator("[data-control-id]").first).to_contain_text("Accepted")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_where_runs_are_ticked(new_page, scheme, width):
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 740})
    page.goto(LIST)
    tick(page, 3).check()
    expect(chosen(page)).to_be_visible()

    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_a_cancel_asks_on_a_page_of_its_own(new_page):
    page = new_page(java_script_enabled=False)
    page.goto(LIST)
    tick(page, 5).check()
    tick(page, 4).check()

    chosen(page).get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("heading", name="Cancel 2 runs?")).to_be_visible()
    page.get_by_role("button", name="Cancel 2 tasks").click()

    expect(page.locator("[data-control-id]")).to_have_count(2)
    expect(page.locator("[data-action=CANCEL]")).to_have_count(2)
