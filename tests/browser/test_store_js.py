"""``static/tree/{store,order,wire}.js`` in a page without a server: rows in, sums and order out."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[2] / "static"
PENDING, RUNNING, SUCCESS, FAILED = range(4)
AGENT, GROUP_AGG, _, EXECUTION = range(4)
UNATTACHED, HEARD = 4, 16

#: What a page can tell of a store, so that two can be compared.
SHOWN = """
  const shown = (store, order) => ({
    seq: store.seq, totals: [...store.totals], rest: store.plannedRest, tops: store.tops, root: store.root,
    tasks: Array.from({length: store.size}, (_, n) => store.known[n] ? {
      id: store.ids[n], name: store.names[n], parent: store.parent[n], status: store.status[n],
      below: [...store.below(n)], rest: store.rest[n], acting: store.acting[n], holding: store.holding[n],
      kids: store.kids[n], open: store.stillOpen(n),
      children: children(store, n),
    } : null),
  });
  const children = (store, n) => {
    const all = [];
    for (let c = store.first[n]; c >= 0; c = store.next[c]) all.push(c);
    return all;
  };
"""


@pytest.fixture(scope="module")
def modules(chromium):
    """An empty page that has the modules, as ``store``, ``order`` and ``wire``."""

    def serve(route):
        path = STATIC / route.request.url.split("tower.test/")[1]
        if path.suffix == ".js":
            route.fulfill(body=path.read_text(), content_type="text/javascript")
        else:
            route.fulfill(body="<!doctype html><title>empty</title>", content_type="text/html")

    page = chromium.new_page()
    page.route("http://tower.test/**", serve)
    page.goto("http://tower.test/")
    page.evaluate(
        "async () => { const all = ['store', 'order', 'wire', 'groups', 'search', 'folds', 'flat'];"
        " const made = await Promise.all(all.map((name) => import(`/tree/${name}.js`)));"
        " window.m = Object.assign({}, ...made); }"
    )
    yield page
    page.close()


def row(n, parent=-1, status=PENDING, **more):
    return {
        "n": n, "id": f"t{n}", "parent": parent, "name": more.pop("name", f"task {n}"), "kind": EXECUTION,
        "status": status, "progress": None, "start": None, "end": None, "attempt": 1, "split": 0,
        "over": 0 if parent >= 0 or n == 0 else UNATTACHED,
    } | more  # fmt: skip


class Model:
    """A tree that grows by chance; says what changed as the wire would."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.rows = [row(0, split=3)]
        self.seq = 1

    def above(self, n):
        while n >= 0:
            yield n
            n = self.rows[n]["parent"]

    def step(self):
        """One batch: {rows, seq}."""
        self.seq += 1
        touched: dict[int, None] = {}
        for _ in range(self.chance.randrange(1, 9)):
            self.chance.choice([self.grow, self.grow, self.report, self.report, self.move])(touched)
        return {"rows": [dict(self.rows[n]) for n in touched], "seq": self.seq}

    def grow(self, touched):
        n = len(self.rows)
        parent = self.chance.choice([-1, *range(n), *range(n)])
        kind = self.chance.choice([AGENT, GROUP_AGG, EXECUTION, EXECUTION])
        self.rows.append(row(n, parent, kind=kind, split=self.chance.choice([0, 0, 2, 5])))
        touched[n] = None

    def report(self, touched):
        n = self.chance.randrange(len(self.rows))
        status = self.chance.randrange(6)
        start = None if status == PENDING else self.chance.choice([None, 1000 + self.chance.randrange(500)])
        self.rows[n] |= {"status": status, "start": start, "end": 2000 if status > RUNNING else None}
        kept = self.rows[n]["over"] & UNATTACHED
        self.rows[n]["over"] = kept | self.chance.choice([0, HEARD, HEARD | 2, HEARD | (status == RUNNING)])
        touched[n] = None

    def move(self, touched):
        if len(self.rows) < 3:
            return
        n = self.chance.randrange(1, len(self.rows))
        to = self.chance.randrange(len(self.rows))
        if n not in self.above(to):
            self.rows[n] |= {"parent": to, "over": self.rows[n]["over"] & ~UNATTACHED}
            touched[n] = None


