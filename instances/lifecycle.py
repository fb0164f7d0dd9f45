"""Folds the reports of one task (contract, sections 3.1-6). Pure: values in, values out.

Within an attempt the fold is a join of minima and maxima, so the order of
arrival does not matter and no history is read. Only where a second attempt is
in play does the caller hand in every recorded report once more (``refold``).
Which of two endings stands is decided by ``(timestamp_ms, event_id)``, never by
the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from tower.schemas import EVENT_TYPES, STATUSES, TaskEventType, TaskInstanceStatus

#: Indices as the database stores them.
PENDING, RUNNING, SUCCESS, FAILED, CANCELLED, SKIPPED = range(len(STATUSES))
STARTED, PROGRESS, COMPLETED, REPORTED_FAILED, REPORTED_CANCELLED = range(len(EVENT_TYPES))

#: When a report was made: the actor's clock, then its id. Orders the reports of ONE task.
Key = tuple[int, str]

#: Every move that a report can make inside one attempt; a pair that is absent changes no status.
#: ``docs/lifecycle.md`` is drawn from this table.
MOVES: Mapping[TaskInstanceStatus, Mapping[TaskEventType, TaskInstanceStatus]] = {
    TaskInstanceStatus.PENDING: {
        TaskEventType.STARTED: TaskInstanceStatus.RUNNING,
        TaskEventType.PROGRESS: TaskInstanceStatus.RUNNING,
        TaskEventType.COMPLETED: TaskInstanceStatus.SUCCESS,
        TaskEventType.FAILED: TaskInstanceStatus.FAILED,
        TaskEventType.CANCELLED: TaskInstanceStatus.CANCELLED,
    },
    TaskInstanceStatus.RUNNING: {
        TaskEventType.COMPLETED: TaskInstanceStatus.SUCCESS,
        TaskEventType.FAILED: TaskInstanceStatus.FAILED,
        TaskEventType.CANCELLED: TaskInstanceStatus.CANCELLED,
    },
    TaskInstanceStatus.SUCCESS: {},
    TaskInstanceStatus.FAILED: {},
    TaskInstanceStatus.CANCELLED: {},
    TaskInstanceStatus.SKIPPED: {},
}
#: The status that an ending gives, by event type; ``skipped`` on COMPLETED gives SKIPPED.
ENDING: Mapping[int, int] = {
    EVENT_TYPES.index(kind): STATUSES.index(status)
    for kind, status in MOVES[TaskInstanceStatus.RUNNING].items()
}


class Origin(IntEnum):
    ACTOR = 0
    TOWER = 1


class Verdict(IntEnum):
    """What became of a recorded report."""

    APPLIED = 0
    STALE = 1  # an older attempt, or older than what stands
    LATE = 2  # after the standing ending
    CONFLICT = 3  # another ending
    UNATTACHED = 4  # applied to a task whose parent nobody has named


class Report(NamedTuple):
    """One TaskEvent as far as the fold reads it. ``kind`` indexes ``EVENT_TYPES``.

    A tuple: made for each event, and five times cheaper than a frozen dataclass of 16 fields.
    """

    event_id: str
    task_id: str
    kind: int
    ms: int
    attempt: int | None = None
    parent_id: str | None = None
    actor_type: int | None = None
    progress: float | None = None
    message: str | None = None
    worker: str | None = None
    split_count: int | None = None
    paused: bool = False
    skipped: bool = False
    output_ref: str | None = None
    error_code: str | None = None
    error_msg: str | None = None

    @property
    def key(self) -> Key:
        return (self.ms, self.event_id)


@dataclass(slots=True)
class Own:
    """What the actor's own reports of the standing attempt give.

    ``*_key`` is the report that set a value; ``last_start`` the latest STARTED
    that named no attempt, which may open the next attempt once a FAILED stands.
    ``plain``: nothing but attempt 1 was ever in play, so a report can be joined
    without a look at the others.
    """

    attempt: int = 1
    newest: Key | None = None
    paused: bool = False
    start: int | None = None
    end: Key | None = None
    end_kind: int = COMPLETED
    skipped: bool = False
    progress_key: Key | None = None
    message_key: Key | None = None
    worker_key: Key | None = None
    plan_key: Key | None = None
    last_start: Key | None = None
    plain: bool = True
    progress: float | None = None
    planned: int | None = None
    #: Texts that changed in this fold; "" clears one. What is absent stands as stored.
    texts: dict[str, str] | None = None

    @property
    def heard(self) -> bool:
        return self.newest is not None

    @property
    def status(self) -> int:
        if self.end is not None:
            return SKIPPED if self.skipped else ENDING[self.end_kind]
        return PENDING if self.newest is None else RUNNING

    @property
    def ended_ms(self) -> int | None:
        return None if self.end is None else self.end[0]


def join(own: Own, report: Report) -> Verdict | None:
    """Fold one report into ``own`` in place; None: attempts are in play, refold from all reports.

    After None ``own`` is spoiled and must be replaced by ``refold``'s answer.
    """
    if not own.plain or (report.attempt is not None and report.attempt != 1):
        return None
    key = report.key
    if report.kind == STARTED and report.attempt is None and _newer(key, own.last_start):
        own.last_start = key
    verdict = _join_one(own, report, key)
    if own.end is not None and opens_next(own):
        return None
    return verdict


def opens_next(own: Own) -> bool:
    """A STARTED after the standing FAILED opens the next attempt; within one millisecond it comes first."""
    return (
        own.end is not None
        and own.end_kind == REPORTED_FAILED
        and own.last_start is not None
        and own.last_start[0] > own.end[0]
    )


def _newer(key: Key, stood: Key | None) -> bool:
    return stood is None or key > stood


def _join_one(own: Own, report: Report, key: Key) -> Verdict:
    texts = own.texts
    newer = own.newest is None or key > own.newest
    verdict = Verdict.APPLIED
    set_something = newer
    if newer:
        own.newest, own.paused = key, report.paused
    if report.progress is not None and _newer(key, own.progress_key):
        own.progress, own.progress_key, set_something = report.progress, key, True
    if report.split_count is not None and _newer(key, own.plan_key):
        own.planned, own.plan_key, set_something = report.split_count, key, True
    if report.message is not None and _newer(key, own.message_key):
        texts = own.texts = texts if texts is not None else {}
        texts["message"], own.message_key, set_something = report.message, key, True
    if report.worker is not None and _newer(key, own.worker_key):
        texts = own.texts = texts if texts is not None else {}
        texts["worker"], own.worker_key, set_something = report.worker, key, True
    if report.kind <= PROGRESS:
        if own.start is None or report.ms < own.start:
            own.start, set_something = report.ms, True
        if own.end is not None and key > own.end:
            verdict = Verdict.LATE
        elif not set_something:
            verdict = Verdict.STALE
        return verdict
    if own.end is not None and key > own.end:
        return Verdict.CONFLICT
    own.end, own.end_kind = key, report.kind
    own.skipped = report.skipped and report.kind == COMPLETED
    texts = own.texts = texts if texts is not None else {}
    texts["output_ref"] = report.output_ref or ""
    texts["error_code"] = report.error_code or ""
    texts["error_msg"] = report.error_msg or ""
    return Verdict.APPLIED


@dataclass(frozen=True, slots=True)
class Refold:
    """The fold of all reports of a task: with the cap of a CANCEL, and as the actor alone tells it."""

    own: Own
    reported_status: int | None
    attempt_of: Mapping[str, int]


def attempts_of(reports: Iterable[Report], *, cap: int | None) -> dict[str, int]:
    """Which attempt each report belongs to: the walk of rule 3, by time, STARTED first, then by id.

    ``cap``: no attempt above it is opened (contract 3.3, under CANCEL); a report
    of a higher one is given that higher number, which makes it stale.
    """
    reached, failed, belongs = 1, False, {}
    ended: set[int] = set()
    for report in sorted(reports, key=lambda r: (r.ms, r.kind != STARTED, r.event_id)):
        if report.attempt is not None:
            attempt = report.attempt
            if attempt > reached and (cap is None or attempt <= cap):
                reached, failed = attempt, False
        else:
            attempt = reached
            if report.kind == STARTED and failed:
                attempt = reached + 1
                if cap is None or attempt <= cap:
                    reached, failed = attempt, False
        belongs[report.event_id] = attempt
        if report.kind > PROGRESS and attempt not in ended:
            ended.add(attempt)
            if attempt == reached:
                failed = report.kind == REPORTED_FAILED
    return belongs


def refold(reports: Sequence[Report], *, cap: int | None = None) -> Refold:
    """Fold every recorded report of a task anew. Order of ``reports`` is of no account."""
    belongs = attempts_of(reports, cap=cap)
    own = _fold_attempt(reports, belongs, cap)
    if cap is None or all(attempt <= cap for attempt in belongs.values()):
        reported = own
    else:
        free = attempts_of(reports, cap=None)
        reported = _fold_attempt(reports, free, None)
    return Refold(own, reported.status if reported.heard else None, belongs)


def _fold_attempt(reports: Sequence[Report], belongs: Mapping[str, int], cap: int | None) -> Own:
    counted = [a for a in belongs.values() if cap is None or a <= cap]
    attempt = max(counted, default=1)
    own = Own(
        attempt=attempt,
        texts={"message": "", "worker": "", "output_ref": "", "error_code": "", "error_msg": ""},
    )
    for report in reports:
        at = belongs[report.event_id]
        if at == attempt:
            # What an older attempt said of the plan is compared below, over all attempts.
            _join_one(own, report._replace(split_count=None), report.key)
        if report.split_count is not None and (cap is None or at <= cap) and _newer(report.key, own.plan_key):
            own.planned, own.plan_key = report.split_count, report.key
    own.plain = attempt == 1 and all(at == 1 for at in belongs.values())
    starts = [r.key for r in reports if r.kind == STARTED and r.attempt is None]
    own.last_start = max(starts, default=None)
    return own


def verdict_in(own: Own, report: Report, attempt: int) -> Verdict:
    """What a refold made of one new report; ``attempt`` is where the walk put it."""
    if attempt != own.attempt:
        return Verdict.STALE
    if report.kind > PROGRESS:
        return Verdict.APPLIED if own.end == report.key else Verdict.CONFLICT
    if own.end is not None and report.key > own.end:
        return Verdict.LATE
    return Verdict.APPLIED


# -- what each attempt did


@dataclass(frozen=True, slots=True)
class Decree:
    """What the tower did to one attempt: ended it FAILED for silence, or its task CANCELLED for good."""

    kind: int
    ms: int
    attempt: int
    error_code: str = ""
    error_msg: str = ""


@dataclass(frozen=True, slots=True)
class AttemptSummary:
    """``ending``: the type of the report that stands, or TIMEOUT; None while it runs.

    ``reported_status``: what its actor says, where the tower's word stands instead.
    ``timed_out_ms`` beside an ending of the actor: contact was lost, then found.
    ``counted``: false where a CANCEL did not let it be opened.
    """

    attempt: int
    status: int
    started_ms: int | None
    finished_ms: int | None
    ending: str | None
    by_tower: bool
    reported_status: int | None
    timed_out_ms: int | None
    worker: str | None
    output_ref: str | None
    error_code: str | None
    error_msg: str | None
    reports: int
    counted: bool = True


TIMEOUT = "TIMEOUT"


def history(
    reports: Iterable[Report], *, cap: int | None = None, decrees: Iterable[Decree] = ()
) -> list[AttemptSummary]:
    """What each attempt did, the first one first; order of the arguments is of no account."""
    told = list(reports)
    decreed: dict[int, dict[int, Decree]] = {}
    for decree in decrees:
        decreed.setdefault(decree.attempt, {})[decree.kind] = decree
    killed = next((at for at, kinds in decreed.items() if REPORTED_CANCELLED in kinds), None)
    belongs = attempts_of(told, cap=None if killed is not None else cap)
    most = killed if killed is not None else cap
    owns: dict[int, Own] = {attempt: Own(attempt=attempt) for attempt in decreed}
    counts: dict[int, int] = {}
    for report in told:
        at = belongs[report.event_id]
        _join_one(owns.setdefault(at, Own(attempt=at)), report, report.key)
        counts[at] = counts.get(at, 0) + 1
    return [
        summed_up(
            owns[at], decreed.get(at, {}), reports=counts.get(at, 0), counted=most is None or at <= most
        )
        for at in sorted(owns)
    ]


def summed_up(
    own: Own, decreed: Mapping[int, Decree], *, reports: int, counted: bool = True
) -> AttemptSummary:
    """One attempt, with what the tower did to it by kind of event."""
    silence, kill = decreed.get(REPORTED_FAILED), decreed.get(REPORTED_CANCELLED)
    texts = own.texts or {}
    # A cancel is for good; a timeout stands until the actor's own ending comes.
    stands = kill or (silence if own.end is None else None)
    ending: str | None = None
    if stands is not None:
        ending = EVENT_TYPES[kill.kind].value if kill else TIMEOUT
    elif own.end is not None:
        ending = EVENT_TYPES[own.end_kind].value
    return AttemptSummary(
        attempt=own.attempt,
        status=own.status if stands is None else ENDING[stands.kind],
        started_ms=own.start,
        finished_ms=own.ended_ms if stands is None else stands.ms,
        ending=ending,
        by_tower=stands is not None,
        reported_status=own.status if stands is not None and own.heard else None,
        timed_out_ms=None if silence is None else silence.ms,
        worker=texts.get("worker") or None,
        output_ref=(texts.get("output_ref") or None) if stands is None else None,
        error_code=(texts.get("error_code") if stands is None else stands.error_code) or None,
        error_msg=(texts.get("error_msg") if stands is None else stands.error_msg) or None,
        reports=reports,
        counted=counted,
    )
