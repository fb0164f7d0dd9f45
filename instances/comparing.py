"""Two runs side by side: their heads, their parameters, and which tasks went otherwise.

Tasks are matched by their path: the names from the root down; a name is the task's own, else its definition's
id, else its id. The two roots match whatever they are called. Siblings of one name are one entry: nothing
tells which of 5,000 is which of the others; so entries are compared by how many there are of each status, and
by their time together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from instances import reads
from instances.models import TaskBody
from instances.reads import MASK, TASK, Head, at_one_moment
from instances.rows import run
from instances.runs import now
from tower.access.pages import page
from tower.definitions.versions import Changed
from tower.reading import Query
from tower.schemas import OPEN, STATUSES

#: Reading and matching 100,000 tasks a side takes 0.65 s of a core, on either database (measured).
SECONDS: Final = 10.0
#: Of each kind of difference so many are kept, those that differ most.
MOST_KEPT: Final = 5_000
#: Shorter differences of time are those of the machines.
LEAST_MS: Final = 1_000
LEAST_SHARE: Final = 0.1

#: Stands for the name of a root: the two match whatever they are called.
ROOT: Final = "\0"
WIDTH: Final = len(STATUSES)

STATUS, ONLY_A, ONLY_B, TIME = "status", "only_a", "only_b", "time"
SHOWN: Final[Mapping[str, Promise | str]] = {
    STATUS: gettext_lazy("Different status"),
    ONLY_A: gettext_lazy("Only in A"),
    ONLY_B: gettext_lazy("Only in B"),
    TIME: gettext_lazy("Different duration"),
}


@dataclass(frozen=True, slots=True)
class Side:
    """The tasks of one entry in one run; ``n`` of the first of them, -1 where there is none."""

    n: int
    counts: Sequence[int]
    spent_ms: int

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def named(self) -> dict[str, int]:
        return {status.value: count for status, count in zip(STATUSES, self.counts, strict=True) if count}


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    path: tuple[str, ...]
    a: Side
    b: Side


@dataclass(frozen=True, slots=True)
class Difference:
    name: str
    path: tuple[str, ...]
    a: Side
    b: Side
    #: Tasks that are in one run only, or milliseconds more in B.
    by: int
    a_id: str = ""
    b_id: str = ""

    @property
    def less(self) -> int:
        return -self.by


@dataclass(frozen=True, slots=True)
class Compared:
    found: Mapping[str, Sequence[tuple[Entry, int]]]
    totals: Mapping[str, int]
    #: Entries that both have, and how many there are.
    same: int
    all: int


# -- matching


def compared(a: Head, b: Head) -> Compared:
    """Inside ``at_one_moment``."""
    return _compared(a.number, a.seq, a.root_n, b.number, b.seq, b.root_n)


@lru_cache(maxsize=4)
def _compared(a: int, a_seq: int, a_root: int | None, b: int, b_seq: int, b_root: int | None) -> Compared:
    # The seqs are part of the key: what has changed is read anew.
    paths = Paths()
    sides = [Column.of(number, root, paths) for number, root in ((a, a_root), (b, b_root))]
    for side in sides:
        side.add_up(len(paths.names))
    return differences(paths, *sides)


class Paths:
    """The entries of both runs, each by its place in these lists; what is above comes first.

    Lists of numbers and not an object an entry: there are 100,000 of them, and most are never shown.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.above: list[int] = []
        self._known: dict[tuple[int, str], int] = {}

    def below(self, above: int, key: str, name: str) -> int:
        entry = self._known.get((above, key))
        if entry is None:
            entry = self._known[above, key] = len(self.names)
            self.names.append(name)
            self.above.append(above)
        return entry

    def path(self, entry: int) -> tuple[str, ...]:
        found: list[str] = []
        while (entry := self.above[entry]) >= 0:
            found.append(self.names[entry])
        return tuple(found[::-1])


@dataclass(slots=True, eq=False)
class Column:
    """One run: its tasks, and of each entry what they are together."""

    #: (n, parent, name, status, milliseconds or None)
    rows: Sequence[Sequence[Any]]
    #: Of each row.
    entry_of: Sequence[int]
    first: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    spent: list[int] = field(default_factory=list)
    timed: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, number: int, root_n: int | None, paths: Paths) -> Column:
        low = number << 32
        rows = run(
            "SELECT n, parent_id, COALESCE(NULLIF(name, ''), NULLIF(job_id, ''), id), status,"
            f" finished_ms - started_ms FROM {TASK} WHERE pk >= %s AND pk <= %s ORDER BY pk",
            [low, low | MASK],
        )
        return cls(rows, entries(rows, root_n, paths))

    def add_up(self, entries: int) -> None:
        first, counts = [-1] * entries, [0] * (WIDTH * entries)
        spent, timed = [0] * entries, [0] * entries
        for entry, (n, _parent, _name, status, took) in zip(self.entry_of, self.rows, strict=True):
            if first[entry] < 0:
                first[entry] = n
            counts[WIDTH * entry + status] += 1
            if took is not None:
                timed[entry] += 1
                if took > 0:
                    spent[entry] += took
        self.first, self.counts, self.spent, self.timed = first, counts, spent, timed

    def of_each(self, entry: int) -> list[int]:
        """How many there are of each status."""
        return self.counts[WIDTH * entry : WIDTH * entry + WIDTH]

    def side(self, entry: int) -> Side:
        return Side(self.first[entry], self.of_each(entry), self.spent[entry])


