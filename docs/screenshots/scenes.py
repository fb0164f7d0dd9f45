"""What a page shows only after a person has done something to it, and what a tower shows that is still empty.

The gallery takes each of them in every look, beside the pages as they open.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

from tests.servers import ADMIN_PASSWORD

Act = Callable[[Page], None]
#: The run that shows how idle times fold, the one that is asked to pause, the one that has no task but one.
NIGHT, ASKED, BARE = "night", "asked", "bare"


def nothing(page: Page) -> None:
    """As the page opens."""


@dataclass(frozen=True)
class Scene:
    path: str
    act: Act = nothing
    #: Who looks on: the admin of the suite, or one with this role.
    role: str = ""
    anonymous: bool = False
    #: A narrow page does not offer this.
    wide: bool = False


# -- deeds


def keys(*pressed: str) -> Act:
    """With the focus on the first row of the tree."""

    def act(page: Page) -> None:
        first_row(page).focus()
        for key in pressed:
            page.keyboard.press(key)

    return act


def click(selector: str, then: str = "") -> Act:
    def act(page: Page) -> None:
        page.locator(selector).first.click()
        if then:
            expect(page.locator(then).first).to_be_visible()

    return act


def first_row(page: Page) -> Locator:
    return page.locator("[role=row][data-task-id]").first


def find(text: str) -> Act:
    def act(page: Page) -> None:
        page.keyboard.press("Control+k")
        page.locator("[data-palette] input").fill(text)
        expect(page.locator("[data-palette]")).to_have_attribute("data-for", text)

    return act


def search(text: str) -> Act:
    def act(page: Page) -> None:
        page.locator("[data-search]").fill(text)
        expect(page.locator("[data-found]")).not_to_be_empty()

    return act


def choose(then: str = "") -> Act:
    """Tick two runs; and go on with the button of that action."""

    def act(page: Page) -> None:
        for at in (0, 1):
            page.locator("[data-tick]").nth(at).check()
        if then:
            with page.expect_navigation():
                page.locator(f"[data-chosen] button[value={then}]").click()

    return act


def refuse(page: Page) -> None:
    page.fill("input[name=username]", f"nobody-{time.monotonic_ns()}")
    page.fill("input[name=password]", "not this one")
    page.click("form:has(input[name=password]) button[type=submit]")
    expect(page.locator(".problems, .err, [role=alert]").first).to_be_visible()


def start_wrongly(page: Page) -> None:
    page.locator("#p-year, [name*=year]").first.fill("soon")
    page.locator("[name=labels]").fill("no colon")
    with page.expect_navigation():  # else before icons and scripts
        page.locator("[data-start] button[type=submit]").first.click()
    expect(page.locator("[data-problems]")).to_be_visible()


def lose_the_line(page: Page) -> None:
    page.context.set_offline(True)
    page.evaluate("dispatchEvent(new Event('offline'))")
    expect(page.locator(".veil")).to_be_visible(timeout=30_000)


def drop_a_report(page: Page) -> None:
    page.locator("main input[type=checkbox][name=letter]").first.check()
    with page.expect_navigation():
        page.locator("main button[value=drop]").first.click()


def make_token(page: Page) -> None:
    if "/again/" in page.url:  # who signed in a while ago
        page.fill("input[name=password]", ADMIN_PASSWORD)
        page.click("form:has(input[name=password]) button[type=submit]")
    page.fill("input[name=name]", "fleet")
    for box in page.locator("input[type=checkbox]").all()[:2]:
        box.check()
    page.locator("input[type=submit]").first.click()


SCENES = {
    # What a run shows when it is asked for.
    "run flat": Scene("/traces/{crawl}/?view=flat"),
    "run failures": Scene("/traces/{crawl}/?view=failures"),
    "run path": Scene("/traces/{night}/", keys("i")),
    "run idle folded": Scene("/traces/{night}/", keys("x")),
    "run without its map": Scene("/traces/{crawl}/", click("[data-map]"), wide=True),
    "run searched": Scene("/traces/{crawl}/", search("status:failed")),
    "run nothing found": Scene("/traces/{crawl}/", search("nowhere")),
    "run marked": Scene("/traces/{crawl}/", keys("ArrowDown", " ", "ArrowDown", " ", "ArrowDown", " ")),
    "run menu of a row": Scene("/traces/{crawl}/", keys("ArrowDown", ".")),
    "run details": Scene("/traces/{crawl}/?node=site3"),
    "run cancel": Scene("/traces/{crawl}/", keys("ArrowDown", "c")),
    "run keys": Scene("/traces/{crawl}/", keys("?")),
    "run toast": Scene(
        "/traces/{asked}/", click("form[data-control][data-for=''] button[value=PAUSE]", ".toast")
    ),
    "run not live": Scene("/traces/{crawl}/", lose_the_line),
    "run of one task": Scene("/traces/{bare}/"),
    "run played back": Scene("/traces/{night}/", keys("h", "ArrowLeft", "ArrowLeft")),
    "large run played back": Scene("/traces/{crawl}/", keys("h")),
    "run that ended": Scene("/traces/{night}/"),
    "run seen by a viewer": Scene("/traces/{crawl}/", role="viewer"),
    # The list of runs.
    "runs chosen": Scene("/", choose()),
    "runs views": Scene("/", click("[popovertarget=views-menu]", "#views-menu")),
    "runs of a label": Scene("/?label=team:research&status=RUNNING"),
    "runs paused together": Scene("/?q=trace-browser", choose("PAUSE")),
    "runs to be cancelled": Scene("/", choose("CANCEL")),
    # The bar above.
    "palette": Scene("/", find("")),
    "palette searched": Scene("/traces/{crawl}/", find("crawl")),
    "palette finds nothing": Scene("/", find("nowhere at all")),
    "menu of the theme": Scene("/", click("[popovertarget=theme-menu]", "#theme-menu")),
    "menu of the person": Scene("/", click("[popovertarget=user-menu]", "#user-menu")),
    # Other pages.
    "start refused": Scene("/definitions/axe-form/", start_wrongly),
    "definition seen by a viewer": Scene("/definitions/axe-form/", role="viewer"),
    "definition of the crawl": Scene("/definitions/crawl/"),
    "definitions that match nothing": Scene("/definitions/?q=nowhere"),
    "audit of nothing": Scene("/controls/?q=nowhere"),
    "pause of a branch": Scene("/controls/{pause}/"),
    "reports to be dropped": Scene("/dead-letters/", drop_a_report),
    "token made": Scene("/admin/access/token/add/", make_token),
    # Refusals.
    "sign-in refused": Scene("/login/", refuse, anonymous=True),
    "forbidden": Scene("/dead-letters/", role="viewer"),
    "bad request": Scene("/?status=nonsense&limit=x"),
    "page not found": Scene("/nowhere/"),
    "failed": Scene("/failed/"),
    "too many tries": Scene("/too-many/"),
}

#: As a tower shows them to whom has just installed it.
AT_FIRST = {
    "first runs": Scene("/"),
    "first definitions": Scene("/definitions/"),
    "first controls": Scene("/controls/"),
    "first health": Scene("/health/"),
    "first dead letters": Scene("/dead-letters/"),
    "first search": Scene("/search/"),
    "first administration": Scene("/admin/"),
}