@pytest.mark.parametrize("seed", range(25))
def test_an_old_snapshot_with_its_deltas_is_a_fresh_snapshot(modules, seed):
    model = Model(seed)
    for _ in range(4):
        model.step()
    old = [dict(r) for r in model.rows]
    since = model.seq
    steps = [model.step() for _ in range(25)]

    old_and_deltas, fresh = modules.evaluate(
        f"""([old, since, steps, rows, seq]) => {{ {SHOWN}
          const grown = new m.Store(), fresh = new m.Store();
          grown.load(old, [], since);
          for (const step of steps) grown.apply(step.rows, step.seq);
          fresh.load(rows, [], seq);
          return [shown(grown), shown(fresh)];
        }}""",
        [old, since, steps, model.rows, model.seq],
    )

    assert old_and_deltas == fresh


@pytest.mark.parametrize("seed", range(5))
def test_a_repeated_delta_changes_nothing(modules, seed):
    model = Model(seed)
    steps = [model.step() for _ in range(12)]

    once, twice = modules.evaluate(
        f"""([steps]) => {{ {SHOWN}
          const stores = [1, 2].map((times) => {{
            const store = new m.Store();
            for (const step of steps) for (let k = 0; k < times; k++) store.apply(step.rows, step.seq);
            return store;
          }});
          return stores.map((store) => shown(store));
        }}""",
        [[{"rows": [row(0, split=3)], "seq": 1}, *steps]],
    )

    assert once == twice


@pytest.mark.parametrize("seed", range(5))
def test_roll_ups_count_what_is_below(modules, seed):
    model = Model(seed)
    for _ in range(30):
        model.step()

    shown = modules.evaluate(
        f"([rows]) => {{ {SHOWN} const s = new m.Store(); s.load(rows, [], 1); return shown(s); }}",
        [model.rows],
    )

    for n, task in enumerate(shown["tasks"]):
        inside = [r for r in model.rows if n in list(model.above(r["n"]))]
        below = [r for r in inside if r["n"] != n]
        assert task["below"] == [sum(r["status"] == s for r in below) for s in range(6)]
        acting = [r for r in inside if r["status"] == RUNNING and r["over"] & (HEARD | 2) == HEARD]
        assert task["acting"] == len(acting)
        assert task["holding"] == sum(r["over"] & 1 for r in acting)
        kids = {
            r["n"]: sum(c["parent"] == r["n"] and c["kind"] != GROUP_AGG for c in model.rows) for r in inside
        }
        assert task["rest"] == sum(
            max(0, r["split"] - kids[r["n"]]) for r in inside if r["status"] <= RUNNING
        )


def test_two_tasks_may_change_places_in_one_delta(modules):
    before = [row(0), row(1, 0), row(2, 1), row(3, 2)]
    after = [row(2, 0), row(1, 2)]

    parents = modules.evaluate(
        """([before, after]) => { const s = new m.Store(); s.load(before, [], 1); s.apply(after, 2);
          return Array.from(s.parent.subarray(0, s.size)); }""",
        [before, after],
    )

    assert parents == [-1, 2, 0, 2]


def test_a_task_is_found_by_its_id_however_late_it_came(modules):
    found = modules.evaluate(
        """([rows, late]) => { const s = new m.Store(); s.load(rows, [], 1);
          const before = [s.find('t1'), s.find('t9')];
          s.apply([late], 2);
          const after = [s.find('t1'), s.find('t9')];
          s.load(rows, [], 3);
          return [before, after, s.find('t9')]; }""",
        [[row(0), row(1, 0)], row(9, 1)],
    )

    assert found == [[1, -1], [1, 9], -1]


