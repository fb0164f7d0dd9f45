"""Schemas that would keep the checker busy for years are refused, and so are parameters that would."""

from __future__ import annotations

from typing import Any

import pytest

from tower.definitions import effort
from tower.definitions.validation import Limits, check_params, read

BODY = {"id": "crawl", "name": "Crawl", "actor_type": "AGENT", "code_ref": "docker://x/y:1"}
TOO_MUCH = [{"path": "", "message": "is too much to check against its schema"}]


def said_of(schema):
    return [fault.message for fault in read({**BODY, "params_schema": schema}, Limits(), whole=True).faults]


def doubling(levels, word="allOf"):
    steps = {f"d{n}": {word: [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**steps, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def unevaluated(levels):
    schema: dict[str, Any] = {"properties": {"a": {}}}
    for _ in range(levels):
        schema = {"anyOf": [schema], "unevaluatedProperties": False}
    return schema


@pytest.mark.parametrize("word", ["allOf", "anyOf", "oneOf"])
def test_b51_references_that_double_at_each_level_are_refused(word):
    assert said_of(doubling(7, word)) == []
    assert "has more than 1000 ways to one place" in said_of(doubling(18, word))[0]
    assert "leads through more than 100 others to one place" in said_of(doubling(60, word))[0]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (unevaluated(6), "has more than 1000 ways"),
        ({"$ref": "#"}, "leads to itself"),
        ({"not": {"allOf": [{"$ref": "#"}]}}, "leads to itself"),
        ({"$defs": {"a": {"$anchor": "a", "allOf": [{"$ref": "#a"}]}}, "$ref": "#a"}, "leads to itself"),
        ({"$dynamicAnchor": "n", "allOf": [{"$dynamicRef": "#n"}]}, "leads to itself"),
        ({"properties": {"a": {"$id": "other", "type": "string"}}}, "/properties/a: a schema inside may not"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "a reference must begin with #"),
        (
            {"properties": {"a": {"pattern": "(a|b|ab|ba){0,1165}z"}}},
            "not a pattern that can be matched fast",
        ),
        (
            {
                "$defs": {**{f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(3000)}, "d3000": {}},
                "$ref": "#/$defs/d0",
            },
            "leads through more than 100 others",
        ),
    ],
)
def test_b51_what_cannot_be_judged_in_time_is_refused(schema, why):
    assert why in said_of(schema)[0]


@pytest.mark.parametrize(
    "schema",
    [
        unevaluated(2),
        {"$defs": {"n": {"properties": {"below": {"items": {"$ref": "#/$defs/n"}}}}}, "$ref": "#/$defs/n"},
        {"properties": {"again": {"$ref": "#"}}},
        {"$defs": {"y": {"$anchor": "year", "type": "integer"}}, "properties": {"a~/b": {"$ref": "#year"}}},
        {"$id": "https://example.org/x", "$defs": {"i": {"type": "string"}},
         "properties": {"$id": {"type": "string"}, "id": {"$ref": "#/$defs/i"}}},
        {"properties": {"name": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"}}},
        {"oneOf": [{"properties": {"kind": {"const": n}}, "required": [str(n)]} for n in range(200)]},
    ],
)  # fmt: skip
def test_what_people_write_is_taken(schema):
    assert said_of(schema) == []


def test_b49_parameters_that_a_schema_unfolds_without_end_are_refused():
    # Each level of the parameters doubles the ways; the schema alone has three.
    twice = {"allOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}]}
    schema = {"$defs": {"n": {"properties": {"a": twice}}}, "$ref": "#/$defs/n"}
    params: dict[str, Any] = {"a": 1}
    for _ in range(60):
        params = {"a": params}

    assert said_of(schema) == []
    assert check_params(schema, {"a": {"a": 1}}) == []
    assert check_params(schema, params) == TOO_MUCH


def test_b49_a_definition_from_before_the_limit_is_checked_under_it():
    assert check_params(doubling(60), {}) == TOO_MUCH
    assert check_params({"$ref": "https://json-schema.org/draft/2020-12/schema"}, {}) == TOO_MUCH


@pytest.mark.parametrize(
    ("schema", "params"),
    [
        ({"items": {"properties": {f"p{n}": {} for n in range(20_000)}}}, [{}] * 80_000),
        ({"items": {"dependentRequired": {f"p{n}": [] for n in range(15_000)}}}, [{}] * 80_000),
        ({"allOf": [{"pattern": f"(.{{0,10}}){{0,{n}}}z"} for n in range(10)]}, "ab" * 120_000),
        ({"patternProperties": {f"x{n}": {} for n in range(2_000)}}, {str(n): 1 for n in range(30_000)}),
    ],
)
def test_b49_tables_and_patterns_count_as_well(schema, params):
    assert check_params(schema, params) == TOO_MUCH


def test_the_largest_of_ordinary_parameters_are_checked():
    schema = {"properties": {"pages": {"items": {"type": "integer"}}, "text": {"pattern": "^a"}}}

    assert check_params(schema, {"pages": [1] * 100_000, "text": "a" * 100_000}) == []
    assert check_params(schema, {"pages": ["x"] * 100_000}) == [
        {"path": "", "message": "does not fit its schema, and is too large to say where"}
    ]
    assert check_params(schema, {"pages": [1] * 5_000 + ["x"]})[0]["path"] == "pages.5000"


@pytest.mark.parametrize(
    ("schema", "params", "least"),
    [
        ({"properties": {"a": {"type": "string"}}}, {"a": "x"}, 2),
        ({"items": {"allOf": [{}, {}]}}, [1, 2, 3], 1 + 3 * 3),
        ({"prefixItems": [{}, {}], "items": {}}, [1, 2, 3], 1 + 2 + 3),
        ({"additionalProperties": {}, "properties": {"a": {}}, "propertyNames": {}}, {"a": 1, "b": 2}, 5),
        ({"unevaluatedProperties": {}, "allOf": [{}]}, {"a": 1}, 1 + 4 + 4),
        ({"if": {}, "then": {}, "else": {}, "not": {}, "dependentSchemas": {"a": {}}}, {}, 6),
        ({"contains": {"$ref": "#/$defs/a/0"}, "$defs": {"a": [{}]}}, [1, 2], 1 + 2 * 2),
    ],
)  # fmt: skip
def test_a_step_is_a_schema_at_a_place(schema, params, least):
    assert effort.effort(effort.planned(schema), params).steps == least


def test_b51_a_schema_of_many_names_is_read_in_one_go():
    anchors = {f"d{n}": {"$anchor": f"a{n}", "type": "string"} for n in range(3_000)}
    refs = {f"p{n}": {"$ref": f"#a{n}"} for n in range(3_000)}

    assert said_of({"$defs": anchors, "properties": refs}) == []


def test_an_anchor_in_a_default_is_data():
    assert said_of({"default": {"$anchor": {}}, "$defs": {"a": {"$anchor": "x"}}, "$ref": "#x"}) == []
