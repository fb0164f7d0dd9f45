from __future__ import annotations

import pytest

from tower.definitions.validation import Limits, check_params, read

LIMITS = Limits()
BODY = {"id": "crawl", "name": "Crawl", "actor_type": "AGENT", "code_ref": "docker://x/y:1"}


def faults_of(**said):
    body = {name: value for name, value in {**BODY, **said}.items() if value is not ...}
    return [(fault.field, fault.code) for fault in read(body, LIMITS, whole=True).faults]


def join_of(join):
    return read({**BODY, "join": join}, LIMITS, whole=True)


def test_a_small_body_takes_the_defaults_of_the_contract():
    reading = read(BODY, LIMITS, whole=True)

    assert reading.faults == ()
    assert reading.values == {
        **BODY,
        "description": "",
        "default_params": {},
        "params_schema": None,
        "join": None,
        "timeout_sec": 300,
        "max_retries": 3,
        "cancel_grace_sec": 30,
        "is_active": True,
    }


def test_a_change_reads_only_what_it_names():
    reading = read({"timeout_sec": 5}, LIMITS, whole=False)

    assert reading.values == {"timeout_sec": 5}


@pytest.mark.parametrize("field", ["id", "name", "actor_type", "code_ref"])
def test_b20_a_required_field_that_is_missing_is_named(field):
    assert faults_of(**{field: ...}) == [(field, "missing_field")]


def test_all_faults_are_told_at_once():
    assert faults_of(name=5, timeout_sec=-1, join={"policy": "most"}) == [
        ("name", "invalid_type"),
        ("join", "invalid_join"),
        ("timeout_sec", "number_out_of_range"),
    ]


@pytest.mark.parametrize("id", ["", "x" * 65, 5, None, "a b", "a/b", "é", "..", "-a", ":a", "a\n"])
def test_b22_an_id_outside_of_the_alphabet_is_refused(id):
    assert faults_of(id=id) == [("id", "invalid_id")]


def test_b23_the_id_global_action_is_reserved():
    assert faults_of(id="global_action") == [("id", "reserved_id")]


@pytest.mark.parametrize("value", ["agent", "WORKER", "", None, 3, ["AGENT"]])
def test_b26_an_unknown_actor_type_is_refused_with_those_there_are(value):
    fault = read({**BODY, "actor_type": value}, LIMITS, whole=True).faults[0]

    assert fault.code == "unknown_enum"
    assert fault.details["allowed"] == ["AGENT", "GROUP_AGG", "SINGLE_AGG", "EXECUTION"]


@pytest.mark.parametrize(
    ("field", "most"), [("timeout_sec", 2_592_000), ("cancel_grace_sec", 2_592_000), ("max_retries", 100)]
)
def test_numbers_keep_to_their_limits(field, most):
    assert faults_of(**{field: 0}) == []
    assert faults_of(**{field: most}) == []
    assert faults_of(**{field: 7.0}) == []
    assert faults_of(**{field: most + 1}) == [(field, "number_out_of_range")]
    assert faults_of(**{field: -1}) == [(field, "number_out_of_range")]
    for bad in ("5", True, 1.5, None, [5]):
        assert faults_of(**{field: bad}) == [(field, "invalid_type")]


@pytest.mark.parametrize("field", ["code_ref", "description"])
def test_b39_a_text_is_counted_in_bytes(field):
    assert faults_of(**{field: "é" * 2048}) == []
    assert faults_of(**{field: "é" * 2048 + "x"}) == [(field, "too_large")]


def test_a_name_has_at_most_200_characters():
    assert faults_of(name="名" * 200) == []
    assert faults_of(name="名" * 201) == [("name", "too_large")]
    assert faults_of(name=" ") == [("name", "missing_field")]


def test_b19_default_parameters_are_an_object_of_256_kib():
    assert faults_of(default_params={"x": "y" * ((256 << 10) - 8)}) == []
    assert faults_of(default_params={"x": "y" * (256 << 10)}) == [("default_params", "too_large")]
    assert faults_of(default_params=[]) == [("default_params", "invalid_type")]


