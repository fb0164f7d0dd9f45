"""The door of every control: decide, number, record, commit; then deliver and tell.

A control never changes a status. What a CANCEL found pending is ended by the
sweeper; what runs ends by its actor's own report, or by its grace.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import orjson
from django.db import DatabaseError, IntegrityError
from ulid import ULID

from controls import ledger, reach
from controls.clock import now_ms
from controls.ledger import Moment
from controls.models import ControlRecord
from controls.policy import Decision, Outcome, Place, decide
from controls.reach import Affected
from controls.store import CommandStore, Delivery, StoreAway, store
from instances import live, writer
from instances.intents import CANCEL, InForce
from tower import metrics
from tower.errors import Conflict, NotFound, TowerError
from tower.faults import fault
from tower.marks import iso
from tower.schemas import ACTIONS, ControlAction

log = logging.getLogger(__name__)

SENTENCES = {
    Outcome.ALREADY_ENDED: "Nothing there is open any more.",
    Outcome.CANCELLED: "This is under a CANCEL, which cannot be taken back.",
    Outcome.NOT_PAUSED_HERE: "No PAUSE was put at this very place.",
}


class ControlRefused(TowerError):
    """The place does not take what was asked; the refusal is in the audit."""

    http_status = 409

    def __init__(self, record: ControlRecord) -> None:
        outcome = Outcome(record.outcome)
        holder = {"held_by": record.held_by} if outcome is Outcome.NOT_PAUSED_HERE else {}
        super().__init__(SENTENCES[outcome], code=outcome.value, **holder)
        self.record = record


@dataclass(frozen=True, slots=True)
class Asked:
    """A control as it was asked, with what was looked up before anything was locked."""

    id: str
    #: Whether the caller chose the id, so that it may come again.
    repeatable: bool
    trace_id: str
    task_id: str | None
    action: ControlAction
    reason: str
    triggered_by: str
    on_behalf_of: str | None
    number: int = 0
    key: int | None = None
    below: Affected | None = None

    @property
    def body(self) -> tuple[object, ...]:
        return (self.trace_id, self.task_id, self.action, self.reason, self.on_behalf_of)


@dataclass(frozen=True, slots=True)
class Issued:
    record: ControlRecord
    #: False where the same control had been asked before; then nothing was done.
    created: bool
    delivered: bool
    affected: Affected


def issue(
    trace_id: str,
    action: ControlAction,
    *,
    task_id: str | None = None,
    control_id: str | None = None,
    reason: str = "",
    triggered_by: str,
    on_behalf_of: str | None = None,
) -> Issued:
    """Take one control, or raise ``ControlRefused``, ``NotFound`` or ``Conflict``.

    Repeatable with the same ``control_id``. Commits by itself; Redis being away
    does not fail it: ``delivered`` is false then, and the sweeper delivers.
    """
    asked = _looked_up(
        Asked(
            control_id or str(ULID()),
            control_id is not None,
            trace_id,
            task_id,
            action,
            reason,
            triggered_by,
            on_behalf_of,
        )
    )
    started = time.monotonic()
    record, created = _recorded(asked)
    if created:
        metrics.CONTROLS.labels(action.value, record.outcome).inc()
    if record.outcome != Outcome.TAKEN:
        raise ControlRefused(record)
    if created:
        _deliver(record, asked_at=started)
        live.publish_intents(asked.number, trace_id)
    return Issued(record, created, record.delivered_ms is not None, affected(record))


def refuse_unseen(
    trace_id: str, action: ControlAction, *, task_id: str | None, reason: str, triggered_by: str
) -> None:
    """Put into the audit what was asked without the right to ask; an unknown trace leaves no trace."""
    number = ledger.number_of(trace_id)
    if number is None:
        return
    asked = Asked(str(ULID()), False, trace_id, task_id, action, reason, triggered_by, None, number)
    record = _audit(asked, Decision(Outcome.FORBIDDEN), now_ms(), Affected(0, 0))
    writer.in_turn(lambda: ledger.write(record))
    metrics.CONTROLS.labels(action.value, record.outcome).inc()


# -- in the transaction


def _looked_up(asked: Asked) -> Asked:
    number = ledger.number_of(asked.trace_id)
    if number is None:
        raise NotFound("There is no such trace.", trace_id=asked.trace_id)
    if asked.task_id is None:
        return replace(asked, number=number)
    key = reach.key_of(number, asked.task_id)
    if key is None:
        raise NotFound("There is no such task in this trace.", task_id=asked.task_id)
    # Before the lock: walking a large branch takes time, and whoever registers below it would wait.
    return replace(asked, number=number, key=key, below=reach.open_below(key))


def _recorded(asked: Asked) -> tuple[ControlRecord, bool]:
    try:
        return writer.in_turn(lambda: _record(asked))
    except IntegrityError:
        # The same id was taken at the same time for another trace; now it is there to be compared.
        return writer.in_turn(lambda: _record(asked))


def _record(asked: Asked) -> tuple[ControlRecord, bool]:
    last_number = ledger.lock(asked.number)
    if asked.repeatable and (first := ControlRecord.objects.filter(id=asked.id).first()):
        return _same(first, asked), False
    # After the lock, as statements of their own: an attachment that held it has moved the path.
    moment = ledger.moment(asked.number)
    below = asked.below or Affected(moment.pending, moment.running)
    place = _place(asked, below)
    decision = decide(asked.action, place)
    record = _audit(asked, decision, moment.now_ms, below)
    if decision.outcome is Outcome.TAKEN:
        record.intent_number = last_number + 1
        _stand(record, place.intents.get(place.target), moment)
        ledger.count(asked.number, record.intent_number, ended=moment.ended_ms is not None)
    ledger.write(record)
    return record, True


def _same(first: ControlRecord, asked: Asked) -> ControlRecord:
    body = (first.trace_id, first.task_id, ACTIONS[first.action], first.reason, first.on_behalf_of)
    if body != asked.body:
        raise Conflict("A control of this id was asked with another body.", id=asked.id)
    return first


def _place(asked: Asked, below: Affected) -> Place:
    path = [] if asked.key is None else reach.path_to(asked.key)
    return Place(below.open > 0, path, ledger.standing(asked.number, ["", *path]))


def _audit(asked: Asked, decision: Decision, now: int, below: Affected) -> ControlRecord:
    return ControlRecord(
        id=asked.id,
        trace_id=asked.trace_id,
        trace=asked.number,
        task_id=asked.task_id,
        action=ACTIONS.index(asked.action),
        triggered_by=asked.triggered_by,
        on_behalf_of=asked.on_behalf_of,
        reason=asked.reason,
        outcome=decision.outcome.value,
        held_by=decision.held_by,
        affected_pending=below.pending,
        affected_running=below.running,
        affected_capped=below.capped,
        created_ms=now,
    )


def _stand(record: ControlRecord, before: InForce | None, moment: Moment) -> None:
    if record.action != CANCEL:
        ledger.stand(record, cancel_seq=None, cancel_ms=None)
    elif before is None or before.action != CANCEL:
        ledger.stand(record, cancel_seq=moment.seq, cancel_ms=moment.now_ms)
    else:
        # The first CANCEL's clock goes on: asking again gives nobody a new grace.
        ledger.stand(record, cancel_seq=before.cancel_seq, cancel_ms=before.cancel_ms)


# -- after the commit


def _deliver(record: ControlRecord, *, asked_at: float) -> None:
    started = time.monotonic()
    fault("before_put", ACTIONS[record.action].value)
    try:
        commands().put(delivery_of(record))
    except StoreAway as error:
        log.warning("control_undelivered", extra={"trace_id": record.trace_id, "error": str(error)})
        return
    fault("after_put")
    done = time.monotonic()
    metrics.CONTROL_DELIVERY_SECONDS.observe(done - started)
    # Counted on from the database's clock, which this machine's may differ from.
    record.delivered_ms = record.created_ms + round((done - asked_at) * 1000)
    try:
        writer.in_turn(lambda: ledger.mark_delivered(record, record.delivered_ms or 0))
    except (DatabaseError, TowerError):
        # Redis has it; the sweeper finds it unmarked and marks it.
        log.warning("control_unmarked", extra={"trace_id": record.trace_id})


def commands() -> CommandStore:
    return store()


def delivery_of(record: ControlRecord) -> Delivery:
    assert record.intent_number is not None, "a refused control is never delivered"
    event = {
        "id": record.id,
        "trace_id": record.trace_id,
        "task_id": record.task_id,
        "action": ACTIONS[record.action],
        "triggered_by": record.triggered_by,
        "created_at": iso(record.created_ms),
    }
    return Delivery(
        record.trace_id,
        record.task_id or "",
        ACTIONS[record.action],
        record.intent_number,
        orjson.dumps(event).decode(),
    )


def affected(record: ControlRecord) -> Affected:
    return Affected(record.affected_pending or 0, record.affected_running or 0, record.affected_capped)
