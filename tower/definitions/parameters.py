"""Fields out of a parameter schema, and parameters out of what was filled in. No request, no model.

Only what a field can carry becomes one, an object of known members a group of
them; every other property is a small JSON text, and keys that the schema does
not name are kept together in another. So any parameters can be shown as a
form, and back, without a loss.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from django.utils.translation import gettext as _

from tower.definitions.jsontext import BadJSON, pretty, read_json, read_object
from tower.language import translated

Schema = Mapping[str, Any]

#: Names of fields: a parameter's cannot be mistaken for one of the page's own.
PREFIX = "p:"
OTHERS = "others"
#: More options than a list shows well; such an enum is a JSON text.
MAX_OPTIONS = 200
LONG_TEXT = 120
#: Groups in groups, and fields in groups altogether; beyond either an object is a JSON text.
DEEPEST, MOST_INNER = 3, 100


class Kind(StrEnum):
    TEXT = "text"
    LONG = "long"
    DATE = "date"
    WHOLE = "whole"
    NUMBER = "number"
    YES_NO = "yes_no"
    ONE_OF = "one_of"
    SOME_OF = "some_of"
    LINES = "lines"
    GROUP = "group"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Option:
    value: str  # as JSON
    label: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: Kind
    title: str
    help: str = ""
    required: bool = False
    text: str = ""
    checked: bool = False
    options: tuple[Option, ...] = ()
    errors: tuple[str, ...] = ()
    #: Blank stands for null here.
    nullable: bool = False
    #: Something stood here before, so that blank means "empty" and not "left out".
    prefilled: bool = False
    #: Of a group; ``above`` are the names of the groups that a field is in.
    fields: tuple[Field, ...] = ()
    above: tuple[str, ...] = ()
    #: Its place in the form: 3, or 3-0 for the first field of the fourth one.
    at: str = ""

    @property
    def key(self) -> str:
        # A name may have a slash in it, and may not be taken for a field of a group then.
        inside = (name.replace("~", "~0").replace("/", "~1") for name in (*self.above, self.name))
        return PREFIX + ("/".join(inside) if self.above else self.name.replace("/", "~1"))

    @property
    def sound(self) -> bool:
        return not self.errors and all(field.sound for field in self.fields)


class Posted(Protocol):
    """What is read of a ``QueryDict``."""

    def get(self, key: str, default: str) -> Any: ...
    def getlist(self, key: str) -> list[Any]: ...

    def __contains__(self, key: object) -> bool: ...


# -- from a schema


def fields(schema: Schema | None, params: Mapping[str, Any]) -> tuple[Field, ...]:
    """One field for each property of the schema, filled with ``params``; none where it names no property."""
    return () if schema is None else _Reader(schema).fields(schema, params)


class _Reader:
    """One schema; ``left`` is how many fields may still stand in groups."""

    def __init__(self, root: Schema) -> None:
        self.root, self.left = root, MOST_INNER

    def fields(
        self, schema: Schema, params: Mapping[str, Any], above: tuple[str, ...] = (), at: str = ""
    ) -> tuple[Field, ...]:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return ()
        required = schema.get("required", [])
        return tuple(
            self._field(
                replace(_field(name, *straight, required=name in required), above=above, at=f"{at}{n}"),
                straight[0],
                params[name] if name in params else _default(one),
            )
            for n, (name, one) in enumerate(properties.items())
            for straight in (plain(one, self.root),)
        )

    def _field(self, field: Field, schema: Schema, value: Any) -> Field:
        if field.kind is not Kind.JSON or not self._fits(field, schema, value):
            return _filled_with(field, value)
        self.left -= len(schema["properties"])
        inner = value if isinstance(value, dict) else {}
        group = replace(field, kind=Kind.GROUP, prefilled=value is not NOTHING)
        return replace(group, fields=self.fields(schema, inner, (*field.above, field.name), f"{field.at}-"))

    def _fits(self, field: Field, schema: Schema, value: Any) -> bool:
        """Whether a group of fields can carry it: an object of these members, no others, or none."""
        members = schema.get("properties")
        if schema.get("type") != "object" or not isinstance(members, dict) or not members:
            return False
        if len(field.above) >= DEEPEST or len(members) > self.left:
            return False
        return (
            value is NOTHING
            or (value is None and field.nullable)
            or (isinstance(value, dict) and value.keys() <= members.keys())
        )


def others(schema: Schema | None, params: Mapping[str, Any]) -> str:
    """The parameters that have no field, as JSON text; empty where there are none."""
    properties = (schema or {}).get("properties") or {}
    rest = {name: value for name, value in params.items() if name not in properties}
    return pretty(rest) if rest else ""


class _Nothing:
    """There is no value; null would be one."""


NOTHING = _Nothing()


def _default(schema: Any) -> Any:
    return schema.get("default", NOTHING) if isinstance(schema, dict) else NOTHING


def plain(schema: Any, root: Schema, *, detours: int = 8) -> tuple[Schema, bool]:
    """A property without its detours (``$ref`` into the schema, "or null"), and whether it takes null."""
    found = schema if isinstance(schema, dict) and detours else {}
    if isinstance(reference := found.get("$ref"), str):
        found = {**_at(reference, root), **found}
    for union in ("anyOf", "oneOf"):
        options = found.get(union)
        if isinstance(options, list) and {"type": "null"} in options and len(options) == 2:
            other = options[1 - options.index({"type": "null"})]
            straight = plain(other, root, detours=detours - 1)[0]
            return {**straight, **{k: v for k, v in found.items() if k != union}}, True
    types = found.get("type")
    if isinstance(types, list) and "null" in types and len(types) == 2:
        return {**found, "type": next(t for t in types if t != "null")}, True
    return found, False


def _at(reference: str, root: Schema) -> Schema:
    here: Any = root
    for part in reference.removeprefix("#").split("/")[1:]:
        here = here.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(here, dict) else None
    return here if isinstance(here, dict) and reference.startswith("#") and here is not root else {}


def _field(name: str, schema: Schema, nullable: bool, *, required: bool) -> Field:
    title, text = schema.get("title"), schema.get("description")
    kind, options = _kind(schema)
    if kind is Kind.YES_NO and nullable:
        kind, options = Kind.ONE_OF, (Option("true", "true"), Option("false", "false"))
    return Field(
        name=name,
        kind=kind,
        title=title if isinstance(title, str) and title else name,
        help=text if isinstance(text, str) else "",
        required=required,
        options=options,
        nullable=nullable,
    )


_BY_TYPE: Mapping[str, Kind] = {
    "string": Kind.TEXT,
    "integer": Kind.WHOLE,
    "number": Kind.NUMBER,
    "boolean": Kind.YES_NO,
}


def _kind(schema: Schema) -> tuple[Kind, tuple[Option, ...]]:
    if options := _options(schema):
        return Kind.ONE_OF, options
    declared = schema.get("type")
    if declared == "array" and isinstance(items := schema.get("items"), dict):
        if some := _options(items):
            return Kind.SOME_OF, some
        # A pattern may want line breaks inside of an item; then lines are not enough.
        return (
            Kind.LINES
            if items.keys() <= {"type", "title", "description"} and items.get("type") == "string"
            else Kind.JSON
        ), ()
    if declared == "string" and schema.get("format") == "date":
        return Kind.DATE, ()
    if declared == "string" and isinstance(most := schema.get("maxLength"), int) and most > LONG_TEXT:
        return Kind.LONG, ()
    return _BY_TYPE.get(declared, Kind.JSON) if isinstance(declared, str) else Kind.JSON, ()


def _options(schema: Schema) -> tuple[Option, ...]:
    values = schema.get("enum")
    if not isinstance(values, list) or len(values) > MAX_OPTIONS:
        return ()
    return tuple(
        Option(_compact(value), value if isinstance(value, str) else _compact(value)) for value in values
    )


# -- filled in


def _filled_with(field: Field, value: Any) -> Field:
    """The field with a value in it; as JSON text where its kind cannot carry that value."""
    if value is NOTHING:
        return field
    if (value is None and field.nullable) or (field.kind is not Kind.JSON and _carries(field, value)):
        return replace(_with(field, value), prefilled=True)
    return replace(field, kind=Kind.JSON, options=(), text=pretty(value), prefilled=True)


def _carries(field: Field, value: Any) -> bool:
    match field.kind:
        case Kind.TEXT | Kind.DATE:
            return isinstance(value, str) and "\n" not in value
        case Kind.LONG:
            return isinstance(value, str)
        case Kind.YES_NO:
            return isinstance(value, bool)
        case Kind.WHOLE | Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Kind.ONE_OF:
            return _compact(value) in {option.value for option in field.options}
        case Kind.SOME_OF:
            known = {option.value for option in field.options}
            return isinstance(value, list) and {_compact(one) for one in value} <= known
        case Kind.LINES:
            return isinstance(value, list) and all(
                isinstance(one, str) and one.splitlines() == [one] for one in value
            )
        case _:
            return False


def _with(field: Field, value: Any) -> Field:
    match field.kind:
        case Kind.YES_NO:
            return replace(field, checked=bool(value))
        case Kind.ONE_OF:
            return _choosing(field, {_compact(value)})
        case Kind.SOME_OF:
            return _choosing(field, {_compact(one) for one in value or []})
        case Kind.LINES:
            return replace(field, text="\n".join(value or []))
        case Kind.WHOLE | Kind.NUMBER:
            return replace(field, text="" if value is None else _compact(value))
        case _:
            return replace(field, text="" if value is None else value)


def _choosing(field: Field, chosen: set[str]) -> Field:
    return replace(field, options=tuple(replace(o, chosen=o.value in chosen) for o in field.options))


# -- out of a form


@dataclass(frozen=True, slots=True)
class Filled:
    """What a form was filled with: the parameters, and the fields as they were left, faults beside them."""

    params: dict[str, Any]
    fields: tuple[Field, ...]
    others: str = ""
    others_errors: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.others_errors and all(field.sound for field in self.fields)


def fill(prepared: tuple[Field, ...], posted: Posted) -> Filled:
    """Read a posted form of those fields."""
    params: dict[str, Any] = {}
    left = []
    for field in prepared:
        shown, value = _read(field, posted)
        if value is not NOTHING:
            params[field.name] = value
        left.append(shown)
    text = str(posted.get(OTHERS, ""))
    try:
        rest = read_object(text) if text.strip() else {}
    except BadJSON as bad:
        return Filled(params, tuple(left), text, (str(bad),))
    return Filled({**rest, **params}, tuple(left), text)


def _read(field: Field, posted: Posted) -> tuple[Field, Any]:
    """The field as it was left, and what it says: nothing where that is no value."""
    if field.kind is Kind.GROUP:
        return _read_group(field, posted)
    shown = _as_posted(field, posted)
    try:
        return shown, _value(shown)
    except BadJSON as bad:
        return replace(shown, errors=(str(bad),)), NOTHING


def _read_group(field: Field, posted: Posted) -> tuple[Field, Any]:
    read = [_read(inner, posted) for inner in field.fields]
    shown = replace(field, fields=tuple(inner for inner, _value in read))
    members = {inner.name: value for inner, value in read if value is not NOTHING}
    if members or (field.required and not field.nullable):
        return shown, members
    if not field.prefilled:
        return shown, NOTHING
    return shown, None if field.nullable else members


def blame(filled: Filled, errors: list[dict[str, str]]) -> tuple[Filled, list[dict[str, str]]]:
    """Put what is wrong beside the fields it is about; the second part is what no field is to blame for."""
    by_field: dict[str, list[str]] = {}
    homeless = []
    for error in errors:
        home, below = _home(filled.fields, error["path"])
        if home is None:
            homeless.append(error)
        else:
            by_field.setdefault(home.key, []).append(f"{below} {translated(error['message'])}".strip())
    return replace(filled, fields=_marked(filled.fields, by_field)), homeless


def _home(known: tuple[Field, ...], path: str) -> tuple[Field | None, str]:
    """The innermost field that a path leads to, and the rest of the path."""
    for field in sorted(known, key=lambda field: -len(field.name)):
        if path == field.name or path.startswith(field.name + "."):
            below = path.removeprefix(field.name).removeprefix(".")
            inner, rest = _home(field.fields, below)
            return (field, below) if inner is None else (inner, rest)
    return None, path


def _marked(fields: tuple[Field, ...], errors: Mapping[str, list[str]]) -> tuple[Field, ...]:
    return tuple(
        replace(
            field,
            errors=(*field.errors, *errors.get(field.key, ())),
            fields=_marked(field.fields, errors),
        )
        for field in fields
    )


def _as_posted(field: Field, posted: Posted) -> Field:
    if field.kind is Kind.YES_NO:
        return replace(field, checked=field.key in posted)
    if field.kind in {Kind.ONE_OF, Kind.SOME_OF}:
        return _choosing(field, set(posted.getlist(field.key)))
    return replace(field, text=str(posted.get(field.key, "")).replace("\r\n", "\n"))


def _value(field: Field) -> Any:
    match field.kind:
        case Kind.YES_NO:
            return field.checked if field.checked or field.prefilled or field.required else NOTHING
        case Kind.SOME_OF:
            chosen = [json.loads(option.value) for option in field.options if option.chosen]
            return chosen if chosen or field.prefilled or field.required else NOTHING
        case Kind.ONE_OF:
            chosen = [json.loads(option.value) for option in field.options if option.chosen]
            return chosen[0] if chosen else _blank(field)
        case Kind.LINES:
            lines = [line for line in field.text.split("\n") if line.strip()]
            return lines if lines or field.prefilled or field.required else NOTHING
        case Kind.TEXT | Kind.LONG | Kind.DATE if field.text or (field.prefilled and not field.nullable):
            return field.text
    if not field.text.strip():
        return _blank(field)
    return _number(field) if field.kind in {Kind.WHOLE, Kind.NUMBER} else read_json(field.text)


def _blank(field: Field) -> Any:
    if not field.prefilled:
        return NOTHING
    if field.nullable:
        return None
    if field.above:
        # A group takes the place of its default whole, so this member is really left out.
        return NOTHING
    # Left out, the default would be used, which is not what an emptied field asks for.
    raise BadJSON(_("may not be empty"))


def _number(field: Field) -> Any:
    try:
        value = read_json(field.text.strip())
    except BadJSON:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadJSON(_("must be a whole number") if field.kind is Kind.WHOLE else _("must be a number"))
    return value


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
