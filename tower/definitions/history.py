"""What runs of a definition did, for its pages. Reads only.

A page may look up at the runs; ``models``, ``rules``, ``edit`` and ``validation`` may not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Avg, Count, F, IntegerField, Max
from django.db.models.functions import Cast

from instances.models import Trace
from tower.definitions.models import TaskDefinition
from tower.schemas import OPEN, STATUSES, TaskInstanceStatus

DAY_MS = 86_400_000
DAYS = 14
#: The height of the strip of days, in its own units.
STRIP = 40
RECENT = 10

FAILED = STATUSES.index(TaskInstanceStatus.FAILED)
SUCCESS = STATUSES.index(TaskInstanceStatus.SUCCESS)


@dataclass(frozen=True, slots=True)
class Run:
    """A run as one line shows it."""

    id: str
    name: str
    status: TaskInstanceStatus
    created_ms: int
    took_ms: int | None


def _run(trace: Trace) -> Run:
    started, finished = trace.started_ms, trace.finished_ms
    took = None if started is None or finished is None else finished - started
    return Run(trace.id, trace.name, STATUSES[trace.status], trace.created_ms, took)


@dataclass(frozen=True, slots=True)
class Runs:
    count: int = 0
    last: Run | None = None


def runs_of(definitions: Sequence[TaskDefinition]) -> dict[str, Runs]:
    """How many runs each has, and the last one: two queries for a page of definitions."""
    ids = [definition.pk for definition in definitions]
    counted = {
        row["job_id"]: row
        for row in Trace.objects.filter(job_id__in=ids)
        .values("job_id")
        .annotate(n=Count("pk"), last=Max("pk"))
    }
    last = Trace.objects.in_bulk([row["last"] for row in counted.values()])
    return {id: Runs(row["n"], _run(last[row["last"]])) for id, row in counted.items() if row["last"] in last}


def recent(definition: TaskDefinition) -> list[Run]:
    return [_run(trace) for trace in Trace.objects.filter(job_id=definition.pk).order_by("-number")[:RECENT]]


# -- fourteen days


@dataclass(frozen=True, slots=True)
class Bar:
    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Day:
    """One bar, from below: succeeded, everything else, failed. Places are attributes of an SVG."""

    x: int
    runs: int
    succeeded: int
    failed: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Fortnight:
    days: tuple[Day, ...]
    ended: int
    succeeded: int
    mean_ms: int | None
    last_failure: Run | None

    @property
    def share(self) -> float | None:
        return 100 * self.succeeded / self.ended if self.ended else None


def fortnight(definition: TaskDefinition, now_ms: int | None = None) -> Fortnight | None:
    """What runs of the last days came to; None where there was no run."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    first = now_ms // DAY_MS - DAYS + 1
    runs = Trace.objects.filter(job_id=definition.pk, created_ms__gte=first * DAY_MS)
    day = Cast(F("created_ms") / DAY_MS, IntegerField())
    counted = list(runs.annotate(day=day).values("day", "status").annotate(n=Count("pk")).order_by())
    if not counted:
        return None
    ended = [row for row in counted if STATUSES[row["status"]] not in OPEN]
    failure = runs.filter(status=FAILED).order_by("-number").first()
    mean = runs.filter(status=SUCCESS).aggregate(ms=Avg(F("finished_ms") - F("started_ms")))["ms"]
    return Fortnight(
        days=_days(counted, first),
        ended=sum(row["n"] for row in ended),
        succeeded=sum(row["n"] for row in ended if row["status"] == SUCCESS),
        mean_ms=None if mean is None else int(mean),
        last_failure=_run(failure) if failure else None,
    )


def _days(counted: Iterable[Any], first: int) -> tuple[Day, ...]:
    by_day: list[dict[int, int]] = [{} for _ in range(DAYS)]
    for row in counted:
        # A clock that was ahead may have written a day of tomorrow.
        day = by_day[min(row["day"] - first, DAYS - 1)]
        day[row["status"]] = day.get(row["status"], 0) + row["n"]
    most = max(sum(day.values()) for day in by_day)
    return tuple(_day(n * 10, day, most) for n, day in enumerate(by_day))


def _day(x: int, counts: dict[int, int], most: int) -> Day:
    runs, succeeded, failed = sum(counts.values()), counts.get(SUCCESS, 0), counts.get(FAILED, 0)
    bars, top = [], float(STRIP)
    for kind, count in (("good", succeeded), ("rest", runs - succeeded - failed), ("bad", failed)):
        if count:
            # Three units at least: one failure among a thousand runs is the one worth seeing.
            height = max(3.0, round((STRIP - 6) * count / most, 1))
            top = round(top - height, 1)
            bars.append(Bar(kind, top, height))
    return Day(x, runs, succeeded, failed, tuple(bars))