def test_b21_unknown_fields_are_named_and_those_of_the_dto_are_not():
    reading = read({**BODY, "timeout_secs": 5, "created_at": "x", "version": 9}, LIMITS, whole=True)

    assert reading.faults == ()
    assert reading.unknown == ("timeout_secs",)


# -- join


@pytest.mark.parametrize(
    "join",
    [
        {"policy": "any"},
        {"policy": "all"},
        {"policy": "all_done", "early": True},
        {"policy": "at_least", "count": 1},
        {"policy": "at_least", "percent": 0.5},
        {"policy": "at_most_failed", "percent": 100},
    ],
)
def test_a_join_of_the_contract_is_kept_as_it_is(join):
    assert join_of(join).faults == ()
    assert join_of(join).values["join"] == join


@pytest.mark.parametrize(
    "join",
    [
        {"policy": "most"},
        {"policy": None},
        {},
        "any",
        [],
        {"policy": "at_least"},
        {"policy": "at_least", "count": 0},
        {"policy": "at_most_failed", "count": -1},
        {"policy": "at_least", "count": 1.5},
        {"policy": "at_least", "count": True},
        {"policy": "at_least", "count": "2"},
        {"policy": "at_least", "percent": 0},
        {"policy": "at_least", "percent": 101},
        {"policy": "at_least", "percent": "5"},
        {"policy": "at_least", "count": 1, "percent": 5},
        {"policy": "all", "count": 0},
        {"policy": "any", "early": "yes"},
        {"policy": ["any"]},
    ],
)
def test_b51_a_join_that_says_nothing_sound_is_refused(join):
    assert [fault.code for fault in join_of(join).faults] == ["invalid_join"]


def test_no_join_and_the_join_any_are_two_things():
    assert join_of(None).values["join"] is None
    assert join_of({"policy": "any"}).values["join"] == {"policy": "any"}


# -- the schema of parameters


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "nonsense"}, "/type"),
        ({"properties": {"a": {"minimum": "x"}}}, "/properties/a/minimum"),
        ([], ""),
        (True, ""),
        ("{}", ""),
        ({"$ref": "#/$defs/nowhere"}, ""),
        ({"$schema": "http://127.0.0.1:1/mine"}, ""),
        ({"pattern": "("}, "/pattern"),
        ({"pattern": "(?=a)b"}, "/pattern"),
        ({"pattern": r"(a)\1"}, "/pattern"),
        ({"pattern": "(a{1000}){1000}"}, "/pattern"),
        ({"pattern": "a" * 201}, "/pattern"),
        ({"properties": {"a": {"items": {"pattern": "a" * 201}}}}, "/properties/a/items/pattern"),
        ({"anyOf": [{"patternProperties": {"a" * 201: {}}}]}, "/anyOf/0/patternProperties"),
    ],
)
def test_b51_what_is_not_a_schema_is_refused_with_its_place(schema, path):
    fault = read({**BODY, "params_schema": schema}, LIMITS, whole=True).faults[0]

    assert (fault.field, fault.code, fault.details["path"]) == ("params_schema", "invalid_schema", path)


@pytest.mark.parametrize("place", ["root", "unused definition", "deep"])
def test_b51_a_reference_to_elsewhere_is_never_fetched(place):
    import socket
    import tempfile

    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        tempfile.NamedTemporaryFile("w", suffix=".json") as file,
    ):
        file.write("{}")
        file.flush()
        listening.setblocking(False)
        for url in (f"http://127.0.0.1:{listening.getsockname()[1]}/x", f"file://{file.name}", "other.json"):
            remote = {"$ref": url}
            schema = {
                "root": remote,
                "unused definition": {"$defs": {"a": remote}},
                "deep": {"properties": {"a": {"items": {"allOf": [remote]}}}},
            }[place]

            assert faults_of(params_schema=schema) == [("params_schema", "invalid_schema")]

        with pytest.raises(BlockingIOError):
            listening.accept()


