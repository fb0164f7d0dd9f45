"""What a trace page shows before any script runs: the first rows of the tree, its sums, its notices.

Reads only. A tree of up to ``WHOLE`` nodes is read whole, so that filters and
roll-ups are exact; of a larger one only what is open is read, a level at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F, Q, Sum
from django.utils.functional import cached_property

from instances.failures import causes
from instances.models import Intent, TaskInstance, Trace
from instances.textsearch import MOST_FOUND, Typed, find_in, parse
from tower.definitions.models import DefinitionVersion
from tower.schemas import ACTIONS, KINDS, STATUSES

#: Up to here a tree opens whole (static/tree/order.js knows the same number).
SMALL = 200
WHOLE = 5_000
#: Pixels a level, and how many levels are drawn as such (static/tree/rows.js too).
INDENT, DEEPEST = 18, 12
PAGE = 200

PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, SKIPPED = range(6)
RUN, PAUSE, CANCEL = range(3)

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
    """Of all below a task: counts per status; with the task itself: planned rest, at work, holding."""

    counts: Counter[int] = field(default_factory=Counter)
    rest: int = 0
    acting: int = 0
    holding: int = 0


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
    ) -> None:
        self.trace = trace
        self.now_ms = now_ms
        self.node_id = node
        self.status = status
        self.q = q.strip()
        self.start = start
        self.view = view
        self.total = sum(self.totals.values())
        self.whole = self.total <= WHOLE
        self.tasks: dict[int, Task] = {}
        self.children: dict[int | None, list[Task]] = {}
        self.sums: dict[int, Sums] = {}
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
        low = self.trace.number << 32
        return TaskInstance.objects.filter(key__gte=low, key__lt=low + (1 << 32), **where).order_by("key")

    def _take(self, rows: Any) -> list[Task]:
        return [self.tasks.setdefault(row[0], Task(*row)) for row in rows.values_list(*COLUMNS)]

    def _read_whole(self) -> None:
        for task in self._take(self._rows()):
            self.children.setdefault(task.parent_n, []).append(task)
        for task in self._upwards():
            here = self.sums.setdefault(task.n, Sums())
            here.rest += task.rest
            here.acting += task.acting
            here.holding += task.acting and task.holds
            if task.parent_n is not None:
                up = self.sums.setdefault(task.parent_n, Sums())
                up.counts.update(here.counts)
                up.counts[task.status] += 1
                up.rest += here.rest
                up.acting += here.acting
                up.holding += here.holding

    def _upwards(self) -> Iterator[Task]:
        """Each task after all below it; a parent may well have the greater ``n``."""
        for task, _ in reversed(list(self._walk(lambda _: True))):
            yield task

    def _read_open(self) -> None:
        root = self._take(self._rows(parent_id=None, attached=True)[:1])
        loose = self._take(self._rows(parent_id=None, attached=False)[: self.start + PAGE + 1])
        self.children[None] = root + loose
        for n in self.way | {task.n for task in root}:
            key = self.trace.number << 32 | n
            self.children[n] = self._take(self._rows(parent_id=key)[: self.start + PAGE + 1])

    @cached_property
    def way(self) -> set[int]:
        """The chosen task and all above it."""
        chosen = next((t for t in self.tasks.values() if t.id == self.node_id), None)
        if chosen is None and self.node_id and not self.whole:
            chosen = next(iter(self._take(self._rows(id=self.node_id))), None)
        way: set[int] = set()
        while chosen is not None:
            way.add(chosen.n)
            if chosen.parent_n is None:
                break
            chosen = self.tasks.get(chosen.parent_n) or next(
                iter(self._take(self._rows(key=chosen.parent_id))), None
            )
        return way

    def title(self, task: Task) -> str:
        """Its own name, else its definition's."""
        return task.name or self.versions.get(task.version or 0, ("", 0))[0] or task.job_id or task.id

    @cached_property
    def versions(self) -> dict[int, tuple[str, int]]:
        """Name and number of the definition versions that the tasks read pin."""
        pinned = {task.version for task in self.tasks.values() if task.version is not None}
        rows = DefinitionVersion.objects.filter(pk__in=pinned).values_list("pk", "name", "number")
        return {pk: (name, number) for pk, name, number in rows}

    # -- order

    @cached_property
    def tops(self) -> list[Task]:
        tops = self.children.get(None, [])
        return [t for t in tops if t.attached] + [t for t in tops if not t.attached]

    def _walk(self, is_open: Any) -> Iterator[tuple[Task, tuple[int, int, int]]]:
        """Pre-order: (task, (level, posinset, setsize)). Iterative: chains may be a thousand deep."""
        loose = [t for t in self.tops if not t.attached]
        stack = [(t, (2, at, len(loose))) for at, t in reversed(list(enumerate(loose, 1)))]
        stack += [(t, (1, 1, 1)) for t in self.tops if t.attached]
        while stack:
            task, place = stack.pop()
            yield task, place
            below = self.children.get(task.n, [])
            if below and is_open(task):
                size = len(below) if self.whole else max(len(below), task.kids)
                stack += [(t, (place[0] + 1, at, size)) for at, t in reversed(list(enumerate(below, 1)))]

    def _is_open(self, task: Task) -> bool:
        return self.total <= SMALL or task.n in self.way or (task.parent_n is None and task.attached)

    @property
    def filtered(self) -> bool:
        return bool(self.q) or self.status is not None

    @cached_property
    def _visible(self) -> list[tuple[Task, tuple[int, int, int]]]:
        if self.view != "tree":
            return [(task, (0, 0, 0)) for task in self._listed()]
        if not self.filtered:
            return list(self._walk(self._is_open))
        if not self.whole:
            found = self._take(self._rows().filter(self._where())[: self.start + PAGE + 1])
            return [(task, (1, at, len(found))) for at, task in enumerate(found, 1)]
        kept = {n for task in self.tasks.values() if self._matches(task) for n in self._up(task)}
        return [(task, place) for task, place in self._walk(lambda _: True) if task.n in kept]

    def _listed(self) -> list[Task]:
        """A list without a tree: all tasks, or what failed by itself, in order of their start."""
        failures = self.view == "failures"
        if not self.whole:
            rows = self._rows().filter(self._where()).order_by(F("started_ms").asc(nulls_last=True), "key")
            found = self._take((causes(rows) if failures else rows)[: self.start + PAGE + 1])
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
        start = min(starts, default=self.trace.started_ms or self.trace.created_ms)
        still = self.totals[RUNNING] > 0
        end = max([*ends, *starts, *([self.now_ms] if still else [])], default=start)
        end = max(end, start + 1000)
        # Room for what runs, as the page keeps it.
        return Scale(start, start + round((end - start) * HEADROOM) if still else end)

    @cached_property
    def lines(self) -> list[Line]:
        shown = self._visible[self.start : self.start + PAGE]
        return [self._line(task, place, self.start + at) for at, (task, place) in enumerate(shown)]

    @property
    def more(self) -> int | None:
        """Where the next page begins; None where this is the last."""
        end = self.start + PAGE
        return end if len(self._visible) > end else None

    @property
    def row_count(self) -> int:
        return len(self._visible)

    def _line(self, task: Task, place: tuple[int, int, int], index: int) -> Line:
        level, posinset, setsize = place
        below = bool(self.children.get(task.n)) or (not self.whole and task.kids > 0)
        here = self.intents.get(task.id)
        up = self.tasks.get(task.parent_n) if level == 0 and task.parent_n is not None else None
        gap, width, spent = self._bar(task)
        return Line(
            task=task,
            level=level,
            posinset=posinset,
            setsize=setsize,
            index=index,
            opened=(self.filtered or self._is_open(task)) if below and level else None,
            asked=self.asked(task),
            asked_here=here.action if here and self.still_open(task) else RUN,
            sums=self._sums(task) if below else None,
            gap=gap,
            width=width,
            spent_ms=spent,
            title=self.title(task),
            selected=self.selected is not None and task.n == self.selected.n,
            where=self.title(up) if up else "",
        )

    def _sums(self, task: Task) -> Sums | None:
        if self.whole:
            return self.sums[task.n]
        if task.n != self.trace.root_n:
            return None
        counts = self.totals
        counts[task.status] -= 1
        return Sums(counts, self.planned_rest)

    def _bar(self, task: Task) -> tuple[str | None, str, int | None]:
        if task.started_ms is None and task.finished_ms is None:
            return None, "0%", None
        if task.started_ms is None:
            # It ended without having begun, as far as is known: a mark, and no time that it took.
            return f"{self.scale.share((task.finished_ms or 0) - self.scale.start):.2f}%", "0%", None
        end = (
            self.now_ms if task.finished_ms is None and task.is_open else task.finished_ms or task.started_ms
        )
        spent = max(0, end - task.started_ms)
        gap, width = self.scale.share(task.started_ms - self.scale.start), self.scale.share(spent)
        return f"{gap:.2f}%", f"{min(width, 100 - gap):.2f}%", spent

    def still_open(self, task: Task) -> bool:
        if task.is_open:
            return True
        if not self.whole:
            return sum(self.totals[s] for s in (PENDING, RUNNING)) > 0
        counts = self.sums[task.n].counts
        return counts[PENDING] + counts[RUNNING] > 0

    @cached_property
    def selected(self) -> Task | None:
        if self.node_id:
            return next((t for t in self.tasks.values() if t.id == self.node_id), None)
        return None

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


def accepted(*, still_open: bool, asked: int, asked_here: int) -> list[str]:
    """The actions that a place takes (contract, section 5), as ``static/tree/controls.js`` says it."""
    if not still_open:
        return []
    if asked == CANCEL:
        return ["CANCEL"]
    return ["RUN", "PAUSE", "CANCEL"] if asked_here == PAUSE else ["PAUSE", "CANCEL"]