def entries(rows: Sequence[Sequence[Any]], root_n: int | None, paths: Paths) -> list[int]:
    """The entry of each row."""
    known: dict[int, int] = {}
    late: dict[int, Sequence[Any]] | None = None
    for row in rows:
        n, parent, name = row[0], row[1], row[2]
        above = -1 if parent is None else known.get(parent & MASK)
        if above is None:
            # A parent that came later than its child: few trees have one.
            late = late or {each[0]: each for each in rows}
            above = _down_to(parent & MASK, late, known, root_n, paths)
        if n not in known:
            known[n] = paths.below(above, ROOT if n == root_n else name, name)
    return [known[row[0]] for row in rows]


def _down_to(
    n: int, rows: Mapping[int, Sequence[Any]], known: dict[int, int], root_n: int | None, paths: Paths
) -> int:
    """The entry of a task by its way from what is known; -1 where the tree has no such task."""
    way: list[int] = []
    at: int | None = n
    while at is not None and at in rows and at not in known:
        way.append(at)
        parent = rows[at][1]
        at = None if parent is None else parent & MASK
    above = known.get(at, -1) if at is not None else -1
    for at in reversed(way):
        name = rows[at][2]
        above = known[at] = paths.below(above, ROOT if at == root_n else name, name)
    return above


def differences(paths: Paths, a: Column, b: Column) -> Compared:
    """Those that differ most first; of a branch that one run alone has, its top."""
    alone = [x < 0 or y < 0 for x, y in zip(a.first, b.first, strict=True)]
    below = _below(paths, alone, a, b)
    found: dict[str, list[tuple[int, int]]] = {kind: [] for kind in SHOWN}
    for entry, is_alone in enumerate(alone):
        if is_alone:
            above = paths.above[entry]
            if above < 0 or not alone[above]:
                found[ONLY_B if a.first[entry] < 0 else ONLY_A].append((entry, below[entry]))
            continue
        one, other = a.of_each(entry), b.of_each(entry)
        if one != other:
            found[STATUS].append((entry, _moved(one, other)))
        by = b.spent[entry] - a.spent[entry]
        if abs(by) >= LEAST_MS and _took_otherwise(a, b, entry, sum(one), sum(other)):
            found[TIME].append((entry, by))
    most = {kind: sorted(some, key=lambda one: -abs(one[1]))[:MOST_KEPT] for kind, some in found.items()}
    return Compared(
        {kind: [(_entry(paths, a, b, at), by) for at, by in some] for kind, some in most.items()},
        {kind: len(some) for kind, some in found.items()},
        alone.count(False),
        len(alone),
    )


def _entry(paths: Paths, a: Column, b: Column, entry: int) -> Entry:
    return Entry(paths.names[entry], paths.path(entry), a.side(entry), b.side(entry))


def _below(paths: Paths, alone: Sequence[bool], a: Column, b: Column) -> dict[int, int]:
    """Tasks at and below each entry that one run alone has."""
    below: dict[int, int] = {}
    # What is below has a greater place, so it has been counted.
    for entry in range(len(alone) - 1, -1, -1):
        if alone[entry]:
            below[entry] = below.get(entry, 0) + sum(a.of_each(entry)) + sum(b.of_each(entry))
            above = paths.above[entry]
            if above >= 0 and alone[above]:
                below[above] = below.get(above, 0) + below[entry]
    return below