def visible(page, rows, script):
    """The ids in their order with their levels, after ``script`` did something to ``s`` and ``o``."""
    return page.evaluate(
        f"""async ([rows]) => {{
          const s = new m.Store(), o = new m.Order(s);
          s.load(rows, [], 1); o.reset();
          const say = await (async () => {{ {script} }})();
          o.rebuild();
          const row = (n, at) => [n, o.level[at], o.posinset[at], o.setsize(n)];
          return {{said: say ?? null, rows: Array.from(o.rows.subarray(0, o.length), row)}};
        }}""",
        [rows],
    )


#: 0 (1 (3 4 (6)) 2 (5)) and 7, which hangs nowhere.
TREE = [row(0), row(1, 0), row(2, 0), row(3, 1), row(4, 1), row(5, 2), row(6, 4), row(7)]


def test_a_small_tree_is_open_in_pre_order_and_loose_tasks_come_last(modules):
    found = visible(modules, TREE, "")

    assert found["rows"] == [
        [0, 1, 1, 1], [1, 2, 1, 2], [3, 3, 1, 2], [4, 3, 2, 2], [6, 4, 1, 1], [2, 2, 2, 2], [5, 3, 1, 1],
        [7, 2, 1, 1],
    ]  # fmt: skip


def test_a_fold_hides_what_is_below_and_a_new_child_of_an_open_task_is_a_row(modules):
    found = visible(
        modules,
        TREE,
        "o.set(1, false); o.reshaped(s.apply([m_row, m_other], 2));".replace(
            "m_row", str(row(8, 2)).replace("None", "null")
        ).replace("m_other", str(row(9, 1)).replace("None", "null")),
    )

    assert [n for n, *_ in found["rows"]] == [0, 1, 2, 5, 8, 7]


def test_the_root_opens_by_itself_however_large_the_tree(modules):
    many = [row(0), *(row(n, 0 if n < 300 else 1) for n in range(1, 400))]

    found = visible(modules, many, "")

    assert len(found["rows"]) == 300
    assert all(level <= 2 for _, level, *_ in found["rows"])


def test_folding_to_a_level_keeps_what_is_above_it(modules):
    found = visible(modules, TREE, "o.foldTo(2)")

    assert [n for n, *_ in found["rows"]] == [0, 1, 2, 7]


def test_a_filter_keeps_matches_and_all_above_them(modules):
    found = visible(
        modules, TREE, "o.filter('TASK 6', null); o.rebuild(); return [o.found, o.matches(6), o.matches(4)];"
    )

    assert [n for n, *_ in found["rows"]] == [0, 1, 4, 6]
    assert found["said"] == [1, True, False]


def test_the_next_failure_is_found_through_folds_both_ways_and_round(modules):
    failed = [dict(r, status=FAILED if r["n"] in (3, 6, 5) else PENDING) for r in TREE]

    found = visible(
        modules,
        failed,
        """o.set(0, false);
        const walk = (way, at = -1) => [1, 2, 3, 4].map(() => (at = o.next('failed', at, way).n));
        const numbers = [-1, 3, 6].map((at) => o.next('failed', at, 1)).map((hit) => [hit.number, hit.all]);
        return {on: walk(1), back: walk(-1), numbers};""",
    )

    assert found["said"]["on"] == [3, 6, 5, 3]
    assert found["said"]["back"] == [5, 6, 3, 5]
    assert found["said"]["numbers"] == [[1, 3], [2, 3], [3, 3]]


def test_a_failed_task_comes_before_the_failures_below_it(modules):
    failed = [dict(r, status=FAILED if r["n"] in (1, 6) else PENDING) for r in TREE]

    found = visible(
        modules,
        failed,
        "const hit = o.next('failed', 1, 1); return [o.next('failed', 6, -1).n, hit.n, hit.number];",
    )

    assert found["said"] == [1, 6, 2]


