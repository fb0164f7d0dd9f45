"""The page of one run in a real Chromium: live rows, keys, controls, the line lost and found, no scripts."""

from __future__ import annotations

import itertools
import re

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations
from tests.servers import until

#: The way to the tower is cut on purpose.
AWAY = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED", "WebSocket", "Failed to fetch")
_serial = itertools.count(1)


class Run:
    """One run on the live tower, reported for by this test alone."""

    def __init__(self, tower, text="a b c", at=1_734_567_890_000):
        self.tower, self.id = tower, f"trace-browser-{next(_serial)}"
        #: Epoch ms from which a test counts, where it does.
        self.began = at
        self._at = itertools.count(at)
        self.register(
            "root", None, job="pages", actor_type="AGENT", name="Tesla", input_params={"year": 2024}
        )
        for name in text.split():
            self.register(name, "root")

    def task(self, name):
        return f"{self.id}.{name}"

    def register(self, id, parent="root", job="step", actor_type="EXECUTION", **more):
        body = {
            "id": self.task(id),
            "trace_id": self.id,
            "job_id": job,
            "actor_type": actor_type,
            "name": id,
            **more,
        }
        if parent:
            body["parent_id"] = self.task(parent)
        self._ok(self.tower.call("POST", "tasks/", body))

    def register_all(self, names, parent="root", **more):
        shared = {
            "trace_id": self.id,
            "parent_id": self.task(parent),
            "job_id": "step",
            "actor_type": "EXECUTION",
            **more,
        }
        self._ok(self.tower.call("POST", "tasks/", [{"id": self.task(n), "name": n} | shared for n in names]))

    def ask(self, action, name=None, reason=None):
        body = {"trace_id": self.id, "task_id": name and self.task(name), "action": action, "reason": reason}
        self._ok(self.tower.call("POST", "controls/", body))

    def say(self, name, kind, at=None, **payload):
        at = at or next(self._at)
        event = {
            "event_id": f"{self.id}.e{at}",
            "trace_id": self.id,
            "task_id": self.task(name),
            "event_type": kind,
        }
        self._ok(self.tower.call("POST", "events/", event | {"payload": payload, "timestamp_ms": at}))

    def controls(self):
        return self.tower.call("GET", f"controls/?trace_id={self.id}")[1]["results"]

    def _ok(self, answer):
        assert answer[0] in {200, 201}, answer


@pytest.fixture
def run(live_tower):
    return Run(live_tower)


def grid(page):
    return page.locator("[role=treegrid]")


def row(page, run, name):
    return page.locator(f"[role=row][data-task-id='{run.task(name)}']")


def shown(page):
    """Names of the rows, as they stand in the DOM."""
    return page.locator("[role=row][data-task-id] .name").all_inner_texts()


def open_page(page, run, query=""):
    page.goto(f"/traces/{run.id}/{query}")
    expect(grid(page)).to_have_attribute("data-live", "live")
    return page


def press(page, run, action, name=None):
    target = run.task(name) if name else ""
    page.locator(f"form[data-control][data-for='{target}'] button[value={action}]:visible").click()


def test_what_is_reported_appears_in_its_place(page, run):
    open_page(page, run)
    page.evaluate("window.same = true")

    run.say("a", "STARTED", progress=40)
    run.say("b", "FAILED", error_code="X")
    run.register("a1", "a")
    run.register("d")

    expect(row(page, run, "a")).to_have_attribute("data-status", "RUNNING")
    expect(row(page, run, "b")).to_have_attribute("data-status", "FAILED")
    expect(row(page, run, "d")).to_have_attribute("data-status", "PENDING")
    assert shown(page) == ["Tesla", "a", "a1", "b", "c", "d"]
    expect(row(page, run, "root").locator(".roll b")).to_have_text("1/5")
    assert page.evaluate("window.same")


def test_the_page_says_how_far_it_is(page, run):
    open_page(page, run)

    run.say("a", "STARTED")

    seq = run.tower.call("GET", f"traces/{run.id}/")[1]["seq"]
    expect(grid(page)).to_have_attribute("data-seq", str(seq))


def test_sums_status_and_title_of_the_head_follow(page, run):
    open_page(page, run)

    run.say("root", "STARTED", progress=62)
    run.say("a", "FAILED")

    expect(page.locator("[data-pill]")).to_have_text("Running 62 %")
    expect(page.locator(".legend li[data-status=FAILED] b")).to_have_text("1")
    expect(page).to_have_title(re.compile("^✕ 1 failed · Tesla"))


