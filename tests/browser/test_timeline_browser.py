"""The time axis of a run in a real Chromium: marks of every shape, the critical path, folded idle times."""

from __future__ import annotations

import re
import time
from functools import partial

import pytest
from playwright.sync_api import expect

from tests.browser.test_trace_browser import Run, grid, open_page, row, shown
from tests.servers import until

MINUTE = 60_000


@pytest.fixture
def hour(live_tower):
    """A run of an hour, long over: a, an idle half an hour, then b, and c beside it."""
    run = Run(live_tower, "a b c")
    run.began = (time.time_ns() // 1_000_000) - 120 * MINUTE
    run.register("a1", "a")
    for name, start, end in (
        ("root", 0, 60), ("a", 1, 19), ("a1", 2, 18), ("b", 48, 58), ("c", 50, 55),
    ):  # fmt: skip
        run.say(name, "STARTED", at=run.began + start * MINUTE)
        run.say(name, "COMPLETED", at=run.began + end * MINUTE)
    return run


def bar(page, run, name):
    return row(page, run, name).locator(".bar")


def stretches(page, run, name):
    """What is underlined of a row, in whole percent."""
    path = row(page, run, name).locator(".path path")
    line = path.get_attribute("d") if path.count() else ""
    return [(round(float(a)), round(float(b))) for a, b in re.findall(r"M(\S+) 1H([\d.]+)", line)]


# -- marks


@pytest.mark.parametrize("scripts", [True, False])
def test_what_ended_without_having_begun_has_a_mark_at_its_end_and_no_time(new_page, hour, scripts):
    hour.register("d")
    hour.say("d", "COMPLETED", at=hour.began + 30 * MINUTE)
    page = new_page(java_script_enabled=scripts)
    page.goto(f"/traces/{hour.id}/")
    if scripts:
        expect(grid(page)).to_have_attribute("data-live", "live")

    axis, mark = page.locator(".axis").bounding_box(), bar(page, hour, "d").bounding_box()

    assert mark["width"] == 2
    assert mark["x"] - axis["x"] == pytest.approx(axis["width"] / 2, abs=3)
    expect(row(page, hour, "d").locator(".wf small")).to_be_empty()


def test_a_mark_at_the_very_end_stays_in_sight(page, hour):
    hour.register("d")
    hour.say("d", "FAILED", at=hour.began + 61 * MINUTE)
    open_page(page, hour)

    column = row(page, hour, "d").locator(".wf").bounding_box()
    for part in (".bar", ".x"):
        box = row(page, hour, "d").locator(part).bounding_box()
        assert box["x"] >= column["x"] and box["x"] + box["width"] <= column["x"] + column["width"] + 0.5


# -- the critical path


def test_the_critical_path_is_underlined_told_and_in_the_address(page, hour):
    open_page(page, hour)
    row(page, hour, "root").focus()

    page.keyboard.press("i")

    expect(page.locator("[data-critical]")).to_be_visible()
    expect(page.locator("[data-critical] [data-words]")).to_have_text(
        "Critical path: 3 tasks, 28:00, 46 % of the run"
    )
    expect(page.locator("[data-path]")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#status")).to_contain_text("Critical path")
    expect(page).to_have_url(re.compile(r"[?&]path=shown"))
    assert stretches(page, hour, "a1") == [(3, 30)]
    assert stretches(page, hour, "b") == [(80, 97)]
    assert stretches(page, hour, "c") == []
    expect(row(page, hour, "a1")).to_have_attribute("aria-label", re.compile("on the critical path"))
    expect(row(page, hour, "c")).not_to_have_attribute("aria-label", re.compile("on the critical path"))
    assert len(stretches(page, hour, "a")) == 2

    # Folded, it stands for what is below it.
    row(page, hour, "a").locator(".tw").click()
    assert stretches(page, hour, "a") == [(2, 32)]

    page.locator("[data-path]").click()
    expect(page.locator("[data-critical]")).to_be_hidden()
    assert "path=" not in page.url
    assert stretches(page, hour, "b") == []


def test_only_the_rows_of_the_path_are_kept_until_something_else_is_looked_for(page, hour):
    open_page(page, hour)
    row(page, hour, "root").focus()

    page.keyboard.press("I")

    expect(row(page, hour, "c")).to_have_count(0)
    assert shown(page) == ["Tesla", "a", "a1", "b"]
    expect(page).to_have_url(re.compile(r"[?&]path=rows"))
    expect(page.locator("[data-path-rows]")).to_have_attribute("aria-pressed", "true")
    # It is no search: nothing is marked as found, nothing counted.
    expect(page.locator("[role=row].match")).to_have_count(0)
    expect(page.locator("[data-found]")).to_be_empty()

    page.locator("[data-clear]").click()
    expect(row(page, hour, "c")).to_be_visible()
    expect(page.locator("[data-path-rows]")).to_have_attribute("aria-pressed", "false")
    expect(page).to_have_url(re.compile(r"[?&]path=shown"))


def test_the_path_of_a_run_that_goes_on_is_called_so_and_moves_with_what_ends(page, live_tower):
    run = Run(live_tower, "a b")
    now = time.time_ns() // 1_000_000
    for name, start in (("root", 60), ("a", 50), ("b", 30)):
        run.say(name, "STARTED", at=now - start * MINUTE)
    open_page(page, run, "?path=rows")
    words = page.locator("[data-critical] [data-words]")
    expect(words).to_have_text(re.compile(r"^Critical path so far: 1 task, 5\d:\d\d, 8\d % of the run$"))
    assert shown(page) == ["Tesla", "a"]

    run.say("a", "COMPLETED", at=now - 40 * MINUTE)

    # Before b began nothing was waited for but a.
    expect(words).to_have_text(re.compile(r"^Critical path so far: 2 tasks, 4\d:\d\d, "))
    expect(row(page, run, "b")).to_be_visible()


def test_a_run_without_tasks_that_took_time_says_so(page, live_tower):
    run = Run(live_tower, "a")

    open_page(page, run, "?path=shown")

    expect(page.locator("[data-critical]")).to_contain_text("No critical path so far")


# -- idle times


def test_an_idle_time_is_folded_to_a_narrow_mark_with_its_length_in_words(page, hour):
    open_page(page, hour)
    row(page, hour, "root").focus()

    page.keyboard.press("x")

    mark = page.locator(".over .idle")
    expect(mark).to_have_text(["30 min, only parents open"])
    assert mark.bounding_box()["width"] == pytest.approx(28, abs=1)
    expect(page.locator("[data-idle]")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#status")).to_have_text("1 idle time is folded: 30 min, only parents open")
    expect(page).to_have_url(re.compile(r"[?&]idle=folded"))
    # What is said of time stays true: the labels, and how long a bar stands for.
    labels = page.locator(".axis text").all_text_contents()
    assert labels[0] == "0:00" and labels[-1] in {"55:00", "50:00"}
    assert not {"20:00", "30:00", "40:00"} & set(labels)
    expect(row(page, hour, "a").locator(".wf small")).to_have_text("18:00")
    left, right = bar(page, hour, "a1").bounding_box(), bar(page, hour, "b").bounding_box()
    assert right["x"] - left["x"] - left["width"] == pytest.approx(28, abs=2)

    page.keyboard.press("x")
    expect(mark).to_have_count(0)
    assert "idle=" not in page.url


def test_a_closer_look_over_a_folded_time_shows_what_was_drawn_over(page, hour):
    open_page(page, hour, "?idle=folded")
    expect(page.locator(".over .idle")).to_have_count(1)
    axis, b = page.locator(".axis").bounding_box(), bar(page, hour, "b").bounding_box()

    page.mouse.move(b["x"], axis["y"] + 12)
    page.mouse.down()
    page.mouse.move(b["x"] + b["width"], axis["y"] + 12, steps=3)
    page.mouse.up()

    expect(page).to_have_url(re.compile(r"[?&]t=(28|29)\d{5}-3[45]\d{5}"))
    expect(page.locator(".over .idle")).to_have_count(0)
    assert bar(page, hour, "b").bounding_box()["width"] == pytest.approx(axis["width"], abs=8)

    row(page, hour, "root").focus()
    page.keyboard.press("=")
    expect(page.locator(".over .idle")).to_have_count(1)
    page.keyboard.press("+")
    page.keyboard.press("-")
    assert bar(page, hour, "b").bounding_box()["x"] == pytest.approx(b["x"], abs=2)


def test_where_nothing_was_idle_for_long_the_page_says_so(page, live_tower):
    run = Run(live_tower, "a")
    began = time.time_ns() // 1_000_000 - 120 * MINUTE
    for name in ("root", "a"):
        run.say(name, "STARTED", at=began)
        run.say(name, "COMPLETED", at=began + MINUTE)
    open_page(page, run)

    page.locator("[data-idle]").click()

    expect(page.locator("#status")).to_contain_text("No time to fold")
    expect(page.locator(".over .idle")).to_have_count(0)


# -- the map

#: What stands on the map at a share of its height, and in the lane of failures there.
PIXELS = """(canvas, share) => {
  const paper = canvas.getContext("2d"), y = Math.floor(canvas.height * share);
  return [10, 85].map((x) => [...paper.getImageData(x * devicePixelRatio, y, 1, 1).data]);
}"""


@pytest.fixture(scope="module")
def forest(live_tower):
    """400 tasks, all of a name of their own; one in the middle failed, the first half has ended."""
    run = Run(live_tower, "")
    run.register_all([f"x{n:03}" for n in range(400)])
    run.say("root", "STARTED")
    for n in range(0, 200, 40):
        run.say(f"x{n:03}", "COMPLETED")
    run.say("x200", "FAILED")
    return run


def test_the_map_of_a_large_tree_shows_shares_and_failures_and_leads_there(page, forest):
    open_page(page, forest)
    place, canvas = page.locator(".map"), page.locator(".map canvas")

    expect(place).to_be_visible()
    expect(place).to_have_attribute("aria-hidden", "true")
    expect(page.locator("[data-map]")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".map span")).to_have_attribute("data-at", re.compile(r"^0\.0 "))
    until(lambda: canvas.evaluate(PIXELS, 201.5 / 401)[1][3] > 0, "the failure is in its lane")
    assert canvas.evaluate(PIXELS, 0.25)[1] == [0, 0, 0, 0]
    assert canvas.evaluate(PIXELS, 0.25)[0][3] == 255

    box = canvas.bounding_box()
    page.mouse.click(box["x"] + 40, box["y"] + box["height"] / 2)

    expect(row(page, forest, "x200")).to_be_in_viewport()
    expect(page.locator(".map span")).not_to_have_attribute("data-at", re.compile(r"^0\.0 "))
    page.mouse.move(box["x"] + 40, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, box["y"] + box["height"] - 1, steps=4)
    page.mouse.up()
    expect(row(page, forest, "x399")).to_be_in_viewport()


#: Whether anything stands on the map in the frame after each of two sizes.
RESIZED = """async (canvas) => {
  const frame = () => new Promise(requestAnimationFrame), seen = [];
  for (const height of [400, 380]) {
    canvas.style.height = `${height}px`;
    await frame();
    await frame();
    seen.push(canvas.height, canvas.getContext("2d").getImageData(10, 100, 1, 1).data[3]);
  }
  return seen;
}"""


def test_the_map_is_not_blank_while_its_room_changes(page, forest):
    open_page(page, forest)
    canvas = page.locator(".map canvas")
    until(partial(drawn, canvas), "the map is drawn")

    assert canvas.evaluate(RESIZED) == [400, 255, 380, 255]


def test_the_map_goes_by_its_key_and_stays_away(page, forest):
    open_page(page, forest)
    expect(page.locator(".map")).to_be_visible()
    row(page, forest, "root").focus()

    page.keyboard.press("m")

    expect(page.locator(".map")).to_be_hidden()
    page.reload()
    expect(grid(page)).to_have_attribute("data-live", "live")
    expect(page.locator(".map")).to_be_hidden()
    page.locator("[data-map]").click()
    expect(page.locator(".map")).to_be_visible()


def test_a_small_tree_has_a_map_where_it_is_asked_for_and_a_narrow_page_has_none(page, hour):
    open_page(page, hour)
    expect(page.locator(".map")).to_be_hidden()

    page.locator("[data-map]").click()

    expect(page.locator(".map")).to_be_visible()
    page.set_viewport_size({"width": 900, "height": 800})
    expect(page.locator(".map")).to_be_hidden()
    expect(page.locator("[data-map]")).to_be_hidden()
    assert grid(page).bounding_box()["width"] == 900


def drawn(canvas):
    return canvas.evaluate(PIXELS, 0.25)[0][3] == 255


def test_the_colours_of_the_map_follow_the_theme(new_page, forest):
    seen = []
    for scheme in ("light", "dark"):
        page = open_page(new_page(color_scheme=scheme), forest)
        canvas = page.locator(".map canvas")
        until(partial(drawn, canvas), "the map is drawn")
        seen.append(canvas.evaluate(PIXELS, 0.25)[0])

    assert seen[0] == [0xDD, 0xE1, 0xE4, 255]
    assert seen[1] == [0x2C, 0x35, 0x40, 255]
