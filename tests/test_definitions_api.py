"""``definitions/``: what a program may say of definitions, and what it is told (reliability.md, B51)."""

from __future__ import annotations

import threading
from typing import Any

import orjson
import pytest
from django.db import connection
from django.test import Client

from tower.access.tokens import make_token
from tower.definitions import edit, rules
from tower.definitions.models import DefinitionVersion, TaskDefinition
from tower.errors import Conflict

BODY = {"id": "crawl", "name": "Crawl", "actor_type": "AGENT", "code_ref": "docker://x/y:1"}


@pytest.fixture
def api(db):
    return Api(make_token("editor", ["admin"]))


class Api:
    def __init__(self, token: str) -> None:
        self.client = Client(headers={"Authorization": f"Bearer {token}"})

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
        answer = self.client.generic(method, f"/api/v1/{path}", data, content_type="application/json")
        return answer.status_code, orjson.loads(answer.content) if answer.content else None

    def code(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        status, said = self(method, path, body)
        return status, said["error"]["code"]


def numbers():
    return list(DefinitionVersion.objects.order_by("number").values_list("number", flat=True))


# -- create


def test_a_definition_is_created_with_its_first_version(api):
    status, said = api("POST", "definitions/", {**BODY, "timeout_sec": 60, "default_params": {"url": "x"}})

    assert status == 201
    assert said.pop("created_at").endswith("Z") and said.pop("updated_at").endswith("Z")
    assert said == {
        **BODY,
        "default_params": {"url": "x"},
        "timeout_sec": 60,
        "max_retries": 3,
        "is_active": True,
        "description": "",
        "params_schema": None,
        "join": None,
        "cancel_grace_sec": 30,
        "version": 1,
    }
    version = DefinitionVersion.objects.get()
    assert (version.number, version.created_by, version.timeout_sec) == (1, "editor", 60)


def test_the_same_body_again_finds_what_is_there(api):
    api("POST", "definitions/", {**BODY, "default_params": {"a": 1, "b": 2}})

    status, said = api("POST", "definitions/", {"default_params": {"b": 2, "a": 1}, **BODY})

    assert (status, said["version"]) == (200, 1)
    assert numbers() == [1]


def test_another_body_of_a_known_id_is_a_conflict_that_says_where(api):
    api("POST", "definitions/", BODY)

    status, said = api("POST", "definitions/", {**BODY, "timeout_sec": 5, "default_params": {"a": True}})

    assert (status, said["error"]["code"]) == (409, "conflict")
    assert said["error"]["details"]["differs"] == ["default_params", "timeout_sec"]
    assert TaskDefinition.objects.get().timeout_sec == 300


def test_one_and_true_are_two_values(api):
    api("POST", "definitions/", {**BODY, "default_params": {"a": 1}})

    assert api.code("POST", "definitions/", {**BODY, "default_params": {"a": True}}) == (409, "conflict")


def test_the_same_body_finds_a_definition_that_was_switched_off(api):
    api("POST", "definitions/", BODY)
    api("PATCH", "definitions/crawl/", {"is_active": False})

    status, said = api("POST", "definitions/", BODY)

    assert (status, said["is_active"]) == (200, False)
    assert api.code("POST", "definitions/", {**BODY, "is_active": True}) == (409, "conflict")


@pytest.mark.django_db(transaction=True)
def test_of_two_that_create_at_once_one_wins_and_the_other_gets_its_answer():
    made: list[Any] = []
    start = threading.Barrier(4)

    def create():
        start.wait()
        try:
            made.append(edit.create(BODY, by="x").created)
        finally:
            connection.close()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(made) == [False, False, False, True]
    assert numbers() == [1]


# -- change


def test_a_change_of_the_rules_makes_a_version_and_leaves_the_old_one(api):
    api("POST", "definitions/", BODY)

    status, said = api("PATCH", "definitions/crawl/", {"timeout_sec": 5, "join": {"policy": "all"}})

    assert (status, said["version"], said["timeout_sec"], said["join"]) == (200, 2, 5, {"policy": "all"})
    assert list(DefinitionVersion.objects.order_by("number").values_list("timeout_sec", flat=True)) == [
        300,
        5,
    ]


def test_a_change_that_changes_nothing_makes_no_version(api):
    api("POST", "definitions/", BODY)

    status, said = api("PATCH", "definitions/crawl/", {"timeout_sec": 300, "name": "Crawl"})

    assert (status, said["version"]) == (200, 1)
    assert numbers() == [1]


def test_switching_off_makes_no_version(api):
    api("POST", "definitions/", BODY)

    status, said = api("PATCH", "definitions/crawl/", {"is_active": False})

    assert (status, said["is_active"], said["version"]) == (200, False, 1)
    assert numbers() == [1]
    assert api("GET", "definitions/crawl/")[1]["is_active"] is False


def test_put_sets_what_it_leaves_out_back_to_the_defaults(api):
    api("POST", "definitions/", {**BODY, "timeout_sec": 5, "description": "old"})

    status, said = api("PUT", "definitions/crawl/", {**BODY, "name": "Other"})

    assert (status, said["version"]) == (200, 2)
    assert (said["name"], said["timeout_sec"], said["description"]) == ("Other", 300, "")
    assert api.code("PUT", "definitions/crawl/", {"name": "Other"}) == (400, "missing_field")


def test_a_change_of_an_unknown_definition_is_not_found(api):
    assert api.code("PATCH", "definitions/nobody/", {"name": "x"}) == (404, "not_found")
    assert api.code("PUT", "definitions/nobody/", {**BODY, "id": "nobody"}) == (404, "not_found")
    assert api.code("GET", "definitions/nobody/") == (404, "not_found")


def test_b51_the_id_never_changes(api):
    api("POST", "definitions/", BODY)

    assert api.code("PATCH", "definitions/crawl/", {"id": "other"}) == (400, "immutable")
    assert api.code("PUT", "definitions/crawl/", {**BODY, "id": "other"}) == (400, "immutable")
    assert api("PATCH", "definitions/crawl/", {"id": "crawl"})[0] == 200


def test_b51_a_definition_is_never_deleted(api):
    api("POST", "definitions/", BODY)

    assert api.code("DELETE", "definitions/crawl/") == (405, "method_not_allowed")
    assert TaskDefinition.objects.count() == 1


@pytest.mark.parametrize(
    ("said", "code", "field"),
    [
        ({"params_schema": {"type": "nonsense"}}, "invalid_schema", "params_schema"),
        ({"params_schema": {"$ref": "http://127.0.0.1:1/x"}}, "invalid_schema", "params_schema"),
        ({"params_schema": {"pattern": "a" * 201}}, "invalid_schema", "params_schema"),
        ({"join": {"policy": "at_least", "count": 0}}, "invalid_join", "join"),
        ({"join": {"policy": "at_least", "count": 1, "percent": 5}}, "invalid_join", "join"),
        ({"join": {"policy": "at_least", "percent": 101}}, "invalid_join", "join"),
        ({"join": {"policy": "most"}}, "invalid_join", "join"),
        ({"timeout_sec": 2_592_001}, "number_out_of_range", "timeout_sec"),
        ({"max_retries": 101}, "number_out_of_range", "max_retries"),
        ({"actor_type": "agent"}, "unknown_enum", "actor_type"),
        ({"name": "x" * 201}, "too_large", "name"),
        ({"code_ref": "x" * 4097}, "too_large", "code_ref"),
        ({"description": 5}, "invalid_type", "description"),
        ({"is_active": "no"}, "invalid_type", "is_active"),
    ],
)
def test_b51_what_is_refused_names_the_field_and_changes_nothing(api, said, code, field):
    status, refused = api("POST", "definitions/", {**BODY, **said})
    assert (status, refused["error"]["code"], refused["error"]["details"]["field"]) == (400, code, field)
    assert not TaskDefinition.objects.exists()

    api("POST", "definitions/", BODY)
    assert api.code("PATCH", "definitions/crawl/", said) == (400, code)
    assert numbers() == [1]


def test_several_faults_are_told_together(api):
    _, said = api("POST", "definitions/", {"id": "crawl", "timeout_sec": "x"})

    assert [error["field"] for error in said["error"]["details"]["errors"]] == [
        "name",
        "actor_type",
        "code_ref",
        "timeout_sec",
    ]


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_body"),
        (b"5", 400, "invalid_body"),
        (b'{"id": "a", "default_params": {"a": 1e400}}', 400, "number_out_of_range"),
        (b'{"id": "a", "default_params": {"a": "\\u0000"}}', 400, "invalid_string"),
        (b'{"id": "a", "name": "\\ud800"}', 400, "invalid_string"),
        (b'{"default_params": ' + b"[" * 70 + b"]" * 70 + b"}", 400, "too_deep"),
    ],
)
def test_b1_to_b17_a_broken_body_is_refused(api, raw, status, code):
    assert api.code("POST", "definitions/", raw) == (status, code)


