"""One action for all runs that a filter leaves: the runs are fixed when it is asked, and a sweeper asks each.

Every run gets a control of its own by the one door. Its id is made of the action and the run, so that a
sweeper that begins a step again, after it died or beside another one, asks nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.db.models import Count
from django.http import QueryDict
from ulid import ULID

from controls import issue as door
from controls.clock import now_ms
from controls.issue import ControlRefused
from controls.models import Bulk, BulkItem
from controls.policy import Outcome
from controls.question import CONFIRM_ABOVE, REASON_ABOVE
from controls.turns import alone
from instances import runs, writer
from instances.rows import keys_of, run
from instances.run_views import canonical
from tower.errors import Conflict, NotFound, TowerError
from tower.schemas import ACTIONS, ControlAction

#: Runs of one action.
MOST: Final = runs.MOST_AT_ONCE
#: Runs that one turn asks, before another action has its turn.
STEP: Final = 25
#: Actions that have a turn in one round.
MOST_GOING: Final = 20
#: A question that nobody answered is forgotten.
FORGET_MS: Final = 3_600_000

#: Outcomes that are not those of a control: not asked yet; no such run any more; its id was taken by another.
WAITING, GONE, TAKEN_ID = "", "gone", "conflict"


class NotMatching(TowerError):
    """The filter leaves no run, or too many."""

    http_status = 422

    def __init__(self, found: int) -> None:
        super().__init__("The filter leaves no open run, or too many.", code="invalid_form", runs=found)
        self.found = found


# -- asked, begun, stopped


def ask(action: ControlAction, query: QueryDict, *, by: str) -> Bulk:
    """Fix the runs; nothing is asked of them before ``start``."""
    numbers = runs.open_ones(query, MOST + 1)
    if not numbers or len(numbers) > MOST:
        raise NotMatching(len(numbers))
    source, param = keys_of(numbers)
    chosen = f"t.number, t.id FROM {source} JOIN instances_trace t ON t.number = w.key"
    return _made(action, canonical(query), by, chosen, [param])


def ask_back(bulk: Bulk, *, by: str) -> Bulk:
    """To resume the runs that a PAUSE was asked of."""
    taken = "trace, trace_id FROM controls_bulkitem WHERE bulk_id = %s AND outcome = 'taken'"
    return _made(ControlAction.RUN, bulk.query, by, taken, [bulk.number])


def _made(action: ControlAction, query: str, by: str, chosen: str, params: Sequence[object]) -> Bulk:
    now = now_ms()
    bulk = Bulk(id=str(ULID()), action=ACTIONS.index(action), query=query, triggered_by=by, created_ms=now)

    def make() -> None:
        Bulk.objects.filter(started_ms=None, created_ms__lt=now - FORGET_MS).delete()
        bulk.save(force_insert=True)
        run(
            f"INSERT INTO controls_bulkitem (bulk_id, outcome, trace, trace_id) SELECT %s, '', {chosen}",
            [bulk.number, *params],
        )
        bulk.total = BulkItem.objects.filter(bulk=bulk).count()
        bulk.save(update_fields=["total"])

    writer.in_turn(make)
    return bulk


def start(bulk: Bulk, reason: str) -> None:
    """Repeatable: begun is begun."""
    waiting = Bulk.objects.filter(pk=bulk.pk, started_ms=None)
    writer.in_turn(lambda: waiting.update(started_ms=now_ms(), reason=reason))


def stop(bulk: Bulk, by: str) -> None:
    """At most one more run is asked. What was asked stands."""
    going = Bulk.objects.filter(pk=bulk.pk, ended_ms=None).exclude(started_ms=None)
    writer.in_turn(lambda: going.update(ended_ms=now_ms(), stopped_by=by))


# -- asked of each, in the sweeper


def going() -> list[Bulk]:
    return list(Bulk.objects.filter(started_ms__isnull=False, ended_ms=None).order_by("number")[:MOST_GOING])


def step(bulk: Bulk) -> bool:
    """Ask the next few runs; true where more wait."""
    with alone("bulk", bulk.number) as mine:
        if not mine:
            return False
        waiting = list(BulkItem.objects.filter(bulk=bulk, outcome=WAITING).order_by("-trace")[:STEP])
        done: dict[str, list[int]] = {}
        try:
            for item in waiting:
                # Each time, so that a stop is obeyed at once.
                if not Bulk.objects.filter(pk=bulk.pk, ended_ms=None).exists():
                    break
                done.setdefault(_asked(bulk, item), []).append(item.pk)
        finally:
            writer.in_turn(lambda: _note(done))
        if len(waiting) < STEP:
            ended = Bulk.objects.filter(pk=bulk.pk, ended_ms=None)
            writer.in_turn(lambda: ended.update(ended_ms=now_ms()))
        return len(waiting) == STEP


def _note(done: dict[str, list[int]]) -> None:
    for outcome, items in done.items():
        BulkItem.objects.filter(pk__in=items).update(outcome=outcome)


def _asked(bulk: Bulk, item: BulkItem) -> str:
    try:
        door.issue(
            item.trace_id,
            ACTIONS[bulk.action],
            control_id=control_id(bulk, item),
            reason=bulk.reason,
            triggered_by=bulk.triggered_by,
        )
    except ControlRefused as refused:
        return str(refused.record.outcome)
    except NotFound:
        return GONE
    except Conflict:
        return TAKEN_ID
    return Outcome.TAKEN.value


def control_id(bulk: Bulk, item: BulkItem) -> str:
    """The audit shows those of one action by what they begin with."""
    return f"{bulk.id}.{item.trace}"


# -- what it is for, and how far it has come


def progress(bulk: Bulk) -> dict[str, int]:
    """How many runs there are of each outcome."""
    counted = BulkItem.objects.filter(bulk=bulk).values_list("outcome").annotate(Count("pk")).order_by()
    return dict(counted)


def open_tasks(bulk: Bulk) -> tuple[int, int]:
    """(running, pending) in its runs, now."""
    [(running, pending)] = run(
        "SELECT COALESCE(SUM(t.running), 0), COALESCE(SUM(t.pending), 0) FROM controls_bulkitem i"
        " JOIN instances_trace t ON t.number = i.trace WHERE i.bulk_id = %s",
        [bulk.number],
    )
    return int(running), int(pending)


def needs_reason(bulk: Bulk, tasks: int) -> bool:
    return ACTIONS[bulk.action] is ControlAction.CANCEL and tasks > REASON_ABOVE


def word(bulk: Bulk, tasks: int) -> str:
    """What is to be typed before very many tasks are touched: of how many runs; empty where nothing is."""
    return str(bulk.total) if tasks > CONFIRM_ABOVE else ""
