"""What a task's children make of it (contract, sections 3.8-9). Pure: values in, values out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from instances.lifecycle import CANCELLED, FAILED, PENDING, RUNNING, SKIPPED, SUCCESS
from tower.schemas import Join, JoinPolicy

DEFAULT_JOIN = Join()


@dataclass(slots=True)
class Tally:
    """Children of one kind by status, and the times that they span.

    ``asleep``: those among the cancelled that never ran; they do not make their
    parent RUNNING. ``first`` / ``last``: earliest start and latest finish, epoch ms.
    """

    by_status: list[int] = field(default_factory=lambda: [0] * 6)
    asleep: int = 0
    first: int | None = None
    last: int | None = None

    @property
    def total(self) -> int:
        pending, running, success, failed, cancelled, skipped = self.by_status
        return pending + running + success + failed + cancelled + skipped

    @property
    def ended(self) -> int:
        return sum(self.by_status[SUCCESS:])

    @property
    def still_open(self) -> int:
        return self.by_status[PENDING] + self.by_status[RUNNING]

    @property
    def stirred(self) -> bool:
        """Some child left PENDING other than by a cancel."""
        return self.total - self.by_status[PENDING] - self.asleep > 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything that decides one task's status besides its reports.

    ``own_status`` and ``heard`` are of the standing attempt; ``own_ended`` says
    that its own actor reported an ending. ``join`` is None where the definition names none.
    """

    own_status: int
    heard: bool
    own_ended: bool
    planned: int
    join: Join | None
    under_cancel: bool
    forced: int | None
    kids: Tally
    aggregators: Tally


def ends_by_children(standing: Standing) -> bool:
    has_children = standing.kids.total + standing.aggregators.total > 0
    return has_children and (not standing.heard or standing.join is not None)


def plan_closed(standing: Standing) -> bool:
    kids = standing.kids.total
    if standing.own_ended or standing.under_cancel:
        return True
    if standing.planned >= 1:
        return kids >= standing.planned
    return standing.kids.still_open == 0


def status_of(standing: Standing) -> int:
    """The effective status of one task."""
    if standing.forced is not None:
        return standing.forced
    if not ends_by_children(standing):
        return standing.own_status
    if standing.own_ended and standing.own_status != SUCCESS:
        return standing.own_status  # with a named join only its COMPLETED waits for the children
    if standing.aggregators.total:
        if standing.aggregators.still_open == 0:
            return verdict(standing.aggregators, Join(policy=JoinPolicy.ALL), of=standing.aggregators.total)
    else:
        decided = _by_kids(standing)
        if decided is not None:
            return decided
    stirred = standing.kids.stirred or standing.aggregators.stirred
    return RUNNING if stirred or standing.own_status != PENDING else PENDING


def _by_kids(standing: Standing) -> int | None:
    join, kids = standing.join or DEFAULT_JOIN, standing.kids
    settled = standing.own_ended or standing.under_cancel
    of = kids.total if settled else max(standing.planned, kids.total)
    if plan_closed(standing) and kids.still_open == 0:
        return verdict(kids, join, of=of)
    if join.early:
        return early_verdict(standing, join, of=of)
    return None


def needed(join: Join, of: int) -> int:
    """The n of ``at_least`` (rounded up) and ``at_most_failed`` (rounded down)."""
    if join.count is not None:
        return join.count
    exact = (join.percent or 0) * of / 100
    return math.ceil(exact - 1e-9) if join.policy is JoinPolicy.AT_LEAST else math.floor(exact + 1e-9)


#: When the children make a SUCCESS: (success, failed, cancelled, n) -> bool.
POLICIES: Mapping[JoinPolicy, Callable[[int, int, int, int], bool]] = {
    JoinPolicy.ANY: lambda s, f, c, n: s >= 1,
    JoinPolicy.ALL: lambda s, f, c, n: f == c == 0 and s >= 1,
    JoinPolicy.ALL_DONE: lambda s, f, c, n: True,
    JoinPolicy.AT_LEAST: lambda s, f, c, n: s >= n,
    JoinPolicy.AT_MOST_FAILED: lambda s, f, c, n: f <= n,
}


def verdict(tally: Tally, join: Join, *, of: int) -> int:
    """How a task ends whose deciding children have all ended."""
    success, failed, cancelled = (tally.by_status[s] for s in (SUCCESS, FAILED, CANCELLED))
    if POLICIES[join.policy](success, failed, cancelled, needed(join, of)):
        return SUCCESS
    if failed:
        return FAILED
    if cancelled:
        return CANCELLED
    return FAILED if success else SKIPPED


def early_verdict(standing: Standing, join: Join, *, of: int) -> int | None:
    """The verdict as soon as no child still to come can change it, else None."""
    met, broken = fixed(standing, join, of=of)
    if met:
        return SUCCESS
    return FAILED if broken and standing.kids.by_status[FAILED] else None


def fixed(standing: Standing, join: Join, *, of: int) -> tuple[bool, bool]:
    """(whether the join is met, whether it cannot be met any more), whatever the children still to come do.

    Without a plan more children may always come; then only what no child can
    undo is fixed: an ``any`` that is met, an ``all`` or ``at_most_failed`` that is broken.
    """
    success, failed, cancelled = (standing.kids.by_status[s] for s in (SUCCESS, FAILED, CANCELLED))
    n = needed(join, of)
    by_count = join.count is not None or standing.planned >= 1 or standing.under_cancel or standing.own_ended
    left = max(of - standing.kids.ended, standing.kids.still_open) if by_count else math.inf
    match join.policy:
        case JoinPolicy.ANY:
            met, broken = success >= 1, success + left < 1
        case JoinPolicy.ALL:
            met, broken = False, failed + cancelled > 0
        case JoinPolicy.ALL_DONE:
            met, broken = True, False
        case JoinPolicy.AT_LEAST:
            met, broken = by_count and success >= n, success + left < n
        case JoinPolicy.AT_MOST_FAILED:
            met, broken = by_count and failed + left <= n, by_count and failed > n
    return met, broken


# -- aggregators (contract, section 3.10)


@dataclass(frozen=True, slots=True)
class Gathering:
    """What an aggregator collects, as it stands.

    ``expected``: how many results there will be. ``closed``: no more tasks to
    collect will come. ``quiet``: nothing was planned, and the quiet time after
    the last ending is over, or need not be waited for.
    """

    tally: Tally
    expected: int
    closed: bool
    quiet: bool
    join: Join


def complete(gathering: Gathering) -> bool:
    """All that it collects has ended, as far as is known."""
    return gathering.closed and gathering.tally.total > 0 and gathering.tally.still_open == 0


def ready_verdict(gathering: Gathering, standing: Standing) -> int | None:
    """How an aggregator ends, once it is ready; None before that."""
    if complete(gathering) and gathering.quiet:
        return verdict(gathering.tally, gathering.join, of=gathering.expected)
    if gathering.join.early:
        return early_verdict(standing, gathering.join, of=gathering.expected)
    return None