def test_a_reference_inside_of_the_schema_is_followed():
    schema = {"$defs": {"year": {"type": "integer"}}, "properties": {"year": {"$ref": "#/$defs/year"}}}

    assert faults_of(params_schema=schema) == []
    assert check_params(schema, {"year": "x"}) == [{"path": "year", "message": "must be a whole number"}]


def test_b51_a_pattern_that_makes_others_run_away_takes_no_time():
    schema = {"properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert faults_of(params_schema=schema) == []

    # A backtracking engine would need 2^100000 steps: it would never come back.
    errors = check_params(schema, {"a": "a" * 100_000 + "!"})

    assert errors == [{"path": "a", "message": "must match ^(a+)+$"}]


def test_a_schema_of_an_older_draft_is_read_by_its_own_rules():
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"a": {"items": [{"type": "string"}]}},
    }

    assert faults_of(params_schema=schema) == []
    assert check_params(schema, {"a": [5]}) == [{"path": "a.0", "message": "must be text"}]


# -- parameters


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        ({"type": "integer"}, "x", "must be a whole number"),
        ({"type": ["string", "null"]}, 5, "must be text or null"),
        ({"maximum": 2026}, 20244, "must be at most 2026"),
        ({"minimum": 1}, 0, "must be at least 1"),
        ({"exclusiveMinimum": 0}, 0, "must be more than 0"),
        ({"exclusiveMaximum": 5}, 5, "must be less than 5"),
        ({"multipleOf": 3}, 4, "must be a multiple of 3"),
        ({"enum": ["a", "b"]}, "c", 'must be one of "a","b"'),
        ({"const": 1}, 2, "must be 1"),
        ({"minLength": 1}, "", "must have at least 1 character"),
        ({"maxLength": 2}, "abc", "must have at most 2 characters"),
        ({"minItems": 1}, [], "must have at least 1 item"),
        ({"maxItems": 0}, [1], "must have at most 0 items"),
        ({"minProperties": 1}, {}, "must have at least 1 key"),
        ({"maxProperties": 0}, {"a": 1}, "must have at most 0 keys"),
        ({"uniqueItems": True}, [1, 1], "must not name an item twice"),
        ({"format": "date"}, "2024-02-31", "must be a valid date"),
        ({"not": {}}, 1, "has a form that is not allowed"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "fits none of the forms that are allowed"),
        ({"contains": {"type": "string"}}, [1], "lacks an item that must be there"),
        (False, 1, "is not allowed"),
        ({"additionalProperties": False}, {"a": 1}, "has a key that is not allowed"),
    ],
)
def test_each_error_says_what_to_do_without_repeating_the_value(rule, value, message):
    schema = {"type": "object", "properties": {"n": rule}}

    assert check_params(schema, {"n": value}) == [{"path": "n", "message": message}]


def test_b49_a_missing_and_an_unknown_parameter_are_named_by_their_path():
    schema = {
        "properties": {"o": {"properties": {"a": {}}, "required": ["a"], "additionalProperties": False}}
    }

    assert check_params(schema, {"o": {"b": 1}}) == [
        {"path": "o.a", "message": "is required"},
        {"path": "o.b", "message": "is not a known parameter"},
    ]


def test_a_huge_wrong_value_gives_a_small_error():
    schema = {"properties": {"a": {"enum": ["x" * 1000]}, "b": {"propertyNames": {"maxLength": 3}}}}

    errors = check_params(schema, {"a": "y" * 100_000, "b": {"z" * 100_000: 1}})

    assert len(errors) == 2
    assert all(len(error["message"]) < 300 for error in errors)


def test_errors_end_at_fifty():
    assert (
        len(check_params({"additionalProperties": {"type": "string"}}, {f"k{n}": n for n in range(80)})) == 50
    )


def test_without_a_schema_any_parameters_will_do():
    assert check_params(None, {"anything": [1, {"b": None}]}) == []


def test_the_rules_load_without_a_framework():
    import subprocess
    import sys

    heavy = "[m for m in sys.modules if m.startswith(('django', 'redis', 'channels'))]"
    code = f"import sys, tower.definitions.validation; print({heavy})"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