#: 0 (1 … 230 "fetch", with 231 "parse" and 232 below 5), in the order of their numbers.
FAN = [
    row(0),
    *(row(n, 0, name="fetch" if n != 3 else "parse") for n in range(1, 231)),
    row(231, 5, name="inner"),
]
GROUP = 2**30


def test_many_siblings_of_one_name_are_one_row_at_the_place_of_the_first(modules):
    found = visible(modules, FAN, "")

    assert found["rows"] == [[0, 1, 1, 1], [GROUP, 2, 1, 2], [3, 2, 2, 2]]


def test_an_open_group_shows_its_members_a_level_further_in(modules):
    found = visible(modules, FAN, f"o.set({GROUP}, true)")

    assert found["rows"][:5] == [
        [0, 1, 1, 1], [GROUP, 2, 1, 2], [1, 3, 1, 229], [2, 3, 2, 229], [4, 3, 3, 229],
    ]  # fmt: skip
    assert found["rows"][-1] == [3, 2, 2, 2]


def test_a_group_sums_up_its_members_and_what_is_below_them(modules):
    changed = [
        dict(r, status=FAILED if r["n"] in (7, 231) else SUCCESS if r["n"] == 8 else PENDING) for r in FAN
    ]

    found = visible(
        modules,
        changed,
        """const four = (counts) => [...counts].slice(0, 4);
        const sums = (g = o.groups.summed(0)) => [four(g.own), four(g.counts), m.statusOf(g)];
        const before = sums();
        s.apply([{n: 9, status: 3}], 2);
        return [before, sums()];""",
    )

    before, after = found["said"]
    assert before == [[227, 0, 1, 1], [227, 0, 1, 2], RUNNING]
    assert after == [[226, 0, 1, 2], [226, 0, 1, 3], RUNNING]


def test_a_group_that_forms_before_the_eyes_of_a_reader_stays_open(modules):
    few = [r for r in FAN if r["n"] <= 190]
    rest = str([r for r in FAN if r["n"] > 190]).replace("None", "null")

    found = visible(modules, few, f"o.rebuild(); o.reshaped(s.apply({rest}, 2));")

    shown = [n for n, *_ in found["rows"]]
    assert shown[:3] == [0, GROUP, 1] and len(shown) == 232


def test_a_task_in_a_folded_group_is_revealed_and_a_filter_knows_no_groups(modules):
    found = visible(
        modules,
        [dict(r, status=FAILED if r["n"] in (9, 231) else PENDING) for r in FAN],
        """const hit = o.next('failed', -1, 1);
        o.reveal(231); o.rebuild();
        const seen = [o.at(231) >= 0, o.at(9) >= 0, o.isOpen(2 ** 30)];
        const first = o.firstFailure(2 ** 30);
        o.set(2 ** 30, false); o.filter('status:failed', null);
        return [hit, seen, first];""",
    )

    hit, seen, first = found["said"]
    assert hit == {"n": 231, "number": 1, "all": 2} and seen == [True, True, True] and first == 231
    assert [n for n, *_ in found["rows"]] == [0, 5, 231, 9]


def test_folding_to_a_level_counts_groups_as_one(modules):
    found = visible(
        modules, FAN, "o.foldTo(3); o.rebuild(); const three = o.length; o.foldTo(2); return three;"
    )

    assert found["said"] == 232
    assert len(found["rows"]) == 3


def test_the_folds_of_a_link_are_those_that_were_copied(modules):
    kept, short, none = modules.evaluate(
        """([fan, tree]) => {
          const page = (rows) => {
            const s = new m.Store(), o = new m.Order(s);
            s.load(rows, [], 1);
            o.reset();
            return o;
          };
          const shown = (o) => { o.dirty = true; o.rebuild(); return [...o.rows.subarray(0, o.length)]; };
          const there = page(fan), here = page(fan);
          there.set(2 ** 30, true); there.set(5, true); there.set(0, true);
          const link = m.folds(there);
          here.chosen = m.chosen(link, here.store.size); here.reset();
          const small = page(tree); small.set(1, false);
          const other = page(tree); other.chosen = m.chosen(m.folds(small), other.store.size); other.reset();
          return [[shown(there).join() === shown(here).join(), shown(here).includes(231)],
                  [shown(other), m.folds(small).length < 20], m.folds(page(fan))];
        }""",
        [FAN, TREE],
    )

    assert kept == [True, True]
    assert short == [[0, 1, 2, 5, 7], True]
    assert none == ""