def _moved(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tasks have another status, or have come or gone."""
    more = [y - x for x, y in zip(a, b, strict=True)]
    return max(sum(n for n in more if n > 0), -sum(n for n in more if n < 0))


def _took_otherwise(a: Column, b: Column, entry: int, in_a: int, in_b: int) -> bool:
    """All ended, as many of them in both, and by more than a tenth of the longer time."""
    if not in_a or not a.timed[entry] == b.timed[entry] == in_a == in_b:
        return False
    spent = a.spent[entry], b.spent[entry]
    return abs(spent[1] - spent[0]) >= LEAST_SHARE * max(spent)


# -- the page


@page("viewer")
@require_http_methods(["GET", "HEAD", "POST"])
def compare(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return chosen(request)
    query = Query(request, allowed={"a", "b", "show", "from"})
    a, b = query.text("a", 64).strip(), query.text("b", 64).strip()
    if not a or not b:
        return render(request, "instances/compare.html", {"a": a, "b": b})
    return render(request, "instances/compare.html", context(query, a, b))


def chosen(request: HttpRequest) -> HttpResponse:
    """From the list of runs, where two are ticked: the one that stands lower, mostly the older, is A."""
    ids = [id for id in request.POST.getlist("run") if reads.valid_id(id)]
    if len(ids) != 2:
        messages.error(request, _("Choose two runs to compare them."))
        return HttpResponseRedirect(back(request), status=HTTPStatus.SEE_OTHER)
    address = f"{reverse('compare')}?{urlencode({'a': ids[1], 'b': ids[0]})}"
    return HttpResponseRedirect(address, status=HTTPStatus.SEE_OTHER)


def back(request: HttpRequest) -> str:
    """The list as it was, where the browser says so."""
    came = urlsplit(request.headers.get("Referer", ""))
    here = came.netloc == request.get_host() and came.path == reverse("runs")
    return f"/?{came.query}" if here and came.query else reverse("runs")


def context(query: Query, a: str, b: str) -> dict[str, Any]:
    show = query.choice("show", SHOWN)
    start = query.integer("from", 0, 0, MOST_KEPT)
    with at_one_moment(SECONDS):
        heads = [reads.head(a), reads.head(b)]
        result = compared(*heads)
        show = show or next((kind for kind in SHOWN if result.totals[kind]), STATUS)
        end = start + settings.TOWER_PAGE_SIZE
        shown = with_ids(heads, result.found[show][start:end])
        params = parameters(heads)
    address = f"{reverse('compare')}?{urlencode({'a': a, 'b': b})}"
    return {
        "a": a,
        "b": b,
        "heads": [Run.of(letter, head) for letter, head in zip("AB", heads, strict=True)],
        "turned": f"{reverse('compare')}?{urlencode({'a': b, 'b': a})}",
        "params": Changed(_("Parameters"), *params) if params[0] != params[1] else None,
        "result": result,
        "tabs": [
            (kind, str(title), result.totals[kind], f"{address}&show={kind}") for kind, title in SHOWN.items()
        ],
        "show": show,
        "title": str(SHOWN[show]),
        "shown": shown,
        "before": f"{address}&show={show}&from={max(0, start - settings.TOWER_PAGE_SIZE)}" if start else None,
        "behind": f"{address}&show={show}&from={end}" if len(result.found[show]) > end else None,
        "most": MOST_KEPT if result.totals[show] > MOST_KEPT else 0,
        "urls": [reverse("trace", args=[head.id]) for head in heads],
    }


def with_ids(heads: Sequence[Head], some: Iterable[tuple[Entry, int]]) -> list[Difference]:
    """The ids that lead to the tasks are read for what is shown only."""
    listed = [(entry, (entry.a, entry.b), by) for entry, by in some]
    ids = [
        reads.ids_of(head.number, [sides[i].n for _entry, sides, _by in listed if sides[i].n >= 0])
        for i, head in enumerate(heads)
    ]
    return [
        Difference(entry.name, entry.path, *sides, by, *(ids[i].get(sides[i].n, "") for i in (0, 1)))
        for entry, sides, by in listed
    ]


def parameters(heads: Sequence[Head]) -> list[str]:
    """Of the roots; in the order of the keys, so that only what differs differs."""
    keys = [head.number << 32 | head.root_n if head.root_n is not None else -1 for head in heads]
    bodies = dict(TaskBody.objects.filter(task__in=keys).values_list("task", "input_params"))
    return [json.dumps(bodies.get(key) or {}, indent=2, sort_keys=True, ensure_ascii=False) for key in keys]


@dataclass(frozen=True, slots=True)
class Run:
    """The head of a run as its column shows it."""

    letter: str
    trace_id: str
    name: str
    job: str
    status: str
    started_by: str
    started_ms: int | None
    spent_ms: int | None
    going: bool
    total: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, letter: str, head: Head) -> Run:
        status = STATUSES[head.status]
        end = now() if status in OPEN else head.finished_ms
        version = "" if head.version is None else f" · v{head.version}"
        return cls(
            letter=letter,
            trace_id=head.id,
            name=head.name or head.job_id or head.id,
            job=f"{head.job_id}{version}",
            status=status.value,
            started_by=head.started_by,
            started_ms=head.started_ms,
            spent_ms=None if head.started_ms is None or end is None else max(0, end - head.started_ms),
            going=status in OPEN,
            total=head.total,
            counts=dict(zip(reads.STATUS_WORDS, head.counts, strict=True)),
        )


def forget() -> None:
    """Results are kept by the numbers of their runs, which a rolled back test gives out again."""
    _compared.cache_clear()
