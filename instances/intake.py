"""From parsed JSON to reports and registrations, each item by itself; knows no tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

import orjson
import pydantic
from django.conf import settings
from pydantic import Field
from typing_extensions import TypedDict

from instances.each_json import each_json
from instances.lifecycle import Report
from tower import reading
from tower.errors import Refusal
from tower.schemas import (
    EVENT_TYPES,
    KINDS,
    MAX_SPLIT_COUNT,
    MAX_TIMESTAMP_MS,
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

#: What an item is warned of: (code, field).
Warnings = tuple[tuple[str, str], ...]
_SKEWED: Warnings = (("clock_skew", "timestamp_ms"),)


@dataclass(slots=True)
class Sent:
    """One report on its way in. ``payload`` is canonical JSON (keys sorted), as it is stored."""

    index: int
    trace_id: str
    report: Report
    payload: str
    warnings: Warnings = ()
    #: Its id may be known although nothing says so: the log is asked.
    doubted: bool = False


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
    warnings: Warnings = ()
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


class Payload:
    """The keys of a payload that the tower reads, each by its own reader; others are the actor's.

    ``ignored``: the fields that adorn and could not be read, since it was last emptied.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.ignored: list[str] = []

    def read(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a Report; refuses an item by its field, ignores what only adorns."""
        said = {}
        for name, value in payload.items():
            reader = READERS.get(name)
            if reader is not None and value is not None:
                said[name] = reader(self, name, value)
        return said

    def text(self, name: str, value: Any) -> str:
        if type(value) is not str:
            raise _refuse("invalid_type", f"payload.{name}", "Input should be text")
        most = self.limits.text
        if len(value) * 4 > most and len(value.encode()) > most:
            raise _refuse("too_large", f"payload.{name}", "Too long", limit=most)
        return value

    def code(self, name: str, value: Any) -> str:
        text = self.text(name, value)
        if len(text) > 200:
            raise _refuse("too_large", f"payload.{name}", "At most 200 characters", limit=200)
        return text

    def attempt(self, name: str, value: Any) -> int:
        most, number = self.limits.attempt, _integer(value)
        if number is None or not 1 <= number <= most:
            said = f"A whole number from 1 to {most}"
            raise _refuse("attempt_out_of_range", f"payload.{name}", said, limit=most)
        return number

    def plan(self, name: str, value: Any) -> int:
        number = _integer(value)
        if number is None:
            raise _refuse("invalid_type", f"payload.{name}", "Input should be a whole number")
        if not 0 <= number <= MAX_SPLIT_COUNT:
            said = f"From 0 to {MAX_SPLIT_COUNT}"
            raise _refuse("number_out_of_range", f"payload.{name}", said, limit=MAX_SPLIT_COUNT)
        return number

    def flag(self, name: str, value: Any) -> bool:
        if type(value) is bool:
            return value
        self.ignored.append(f"payload.{name}")
        return False

    def progress(self, name: str, value: Any) -> float | None:
        if type(value) in (int, float) and 0 <= value <= 100:
            return float(value)
        self.ignored.append(f"payload.{name}")
        return None


READERS: Mapping[str, Callable[[Payload, str, Any], Any]] = {
    "attempt": Payload.attempt,
    "progress": Payload.progress,
    "message": Payload.text,
    "worker": Payload.text,
    "split_count": Payload.plan,
    "paused": Payload.flag,
    "skipped": Payload.flag,
    "output_ref": Payload.text,
    "error_code": Payload.code,
    "error_msg": Payload.text,
}


def _integer(value: Any) -> int | None:
    if type(value) is int:
        return value
    return int(value) if type(value) is float and value.is_integer() else None


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one request; the settings are looked up once for all its items."""

    text: int
    payload: int
    attempt: int
    now_ms: int = 0

    @classmethod
    def of_settings(cls, now_ms: int = 0) -> Limits:
        return cls(
            settings.TOWER_MAX_TEXT_BYTES,
            settings.TOWER_MAX_PAYLOAD_BYTES,
            settings.TOWER_MAX_ATTEMPT,
            now_ms,
        )


def stored_report(
    *, event_id: str, task_id: str, kind: int, ms: int, parent_id: str | None, actor_type: int | None,
    payload: str,
) -> Report:  # fmt: skip
    """A recorded report read back; its payload was checked when it came."""
    said = Payload(Limits.of_settings()).read(orjson.loads(payload))
    return Report(event_id, task_id, kind, ms, parent_id=parent_id, actor_type=actor_type, **said)


# -- items

Rejected = list[tuple[int, Any, Refusal]]


def read_events(raw: Sequence[Any], now_ms: int) -> tuple[list[Sent], Rejected]:
    """Every item that may be recorded, and (index, its id as sent, refusal) of the others."""
    limits = Limits.of_settings(now_ms)
    reader = Payload(limits)
    plain = _plain(raw)
    sent: list[Sent] = []
    payloads: list[Any] = []
    rejected: Rejected = []
    for index, item in enumerate(raw):
        try:
            event = _checked(item) if plain is None else plain[index]
            sent.append(_event(index, item, event, reader))
            payloads.append(event.get("payload", {}))
        except _Refused as refused:
            shown = item.get("event_id") if isinstance(item, dict) else None
            rejected.append((index, shown if isinstance(shown, str) else None, refused.refusal))
    fitting = []
    for one, text in zip(sent, each_json(payloads, sort_keys=True), strict=True):
        if len(text) * 4 > limits.payload and len(text.encode()) > limits.payload:
            large = _refuse("too_large", "payload", "Too large", limit=limits.payload)
            rejected.append((one.index, one.report.event_id, large.refusal))
        else:
            one.payload = text
            fitting.append(one)
    return fitting, rejected


def _object(item: Any) -> dict[str, Any]:
    if isinstance(item, reading.Broken):
        raise _Refused(item.refusal)
    if not isinstance(item, dict):
        raise _Refused(Refusal("invalid_type", "An item must be an object.", {"field": ""}))
    if found := reading.unfit(item, skip=SKIP):
        raise _Refused(found)
    return item


_ACTOR: Mapping[str, int] = {kind.value: i for i, kind in enumerate(KINDS)}
_EVENT: Mapping[str, int] = {kind.value: i for i, kind in enumerate(EVENT_TYPES)}


class PlainEvent(TypedDict):
    """A TaskEvent as nearly all are sent: what this takes, TaskEvent takes with the same values.

    Whole batches pass here in compiled code (measured: 1.0 us an event, 3.3 by TaskEvent);
    a batch that does not (a fault, 5.0 for 5) is read by TaskEvent, item by item.
    """

    event_id: Id
    trace_id: Id
    task_id: Id
    parent_id: NotRequired[Id | None]
    actor_type: NotRequired[Literal["AGENT", "GROUP_AGG", "SINGLE_AGG", "EXECUTION"] | None]
    event_type: Literal["STARTED", "PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
    payload: NotRequired[dict[str, Any]]
    timestamp_ms: Annotated[int, Field(strict=True, ge=0, le=MAX_TIMESTAMP_MS)]


_plain_events = pydantic.TypeAdapter(list[PlainEvent]).validator.validate_python
_SILENT: Mapping[str, Any] = {}
_tuple = tuple.__new__
_validated = TaskEvent.__pydantic_validator__.validate_python


def _plain(raw: Sequence[Any]) -> list[PlainEvent] | None:
    """The items where all of them are plain and fit to be stored; else None."""
    try:
        plain: list[PlainEvent] = _plain_events(raw)
    except pydantic.ValidationError:
        return None
    levels = settings.TOWER_MAX_JSON_DEPTH
    for item, event in zip(raw, plain, strict=True):
        # Of the known fields only the payload can hold what does not fit.
        known = len(item) == len(event)
        if not (reading.fits(event.get("payload"), levels - 1) if known else reading.fits(item, levels)):
            return None
    return plain


def _checked(item: Any) -> PlainEvent:
    item = _object(item)
    try:
        event: PlainEvent = _validated(item).model_dump(exclude_unset=True)
    except pydantic.ValidationError as error:
        raise _Refused(reading.refusal(error, EVENT_CODES)) from error
    return event


def _event(index: int, item: Any, event: PlainEvent, reader: Payload) -> Sent:
    """One that was checked; its payload is written later, with all others."""
    event_id, trace_id, task_id = event["event_id"], event["trace_id"], event["task_id"]
    parent_id, kind, payload = event.get("parent_id"), event.get("actor_type"), event.get("payload")
    if not RESERVED_IDS.isdisjoint((event_id, trace_id, task_id, parent_id)):
        ids = (event_id, trace_id, task_id, parent_id)
        _not_reserved(zip(("event_id", "trace_id", "task_id", "parent_id"), ids, strict=True))
    ms = event["timestamp_ms"]
    said = reader.read(payload).get if payload else _SILENT.get
    # Not by name, which costs twice as much: the fields stand here in their order.
    report = _tuple(
        Report,
        (
            event_id, task_id, _EVENT[event["event_type"]], ms, said("attempt"), parent_id,
            None if kind is None else _ACTOR[kind],
            said("progress"), said("message"), said("worker"), said("split_count"), said("paused", False),
            said("skipped", False), said("output_ref"), said("error_code"), said("error_msg"),
        ),
    )  # fmt: skip
    warnings: Warnings = ()
    if reader.ignored:
        warnings = tuple([("payload_ignored", field) for field in reader.ignored])
        reader.ignored.clear()
    if len(item) > len(event):  # of what was sent ``event`` has what is known
        warnings += _unknown(item, EVENT_FIELDS | TASK_SHOWN)
    if abs(ms - reader.limits.now_ms) > DAY_MS:
        warnings += _SKEWED
    return Sent(index, trace_id, report, "", warnings)


def told_of(sent: Sequence[Sent]) -> list[tuple[Any, ...]]:
    """Reports as plain tuples, to be sent to another process of the same tower."""
    return [(one.trace_id, tuple(one.report), one.payload, one.warnings) for one in sent]


def told_from(told: Sequence[tuple[Any, ...]]) -> list[Sent]:
    return [
        Sent(index, trace_id, _tuple(Report, report), payload, warnings)
        for index, (trace_id, report, payload, warnings) in enumerate(told)
    ]


def _not_reserved(ids: Iterable[tuple[str, str | None]]) -> None:
    for name, id in ids:
        if id in RESERVED_IDS:
            raise _refuse("reserved_id", name, f"{id} is reserved")


def _unknown(item: Mapping[str, Any], known: frozenset[str]) -> Warnings:
    return tuple([("unknown_field", name[:64]) for name in item if name not in known])


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
    _not_reserved((name, getattr(task, name)) for name in ("id", "trace_id", "parent_id", "job_id"))
    if task.status not in (None, TaskInstanceStatus.PENDING):
        raise _refuse("status_needs_event", "status", "A status is changed by an event only")
    if task.parent_id == task.id:
        raise _refuse("cycle", "parent_id", "A task cannot be its own parent")
    params = orjson.dumps(task.input_params, option=orjson.OPT_SORT_KEYS)
    if len(params) > settings.TOWER_MAX_PARAMS_BYTES:
        raise _refuse("too_large", "input_params", "Too large", limit=settings.TOWER_MAX_PARAMS_BYTES)
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
        () if item.keys() <= TASK_SHOWN else _unknown(item, TASK_SHOWN),
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
