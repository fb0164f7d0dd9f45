"""The details of one task in a real Chromium: JSON, tabs, error, size, and what is asked; by keys too."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_trace_browser import Run, grid, open_page, press, row, shown

PARAMS = {
    "big": 12345678901234567890 // 100,
    "evil": "<img src=x>",
    "nested": {"a/b": {"~": [1, None, True]}, "none": []},
    "rows": [{"i": i, "name": f"row {i}"} for i in range(250)],
    "text": "lorem ipsum " * 60,
    "where": "https://example.org/a?b=c",
}


@pytest.fixture
def run(live_tower):
    return Run(live_tower, "a b")


@pytest.fixture
def with_params(live_tower):
    run = Run(live_tower, "")
    run.register("a", input_params=PARAMS)
    return run


def pane(page):
    return page.locator("[data-pane]")


def tab(page, name):
    return page.locator(f"[role=tab][data-tab={name}]")


def view(page, name="parameters"):
    return page.locator(f"[data-json={name}]")


def line(page, path, name="parameters"):
    return view(page, name).locator(f"[role=treeitem][data-path='{path}']")


def open_params(page, run):
    open_page(page, run, f"?node={run.task('a')}&tab=parameters")
    expect(line(page, "/big")).to_be_visible()
    return page


# -- JSON


def test_parameters_are_lines_that_fold(page, with_params):
    open_params(page, with_params)
    rows = line(page, "/rows")
    expect(rows).to_have_attribute("aria-expanded", "false")
    expect(rows).to_contain_text("250 items")

    rows.locator(".key").click()

    expect(rows).to_have_attribute("aria-expanded", "true")
    expect(line(page, "/rows/99")).to_be_visible()
    expect(line(page, "/rows/100")).to_have_count(0)
    view(page).get_by_text("150 more").click()
    expect(line(page, "/rows/100")).to_be_focused()
    expect(line(page, "/rows/199")).to_be_visible()
    rows.locator(".key").click()
    expect(line(page, "/rows/0")).to_have_count(0)


def test_numbers_stand_as_they_were_sent_and_markup_is_text(page, with_params):
    open_params(page, with_params)

    expect(line(page, "/big")).to_have_text("big: 123456789012345678")
    expect(line(page, "/evil")).to_have_text('evil: "<img src=x>"')
    expect(view(page).locator("img")).to_have_count(0)


def test_json_is_walked_by_keys(page, with_params):
    open_params(page, with_params)
    tab(page, "parameters").focus()
    for _ in range(4):  # search, open all, fold all, copy: the steps between matches are off
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(line(page, "/big")).to_be_focused()

    for key, path in (
        ("End", "/where"),
        ("Home", "/big"),
        ("ArrowDown", "/evil"),
        ("ArrowDown", "/nested"),
        ("ArrowRight", "/nested/a~1b"),
        ("ArrowRight", "/nested/a~1b/~0"),
        ("ArrowLeft", "/nested/a~1b/~0"),
        ("ArrowLeft", "/nested/a~1b"),
        ("ArrowUp", "/nested"),
    ):
        page.keyboard.press(key)
        expect(line(page, path)).to_be_focused()
    expect(line(page, "/nested/a~1b/~0")).to_have_attribute("aria-expanded", "false")
    expect(view(page).locator("[role=treeitem][tabindex='0']")).to_have_count(1)


def test_a_search_finds_what_is_folded_or_not_even_listed(page, with_params):
    open_params(page, with_params)
    search = view(page).get_by_role("searchbox")

    search.fill("ROW 24")

    found = view(page).locator("[data-json-part=found]")
    expect(found).to_have_text("1 of 11")
    expect(line(page, "/rows/24/name")).to_have_attribute("aria-current", "true")
    expect(line(page, "/rows/24/name").locator("mark")).to_have_text("row 24")
    search.press("Shift+Enter")
    expect(found).to_have_text("11 of 11")
    expect(line(page, "/rows/249/name")).to_be_in_viewport()
    expect(page.locator("#status")).to_have_text("11 of 11")
    search.fill("nowhere")
    expect(found).to_have_text("no match")
    search.press("Escape")
    expect(search).to_have_value("")
    expect(search).to_be_focused()


def test_a_slash_searches_the_json_in_which_one_is(page, with_params):
    open_params(page, with_params)
    line(page, "/big").focus()

    page.keyboard.press("/")

    expect(view(page).get_by_role("searchbox")).to_be_focused()


def test_a_line_and_the_whole_are_copied(new_page, with_params):
    page = open_params(new_page(permissions=["clipboard-read", "clipboard-write"]), with_params)
    clipboard = lambda: page.evaluate("navigator.clipboard.readText()")  # noqa: E731

    line(page, "/evil").focus()
    page.keyboard.press("c")
    expect(page.locator(".toast")).to_have_text(re.compile("Copied"))
    assert clipboard() == "<img src=x>"
    line(page, "/nested").hover()
    line(page, "/nested").get_by_role("button", name="Copy").click()
    expect(page.locator(".toast")).to_have_count(2)
    assert json.loads(clipboard()) == PARAMS["nested"]
    view(page).get_by_role("button", name="Copy all of it").click()
    expect(page.locator(".toast")).to_have_count(3)
    assert json.loads(clipboard()) == PARAMS


def test_a_long_text_is_shown_whole_where_somebody_asks(page, with_params):
    open_params(page, with_params)
    text = line(page, "/text")
    expect(text).to_contain_text("720 characters, show all")

    text.focus()
    page.keyboard.press("Enter")

    expect(text).to_contain_text(PARAMS["text"])
    expect(text).to_be_focused()


def test_large_parameters_come_when_they_are_asked_for(page, live_tower):
    run = Run(live_tower, "")
    run.register("a", input_params={"rows": ["x" * 100 for _ in range(400)]})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    open_page(page, run, f"?node={run.task('a')}&tab=parameters")
    expect(view(page)).to_contain_text(re.compile(r"41,2\d\d characters of JSON"))
    run.say("a", "STARTED", message="said later")
    tab(page, "overview").click()
    expect(pane(page).locator("[data-field=message]")).to_have_text("said later")
    assert not [url for url in asked if "input_params" in url]

    tab(page, "parameters").click()
    view(page).get_by_role("button", name="Show").click()

    expect(line(page, "/rows")).to_be_focused()
    assert len([url for url in asked if "input_params" in url]) == 1


@pytest.mark.parametrize("scripts", [True, False])
def test_an_output_that_is_json_is_read_as_json(new_page, run, scripts):
    run.say("a", "COMPLETED", output_ref='{"pages": 3, "file": "https://example.org/1"}')
    page = new_page(java_script_enabled=scripts)
    page.goto(f"/traces/{run.id}/?node={run.task('a')}&tab=output")

    if scripts:
        expect(line(page, "/pages", "output")).to_have_text("pages: 3")
        link = line(page, "/file", "output").get_by_role("link")
        expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")
        expect(line(page, "/file", "output")).to_contain_text("example.org")
    else:
        expect(view(page, "output").locator("pre")).to_contain_text('"pages": 3')


def test_an_output_says_which_host_it_leads_to(page, run):
    run.say("a", "COMPLETED", output_ref="https://files.example.org:8443/x")
    open_page(page, run, f"?node={run.task('a')}&tab=output")

    expect(pane(page).locator("[data-part=host]")).to_have_text("leads to files.example.org:8443")
    link = pane(page).locator("[data-list=output] a")
    expect(link).to_have_attribute("rel", "noopener noreferrer nofollow")


@pytest.mark.parametrize(
    "ref",
    [
        "https://google.com@evil.example/",
        "https://evil.example\\@google.com/",
        "https://xn--\u0430pple.com/",
        "http://[bad",
        "javascript:alert(1)",
        "https://",
    ],
)
def test_b72_a_host_that_reads_as_another_one_is_no_link(page, run, ref):
    run.say("a", "COMPLETED", output_ref=ref)
    open_page(page, run, f"?node={run.task('a')}&tab=output")

    expect(page.locator("[data-list=output] code")).to_have_text(ref)
    expect(page.locator("[data-list=output] a")).to_have_count(0)
    expect(pane(page).locator("[data-part=host]")).to_be_hidden()


def test_payloads_fold_too(page, run):
    run.say("a", "STARTED", usage={"tokens": {"in": 12}})
    open_page(page, run, f"?node={run.task('a')}&tab=events")

    page.locator("[data-list=events] summary").click()

    expect(line(page, "/usage/tokens/in", "payload")).to_have_text("in: 12")


def test_parameters_are_read_without_scripts_large_ones_when_asked_for(new_page, live_tower):
    run = Run(live_tower, "")
    run.register("a", input_params={"year": 2024})
    run.register("b", input_params={"rows": ["x" * 100 for _ in range(400)]})
    page = new_page(java_script_enabled=False)
    page.goto(f"/traces/{run.id}/?node={run.task('a')}&tab=parameters")
    expect(view(page).locator("pre")).to_have_text(re.compile(r'{\s+"year": 2024\s+}'))

    page.goto(f"/traces/{run.id}/?node={run.task('b')}&tab=parameters")
    expect(view(page).locator("pre")).to_have_count(0)
    view(page).get_by_role("link", name="Show").click()

    expect(view(page).locator("pre")).to_contain_text("x" * 100)


# -- tabs


def test_the_address_keeps_the_tab(page, run):
    run.say("a", "STARTED")
    open_page(page, run, f"?node={run.task('a')}")

    tab(page, "events").click()
    expect(page).to_have_url(re.compile("tab=events"))
    page.reload()

    expect(tab(page, "events")).to_have_attribute("aria-selected", "true")
    expect(page.locator("[data-list=events] > li")).to_have_count(1)
    row(page, run, "b").click()
    expect(tab(page, "events")).to_have_attribute("aria-selected", "true")
    tab(page, "overview").click()
    expect(page).not_to_have_url(re.compile("tab="))


def test_arrows_walk_the_tabs_that_are_offered_and_escape_leads_back_to_the_row(page, run):
    open_page(page, run, f"?node={run.task('a')}")
    expect(tab(page, "join")).to_be_hidden()
    tab(page, "overview").focus()

    for key, name in (
        ("ArrowRight", "parameters"),
        ("ArrowRight", "output"),
        ("ArrowRight", "events"),
        ("End", "controls"),
        ("ArrowRight", "overview"),
        ("ArrowLeft", "controls"),
        ("Home", "overview"),
    ):
        page.keyboard.press(key)
        expect(tab(page, name)).to_be_focused()
        expect(page.locator(f"#part-{name}")).to_be_visible()
    expect(page.locator("[role=tab]:not([tabindex='-1'])")).to_have_count(1)
    page.keyboard.press("Escape")

    expect(row(page, run, "a")).to_be_focused()
    expect(pane(page)).to_be_visible()


def test_enter_leads_from_the_row_into_its_details(page, run):
    open_page(page, run)
    row(page, run, "b").focus()

    page.keyboard.press("Enter")

    expect(pane(page).locator("h2")).to_be_focused()
    expect(pane(page).locator("[data-field=name]")).to_have_text("b")


# -- the error


def test_an_error_leads_to_the_others_with_its_code(page, run):
    run.say("a", "FAILED", error_code="HTTP_429", error_msg="slow\ndown")
    run.say("b", "FAILED", error_code="HTTP_429")
    run.say("c", "FAILED", error_code="OTHER")
    open_page(page, run, f"?node={run.task('a')}&tab=error")
    expect(pane(page).locator("[data-field=error_code]")).to_have_text("HTTP_429")
    expect(pane(page).locator("[data-field=error_msg]")).to_have_text("slow\ndown")
    others = pane(page).locator("[data-list=alike]")
    expect(others).to_have_text("Also failed with this code: b.")
    find = pane(page).locator("[data-link=alike]")
    expect(find).to_have_attribute("href", re.compile(r"q=error%3A%22HTTP_429%22"))

    page.evaluate("window.here = true")
    find.click()
    expect(page.locator("[data-search]")).to_have_value('error:"HTTP_429"')
    expect(page.locator("[data-found]")).to_have_text("2 matches")
    assert page.evaluate("window.here"), "it was found without a page anew"

    others.get_by_role("link", name="b").click()

    expect(row(page, run, "b")).to_have_attribute("aria-selected", "true")
    expect(tab(page, "error")).to_have_attribute("aria-selected", "true")
    expect(others).to_have_text("Also failed with this code: a.")


# -- its size


def width(page):
    return page.evaluate("document.querySelector('[data-ruler]').getBoundingClientRect().width")


def height(page):
    return page.evaluate("document.querySelector('[data-ruler]').getBoundingClientRect().height")


def test_the_pane_is_made_wider_by_keys_and_stays_so_from_the_first_paint(new_page, run):
    page = open_page(new_page(viewport={"width": 1400, "height": 800}), run, f"?node={run.task('a')}")
    grip = page.get_by_role("separator")
    before = width(page)
    expect(grip).to_have_attribute("aria-valuenow", str(round(before)))
    grip.focus()

    page.keyboard.press("ArrowLeft")
    assert width(page) == round(before) + 16
    page.keyboard.press("Shift+ArrowRight")
    assert width(page) == round(before) - 64
    page.keyboard.press("Home")
    expect(grip).to_have_attribute("aria-valuenow", grip.get_attribute("aria-valuemin"))
    page.keyboard.press("End")
    expect(grip).to_have_attribute("aria-valuenow", "1050")
    page.keyboard.press("Shift+ArrowRight")

    assert "pane=970x0" in page.evaluate("document.cookie").split("; ")

    # No script has a say in what the server draws.
    plain = new_page(java_script_enabled=False, viewport={"width": 1400, "height": 800})
    plain.context.add_cookies([{"name": "pane", "value": "970x0", "url": run.tower.url}])
    plain.goto(f"/traces/{run.id}/?node={run.task('a')}")
    assert plain.locator("[data-ruler]").bounding_box()["width"] == 970


def test_the_pane_is_made_wider_by_the_pointer_and_put_back_by_a_double_click(new_page, run):
    page = open_page(new_page(viewport={"width": 1400, "height": 800}), run, f"?node={run.task('a')}")
    before = width(page)
    at = page.get_by_role("separator").bounding_box()
    x, y = at["x"] + at["width"] / 2, at["y"] + 200

    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y, steps=4)
    page.mouse.up()
    assert abs(width(page) - before - 100) <= 1
    page.mouse.move(x - 300, y)
    assert abs(width(page) - before - 100) <= 1

    page.mouse.dblclick(x - 100, y)
    assert width(page) == before


def test_below_the_tree_the_pane_is_made_higher(new_page, run):
    page = open_page(new_page(viewport={"width": 600, "height": 800}), run, f"?node={run.task('a')}")
    grip = page.get_by_role("separator")
    expect(grip).to_have_attribute("aria-orientation", "horizontal")
    before = height(page)
    grip.focus()

    page.keyboard.press("ArrowUp")

    assert height(page) == round(before) + 16
    page.reload()
    expect(grid(page)).to_have_attribute("data-live", "live")
    assert height(page) == round(before) + 16
    assert page.evaluate("document.querySelector('[data-pane]').getBoundingClientRect().bottom") == 800


# -- what is asked


def test_what_was_resumed_can_be_paused_again(page, run):
    open_page(page, run, f"?node={run.task('a')}")
    press(page, run, "PAUSE", "a")
    press(page, run, "RUN", "a")
    toast = page.locator(".toast", has_text="Resume requested")

    toast.get_by_role("button", name="Undo").click()

    expect(row(page, run, "a")).to_have_attribute("data-asked", "PAUSE")
    assert [one["action"] for one in run.controls()] == ["PAUSE", "RUN", "PAUSE"]


@pytest.mark.parametrize("typed", ["first", "last", "whole"])
def test_the_dialog_says_what_may_be_typed_and_takes_it(page, live_tower, typed):
    run = Run(live_tower, "")
    run.register_all([f"x{n}" for n in range(1001)])
    open_page(page, run)
    press(page, run, "CANCEL")
    dialog = page.locator("dialog[open]")
    expect(dialog.locator("[data-part=needed]")).to_have_text("needed above 100 tasks; kept in the audit")
    expect(dialog.locator("label[for=ask-confirm] .id")).to_have_text(run.id[-8:])
    expect(dialog.locator("#confirm-help")).to_contain_text("the first 8, or the whole id")
    dialog.locator("[name=reason]").fill("too many")

    dialog.locator("[name=confirm]").fill({"first": run.id[:8], "last": run.id[-8:], "whole": run.id}[typed])
    dialog.locator("[data-confirm]").click()

    expect(dialog).to_have_count(0)
    expect(row(page, run, "root")).to_have_attribute("data-asked", "CANCEL")


def test_a_small_cancel_asks_for_neither_reason_nor_id(page, run):
    open_page(page, run)

    press(page, run, "CANCEL")

    expect(page.locator("dialog[open] [name=confirm]")).to_be_hidden()
    expect(page.locator("dialog[open] [data-part=needed]")).to_be_hidden()


# -- readers of all kinds


def test_nothing_moves_for_those_who_ask_for_no_motion(new_page, run):
    run.say("a", "STARTED")
    page = open_page(new_page(reduced_motion="reduce"), run, f"?node={run.task('a')}")
    press(page, run, "PAUSE", "a")
    expect(page.locator(".toast")).to_be_visible()

    assert page.evaluate("document.getAnimations().length") == 0


def test_forced_colours_mark_the_tab_the_line_and_the_hit(new_page, with_params):
    page = open_params(new_page(forced_colors="active"), with_params)
    view(page).get_by_role("searchbox").fill("img")

    chosen = tab(page, "parameters").evaluate("part => getComputedStyle(part).borderBottomStyle")
    line(page, "/evil").focus()

    assert chosen == "solid"
    assert line(page, "/evil").evaluate("part => getComputedStyle(part).outlineStyle") == "solid"
    assert view(page).locator("mark").evaluate("part => getComputedStyle(part).forcedColorAdjust") == "none"


def test_on_paper_the_details_follow_the_tree(page, run):
    run.say("a", "STARTED", message="half way")
    open_page(page, run, f"?node={run.task('a')}")

    page.emulate_media(media="print")

    expect(pane(page).locator("[data-field=message]")).to_have_text("half way")
    expect(page.locator("[data-pane] .grip, [data-pane] footer, .tools, .top nav")).to_have_count(4)
    for part in page.locator("[data-pane] .grip, [data-pane] footer, .tools, .top nav").all():
        expect(part).to_be_hidden()
    tree, details = (page.locator(part).bounding_box() for part in (".grid", "[data-pane]"))
    assert details["y"] >= tree["y"] + tree["height"]
    assert shown(page) == ["Tesla", "a", "b"]
