"""What a task that ends by others waits for (contract, sections 3.8-10). Pure: values in, values out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from instances.aggregation import (
    DEFAULT_JOIN,
    Gathering,
    Standing,
    Tally,
    complete,
    ends_by_children,
    fixed,
    needed,
    plan_closed,
)
from instances.lifecycle import FAILED, RUNNING, SUCCESS
from tower.schemas import Join, JoinPolicy


class By(StrEnum):
    """Who decides how a task ends."""

    ACTOR = "actor"  # its own says so; the others run beside it
    CHILDREN = "children"
    AGGREGATORS = "aggregators"  # its GROUP_AGG children speak for the others
    COLLECTED = "collected"  # an aggregator: what it collects


class Plan(StrEnum):
    """Whether more may come, and why not."""

    OPEN = "open"  # fewer are here than were planned
    FULL = "full"
    ENDED = "ended"  # closed by its actor's ending
    CANCELLED = "cancelled"
    NONE = "none"  # nothing was planned


@dataclass(frozen=True, slots=True)
class Waiting:
    """``of``: how many there will be, as far as is known; ``missing``: those of them that are not here.

    ``need`` / ``have``: the number that the policy asks for (most failures for
    ``at_most_failed``) and how many there are; None where it counts nothing.
    ``quiet``: all have ended, and the quiet time of an aggregator runs.
    """

    by: By
    plan: Plan
    join: Join
    tally: Tally
    of: int
    missing: int
    need: int | None
    have: int
    met: bool
    broken: bool
    over: bool
    quiet: bool = False

    @property
    def waits_for(self) -> int:
        return self.tally.still_open + self.missing


def of_children(standing: Standing, *, status: int) -> Waiting | None:
    """What a task's children are to it; None where it has none and plans none."""
    kids = standing.kids
    if not kids.total and not standing.planned and not standing.aggregators.total:
        return None
    over = status > RUNNING
    if standing.aggregators.total and ends_by_children(standing):
        all_of_them = replace(standing, kids=standing.aggregators, planned=0)
        return _waiting(
            By.AGGREGATORS,
            Join(policy=JoinPolicy.ALL),
            all_of_them,
            _plan(standing),
            standing.aggregators.total,
            over,
        )
    join = standing.join or DEFAULT_JOIN
    plan = _plan(standing)
    of = kids.total if plan in {Plan.ENDED, Plan.CANCELLED} else max(standing.planned, kids.total)
    return _waiting(_who_decides(standing, over), join, standing, plan, of, over)


def _who_decides(standing: Standing, over: bool) -> By:
    decided_alone = standing.own_ended and standing.own_status != SUCCESS
    if standing.forced is not None or decided_alone:
        return By.ACTOR
    # Planned children that have not come yet: they will decide, as long as its actor is silent.
    coming = not standing.heard or standing.join is not None
    if over and standing.kids.total == 0:
        return By.ACTOR
    return By.CHILDREN if coming else By.ACTOR


def _plan(standing: Standing) -> Plan:
    if standing.own_ended:
        return Plan.ENDED
    if standing.under_cancel:
        return Plan.CANCELLED
    if not standing.planned:
        return Plan.NONE
    return Plan.FULL if plan_closed(standing) else Plan.OPEN


def of_collected(gathering: Gathering, standing: Standing, *, frozen: bool) -> Waiting:
    """What an aggregator waits for; ``standing`` is its own."""
    # Only where a number was planned, or named, is it known how many will come.
    planned = gathering.expected if gathering.quiet else 0
    alone = replace(standing, kids=gathering.tally, aggregators=Tally(), planned=planned)
    if standing.under_cancel:
        plan = Plan.CANCELLED
    elif not gathering.quiet:
        plan = Plan.NONE
    else:
        plan = Plan.FULL if gathering.closed else Plan.OPEN
    found = _waiting(By.COLLECTED, gathering.join, alone, plan, gathering.expected, frozen)
    return replace(found, quiet=complete(gathering) and not gathering.quiet and not frozen)


def _waiting(by: By, join: Join, standing: Standing, plan: Plan, of: int, over: bool) -> Waiting:
    kids = standing.kids
    met, broken = fixed(standing, join, of=of)
    need, have = _asked(join, kids, of)
    missing = 0 if over or plan in {Plan.ENDED, Plan.CANCELLED} else max(0, of - kids.total)
    return Waiting(by, plan, join, kids, of, missing, need, have, met, broken, over)


def _asked(join: Join, kids: Tally, of: int) -> tuple[int | None, int]:
    success, failed = kids.by_status[SUCCESS], kids.by_status[FAILED]
    match join.policy:
        case JoinPolicy.ANY:
            return 1, success
        case JoinPolicy.ALL:
            return of, success
        case JoinPolicy.ALL_DONE:
            return None, kids.ended
        case JoinPolicy.AT_LEAST:
            return needed(join, of), success
        case JoinPolicy.AT_MOST_FAILED:
            return needed(join, of), failed
