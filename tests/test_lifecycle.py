"""The pure fold of one task's reports: every pair has an answer, and no order of arrival matters."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances.lifecycle import (
    CANCELLED,
    ENDING,
    FAILED,
    MOVES,
    PENDING,
    RUNNING,
    SKIPPED,
    SUCCESS,
    Own,
    Report,
    Verdict,
    attempts_of,
    join,
    refold,
)
from tower.schemas import EVENT_TYPES, TaskEventType, TaskInstanceStatus

STARTED, PROGRESS, COMPLETED, SAID_FAILED, SAID_CANCELLED = range(5)


def report(kind: int, ms: int, id: str = "", **said: object) -> Report:
    return Report(id or f"{kind}-{ms}", "task", kind, ms, **said)  # type: ignore[arg-type]


def folded(*reports: Report, cap: int | None = None) -> Own:
    return refold(reports, cap=cap).own


@pytest.mark.parametrize("status", TaskInstanceStatus)
@pytest.mark.parametrize("kind", TaskEventType)
def test_every_pair_of_status_and_report_has_an_answer(
    status: TaskInstanceStatus, kind: TaskEventType
) -> None:
    before = {
        TaskInstanceStatus.PENDING: [],
        TaskInstanceStatus.RUNNING: [report(STARTED, 1)],
        TaskInstanceStatus.SUCCESS: [report(COMPLETED, 1)],
        TaskInstanceStatus.FAILED: [report(SAID_FAILED, 1)],
        TaskInstanceStatus.CANCELLED: [report(SAID_CANCELLED, 1)],
        TaskInstanceStatus.SKIPPED: [report(COMPLETED, 1, skipped=True)],
    }[status]
    # Earlier than the STARTED rule of a next attempt, which the walk decides and not this table.
    later = report(EVENT_TYPES.index(kind), 1 if kind is TaskEventType.STARTED else 2, "z")

    after = folded(*before, later).status

    moved = MOVES[status].get(kind, status)
    assert after == list(TaskInstanceStatus).index(moved)


def test_of_two_endings_the_one_with_the_smaller_time_and_id_stands() -> None:
    early, late = report(COMPLETED, 5, "b"), report(SAID_FAILED, 5, "c")

    assert folded(late, early).status == folded(early, late).status == SUCCESS
    assert folded(report(SAID_FAILED, 5, "a"), early).status == FAILED


def test_an_ending_that_loses_is_a_conflict_and_a_report_after_it_is_late() -> None:
    own = Own()
    join(own, report(COMPLETED, 5))

    assert join(own, report(SAID_CANCELLED, 6)) is Verdict.CONFLICT
    assert join(own, report(PROGRESS, 7)) is Verdict.LATE
    assert own.status == SUCCESS


def test_a_report_that_is_older_than_what_stands_and_sets_nothing_is_stale() -> None:
    own = Own()
    join(own, report(STARTED, 1))
    join(own, report(PROGRESS, 9, progress=50.0))

    assert join(own, report(PROGRESS, 5, progress=20.0)) is Verdict.STALE
    assert own.progress == 50


def test_a_started_after_the_standing_failed_opens_the_next_attempt() -> None:
    own = folded(report(STARTED, 1), report(SAID_FAILED, 5), report(STARTED, 9), report(PROGRESS, 10))

    assert (own.attempt, own.status, own.start) == (2, RUNNING, 9)


def test_within_one_millisecond_the_started_comes_before_the_failed() -> None:
    own = folded(report(SAID_FAILED, 5), report(STARTED, 5))

    assert (own.attempt, own.status) == (1, FAILED)


def test_a_named_attempt_wins_over_a_lower_one_whatever_its_time() -> None:
    own = folded(report(COMPLETED, 9, attempt=1), report(STARTED, 2, attempt=3))

    assert (own.attempt, own.status) == (3, RUNNING)


def test_under_a_cap_no_higher_attempt_is_opened_but_the_actor_is_still_heard() -> None:
    reports = [report(SAID_FAILED, 5), report(STARTED, 9), report(COMPLETED, 12)]

    capped = refold(reports, cap=1)

    assert (capped.own.attempt, capped.own.status) == (1, FAILED)
    assert capped.reported_status == SUCCESS


def test_a_completed_with_skipped_is_skipped() -> None:
    assert folded(report(COMPLETED, 1, skipped=True)).status == SKIPPED


def test_a_later_report_without_paused_ends_the_hold() -> None:
    held = folded(report(PROGRESS, 1, paused=True))
    running = folded(report(PROGRESS, 1, paused=True), report(PROGRESS, 2))

    assert held.paused and not running.paused


def test_a_plan_is_said_over_all_attempts_by_the_newest_report() -> None:
    own = folded(report(STARTED, 1, attempt=2, split_count=3), report(PROGRESS, 7, attempt=1, split_count=5))

    assert own.planned == 5


def test_an_ending_of_an_actor_gives_one_of_the_terminal_statuses() -> None:
    assert set(ENDING.values()) == {SUCCESS, FAILED, CANCELLED}
    assert PENDING not in ENDING.values()


said: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    progress=st.none() | st.sampled_from([10.0, 20.0]),
    message=st.none() | st.sampled_from(["m", "n"]),
    worker=st.none() | st.just("w"),
    split_count=st.none() | st.integers(0, 3),
    paused=st.booleans(),
    skipped=st.booleans(),
    attempt=st.none() | st.integers(1, 3),
)
reports_of_a_task = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), said), min_size=1, max_size=7
).map(lambda drawn: [report(kind, ms, f"e{i}", **payload) for i, (kind, ms, payload) in enumerate(drawn)])


@given(reports_of_a_task, st.none() | st.integers(1, 2), st.randoms())
def test_p2_any_order_of_the_same_reports_folds_alike(
    reports: list[Report], cap: int | None, chance: object
) -> None:
    shuffled = list(reports)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    assert refold(reports, cap=cap) == refold(shuffled, cap=cap)


@given(reports_of_a_task)
def test_p2_one_by_one_equals_all_at_once(reports: list[Report]) -> None:
    own = Own()
    for one in reports:
        if join(own, one) is None:
            return  # attempts are in play: the caller refolds, which is the other side of this test
    whole = folded(*reports)

    for name in (field.name for field in fields(Own) if field.name != "texts"):
        assert getattr(own, name) == getattr(whole, name), name
    texts = {"message": "", "worker": "", "output_ref": "", "error_code": "", "error_msg": ""}
    assert {**texts, **(own.texts or {})} == whole.texts


@given(reports_of_a_task)
def test_p2_what_needs_no_refold_has_one_attempt(reports: list[Report]) -> None:
    own = Own()
    plain = all(join(own, one) is not None for one in reports)
    belongs = attempts_of(reports, cap=None)

    if set(belongs.values()) != {1}:
        assert not plain


def test_the_walk_agrees_with_a_hand_written_history() -> None:
    history = [
        report(STARTED, 1, "a"),
        report(SAID_FAILED, 2, "b"),
        report(STARTED, 3, "c"),
        report(PROGRESS, 3, "d"),
        report(SAID_FAILED, 4, "e"),
        report(SAID_FAILED, 5, "f"),
        report(STARTED, 6, "g"),
        report(PROGRESS, 7, "h", attempt=1),
        report(COMPLETED, 8, "i"),
    ]
    wanted = {"a": 1, "b": 1, "c": 2, "d": 2, "e": 2, "f": 2, "g": 3, "h": 1, "i": 3}

    for order in itertools.islice(itertools.permutations(history), 0, 5040, 97):
        assert attempts_of(order, cap=None) == wanted
