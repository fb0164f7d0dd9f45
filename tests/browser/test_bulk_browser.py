"""All runs that match, on all pages, in a real Chromium: counted, asked, done by the real sweeper."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.test_pages_browser import row, start

#: The list of these tests alone, three pages of it.
LIST = "/?q=many-&limit=2"


@pytest.fixture(scope="module", autouse=True)
def runs(live_tower):
    for n in range(1, 7):
        start(live_tower, f"many-{n}", name=f"many-name {n}")


def all_pages(page):
    return page.locator("[data-all]").get_by_role("checkbox")


@pytest.fixture
def listed(page):
    page.goto(LIST)
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    return page


def choose_all(page):
    page.get_by_role("checkbox", name="Choose all on this page").check()
    expect(page.locator("[data-all]")).to_have_text("All 6 that match and have not ended")
    all_pages(page).check()
    expect(page.locator("[data-chosen] [data-n]")).to_have_text("On all pages")


def test_all_that_match_are_offered_where_all_of_the_page_are_ticked(listed):
    row(listed, "many-6").get_by_role("checkbox").check()
    expect(all_pages(listed)).to_be_hidden()

    row(listed, "many-5").get_by_role("checkbox").check()
    expect(listed.locator("[data-all]")).to_have_text("All 6 that match and have not ended")
    all_pages(listed).check()
    compare = listed.locator("[data-compare]")
    expect(compare).to_have_attribute("aria-disabled", "true")

    row(listed, "many-6").get_by_role("checkbox").uncheck()
    expect(all_pages(listed)).to_be_hidden()
    expect(listed.locator("[data-chosen] [data-n]")).to_have_text("1 run chosen")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_where_all_are_chosen_and_on_the_question(new_page, scheme, width):
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 740})
    page.goto(LIST)
    if width > 700:
        choose_all(page)
    else:
        for n in (5, 6):
            row(page, f"many-{n}").get_by_role("checkbox").check()
        all_pages(page).check()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    page.locator("[data-chosen]").get_by_role("button", name="Cancel…").click()

    expect(page.get_by_role("heading", name="Cancel 6 runs?")).to_be_visible()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_are_paused_by_the_sweeper_and_resumed_together(listed):
    choose_all(listed)
    listed.locator("[data-chosen]").get_by_role("button", name="Pause").click()
    expect(listed.get_by_role("heading", name="Pause 6 runs?")).to_be_visible()
    listed.get_by_role("button", name="Pause").click()

    # Drawn anew by the page itself when it is done.
    expect(listed.get_by_text("Done.", exact=True)).to_be_visible(timeout=30_000)
    expect(listed.locator("[data-done]")).to_have_text("6 of 6 asked")
    expect(listed.locator("[data-outcome=taken]")).to_have_count(6)

    listed.get_by_role("button", name="Resume these runs…").click()
    expect(listed.get_by_role("heading", name="Resume 6 runs?")).to_be_visible()
    listed.get_by_role("button", name="Resume", exact=True).click()
    expect(listed.get_by_text("Done.", exact=True)).to_be_visible(timeout=30_000)
    expect(listed.locator("[data-outcome=taken]")).to_have_count(6)

    listed.get_by_role("link", name="In the audit").click()
    expect(listed.locator("[data-control-id]")).to_have_count(6)


def test_without_scripts_it_works_too(new_page):
    page = new_page(java_script_enabled=False)
    page.goto(LIST)
    page.get_by_label("All that match and have not ended, on all pages").check()
    page.locator("[data-chosen]").get_by_role("button", name="Resume").click()

    expect(page.get_by_role("heading", name="Resume 6 runs?")).to_be_visible()
    page.get_by_role("link", name="Leave them").click()
    expect(page).to_have_url(re.compile(r"/\?q=many-$"))