def test_b16_a_nul_in_the_path_is_not_found(api):
    assert api.code("GET", "definitions/a%00/") == (404, "not_found")


def test_b21_an_unknown_field_is_taken_with_a_warning(api):
    status, said = api("POST", "definitions/", {**BODY, "timeout_secs": 5, "version": 7, "created_at": "x"})

    assert (status, said["version"], said["timeout_sec"]) == (201, 1, 300)
    assert said["warnings"] == [{"index": 0, "code": "unknown_field", "field": "timeout_secs"}]


@pytest.mark.django_db(transaction=True)
def test_two_changes_at_once_make_two_versions_in_a_row():
    edit.create(BODY, by="x")
    start = threading.Barrier(4)

    def change(seconds):
        start.wait()
        try:
            edit.change("crawl", {"timeout_sec": seconds}, by=f"by{seconds}")
        finally:
            connection.close()

    threads = [threading.Thread(target=change, args=(seconds,)) for seconds in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert numbers() == [1, 2, 3, 4, 5]
    definition, last = TaskDefinition.objects.get(), DefinitionVersion.objects.get(number=5)
    assert (definition.version, definition.timeout_sec) == (5, last.timeout_sec)
    assert last.created_by == f"by{last.timeout_sec}"


# -- list and rights


def test_the_list_goes_on_where_its_page_ended(api):
    for n in range(5):
        edit.create({**BODY, "id": f"j{n}"}, by="x")

    _, first = api("GET", "definitions/?limit=3")
    _, second = api("GET", first["next"].split("/api/v1/")[1])

    assert [one["id"] for one in first["results"] + second["results"]] == ["j0", "j1", "j2", "j3", "j4"]
    assert first["previous"] is None and second["next"] is None


def test_the_list_is_filtered(api):
    edit.create(BODY, by="x")
    edit.create({**BODY, "id": "off", "is_active": False, "actor_type": "EXECUTION"}, by="x")

    def ids(query):
        return [one["id"] for one in api("GET", f"definitions/?{query}")[1]["results"]]

    assert ids("is_active=true") == ["crawl"]
    assert ids("is_active=false") == ["off"]
    assert ids("actor_type=EXECUTION") == ["off"]
    assert api.code("GET", "definitions/?is_active=maybe") == (400, "invalid_query")
    assert api.code("GET", "definitions/?active=true") == (400, "invalid_query")
    assert api.code("GET", "definitions/?cursor=abc") == (400, "invalid_cursor")


@pytest.mark.parametrize("scope", ["read", "ingest", "control"])
def test_b62_only_the_scope_admin_writes_definitions(db, scope):
    api = Api(make_token("t", [scope]))

    assert api.code("POST", "definitions/", BODY) == (403, "forbidden")
    assert api.code("PATCH", "definitions/crawl/", {"name": "x"}) == (403, "forbidden")
    assert api("GET", "definitions/")[0] == (200 if scope == "read" else 403)
    assert not TaskDefinition.objects.exists()


# -- what the hot path reads


def test_current_answers_for_many_definitions_with_one_query(db, django_assert_num_queries):
    for n in range(20):
        edit.create({**BODY, "id": f"j{n}"}, by="x")
    edit.change("j3", {"timeout_sec": 5, "is_active": False}, by="x")

    with django_assert_num_queries(1):
        current = rules.current([f"j{n}" for n in range(20)] + ["nobody"])

    assert set(current) == {f"j{n}" for n in range(20)}
    assert (current["j3"].number, current["j3"].is_active) == (2, False)
    assert (current["j4"].number, current["j4"].is_active, current["j4"].actor_type) == (1, True, "AGENT")


def test_a_version_is_read_once_and_stays_what_it_was(db, django_assert_num_queries):
    edit.create({**BODY, "join": {"policy": "at_least", "count": 2}}, by="x")
    pinned = rules.current(["crawl"])["crawl"].pk
    first = rules.version(pinned)
    edit.change("crawl", {"timeout_sec": 5}, by="x")

    with django_assert_num_queries(0):
        again = rules.version(pinned)

    assert again is first
    assert (again.definition_id, again.number, again.timeout_sec) == ("crawl", 1, 300)
    assert again.join is not None and again.join.count == 2
    assert rules.version(rules.current(["crawl"])["crawl"].pk).timeout_sec == 5


def test_versions_reads_only_those_not_known_yet(db, django_assert_num_queries):
    pks = []
    for n in range(3):
        edit.create({**BODY, "id": f"j{n}"}, by="x")
        pks.append(rules.current([f"j{n}"])[f"j{n}"].pk)
    rules.version(pks[0])

    with django_assert_num_queries(1):
        assert set(rules.versions([*pks, -1])) == set(pks)
    with django_assert_num_queries(0):
        rules.versions(pks)
    with pytest.raises(KeyError):
        rules.version(-1)


def test_what_is_remembered_is_bounded(db, monkeypatch):
    monkeypatch.setattr(rules, "CACHED_VERSIONS", 2)
    for n in range(4):
        edit.create({**BODY, "id": f"j{n}"}, by="x")
        rules.version(rules.current([f"j{n}"])[f"j{n}"].pk)

    assert len(rules._known) == 2


# -- runs


def run_api():
    return Api(make_token("starter", ["control", "read"]))


PARAMS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.django_db(transaction=True)
def test_b49_a_run_with_parameters_that_the_schema_refuses_names_them():
    edit.create({**BODY, "params_schema": PARAMS}, by="x")
    api = run_api()

    status, said = api("POST", "traces/", {"job_id": "crawl", "input_params": {"n": "x"}})

    assert (status, said["error"]["code"]) == (400, "invalid_params")
    assert said["error"]["details"]["errors"] == [{"path": "n", "message": "must be a whole number"}]
    assert api("POST", "traces/", {"job_id": "crawl", "input_params": {"n": 1}})[0] == 201


@pytest.mark.django_db(transaction=True)
def test_b49_the_defaults_count_where_a_run_names_no_parameter():
    edit.create({**BODY, "params_schema": PARAMS, "default_params": {"n": 5}}, by="x")

    assert run_api()("POST", "traces/", {"job_id": "crawl"})[0] == 201


@pytest.mark.django_db(transaction=True)
def test_b50_the_same_run_again_is_the_same_and_another_is_refused():
    edit.create({**BODY, "params_schema": PARAMS}, by="x")
    api = run_api()
    body = {"job_id": "crawl", "input_params": {"n": 1}, "trace_id": "P"}

    first, again = api("POST", "traces/", body), api("POST", "traces/", body)

    assert (first[0], again[0]) == (201, 200)
    assert first[1]["root_task_id"] == again[1]["root_task_id"]
    assert api.code("POST", "traces/", {**body, "input_params": {"n": 2}}) == (409, "conflict")


@pytest.mark.django_db(transaction=True)
def test_b44_no_run_of_an_unknown_or_inactive_definition():
    edit.create({**BODY, "is_active": False}, by="x")
    api = run_api()

    assert api.code("POST", "traces/", {"job_id": "nobody"}) == (404, "not_found")
    assert api.code("POST", "traces/", {"job_id": "crawl"}) == (409, "definition_inactive")


def test_a_conflict_names_what_differs(db):
    edit.create(BODY, by="x")

    with pytest.raises(Conflict, match="name"):
        edit.create({**BODY, "name": "Other"}, by="x")