def test_a_run_whose_root_has_ended_runs_no_longer_though_a_task_is_open(page, run):
    open_page(page, run)
    run.say("root", "STARTED")
    expect(page.locator("[data-span]")).to_contain_text("running for")

    run.say("root", "FAILED")

    expect(page.locator("[data-span]")).to_contain_text("took")
    expect(page.locator(".legend li[data-status=PENDING]")).to_be_visible()


def test_a_chosen_row_opens_its_details_and_is_a_link(page, run):
    run.say("a", "FAILED", error_code="HTTP_429", error_msg="<b>slow</b>", worker="pool-2")
    open_page(page, run)

    row(page, run, "a").click()

    pane = page.locator("[data-pane]")
    expect(pane.locator("[data-field=worker]")).to_have_text("pool-2")
    expect(pane.locator(".say .bad")).to_have_text("HTTP_429 — <b>slow</b>")
    expect(row(page, run, "a")).to_have_attribute("aria-selected", "true")
    assert page.url.endswith(f"?node={run.task('a')}")
    page.reload()
    expect(pane.locator("[data-field=name]")).to_have_text("a")


def test_reports_are_listed_with_their_verdicts_and_grow(page, run):
    run.say("a", "STARTED", message="begun")
    open_page(page, run, f"?node={run.task('a')}")

    page.locator("[data-tab=events]").click()
    run.say("a", "COMPLETED", output_ref="https://example.org/x")
    run.say("a", "PROGRESS", progress=5)

    events = page.locator("[data-list=events] > li")
    expect(events).to_have_count(3)
    expect(events.nth(0)).to_contain_text("begun")
    expect(events.nth(2)).to_contain_text("late")


@pytest.mark.parametrize(
    ("ref", "links"),
    [("https://example.org/x", 1), ("javascript:alert(1)", 0), ("s3://b/k", 0), ("//host/x", 0)],
)
def test_b72_an_output_is_a_link_only_where_it_is_http(page, run, ref, links):
    run.say("a", "COMPLETED", output_ref=ref)
    open_page(page, run, f"?node={run.task('a')}&tab=output")

    expect(page.locator("[data-list=output] > *")).to_have_text(ref)
    expect(page.locator("[data-list=output] a")).to_have_count(links)


def test_pause_acts_at_once_shows_asked_then_holds_and_can_be_undone(page, run):
    run.say("a", "STARTED")
    open_page(page, run)
    row(page, run, "a").click()

    press(page, run, "PAUSE", "a")

    expect(row(page, run, "a")).to_have_attribute("data-asked", "PAUSE")
    expect(page.locator(".notice[data-action=PAUSE]")).to_contain_text("0 of 1 hold")
    run.say("a", "PROGRESS", paused=True)
    expect(row(page, run, "a")).to_have_attribute("data-holds", "true")
    expect(page.locator(".notice[data-action=PAUSE]")).to_contain_text("1 of 1 hold")
    page.locator(".toast button", has_text="Undo").click()
    expect(row(page, run, "a")).to_have_attribute("data-asked", "RUN")
    assert [c["action"] for c in run.controls()] == ["RUN", "PAUSE"]


