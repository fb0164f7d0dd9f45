"""What a definition may say, and what the parameters of a run may. Pure: values in, faults out.

A fault is an ordinary answer, so that a form can show all of them beside their
fields; who needs an error raises the first.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import jsonschema_rs
import orjson
from jsonschema_rs import ValidationError, ValidationErrorKind

from tower.definitions import effort
from tower.schemas import ID_PATTERN, RESERVED_IDS, ActorType, JoinPolicy
from tower.wording import Worded, worded, worded_n

MAX_TIMEOUT_SEC = 2_592_000  # 30 days; 0 is never
MAX_RETRIES = 100
MAX_NAME = 200
MAX_PATTERN = 200
#: More errors of one set of parameters help nobody.
MAX_ERRORS = 50

Params: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that count here (``TOWER_MAX_TEXT_BYTES``, ``TOWER_MAX_PARAMS_BYTES``)."""

    text_bytes: int = 4 << 10
    params_bytes: int = 256 << 10


@dataclass(frozen=True, slots=True)
class Fault:
    code: str
    message: str
    field: str
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Unfit(Exception):
    """Inside this module only: how a check says what is wrong with its value."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


Check: TypeAlias = Callable[[Any, Limits], Any]


# -- the fields

_ID_RULE = worded("must be 1-64 of A-Z a-z 0-9 _ . : - and begin with a letter or digit")


def _id(value: Any, limits: Limits) -> str:
    if not isinstance(value, str) or not re.fullmatch(ID_PATTERN.rstrip("$"), value):
        raise Unfit("invalid_id", _ID_RULE)
    if value in RESERVED_IDS:
        raise Unfit("reserved_id", worded("%(id)s is reserved", id=value))
    return value


def _name(value: Any, limits: Limits) -> str:
    if len(text := _string(value).strip()) > MAX_NAME:
        raise Unfit("too_large", _characters(MAX_NAME), limit=MAX_NAME)
    if not text:
        raise Unfit("missing_field", worded("may not be empty"))
    return text


def _text(value: Any, limits: Limits) -> str:
    if len(_string(value).encode()) > limits.text_bytes:
        raise Unfit("too_large", _bytes(limits.text_bytes), limit=limits.text_bytes)
    return str(value)


def _code_ref(value: Any, limits: Limits) -> str:
    if not _string(value).strip():
        raise Unfit("missing_field", worded("may not be empty"))
    return _text(value, limits)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit("invalid_type", worded("must be text"))
    return value


def _actor_type(value: Any, limits: Limits) -> str:
    if not isinstance(value, str) or value not in ActorType.__members__:
        allowed = [kind.value for kind in ActorType]
        raise Unfit("unknown_enum", _one_of(", ".join(allowed)), allowed=allowed)
    return value


def _bool(value: Any, limits: Limits) -> bool:
    if not isinstance(value, bool):
        raise Unfit("invalid_type", worded("must be true or false"))
    return value


def _number_to(most: int) -> Check:
    def check(value: Any, limits: Limits) -> int:
        number = _whole(value)
        if number is None:
            raise Unfit("invalid_type", worded("must be a whole number"))
        if not 0 <= number <= most:
            raise Unfit("number_out_of_range", worded("must be from 0 to %(most)s", most=most), limit=most)
        return number

    return check


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value)


def _object(value: Any, limits: Limits) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit("invalid_type", worded("must be an object"))
    if len(orjson.dumps(value)) > limits.params_bytes:
        raise Unfit("too_large", _bytes(limits.params_bytes), limit=limits.params_bytes)
    return value


def _params_schema(value: Any, limits: Limits) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Unfit("invalid_schema", worded("must be an object"), path="")
    schema = _object(value, limits)
    if too_long := next(_long_patterns(schema, ""), None):
        raise Unfit(
            "invalid_schema",
            worded("%(path)s: a pattern may have %(most)s characters", path=too_long, most=MAX_PATTERN),
            path=too_long,
            limit=MAX_PATTERN,
        )
    try:
        _validator(orjson.dumps(schema))
    except ValidationError as error:
        path = _pointer(error.instance_path)
        said = _what_is_wrong_with(error)
        raise Unfit("invalid_schema", _there(path, said), path=path) from error
    try:
        effort.judged(schema)
    except effort.TooMuch as much:
        raise Unfit("invalid_schema", _there(much.path, much.why), path=much.path) from much
    return schema


def _join(value: Any, limits: Limits) -> dict[str, Any] | None:
    if value is None:
        return None
    try:
        return _read_join(value)
    except Unfit as unfit:
        raise Unfit("invalid_join", unfit.message, **unfit.details) from unfit


#: A field that is absent takes the contract's default; one without default must be there.
CHECKS: Mapping[str, Check] = {
    "id": _id,
    "name": _name,
    "actor_type": _actor_type,
    "code_ref": _code_ref,
    "description": _text,
    "default_params": _object,
    "params_schema": _params_schema,
    "join": _join,
    "timeout_sec": _number_to(MAX_TIMEOUT_SEC),
    "max_retries": _number_to(MAX_RETRIES),
    "cancel_grace_sec": _number_to(MAX_TIMEOUT_SEC),
    "is_active": _bool,
}
REQUIRED = frozenset({"id", "name", "actor_type", "code_ref"})
#: In the DTO, but the tower's to say; sent along without harm.
DERIVED = frozenset({"version", "created_at", "updated_at"})
DEFAULTS: Mapping[str, Any] = {
    "description": "",
    "default_params": {},
    "params_schema": None,
    "join": None,
    "timeout_sec": 300,
    "max_retries": 3,
    "cancel_grace_sec": 30,
    "is_active": True,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a body says of a definition: the values that are fit, and what is wrong with the others."""

    values: Mapping[str, Any]
    faults: tuple[Fault, ...]
    unknown: tuple[str, ...]


