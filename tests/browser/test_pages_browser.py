"""Sign-in, runs and health in a real Chromium: live rows, themes, keys, narrow screens, no scripts, axe."""

from __future__ import annotations

import re
import time

import pytest
import redis
from playwright.sync_api import expect

from tests import servers
from tests.browser.axe import violations

#: Parts of axe's best practices that name no failure of WCAG are left to the reviewer.
PAGES = {"sign-in": "/login/", "runs": "/", "health": "/health/", "dead letters": "/dead-letters/"}


@pytest.fixture(scope="module", autouse=True)
def a_dead_letter(live_tower):
    client = redis.Redis.from_url((live_tower.home / "secrets" / "redis_url").read_text())
    client.xadd("tms.task.events", {"event": '{"event_id": "' + "x" * 300})
    servers.until(lambda: client.xlen("tms.task.events.dead"), "it is put aside")


@pytest.fixture(scope="module")
def a_run(live_tower):
    """A run that stays: some done, one failed, one running."""
    trace = "browser-pages-1"
    tasks = [{"id": f"{trace}.root", "trace_id": trace, "job_id": "pages", "actor_type": "AGENT"}]
    tasks += [
        {
            "id": f"{trace}.k{i}",
            "trace_id": trace,
            "parent_id": f"{trace}.root",
            "job_id": "pages",
            "actor_type": "EXECUTION",
        }
        for i in range(4)
    ]
    live_tower.call("POST", "tasks/", tasks)
    say(live_tower, trace, ("root", "STARTED"), ("k0", "COMPLETED"), ("k1", "FAILED"), ("k2", "STARTED"))
    return trace


def say(tower, trace, *reports, at=1_700_000_000_000):
    events = [
        {
            "event_id": f"{trace}.{task}.{kind}",
            "trace_id": trace,
            "task_id": f"{trace}.{task}",
            "event_type": kind,
            "timestamp_ms": at + i,
        }
        for i, (task, kind) in enumerate(reports)
    ]
    status, body = tower.call("POST", "events/", events)
    assert status == 200, body


def start(tower, trace, **more):
    body = {"id": f"{trace}.root", "trace_id": trace, "job_id": "pages", "actor_type": "AGENT", **more}
    assert tower.call("POST", "tasks/", body)[0] == 201


