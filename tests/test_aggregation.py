"""How a task ends by its children: the policies against a recount written from the contract's words."""

from __future__ import annotations

import itertools
import math

import pytest

from instances.aggregation import Standing, Tally, early_verdict, status_of, verdict
from instances.lifecycle import CANCELLED, FAILED, PENDING, RUNNING, SKIPPED, SUCCESS
from tower.schemas import Join

COUNTS = list(itertools.product(range(3), repeat=4))


def tally(success: int = 0, failed: int = 0, cancelled: int = 0, skipped: int = 0, **more: int) -> Tally:
    return Tally([more.get("pending", 0), more.get("running", 0), success, failed, cancelled, skipped])


def standing(kids: Tally, **given: object) -> Standing:
    known: dict[str, object] = {
        "own_status": PENDING, "heard": False, "own_ended": False, "planned": 0, "join": None,
        "under_cancel": False, "forced": None, "kids": kids, "aggregators": Tally(),
    }  # fmt: skip
    return Standing(**{**known, **given})  # type: ignore[arg-type]


def by_the_words(policy: str, s: int, f: int, c: int, k: int, n: int) -> int:
    good = {
        "any": s >= 1,
        "all": f == 0 and c == 0 and s >= 1,
        "all_done": True,
        "at_least": s >= n,
        "at_most_failed": f <= n,
    }[policy]
    if good:
        return SUCCESS
    return FAILED if f else CANCELLED if c else FAILED if s else SKIPPED


@pytest.mark.parametrize("policy", ["any", "all", "all_done"])
@pytest.mark.parametrize("counts", COUNTS)
def test_a_policy_without_a_number_decides_by_the_words_of_the_contract(
    policy: str, counts: tuple[int, int, int, int]
) -> None:
    if sum(counts):
        assert verdict(tally(*counts), Join(policy=policy), of=sum(counts)) == by_the_words(
            policy, *counts, 0
        )


@pytest.mark.parametrize("policy", ["at_least", "at_most_failed"])
@pytest.mark.parametrize("counts", COUNTS)
def test_a_percentage_is_rounded_against_its_policy(policy: str, counts: tuple[int, int, int, int]) -> None:
    of = sum(counts)
    for percent in (1, 25, 33.3, 50, 80, 100) if of else ():
        exact = percent * of / 100
        n = math.ceil(exact) if policy == "at_least" else math.floor(exact)

        assert verdict(tally(*counts), Join(policy=policy, percent=percent), of=of) == by_the_words(
            policy, *counts, n
        )


def test_a_silent_parent_waits_for_the_children_that_were_planned() -> None:
    kids = tally(success=2)

    assert status_of(standing(kids, planned=3)) == RUNNING
    assert status_of(standing(kids, planned=2)) == SUCCESS
    assert status_of(standing(kids)) == SUCCESS


def test_a_cancel_closes_the_plan() -> None:
    assert status_of(standing(tally(success=1, cancelled=1), planned=9, under_cancel=True)) == SUCCESS


def test_children_cancelled_before_they_ran_leave_their_parent_pending() -> None:
    kids = Tally([1, 0, 0, 0, 2, 0], asleep=2)

    assert status_of(standing(kids)) == PENDING


def test_the_actors_own_report_stands_over_the_children() -> None:
    assert status_of(standing(tally(failed=2), heard=True, own_status=RUNNING)) == RUNNING


def test_with_a_named_join_completed_means_that_its_own_part_is_done() -> None:
    join = Join(policy="all")
    waiting = standing(tally(success=1, running=1), heard=True, own_ended=True, own_status=SUCCESS, join=join)
    done = standing(tally(success=1, failed=1), heard=True, own_ended=True, own_status=SUCCESS, join=join)

    assert status_of(waiting) == RUNNING
    assert status_of(done) == FAILED


@pytest.mark.parametrize("own", [FAILED, CANCELLED, SKIPPED])
def test_with_a_named_join_any_other_ending_ends_it_at_once(own: int) -> None:
    kids = tally(running=3)

    assert status_of(standing(kids, heard=True, own_ended=True, own_status=own, join=Join())) == own


def test_group_aggregators_decide_alone_by_all_of_them() -> None:
    kids = tally(running=5)

    assert status_of(standing(kids, planned=9, aggregators=tally(success=2))) == SUCCESS
    assert status_of(standing(kids, aggregators=tally(success=1, failed=1))) == FAILED
    assert status_of(standing(kids, aggregators=tally(success=1, running=1))) == RUNNING


def test_what_the_tower_forced_stands_over_everything() -> None:
    assert status_of(standing(tally(success=3), forced=CANCELLED)) == CANCELLED


@pytest.mark.parametrize("policy", ["any", "all", "all_done", "at_least", "at_most_failed"])
def test_an_early_verdict_is_the_one_that_every_completion_would_give(policy: str) -> None:
    planned = 4
    numbered = policy in ("at_least", "at_most_failed")
    join = Join(policy=policy, count=2 if numbered else None, early=True)
    for s, f, c, k in COUNTS:
        left = planned - (s + f + c + k)
        if left < 0:
            continue
        ends = {
            verdict(tally(s + a, f + b, c + d, k + left - a - b - d), join, of=planned)
            for a, b, d in itertools.product(range(left + 1), repeat=3)
            if a + b + d <= left
        }

        early = early_verdict(
            standing(tally(s, f, c, k, running=left), planned=planned, join=join), join, of=planned
        )

        assert early is None or ends == {early}, (s, f, c, k)
        if ends == {SUCCESS} and left:  # with none left the verdict itself speaks
            assert early == SUCCESS, (s, f, c, k)
