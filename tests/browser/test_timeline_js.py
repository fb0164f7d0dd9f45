"""``static/tree/{critical,idle,minimap}.js`` without a server: what a run waited for, idle times, the map."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from tests.browser import test_store_js
from tests.browser.test_store_js import FAILED, PENDING, RUNNING, SUCCESS, row

modules = test_store_js.modules
CANCELLED = 4
FOREVER = 10**9


@pytest.fixture(scope="module")
def timeline(modules):
    modules.evaluate(
        "async () => { const all = ['times', 'critical', 'idle', 'minimap', 'waterfall', 'words'];"
        " const made = await Promise.all(all.map((name) => import(`/tree/${name}.js`)));"
        " Object.assign(window.m, ...made); }"
    )
    return modules


def task(n, parent, start=None, end=None, status=None, **more):
    if status is None:
        status = PENDING if start is None and end is None else RUNNING if end is None else SUCCESS
    return row(n, parent, status, start=start, end=end, **more)


PATH = """([rows, now]) => {
  const store = new m.Store(); store.load(rows, [], 1);
  const path = m.criticalPath(store, now);
  const pairs = (own) => Array.from({length: own.length / 2}, (_, i) => [own[2 * i], own[2 * i + 1]]);
  const step = ({from, to, own}) => ({from, to, own: pairs(own).sort((a, b) => a[0] - b[0])});
  return {tasks: path.tasks, spent: path.spent, whole: path.whole, open: path.open,
    steps: Object.fromEntries([...path.steps].map(([n, one]) => [n, step(one)]))};
}"""


def path_of(timeline, rows, now=1_000):
    found = timeline.evaluate(PATH, [rows, now])
    return found | {"steps": {int(n): step for n, step in found["steps"].items()}}


def owned(found):
    return {n: [tuple(part) for part in step["own"]] for n, step in found["steps"].items()}


# -- the critical path


def test_the_path_goes_from_the_last_that_ended_back_to_what_it_waited_for(timeline):
    rows = [
        task(0, -1, 0, 100),
        task(1, 0, 0, 40),
        task(2, 0, 5, 60),
        task(3, 0, 60, 90),
        task(4, 0, 62, 80),
        task(5, 3, 65, 85),
    ]

    found = path_of(timeline, rows)

    # 1 and 4 ended while another one was still at work; before 2 the root did something by itself.
    assert owned(found) == {0: [(0, 5), (90, 100)], 2: [(5, 60)], 3: [(60, 65), (85, 90)], 5: [(65, 85)]}
    assert (found["tasks"], found["spent"], found["whole"], found["open"]) == (3, 85, 100, False)


def test_of_several_that_still_run_the_path_takes_the_one_that_began_first(timeline):
    rows = [task(0, -1, 0), task(1, 0, 10, 50), task(2, 0, 30), task(3, 0, 20), task(4, 0)]

    found = path_of(timeline, rows, now=200)

    assert owned(found) == {0: [(0, 20)], 3: [(20, 200)]}
    assert found["open"] is True


def test_a_child_of_a_clock_that_disagrees_counts_as_far_as_its_parent_goes(timeline):
    rows = [
        task(0, -1, 100, 200),
        task(1, 0, 50, 130),
        task(2, 0, 150, 900),
        task(3, 0, 201, 950),
        task(4, 0, 20, 60),
        task(5, 2, 160, 890),
    ]

    found = path_of(timeline, rows)

    # What began after its parent had ended, or ended before it began, was not waited for.
    assert owned(found) == {0: [(130, 150)], 1: [(100, 130)], 2: [(150, 160)], 5: [(160, 200)]}


def test_what_took_no_time_or_has_none_is_not_on_the_path(timeline):
    rows = [task(0, -1, 0, 100), task(1, 0, 10, 60), task(2, 0, 100, 100), task(3, 0, None, 90), task(4, 0)]

    assert owned(path_of(timeline, rows)) == {0: [(0, 10), (60, 100)], 1: [(10, 60)]}


def test_a_parent_without_a_start_counts_from_the_first_at_and_below_it(timeline):
    rows = [task(0, -1, 0, 100), task(1, 0, None, 80), task(2, 1, 30, 70)]

    assert owned(path_of(timeline, rows)) == {0: [(0, 30), (80, 100)], 1: [(70, 80)], 2: [(30, 70)]}


def test_what_hangs_nowhere_is_not_on_the_path(timeline):
    rows = [task(0, -1, 0, 100), task(1, 0, 10, 90), task(2, -1, 0, 500), task(3, 2, 0, 500)]

    assert set(path_of(timeline, rows)["steps"]) == {0, 1}


@pytest.mark.parametrize("rows", [[task(0, -1)], [task(0, -1, 500)], [task(0, -1), task(1, 0)]])
def test_before_any_time_has_gone_by_there_is_no_path(timeline, rows):
    found = path_of(timeline, rows, now=500)

    assert (found["steps"], found["tasks"], found["spent"]) == ({}, 0, 0)


def test_a_path_of_fifty_thousand_levels_is_walked_without_recursion(timeline):
    deep = 50_000

    found = timeline.evaluate(
        """(deep) => {
          const store = new m.Store();
          const row = (n) => ({n, id: `t${n}`, parent: n - 1, status: 2, start: n, end: 10 * deep - n});
          store.load(Array.from({length: deep}, (_, n) => row(n)), [], 1);
          const path = m.criticalPath(store, 0);
          return [path.tasks, path.spent, path.whole, path.steps.get(deep - 1).own];
        }""",
        deep,
    )

    assert found == [deep - 1, 10 * deep - 2, 10 * deep, [deep - 1, 9 * deep + 1]]


def recursively(rows, n, start, end, now, steps):
    """The definition of the documentation, told again, in the plainest way."""
    times = {one["n"]: times_of(rows, one["n"], now) for one in rows if one["parent"] == n}
    some = {
        c: time for c, time in times.items() if time is not None and min(end, time[1]) > max(start, time[0])
    }
    cut, own, first = end, [], True
    while cut > start:
        last = [c for c in some if first or (rows[c]["status"] > RUNNING and some[c][1] <= cut)]
        if not last:
            break
        open_last = [FOREVER if rows[c]["status"] <= RUNNING else some[c][1] for c in last]
        child = min(zip(last, open_last, strict=True), key=lambda one: (-one[1], some[one[0]][0], one[0]))[0]
        to, begin = min(cut, some[child][1]), max(start, some[child][0])
        if to < cut:
            own.append((to, cut))
        recursively(rows, child, begin, to, now, steps)
        del some[child]
        cut, first = begin, False
    if cut > start:
        own.append((start, cut))
    steps[n] = sorted(own)


def below(rows, n):
    yield n
    for one in rows:
        if one["parent"] == n:
            yield from below(rows, one["n"])


def times_of(rows, n, now):
    one, under = rows[n], [rows[c] for c in below(rows, n)]
    first = [
        t["start"] if t["start"] is not None else t["end"]
        for t in under
        if t["start"] is not None or t["end"] is not None
    ]
    last = [t[k] for t in under for k in ("start", "end") if t[k] is not None]
    begin = one["start"] if one["start"] is not None else min(first, default=None)
    if begin is None:
        return None
    if one["end"] is not None:
        return begin, one["end"]
    return begin, now if one["status"] <= RUNNING else max(begin, *last)


@pytest.mark.parametrize("seed", range(30))
def test_any_tree_gives_the_path_of_the_definition_and_it_covers_the_time_of_the_root_once(timeline, seed):
    chance, now = random.Random(seed), 400
    rows = [task(0, -1, chance.choice([0, 20]), chance.choice([None, 300]))]
    for n in range(1, chance.randrange(2, 60)):
        start = chance.choice([None, *[chance.randrange(0, 300, 10)] * 4])
        end = chance.choice([None, *[(start or 100) + chance.randrange(0, 150, 10)] * 4])
        status = None if end is None else chance.choice([SUCCESS, FAILED, CANCELLED])
        rows.append(task(n, chance.randrange(n), start, end, status))
    expected: dict[int, Any] = {}
    start, end = times_of(rows, 0, now)
    recursively(rows, 0, start, end, now, expected)

    found = path_of(timeline, rows, now)

    assert owned(found) == expected
    parts = sorted(part for own in expected.values() for part in own)
    assert parts[0][0] == start and parts[-1][1] == end
    assert all(one[1] == other[0] for one, other in itertools.pairwise(parts))


# -- times in which nothing ran

GAPS = """([rows, begin, finish, now]) => {
  const store = new m.Store(); store.load(rows, [], 1);
  return m.idleGaps(store, begin, finish, now).map(({from, to, parents}) => [from, to, parents]);
}"""


def gaps(timeline, rows, begin=0, finish=1_000, now=1_000):
    return timeline.evaluate(GAPS, [rows, begin, finish, now])


def test_a_time_in_which_only_parents_were_open_is_a_gap(timeline):
    rows = [task(0, -1, 0, 1_000), task(1, 0, 0, 300), task(2, 0, 100, 250), task(3, 0, 700, 1_000)]

    assert gaps(timeline, rows) == [[300, 700, True]]


def test_a_time_in_which_nothing_was_open_is_a_gap_of_another_kind(timeline):
    assert gaps(timeline, [task(0, -1, 700, 1_000), task(1, -1, 0, 300)]) == [[300, 700, False]]


def test_a_gap_counts_where_it_is_longer_than_a_twentieth_of_the_time(timeline):
    rows = [task(0, -1, 0, 1_000), task(1, 0, 0, 300), task(2, 0, 350, 600), task(3, 0, 651, 1_000)]

    assert gaps(timeline, rows) == [[600, 651, True]]


def test_a_gap_ends_where_something_ended_that_is_not_known_to_have_begun(timeline):
    rows = [task(0, -1, 0, 1_000), task(1, 0, 0, 200), task(2, 0, None, 500), task(3, 0, 800, 1_000)]

    assert gaps(timeline, rows) == [[200, 500, True], [500, 800, True]]


def test_a_gap_that_still_lasts_is_none_while_something_runs_and_one_at_the_end_of_a_run_is(timeline):
    rows = [task(0, -1, 0), task(1, 0, 100, 200)]
    ended = [task(0, -1, 0, 1_000), task(1, 0, 100, 200)]

    assert gaps(timeline, rows) == [[0, 100, True]]
    assert gaps(timeline, ended) == [[0, 100, True], [200, 1_000, True]]


@pytest.mark.parametrize("seed", range(20))
def test_gaps_are_those_that_a_look_at_every_moment_finds(timeline, seed):
    chance = random.Random(seed)
    rows = [task(0, -1, 0, 1_000)]
    for n in range(1, chance.randrange(3, 12)):
        start = chance.randrange(0, 950)
        rows.append(task(n, 0, start, start + chance.randrange(0, 60)))
    rows = [one for one in rows if one["n"] == 0 or one["end"] <= 1_000]
    rows = [one | {"n": n, "id": f"t{n}"} for n, one in enumerate(rows)]
    moments = sorted({0, 1_000, *(one[k] for one in rows[1:] for k in ("start", "end"))})
    expected: list[list[object]] = []
    for one, other in itertools.pairwise(moments):
        if other - one > 50 and not any(r["start"] < other and r["end"] > one for r in rows[1:]):
            expected.append([one, other, True])

    assert gaps(timeline, rows) == (expected if len(rows) > 1 else [])


AXIS = """([from, to, room, gaps, times]) => {
  const axis = new m.Axis(from, to, room, gaps.map(([from, to]) => ({from, to})));
  return {at: times.map((ms) => axis.at(ms)), back: times.map((ms) => axis.moment(axis.at(ms)))};
}"""


def places(
    timeline: Any, start: int, end: int, gaps: list[list[int]], times: list[int], room: int = 1_000
) -> Any:
    return timeline.evaluate(AXIS, [start, end, room, gaps, times])


def test_a_folded_gap_takes_28_pixels_and_the_rest_shares_what_is_left(timeline):
    found = places(timeline, 0, 1_000, [[200, 700]], [0, 100, 200, 450, 700, 1_000])

    assert found["at"] == pytest.approx([0, 0.1944, 0.3888, 0.4028, 0.4168, 1])


def test_a_part_of_the_time_is_shown_with_the_part_of_the_gap_that_is_in_it(timeline):
    found = places(timeline, 0, 500, [[250, 750]], [0, 250, 500])

    # Half of the gap, half of its 28 pixels.
    assert found["at"] == pytest.approx([0, 0.986, 1])


def test_inside_of_a_gap_time_goes_as_ever(timeline):
    assert places(timeline, 300, 400, [[200, 700]], [300, 350, 400])["at"] == pytest.approx([0, 0.5, 1])


@pytest.mark.parametrize("room", [0, 30, 200, 800])
@pytest.mark.parametrize("window", [(0, 1_000), (150, 600), (290, 310), (0, 250)])
def test_places_lead_back_to_their_times_also_beyond_what_is_shown(timeline, window, room):
    gaps = [[200, 300], [320, 480], [700, 990]]
    times = [-50, 0, 120, 200, 260, 310, 400, 650, 705, 995, 1_200]

    found = places(timeline, window[0], window[1], gaps, times, room)

    assert found["at"] == sorted(found["at"])
    assert found["back"] == pytest.approx(times)
    ends = places(timeline, window[0], window[1], gaps, list(window), room)["at"]
    assert ends == pytest.approx([0, 1], abs=1e-9)


# -- what ended without having begun


def test_what_ended_without_having_begun_is_there_at_its_end(timeline):
    found = timeline.evaluate(
        """(rows) => {
          const store = new m.Store(); store.load(rows, [], 1);
          return [...[0, 1].map((n) => [m.began(store, n), m.ended(store, n, 999)]), [store.from, store.to]];
        }""",
        [task(0, -1, 50, 100), task(1, 0, None, 40)],
    )

    assert found == [[50, 100], [40, 40], [40, 100]]


WORDS = {
    "gap_parents": "{time} idle",
    "gap_paused": "{time} paused",
    "gap_partly": "{time} of it",
    "and": ", ",
}


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        ([], "12 min 40 sec idle"),
        ([["CANCEL", 0, 760_000]], "12 min 40 sec idle"),
        ([["PAUSE", 0, None]], "12 min 40 sec paused"),
        # Two pauses at once are not longer than one.
        ([["PAUSE", 0, 60_000], ["PAUSE", 30_000, 90_000]], "12 min 40 sec idle, 1 min 30 sec of it"),
    ],
)
def test_an_idle_time_says_how_long_it_was_and_that_a_pause_stood(timeline, bands, words):
    said = timeline.evaluate(
        """([words, bands]) => {
          m.setWords(words);
          const waterfall = new m.Waterfall(new m.Store(), null, document.createElement("div"));
          waterfall.now = 1e6;
          waterfall.setBands(bands.map(([action, from, to]) => ({action, from, to, label: ""})));
          return waterfall.gapWords({from: 0, to: 760_000, parents: true});
        }""",
        [WORDS, bands],
    )

    assert said == words


# -- the map

LINES = """([rows, room, open]) => {
  const store = new m.Store(); store.load(rows, [], 1);
  const order = new m.Order(store); order.reset();
  if (open) order.foldTo(Infinity);
  order.rebuild();
  const counts = [...m.lines(order, room)], lines = [];
  while (counts.length) lines.push(counts.splice(0, 6));
  return lines;
}"""


def test_each_row_of_a_small_tree_takes_up_to_eight_lines_of_the_map(timeline):
    rows = [task(0, -1, 0), task(1, 0, 0, 5, FAILED)]

    lines = timeline.evaluate(LINES, [rows, 500, True])

    assert lines == [[0, 1, 0, 0, 0, 0]] * 8 + [[0, 0, 0, 1, 0, 0]] * 8


def test_a_line_of_the_map_sums_up_its_rows_and_a_folded_row_stands_for_all_below_it(timeline):
    fan = [task(n, 1, 0, 5, FAILED if n == 2 else SUCCESS, name=f"x{n}") for n in range(2, 302)]
    rows = [task(0, -1, 0), task(1, 0, 0), *fan]

    folded = timeline.evaluate(LINES, [rows, 500, False])
    opened = timeline.evaluate(LINES, [rows, 151, True])

    assert folded == [[0, 1, 0, 0, 0, 0]] * 8 + [[0, 1, 299, 1, 0, 0]] * 8
    assert len(opened) == 151 and opened[:2] == [[0, 2, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]
    assert [sum(line[s] for line in opened) for s in range(6)] == [0, 2, 299, 1, 0, 0]


def test_an_open_group_on_the_map_does_not_count_what_its_members_count(timeline):
    rows = [task(0, -1, 0), *(task(n, 0, 0, 5, name="page") for n in range(1, 251))]

    folded, opened = (timeline.evaluate(LINES, [rows, 1_000, open_]) for open_ in (False, True))

    # The root is open by itself; its group is not.
    assert folded == [[0, 1, 0, 0, 0, 0]] * 8 + [[0, 0, 250, 0, 0, 0]] * 8
    assert sum(line[SUCCESS] > 1 for line in opened) == 0