def read(body: Mapping[str, Any], limits: Limits, *, whole: bool) -> Reading:
    """``whole`` asks for the required fields and fills in defaults; else only what is there is read."""
    values: dict[str, Any] = dict(DEFAULTS) if whole else {}
    faults = []
    for name in CHECKS:
        if name in body:
            try:
                values[name] = CHECKS[name](body[name], limits)
            except Unfit as unfit:
                faults.append(Fault(unfit.code, unfit.message, name, unfit.details))
        elif whole and name in REQUIRED:
            faults.append(Fault("missing_field", worded("is required"), name))
    unknown = tuple(name for name in body if name not in CHECKS and name not in DERIVED)
    return Reading(values, tuple(faults), unknown)


# -- join

#: Which policies count, and so need a number.
COUNTING = frozenset({JoinPolicy.AT_LEAST, JoinPolicy.AT_MOST_FAILED})


def _read_join(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unfit("", worded("must be an object with a policy"))
    policy = value.get("policy")
    if policy not in [known.value for known in JoinPolicy]:
        allowed = [known.value for known in JoinPolicy]
        said = worded("policy must be one of %(options)s", options=", ".join(allowed))
        raise Unfit("", said, allowed=allowed)
    joined: dict[str, Any] = {"policy": policy, **_threshold(JoinPolicy(policy), value)}
    early = value.get("early", False)
    if not isinstance(early, bool):
        raise Unfit("", worded("early must be true or false"), part="early")
    return {**joined, "early": True} if early else joined


def _threshold(policy: JoinPolicy, value: Mapping[str, Any]) -> dict[str, Any]:
    count, percent = value.get("count"), value.get("percent")
    if count is not None and percent is not None:
        raise Unfit("", worded("count and percent exclude each other"), part="percent")
    if count is None and percent is None:
        if policy in COUNTING:
            raise Unfit("", worded("%(policy)s needs a count or a percent", policy=policy), part="count")
        return {}
    if percent is None:
        number = _whole(count)
        if number is None or number < 1:
            raise Unfit("", worded("count must be a whole number of at least 1"), part="count")
        return {"count": number}
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 < percent <= 100:
        raise Unfit("", worded("percent must be above 0 and at most 100"), part="percent")
    return {"percent": percent}


# -- JSON Schema

#: Where a schema holds other schemas: one, a list of them, or one by name.
_ONE = frozenset(
    {
        "additionalItems",
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    }
)
_LIST = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_NAMED = frozenset(
    {"$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"}
)


def _subschemas(schema: Mapping[str, Any], at: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in schema.items():
        if key in _ONE and isinstance(value, dict):
            yield f"{at}/{key}", value
        elif key in _LIST and isinstance(value, list):
            yield from ((f"{at}/{key}/{n}", one) for n, one in enumerate(value) if isinstance(one, dict))
        elif key in _NAMED and isinstance(value, dict):
            yield from ((f"{at}/{key}/{name}", one) for name, one in value.items() if isinstance(one, dict))


def _long_patterns(schema: Mapping[str, Any], at: str) -> Iterator[str]:
    pattern, named = schema.get("pattern"), schema.get("patternProperties")
    if isinstance(pattern, str) and len(pattern) > MAX_PATTERN:
        yield f"{at}/pattern"
    if isinstance(named, dict) and any(len(name) > MAX_PATTERN for name in named):
        yield f"{at}/patternProperties"
    for below, one in _subschemas(schema, at):
        yield from _long_patterns(one, below)


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> jsonschema_rs.Validator:
    # Offline: by default a `$ref` is fetched over HTTP, and `file:` is read from this machine (measured).
    # RegexOptions: the engine in linear time; the default one backtracks. Linear is not fast: patterns of
    # 200 characters that compile to 1 MiB took 47 us a character, to 256 KiB never more than 1 us (measured).
    return jsonschema_rs.validator_for(
        orjson.loads(schema),
        offline=True,
        validate_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=256 << 10, dfa_size_limit=1 << 20),
    )


@lru_cache(maxsize=256)
def _plan(schema: bytes) -> effort.Plan | None:
    """None of a schema that nobody would take today."""
    try:
        return effort.planned(orjson.loads(schema))
    except effort.TooMuch:
        return None


def _what_is_wrong_with(error: ValidationError) -> str:
    if "meta-schema" in error.message:
        return worded("$schema names no draft of JSON Schema")
    if isinstance(error.kind, ValidationErrorKind.Referencing):
        return worded("each $ref must lead to a place in this schema; nothing is fetched")
    if isinstance(error.kind, ValidationErrorKind.Format):
        return worded(
            "not a pattern that can be matched fast (no look-around, back-references or large repetitions)"
        )
    return error.message[:200]


def _pointer(path: list[str | int]) -> str:
    return "".join(f"/{part}" for part in path)


# -- the parameters of a run


def check_params(schema: Params | None, params: Params) -> list[dict[str, str]]:
    """What is wrong with a run's parameters, each with its dotted path (``""`` is the whole); [] is right."""
    if schema is None:
        return []
    text = orjson.dumps(schema)
    plan = _plan(text)
    work = effort.effort(plan, params) if plan else None
    if work is None or work.steps > effort.MOST_STEPS:
        return [{"path": "", "message": worded("is too much to check against its schema")}]
    validator = _validator(text)
    if validator.is_valid(params):
        return []
    if work.errors > effort.MOST_TOLD:
        said = worded("does not fit its schema, and is too large to say where")
        return [{"path": "", "message": said}]
    errors = [one for error in validator.iter_errors(params) for one in _say(error)]
    return sorted(errors, key=lambda one: one["path"])[:MAX_ERRORS]


def _say(error: ValidationError) -> Iterator[dict[str, str]]:
    kind = error.kind.as_dict()
    match error.kind.name:
        case "required":
            yield _at(error, worded("is required"), kind["property"])
        case "additionalProperties" | "unevaluatedProperties":
            for name in kind["unexpected"]:
                yield _at(error, worded("is not a known parameter"), name)
        case "falseSchema" if error.schema_path[-1:] == ["additionalProperties"]:
            yield _at(error, worded("has a key that is not allowed"))
        case name:
            yield _at(error, _SAID[name](kind) if name in _SAID else error.message[:200])


def _at(error: ValidationError, message: str, *below: str) -> dict[str, str]:
    return {"path": ".".join(str(part) for part in [*error.instance_path, *below]), "message": message}


def _there(path: str, said: str) -> str:
    return worded("%(path)s: %(said)s", path=path, said=said) if path else said


def _characters(most: int) -> Worded:
    return worded_n("must have at most %(n)s character", "must have at most %(n)s characters", most)


def _bytes(most: int) -> Worded:
    return worded("must have at most %(most)s bytes", most=most)


def _one_of(options: str) -> Worded:
    return worded("must be one of %(options)s", options=options)


_TYPES = {
    "string": worded("text"),
    "integer": worded("a whole number"),
    "number": worded("a number"),
    "boolean": worded("true or false"),
    "array": worded("a list"),
    "object": worded("an object"),
    "null": worded("null"),
}


def _typed(types: Iterable[str]) -> Worded:
    said, *others = (_TYPES[name] for name in sorted(types, key="null".__eq__))  # null comes last
    for other in others:
        said = worded("%(one)s or %(other)s", one=said, other=other)
    return worded("must be %(value)s", value=said)


#: The validator's own sentences repeat the value, which may have 256 KiB.
_SAID: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "type": lambda kind: _typed(kind["types"]),
    "enum": lambda kind: _one_of(_shown(kind["options"])[1:-1]),
    "const": lambda kind: worded("must be %(value)s", value=_shown(kind["expected_value"])),
    "minimum": lambda kind: worded("must be at least %(limit)s", **kind),
    "maximum": lambda kind: worded("must be at most %(limit)s", **kind),
    "exclusiveMinimum": lambda kind: worded("must be more than %(limit)s", **kind),
    "exclusiveMaximum": lambda kind: worded("must be less than %(limit)s", **kind),
    "multipleOf": lambda kind: worded("must be a multiple of %(multiple_of)s", **kind),
    "minLength": lambda kind: worded_n(
        "must have at least %(n)s character", "must have at least %(n)s characters", kind["limit"]
    ),
    "maxLength": lambda kind: _characters(kind["limit"]),
    "minItems": lambda kind: worded_n(
        "must have at least %(n)s item", "must have at least %(n)s items", kind["limit"]
    ),
    "maxItems": lambda kind: worded_n(
        "must have at most %(n)s item", "must have at most %(n)s items", kind["limit"]
    ),
    "minProperties": lambda kind: worded_n(
        "must have at least %(n)s key", "must have at least %(n)s keys", kind["limit"]
    ),
    "maxProperties": lambda kind: worded_n(
        "must have at most %(n)s key", "must have at most %(n)s keys", kind["limit"]
    ),
    "uniqueItems": lambda kind: worded("must not name an item twice"),
    "pattern": lambda kind: worded("must match %(pattern)s", **kind),
    "format": lambda kind: worded("must be a valid %(format)s", **kind),
    "falseSchema": lambda kind: worded("is not allowed"),
    "anyOf": lambda kind: worded("fits none of the forms that are allowed"),
    "oneOf": lambda kind: worded("must fit exactly one of the forms that are allowed"),
    "not": lambda kind: worded("has a form that is not allowed"),
    "contains": lambda kind: worded("lacks an item that must be there"),
}


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 200 else text[:199] + "…"
