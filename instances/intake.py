"""From parsed JSON to reports and registrations, each item by itself; knows no tree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pydantic
from django.conf import settings
from pydantic import Field

from instances.lifecycle import Report
from tower import reading
from tower.errors import Refusal, Warned
from tower.schemas import (
    EVENT_TYPES,
    KINDS,
    MAX_SPLIT_COUNT,
    RESERVED_IDS,
    ActorType,
    Frozen,
    Id,
    TaskEvent,
    TaskInstance,
    TaskInstanceStatus,
    Whole,
)

#: More warnings than this are not listed in one answer; all are kept in the event log.
MOST_WARNINGS = 100
DAY_MS = 86_400_000


@dataclass(slots=True)
class Sent:
    """One report on its way in. ``payload`` is canonical JSON (keys sorted), as it is stored."""

    index: int
    trace_id: str
    report: Report
    payload: str
    warnings: list[Warned] = field(default_factory=list)


class TaskRegistration(Frozen):
    """What a registration may say of a task; what the tower derives is ignored."""

    id: Id
    trace_id: Id
    parent_id: Id | None = None
    job_id: Id
    actor_type: ActorType | None = None
    status: TaskInstanceStatus | None = None
    input_params: dict[str, Any] = {}
    split_count: Whole = Field(default=0, ge=0, le=MAX_SPLIT_COUNT)
    name: str | None = Field(default=None, max_length=200)
    labels: Any = None
    collects: list[Id] | None = Field(default=None, max_length=10_000)


class RunRequest(Frozen):
    """The body of ``POST traces/``."""

    job_id: Id
    input_params: dict[str, Any] = {}
    trace_id: Id | None = None
    task_id: Id | None = None
    split_count: Whole = Field(default=0, ge=0, le=MAX_SPLIT_COUNT)
    labels: Any = None


@dataclass(slots=True)
class Registering:
    """One registration on its way in; params and labels as canonical JSON."""

    index: int
    id: str
    trace_id: str
    parent_id: str | None
    job_id: str
    kind: int | None
    planned: int
    name: str
    input_params: str
    labels: dict[str, str]
    collects: list[str] | None
    warnings: list[Warned] = field(default_factory=list)
    #: Only for ``start_run``.
    started_by: str = ""
    digest: str = ""


EVENT_FIELDS = frozenset(TaskEvent.model_fields)
TASK_FIELDS = frozenset(TaskRegistration.model_fields) | frozenset(TaskInstance.model_fields)
#: A full task as ``tree/`` shows it may be sent back.
TASK_SHOWN = TASK_FIELDS | {
    "reported_status", "attempt", "progress", "message", "registered", "attached", "asked", "holds",
    "job_version", "n", "rev",
}  # fmt: skip
EVENT_CODES: Mapping[str, str] = {
    "event_id": "invalid_id",
    "trace_id": "invalid_id",
    "task_id": "invalid_id",
    "parent_id": "invalid_id",
    "timestamp_ms:greater_than_equal": "timestamp_out_of_range",
    "timestamp_ms:less_than_equal": "timestamp_out_of_range",
    "timestamp_ms:int_parsing_size": "timestamp_out_of_range",
}
TASK_CODES: Mapping[str, str] = dict.fromkeys(
    ("id", "trace_id", "parent_id", "job_id", "collects"), "invalid_id"
)
#: Integers that a code of their own refuses.
SKIP = frozenset({"timestamp_ms", "payload.attempt", "payload.split_count", "split_count"})


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def _refuse(code: str, field: str, message: str, **details: Any) -> _Refused:
    return _Refused(Refusal(code, f"{field}: {message}", {"field": field, **details}))


# -- payload keys


def _text(payload: Mapping[str, Any], name: str) -> str | None:
    value = payload.get(name)
    if value is None:
        return None
    if type(value) is not str:
        raise _refuse("invalid_type", f"payload.{name}", "Input should be text")
    if len(value) * 4 > settings.TOWER_MAX_TEXT_BYTES and len(value.encode()) > settings.TOWER_MAX_TEXT_BYTES:
        raise _refuse("too_large", f"payload.{name}", "Too long", limit=settings.TOWER_MAX_TEXT_BYTES)
    return value


def _code(payload: Mapping[str, Any]) -> str | None:
    value = _text(payload, "error_code")
    if value is not None and len(value) > 200:
        raise _refuse("too_large", "payload.error_code", "At most 200 characters", limit=200)
    return value


def _attempt(payload: Mapping[str, Any]) -> int | None:
    value = payload.get("attempt")
    if value is None:
        return None
    most = settings.TOWER_MAX_ATTEMPT
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 1 <= value <= most:
        raise _refuse(
            "attempt_out_of_range", "payload.attempt", f"A whole number from 1 to {most}", limit=most
        )
    return value


def _plan(payload: Mapping[str, Any]) -> int | None:
    value = payload.get("split_count")
    if value is None:
        return None
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise _refuse("invalid_type", "payload.split_count", "Input should be a whole number")
    if not 0 <= value <= MAX_SPLIT_COUNT:
        raise _refuse(
            "number_out_of_range",
            "payload.split_count",
            f"From 0 to {MAX_SPLIT_COUNT}",
            limit=MAX_SPLIT_COUNT,
        )
    return value


def _flag(payload: Mapping[str, Any], name: str, ignore: Callable[[str], None]) -> bool:
    value = payload.get(name)
    if value is not None and type(value) is not bool:
        ignore(f"payload.{name}")
        return False
    return bool(value)


def _progress(payload: Mapping[str, Any], ignore: Callable[[str], None]) -> float | None:
    value = payload.get("progress")
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 100:
        ignore("payload.progress")
        return None
    return float(value)


def report_from(
    *, event_id: str, task_id: str, kind: int, ms: int, parent_id: str | None, actor_type: int | None,
    payload: Mapping[str, Any], ignore: Callable[[str], None] = lambda field: None,
) -> Report:  # fmt: skip
    """The report in one event; also reads stored ones back, whose payload was checked when it came."""
    if not payload:
        return Report(event_id, task_id, kind, ms, None, parent_id, actor_type)
    return Report(
        event_id,
        task_id,
        kind,
        ms,
        attempt=_attempt(payload),
        parent_id=parent_id,
        actor_type=actor_type,
        progress=_progress(payload, ignore),
        message=_text(payload, "message"),
        worker=_text(payload, "worker"),
        split_count=_plan(payload),
        paused=_flag(payload, "paused", ignore),
        skipped=_flag(payload, "skipped", ignore),
        output_ref=_text(payload, "output_ref"),
        error_code=_code(payload),
        error_msg=_text(payload, "error_msg"),
    )


# -- items

Rejected = list[tuple[int, Any, Refusal]]


def read_events(raw: Sequence[Any], now_ms: int) -> tuple[list[Sent], Rejected]:
    """Every item that may be recorded, and (index, its id as sent, refusal) of the others."""
    sent: list[Sent] = []
    rejected: Rejected = []
    for index, item in enumerate(raw):
        try:
            sent.append(_event(index, item, now_ms))
        except _Refused as refused:
            shown = item.get("event_id") if isinstance(item, dict) else None
            rejected.append((index, shown if isinstance(shown, str) else None, refused.refusal))
    return sent, rejected


def _object(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise _Refused(Refusal("invalid_type", "An item must be an object.", {"field": ""}))
    if found := reading.unfit(item, skip=SKIP):
        raise _Refused(found)
    return item


_ACTOR = {kind: i for i, kind in enumerate(KINDS)}
_EVENT = {kind: i for i, kind in enumerate(EVENT_TYPES)}


def _event(index: int, item: Any, now_ms: int) -> Sent:
    item = _object(item)
    try:
        event = TaskEvent.model_validate(item)
    except pydantic.ValidationError as error:
        raise _Refused(reading.refusal(error, EVENT_CODES)) from error
    for name in ("event_id", "trace_id", "task_id", "parent_id"):
        _not_reserved(name, getattr(event, name))
    text = orjson.dumps(event.payload, option=orjson.OPT_SORT_KEYS)
    if len(text) > settings.TOWER_MAX_PAYLOAD_BYTES:
        raise _refuse("too_large", "payload", "Too large", limit=settings.TOWER_MAX_PAYLOAD_BYTES)
    warnings: list[Warned] = []
    report = report_from(
        event_id=event.event_id,
        task_id=event.task_id,
        kind=_EVENT[event.event_type],
        ms=event.timestamp_ms,
        parent_id=event.parent_id,
        actor_type=None if event.actor_type is None else _ACTOR[event.actor_type],
        payload=event.payload,
        ignore=lambda field: warnings.append(Warned(index, "payload_ignored", field)),
    )
    if not item.keys() <= EVENT_FIELDS:
        _warn_unknown(index, item, EVENT_FIELDS | TASK_SHOWN, warnings)
    if abs(event.timestamp_ms - now_ms) > DAY_MS:
        warnings.append(Warned(index, "clock_skew", "timestamp_ms"))
    return Sent(index, event.trace_id, report, text.decode(), warnings)


def _not_reserved(name: str, id: str | None) -> None:
    if id in RESERVED_IDS:
        raise _refuse("reserved_id", name, f"{id} is reserved")


def _warn_unknown(index: int, item: Mapping[str, Any], known: frozenset[str], warnings: list[Warned]) -> None:
    for name in item:
        if name not in known:
            warnings.append(Warned(index, "unknown_field", name[:64]))


def read_registrations(raw: Sequence[Any]) -> tuple[list[Registering], Rejected]:
    """Every item that may be registered, and (index, its id as sent, refusal) of the others."""
    items: list[Registering] = []
    rejected: Rejected = []
    for index, item in enumerate(raw):
        try:
            items.append(registration(index, item))
        except _Refused as refused:
            shown = item.get("id") if isinstance(item, dict) else None
            rejected.append((index, shown if isinstance(shown, str) else None, refused.refusal))
    return items, rejected


def one_registration(item: Mapping[str, Any]) -> Registering:
    """A registration that is a whole request (the root of a run); raises its refusal as TowerError."""
    try:
        return registration(0, item)
    except _Refused as refused:
        raise reading.refuse(refused.refusal) from refused


def run_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``ingest.start_run`` in a body; raises its refusal as TowerError."""
    try:
        asked = RunRequest.model_validate(body)
        return {**asked.model_dump(exclude={"labels"}), "labels": labels_from(asked.labels)}
    except pydantic.ValidationError as error:
        raise reading.refuse(reading.refusal(error, {**TASK_CODES, "task_id": "invalid_id"})) from error
    except _Refused as refused:
        raise reading.refuse(refused.refusal) from refused


