"""The rows that the server draws are those that the scripts take over: nothing jumps."""

from __future__ import annotations

import pytest

from tests.browser.test_trace_browser import Run, open_page

#: What of each row the eye or a screen reader would see change.
ROWS = """() => [...document.querySelectorAll('.canvas [role=row]')].map(row => {
  const part = name => row.querySelector(name)
  const text = name => part(name).hidden ? '' : part(name).textContent.trim()
  const names = ['level', 'posinset', 'setsize', 'expanded', 'rowindex', 'selected']
  return [row.dataset.taskId ?? row.dataset.group, row.dataset.status,
    ...names.map(name => row.getAttribute('aria-' + name)),
    ...['.name', '.times', '.word', '.s .num', '.fails', '.roll b'].map(text),
    part('.bar').hasAttribute('hidden'), part('.in').getAttribute('width'),
    part('a.name').getAttribute('href')]
})"""
#: Above 5,000 tasks sums come with the scripts, and so does the time that only the children of a task have.
SUMS = (12, 13, 14)


def first_rows(new_page, run, query="", *, least=3):
    """The same rows before and after the scripts; answers the ids of them."""
    plain, lively = new_page(java_script_enabled=False), new_page(viewport={"width": 1440, "height": 1400})
    plain.goto(f"/traces/{run.id}/{query}")
    drawn = plain.evaluate(ROWS)
    open_page(lively, run, query)
    taken = lively.evaluate(ROWS)
    many = min(len(drawn), len(taken))
    assert many >= least
    whole = run.tower.call("GET", f"traces/{run.id}/")[1]["total"] <= 5_000
    for before, after in zip(drawn[:many], taken[:many], strict=True):
        assert seen(before, whole) == seen(after, whole)
    return [row[0].removeprefix(f"{run.id}.") for row in drawn]


def seen(row, whole):
    return [value for at, value in enumerate(row) if whole or at not in SUMS]


@pytest.fixture
def run(live_tower):
    return Run(live_tower, "a b c")


def fan(run, many, parent="a", name="fetch_page", prefix="f"):
    run.register_all([f"{prefix}{n}" for n in range(many)], parent, name=name)


def test_a_small_tree_is_open(new_page, run):
    run.register("a1", "a")
    run.register("a2", "a1")
    run.say("a2", "FAILED")

    assert first_rows(new_page, run) == ["root", "a", "a1", "a2", "b", "c"]


def test_a_task_that_is_named_is_open_in_a_large_tree(new_page, run):
    fan(run, 250, "b", "", "x")
    run.register("a1", "a")
    run.register("a2", "a1")
    run.register("a3", "a2")

    assert first_rows(new_page, run, f"?node={run.task('a1')}")[:5] == ["root", "a", "a1", "a2", "b"]


def test_a_large_tree_opens_to_what_failed_but_not_the_failed_one(new_page, run):
    run.register("a1", "a")
    run.register("a2", "a")
    fan(run, 250, "c")
    run.say("f9", "FAILED")
    run.register("below", "a1")
    run.say("a1", "FAILED")

    assert first_rows(new_page, run) == ["root", "a", "a1", "a2", "b", "c"]


def test_a_failure_in_a_group_opens_the_way_to_the_group(new_page, run):
    fan(run, 250, "b")
    for n in (3, 4, 5):
        run.say(f"f{n}", ("FAILED", "COMPLETED", "STARTED")[n - 3])

    assert first_rows(new_page, run) == ["root", "a", "b", "fetch_page", "c"]


def test_groups_stand_where_their_first_stands_among_others(new_page, run):
    run.register_all(["o1"], "a")
    fan(run, 120, "a", "parse", "p")
    fan(run, 210, "a", "fetch_page", "f")
    run.register_all(["o2"], "a")
    fan(run, 120, "a", "parse", "q")
    run.register_all(["below"], "p7")
    run.say("below", "FAILED")

    found = first_rows(new_page, run, f"?node={run.task('a')}")

    assert found == ["root", "a", "o1", "parse", "fetch_page", "o2", "b", "c"]


def test_a_task_in_a_group_opens_the_group(new_page, run):
    fan(run, 220)
    run.register_all(["below", "other"], "f7")

    found = first_rows(new_page, run, f"?node={run.task('f7')}")

    assert found[:11] == ["root", "a", "fetch_page", *(f"f{n}" for n in range(8))]
    assert found[11:14] == ["below", "other", "f8"]


def test_siblings_without_a_name_are_grouped_by_what_their_definition_is_called(new_page, run):
    fan(run, 230, "a", "", "x")

    assert first_rows(new_page, run, f"?node={run.task('a')}") == ["root", "a", "step", "b", "c"]


def test_what_a_link_opened_and_folded_is_so_before_the_scripts(new_page, run):
    fan(run, 220, "a", "fetch.page")
    run.register("b1", "b")
    page = open_page(new_page(), run)
    page.locator(f"[data-task-id='{run.task('a')}'] .tw").click()
    page.locator(f"[data-task-id='{run.task('b')}'] .tw").click()
    page.locator("[data-group='fetch.page'] .tw").click()
    page.evaluate("navigator.clipboard.writeText = text => { window.copied = text }")
    page.keyboard.press("y")
    query = "?" + page.evaluate("window.copied").split("?")[1]

    found = first_rows(new_page, run, query)

    assert found[:5] == ["root", "a", "fetch.page", "f0", "f1"]
    assert found[-1] != "b1" and len(found) == 200


def test_a_fan_out_of_5000_of_one_name_is_one_row(new_page, run):
    run.register("a1", "a")
    fan(run, 5_000, "a")
    run.register("a2", "a")
    run.say("f4000", "FAILED")

    assert first_rows(new_page, run) == ["root", "a", "a1", "fetch_page", "a2", "b", "c"]
    found = first_rows(new_page, run, f"?node={run.task('f3')}")
    assert found[:5] == ["root", "a", "a1", "fetch_page", "f0"]


def test_a_link_opens_many_branches_of_a_tree_that_is_not_read_whole(new_page, run):
    fan(run, 5_000, "c")
    run.register_all([f"a{n}" for n in range(20)], "a")
    for n in range(20):
        run.register(f"x{n}", f"a{n}")
        run.register(f"y{n}", f"x{n}")
    page = open_page(new_page(), run)
    page.locator(f"[data-task-id='{run.task('a')}'] .tw").click()
    page.keyboard.press("e")
    page.evaluate("navigator.clipboard.writeText = text => { window.copied = text }")
    page.keyboard.press("y")

    found = first_rows(new_page, run, "?" + page.evaluate("window.copied").split("?")[1])

    assert found[:6] == ["root", "a", "a0", "x0", "y0", "a1"]
    assert found[-2:] == ["b", "c"] and len(found) == 64