def test_what_is_typed_is_taken_apart_by_keys(modules):
    asked = modules.evaluate(
        """() => ['fetch page', 'status:fail error:"too many" x', 'id:T7', 'status:nonsense', 'label:']
          .map((text) => m.parse(text))"""
    )

    assert [(q["plain"], q["id"], q["status"], q["asks"]) for q in asked] == [
        ("fetch page", "", None, ""),
        ("x", "", FAILED, 'error:"too many"'),
        ("", "t7", None, ""),
        ("status:nonsense", "", None, ""),
        ("label:", "", None, ""),
    ]


def test_a_running_task_that_does_not_do_what_was_asked_is_found(modules):
    at_work = [dict(r, status=RUNNING, over=HEARD | (r["n"] == 3)) for r in TREE]

    found = visible(
        modules,
        at_work,
        "s.setIntents([[1, 1, 1]]); return [-1, 1, 4].map((at) => o.next('stuck', at, 1).n);",
    )

    assert found["said"] == [1, 4, 6]


def test_a_chain_of_a_thousand_is_walked_without_recursion(modules):
    chain = [row(n, n - 1) for n in range(1000)]

    found = visible(modules, chain, "o.setBelow(0, true);")

    assert found["rows"][-1] == [999, 1000, 1, 1]


def test_the_strongest_command_on_the_way_down_is_in_force(modules):
    asked = modules.evaluate(
        """([rows]) => { const s = new m.Store(); s.load(rows, [[1, 1, 1], [4, 2, 2]], 1);
          const before = [0, 1, 3, 4, 6, 2].map((n) => s.asked(n));
          s.setIntents([[-1, 1, 3], [1, 0, 4]]);
          return [before, [0, 1, 7].map((n) => s.asked(n)), s.askedAt(6, 1)]; }""",
        [TREE],
    )

    assert asked == [[0, 1, 1, 2, 2, 0], [1, 1, 1], -1]


def test_the_wire_names_columns_by_bits_and_times_from_the_start(modules):
    rows = modules.evaluate(
        """() => {
          const new_ = [4, "t4", 0, 3, 0, 1, 40, 5, null, 2, 0, 0, 1, -1];
          const up = [2, (1 << 4) | (1 << 7) | (1 << 20), 2, 9, "of a bit that nobody knows yet"];
          return m.rowsOfDelta({new: [new_], up: [up], names: ["fetch"]}, 1000);
        }"""
    )

    assert (
        rows[0]["name"] == "fetch"
        and rows[0]["start"] == 1005
        and rows[0]["end"] is None
        and rows[0]["over"] == 1
    )
    assert rows[1] == {"n": 2, "status": 2, "end": 1009}


FLAT = """() => {
  const store = new m.Store(), flat = new m.Flat(store)
  const order = () => { flat.sort(); return [...flat.list.subarray(0, flat.length)] }
  const row = (n, start) => ({n, id: `t${n}`, parent: n ? 0 : undefined, name: "", kind: 0, status: 1, start})
  store.load([row(0, 5), row(1, null), row(2, 3), row(3, null), row(4, 9)], [], 1)
  const first = order()
  store.apply([{n: 3, start: 4}, row(5, 4), {n: 4, start: 1}], 2)
  return [first, order(), order()]
}"""


def test_a_flat_list_puts_only_what_began_or_came_anew(modules):
    assert modules.evaluate(FLAT) == [[2, 0, 4, 1, 3], [4, 2, 3, 5, 0, 1], [4, 2, 3, 5, 0, 1]]
