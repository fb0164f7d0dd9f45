"""The two languages in a real Chromium: the switch keeps the page, and scripts speak as the server does."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests import servers
from tests.test_chinese_pages import Reader

TRACE = "zz-language"
#: Who signed in, as the bar shows it, and the token of the suite.
PEOPLE = {"AD", "suite"}


@pytest.fixture(scope="module")
def live_tower():
    """Of this module alone: what other tests named is English."""
    with servers.database_of_its_own() as url, servers.Tower(DATABASE_URL=url) as tower:
        yield tower


@pytest.fixture(scope="module")
def run(live_tower):
    definition = {"id": "zz-job", "name": "zz-name", "actor_type": "AGENT", "code_ref": "zz://x"}
    assert live_tower.call("POST", "definitions/", definition)[0] == 201
    tasks: list[dict[str, Any]] = [{"id": f"{TRACE}.root", "parent_id": None}]
    tasks += [{"id": f"{TRACE}.{name}", "parent_id": f"{TRACE}.root"} for name in ("a", "b", "c")]
    shared = {"trace_id": TRACE, "job_id": "zz-job", "actor_type": "AGENT", "name": "zz-name"}
    assert live_tower.call("POST", "tasks/", [shared | task for task in tasks])[0] == 201
    reports: list[tuple[str, str, dict[str, Any]]] = [
        ("a", "STARTED", {}),
        ("b", "STARTED", {}),
        ("b", "FAILED", {"error_code": "zz-code"}),
    ]
    reports += [("a", "PROGRESS", {"progress": 40, "message": "zz-said", "worker": "zz-worker"})]
    events = [
        {
            "event_id": f"{TRACE}.{n}",
            "trace_id": TRACE,
            "task_id": f"{TRACE}.{task}",
            "event_type": kind,
            "timestamp_ms": 1_734_567_890_000 + n,
            "payload": payload,
        }
        for n, (task, kind, payload) in enumerate(reports)
    ]
    assert live_tower.call("POST", "events/", events)[0] in {200, 202}
    pause = {"trace_id": TRACE, "task_id": f"{TRACE}.a", "action": "PAUSE", "reason": "zz-why"}
    assert live_tower.call("POST", "controls/", pause)[0] == 201
    return TRACE


def english(page):
    return Reader(page.content()).english() - PEOPLE


def live(page):
    expect(page.locator("[role=treegrid][data-live=live]")).to_be_visible()


def test_the_scripts_of_a_run_speak_chinese(new_page, run):
    page = new_page(locale="zh-CN")
    page.goto(f"/traces/{run}/?node={run}.a")
    live(page)
    expect(page.locator("[data-pane] [data-tab=join]")).to_be_hidden()  # as soon as its details are known

    for tab in page.locator("[data-pane] [role=tab]:visible").all():
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        assert english(page) == set()
    page.locator(f"[role=row][data-task-id='{run}.b'] a").first.click()
    page.keyboard.press("?")

    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    assert english(page) == set()


def test_a_question_before_a_cancel_is_asked_in_chinese(new_page, run):
    page = new_page(locale="zh-CN")
    page.goto(f"/traces/{run}/?node={run}.a")
    live(page)

    page.locator("[data-pane] form[data-control] button[value=CANCEL]").click()

    expect(page.locator("dialog[data-ask]")).to_be_visible()
    assert english(page) == set()


@pytest.mark.parametrize("path", ["/", "/definitions/", "/controls/", "/health/"])
def test_the_scripts_of_a_page_speak_chinese(new_page, run, path):
    page = new_page(locale="zh-CN")
    with page.expect_event("load"):
        page.goto(path)

    expect(page.locator("time[datetime][title*=星期]").first).to_be_attached()
    assert english(page) == set()


def test_the_switch_keeps_what_is_selected(new_page, run):
    page = new_page(locale="zh-CN")
    page.goto(f"/traces/{run}/")
    live(page)
    page.locator(f"[role=row][data-task-id='{run}.b'] a").first.click()
    page.wait_for_url(f"**node={run}.b*")

    page.get_by_role("button", name="English").click()

    expect(page.locator("html")).to_have_attribute("lang", "en")
    assert f"node={run}.b" in page.url
    expect(page.locator("[data-pane]")).to_be_visible()


def test_the_switch_works_without_scripts_and_back(new_page):
    page = new_page(locale="en-GB", java_script_enabled=False)
    page.goto("/health/?a=b")

    page.get_by_role("button", name="简体中文").click()
    expect(page.locator("h1")).to_have_text("健康")
    page.get_by_role("button", name="English").click()

    expect(page.locator("h1")).to_have_text("Health")
    assert page.url.endswith("/health/?a=b")