def test_cancel_asks_first_and_names_what_it_touches(page, run):
    run.say("a", "STARTED")
    run.say("b", "COMPLETED")
    open_page(page, run)

    press(page, run, "CANCEL")

    dialog = page.locator("dialog[open]")
    expect(dialog.locator("[data-sum]")).to_contain_text("2running tasks")
    expect(dialog.locator("[data-sum]")).to_contain_text("1finished task")
    expect(dialog.locator("[data-keep]")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    assert run.controls() == []


def test_a_confirmed_cancel_reaches_the_rows_and_the_audit(page, run):
    open_page(page, run)
    press(page, run, "CANCEL")
    page.locator("dialog[open] [name=reason]").fill("wrong bucket")

    page.locator("dialog[open] button[data-confirm]").click()

    expect(row(page, run, "root")).to_have_attribute("data-asked", "CANCEL")
    expect(row(page, run, "c")).to_have_attribute("data-status", "CANCELLED")
    (control,) = run.controls()
    assert (control["action"], control["task_id"], control["reason"]) == ("CANCEL", None, "wrong bucket")


def test_the_question_counts_anew_while_it_is_open(page, run):
    open_page(page, run)
    press(page, run, "CANCEL")
    expect(page.locator("dialog[open] [data-confirm]")).to_have_text("Cancel 4 tasks")

    run.say("a", "COMPLETED")

    expect(page.locator("dialog[open] [data-confirm]")).to_have_text("Cancel 3 tasks")


@pytest.mark.console_may_say("status of 422")
def test_b57_many_tasks_want_a_reason_and_very_many_the_id_of_the_run(page, live_tower):
    run = Run(live_tower, "")
    run.register_all([f"x{n}" for n in range(1001)])
    open_page(page, run)
    press(page, run, "CANCEL")
    dialog = page.locator("dialog[open]")

    dialog.locator("[data-confirm]").click()
    expect(dialog.locator("[data-error]")).to_contain_text("say why")
    dialog.locator("[name=reason]").fill("too many")
    dialog.locator("[data-confirm]").click()
    expect(dialog.locator("[data-error]")).to_contain_text("Type")
    assert run.controls() == []
    dialog.locator("[name=confirm]").fill(run.id[-8:])
    dialog.locator("[data-confirm]").click()

    until(run.controls, "the cancel is in the audit")


@pytest.mark.console_may_say("status of 409")
def test_a_refused_control_says_why_and_changes_nothing(page, run):
    run.say("root", "STARTED")
    open_page(page, run)
    press(page, run, "CANCEL")
    run.tower.call("POST", "controls/", {"trace_id": run.id, "action": "CANCEL"})
    for name in ("a", "b", "c"):
        expect(row(page, run, name)).to_have_attribute("data-status", "CANCELLED")
    run.say("root", "CANCELLED")
    expect(row(page, run, "root")).to_have_attribute("data-status", "CANCELLED")

    page.locator("dialog[open] [data-confirm]").click()

    expect(page.locator("dialog[open] [data-error]")).not_to_be_empty()
    assert [c["action"] for c in run.controls() if c["outcome"] == "taken"] == ["CANCEL"]


def test_keys_walk_fold_and_open_the_tree(page, live_tower):
    run = Run(live_tower, "a b")
    run.register_all(["a1", "a2"], "a")
    open_page(page, run)
    row(page, run, "root").focus()

    focused = lambda name: expect(row(page, run, name)).to_be_focused()  # noqa: E731
    for key, name in (
        ("ArrowDown", "a"),
        ("ArrowRight", "a1"),
        ("ArrowLeft", "a"),
        ("End", "b"),
        ("Home", "root"),
        ("j", "a"),
    ):
        page.keyboard.press(key)
        focused(name)
    page.keyboard.press("ArrowLeft")
    expect(row(page, run, "a1")).to_have_count(0)
    expect(row(page, run, "a")).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("Home")
    page.keyboard.press("e")
    expect(row(page, run, "a2")).to_be_visible()
    page.keyboard.press("w")
    expect(row(page, run, "a")).to_have_count(0)


def test_keys_that_come_faster_than_frames_are_taken_in_their_order(page, live_tower):
    run = Run(live_tower, "a b")
    run.register_all(["a1", "a2"], "a")
    open_page(page, run)
    row(page, run, "a").locator(".tw").click()
    expect(row(page, run, "a1")).to_have_count(0)

    page.evaluate(
        """() => { for (const key of ["ArrowRight", "ArrowRight", "ArrowDown"])
          document.activeElement.dispatchEvent(
            new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })); }"""
    )

    expect(row(page, run, "a2")).to_be_focused()


def test_single_letters_do_nothing_outside_of_the_tree(page, run):
    open_page(page, run)
    page.locator("[data-search]").focus()

    page.keyboard.type("w")

    expect(row(page, run, "root")).to_have_attribute("aria-expanded", "true")
    expect(page.locator("[data-search]")).to_have_value("w")


def test_enter_leads_to_the_details_and_escape_back_to_the_row(page, run):
    open_page(page, run)
    row(page, run, "b").focus()

    page.keyboard.press("Enter")
    expect(page.locator("[data-pane] h2")).to_be_focused()
    page.keyboard.press("Escape")

    expect(row(page, run, "b")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("[data-pane]")).to_be_hidden()


def test_the_sheet_of_keys_is_made_from_the_table_that_binds_them(page, run):
    open_page(page, run)
    row(page, run, "root").focus()

    page.keyboard.press("?")

    bound = page.evaluate(
        "async (url) => (await import(url)).KEYS.map(([, , word]) => word)", keys_module(page)
    )
    expect(page.locator("dialog[open] dd")).to_have_count(len(set(bound)))
    expect(page.locator("dialog[open] kbd", has_text="Ctrl K")).to_be_visible()


def test_single_letters_can_be_switched_off_for_good(page, run):
    open_page(page, run)
    row(page, run, "root").focus()
    page.keyboard.press("?")
    page.locator("[data-letters]").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    expect(grid(page)).to_have_attribute("data-live", "live")
    row(page, run, "root").focus()

    page.keyboard.press("j")
    expect(row(page, run, "root")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(row(page, run, "a")).to_be_focused()
    page.keyboard.press("?")

    expect(page.locator("[data-letters]")).not_to_be_checked()


def keys_module(page):
    links = page.locator("link[rel=modulepreload]").evaluate_all("all => all.map((l) => l.href)")
    return next(link for link in links if "/keys" in link)


def test_folds_outlive_a_reload(page, live_tower):
    run = Run(live_tower, "a b")
    run.register("a1", "a")
    open_page(page, run)

    row(page, run, "a").locator(".tw").click()
    expect(row(page, run, "a1")).to_have_count(0)
    until(lambda: page.evaluate("sessionStorage.length"), "the fold is kept")
    page.reload()

    expect(grid(page)).to_have_attribute("data-live", "live")
    expect(row(page, run, "a1")).to_have_count(0)


def test_the_next_failure_is_found_through_folds(page, live_tower):
    run = Run(live_tower, "a b")
    run.register_all([f"a{n}" for n in range(220)], "a")
    run.say("a7", "FAILED")
    run.say("a200", "FAILED")
    open_page(page, run)
    row(page, run, "root").focus()

    page.keyboard.press("n")
    expect(row(page, run, "a7")).to_be_focused()
    page.keyboard.press("n")

    expect(row(page, run, "a200")).to_be_focused()
    expect(page.locator("#status")).to_have_text("failure 2 of 2")


@pytest.mark.parametrize("width", [360, 800])
def test_a_row_that_is_gone_to_does_not_hide_under_the_pane(new_page, live_tower, width):
    run = Run(live_tower, "")
    run.register_all([f"x{n}" for n in range(60)])
    run.say("x59", "FAILED")
    page = open_page(new_page(viewport={"width": width, "height": 700}), run, f"?node={run.task('x3')}")
    row(page, run, "x3").focus()

    page.keyboard.press("n")

    expect(row(page, run, "x59")).to_be_focused()
    below = row(page, run, "x59").bounding_box()
    assert below["y"] + below["height"] <= page.locator("[data-pane]").bounding_box()["y"]


def test_search_keeps_matches_and_what_is_above_them(page, live_tower):
    run = Run(live_tower, "a b")
    run.register("needle", "a")
    open_page(page, run)

    page.keyboard.press("/")
    page.keyboard.type("NEED")

    expect(page.locator("[data-found]")).to_have_text("1 match")
    assert shown(page) == ["Tesla", "a", "needle"]
    page.keyboard.press("Escape")
    expect(row(page, run, "b")).to_be_visible()


def test_the_focused_row_keeps_its_element_while_others_are_re_used(page, live_tower):
    run = Run(live_tower, "")
    run.register_all([f"x{n}" for n in range(400)])
    open_page(page, run)
    row(page, run, "x3").click()

    page.evaluate("document.querySelector('[data-scroll]').scrollTop = 8000")
    expect(row(page, run, "x280")).to_be_visible()

    expect(row(page, run, "x3")).to_be_focused()
    places = page.locator("[role=row][data-task-id]").evaluate_all(
        "rows => rows.map((r) => Number(r.ariaRowIndex ?? r.getAttribute('aria-rowindex')))"
    )
    assert places == sorted(places), "the order of the DOM is not that of the tree"
    assert len(places) < 80


def test_rows_above_do_not_push_away_what_is_looked_at(page, live_tower):
    run = Run(live_tower, "a")
    run.register("a0", "a")
    run.register_all([f"x{n}" for n in range(400)])
    open_page(page, run)
    row(page, run, "a").locator(".tw").click()
    expect(row(page, run, "a0")).to_be_visible()
    page.evaluate("document.querySelector('[data-scroll]').scrollTop = 8000")
    expect(row(page, run, "x290")).to_be_visible()
    before = row(page, run, "x290").bounding_box()

    run.register_all([f"a{n}" for n in range(1, 31)], "a")

    expect(grid(page)).to_have_attribute("aria-rowcount", "434")
    assert row(page, run, "x290").bounding_box() == before


def group(page, name):
    return page.locator(f"[role=row][data-group='{name}']")


def a_fan(live_tower, many=220):
    run = Run(live_tower, "a b")
    run.register_all([f"f{n}" for n in range(many)], "a", name="fetch_page")
    return run


def test_many_siblings_of_one_name_are_one_row_with_their_sums(page, live_tower):
    run = a_fan(live_tower)
    run.say("f3", "FAILED")
    run.say("f4", "COMPLETED")
    run.say("f9", "STARTED")
    open_page(page, run)

    pages = group(page, "fetch_page")
    expect(pages.locator(".times")).to_have_text("× 220")
    expect(pages.locator(".word")).to_have_text("Running")
    expect(pages.locator(".roll b")).to_have_text("2/220")
    expect(pages.locator(".fails")).to_have_text("1")
    expect(pages).to_have_attribute("aria-expanded", "false")
    expect(row(page, run, "f4")).to_have_count(0)
    assert pages.get_attribute("aria-label").startswith("fetch_page, 220 tasks of this name, Running")

    run.say("f5", "FAILED")

    expect(pages.locator(".fails")).to_have_text("2")
    expect(pages.locator(".roll b")).to_have_text("3/220")


def test_a_group_opens_folds_and_is_left_by_keys(page, live_tower):
    run = a_fan(live_tower)
    run.say("f3", "FAILED")
    open_page(page, run)
    row(page, run, "b").focus()
    page.keyboard.press("[")
    page.keyboard.press("j")
    expect(group(page, "fetch_page")).to_be_focused()

    expect(group(page, "fetch_page")).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(row(page, run, "f0")).to_be_focused()
    expect(row(page, run, "f0")).to_have_attribute("aria-setsize", "220")
    page.keyboard.press("u")
    expect(group(page, "fetch_page")).to_be_focused()
    page.keyboard.press("Enter")

    expect(row(page, run, "f0")).to_have_count(0)
    expect(grid(page)).to_have_attribute("aria-rowcount", "5")


def test_the_count_of_failures_leads_to_the_first_of_them_inside_a_group(page, live_tower):
    run = a_fan(live_tower)
    run.say("b", "FAILED")
    run.say("f150", "FAILED")
    open_page(page, run)
    row(page, run, "a").locator(".tw").click()
    expect(group(page, "fetch_page")).to_be_visible()

    group(page, "fetch_page").locator(".fails").click()

    expect(row(page, run, "f150")).to_be_focused()
    expect(row(page, run, "f150")).to_have_attribute("aria-selected", "true")


def test_a_link_to_a_task_in_a_group_opens_the_group(page, live_tower):
    run = a_fan(live_tower)

    open_page(page, run, f"?node={run.task('f200')}")

    expect(row(page, run, "f200")).to_be_in_viewport()
    expect(row(page, run, "f200")).to_have_attribute("aria-level", "4")


def test_siblings_that_become_many_before_the_eyes_of_a_reader_do_not_vanish(page, live_tower):
    run = a_fan(live_tower, 199)
    open_page(page, run)
    row(page, run, "a").locator(".tw").click()
    expect(row(page, run, "f0")).to_be_visible()

    run.register_all(["g1", "g2", "g3"], "a", name="fetch_page")

    expect(group(page, "fetch_page").locator(".times")).to_have_text("× 202")
    expect(row(page, run, "f0")).to_be_visible()
    expect(grid(page)).to_have_attribute("aria-rowcount", "207")


def test_keys_go_to_siblings_parents_and_open_them_all(page, live_tower):
    run = Run(live_tower, "a b")
    run.register("a1", "a")
    run.register("b1", "b")
    open_page(page, run)
    row(page, run, "root").focus()
    page.keyboard.press("2")
    expect(row(page, run, "a1")).to_have_count(0)

    row(page, run, "a").focus()
    page.keyboard.press("]")
    expect(row(page, run, "b")).to_be_focused()
    page.keyboard.press("[")
    expect(row(page, run, "a")).to_be_focused()
    page.keyboard.press("*")
    expect(row(page, run, "a1")).to_be_visible()
    expect(row(page, run, "b1")).to_be_visible()
    page.keyboard.press("End")
    page.keyboard.press("u")
    expect(row(page, run, "b")).to_be_focused()
    page.keyboard.press("t")
    expect(row(page, run, "root")).to_be_focused()


def test_what_runs_and_what_has_not_answered_is_found_through_folds(page, live_tower):
    run = Run(live_tower, "a b")
    run.register_all(["a1", "a2"], "a")
    run.say("a1", "STARTED")
    run.say("a2", "STARTED")
    run.ask("PAUSE", "a")
    run.say("a1", "PROGRESS", paused=True)
    open_page(page, run)
    row(page, run, "root").focus()
    page.keyboard.press("1")

    page.keyboard.press("g")
    expect(row(page, run, "a")).to_be_focused()
    expect(page.locator("#status")).to_have_text("running task 2 of 4")
    page.keyboard.press("w")
    page.keyboard.press("s")
    expect(row(page, run, "a2")).to_be_focused()
    expect(page.locator("#status")).to_have_text("1 of 1 that have not answered")
    run.say("a2", "PROGRESS", paused=True)
    expect(row(page, run, "a2")).to_have_attribute("data-holds", "true")
    page.keyboard.press("s")

    expect(page.locator("#status")).to_have_text("All that run do what was asked of them.")


def test_the_notice_of_a_pause_leads_to_who_has_not_answered(page, live_tower):
    run = Run(live_tower, "a b")
    run.register_all(["a1", "a2"], "a")
    for name in ("a1", "a2"):
        run.say(name, "STARTED")
    run.ask("PAUSE", "a")
    run.say("a1", "PROGRESS", paused=True)
    open_page(page, run)

    page.get_by_role("button", name="Who has not answered").click()

    expect(row(page, run, "a2")).to_be_focused()


def test_a_search_goes_from_match_to_match_and_says_which(page, run):
    open_page(page, run)
    run.register_all(["hay1", "hay2", "hay3"], "a")
    expect(row(page, run, "hay3")).to_be_visible()

    page.keyboard.press("/")
    page.keyboard.type("hay")
    expect(page.locator("[data-found]")).to_have_text("3 matches")
    page.keyboard.press("Enter")
    expect(row(page, run, "hay1")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    expect(row(page, run, "hay2")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#status")).to_have_text("match 2 of 3")
    page.keyboard.press("Shift+Enter")

    expect(row(page, run, "hay1")).to_have_attribute("aria-selected", "true")
    expect(page.locator("[data-search]")).to_be_focused()


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("status:failed", ["Tesla", "b"]),
        ("error:limit", ["Tesla", "b"]),
        ("error:HTTP_429 status:running", []),
        ("label:page=7", ["Tesla", "c", "c1"]),
        ("label:pa", ["Tesla", "c", "c1"]),
        ('message:"half way"', ["Tesla", "a"]),
        ("worker:pool", ["Tesla", "a"]),
    ],
)
def test_a_search_asks_the_tower_for_what_only_it_knows(page, run, typed, found):
    run.say("a", "STARTED", message="half way", worker="pool-2")
    run.say("b", "FAILED", error_code="HTTP_429", error_msg="rate limit")
    run.register("c1", "c", labels={"page": "7"})
    open_page(page, run)

    page.locator("[data-search]").fill(typed)

    expect(page.locator("[data-found]")).to_have_text("1 match" if found else "0 matches")
    assert shown(page) == found


def test_a_copied_link_shows_the_same_folds_filter_and_time(new_page, live_tower):
    run = Run(live_tower, "a b")
    run.register("a1", "a")
    run.register("b1", "b")
    run.say("a1", "STARTED")
    page = open_page(new_page(permissions=["clipboard-read", "clipboard-write"]), run)
    row(page, run, "a").locator(".tw").click()
    row(page, run, "b").focus()
    page.keyboard.press("+")
    page.keyboard.press("y")
    expect(page.locator(".toast")).to_contain_text("Link copied")
    link = page.evaluate("navigator.clipboard.readText()")

    other = new_page()
    other.goto(link)

    expect(grid(other)).to_have_attribute("data-live", "live")
    assert shown(other) == ["Tesla", "a", "b", "b1"]
    expect(row(other, run, "b")).to_have_attribute("aria-selected", "true")
    expect(other.locator("[data-fit]")).to_be_visible()
    assert "open=" not in other.url


def test_a_closer_look_at_the_time_is_in_the_address_and_can_be_left(page, run):
    run.say("a", "STARTED")
    run.say("b", "COMPLETED")
    open_page(page, run)
    whole = row(page, run, "a").locator(".bar").bounding_box()["width"]
    row(page, run, "a").focus()

    page.keyboard.press("+")
    expect(page).to_have_url(re.compile(r"[?&]t=\d+-\d+"))
    # What ended long ago is not in this part of the time.
    expect(row(page, run, "b").locator(".bar")).to_be_hidden()
    page.keyboard.press("Shift+ArrowLeft")
    page.locator("[data-fit]").click()

    expect(page.locator("[data-fit]")).to_be_hidden()
    assert row(page, run, "a").locator(".bar").bounding_box()["width"] == pytest.approx(whole, abs=2)
    assert "t=" not in page.url


def test_a_part_of_the_time_is_chosen_by_drawing_over_the_axis(page, run):
    run.say("a", "STARTED")
    open_page(page, run)
    axis = page.locator(".axis").bounding_box()

    page.mouse.move(axis["x"] + 100, axis["y"] + 12)
    page.mouse.down()
    page.mouse.move(axis["x"] + 200, axis["y"] + 12, steps=3)
    page.mouse.up()

    expect(page.locator("[data-fit]")).to_be_visible()
    expect(page).to_have_url(re.compile(r"[?&]t=\d+-\d+"))


def test_follow_leads_to_what_began_last_and_ends_with_a_scroll(page, live_tower):
    run = Run(live_tower, "a")
    run.register_all([f"x{n}" for n in range(300)])
    open_page(page, run)
    row(page, run, "root").focus()
    page.keyboard.press("l")
    expect(page.locator("[data-follow]")).to_have_attribute("aria-pressed", "true")

    run.say("x250", "STARTED")
    expect(row(page, run, "x250")).to_be_in_viewport()
    page.locator("[data-scroll]").hover()
    page.mouse.wheel(0, -100)

    expect(page.locator("[data-follow]")).to_have_attribute("aria-pressed", "false")


def test_title_and_icon_of_the_tab_show_the_state(page, run):
    open_page(page, run)
    icon = page.locator("link[rel=icon]")
    expect(icon).to_have_attribute("href", re.compile("pending"))

    run.say("root", "STARTED", progress=40)
    expect(page).to_have_title(re.compile("^▶ 40 % · Tesla · Command Tower$"))
    expect(icon).to_have_attribute("href", re.compile("running"))
    run.ask("PAUSE")
    expect(page).to_have_title(re.compile("^⏸ · Tesla"))
    expect(icon).to_have_attribute("href", re.compile("paused"))
    run.say("b", "FAILED")

    expect(page).to_have_title(re.compile("^✕ 1 failed · Tesla"))
    expect(icon).to_have_attribute("href", re.compile("failed"))
    answer = page.request.get(icon.get_attribute("href"))
    assert answer.status == 200 and answer.headers["content-type"].startswith("image/svg")


def test_a_pause_that_all_obey_is_called_paused(page, run):
    run.say("a", "STARTED")
    run.ask("PAUSE", "a")
    open_page(page, run)
    notice = page.locator(".notice[data-action=PAUSE] [data-what]")
    expect(notice).to_have_text("Pausing a")

    run.say("a", "PROGRESS", paused=True)

    expect(notice).to_have_text("Paused a")


def test_bands_say_who_asked_for_what_and_why_and_no_label_lies_on_another(page, run):
    for name in ("a", "b", "c"):
        run.say(name, "STARTED")
        run.ask("PAUSE", name, f"because of {name}")
    run.ask("CANCEL", "c", "enough")
    open_page(page, run)

    labels = page.locator(".band em")
    expect(labels).to_have_text(
        [
            "Pause a · suite · “because of a”",
            "Pause b · suite · “because of b”",
            "Pause c · suite · “because of c”",
            "Cancel c · suite · “enough”",
        ]
    )
    boxes = [labels.nth(n).bounding_box() for n in range(4)]
    for one, other in itertools.combinations(boxes, 2):
        beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        above = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
        assert beside or above
    expect(page.locator(".band[data-action=CANCEL]")).to_have_attribute("data-open", "true")


def test_one_task_is_not_called_tasks(page, live_tower):
    run = Run(live_tower, "")
    open_page(page, run)
    facts = page.locator(".facts")
    expect(facts).to_contain_text(re.compile(r"\b1 task(?!s)"))

    run.register("a")

    expect(facts).to_contain_text("2 tasks")


def test_the_parts_of_a_path_stand_apart(page, run):
    open_page(page, run, f"?node={run.task('a')}")

    first = page.locator("[data-list=path] a").first
    sides = first.evaluate(
        "a => { const s = getComputedStyle(a, '::after'); return [s.content, s.marginLeft, s.marginRight]; }"
    )

    assert sides[0] == '"/"'
    assert all(float(side.removesuffix("px")) > 2 for side in sides[1:])


def test_no_bar_goes_beyond_the_present(page, run):
    now = int(page.evaluate("Date.now()"))
    run.say("a", "STARTED", at=now - 60_000)
    run.say("b", "STARTED", at=now - 50_000)
    open_page(page, run)

    # A clock that is ahead: it ended in a time that has not come.
    run.say("b", "COMPLETED", at=now + 40_000)

    expect(row(page, run, "b")).to_have_attribute("data-status", "SUCCESS")
    edges = page.evaluate(
        "() => [...document.querySelectorAll('.bar:not([hidden])')].map((bar) =>"
        " bar.getBoundingClientRect().right - document.querySelector('.now').getBoundingClientRect().left)"
    )
    assert edges and max(edges) <= 2


@pytest.mark.console_may_say(*AWAY)
def test_a_lost_line_is_said_and_what_was_missed_arrives(page, run):
    open_page(page, run)

    page.context.set_offline(True)
    page.evaluate("dispatchEvent(new Event('offline'))")
    expect(grid(page)).not_to_have_attribute("data-live", "live")
    run.say("a", "STARTED")
    run.register("late")
    page.context.set_offline(False)

    expect(row(page, run, "a")).to_have_attribute("data-status", "RUNNING", timeout=30_000)
    expect(row(page, run, "late")).to_be_visible()
    expect(grid(page)).to_have_attribute("data-live", "live")


@pytest.mark.console_may_say(*AWAY)
def test_without_a_socket_the_page_asks_by_http(page, run):
    page.route_web_socket("**/ws/traces/**", lambda socket: socket.close(code=1011))
    page.goto(f"/traces/{run.id}/")
    expect(grid(page)).to_have_attribute("data-live", "live", timeout=30_000)

    run.say("a", "STARTED")
    run.register("later", "a")

    expect(row(page, run, "a")).to_have_attribute("data-status", "RUNNING", timeout=15_000)
    expect(row(page, run, "later")).to_be_visible()
    expect(page.locator("#live")).to_contain_text("by polling")


@pytest.mark.parametrize(
    ("code", "text"), [(4401, "no longer signed in"), (4403, "may not watch"), (4404, "gone")]
)
def test_a_line_that_is_refused_is_not_asked_for_again(page, run, code, text):
    asked = []

    def refuse(socket):
        asked.append(1)
        socket.close(code=code)

    page.route_web_socket("**/ws/traces/**", refuse)
    page.goto(f"/traces/{run.id}/")

    expect(grid(page)).to_have_attribute("data-live", "off")
    expect(page.locator(".toast")).to_contain_text(text)
    assert len(asked) == 1


def test_a_page_without_scripts_reads_chooses_and_asks(new_page, run):
    run.say("a", "STARTED", message="half way")
    page = new_page(java_script_enabled=False)
    page.goto(f"/traces/{run.id}/")

    row(page, run, "a").locator("a.name").click()
    expect(page.locator("[data-field=message]")).to_have_text("half way")
    page.locator("[data-tab=events]").click()
    expect(page.locator("[data-list=events]")).to_contain_text("STARTED")
    press(page, run, "PAUSE", "a")
    expect(row(page, run, "a")).to_have_attribute("data-asked", "PAUSE")
    press(page, run, "CANCEL", "a")
    page.locator("button[data-confirm]").click()

    expect(row(page, run, "a")).to_have_attribute("data-asked", "CANCEL")


def test_a_viewer_sees_all_and_no_buttons(new_page, live_tower, run):
    live_tower.manage("shell", "-c", VIEWER)
    page = new_page(storage_state=None)
    page.goto(f"/login/?next=/traces/{run.id}/")
    page.fill("input[name=username]", "looker")
    page.fill("input[name=password]", "only-looking-12")
    page.click("form:has(input[name=password]) button[type=submit]")
    expect(grid(page)).to_have_attribute("data-live", "live")

    row(page, run, "a").click()
    page.keyboard.press("p")

    expect(page.locator("[data-pane] [data-field=name]")).to_have_text("a")
    expect(page.locator("form[data-control]")).to_have_count(0)
    assert run.controls() == []


VIEWER = """
from django.contrib.auth.models import Group, User
if not User.objects.filter(username="looker").exists():
    looker = User.objects.create_user("looker", password="only-looking-12")
    looker.groups.add(Group.objects.get(name="viewer"))
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_axe_finds_nothing(new_page, run, scheme, width):
    run.say("a", "STARTED")
    run.say("b", "FAILED", error_code="X")
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    open_page(page, run, f"?node={run.task('b')}")
    expect(page.locator(".say .bad")).to_be_visible()

    assert violations(page) == []


@pytest.mark.parametrize("width", [320, 360, 720, 1024])
def test_no_width_makes_the_page_scroll_sideways(new_page, run, width):
    page = open_page(new_page(viewport={"width": width, "height": 740}), run, f"?node={run.task('a')}")

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
