"""The command palette in a real Chromium: keys, what it finds and does, late answers, rights, no scripts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.test_pages_browser import start

RUN = "palette-run-1"


@pytest.fixture(scope="module", autouse=True)
def runs(live_tower):
    for n, name in ((1, "Palette report"), (2, "Palette crawl")):
        start(live_tower, f"palette-run-{n}", name=name)


@pytest.fixture
def opened(page):
    page.goto("/health/")
    page.keyboard.press("Control+k")
    expect(palette(page)).to_be_visible()
    return page


def palette(page):
    return page.get_by_role("dialog", name="Search and commands")


def field(page):
    return palette(page).get_by_role("combobox")


def options(page):
    return palette(page).get_by_role("option")


def active(page):
    """The option that the field says is the active one."""
    return page.locator(f"#{field(page).get_attribute('aria-activedescendant')}")


def ask(page, text):
    field(page).fill(text)
    expect(palette(page)).to_have_attribute("data-for", text)


def test_the_keys_open_and_close_it_and_the_focus_comes_back(page):
    page.goto("/health/")
    link = page.get_by_role("link", name="Definitions").first
    link.focus()

    page.keyboard.press("Control+k")
    expect(field(page)).to_be_focused()
    page.keyboard.press("Escape")

    expect(palette(page)).to_be_hidden()
    expect(link).to_be_focused()


@pytest.mark.parametrize("way", ["click", "Enter", " "])
def test_the_button_in_the_bar_opens_it(page, way):
    page.goto("/")
    button = page.get_by_role("button", name="Search", exact=True)

    if way == "click":
        button.click()
    else:
        button.press(way)

    expect(field(page)).to_be_focused()


def test_the_first_option_is_active_and_arrows_move_it_round(opened):
    expect(active(opened)).to_have_attribute("aria-selected", "true")
    assert field(opened).get_attribute("aria-activedescendant") == "palette-option-0"

    opened.keyboard.press("ArrowUp")
    last = options(opened).count() - 1
    assert field(opened).get_attribute("aria-activedescendant") == f"palette-option-{last}"
    expect(field(opened)).to_be_focused()

    opened.keyboard.press("ArrowDown")
    assert field(opened).get_attribute("aria-activedescendant") == "palette-option-0"
    expect(palette(opened).locator("[aria-selected=true]")).to_have_count(1)


def test_a_run_is_found_and_opened_and_is_recent_from_then_on(opened):
    ask(opened, "palette rep")
    option = palette(opened).get_by_role("group", name="Runs").get_by_role("option")
    expect(option).to_have_count(1)
    expect(option).to_contain_text("Palette report")

    opened.keyboard.press("Enter")
    opened.wait_for_url(re.compile(rf"/traces/{RUN}/"))
    opened.goto("/health/")
    opened.keyboard.press("Control+k")

    first = palette(opened).get_by_role("group", name="Recent").get_by_role("option").first
    expect(first).to_contain_text("Palette report")
    expect(first).to_have_attribute("aria-selected", "true")


def test_a_page_is_found_by_its_name(opened):
    field(opened).fill("contr")
    expect(active(opened)).to_contain_text("Controls")

    opened.keyboard.press("Enter")

    opened.wait_for_url(re.compile("/controls/$"))


def test_the_theme_is_chosen_in_place(opened):
    field(opened).fill("theme dark")
    expect(active(opened)).to_contain_text("Theme: Dark")

    opened.keyboard.press("Enter")

    expect(opened.locator("html")).to_have_attribute("data-theme", "dark")
    assert opened.url.endswith("/health/")


def test_cancel_opens_the_question_of_the_run(page):
    page.goto(f"/traces/{RUN}/")
    expect(page.locator("[role=treegrid]")).to_have_attribute("data-live", "live")
    page.keyboard.press("Control+k")
    field(page).fill("cancel")
    expect(active(page)).to_contain_text("Cancel…")

    page.keyboard.press("Enter")

    expect(page.locator("dialog[data-ask]")).to_be_visible()
    expect(palette(page)).to_be_hidden()
    # Of two questions at a time none could be answered.
    page.keyboard.press("Control+k")
    expect(palette(page)).to_be_hidden()


def test_a_late_answer_never_stands_below_another_text(page):
    held: list[object] = []
    page.goto("/health/")
    page.route(re.compile(r"/search/hits/.*report"), lambda route: held.append(route))
    page.keyboard.press("Control+k")
    with page.expect_request(re.compile(r"/search/hits/.*report")) as first:
        field(page).fill("palette report")
    with page.expect_event("requestfailed", lambda request: request == first.value):
        field(page).fill("palette crawl")

    expect(palette(page).get_by_role("group", name="Runs")).to_contain_text("Palette crawl")
    expect(palette(page)).to_have_attribute("data-for", "palette crawl")
    expect(palette(page).get_by_text("Palette report")).to_have_count(0)


def test_what_was_found_goes_with_the_next_letter(opened):
    ask(opened, "palette rep")
    expect(palette(opened).get_by_role("group", name="Runs")).to_be_visible()
    opened.route("**/search/hits/**", lambda route: None)

    opened.keyboard.type("x")

    expect(palette(opened).get_by_role("group", name="Runs")).to_have_count(0)
    expect(active(opened)).to_contain_text("Search everywhere for “palette repx”")


@pytest.mark.console_may_say("Failed to load resource")
def test_a_server_that_is_away_is_said(opened):
    opened.route("**/search/hits/**", lambda route: route.abort())

    field(opened).fill("palette")

    expect(palette(opened).get_by_text("does not answer")).to_be_visible()
    expect(active(opened)).to_contain_text("Search everywhere")


def test_what_is_kept_in_the_browser_leads_nowhere_else(page):
    page.goto("/health/")
    kept = [
        {"title": "evil", "sub": "", "icon": "x", "href": href} for href in ("javascript:alert(1)", "//x.org")
    ]
    page.evaluate("kept => localStorage.setItem('palette:admin', JSON.stringify(kept))", kept)

    page.keyboard.press("Control+k")

    expect(options(page).first).to_be_visible()
    expect(palette(page).get_by_text("evil")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_in_the_open_palette(new_page, scheme, width):
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 740})
    page.goto("/")
    page.keyboard.press("Control+k")
    ask(page, "palette")
    expect(palette(page).get_by_role("group", name="Runs")).to_be_visible()

    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_bar_leads_to_a_form_that_finds(new_page):
    page = new_page(java_script_enabled=False)
    page.goto("/")

    page.get_by_role("link", name="Search", exact=True).click()
    page.get_by_role("searchbox").fill("palette rep")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_role("link", name="Palette report").click()

    expect(page).to_have_url(re.compile(rf"/traces/{RUN}/"))
