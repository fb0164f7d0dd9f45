"""Joins, attempts, reasons and the log in a real Chromium: live, by links, with and without scripts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_trace_browser import Run, open_page, row


@pytest.fixture
def run(live_tower):
    return Run(live_tower, "a b c")


def told(page):
    return page.locator("[data-list=told]")


def tab(page, name):
    return page.locator(f"[role=tab][data-tab={name}]")


def test_what_a_task_waits_for_is_said_and_follows_the_reports(page, run):
    open_page(page, run, f"?node={run.task('root')}")
    expect(told(page)).to_have_text("Waiting for 3 of 3 children: any needs 1, has 0 (a, b, c).")

    run.say("a", "COMPLETED")
    expect(told(page)).to_have_text("Waiting for 2 of 3 children: any needs 1, has 1 (b, c).")
    run.say("b", "COMPLETED")
    run.say("c", "FAILED")

    expect(told(page)).to_have_text("Ended by its 3 children: any needs 1, has 2.")


def test_a_task_that_is_waited_for_is_one_click_away(page, run):
    open_page(page, run, f"?node={run.task('root')}")

    told(page).get_by_role("link", name="b", exact=True).click()

    expect(row(page, run, "b")).to_have_attribute("aria-selected", "true")
    expect(page.locator("[data-pane] [data-field=name]")).to_have_text("b")
    expect(tab(page, "join")).to_be_hidden()
    expect(told(page)).to_be_empty()


def test_an_aggregator_follows_what_it_collects_though_its_own_row_stays(page, run):
    run.register("sum", "root", actor_type="GROUP_AGG", collects=[run.task("a"), run.task("b")])
    open_page(page, run, f"?node={run.task('sum')}&tab=join")
    lines = page.locator("[data-list=join] li")
    expect(lines.first).to_have_text("Collecting, waiting for 2 of 2: any needs 1, has 0 (a, b).")

    run.say("a", "COMPLETED", output_ref="s3://a")

    expect(lines.first).to_have_text("Collecting, waiting for 1 of 2: any needs 1, has 1 (b).")
    expect(page.locator("[data-list=results] li")).to_have_count(1)
    run.say("b", "COMPLETED")
    expect(lines.first).to_contain_text("2 results are frozen, SUCCESS by the join “any”.")


def test_more_results_are_fetched_where_they_are_asked_for(page, run):
    names = [f"k{n:03}" for n in range(60)]
    run.register_all(names)
    run.register("sum", "root", actor_type="GROUP_AGG")
    for name in names:
        run.say(name, "COMPLETED")
    open_page(page, run, f"?node={run.task('sum')}&tab=join")
    results = page.locator("[data-list=results] li")
    expect(results).to_have_count(50)

    page.locator("[data-more=results]").click()

    expect(results).to_have_count(60)
    expect(page.locator("[data-more=results]")).to_be_hidden()


def test_attempts_are_listed_as_they_come(page, run):
    open_page(page, run, f"?node={run.task('a')}")
    run.say("a", "STARTED", worker="w3")
    run.say("a", "FAILED", error_code="HTTP_429")
    run.say("a", "STARTED")

    lines = page.locator("[data-list=attempts] > li")

    expect(lines).to_have_count(2)
    expect(lines.nth(1)).to_contain_text("Attempt 1 — Failed HTTP_429 after 0:00 on worker w3")
    expect(row(page, run, "a").locator(".more")).to_have_text("attempt 2")


def test_the_events_of_a_task_say_why_and_unfold_their_payload(page, run):
    run.say("a", "COMPLETED", output_ref="s3://a")
    run.say("a", "FAILED", error_code="TWICE")
    open_page(page, run, f"?node={run.task('a')}&tab=events")

    conflict = page.locator("[data-list=events] li[data-verdict=conflict]")

    expect(conflict).to_contain_text("conflict")
    expect(conflict.locator("[data-field=why]")).to_have_text(re.compile(r"^the ending of .*\d stands$"))
    expect(conflict.locator("[data-field=skew]")).to_contain_text("clock −")
    conflict.locator("summary").click()
    expect(conflict.locator("[data-json=payload]").get_by_role("treeitem")).to_have_text(
        'error_code: "TWICE"'
    )


def test_unattached_tasks_are_told_of_until_they_find_their_place(page, run):
    open_page(page, run)
    place = page.locator("[data-loose]")
    expect(place).to_be_hidden()

    run.say("stray", "STARTED")
    expect(place.locator("summary")).to_contain_text("1 task has no place in the tree yet")
    place.locator("summary").click()
    place.get_by_role("link").click()
    expect(row(page, run, "stray")).to_have_attribute("aria-selected", "true")
    run.register("stray", "root")

    expect(place).to_be_hidden()


def test_the_log_filters_by_a_choice_and_leads_back_to_the_task(page, run):
    run.say("a", "COMPLETED")
    run.say("a", "FAILED", error_code="TWICE")
    run.say("b", "STARTED")
    open_page(page, run)
    page.get_by_role("link", name="Log", exact=True).click()
    rows = page.locator(".log [data-event-id]")
    expect(rows).to_have_count(3)

    page.locator("select[name=verdict]").select_option("conflict")

    expect(rows).to_have_count(1)
    assert "verdict=conflict" in page.url
    rows.locator("summary").click()
    expect(rows.locator("pre")).to_contain_text("TWICE")
    rows.get_by_role("link", name="a", exact=True).click()
    expect(row(page, run, "a")).to_have_attribute("aria-selected", "true")


def test_all_of_it_is_read_without_scripts(new_page, run):
    run.register("sum", "root", actor_type="GROUP_AGG", collects=[run.task("a"), run.task("b")])
    run.say("a", "FAILED", error_code="X")
    run.say("a", "COMPLETED")
    run.say("a", "STARTED", attempt=2)
    page = new_page(java_script_enabled=False)

    page.goto(f"/traces/{run.id}/?node={run.task('sum')}&tab=join")
    expect(page.locator("[data-list=join] li").first).to_contain_text("waiting for 2 of 2")
    page.locator("[data-list=join] a").first.click()
    expect(page.locator("[data-list=attempts] > li")).to_have_count(2)
    page.get_by_role("link", name="Log", exact=True).click()
    page.locator("select[name=verdict]").select_option("conflict")
    page.get_by_role("button", name="Filter").click()

    expect(page.locator(".log [data-event-id]")).to_have_count(1)
