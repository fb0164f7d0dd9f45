"""Why a recorded report has the verdict that it has. Pure: values in, values out; words are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from instances.lifecycle import PROGRESS, REPORTED_CANCELLED, Key, Verdict


class Cause(StrEnum):
    OLDER_ATTEMPT = "older_attempt"  # ``attempt`` stands
    ATTEMPT_NOT_OPENED = "attempt_not_opened"  # a CANCEL was in force
    OLDER = "older"  # than what stands in its attempt
    AFTER_ENDING = "after_ending"  # of ``at_ms``
    OTHER_ENDING = "other_ending"  # that of ``at_ms`` stands
    OVERTAKEN = "overtaken"  # it stood, until the earlier ending of ``at_ms`` came
    FORCED = "forced"  # the tower had ended the task at ``at_ms``
    NO_PARENT = "no_parent"
    # of what the tower logged itself
    TIMED_OUT = "timed_out"
    TIMEOUT_OVERTAKEN = "timeout_overtaken"  # by the actor's ending of ``at_ms``
    UNACKNOWLEDGED = "unacknowledged"
    UNDER_CANCEL = "under_cancel"


@dataclass(frozen=True, slots=True)
class Reason:
    cause: Cause
    at_ms: int | None = None
    attempt: int | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """One row of the log. ``attempt``: where the walk puts it, as far as that is known."""

    verdict: Verdict
    by_tower: bool
    kind: int
    key: Key
    received_ms: int
    attempt: int | None
    error_code: str = ""


def reason(
    logged: Logged, *, attempt: int, cap: int | None, killed_ms: int | None, ends: Mapping[int, Key]
) -> Reason | None:
    """None where it simply counted, and still does. The rest is what stands in its task now."""
    end = ends.get(logged.attempt) if logged.attempt is not None else None
    if logged.by_tower:
        return _of_the_tower(logged, end)
    if killed_ms is not None and logged.received_ms >= killed_ms:
        return Reason(Cause.FORCED, killed_ms)
    other = end[0] if end is not None and end != logged.key else None
    match logged.verdict:
        case Verdict.STALE:
            return _stale(logged.attempt, attempt, cap)
        case Verdict.LATE:
            return Reason(Cause.AFTER_ENDING, other)
        case Verdict.CONFLICT:
            return Reason(Cause.OTHER_ENDING, other)
    if other is not None and logged.kind > PROGRESS:
        return Reason(Cause.OVERTAKEN, other)
    return Reason(Cause.NO_PARENT) if logged.verdict is Verdict.UNATTACHED else None


def _stale(mine: int | None, stands: int, cap: int | None) -> Reason:
    if mine is not None and cap is not None and mine > cap:
        return Reason(Cause.ATTEMPT_NOT_OPENED, attempt=cap)
    if mine is not None and mine < stands:
        return Reason(Cause.OLDER_ATTEMPT, attempt=stands)
    return Reason(Cause.OLDER)


def _of_the_tower(logged: Logged, end: Key | None) -> Reason:
    if logged.kind == REPORTED_CANCELLED:
        return Reason(Cause.UNACKNOWLEDGED if logged.error_code else Cause.UNDER_CANCEL)
    return Reason(Cause.TIMED_OUT) if end is None else Reason(Cause.TIMEOUT_OVERTAKEN, end[0])
