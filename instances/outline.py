"""What a trace page shows before any script runs: the first rows of the tree, its sums, its notices.

Reads only. A tree of up to ``WHOLE`` nodes is read whole, so that filters and
roll-ups are exact; of a larger one only what is open is read, a level at a time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from django.db.models import Count, F, Max, Min, Q, Sum
from django.utils.functional import cached_property

from instances.failures import causes
from instances.folds import Folds
from instances.models import Intent, TaskInstance, Trace
from instances.textsearch import MOST_FOUND, Typed, find_in, parse
from tower.definitions import rules
from tower.schemas import ACTIONS, KINDS, STATUSES

#: Up to here a tree opens whole (static/tree/order.js knows the same number).
SMALL = 200
#: More siblings of one name than this stand as one row (static/tree/groups.js too).
MANY = 200
WHOLE = 5_000
#: Pixels a level, and how many levels are drawn as such (static/tree/rows.js too).
INDENT, DEEPEST = 18, 12
PAGE = 200

PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, SKIPPED = range(6)
RUN, PAUSE, CANCEL = range(3)

TIMES = ("started_ms", "finished_ms")
COLUMNS = (
    "n",
    "id",
    "parent_id",
    "kind",
    "name",
    "job_id",
    "version",
    "registered",
    "attached",
    "status",
    "reported_status",
    "attempt",
    "progress",
    "holds",
    "started_ms",
    "finished_ms",
    "planned",
    "kids",
    "rev",
)


@dataclass(slots=True)
class Sums:
    """Of all below a task: counts per status; with the task itself: planned rest, at work, holding, times."""

    counts: Counter[int] = field(default_factory=Counter)
    rest: int = 0
    acting: int = 0
    holding: int = 0
    first_ms: float = math.inf
    last_ms: float = -math.inf

    def widen(self, first_ms: float, last_ms: float) -> None:
        self.first_ms = min(self.first_ms, first_ms)
        self.last_ms = max(self.last_ms, last_ms)


@dataclass(slots=True)
class Task:
    n: int
    id: str
    parent_id: int | None
    kind: int
    name: str
    job_id: str
    version: int | None
    registered: bool
    attached: bool
    status: int
    reported_status: int | None
    attempt: int
    progress: float | None
    holds: bool
    started_ms: int | None
    finished_ms: int | None
    planned: int
    kids: int
    rev: int

    @property
    def parent_n(self) -> int | None:
        return None if self.parent_id is None else self.parent_id & 0xFFFF_FFFF

    @property
    def is_open(self) -> bool:
        return self.status <= RUNNING

    @property
    def rest(self) -> int:
        return max(0, self.planned - self.kids) if self.is_open else 0

    @property
    def differs(self) -> bool:
        """Its actor reported another status than the one that stands."""
        return self.reported_status is not None and self.reported_status != self.status

    @property
    def acting(self) -> bool:
        """Runs, and its actor says so: it can hold. What only its children keep running cannot."""
        return self.status == RUNNING == self.reported_status


@dataclass(slots=True)
class Group:
    """Siblings of one name; of ``members`` as many as are drawn, the first at least."""

    parent: int
    name: str
    size: int
    own: Counter[int]
    members: list[Task]
    #: Of the members and all below them; of a tree that is not read whole only where nothing is below them.
    sums: Sums | None

    @property
    def n(self) -> int:
        return self.members[0].n

    @property
    def status(self) -> int:
        """At work while any member is, then what went worst (``statusOf`` in groups.js)."""
        own = self.own
        if own[PENDING] == self.size:
            return PENDING
        if own[PENDING] or own[RUNNING]:
            return RUNNING
        return next((status for status in (FAILED, SUCCESS, CANCELLED) if own[status]), SKIPPED)


#: (level, posinset, setsize)
Place = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Scale:
    """Milliseconds to percent of the waterfall."""

    start: int
    end: int

    def share(self, ms: float) -> float:
        return 100 * ms / max(1, self.end - self.start)

    def marks(self) -> Iterator[tuple[str, int]]:
        """(where, milliseconds since the start), at round times, five or so."""
        width = max(1, self.end - self.start)
        step = next((s for s in STEPS if width / s <= 6), STEPS[-1])
        for at in range(0, width, step):
            yield f"{self.share(at):.2f}%", at


HEADROOM = 1.1
#: Round times for the axis, in milliseconds (static/tree/waterfall.js has the same).
STEPS = tuple(
    1000 * s
    for s in (
        1,
        2,
        5,
        10,
        15,
        30,
        60,
        120,
        300,
        600,
        900,
        1800,
        3600,
        7200,
        14_400,
        28_800,
        86_400,
        604_800,
        2_592_000,
        7_776_000,
        31_536_000,
        315_360_000,
    )
)


@dataclass(frozen=True, slots=True)
class Line:
    """One row as ``_node.html`` draws it."""

    task: Task
    level: int
    posinset: int
    setsize: int
    index: int
    opened: bool | None
    asked: int
    asked_here: int
    sums: Sums | None
    #: Where the bar begins; None where there is none.
    gap: str | None
    width: str
    spent_ms: int | None
    title: str
    selected: bool = False
    #: Its parent's name, where the rows are no tree.
    where: str = ""
    #: Of such a row ``task`` has what stands for all of its members.
    group: Group | None = None

    @property
    def status(self) -> str:
        return STATUSES[self.task.status].value

    @property
    def kind(self) -> str:
        return KINDS[self.task.kind].value

    @property
    def asked_word(self) -> str:
        return ACTIONS[self.asked].value

    @property
    def asked_here_word(self) -> str:
        return ACTIONS[self.asked_here].value if self.asked_here else ""

    @property
    def reported(self) -> str:
        return STATUSES[self.task.reported_status or 0].value if self.task.differs else ""

    @property
    def counts(self) -> dict[str, int]:
        return {} if self.sums is None else named(self.sums.counts)

    @property
    def rest(self) -> int:
        return 0 if self.sums is None else self.sums.rest

    @property
    def failed(self) -> int:
        return 0 if self.sums is None else self.sums.counts[FAILED]

    @property
    def below(self) -> int:
        return self.rest + (0 if self.sums is None else self.sums.counts.total())

    @property
    def indent(self) -> int:
        """Pixels; very deep chains do not push their names out of sight."""
        return INDENT * min(max(self.level - 1, 0), DEEPEST)


#: What ``<template>`` is drawn from: the same partial, nothing in it.
BLANK = Line(
    Task(-1, "", None, 3, "", "", None, True, True, 0, None, 1, None, False, None, None, 0, 0, 0),
    1, 1, 1, 0, None, RUN, RUN, None, None, "0%", None, "",
)  # fmt: skip


def named(counts: Mapping[int, int]) -> dict[str, int]:
    return {STATUSES[status].value: n for status, n in counts.items() if n}


class Outline:
    """The rows of one trace that are open, from the place ``start`` on."""

    def __init__(
        self,
        trace: Trace,
        *,
        now_ms: int,
        node: str = "",
        status: int | None = None,
        q: str = "",
        start: int = 0,
        view: str = "tree",
        folds: str | None = None,
    ) -> None:
        self.trace = trace
        self.now_ms = now_ms
        self.node_id = node
        self.status = status
        self.q = q.strip()
        self.start = start
        self.view = view
        self.folds = None if folds is None or start else Folds(folds)
        self.total = sum(self.totals.values())
        self.whole = self.total <= WHOLE
        self.tasks: dict[int, Task] = {}
        self.children: dict[int | None, list[Task]] = {}
        self.sums: dict[int, Sums] = {}
        self.versions: dict[int, tuple[str, int]] = {}
        self._rows_below: dict[int, tuple[list[Task | Group], int]] = {}
        if self.whole:
            self._read_whole()
        else:
            self._read_open()

    # -- reading

    @property
    def totals(self) -> Counter[int]:
        t = self.trace
        return Counter(dict(enumerate((t.pending, t.running, t.success, t.failed, t.cancelled, t.skipped))))

    def _rows(self, **where: Any) -> Any:
        return TaskInstance.of_tree(self.trace.number).filter(**where)

    def _take(self, rows: Any) -> list[Task]:
        found = [self.tasks.setdefault(row[0], Task(*row)) for row in rows.values_list(*COLUMNS)]
        self._learn(task.version for task in found)
        return found

    def _learn(self, pinned: Iterable[int | None]) -> None:
        """Name and number of definition versions."""
        missing = {pk for pk in pinned if pk is not None} - self.versions.keys()
        if missing:
            self.versions |= {pk: (one.name, one.number) for pk, one in rules.versions(missing).items()}

    def _read_whole(self) -> None:
        for task in self._take(self._rows()):
            self.children.setdefault(task.parent_n, []).append(task)
        for task in self._upwards():
            here = self.sums.setdefault(task.n, Sums())
            here.rest += task.rest
            here.acting += task.acting
            here.holding += task.acting and task.holds
            here.widen(*_own_time(task))
            if task.parent_n is not None:
                up = self.sums.setdefault(task.parent_n, Sums())
                up.counts.update(here.counts)
                up.counts[task.status] += 1
                up.rest += here.rest
                up.acting += here.acting
                up.holding += here.holding
                up.widen(here.first_ms, here.last_ms)

    def _upwards(self) -> Iterator[Task]:
        """Each task after all below it; a parent may well have the greater ``n``."""
        for task, _ in reversed(list(self._walk(lambda _: True))):
            yield task

    def _read_open(self) -> None:
        root = self._take(self._rows(parent_id=None, attached=True)[:1])
        loose = self._take(self._rows(parent_id=None, attached=False)[: self._most])
        self.children[None] = root + loose

    @property
    def _most(self) -> int:
        """Rows of one parent that can be on this page or tell that there is another."""
        return self.start + PAGE + 1

    def _read_below(self, task: Task, coming: Iterable[Task] = ()) -> None:
        """Its children, and with the same query those of others that will be asked for."""
        if task.n in self.children:
            return
        found = self._take(self._rows(parent_id=self._key(task.n))[: self._most])
        self.children[task.n] = found
        few = [one for one in islice(coming, PAGE) if one.kids <= SMALL and one.n not in self.children]
        few = few[: max(1, MANY * 5 // max(1, *(one.kids for one in few)))] if few else []
        for one in few:
            self.children[one.n] = []
        if few:
            for child in self._take(self._rows(parent_id__in=[self._key(one.n) for one in few])):
                self.children[child.parent_n].append(child)

    def _key(self, n: int) -> int:
        return int(self.trace.number) << 32 | n

    @cached_property
    def chosen(self) -> Task | None:
        """What the address names; no row has to show it."""
        known = next((task for task in self.tasks.values() if task.id == self.node_id), None)
        if known is None and self.node_id and not self.whole:
            return next(iter(self._take(self._rows(id=self.node_id))), None)
        return known

    @cached_property
    def lead(self) -> Task | None:
        """To where a large tree opens by itself: to what failed first, where nothing is chosen."""
        if self.node_id or self.total <= SMALL or not self.trace.failed:
            return None
        return next(iter(self._take(self._rows(status=FAILED)[:1])), None)

    @cached_property
    def way(self) -> set[int]:
        """The chosen task, or what leads, and all above it."""
        way: set[int] = set()
        at = self.chosen or self.lead
        while at is not None:
            way.add(at.n)
            if at.parent_n is None:
                break
            at = self.tasks.get(at.parent_n) or next(iter(self._take(self._rows(key=at.parent_id))), None)
        return way

    def title(self, task: Task) -> str:
        """Its own name, else its definition's."""
        return task.name or self.versions.get(task.version or 0, ("", 0))[0] or task.job_id or task.id

    # -- order

    @cached_property
    def tops(self) -> list[Task]:
        tops = self.children.get(None, [])
        return [t for t in tops if t.attached] + [t for t in tops if not t.attached]

    def _walk(self, is_open: Any) -> Iterator[tuple[Task, Place]]:
        """Pre-order. Iterative: chains may be a thousand deep."""
        loose = [t for t in self.tops if not t.attached]
        stack = [(t, (2, at, len(loose))) for at, t in reversed(list(enumerate(loose, 1)))]
        stack += [(t, (1, 1, 1)) for t in self.tops if t.attached]
        while stack:
            task, place = stack.pop()
            yield task, place
            below = self.children.get(task.n, [])
            if below and is_open(task):
                size = len(below)
                stack += [(t, (place[0] + 1, at, size)) for at, t in reversed(list(enumerate(below, 1)))]

    def _walk_rows(self) -> Iterator[tuple[Task | Group, Place]]:
        """What is open, in the order of the page: a group stands where the first of it would."""
        loose = [t for t in self.tops if not t.attached]
        stack: list[tuple[Task | Group, Place]] = [
            (t, (2, at, len(loose))) for at, t in reversed(list(enumerate(loose, 1)))
        ]
        stack += [(t, (1, 1, 1)) for t in self.tops if t.attached]
        while stack:
            row, place = stack.pop()
            yield row, place
            if not self._is_open(row):
                continue
            if isinstance(row, Group):
                below: Sequence[Task | Group] = row.members
                size = row.size
            else:
                if not self.whole:
                    self._read_below(
                        row, (t for t, _ in reversed(stack) if isinstance(t, Task) and self._is_open(t))
                    )
                below, size = self._below(row)
            stack += [(t, (place[0] + 1, at, size)) for at, t in reversed(list(enumerate(below, 1)))]

    def _below(self, task: Task) -> tuple[list[Task | Group], int]:
        """The rows below a task, as many as are read, and how many there are."""
        known = self._rows_below.get(task.n)
        if known is None:
            children = self.children.get(task.n, [])
            if len(children) <= MANY:
                known = [*children], len(children)
            else:
                known = self._grouped(task.n, children) if self.whole else self._grouped_by_query(task.n)
            self._rows_below[task.n] = known
        return known

    def _grouped(self, n: int, children: Sequence[Task]) -> tuple[list[Task | Group], int]:
        named: dict[str, list[Task]] = {}
        for child in children:
            named.setdefault(self._name(child.name, child.version, child.job_id), []).append(child)
        groups: list[Group] = [
            Group(n, name, len(members), Counter(t.status for t in members), members, self._sum(members))
            for name, members in named.items()
            if name and len(members) > MANY
        ]
        inside = {task.n for group in groups for task in group.members}
        rows: list[Task | Group] = [*groups, *(child for child in children if child.n not in inside)]
        return sorted(rows, key=lambda row: row.n), len(rows)

    def _sum(self, members: Sequence[Task]) -> Sums:
        """Of siblings and all below them."""
        sums = Sums()
        for task in members:
            here = self.sums[task.n]
            sums.counts.update(here.counts)
            sums.counts[task.status] += 1
            sums.rest += here.rest
            sums.widen(here.first_ms, here.last_ms)
        return sums

    def _grouped_by_query(self, n: int) -> tuple[list[Task | Group], int]:
        """Of 5,000 siblings only those that have a row are read."""
        here = self._rows(parent_id=self._key(n))
        tallies = list(
            here.order_by()
            .values_list("name", "version", "job_id", "status")
            .annotate(
                Count("key"), Min("key"), Sum("kids"), Sum("planned"), *map(Min, TIMES), *map(Max, TIMES)
            )
        )
        self._learn(version for _, version, *_ in tallies)
        named: dict[str, list[Any]] = {}
        for name, version, job, *tally in tallies:
            named.setdefault(self._name(name, version, job), []).append(tally)
        many = {name: found for name, found in named.items() if name and sum(t[1] for t in found) > MANY}
        others = here.exclude(self._named(many)) if many else here
        groups = [self._group(n, name, found) for name, found in many.items()]
        total = sum(t[1] for found in named.values() for t in found)
        rows: list[Task | Group] = [*groups, *self._take(others[: self._most])]
        return sorted(rows, key=lambda row: row.n), total - sum(group.size - 1 for group in groups)

    def _group(self, n: int, name: str, tallies: Sequence[Any]) -> Group:
        own, sums = Counter[int](), Sums()
        for status, size, _, _, _, *times in tallies:
            own[status] += size
            known = [ms for ms in times if ms is not None]
            if known:
                sums.widen(min(known), max(known))
        sums.counts.update(own)
        alone = not any(kids or planned for _, _, _, kids, planned, *_ in tallies)
        first = self._take(self._rows(key=min(t[2] for t in tallies)))
        group = Group(n, name, own.total(), own, first, sums if alone else None)
        if self._is_open(group):
            group.members = self._take(
                self._rows(parent_id=self._key(n)).filter(self._named([name]))[: self._most]
            )
        return group

    def _name(self, name: str, version: int | None, job: str) -> str:
        """By what siblings are grouped: as ``title``, but an id is no name."""
        return name or self.versions.get(version or 0, ("", 0))[0] or job

    def _named(self, names: Iterable[str]) -> Q:
        """The tasks that are called so."""
        where = Q(pk__in=())
        for name in names:
            pinned = [pk for pk, (known, _) in self.versions.items() if known == name]
            where |= (
                Q(name=name) | Q(name="", version__in=pinned) | Q(name="", version__isnull=True, job_id=name)
            )
        return where

    def _is_open(self, row: Task | Group) -> bool:
        """As the address says, else as a page opens by itself (static/tree/order.js)."""
        if isinstance(row, Group):
            said = self.folds is not None and self.folds.group_is_open(row.parent, row.name)
            return said or self._holds_chosen(row)
        if row.n in self._led:
            return True
        said_open = None if self.folds is None else self.folds.is_open(row.n)
        if said_open is not None:
            return said_open
        return self.total <= SMALL or (row.parent_n is None and row.attached)

    @cached_property
    def _led(self) -> set[int]:
        """What is open on the way: the chosen task too, unless a link says how it was left."""
        if self.chosen is not None and self.folds is None:
            return self.way
        at = self.chosen or self.lead
        return self.way - {-1 if at is None else at.n}

    def _holds_chosen(self, group: Group) -> bool:
        """Is the chosen task in it, or below what is?"""
        if self.chosen is None or group.parent not in self.way:
            return False
        on_way = next((self.tasks[n] for n in self.way if self.tasks[n].parent_n == group.parent), None)
        return on_way is not None and self._name(on_way.name, on_way.version, on_way.job_id) == group.name

    @property
    def filtered(self) -> bool:
        return bool(self.q) or self.status is not None

    @cached_property
    def _visible(self) -> Sequence[tuple[Task | Group, Place]]:
        if self.view != "tree":
            return [(task, (0, 0, 0)) for task in self._listed()]
        if not self.filtered:
            return list(self._walk_rows() if self.whole else islice(self._walk_rows(), self._most))
        if not self.whole:
            found = self._take(self._rows().filter(self._where())[: self._most])
            return [(task, (1, at, len(found))) for at, task in enumerate(found, 1)]
        kept = {n for task in self.tasks.values() if self._matches(task) for n in self._up(task)}
        return [(task, place) for task, place in self._walk(lambda _: True) if task.n in kept]

    def _listed(self) -> list[Task]:
        """A list without a tree: all tasks, or what failed by itself, in order of their start."""
        failures = self.view == "failures"
        if not self.whole:
            rows = self._rows().filter(self._where()).order_by(F("started_ms").asc(nulls_last=True), "key")
            found = self._take((causes(rows) if failures else rows)[: self._most])
            self._take(self._rows(key__in={task.parent_id for task in found if task.parent_id is not None}))
            return found
        above = {task.parent_n for task in self.tasks.values() if task.status == FAILED}
        found = [task for task in self.tasks.values() if self._matches(task)]
        if failures:
            found = [task for task in found if task.status == FAILED and task.n not in above]
        return sorted(found, key=lambda task: (task.started_ms is None, task.started_ms, task.n))

    def _matches(self, task: Task) -> bool:
        typed, id = self._typed, task.id.lower()
        if self._wanted is not None and task.status != self._wanted:
            return False
        if typed.id not in id or (typed.asks and task.n not in self._answer):
            return False
        return typed.plain in self.title(task).lower() or typed.plain in id

    def _where(self) -> Q:
        """The same for a tree that is not read whole; a definition's name is not looked at."""
        typed, where = self._typed, Q()
        if typed.plain:
            where &= Q(name__icontains=typed.plain) | Q(id__icontains=typed.plain)
        if typed.id:
            where &= Q(id__icontains=typed.id)
        if self._wanted is not None:
            where &= Q(status=self._wanted)
        if typed.asks:
            where &= Q(n__in=sorted(self._answer)[:MOST_FOUND])
        return where

    @cached_property
    def _typed(self) -> Typed:
        return parse(self.q)

    @property
    def _wanted(self) -> int | None:
        return self._typed.status if self.status is None else self.status

    @cached_property
    def _answer(self) -> set[int]:
        return set(find_in(self.trace.number, self.q))

    def _up(self, task: Task | None) -> Iterator[int]:
        while task is not None:
            yield task.n
            task = None if task.parent_n is None else self.tasks.get(task.parent_n)

    def above(self, task: Task) -> Sequence[Task]:
        """From the top down to the parent."""
        return [self.tasks[n] for n in self._up(task)][:0:-1]

    # -- what is drawn

    @cached_property
    def intents(self) -> dict[str, Intent]:
        return {i.target: i for i in Intent.objects.filter(trace=self.trace.number).order_by("number")}

    def asked(self, task: Task) -> int:
        if not self.intents:
            return RUN
        places = ["", *(self.tasks[n].id for n in self._up(task))]
        return max((self.intents[place].action for place in places if place in self.intents), default=RUN)

    @cached_property
    def scale(self) -> Scale:
        first = (t.finished_ms if t.started_ms is None else t.started_ms for t in self.tasks.values())
        starts = [at for at in first if at is not None]
        ends = [t.finished_ms for t in self.tasks.values() if t.finished_ms is not None]
        if not self.whole:
            rows = (row for below, _ in self._rows_below.values() for row in below)
            sums = [row.sums for row in rows if isinstance(row, Group) and row.sums is not None]
            starts += [round(one.first_ms) for one in sums if one.first_ms < math.inf]
            ends += [round(one.last_ms) for one in sums if one.first_ms < math.inf]
        start = min(starts, default=self.trace.started_ms or self.trace.created_ms)
        still = self.totals[RUNNING] > 0
        end = max([*ends, *starts, *([self.now_ms] if still else [])], default=start)
        end = max(end, start + 1000)
        # Room for what runs, as the page keeps it.
        return Scale(start, start + round((end - start) * HEADROOM) if still else end)

    @cached_property
    def lines(self) -> list[Line]:
        shown = self._visible[self.start : self.start + PAGE]
        self._find_parents([row.n for row, _ in shown if isinstance(row, Task)])
        return [
            self._group_line(row, place, self.start + at)
            if isinstance(row, Group)
            else self._line(row, place, self.start + at)
            for at, (row, place) in enumerate(shown)
        ]

    def _find_parents(self, shown: Sequence[int]) -> None:
        """Which of these have children. The sum of a task does not count all of them."""
        if self.whole:
            self._parents = {n for n in self.children if n is not None}
            return
        below = self._rows(parent_id__in=[self._key(n) for n in shown])
        self._parents = {
            key & 0xFFFF_FFFF for key in below.order_by().values_list("parent_id", flat=True).distinct()
        }

    @property
    def more(self) -> int | None:
        """Where the next page begins; None where this is the last."""
        end = self.start + PAGE
        return end if len(self._visible) > end else None

    @property
    def row_count(self) -> int:
        return len(self._visible)

    def _line(self, task: Task, place: Place, index: int) -> Line:
        level, posinset, setsize = place
        below = task.n in self._parents
        opened = (self.filtered or self._is_open(task)) if below and level else None
        here = self.intents.get(task.id)
        up = self.tasks.get(task.parent_n) if level == 0 and task.parent_n is not None else None
        gap, width, spent = self._bar(task, folded=opened is False)
        return Line(
            task=task,
            level=level,
            posinset=posinset,
            setsize=setsize,
            index=index,
            opened=opened,
            asked=self.asked(task),
            asked_here=here.action if here and self.still_open(task) else RUN,
            sums=self._sums(task) if below or task.rest else None,
            gap=gap,
            width=width,
            spent_ms=spent,
            title=self.title(task),
            selected=self.selected is not None and task.n == self.selected.n,
            where=self.title(up) if up else "",
        )

    def _group_line(self, group: Group, place: Place, index: int) -> Line:
        sums, status = group.sums, group.status
        done = None if sums is None else sums.counts.total() - sums.counts[PENDING] - sums.counts[RUNNING]
        all = 0 if sums is None else sums.counts.total() + sums.rest
        stands = replace(
            group.members[0],
            attempt=1,
            status=status,
            reported_status=None,
            holds=False,
            attached=True,
            registered=True,
            progress=None if done is None else 100 * done // all,
        )
        gap, width, spent = self._group_bar(group)
        opened, title = self._is_open(group), group.name
        return Line(
            stands, *place, index, opened, RUN, RUN, sums, gap, width, spent, title, group=group
        )  # fmt: skip

    def _group_bar(self, group: Group) -> tuple[str | None, str, int | None]:
        """From the first start to the last end; to now while something is open."""
        sums = group.sums
        if sums is None or math.isinf(sums.first_ms):
            return None, "0%", None
        still = sums.counts[PENDING] + sums.counts[RUNNING] > 0
        return self._between(sums.first_ms, self.now_ms if still else sums.last_ms)

    def _between(self, first_ms: float, last_ms: float) -> tuple[str, str, int]:
        spent = max(0, round(last_ms - first_ms))
        gap, width = self.scale.share(first_ms - self.scale.start), self.scale.share(spent)
        return f"{gap:.2f}%", f"{min(width, 100 - gap):.2f}%", spent

    def _sums(self, task: Task) -> Sums | None:
        if self.whole:
            return self.sums[task.n]
        if task.n != self.trace.root_n:
            return None
        counts = self.totals
        counts[task.status] -= 1
        return Sums(counts, self.planned_rest)

    def _bar(self, task: Task, *, folded: bool) -> tuple[str | None, str, int | None]:
        """Of a folded row from the first start to the last end at and below it (``Waterfall.bar``)."""
        sums, parent = self.sums.get(task.n) if self.whole else None, task.n in self._parents
        if sums is None or not parent:
            sums = Sums(first_ms=_own_time(task)[0], last_ms=_own_time(task)[1])
        first = sums.first_ms if task.started_ms is None else task.started_ms
        if math.isinf(first):
            return None, "0%", None
        last: float = self.now_ms if task.is_open else max(first, sums.last_ms)
        if task.finished_ms is not None:
            last = task.finished_ms
        if folded and parent:
            first = min(first, sums.first_ms)
            last = max(last, self.now_ms if self.whole and self.still_open(task) else sums.last_ms)
        gap, width, spent = self._between(first, last)
        # Of one that only ended, how long it took is not known.
        return gap, width, spent if task.started_ms is not None or parent else None

    def still_open(self, task: Task) -> bool:
        if task.is_open:
            return True
        if not self.whole:
            return sum(self.totals[s] for s in (PENDING, RUNNING)) > 0
        counts = self.sums[task.n].counts
        return counts[PENDING] + counts[RUNNING] > 0

    @property
    def selected(self) -> Task | None:
        return self.chosen

    @cached_property
    def planned_rest(self) -> int:
        if self.whole:
            return sum(self.sums[t.n].rest for t in self.tops)
        missing = self._rows(status__lte=RUNNING, planned__gt=F("kids"))
        return int(missing.aggregate(rest=Sum(F("planned") - F("kids")))["rest"] or 0)

    def obeying(self, target: str) -> tuple[int, int] | None:
        """(holding, at work) at and below a place; None where that was not read."""
        if not target:
            if self.whole:
                tops = [self.sums[t.n] for t in self.tops]
                return sum(s.holding for s in tops), sum(s.acting for s in tops)
            acting = self._rows(status=RUNNING, reported_status=RUNNING)
            return acting.filter(holds=True).count(), acting.count()
        task = next((t for t in self.tasks.values() if t.id == target), None)
        if task is None or not self.whole:
            return None
        return self.sums[task.n].holding, self.sums[task.n].acting


def _own_time(task: Task) -> tuple[float, float]:
    """One that ended without having begun, as far as is known, was there at its end."""
    first = task.finished_ms if task.started_ms is None else task.started_ms
    known = [ms for ms in (first, task.finished_ms) if ms is not None]
    return (math.inf, -math.inf) if first is None else (first, max(known))


def accepted(*, still_open: bool, asked: int, asked_here: int) -> list[str]:
    """The actions that a place takes (contract, section 5), as ``static/tree/controls.js`` says it."""
    if not still_open:
        return []
    if asked == CANCEL:
        return ["CANCEL"]
    return ["RUN", "PAUSE", "CANCEL"] if asked_here == PAUSE else ["PAUSE", "CANCEL"]
