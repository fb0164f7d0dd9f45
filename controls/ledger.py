"""The statements of the door, for both databases. Rows in, rows out: no rule is here.

Written out, because a control is measured from its request to Redis, and each
of these costs four times as much through the query builder. All run inside the
caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from controls.clock import CLOCK
from controls.models import ControlRecord
from instances.intents import InForce, Intents
from tower.errors import NotFound


@dataclass(frozen=True, slots=True)
class Moment:
    """What a trace shows at the moment of a control, and the database's clock."""

    seq: int
    pending: int
    running: int
    ended_ms: int | None
    now_ms: int


def number_of(trace_id: str) -> int | None:
    found = _rows("SELECT number FROM instances_trace WHERE id = %s", trace_id)
    return found[0][0] if found else None


def lock(number: int) -> int:
    """Lock the intents of a trace, and nothing else of it; the number of its last control."""
    # On SQLite the write lock that the transaction began with is the lock.
    for_update = " FOR UPDATE" if connection.vendor == "postgresql" else ""
    ask = f"SELECT last_number FROM instances_intentledger WHERE trace = %s{for_update}"
    found = _rows(ask, number)
    if not found:
        _run(
            "INSERT INTO instances_intentledger (trace, last_number, expiring) VALUES (%s, 0, %s)"
            " ON CONFLICT (trace) DO NOTHING",
            number,
            False,
        )
        found = _rows(ask, number)
    return int(found[0][0])


def count(number: int, last_number: int, *, ended: bool) -> None:
    # Of an ended trace the key in Redis may be gone; it would come back and stay for ever.
    keep = ", expiring = %s" if ended else ""
    values = (last_number, False, number) if ended else (last_number, number)
    _run(f"UPDATE instances_intentledger SET last_number = %s{keep} WHERE trace = %s", *values)


def moment(number: int) -> Moment:
    clock = CLOCK[connection.vendor]
    found = _rows(
        f"SELECT seq, pending, running, ended_ms, {clock} FROM instances_trace WHERE number = %s", number
    )
    if not found:  # pruned since it was looked up
        raise NotFound("There is no such trace.")
    return Moment(*found[0])


def standing(number: int, places: Sequence[str]) -> Intents:
    """The intents at these places."""
    marks = ", ".join(["%s"] * len(places))
    rows = _rows(
        "SELECT target, action, number, control_id, cancel_seq, cancel_ms FROM instances_intent"
        f" WHERE trace = %s AND target IN ({marks})",
        number,
        *places,
    )
    return {row[0]: InForce(*row) for row in rows}


def stand(record: ControlRecord, *, cancel_seq: int | None, cancel_ms: int | None) -> None:
    """Let a control stand at its place, and be delivered and swept anew."""
    _run(
        "INSERT INTO instances_intent (trace, target, action, number, control_id, created_ms, cancel_seq,"
        " cancel_ms, delivered_number, swept) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 0, %s)"
        " ON CONFLICT (trace, target) DO UPDATE SET action = excluded.action, number = excluded.number,"
        " control_id = excluded.control_id, created_ms = excluded.created_ms,"
        " cancel_seq = excluded.cancel_seq, cancel_ms = excluded.cancel_ms, swept = excluded.swept",
        record.trace,
        record.task_id or "",
        record.action,
        record.intent_number,
        record.id,
        record.created_ms,
        cancel_seq,
        cancel_ms,
        False,
    )


def write(record: ControlRecord) -> None:
    """Append to the audit; another row of this id is an ``IntegrityError``."""
    fields = [field for field in ControlRecord._meta.concrete_fields if not field.primary_key]
    names = ", ".join(field.attname for field in fields)
    marks = ", ".join(["%s"] * len(fields))
    values = [getattr(record, field.attname) for field in fields]
    sql = f"INSERT INTO controls_controlrecord ({names}) VALUES ({marks}) RETURNING number"
    [(record.number,)] = _rows(sql, *values)


def mark_delivered(record: ControlRecord, at_ms: int) -> None:
    """Note what Redis holds. Older controls of a place count as delivered: what stands has overruled them."""
    number, target = record.intent_number, record.task_id or ""
    # Request and sweeper may deliver at once; the greater number stays.
    _run(
        "UPDATE instances_intent SET delivered_number = %s"
        " WHERE trace = %s AND target = %s AND number >= %s AND delivered_number < %s",
        number,
        record.trace,
        target,
        number,
        number,
    )
    _run(
        "UPDATE controls_controlrecord SET delivered_ms = %s WHERE outcome = 'taken' AND delivered_ms IS NULL"
        " AND trace_id = %s AND COALESCE(task_id, '') = %s AND intent_number <= %s",
        at_ms,
        record.trace_id,
        target,
        number,
    )


def _run(sql: str, *params: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


def _rows(sql: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
