"""Why a recorded report has its verdict: every verdict has a reason, and the reason is what stands now."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from instances.lifecycle import Key, Verdict
from instances.pieces import at, plain
from instances.reasons import Cause, Logged, Reason, reason
from instances.sentences import reason as words
from instances.sentences import reason_words, skew

STARTED, PROGRESS, COMPLETED, SAID_FAILED, SAID_CANCELLED = range(5)


def logged(verdict: Verdict, kind: int = PROGRESS, **more: Any) -> Logged:
    given: dict[str, Any] = {"by_tower": False, "key": (5, "e"), "received_ms": 50, "attempt": 1}
    return Logged(verdict=verdict, kind=kind, **(given | more))


def why(
    one: Logged,
    *,
    attempt: int = 1,
    cap: int | None = None,
    killed_ms: int | None = None,
    ends: dict[int, Key] | None = None,
) -> Reason | None:
    return reason(one, attempt=attempt, cap=cap, killed_ms=killed_ms, ends=ends or {})


def test_what_counted_and_still_does_needs_no_reason() -> None:
    assert why(logged(Verdict.APPLIED)) is None
    assert why(logged(Verdict.APPLIED, COMPLETED), ends={1: (5, "e")}) is None


def test_a_stale_report_is_of_an_older_attempt_or_of_one_that_was_not_opened_or_simply_older() -> None:
    assert why(logged(Verdict.STALE), attempt=2) == Reason(Cause.OLDER_ATTEMPT, attempt=2)
    assert why(logged(Verdict.STALE, attempt=3), attempt=2, cap=2) == Reason(
        Cause.ATTEMPT_NOT_OPENED, attempt=2
    )
    assert why(logged(Verdict.STALE)) == Reason(Cause.OLDER)


def test_a_late_and_a_conflicting_report_name_the_ending_that_stands() -> None:
    ends = {1: (3, "x")}

    assert why(logged(Verdict.LATE), ends=ends) == Reason(Cause.AFTER_ENDING, 3)
    assert why(logged(Verdict.CONFLICT, COMPLETED), ends=ends) == Reason(Cause.OTHER_ENDING, 3)


def test_an_ending_that_stood_until_an_earlier_one_came_says_so() -> None:
    assert why(logged(Verdict.APPLIED, COMPLETED), ends={1: (3, "x")}) == Reason(Cause.OVERTAKEN, 3)


def test_what_is_said_after_the_tower_ended_a_task_for_good_only_tells() -> None:
    for verdict in Verdict:
        assert why(logged(verdict), killed_ms=40) == Reason(Cause.FORCED, 40)
    assert why(logged(Verdict.APPLIED), killed_ms=60) is None


@pytest.mark.parametrize(
    ("kind", "error_code", "ends", "cause"),
    [
        (SAID_FAILED, "TIMEOUT", {}, Cause.TIMED_OUT),
        (SAID_FAILED, "TIMEOUT", {1: (3, "x")}, Cause.TIMEOUT_OVERTAKEN),
        (SAID_CANCELLED, "CANCEL_UNACKNOWLEDGED", {}, Cause.UNACKNOWLEDGED),
        (SAID_CANCELLED, "", {}, Cause.UNDER_CANCEL),
    ],
)
def test_the_tower_gives_its_own_reasons(
    kind: int, error_code: str, ends: dict[int, Key], cause: Cause
) -> None:
    found = why(logged(Verdict.APPLIED, kind, by_tower=True, error_code=error_code), ends=ends)

    assert found is not None and found.cause is cause


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.APPLIED])
def test_every_verdict_but_applied_has_a_reason_whatever_stands(verdict: Verdict) -> None:
    for kind, attempt, cap, killed, ends in itertools.product(
        range(5), (None, 1, 2, 3), (None, 1, 2), (None, 9, 99), ({}, {1: (3, "x")}, {1: (5, "e")})
    ):
        found = why(logged(verdict, kind, attempt=attempt), attempt=2, cap=cap, killed_ms=killed, ends=ends)
        assert found is not None and plain(words(found))


def test_every_cause_has_words() -> None:
    said = {plain(words(Reason(cause, 1_000, 2))) for cause in Cause}

    assert len(said) == len(Cause)
    assert not [text for text in said if "{" in text or not text]


def test_scripts_have_the_words_of_every_cause() -> None:
    given = reason_words()

    for cause in Cause:
        filled = given[f"reason_{cause}"].replace("{at}", plain([at(1_000)])).replace("{attempt}", "2")
        assert filled == plain(words(Reason(cause, 1_000, 2)))


@pytest.mark.parametrize(
    ("ms", "shown"), [(0, "−0.0 s"), (3_240, "+3.2 s"), (-41_000, "−41.0 s"), (3_600_000, "+1:00:00")]
)
def test_a_skew_is_short(ms: int, shown: str) -> None:
    assert skew(ms) == shown
