"""A browser whose machine slept for an hour: it catches up once, or says that the session has ended."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests import servers
from tests.browser.test_trace_browser import AWAY, Run, grid, row

HOUR_MS = 3_600_000
OUT = "from django.contrib.sessions.models import Session; Session.objects.filter(pk={key!r}).delete()"


@pytest.fixture
def run(live_tower):
    return Run(live_tower)


class Line:
    """What goes over the sockets of a page, and how often its tree was loaded whole."""

    def __init__(self, page):
        self.hellos, self.resets, self.loads = 0, 0, 0
        page.on("websocket", self._listen)
        page.on("request", self._asked)

    def _listen(self, socket):
        socket.on("framereceived", self._heard)

    def _heard(self, text):
        op = json.loads(text)["op"]
        self.hellos += op == "hello"
        self.resets += op == "reset"

    def _asked(self, request):
        self.loads += "/snapshot/" in request.url


def asleep(page):
    """The line is cut, and an hour passes in which only timers that are due at its end run, once."""
    page.context.set_offline(True)
    page.clock.fast_forward(HOUR_MS)
    expect(grid(page)).not_to_have_attribute("data-live", "live")


@pytest.mark.console_may_say(*AWAY)
def test_f25_a_page_that_slept_for_an_hour_catches_up_once(page, run):
    line = Line(page)
    page.clock.install()
    page.goto(f"/traces/{run.id}/")
    expect(grid(page)).to_have_attribute("data-live", "live")
    before = (line.hellos, line.loads)

    asleep(page)
    run.say("a", "STARTED")
    run.say("a", "COMPLETED")
    run.register_all([f"late-{i}" for i in range(40)])
    # It comes back at this word of the browser; a jump of the clock now could be silence on the new line.
    page.context.set_offline(False)

    expect(grid(page)).to_have_attribute("data-live", "live", timeout=30_000)
    expect(row(page, run, "a")).to_have_attribute("data-status", "SUCCESS")
    expect(grid(page)).to_have_attribute("aria-rowcount", "45")
    run.say("b", "STARTED")
    expect(row(page, run, "b")).to_have_attribute("data-status", "RUNNING")
    assert before == (1, 1)
    assert line.hellos == 2
    assert line.resets + line.loads - 1 <= 1


@pytest.mark.console_may_say(*AWAY, "status of 401")
def test_f25_where_the_session_ended_meanwhile_it_leads_through_the_sign_in_and_back(
    new_page, live_tower, run
):
    page = new_page(storage_state=None)
    page.clock.install()
    place = f"/traces/{run.id}/?node={run.task('a')}"
    page.goto(place)
    sign_in(page)
    expect(grid(page)).to_have_attribute("data-live", "live")
    (key,) = [one["value"] for one in page.context.cookies() if one["name"] == "tower_session"]

    asleep(page)
    live_tower.manage("shell", "-c", OUT.format(key=key))
    page.context.set_offline(False)
    page.clock.fast_forward(60_000)

    expect(grid(page)).to_have_attribute("data-live", "off", timeout=30_000)
    page.locator(".toast").get_by_role("button", name="Sign in").click()
    sign_in(page)
    expect(grid(page)).to_have_attribute("data-live", "live")
    assert page.url == live_tower.url + place
    expect(row(page, run, "a")).to_have_attribute("aria-selected", "true")


def sign_in(page):
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", servers.ADMIN_PASSWORD)
    page.click("form:has(input[name=password]) button[type=submit]")
