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

#: Reading and matching 100,000 tasks a side takes about 1.5 s, on either database (measured, 2 cores).
SECONDS: Final = 10.0
#: Of each kind of difference so many are kept, those that differ most.
MOST_KEPT: Final = 5_000
#: Shorter differences of time are those of the machines.
LEAST_MS: Final = 1_000
LEAST_SHARE: Final = 0.1

STATUS, ONLY_A, ONLY_B, TIME = "status", "only_a", "only_b", "time"
SHOWN: Final[Mapping[str, Promise | str]] = {
    STATUS: gettext_lazy("Another status"),
    ONLY_A: gettext_lazy("Only in A"),
    ONLY_B: gettext_lazy("Only in B"),
    TIME: gettext_lazy("Another duration"),
}


@dataclass(slots=True, eq=False)
class Side:
    """The tasks of one entry in one run."""

    n: int = -1
    counts: list[int] = field(default_factory=lambda: [0] * len(STATUSES))
    spent_ms: int = 0
    timed: int = 0

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def named(self) -> dict[str, int]:
        return {status.value: count for status, count in zip(STATUSES, self.counts, strict=True) if count}


#: In a run that has no such task; shared, since most of 100,000 entries may have one.
NOBODY: Final = Side()


@dataclass(slots=True)
class Entry:
    name: str
    above: Entry | None
    a: Side = NOBODY
    b: Side = NOBODY
    #: Tasks at and below it, in the run that alone has it.
    below: int = 0

    @property
    def path(self) -> list[str]:
        found: list[str] = []
        at = self.above
        while at is not None:
            found.append(at.name)
            at = at.above
        return found[::-1]


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
    entries: dict[tuple[int, str], Entry] = {}
    for side, number, root_n in ((0, a, a_root), (1, b, b_root)):
        _take(entries, side, number, root_n)
    return differences(list(entries.values()))


def _take(entries: dict[tuple[int, str], Entry], side: int, number: int, root_n: int | None) -> None:
    low = number << 32
    rows = run(
        "SELECT n, parent_id, COALESCE(NULLIF(name, ''), NULLIF(job_id, ''), id), status, started_ms,"
        f" finished_ms FROM {TASK} WHERE pk >= %s AND pk <= %s",
        [low, low | MASK],
    )
    by_n = {row[0]: row for row in rows}
    known: dict[int, Entry] = {}
    for n in by_n:
        # Parents may come later than their children: up to what is known, then down again.
        way = []
        at: int | None = n
        while at is not None and at not in known:
            way.append(at)
            parent = by_n[at][1]
            at = None if parent is None or parent & MASK not in by_n else parent & MASK
        above = known[at] if at is not None else None
        for at in reversed(way):
            name = by_n[at][2]
            key = (id(above), "\0" if at == root_n else name)
            entry = entries.get(key)
            if entry is None:
                entry = entries[key] = Entry(name, above)
            above = known[at] = entry
            _count(entry, side, by_n[at])


def _count(entry: Entry, at: int, row: Sequence[Any]) -> None:
    n, _parent, _name, status, started, finished = row
    side = entry.b if at else entry.a
    if side is NOBODY:
        side = Side(n)
        if at:
            entry.b = side
        else:
            entry.a = side
    side.counts[status] += 1
    if started is not None and finished is not None:
        side.spent_ms += max(0, finished - started)
        side.timed += 1


def differences(entries: Sequence[Entry]) -> Compared:
    """Those that differ most first; of a branch that one run alone has, its top."""
    for entry in reversed(entries):
        # Made in the order of the way down, so what is below has been counted.
        a, b = entry.a, entry.b
        if _alone(entry):
            entry.below += a.count + b.count
            if entry.above is not None and _alone(entry.above):
                entry.above.below += entry.below
    found: dict[str, list[tuple[Entry, int]]] = {kind: [] for kind in SHOWN}
    same = 0
    for entry in entries:
        a, b = entry.a, entry.b
        if _alone(entry):
            if entry.above is None or not _alone(entry.above):
                found[ONLY_B if a is NOBODY else ONLY_A].append((entry, entry.below))
            continue
        same += 1
        if a.counts != b.counts:
            found[STATUS].append((entry, _moved(a.counts, b.counts)))
        if _took_otherwise(a, b):
            found[TIME].append((entry, b.spent_ms - a.spent_ms))
    totals = {kind: len(some) for kind, some in found.items()}
    most = {kind: sorted(some, key=lambda one: -abs(one[1]))[:MOST_KEPT] for kind, some in found.items()}
    return Compared(most, totals, same, len(entries))


def _alone(entry: Entry) -> bool:
    return entry.a is NOBODY or entry.b is NOBODY


def _moved(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tasks have another status, or have come or gone."""
    more = [y - x for x, y in zip(a, b, strict=True)]
    return max(sum(n for n in more if n > 0), -sum(n for n in more if n < 0))


def _took_otherwise(a: Side, b: Side) -> bool:
    """Both ended, as many of them, and by more than a tenth of the longer one."""
    if not a.timed or a.timed != b.timed or (a.timed, b.timed) != (a.count, b.count):
        return False
    by = abs(b.spent_ms - a.spent_ms)
    return by >= LEAST_MS and by >= LEAST_SHARE * max(a.spent_ms, b.spent_ms)


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
        reads.ids_of(head.number, [sides[i].n for _entry, sides, _by in listed if sides[i] is not NOBODY])
        for i, head in enumerate(heads)
    ]
    return [
        Difference(entry.name, tuple(entry.path), *sides, by, *(ids[i].get(sides[i].n, "") for i in (0, 1)))
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
