"""The OpenAPI document: one row for each call, the DTOs from pydantic, the one envelope of errors.

drf-spectacular walks the URL patterns; what it would guess from serializers,
which there are none of, stands in ``CALLS``. A call without a row fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.urls import resolve
from drf_spectacular.openapi import AutoSchema
from pydantic.json_schema import models_json_schema

from instances.lifecycle import Verdict
from instances.reasons import Cause
from tower import schemas
from tower.schemas import RESERVED_IDS, ActorType, ControlAction, TaskEventType, TaskInstanceStatus

Json = dict[str, Any]

#: Every code that an answer or a refused item may carry, in words.
CODES: Mapping[str, str] = {
    "already_ended": "nothing below this place is open any more",
    "ambiguous_task": "the id occurs in several traces; name one with ?trace_id=",
    "attempt_out_of_range": "attempt is a whole number from 1 on",
    "backpressure": "too many reports are under way; send again",
    "bad_request": "the request is malformed",
    "batch_too_large": "details.limit says how many items are taken",
    "body_too_large": "details.limit says how many bytes are taken",
    "cancelled": "a CANCEL is in force here",
    "conflict": "the id stands for something else already",
    "csrf_failed": "a session needs Django's CSRF token",
    "cycle": "the parent stands below the task",
    "database_busy": "send again",
    "database_unavailable": "send again",
    "definition_inactive": "no run of it may be started",
    "forbidden": "details.needs says which scope or role is lacking",
    "immutable": "the field of a definition that never changes",
    "internal": "our fault; details.request_id finds it in the log",
    "invalid_body": "the body has another shape",
    "invalid_cursor": "the cursor is cut, altered or of another list",
    "invalid_id": "an id has 1-64 characters of A-Z a-z 0-9 _ . : - and begins with a letter or digit",
    "invalid_join": "the rule by which children end their parent is none",
    "invalid_json": "details.offset says where",
    "invalid_labels": "at most 16 pairs of text",
    "invalid_params": "details.errors says where the definition's schema refuses them",
    "invalid_query": "the parameter details.field",
    "invalid_schema": "params_schema is no JSON Schema that is taken here",
    "invalid_string": "a NUL or half a surrogate pair",
    "invalid_token": "unknown, expired, revoked or mistyped",
    "invalid_type": "the field has another type",
    "method_not_allowed": "see Allow",
    "missing_field": "details.field is required",
    "not_acceptable": "answers are application/json",
    "not_an_aggregator": "the task collects nothing",
    "not_authenticated": "send a token, or sign in",
    "not_found": "there is no such thing",
    "not_paused_here": "details.held_by is the ancestor that holds",
    "number_out_of_range": "not finite, or beyond what the field takes",
    "parent_conflict": "the task was registered below another parent",
    "path_too_deep": "a tree has 1,000 levels",
    "query_timeout": "ask for less",
    "rate_limited": "see Retry-After",
    "request_timeout": "the body took too long to arrive",
    "reserved_id": f"{', '.join(sorted(RESERVED_IDS))} is no id",
    "second_root": "the trace has a root already",
    "status_needs_event": "a status is reported, not registered",
    "storage_full": "nothing was stored",
    "timestamp_out_of_range": "milliseconds from 1970 to 9999",
    "too_deep": "nested too deeply",
    "too_large": "the field details.field",
    "too_many_deliveries": "a queue entry that never came back from its consumers; a dead letter",
    "trace_gone": "the trace was pruned",
    "tree_too_large": "a tree has 1,000,000 tasks",
    "unavailable": "not stored; send again",
    "unknown_enum": "details.allowed says which values there are",
    "unsupported_encoding": "send the body as it is, or packed once by gzip or zstd",
    "invalid_encoding": "the body is cut off, damaged, or goes on behind its end",
    "unsupported_media_type": "send application/json in UTF-8",
}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def listed(items: Json) -> Json:
    return {"type": "array", "items": items}


def one_of(values: Any) -> Json:
    return {"type": "string", "enum": [str(value) for value in values]}


def thing(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Json:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def maybe(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def paged(items: Json) -> Json:
    link = maybe({"type": "string", "format": "uri"})
    return thing({"results": listed(items), "next": link, "previous": link})


def or_list(item: Json) -> Json:
    return {"oneOf": [item, {**listed(item), "maxItems": 10_000}]}


TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer"}
COUNT: Json = {"type": "integer", "minimum": 0}
BOOL: Json = {"type": "boolean"}
FREE: Json = {"type": "object", "additionalProperties": True}
TIME: Json = {"type": "string", "format": "date-time"}
ID: Json = {"type": "string", "pattern": schemas.ID_PATTERN}
LABELS: Json = {"type": "object", "additionalProperties": TEXT, "maxProperties": 16}
ACTION = one_of(ControlAction)
STATUS = one_of(TaskInstanceStatus)
INTENTS = listed(FREE)


@dataclass(frozen=True, slots=True)
class Call:
    """What the document says of one method of one URL."""

    does: str
    answers: Mapping[int, Json]
    body: Json | None = None
    query: Mapping[str, Json] = field(default_factory=dict)
    refused: tuple[int, ...] = ()


PAGED: Mapping[str, Json] = {
    "cursor": TEXT,
    "limit": {"type": "integer", "minimum": 1, "default": 50, "description": "cut at 500"},
}
IN_TRACE: Mapping[str, Json] = {"trace_id": ID}
FIELDS: Json = {"type": "string", "description": "only these fields: names with commas between them"}
OF_THE_LOG: Mapping[str, Json] = {
    "verdict": one_of(verdict.name.lower() for verdict in Verdict),
    "origin": one_of(["actor", "tower"]),
    "event_type": one_of(TaskEventType),
}

#: By the name of the URL pattern and the method; 401, 403, 406, 429, 500 and 503 are everybody's.
CALLS: Mapping[tuple[str, str], Call] = {
    ("definitions", "GET"): Call(
        "List definitions",
        {200: paged(ref("Definition"))},
        query={**PAGED, "is_active": one_of(["true", "false"]), "actor_type": one_of(ActorType)},
        refused=(400,),
    ),
    ("definitions", "POST"): Call(
        "Create a definition; the same body again answers 200",
        {201: ref("Definition"), 200: ref("Definition")},
        body=ref("NewDefinition"),
        refused=(400, 409, 413, 415),
    ),
    ("definition", "GET"): Call("Read a definition", {200: ref("Definition")}, refused=(400, 404)),
    ("definition", "PATCH"): Call(
        "Change some fields, or deactivate it; each change makes a version",
        {200: ref("Definition")},
        body=FREE,
        refused=(400, 404, 409, 413, 415),
    ),
    ("definition", "PUT"): Call(
        "Replace all fields but the id; each change makes a version",
        {200: ref("Definition")},
        body=ref("NewDefinition"),
        refused=(400, 404, 409, 413, 415),
    ),
    ("traces", "GET"): Call(
        "List runs, newest first",
        {200: paged(ref("TraceSummary"))},
        query={
            **PAGED,
            "status": STATUS,
            "job_id": ID,
            "label": {"type": "string", "description": "key:value; may be repeated"},
            "q": {"type": "string", "maxLength": 200, "description": "prefix of the trace id or the name"},
            "created_after": TIME,
            "created_before": TIME,
        },
        refused=(400,),
    ),
    ("traces", "POST"): Call(
        "Start a run; the same trace_id and body again answers 200 with the run there is",
        {201: ref("StartedRun"), 200: ref("StartedRun")},
        body=thing(
            {"job_id": ID},
            {"input_params": FREE, "trace_id": ID, "task_id": ID, "split_count": COUNT, "labels": LABELS},
        ),
        refused=(400, 404, 409, 413, 415),
    ),
    ("trace", "GET"): Call("Read the summary of a run", {200: ref("TraceSummary")}, refused=(400, 404)),
    ("tree", "GET"): Call(
        "Read the tree in pre-order, a page at a time",
        {
            200: thing(
                {"trace_id": ID, "seq": COUNT, "nodes": listed(ref("Node")), "total": COUNT},
                {"intents": INTENTS},
            )
        },
        query={
            "root": {**ID, "description": "only the subtree of this task"},
            "depth": {**COUNT, "description": "so many levels below the root"},
            "after": {**ID, "description": "continue behind this task"},
            "limit": {"type": "integer", "minimum": 1, "default": 10_000},
            "fields": FIELDS,
        },
        refused=(400, 404),
    ),
    ("changes", "GET"): Call(
        "Read the nodes that changed after a seq",
        {
            200: thing(
                {},
                {"seq": COUNT, "nodes": listed(ref("Node")), "more": BOOL, "reset": BOOL, "intents": INTENTS},
            )
        },
        query={"since": COUNT},
        refused=(400, 404),
    ),
    ("snapshot", "GET"): Call(
        "Read the tree by columns, as the browser does", {200: FREE}, refused=(400, 404)
    ),
    ("trace-events", "GET"): Call(
        "Read the event log of a run, in order of receipt",
        {200: paged(ref("LoggedEvent"))},
        query={**PAGED, **OF_THE_LOG, "task_id": ID},
        refused=(400, 404),
    ),
    ("tasks", "POST"): Call(
        "Register tasks; repeating it changes nothing",
        {201: ref("Registered"), 207: ref("Registered")},
        body=or_list(ref("NewTask")),
        refused=(400, 413, 415),
    ),
    ("task", "GET"): Call(
        "Read one task",
        {200: ref("Task")},
        query={**IN_TRACE, "fields": FIELDS},
        refused=(400, 404, 409),
    ),
    ("task-events", "GET"): Call(
        "Read the event log of a task, in order of receipt",
        {200: paged(ref("LoggedEvent"))},
        query={**PAGED, **OF_THE_LOG, **IN_TRACE},
        refused=(400, 404, 409),
    ),
    ("aggregation", "GET"): Call(
        "Read what an aggregator has collected",
        {200: ref("AggregationContext")},
        query={**IN_TRACE, "after": ID, "limit": {"type": "integer", "minimum": 1, "default": 500}},
        refused=(400, 404, 409),
    ),
    ("command", "GET"): Call(
        "Read the command in force for a task",
        {200: thing({"action": ACTION, "control_id": maybe(ID)})},
        query=IN_TRACE,
        refused=(400, 404, 409),
    ),
    ("events", "POST"): Call(
        "Report; repeating it changes nothing",
        {200: ref("Reported"), 207: ref("Reported")},
        body=or_list(ref("TaskEvent")),
        refused=(400, 413, 415),
    ),
    ("controls", "GET"): Call(
        "Read the audit of controls, newest first",
        {200: paged(ref("Control"))},
        query={**PAGED, **IN_TRACE, "action": ACTION, "triggered_by": TEXT, "outcome": TEXT},
        refused=(400,),
    ),
    ("controls", "POST"): Call(
        "Ask for RUN, PAUSE or CANCEL; the same id and body again answers 200 and does nothing",
        {201: ref("Control"), 200: ref("Control")},
        body=thing(
            {"trace_id": ID, "action": ACTION},
            {"id": ID, "task_id": maybe(ID), "reason": TEXT, "triggered_by": TEXT},
        ),
        refused=(400, 404, 409, 413, 415),
    ),
    ("control", "GET"): Call("Read one control", {200: ref("Control")}, refused=(400, 404)),
    ("schema", "GET"): Call("Read this document", {200: FREE}, refused=()),
}

EVERYBODYS = (401, 403, 406, 429, 500, 503)

ERROR = thing({"code": one_of(CODES), "message": TEXT, "details": FREE})
WARNINGS = listed(thing({"index": COUNT, "code": TEXT, "field": TEXT}))

OWN: Mapping[str, Json] = {
    "Problem": {
        **ERROR,
        "description": "\n".join(f"* `{code}`: {meaning}" for code, meaning in CODES.items()),
    },
    "Error": thing({"error": ref("Problem")}),
    "Definition": {
        "allOf": [
            ref("TaskDefinition"),
            thing({}, {"version": COUNT, "updated_at": TIME, "warnings": WARNINGS}),
        ]
    },
    "NewDefinition": thing(
        {"id": ID, "name": TEXT, "actor_type": one_of(ActorType), "code_ref": TEXT},
        {
            "default_params": FREE,
            "timeout_sec": COUNT,
            "max_retries": COUNT,
            "is_active": BOOL,
            "description": TEXT,
            "params_schema": maybe(FREE),
            "join": maybe(ref("Join")),
            "cancel_grace_sec": COUNT,
        },
    ),
    "Node": {
        "allOf": [
            ref("TaskInstance"),
            thing(
                {},
                {
                    "name": maybe(TEXT),
                    "labels": LABELS,
                    "collects": {},
                    "reported_status": maybe(STATUS),
                    "attempt": COUNT,
                    "progress": maybe({"type": "number"}),
                    "message": maybe(TEXT),
                    "registered": BOOL,
                    "attached": BOOL,
                    "asked": ACTION,
                    "holds": BOOL,
                    "job_version": maybe(COUNT),
                    "n": COUNT,
                    "rev": COUNT,
                },
            ),
        ]
    },
    "NewTask": thing(
        {"id": ID, "trace_id": ID, "job_id": ID},
        {
            "parent_id": maybe(ID),
            "actor_type": maybe(one_of(ActorType)),
            "status": one_of(["PENDING"]),
            "split_count": COUNT,
            "input_params": FREE,
            "name": maybe(TEXT),
            "labels": LABELS,
            "collects": {},
        },
    ),
    "RefusedItem": thing({"index": COUNT, "error": ref("Problem")}, {"id": {}, "event_id": {}}),
    "Registered": thing(
        {
            "results": listed(
                thing(
                    {
                        "id": ID,
                        "trace_id": ID,
                        "status": STATUS,
                        "node_path": TEXT,
                        "depth": COUNT,
                        "created": BOOL,
                        "command": ACTION,
                    }
                )
            ),
            "rejected": listed(ref("RefusedItem")),
        },
        {"warnings": WARNINGS, "error": ref("Problem")},
    ),
    "Reported": thing(
        {
            "accepted": COUNT,
            "duplicates": COUNT,
            "rejected": listed(ref("RefusedItem")),
            "commands": {"type": "object", "additionalProperties": ACTION},
        },
        {"warnings": WARNINGS, "error": ref("Problem")},
    ),
    "StartedRun": thing({"trace_id": ID, "root_task_id": ID}),
    "TraceSummary": thing(
        {"trace_id": ID, "status": STATUS, "open": COUNT, "seq": COUNT, "root_task_id": maybe(ID)}
    ),
    "Task": {
        "allOf": [
            ref("Node"),
            thing({"attempts": listed(ref("Attempt")), "attempts_left_out": COUNT}),
        ]
    },
    "Attempt": thing(
        {
            "attempt": COUNT,
            "status": STATUS,
            "started_at": maybe(TIME),
            "finished_at": maybe(TIME),
            "ending": maybe(one_of(["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"])),
            "origin": maybe(one_of(["actor", "tower"])),
            "reported_status": maybe(STATUS),
            "timed_out_at": maybe(TIME),
            "worker": maybe(TEXT),
            "output_ref": maybe(TEXT),
            "error_code": maybe(TEXT),
            "error_msg": maybe(TEXT),
            "reports": COUNT,
            "counted": BOOL,
        }
    ),
    "LoggedEvent": {
        "allOf": [
            ref("TaskEvent"),
            thing(
                {
                    "origin": one_of(["actor", "tower"]),
                    "verdict": one_of(verdict.name.lower() for verdict in Verdict),
                    "reason": maybe(
                        thing({"code": one_of(Cause), "message": TEXT, "at": maybe(TIME)}),
                    ),
                    "attempt": maybe(COUNT),
                    "received_at": TIME,
                    "skew_ms": NUMBER,
                    "warnings": listed({}),
                }
            ),
        ]
    },
    "Control": {
        "allOf": [
            ref("ControlEvent"),
            thing(
                {"affected": FREE, "delivered": BOOL},
                {"reason": TEXT, "on_behalf_of": maybe(TEXT), "outcome": TEXT, "number": maybe(NUMBER)},
            ),
        ]
    },
}

DTOS = (
    schemas.TaskDefinition,
    schemas.TaskInstance,
    schemas.ControlEvent,
    schemas.TaskEvent,
    schemas.AggregationContext,
)


class TowerSchema(AutoSchema):
    """Writes an operation from its row in ``CALLS``."""

    def get_operation(
        self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any
    ) -> Json | None:
        name = resolve(path.replace("{", "").replace("}", "")).url_name or ""
        call = CALLS.get((name, method))
        if call is None:
            raise ImproperlyConfigured(f"{method} {path} ({name}) has no row in tower.openapi.CALLS.")
        operation: Json = {
            "operationId": f"{method.lower()}-{name}",
            "summary": call.does,
            "tags": [path.split("/")[3]],
            "security": [{"bearer": []}, {"session": []}],
            "parameters": [*_in_path(path), *_in_query(call.query)],
            "responses": _responses(call),
        }
        if call.body is not None:
            content: Json = {"application/json": {"schema": call.body}}
            if _batch(call) is not None:
                said = "An item a line; `rejected` numbers them by their lines, from 0."
                content["application/x-ndjson"] = {"schema": {"type": "string", "description": said}}
            operation["requestBody"] = {"required": True, "content": content}
        return operation


def _in_path(path: str) -> list[Json]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"in": "path", "name": name, "required": True, "schema": ID} for name in names]


def _in_query(query: Mapping[str, Json]) -> list[Json]:
    return [{"in": "query", "name": name, "schema": schema} for name, schema in query.items()]


def _batch(call: Call) -> Json | None:
    """The answer of a call that takes several items."""
    return next((s for s in call.answers.values() if s in (ref("Registered"), ref("Reported"))), None)


def _responses(call: Call) -> Json:
    found = {str(status): _answer(status, schema) for status, schema in call.answers.items()}
    batch = _batch(call)
    for status in sorted({*call.refused, *EVERYBODYS}):
        # A batch of which nothing was taken says so beside the usual keys.
        both = {"anyOf": [ref("Error"), batch]} if batch and status in {400, 503} else ref("Error")
        found[str(status)] = _answer(status, both)
    return found


def _answer(status: int, schema: Json) -> Json:
    return {"description": HTTPStatus(status).phrase, "content": {"application/json": {"schema": schema}}}


def complete(result: Json, generator: Any, request: Any, public: bool) -> Json:
    """drf-spectacular's last hook: what the operations refer to."""
    _, found = models_json_schema(
        [(dto, "validation") for dto in DTOS], ref_template="#/components/schemas/{model}"
    )
    result["components"] = {
        "schemas": dict(sorted({**found["$defs"], **OWN}.items())),
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "manage.py create_token"},
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": "tower_session",
                "description": "A signed-in browser; what changes something needs X-CSRFToken too.",
            },
        },
    }
    return result