def row(page, trace):
    return page.locator(f"[role=row][data-trace='{trace}']")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_a_narrow_screen(new_page, a_run, name):
    page = new_page(
        viewport={"width": 360, "height": 740}, **({"storage_state": None} if name == "sign-in" else {})
    )
    page.goto(PAGES[name])
    if name == "runs":
        expect(page.locator("#live")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_row_follows_its_run_without_moving(page, live_tower, a_run):
    trace = "browser-pages-2"
    start(live_tower, trace)
    page.goto("/")
    expect(row(page, trace)).to_have_attribute("data-status", "PENDING")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    order = page.locator("[role=row][data-trace]").evaluate_all("rows => rows.map(r => r.dataset.trace)")

    say(live_tower, trace, ("root", "STARTED"), ("root", "COMPLETED"))

    expect(row(page, trace)).to_have_attribute("data-status", "SUCCESS")
    expect(row(page, trace).locator(".word")).to_contain_text("Success")
    expect(row(page, trace).locator("[data-done]")).to_have_text("1 / 1")
    assert (
        page.locator("[role=row][data-trace]").evaluate_all("rows => rows.map(r => r.dataset.trace)") == order
    )


def test_new_runs_wait_behind_a_line_until_they_are_asked_for(page, live_tower, a_run):
    page.goto("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    page.evaluate("window.sameDocument = true")
    first = page.locator("[role=row][data-trace]").first.get_attribute("data-trace")

    start(live_tower, "browser-pages-3")
    start(live_tower, "browser-pages-4")

    line = page.locator("[data-newrows]")
    expect(line).to_have_text("2 new runs — show")
    assert page.locator("[role=row][data-trace]").first.get_attribute("data-trace") == first

    line.click()

    expect(row(page, "browser-pages-4")).to_be_visible()
    rows = page.locator("[role=row][data-trace]").evaluate_all("rows => rows.map(r => r.dataset.trace)")
    assert rows[:3] == ["browser-pages-4", "browser-pages-3", first]
    expect(line).to_be_hidden()
    expect(row(page, "browser-pages-4").locator("a")).to_have_attribute("href", "/traces/browser-pages-4/")
    assert page.evaluate("window.sameDocument === true")

    say(live_tower, "browser-pages-4", ("root", "STARTED"))
    expect(row(page, "browser-pages-4")).to_have_attribute("data-status", "RUNNING")


def test_a_run_that_begins_between_drawing_and_listening_is_offered_too(page, live_tower, a_run):
    began = []

    def slow_socket(route):
        # The page is drawn; its script is on the way.
        start(live_tower, "browser-pages-5")
        began.append(True)
        route.continue_()

    page.route(re.compile(r"/static/js/runs[.\w]*\.js"), slow_socket)
    page.goto("/")

    expect(page.locator("[data-newrows]")).to_have_text("1 new run — show")
    assert began


def test_badges_count_live(page, live_tower, a_run):
    page.goto("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    running = page.locator("[data-segment=running] em")
    before = int(running.inner_text())

    start(live_tower, "browser-pages-6")

    expect(running).to_have_text(str(before + 1))


def test_a_pause_shows_in_the_list(page, live_tower, a_run):
    trace = "browser-pages-7"
    start(live_tower, trace)
    page.goto("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")

    live_tower.call("POST", "controls/", {"trace_id": trace, "action": "PAUSE"})

    expect(row(page, trace).locator("[data-need=pause]")).to_have_text("pause asked")


def test_the_badge_says_when_the_line_is_lost(page, a_run):
    page.goto("/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")

    page.route_web_socket(re.compile("/ws/traces/"), lambda socket: socket.close())
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")

    expect(page.locator("#live")).to_have_attribute("data-live", "late")
    expect(page.locator("#live")).to_contain_text("Reconnecting")


def test_times_are_the_readers_own(new_page, a_run):
    page = new_page(timezone_id="Asia/Shanghai")

    page.goto("/")

    # 14 November, 22:13 in UTC
    expect(row(page, a_run).locator("time")).to_have_text("15 Nov 2023")


def test_the_duration_of_a_run_ticks_and_stands_still_at_its_end(page, live_tower):
    trace = "browser-pages-8"
    start(live_tower, trace)
    began = time.time_ns() // 1_000_000
    say(live_tower, trace, ("root", "STARTED"), at=began)
    page.goto("/")
    took = row(page, trace).locator(".took")

    expect(took).to_have_text(re.compile(r"0:(0[2-9]|[1-5]\d)"))
    say(live_tower, trace, ("root", "COMPLETED"), at=began + 61_000)

    expect(took).to_have_text("1:01")


def test_filters_work_by_choice_and_stand_in_the_address(page, a_run):
    page.goto("/")

    page.select_option("select[name=status]", "SKIPPED")

    page.wait_for_url("**/?status=SKIPPED")
    expect(page.get_by_text("No run matches")).to_be_visible()
    page.locator("a.chip").click()
    page.wait_for_url(lambda url: "status" not in url)


def test_a_slash_leads_to_the_search(page, a_run):
    page.goto("/")

    page.keyboard.press("/")

    expect(page.locator("[data-search]")).to_be_focused()
    page.keyboard.type("a/b")
    expect(page.locator("[data-search]")).to_have_value("a/b")


def test_the_first_stop_of_the_keyboard_skips_the_bar(page, a_run):
    page.goto("/")

    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.locator("#main")).to_be_focused()


def test_the_theme_changes_in_place_and_stays(page, a_run):
    page.goto("/health/")
    page.evaluate("window.sameDocument = true")

    page.get_by_role("button", name="Theme").click()
    with page.expect_response("**/theme/"):
        page.get_by_role("button", name="Dark").click()

    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("window.sameDocument === true")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 23)"


def test_menus_open_and_work_without_scripts(new_page, a_run):
    page = new_page(java_script_enabled=False, viewport={"width": 360, "height": 740})
    page.goto("/")
    expect(row(page, a_run)).to_be_visible()

    page.get_by_role("button", name="Pages").click()
    page.get_by_role("link", name="Health").click()
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Dark").click()

    page.wait_for_url("**/health/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_filters_have_a_button_without_scripts(new_page, a_run):
    page = new_page(java_script_enabled=False)
    page.goto("/")

    page.select_option("select[name=status]", "RUNNING")
    page.get_by_role("button", name="Filter").click()

    expect(row(page, a_run)).to_be_visible()


def test_the_health_page_asks_again_by_itself(page, a_run):
    page.goto("/health/")

    with page.expect_response(
        lambda answer: answer.url.endswith("/health/") and "json" in answer.headers["content-type"]
    ):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    expect(page.locator("[data-card=database] p")).to_contain_text("answers")
    expect(page.locator("[data-lost]")).to_be_hidden()


@pytest.mark.console_may_say("ERR_FAILED")
def test_the_health_page_says_when_nobody_answers(page, a_run):
    page.goto("/health/")
    expect(page.locator("[data-card=database]")).to_be_visible()

    page.route("**/health/", lambda route: route.abort())

    expect(page.get_by_text("The tower does not answer")).to_be_visible(timeout=20_000)


def test_a_run_is_opened_by_a_click_anywhere_in_its_row(page, a_run):
    page.goto("/")

    # Forced: what the pointer meets there is the link, which covers the row.
    row(page, a_run).locator(".roll").click(force=True)

    page.wait_for_url(f"**/traces/{a_run}/")


def test_sign_in_says_what_was_wrong_and_puts_the_cursor_there(new_page, live_tower):
    page = new_page(storage_state=None)
    page.goto("/health/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", "not this one")
    page.click("button[type=submit]")

    expect(page.get_by_role("alert").filter(has_text="do not belong together")).to_be_visible()
    expect(page.locator("[name=password]")).to_be_focused()
    page.fill("[name=password]", servers.ADMIN_PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url("**/health/")


def test_forced_colours_keep_shapes_words_and_bars(new_page, a_run):
    page = new_page(forced_colors="active")
    page.goto("/")

    failed = row(page, a_run).locator(".stack [data-status=FAILED]")

    expect(row(page, a_run).locator(".word")).to_contain_text("Running")
    assert failed.evaluate("part => getComputedStyle(part).backgroundImage").startswith(
        "repeating-linear-gradient"
    )


def test_a_filtered_list_offers_only_new_runs_that_belong(page, live_tower, a_run):
    start(live_tower, "browser-pages-20", labels={"team": "filtered"})
    page.goto("/?label=team:filtered")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")

    start(live_tower, "browser-pages-21")
    for n in (22, 23):
        start(live_tower, f"browser-pages-{n}", labels={"team": "filtered"})

    line = page.locator("[data-newrows]")
    expect(line).to_have_text("2 new runs — show")
    line.click()
    expect(page.locator("[role=row][data-trace]")).to_have_count(3)
    expect(page).to_have_url(re.compile(r"\?label=team(:|%3A)filtered$"))


def test_a_list_of_nothing_offers_what_comes_to_belong(page, live_tower, a_run):
    page.goto("/?label=team:nobody-yet")
    expect(page.get_by_text("No run matches")).to_be_visible()
    expect(page.locator("#live")).to_have_attribute("data-live", "live")

    start(live_tower, "browser-pages-24", labels={"team": "nobody-yet"})

    page.locator("[data-newrows]").click()
    expect(row(page, "browser-pages-24")).to_be_visible()


@pytest.mark.parametrize("live", [False, True], ids=["drawn by the server", "come live"])
def test_a_label_in_a_row_is_a_filter(page, live_tower, a_run, live):
    trace = f"browser-pages-3{int(live)}"
    labels = {"env": "a b&c", "team": f"labels-{live}"}
    if not live:
        start(live_tower, trace, labels=labels)
    page.goto("/")
    if live:
        expect(page.locator("#live")).to_have_attribute("data-live", "live")
        start(live_tower, trace, labels=labels)
        page.locator("[data-newrows]").click()

    row(page, trace).get_by_text("env:a b&c").click()
    page.wait_for_url(re.compile("label="))
    row(page, trace).get_by_text(f"team:labels-{live}").click()

    expect(page.locator(".tools .chip.on")).to_have_text([re.compile("env:a b&c"), re.compile("team:labels")])
    expect(page.locator("[role=row][data-trace]")).to_have_count(1)
    page.locator(".tools .chip.on a").first.click()
    expect(page.locator(".tools .chip.on")).to_have_count(1)


def test_a_head_sorts_and_says_so(page, live_tower, a_run):
    start(live_tower, "browser-pages-25")
    say(live_tower, "browser-pages-25", ("root", "STARTED"), ("root", "COMPLETED"))
    page.goto("/")

    page.get_by_role("columnheader", name="Duration").get_by_role("link").click()

    expect(page.get_by_role("columnheader", name="Duration")).to_have_attribute("aria-sort", "descending")
    expect(page.locator("select[name=sort]")).to_have_value("longest")
    page.get_by_role("columnheader", name="Duration").get_by_role("link").click()
    expect(page.get_by_role("columnheader", name="Duration")).to_have_attribute("aria-sort", "ascending")


@pytest.mark.parametrize("scripts", [True, False])
def test_filters_are_saved_as_a_view_that_opens_the_list_and_goes_again(new_page, a_run, scripts):
    page = new_page(java_script_enabled=scripts)
    page.goto("/?status=FAILED")

    page.get_by_role("button", name="Views").click()
    page.get_by_label("Save these filters as").fill("Failures")
    page.get_by_label("Open the list with it").check()
    page.get_by_role("button", name="Save this view").click()

    tab = page.locator(".segs .view")
    expect(tab).to_have_text("Failures")
    expect(tab).to_have_attribute("aria-current", "true")
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/\?status=FAILED$"))
    page.locator("[data-segment='']").click()
    expect(page.locator("[data-segment='']")).to_have_attribute("aria-current", "true")

    page.get_by_role("button", name="Views").click()
    page.get_by_role("button", name="Delete Failures").click()

    expect(page.locator(".segs .view")).to_have_count(0)
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_filters_sorts_and_the_open_menu_of_views_are_accessible(new_page, a_run, scheme):
    page = new_page(color_scheme=scheme)
    page.goto("/?label=team:x&status=FAILED&sort=longest&job_id=pages")
    page.get_by_role("button", name="Views").click()
    expect(page.get_by_label("Save these filters as")).to_be_visible()

    assert violations(page) == []


def test_the_strip_has_a_text_alternative(page, a_run):
    page.goto("/")

    strip = page.get_by_role("img", name=re.compile(r"Runs per hour over the last 24 hours: \d+ began"))

    expect(strip).to_be_visible()