def registration(index: int, item: Any) -> Registering:
    item = _object(item)
    try:
        task = TaskRegistration.model_validate(item)
    except pydantic.ValidationError as error:
        raise _Refused(reading.refusal(error, TASK_CODES)) from error
    for name in ("id", "trace_id", "parent_id", "job_id"):
        _not_reserved(name, getattr(task, name))
    if task.status not in (None, TaskInstanceStatus.PENDING):
        raise _refuse("status_needs_event", "status", "A status is changed by an event only")
    if task.parent_id == task.id:
        raise _refuse("cycle", "parent_id", "A task cannot be its own parent")
    params = orjson.dumps(task.input_params, option=orjson.OPT_SORT_KEYS)
    if len(params) > settings.TOWER_MAX_PARAMS_BYTES:
        raise _refuse("too_large", "input_params", "Too large", limit=settings.TOWER_MAX_PARAMS_BYTES)
    warnings: list[Warned] = []
    if not item.keys() <= TASK_SHOWN:
        _warn_unknown(index, item, TASK_SHOWN, warnings)
    return Registering(
        index,
        task.id,
        task.trace_id,
        task.parent_id,
        task.job_id,
        None if task.actor_type is None else _ACTOR[task.actor_type],
        task.split_count,
        task.name or "",
        params.decode(),
        labels_from(task.labels),
        task.collects,
        warnings,
    )


def labels_from(labels: Any) -> dict[str, str]:
    """At most 16 pairs of text: keys of 1-64 characters, values of at most 256."""
    if labels is None:
        return {}
    fits = (
        isinstance(labels, dict)
        and len(labels) <= 16
        and all(
            isinstance(value, str) and 1 <= len(key) <= 64 and len(value) <= 256
            for key, value in labels.items()
        )
    )
    if not fits:
        raise _refuse("invalid_labels", "labels", "At most 16 pairs of text, keys of 64 and values of 256")
    return dict(labels)
