"""Marked rows of a run, in a real Chromium: one question to many branches, each answer told."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.browser.test_trace_browser import Run, open_page, row


@pytest.fixture
def run(live_tower):
    run = Run(live_tower, "a b c d")
    run.register_all(["a1", "a2"], "a")
    return run


def bar(page):
    return page.locator("[data-bulk]")


def press(page, action):
    bar(page).locator(f"button[value={action}]").click()


def toasts(page):
    return page.locator("#toasts .toast p")


def asked(run):
    return sorted(
        (one["action"], (one["task_id"] or "").removeprefix(f"{run.id}.")) for one in run.controls()
    )


def mark(page, run, *names):
    for name in names:
        row(page, run, name).focus()
        page.keyboard.press(" ")


def test_space_marks_a_row_and_takes_the_mark_away(page, run):
    open_page(page, run)
    expect(bar(page)).to_be_hidden()

    mark(page, run, "b")
    expect(row(page, run, "b")).to_have_class(re.compile("marked"))
    expect(row(page, run, "b")).to_have_attribute("aria-label", re.compile("^marked, b,"))
    expect(bar(page).locator("[data-marked]")).to_have_text("1 marked")
    expect(page.locator("#status")).to_have_text("1 marked")
    assert violations(page) == []
    page.keyboard.press(" ")

    expect(bar(page)).to_be_hidden()
    expect(row(page, run, "b")).not_to_have_class(re.compile("marked"))


def test_shift_with_arrows_and_with_a_click_marks_rows_beside_each_other(page, run):
    open_page(page, run)
    row(page, run, "a2").focus()

    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    expect(bar(page).locator("[data-marked]")).to_have_text("3 marked")
    expect(row(page, run, "c")).to_be_focused()
    page.keyboard.press("Escape")
    expect(bar(page)).to_be_hidden()
    mark(page, run, "b")
    row(page, run, "d").locator(".word").click(modifiers=["Shift"])

    expect(bar(page).locator("[data-marked]")).to_have_text("3 marked")
    expect(row(page, run, "a")).not_to_have_class(re.compile("marked"))


def test_each_marked_branch_is_asked_once_and_all_of_it_can_be_undone(page, run):
    open_page(page, run)
    mark(page, run, "a", "a1", "b")

    press(page, "PAUSE")

    expect(toasts(page)).to_have_text("Pause requested for 4 tasks in 2 branches")
    assert asked(run) == [("PAUSE", "a"), ("PAUSE", "b")]
    expect(row(page, run, "b")).to_have_attribute("data-asked", "PAUSE")
    page.locator("#toasts .toast button", has_text="Undo").click()
    expect(row(page, run, "b")).to_have_attribute("data-asked", "RUN")
    expect(row(page, run, "a")).to_have_attribute("data-asked", "RUN")
    assert asked(run) == [("PAUSE", "a"), ("PAUSE", "b"), ("RUN", "a"), ("RUN", "b")]


def test_a_cancel_of_many_asks_once_and_sums_them_up(page, run):
    open_page(page, run)
    mark(page, run, "a", "a2", "c")

    page.keyboard.press("c")
    dialog = page.locator("dialog[data-ask]")
    expect(dialog.locator("h2")).to_have_text("Cancel 2 marked branches and everything below them?")
    expect(dialog.locator("[data-sum]")).to_have_text("4pending tasks end at once")
    assert violations(page) == []
    dialog.locator("[data-confirm]").click()

    expect(toasts(page)).to_have_text("Cancel requested for 4 tasks in 2 branches")
    expect(row(page, run, "c")).to_have_attribute("data-status", "CANCELLED")
    expect(bar(page)).to_be_hidden()
    assert asked(run) == [("CANCEL", "a"), ("CANCEL", "c")]


@pytest.mark.console_may_say("409")
def test_what_is_refused_is_named_with_the_reason(page, run):
    open_page(page, run)
    mark(page, run, "b", "c")
    page.route("**/control/", lambda route: (run.say("c", "COMPLETED"), route.continue_()), times=1)

    press(page, "PAUSE")

    expect(toasts(page).first).to_have_text("1 of 2 were refused. c: Nothing there is open any more.")
    expect(toasts(page).last).to_have_text("Pause requested for 1 task in 1 branch")


def test_b57_many_open_tasks_in_many_branches_want_a_reason_too(page, live_tower):
    run = Run(live_tower, "a b")
    for name in "ab":
        run.register_all([f"{name}{n}" for n in range(60)], name)
    open_page(page, run)
    mark(page, run, "a")
    page.keyboard.press("]")
    page.keyboard.press(" ")

    press(page, "CANCEL")
    dialog = page.locator("dialog[data-ask]")
    expect(dialog.locator("[data-part=needed]")).to_be_visible()
    dialog.locator("[data-confirm]").click()

    expect(dialog.locator("[data-error]")).to_have_text("More than 100 tasks: say why, for the audit.")
    expect(dialog.locator("[name=reason]")).to_be_focused()
    dialog.locator("[name=reason]").fill("a wrong source")
    dialog.locator("[data-confirm]").click()
    expect(toasts(page)).to_have_text("Cancel requested for 122 tasks in 2 branches")


def test_more_branches_than_can_be_asked_at_once_are_not_asked_and_it_says_why(page, live_tower):
    run = Run(live_tower, "")
    run.register_all([f"f{n}" for n in range(201)], name="fetch_page")
    open_page(page, run)
    page.locator("[role=row][data-group=fetch_page]").focus()

    page.keyboard.press(" ")

    expect(bar(page).locator("[data-marked]")).to_have_text("201 marked")
    expect(bar(page).locator("[data-why]")).to_have_text(
        "At most 100 branches are asked at once; 201 are marked."
    )
    expect(bar(page).locator("button[value=PAUSE]")).to_have_attribute("aria-disabled", "true")
    page.keyboard.press("p")
    bar(page).locator("[data-clear-marks]").click()
    expect(bar(page)).to_be_hidden()
    assert run.controls() == []


def test_a_dot_opens_the_menu_of_the_row_and_escape_leads_back(page, run):
    open_page(page, run)
    row(page, run, "a").focus()

    page.keyboard.press(".")
    menu = page.get_by_role("menu", name="What can be done with a")
    expect(menu).to_be_visible()
    expect(menu.get_by_role("menuitem", name="Details")).to_be_focused()
    assert violations(page) == []
    page.keyboard.press("ArrowDown")
    expect(menu.get_by_role("menuitem", name="Pause")).to_be_focused()
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()
    expect(row(page, run, "a")).to_be_focused()
    page.keyboard.press(".")
    page.keyboard.press("w")

    expect(menu).to_be_hidden()
    expect(row(page, run, "a")).to_have_attribute("aria-expanded", "false")
    expect(row(page, run, "a")).to_be_focused()


def test_the_menu_offers_what_the_row_takes(page, run):
    run.say("b", "COMPLETED")
    open_page(page, run)
    row(page, run, "b").focus()

    page.keyboard.press(".")

    menu = page.locator("[data-row-menu]")
    expect(menu.locator("button:visible span")).to_have_text(
        ["Details", "Mark or unmark", "Copy the link", "All reports of this task"]
    )
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/events/\?task_id="))
