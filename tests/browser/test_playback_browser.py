"""Playback on the trace page in a real Chromium: by keys, by hand, as a link; live goes on beneath."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.test_trace_browser import Run, grid, open_page, row

MINUTE = 60_000


@pytest.fixture
def hour(live_tower):
    """A run of an hour, still going on: a ran from 0:10 to 0:20, b failed at 0:40, c waits."""
    run = Run(live_tower, "a b c")
    run.began = time.time_ns() // 1_000_000 - 60 * MINUTE
    run.say("root", "STARTED", at=run.began)
    run.say("a", "STARTED", at=run.began + 10 * MINUTE)
    run.say("a", "COMPLETED", at=run.began + 20 * MINUTE)
    run.say("b", "STARTED", at=run.began + 30 * MINUTE)
    run.say("b", "FAILED", at=run.began + 40 * MINUTE, error_code="X")
    return run


def iso(page, ms):
    return page.evaluate("ms => new Date(ms).toISOString()", ms)


def at(page, run, minutes, query=""):
    return open_page(page, run, f"?at={iso(page, run.began + round(minutes * MINUTE))}{query}")


def statuses(page, run):
    return [row(page, run, name).get_attribute("data-status") for name in ("root", "a", "b", "c")]


def bar(page):
    return page.locator("[data-playback]")


def cursor(page):
    return page.locator("[data-cursor]")


def settled(page, minutes, run):
    """The address says where the cursor rests."""
    expect(page).to_have_url(
        re.compile(re.escape(iso(page, run.began + round(minutes * MINUTE)).replace(":", "%3A")))
    )


def test_a_link_shows_the_run_as_it_was(page, hour):
    at(page, hour, 15)

    expect(bar(page)).to_be_visible()
    expect(bar(page).locator("[data-moment]")).to_contain_text("the run as it was; live goes on beneath")
    assert statuses(page, hour) == ["RUNNING", "RUNNING", "PENDING", "PENDING"]
    expect(row(page, hour, "root").locator(".roll b")).to_have_text("0/3")
    expect(row(page, hour, "a").locator(".wf small")).to_have_text("5:00")
    expect(row(page, hour, "b").locator(".bar")).to_have_attribute("hidden", "")
    expect(page.locator("[data-span] b")).to_have_text("15:00")
    expect(page.locator("[data-failures]")).to_be_hidden()
    expect(page.locator(".over.past .now")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Playback")


def test_it_is_entered_moved_and_left_by_keys(page, hour):
    open_page(page, hour)
    row(page, hour, "a").focus()
    page.keyboard.press("h")
    expect(cursor(page)).to_be_focused()
    assert statuses(page, hour) == ["RUNNING", "SUCCESS", "FAILED", "PENDING"]

    # From change to change, from the end backwards.
    for minutes, seen in ((40, "FAILED"), (30, "RUNNING"), (20, "PENDING")):
        page.keyboard.press("Shift+ArrowLeft")
        expect(row(page, hour, "b")).to_have_attribute("data-status", seen)
        settled(page, minutes, hour)
    page.keyboard.press("Home")
    expect(row(page, hour, "a")).to_have_attribute("data-status", "PENDING")
    settled(page, 0, hour)
    expect(cursor(page)).to_have_attribute("aria-valuetext", re.compile("3 pending, 1 running"))
    page.keyboard.press("Shift+ArrowRight")
    expect(row(page, hour, "a")).to_have_attribute("data-status", "RUNNING")
    page.keyboard.press("PageUp")
    page.keyboard.press("ArrowRight")

    page.keyboard.press("Escape")

    expect(bar(page)).to_be_hidden()
    expect(row(page, hour, "a")).to_be_focused()
    assert statuses(page, hour) == ["RUNNING", "SUCCESS", "FAILED", "PENDING"]
    assert "at=" not in page.url
    expect(page.locator("#status")).to_have_text("Back to now.")


def test_rows_and_folds_are_walked_as_ever_and_escape_leads_back(page, hour):
    hour.register("a1", "a")
    at(page, hour, 15)
    row(page, hour, "root").focus()

    page.keyboard.press("j")
    expect(row(page, hour, "a")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(row(page, hour, "a1")).to_have_count(0)
    page.keyboard.press(">")
    expect(row(page, hour, "b")).to_have_attribute("data-status", "PENDING")
    settled(page, 20, hour)
    page.keyboard.press("Escape")

    expect(bar(page)).to_be_hidden()
    expect(row(page, hour, "a1")).to_have_count(0)
    expect(row(page, hour, "a")).to_be_focused()


def test_the_cursor_follows_the_pointer_over_the_axis(page, hour):
    at(page, hour, 15)
    axis = page.locator(".axis").bounding_box()
    y = axis["y"] + axis["height"] / 2

    page.mouse.move(axis["x"] + 5, y)
    page.mouse.down()
    expect(row(page, hour, "a")).to_have_attribute("data-status", "PENDING")
    page.mouse.move(axis["x"] + axis["width"] * 0.6, y, steps=4)
    page.mouse.up()

    expect(row(page, hour, "b")).to_have_attribute("data-status", re.compile("RUNNING|FAILED"))
    expect(page.locator("[data-fit]")).to_be_hidden()


def test_what_arrives_meanwhile_is_there_on_return_and_not_before(page, hour):
    at(page, hour, 15)
    before = page.evaluate("document.title")

    hour.say("c", "FAILED", error_code="LATE")
    hour.register("d")
    # The tab tells of the present: two have failed.
    expect(page).to_have_title(re.compile("2 failed"))
    assert "1 failed" in before
    assert statuses(page, hour) == ["RUNNING", "RUNNING", "PENDING", "PENDING"]
    expect(row(page, hour, "d")).to_have_count(0)
    expect(grid(page)).to_have_attribute("data-live", "live")

    page.locator("[data-back]").click()

    expect(row(page, hour, "c")).to_have_attribute("data-status", "FAILED")
    expect(row(page, hour, "d")).to_be_visible()
    expect(row(page, hour, "root").locator(".roll b")).to_have_text("3/4")
    expect(grid(page)).to_have_attribute(
        "data-seq", str(hour.tower.call("GET", f"traces/{hour.id}/")[1]["seq"])
    )


def test_the_past_takes_no_commands(page, hour):
    hour.ask("PAUSE", "c")
    at(page, hour, 15, f"&node={hour.task('a')}")

    expect(bar(page)).to_be_visible()
    expect(page.locator("form[data-control] button:visible")).to_have_count(0)
    expect(page.locator("[data-notices] .notice")).to_have_count(0)
    expect(page.locator(".over .band")).to_be_hidden()
    expect(page.locator("[data-part=then]")).to_be_visible()
    row(page, hour, "c").focus()
    page.keyboard.press("p")
    expect(page.locator("#status")).to_have_text("The past takes no commands. Esc leads back to now.")
    assert len(hour.controls()) == 1

    page.keyboard.press("h")

    expect(page.locator("[data-notices] .notice")).to_have_count(1)
    expect(page.locator("[data-part=then]")).to_be_hidden()
    expect(page.locator("form[data-control][data-for=''] button[value=CANCEL]")).to_be_visible()


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_it_plays_to_the_end_and_stays_there(new_page, hour, motion):
    page = at(new_page(reduced_motion=motion), hour, 0)
    page.locator("[data-speed]").select_option("3600")
    assert statuses(page, hour) == ["RUNNING", "PENDING", "PENDING", "PENDING"]

    page.locator("[data-play]").click()

    expect(page.locator("#status")).to_have_text("The end: this is where playback was begun.")
    assert statuses(page, hour) == ["RUNNING", "SUCCESS", "FAILED", "PENDING"]
    expect(page.locator("[data-play] span")).to_have_text("Play")
    expect(bar(page)).to_be_visible()


def test_a_filter_by_status_follows_the_moment(page, hour):
    at(page, hour, 35, "&status=RUNNING")
    expect(row(page, hour, "b")).to_be_visible()
    expect(row(page, hour, "a")).to_have_count(0)

    row(page, hour, "b").focus()
    page.keyboard.press("<")
    page.keyboard.press("<")
    page.keyboard.press("<")

    expect(row(page, hour, "a")).to_be_visible()
    expect(row(page, hour, "b")).to_have_count(0)


def test_a_run_of_which_nothing_has_begun_has_no_past(page, live_tower):
    run = Run(live_tower, "a")
    open_page(page, run)
    row(page, run, "a").focus()

    page.keyboard.press("h")

    expect(page.locator("#status")).to_have_text("Nothing has begun yet: there is no past to play.")
    expect(bar(page)).to_be_hidden()


def test_earlier_attempts_are_said_to_be_unknown(page, hour):
    hour.say("b", "STARTED", at=hour.began + 50 * MINUTE, attempt=2)
    at(page, hour, 45)

    expect(row(page, hour, "b").locator(".more")).to_have_text("earlier attempt not known")
    expect(page.locator("[data-unsure]")).to_have_text("Tried more than once, earlier attempts not shown: 1.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_bar_of_playback_is_accessible(new_page, hour, scheme):
    page = at(new_page(color_scheme=scheme), hour, 15)

    expect(bar(page)).to_be_visible()
    assert violations(page) == []


def test_on_a_phone_its_button_stands_in_the_row_of_the_others_each_wide_enough_for_a_finger(new_page, hour):
    page = open_page(new_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True), hour)
    expect(page.locator("[data-past]")).to_be_visible()

    boxes = [
        it.bounding_box()
        for it in page.locator(".tools :is(.chip, .icon-btn), .seg a, .legend a").all()
        if it.is_visible()
    ]

    assert all(box["height"] >= 36 for box in boxes), boxes
    tools = [it.bounding_box() for it in page.locator(".tools :is(.chip, .icon-btn):visible").all()]
    assert len(tools) == 4
    assert len({box["y"] + box["height"] / 2 for box in tools}) == 1, tools
