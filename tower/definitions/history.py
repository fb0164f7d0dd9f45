"""What runs of a definition did, for its pages. Reads only.

A page may look up at the runs; ``models``, ``rules``, ``edit`` and ``validation`` may not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from instances import glance
from instances.glance import Column, Durations
from instances.models import TaskSaid, Trace
from instances.rows import run
from tower.definitions.models import TaskDefinition
from tower.schemas import OPEN, STATUSES, TaskInstanceStatus

DAY_MS = 86_400_000
DAYS = 14
RECENT, FAILURES = 10, 5
#: Runs of one definition are counted so far in the list, and looked at so far for its statistics.
MOST_COUNTED, MOST_JUDGED = 1_000, 10_000
#: Durations in the list of definitions are those of so many runs of each.
MOST_DURATIONS = 100

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
    error: str = ""


def _run(trace: Trace) -> Run:
    started, finished = trace.started_ms, trace.finished_ms
    took = None if started is None or finished is None else finished - started
    return Run(trace.id, trace.name, STATUSES[trace.status], trace.created_ms, took)


@dataclass(frozen=True, slots=True)
class Runs:
    #: At most ``MOST_COUNTED + 1``, which stands for more.
    count: int = 0
    last: Run | None = None
    durations: Durations | None = None


def runs_of(definitions: Sequence[TaskDefinition]) -> dict[str, Runs]:
    """How many runs each has, the last one and how long they take: three statements for a page."""
    ids = [str(definition.pk) for definition in definitions]
    if not ids:
        return {}
    one = (
        "SELECT CAST(%s AS varchar(64)), COUNT(*), MAX(number) FROM (SELECT number FROM instances_trace"
        f" WHERE job_id = %s ORDER BY number DESC LIMIT {MOST_COUNTED + 1}) AS newest"
    )
    counted = run(" UNION ALL ".join([one] * len(ids)), [id for each in ids for id in (each, each)])
    last = Trace.objects.in_bulk([number for _id, _n, number in counted if number is not None])
    durations = glance.durations(ids, MOST_DURATIONS)
    return {id: Runs(n, _run(last[number]), durations.get(id)) for id, n, number in counted if number in last}


def recent(definition: TaskDefinition) -> list[Run]:
    return [_run(trace) for trace in Trace.objects.filter(job_id=definition.pk).order_by("-number")[:RECENT]]


def failures(definition: TaskDefinition) -> list[Run]:
    """The last runs that failed, with what their roots said."""
    failed = Trace.objects.filter(job_id=definition.pk, status=FAILED).order_by("-number")[:FAILURES]
    keys = {trace.number: trace.number << 32 | (trace.root_n or 0) for trace in failed}
    said = TaskSaid.objects.in_bulk(list(keys.values()))
    return [replace(_run(trace), error=_error(said.get(keys[trace.number]))) for trace in failed]


def _error(said: TaskSaid | None) -> str:
    return ": ".join(filter(None, (said.error_code, said.error_msg))) if said else ""


# -- fourteen days


@dataclass(frozen=True, slots=True)
class Fortnight:
    days: tuple[Column, ...]
    runs: int
    ended: int
    succeeded: int
    #: More began than are looked at, so it is the newest of them.
    cut: bool
    durations: Durations | None

    @property
    def share(self) -> float | None:
        return 100 * self.succeeded / self.ended if self.ended else None


def fortnight(definition: TaskDefinition, now_ms: int | None = None) -> Fortnight | None:
    """What runs of the last days came to; None where there was no run."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    first = now_ms // DAY_MS - DAYS + 1
    counted = run(
        f"SELECT created_ms / {DAY_MS}, status, COUNT(*) FROM (SELECT created_ms, status FROM instances_trace"
        f" WHERE job_id = %s ORDER BY number DESC LIMIT {MOST_JUDGED}) AS newest"
        " WHERE created_ms >= %s GROUP BY 1, 2",
        [definition.pk, first * DAY_MS],
    )
    if not counted:
        return None
    days: list[dict[int, int]] = [{} for _ in range(DAYS)]
    for day, status, n in counted:
        # A clock that was ahead may have written a day of tomorrow.
        counts = days[min(day - first, DAYS - 1)]
        counts[status] = counts.get(status, 0) + n
    runs = sum(n for _day, _status, n in counted)
    return Fortnight(
        days=glance.columns(days, first * DAY_MS, DAY_MS),
        runs=runs,
        ended=sum(n for _day, status, n in counted if STATUSES[status] not in OPEN),
        succeeded=sum(n for _day, status, n in counted if status == SUCCESS),
        cut=runs >= MOST_JUDGED,
        durations=glance.durations([str(definition.pk)]).get(str(definition.pk)),
    )
