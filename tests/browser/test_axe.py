"""Every page in a real Chromium, in both themes: axe, one polite voice, narrow screens, no lost words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from playwright.sync_api import expect

from tests import servers
from tests.browser.axe import violations
from tests.browser.test_trace_browser import Run
from tower.access.matrix import MATRIX

THEMES = ("light", "dark")


@dataclass(frozen=True)
class Page:
    path: str
    #: Its row in the matrix of rights.
    of: str
    anonymous: bool = False
    #: Drawn by other people's code, which the tests of it hold.
    theirs: str = ""
    lost: str = ""


PAGES = {
    "sign-in": Page("/login/", "login", anonymous=True),
    "password again": Page("/login/again/", "password-again"),
    "password": Page("/password/", "password"),
    "runs": Page("/", "runs"),
    "runs that match nothing": Page("/?q=nowhere", "runs"),
    "compare": Page("/compare/?a={run}&b={other}", "compare"),
    "compare which": Page("/compare/", "compare"),
    "search": Page("/search/?q=axe", "search"),
    "search that finds nothing": Page("/search/?q=nowhere-at-all", "search"),
    "run": Page("/traces/{run}/", "trace"),
    "run filtered": Page("/traces/{run}/?status=FAILED", "trace"),
    **{
        f"details, {tab}": Page(f"/traces/{{run}}/?node={{run}}.{task}&tab={tab}", "trace")
        for tab, task in {
            "overview": "a",
            "join": "sum",
            "parameters": "a",
            "output": "b",
            "error": "a",
            "events": "a",
            "controls": "a",
        }.items()
    },
    "log": Page("/traces/{run}/events/", "trace-log"),
    "question": Page("/traces/{run}/control/", "controls:issue"),
    "audit": Page("/controls/", "controls:audit"),
    "control": Page("/controls/{control}/", "controls:record"),
    "actions on several runs": Page("/runs/actions/", "controls:bulks"),
    "action on several runs": Page("/runs/actions/{bulk}/", "controls:bulk"),
    "action on several runs, its question": Page("/runs/actions/{question}/", "controls:bulk"),
    "definitions": Page("/definitions/", "definitions"),
    "definition": Page("/definitions/axe-form/", "definition"),
    "definition as JSON": Page("/definitions/axe-form/?as=json", "definition"),
    "versions compared": Page("/definitions/axe-form/versions/?from=1&to=2", "definition-versions"),
    "definition that is off": Page("/definitions/axe-off/", "definition"),
    "health": Page("/health/", "health"),
    "dead letters": Page("/dead-letters/", "dead-letters"),
    "dead letter": Page("/dead-letters/{letter}/", "dead-letter"),
    "API": Page("/api/docs/", "api:docs", theirs="#api-docs"),
    "not found": Page("/traces/nowhere/", "trace", lost="404"),
    "administration": Page("/admin/", "admin:*"),
    "administration, list": Page("/admin/definitions/taskdefinition/", "admin:*"),
    "administration, form": Page("/admin/definitions/taskdefinition/axe-form/change/", "admin:*"),
}
#: What a browser shows of these is another page of the table, or nothing at all.
NO_PAGES = {
    "search-hits",
    "controls:file",
    "trace-task", "controls:preview", "theme", "language", "logout", "healthz", "readyz", "metrics",
    "controls:chosen", "controls:bulk-state", "controls:bulk-do", "runs-matching", "runs-beside",
    "definition-start", "admin-login", "admin-logout", "admin-password", "live", "runs-new", "run-views",
    "run-view", "trace-find", "trace-errors",
}  # fmt: skip


def something_of_everything(tower: servers.Tower, at: int = 1_734_567_890_000) -> dict[str, str]:
    """What the paths name: the ids of a run and of a dead letter. ``at``: when it all happened."""
    defined: dict[str, dict[str, Any]] = {
        "axe-form": {
            "default_params": {"year": 2024},
            "params_schema": {
                "type": "object",
                "required": ["year"],
                "properties": {
                    "year": {"type": "integer", "title": "Year", "description": "As in its filings"},
                    "depth": {"enum": ["quick", "deep"]},
                    "sites": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
        "axe-off": {"is_active": False},
    }
    for id, more in defined.items():
        body = {"id": id, "name": id, "actor_type": "AGENT", "code_ref": "docker://x/y:1"} | more
        assert tower.call("POST", "definitions/", body)[0] == 201
    tower.call("PATCH", "definitions/axe-form/", {"timeout_sec": 60})
    other = Run(tower, "b d", at)
    other.say("b", "FAILED")
    run = Run(tower, "b c", at)
    run.register("a", input_params={"year": 2024, "nested": {"list": [1, None, "https://example.org/"]}})
    run.register("sum", actor_type="GROUP_AGG")
    run.say("a", "STARTED", worker="w1", message="half way")
    run.say("a", "FAILED", error_code="HTTP_429", error_msg="slow")
    run.say("a", "COMPLETED")
    run.say("b", "COMPLETED", output_ref='{"file": "https://example.org/1", "pages": [1, 2]}')
    run.say("c", "FAILED", error_code="HTTP_429")
    run.say("stray", "STARTED")
    run.tower.call("POST", "controls/", {"trace_id": run.id, "task_id": run.task("sum"), "action": "PAUSE"})
    run.tower.call("POST", "controls/", {"id": f"{run.id}.pause", "trace_id": run.id, "action": "PAUSE"})
    run.say("sum", "STARTED")
    run.say("sum", "PROGRESS", paused=True)
    letters = redis.Redis.from_url((tower.home / "secrets" / "redis_url").read_text())
    letters.xadd("tms.task.events", {"event": '{"event_id": "' + "x" * 300})
    letter = servers.until(lambda: letters.xrange("tms.task.events.dead", count=1), "it is put aside")
    return {"run": run.id, "other": other.id, "letter": letter[0][0].decode(), "control": f"{run.id}.pause"}


def actions_on_several(chromium: Any, tower: servers.Tower, signed_in: Any, run: str) -> dict[str, str]:
    """Two actions on all runs that match: one that was done, one whose question stands."""
    context = chromium.new_context(base_url=tower.url, storage_state=signed_in)
    page = context.new_page()
    page.goto("/")

    def choose() -> str:
        token = next(one["value"] for one in context.cookies() if one["name"] == "csrftoken")
        form = {"action": "RUN", "all": "1", "query": f"q={run}", "csrfmiddlewaretoken": token}
        answer = context.request.post("/runs/control/", form=form, headers={"Referer": tower.url})
        assert answer.ok
        return str(answer.url)

    page.goto(choose())
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("Done.", exact=True)).to_be_visible(timeout=30_000)
    ids = {"bulk": page.url, "question": choose()}
    context.close()
    return {name: url.rstrip("/").rsplit("/", 1)[1] for name, url in ids.items()}


@pytest.fixture(scope="module")
def seen(live_tower, chromium, signed_in):
    found = something_of_everything(live_tower)
    return found | actions_on_several(chromium, live_tower, signed_in, found["other"])


@pytest.fixture
def open_it(new_page, seen):
    def open_it(name, **options):
        what = PAGES[name]
        page = new_page(**({"storage_state": None} if what.anonymous else {}), **options)
        page.goto(what.path.format(**seen))
        expect(page.locator("h1").first).to_be_visible()
        if what.of == "trace" and not what.lost:
            expect(page.locator("[role=treegrid]")).to_have_attribute("data-live", "live")
        if "parameters" in name or "output" in name:
            expect(page.locator("[role=treeitem]").first).to_be_visible()
        if "error" in name:
            expect(page.locator("[data-list=alike] a")).to_be_visible()
        return page

    return open_it


def test_every_page_is_in_the_table():
    pages = {name for name in MATRIX if not name.startswith("api:")} - NO_PAGES

    assert pages == {page.of for page in PAGES.values()} - {"api:docs"}


@pytest.mark.console_may_say("status of 404")
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(open_it, name, theme):
    page = open_it(name, color_scheme=theme)

    assert violations(page, leave_out=PAGES[name].theirs) == []


@pytest.mark.console_may_say("status of 404")
@pytest.mark.parametrize("name", PAGES)
def test_on_a_narrow_screen_nothing_is_wider_and_axe_finds_nothing(open_it, name):
    page = open_it(name, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert violations(page, leave_out=PAGES[name].theirs) == []


OURS = [name for name, page in PAGES.items() if not page.of.startswith(("admin", "api"))]


@pytest.mark.console_may_say("status of 404")
@pytest.mark.parametrize("name", OURS)
def test_a_page_has_one_polite_voice_one_title_and_one_main_part(open_it, name):
    page = open_it(name)

    polite = page.locator("[aria-live=polite], [role=status], [role=log], output")
    assert polite.evaluate_all("all => all.map((one) => one.id)") == ["status"]
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator("main, [role=main]")).to_have_count(1)
    assert re.fullmatch(r".+ · Command Tower", page.title())


def test_the_question_with_a_dialog_is_fit_too(open_it):
    page = open_it("run")

    page.locator("form[data-control][data-for=''] button[value=CANCEL]").click()
    expect(page.locator("dialog[open]")).to_be_visible()

    assert violations(page) == []


def test_toasts_and_a_search_in_json_are_fit_too(open_it):
    page = open_it("details, parameters")
    page.locator("[data-json=parameters] [data-json-part=search]").fill("example")
    expect(page.locator("[data-json=parameters] mark")).to_have_count(1)
    page.locator("form[data-control][data-for=''] button[value=PAUSE]").click()
    expect(page.locator(".toast")).to_be_visible()

    assert violations(page) == []
