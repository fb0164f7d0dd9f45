"""``static/tree/past.js`` without a server: the tree as it was at any moment, against sums made plainly."""

from __future__ import annotations

import random

import pytest

from tests.browser import test_store_js
from tests.browser.test_store_js import FAILED, PENDING, RUNNING, SUCCESS, row

modules = test_store_js.modules
CANCELLED, SKIPPED = 4, 5

LOOK = """
  const look = (store) => ({
    status: Array.from(store.status.slice(0, store.size)), totals: [...store.totals],
    below: Array.from({length: store.size}, (_, n) => [...store.below(n)]),
    span: Array.from({length: store.size}, (_, n) => [store.spanFrom[n], store.spanTo[n]].map(String)),
    attempt: Array.from(store.attempt.slice(0, store.size)),
  });
"""


@pytest.fixture(scope="module")
def past(modules):
    modules.evaluate(
        "async () => { const made = await Promise.all(['past', 'times'].map((n) => import(`/tree/${n}.js`)));"
        " Object.assign(window.m, ...made); }"
    )
    return modules


def at_moments(page, rows, moments, now=1_000):
    return page.evaluate(
        """([rows, moments, now]) => {"""
        + LOOK
        + """
          const store = new m.Store(); store.load(rows, [[-1, 1, 7]], 3);
          const past = new m.Past(store, now), seen = [];
          for (const at of moments) { past.go(at); seen.push(look(store)); }
          const {unsure, again} = past, none = store.intents.size;
          past.leave();
          const {intents, past: still} = store;
          return {seen, unsure, again, none, after: look(store), intents: intents.size, past: still};
        }""",
        [rows, moments, now],
    )


def was(one, ms):
    """The status of a task, told from its columns."""
    begun = one["start"] is not None and one["start"] <= ms
    ended = one["end"] is not None and max(one["end"], one["start"] or 0) <= ms
    return one["status"] if ended else RUNNING if begun else PENDING


def a_run(seed):
    """A tree by chance, whose leaves have times of every shape."""
    chance = random.Random(seed)
    rows = [row(0, -1, RUNNING, start=0)]
    for n in range(1, 60):
        status = chance.choice([PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, SKIPPED])
        start = None if status == PENDING else chance.randrange(0, 500)
        end = None if start is None or status <= RUNNING else chance.randrange(start - 30, 900)
        if status > RUNNING and chance.random() < 0.3:
            start = None
        rows.append(row(n, chance.randrange(0, min(n, 12)), status, start=start, end=end))
    for n in {one["parent"] for one in rows[1:]}:
        rows[n] |= {"status": RUNNING, "start": rows[n]["start"] or 0, "end": None}
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_any_moment_is_what_the_columns_say_of_it_whatever_was_shown_before(past, seed):
    rows = a_run(seed)
    moments = [random.Random(seed).randrange(0, 1_000) for _ in range(40)]

    found = at_moments(past, rows, moments)

    for ms, seen in zip(moments, found["seen"], strict=True):
        status = [was(one, ms) for one in rows]
        assert seen["status"] == status, ms
        assert seen["totals"] == [status.count(s) for s in range(6)]
        below = [[0] * 6 for _ in rows]
        for n in range(1, len(rows)):
            up = rows[n]["parent"]
            while up >= 0:
                below[up][status[n]] += 1
                up = rows[up]["parent"]
        assert seen["below"] == below
    assert not found["none"]


def test_on_return_all_is_as_it_was_with_what_was_asked(past):
    rows = a_run(3)
    plain = past.evaluate(
        "([rows]) => {" + LOOK + "const s = new m.Store(); s.load(rows, [], 1); return look(s); }", [rows]
    )

    found = at_moments(past, rows, [500, 0, 999])

    assert found["after"] == plain
    assert (found["intents"], found["past"]) == (1, False)


def test_what_cannot_be_known_is_counted_and_not_invented(past):
    rows = [
        row(0, -1, RUNNING, start=0),
        row(1, 0, RUNNING),
        row(2, 0, SUCCESS),
        row(3, 0, SUCCESS, start=300, end=400, attempt=3),
    ]

    found = at_moments(past, rows, [100, 350])

    assert (found["unsure"], found["again"]) == (2, 1)
    early, late = found["seen"]
    assert early["status"] == [RUNNING, RUNNING, SUCCESS, PENDING]
    # None: there was an attempt before, of which no time is known.
    assert (early["attempt"][3], late["attempt"][3]) == (0, 3)


def test_what_arrives_meanwhile_is_applied_beneath_and_there_on_return(past):
    found = past.evaluate(
        """([rows, more]) => {
          const store = new m.Store(); store.load(rows, [], 3);
          const past = new m.Past(store, 1000);
          past.go(50);
          past.live.apply(more, 4);
          const shown = [store.size, store.status[1], store.seq, store.children[0]];
          past.go(90);
          past.leave();
          return [shown, store.size, store.status[1], store.seq, [...store.totals], store.find('t2')];
        }""",
        [
            [row(0, -1, RUNNING, start=0), row(1, 0, RUNNING, start=60)],
            [row(1, 0, SUCCESS, start=60, end=1_200), row(2, 0, RUNNING, start=1_100)],
        ],
    )

    assert found == [[2, PENDING, 3, 1], 3, SUCCESS, 4, [0, 2, 1, 0, 0, 0], 2]


def test_the_next_change_and_the_one_before_are_found(past):
    rows = [row(0, -1, RUNNING, start=0), row(1, 0, SUCCESS, start=10, end=30), row(2, 0, RUNNING, start=30)]

    found = past.evaluate(
        """([rows]) => {
          const store = new m.Store(); store.load(rows, [], 1);
          const past = new m.Past(store, 1000), seen = [];
          for (const way of [1, 1, 1, -1, -1, -1, -1]) { past.go(past.change(way)); seen.push(past.at); }
          return seen;
        }""",
        [rows],
    )

    assert found == [10, 30, 1_000, 30, 10, 0, 0]
