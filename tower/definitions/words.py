"""The rules and the parameter schema of a definition in a reader's words. No markup."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tower.definitions.jsontext import pretty
from tower.definitions.models import Rules
from tower.definitions.parameters import plain
from tower.schemas import JoinPolicy


def rules(definition: Rules) -> list[tuple[str, str]]:
    return [
        (_("Join"), join(definition.join)),
        (_("Timeout"), timeout(definition.timeout_sec)),
        (_("Retries"), str(definition.max_retries)),
        (_("Cancel grace"), span(definition.cancel_grace_sec)),
    ]


def timeout(seconds: int) -> str:
    return _("%(span)s an attempt") % {"span": span(seconds)} if seconds else _("never")


def span(seconds: int) -> str:
    """30 s · 5 min · 1 h 30 min · 30 d"""
    sizes = ((86_400, _("d")), (3600, _("h")), (60, _("min")), (1, _("s")))
    parts = []
    for size, unit in sizes:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or f"0 {_('s')}"


def join(rule: Mapping[str, Any] | None) -> str:
    """How a task ends by its children."""
    if rule is None:
        return _("the default: one success is enough, unless the actor itself says how it ended")
    said = _policy(rule)
    return f"{said}; {_('as soon as nothing can change it')}" if rule.get("early") else said


def _policy(rule: Mapping[str, Any]) -> str:
    policy = JoinPolicy(rule["policy"])
    percent = rule.get("percent")
    number = f"{percent:g} %" if percent is not None else str(rule.get("count", ""))
    match policy:
        case JoinPolicy.ANY:
            return _("any: one success is enough")
        case JoinPolicy.ALL:
            return _("all: nothing may fail or be cancelled")
        case JoinPolicy.ALL_DONE:
            return _("all_done: success once all have ended, however")
        case JoinPolicy.AT_LEAST:
            return _("at_least: %(number)s must succeed") % {"number": number}
        case JoinPolicy.AT_MOST_FAILED:
            return _("at_most_failed: no more than %(number)s may fail") % {"number": number}


# -- the parameter schema


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: str
    required: bool
    help: str
    #: What else the schema asks, and the default.
    facts: tuple[str, ...]


def parameters(schema: Mapping[str, Any] | None) -> list[Parameter]:
    """The properties of a schema, one line each; what they hold inside stands in the schema's text."""
    properties = (schema or {}).get("properties")
    if schema is None or not isinstance(properties, dict):
        return []
    required = schema.get("required", [])
    resolved = ((name, *plain(one, schema)) for name, one in properties.items())
    return [
        Parameter(
            name=name,
            type=f"{type_word(one)} {_('or')} {_('null')}" if nullable else type_word(one),
            required=name in required,
            help=" · ".join(str(one[key]) for key in ("title", "description") if one.get(key)),
            facts=tuple(_facts(one)),
        )
        for name, one, nullable in resolved
    ]


def type_word(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return _("one of")
    declared = schema.get("type")
    words = {
        "string": _("text"),
        "integer": _("whole number"),
        "number": _("number"),
        "boolean": _("yes or no"),
        "array": _("list"),
        "object": _("object"),
        "null": _("null"),
    }
    if isinstance(declared, list):
        return f" {_('or')} ".join(words.get(one, str(one)) for one in declared)
    return words.get(declared, _("any")) if isinstance(declared, str) else _("any")


def _facts(schema: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(options := schema.get("enum"), list):
        yield _cut(", ".join(one if isinstance(one, str) else json.dumps(one) for one in options))
    bounds = (
        ("minimum", "≥ %s"),
        ("exclusiveMinimum", "> %s"),
        ("maximum", "≤ %s"),
        ("exclusiveMaximum", "< %s"),
        ("minLength", ngettext("at least %s character", "at least %s characters", _n(schema, "minLength"))),
        ("maxLength", ngettext("at most %s character", "at most %s characters", _n(schema, "maxLength"))),
        ("minItems", ngettext("at least %s item", "at least %s items", _n(schema, "minItems"))),
        ("maxItems", ngettext("at most %s item", "at most %s items", _n(schema, "maxItems"))),
        ("multipleOf", _("a multiple of %s")),
        ("format", "%s"),
        ("pattern", _("matches %s")),
    )
    for key, words in bounds:
        if key in schema:
            yield words % schema[key]
    if "default" in schema:
        yield _("default %s") % _cut(json.dumps(schema["default"], ensure_ascii=False))


def _n(schema: Mapping[str, Any], key: str) -> int:
    return int(schema.get(key, 0))


def _cut(text: str) -> str:
    return text if len(text) <= 160 else text[:159] + "…"


def as_text(value: Any) -> str:
    return "" if value is None else pretty(value)


def first_definition(site: str) -> str:
    """What a newcomer may paste."""
    return (
        f"curl -X POST {site}/api/v1/definitions/ \\\n"
        '  -H "Authorization: Bearer $TOWER_TOKEN" -H "Content-Type: application/json" \\\n'
        """  -d '{"id": "hello", "name": "Hello", "actor_type": "AGENT",\n"""
        """       "code_ref": "docker://me/hello:latest",\n"""
        """       "default_params": {"url": "https://example.org"}}'"""
    )
