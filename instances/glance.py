"""How runs went, at a glance: per hour, durations, who started them. Each read is bounded."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from instances.rows import run
from tower.schemas import OPEN, STATUSES, TaskInstanceStatus

HOUR_MS = 3_600_000
HOURS = 24
#: Where more runs began in a day, these newest are counted, and the hours before are said to be unknown.
MOST_COUNTED = 50_000
#: Durations of a definition are those of its newest runs that succeeded.
MOST_DURATIONS = 1_000
MOST_STARTERS = 100
#: Counting a day again may take a twentieth of the time.
SHARE = 20

SUCCESS = STATUSES.index(TaskInstanceStatus.SUCCESS)
FAILED = STATUSES.index(TaskInstanceStatus.FAILED)
GOING = {STATUSES.index(status) for status in OPEN}
#: The height of a strip, in its own units.
STRIP = 40


# -- strips of bars


@dataclass(frozen=True, slots=True)
class Bar:
    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """One hour or day, from below: succeeded, everything else, failed. Places are attributes of an SVG."""

    x: int
    at_ms: int
    runs: int
    succeeded: int
    failed: int
    bars: tuple[Bar, ...]


def columns(counted: Sequence[Mapping[int, int]], first_ms: int, step_ms: int) -> tuple[Column, ...]:
    """``counted``: runs by status, one for each step of time."""
    most = max((sum(counts.values()) for counts in counted), default=0)
    return tuple(_column(n * 10, first_ms + n * step_ms, counts, most) for n, counts in enumerate(counted))


def _column(x: int, at_ms: int, counts: Mapping[int, int], most: int) -> Column:
    runs, succeeded, failed = sum(counts.values()), counts.get(SUCCESS, 0), counts.get(FAILED, 0)
    bars, top = [], float(STRIP)
    for kind, count in (("good", succeeded), ("rest", runs - succeeded - failed), ("bad", failed)):
        if count:
            # Three units at least: one failure among a thousand runs is the one worth seeing.
            height = max(3.0, round((STRIP - 6) * count / most, 1))
            top = round(top - height, 1)
            bars.append(Bar(kind, top, height))
    return Column(x, at_ms, runs, succeeded, failed, tuple(bars))


# -- the last day


@dataclass(frozen=True, slots=True)
class Day:
    hours: tuple[Column, ...]
    runs: int
    ended: int
    failed: int
    #: More began than are counted, so it is the newest of them.
    cut: bool

    @property
    def failed_share(self) -> float | None:
        return 100 * self.failed / self.ended if self.ended else None


def read_day(now_ms: int) -> Day:
    first = now_ms // HOUR_MS - HOURS + 1
    rows = run(
        f"SELECT created_ms / {HOUR_MS}, status, COUNT(*) FROM (SELECT created_ms, status"
        " FROM instances_trace WHERE created_ms >= %s ORDER BY created_ms DESC"
        f" LIMIT {MOST_COUNTED}) AS newest GROUP BY 1, 2",
        [first * HOUR_MS],
    )
    hours: list[dict[int, int]] = [{} for _ in range(HOURS)]
    for hour, status, n in rows:
        # A clock that was ahead may have written an hour to come.
        counts = hours[min(hour - first, HOURS - 1)]
        counts[status] = counts.get(status, 0) + n
    runs = sum(n for _hour, _status, n in rows)
    return Day(
        hours=columns(hours, first * HOUR_MS, HOUR_MS),
        runs=runs,
        ended=sum(n for _hour, status, n in rows if status not in GOING),
        failed=sum(n for _hour, status, n in rows if status == FAILED),
        cut=runs >= MOST_COUNTED,
    )


class _Kept:
    """The day as it was a moment ago, so that a page that many look at counts it seldom."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._day: Day | None = None
        self._until = 0.0

    def day(self, now_ms: int) -> Day:
        with self._lock:
            if self._day is None or time.monotonic() >= self._until:
                start = time.monotonic()
                self._day = read_day(now_ms)
                self._until = time.monotonic() + SHARE * (time.monotonic() - start)
            return self._day


day = _Kept().day


# -- durations


@dataclass(frozen=True, slots=True)
class Durations:
    """Percentiles of the newest runs that succeeded, and of how many."""

    p50_ms: int
    p95_ms: int
    of: int


def durations(job_ids: Sequence[str], most: int = MOST_DURATIONS) -> dict[str, Durations]:
    """By definition, in one statement; without those of which no run succeeded."""
    if not job_ids:
        return {}
    # Each by its index and no further than ``most``: one statement over all would read every run of them.
    one = (
        "SELECT * FROM (SELECT job_id, finished_ms - started_ms AS took FROM instances_trace"
        f" WHERE job_id = %s AND status = {SUCCESS} ORDER BY number DESC LIMIT {most}) AS newest"
    )
    found: dict[str, list[int]] = {}
    for job_id, took in run(" UNION ALL ".join([one] * len(job_ids)), list(job_ids)):
        if took is not None:
            found.setdefault(job_id, []).append(took)
    return {job_id: _percentiles(sorted(spent)) for job_id, spent in found.items()}


def _percentiles(spent: Sequence[int]) -> Durations:
    """Nearest rank: a duration that a run really had."""
    last = len(spent) - 1
    return Durations(spent[last // 2], spent[round(last * 0.95)], len(spent))


# -- who started runs


def starters() -> list[str]:
    """The first names by the alphabet: one step in an index for each, however many runs they started."""
    rows = run(
        "WITH RECURSIVE who(name, n) AS ("
        " SELECT MIN(started_by), 1 FROM instances_trace WHERE started_by > ''"
        " UNION ALL SELECT (SELECT MIN(started_by) FROM instances_trace WHERE started_by > who.name), n + 1"
        f" FROM who WHERE name IS NOT NULL AND n < {MOST_STARTERS})"
        " SELECT name FROM who WHERE name IS NOT NULL"
    )
    return [row[0] for row in rows]
