"""Payloads of the log and what a dead letter held, as trees of JSON in a real Chromium."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from playwright.sync_api import expect

from tests import servers
from tests.browser.axe import violations
from tests.browser.test_trace_browser import Run

#: An object that lacks its last bracket.
CUT = '{"event_id": "json-1", "payload": {"far": {"away": [1, 2]}, "large": 12345678901234567890}'


@pytest.fixture(scope="module")
def a_run(live_tower):
    run = Run(live_tower, "a")
    run.say("a", "STARTED", message="begun", worker="w1")
    return run


@pytest.fixture(scope="module")
def letters(live_tower):
    """One that is JSON, and one that is not."""
    client: Any = redis.Redis.from_url((live_tower.home / "secrets" / "redis_url").read_text())
    before = client.xlen("tms.task.events.dead")
    client.xadd("tms.task.events", {"event": CUT + "}"})
    client.xadd("tms.task.events", {"event": CUT})
    servers.until(lambda: client.xlen("tms.task.events.dead") >= before + 2, "both are put aside")
    newest = client.xrevrange("tms.task.events.dead", count=2)
    return [id.decode() for id, _letter in reversed(newest)]


def test_a_payload_of_the_log_is_a_tree_once_it_is_opened(page, a_run):
    page.goto(f"/traces/{a_run.id}/events/")
    line = page.locator("[role=row][data-origin=actor]").first
    expect(line.get_by_role("treeitem")).to_have_count(0)

    line.locator("summary").click()

    expect(line.get_by_role("tree", name="Payload").get_by_role("treeitem").first).to_be_visible()
    expect(line.get_by_role("tree")).to_contain_text("begun")
    expect(line.locator("pre")).to_be_hidden()
    assert violations(page) == []


def test_what_a_dead_letter_held_is_a_tree_and_each_letter_of_it_is_kept(page, letters):
    page.goto(f"/dead-letters/{letters[0]}/")

    tree = page.get_by_role("tree", name="What it held")
    expect(tree).to_contain_text("12345678901234567890")
    expect(page.locator("pre.raw")).to_be_hidden()
    page.get_by_text("As it came").click()
    expect(page.locator("pre.raw")).to_have_text(CUT + "}")


def test_a_dead_letter_that_is_no_json_stays_as_it_came(page, letters):
    page.goto(f"/dead-letters/{letters[1]}/")

    expect(page.locator("pre.raw")).to_have_text(CUT)
    expect(page.get_by_role("tree")).to_have_count(0)


def test_without_scripts_both_are_texts(new_page, a_run, letters):
    page = new_page(java_script_enabled=False)
    page.goto(f"/dead-letters/{letters[0]}/")
    expect(page.locator("pre.raw")).to_be_visible()

    page.goto(f"/traces/{a_run.id}/events/")
    page.locator("[role=row][data-origin=actor] summary").first.click()

    expect(page.locator("[role=row][data-origin=actor] pre").first).to_be_visible()
