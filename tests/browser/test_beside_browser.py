"""From a filtered list into a run, and with `{` and `}` through that list, in a real Chromium."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_pages_browser import start


@pytest.fixture(scope="module", autouse=True)
def runs(live_tower):
    for n in range(1, 6):
        start(live_tower, f"beside-{'x' if n % 2 else 'y'}-{n}", name=f"beside {n}")


def trace(page, id):
    expect(page).to_have_url(re.compile(f"/traces/{id}/"))
    expect(page.locator(".trace")).to_have_attribute("data-beside", "list")
    expect(page.locator("[role=treegrid]")).to_have_attribute("data-live", "live")


def press(page, key):
    page.locator("[role=treegrid] [role=row][tabindex='0']").focus()
    page.keyboard.press(key)


def test_braces_walk_the_list_that_the_reader_came_from(page):
    page.goto("/?q=beside-x&limit=2")
    page.get_by_role("link", name="beside 5").click()
    trace(page, "beside-x-5")

    press(page, "}")
    trace(page, "beside-x-3")
    press(page, "}")
    trace(page, "beside-x-1")
    expect(page.locator(".trace")).not_to_have_attribute("data-older", re.compile("."))
    press(page, "{")
    trace(page, "beside-x-3")


def test_who_came_on_another_way_walks_all_runs(page):
    page.goto("/?q=beside-x")
    page.get_by_role("link", name="beside 3").click()
    trace(page, "beside-x-3")
    page.goto("/traces/beside-x-3/")

    expect(page.locator("[role=treegrid]")).to_have_attribute("data-live", "live")
    press(page, "}")

    expect(page).to_have_url(re.compile("/traces/beside-y-2/"))
