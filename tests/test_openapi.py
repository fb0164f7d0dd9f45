"""The OpenAPI document: whole, valid, and true of the answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from django.conf import settings
from django.test import Client
from django.urls import get_resolver
from drf_spectacular.validation import validate_schema

from tests.people import bearing, signed_in_as
from tower import docs, openapi
from tower.access.matrix import MATRIX
from tower.openapi import CALLS, CODES

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return docs.document()


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Against a schema of the document, its references resolved inside it."""
    whole = {**schema, "components": document["components"]}
    jsonschema_rs.validator_for(whole).validate(value)


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate_schema(document)
    assert document["openapi"].startswith("3.")


def test_it_has_every_call_there_is_and_no_other(document: dict[str, Any]) -> None:
    said = {
        (operation["operationId"].split("-", 1)[1], method.upper())
        for path in document["paths"].values()
        for method, operation in path.items()
    }
    there = {
        (pattern.name, method)
        for resolver in get_resolver().url_patterns
        if getattr(resolver, "namespace", None) == "api"
        for v1 in getattr(resolver, "url_patterns", [])
        for pattern in getattr(v1, "url_patterns", [])
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if hasattr(pattern.callback.cls, method.lower())
    }

    assert said == there
    assert set(CALLS) == there


def test_each_call_of_the_document_has_its_row_in_the_matrix() -> None:
    assert {(name, method) for name, method in CALLS if method not in MATRIX[f"api:{name}"]} == set()


def test_every_refusal_has_the_envelope(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert {"401", "403", "406", "429", "500", "503"} <= set(answers), (path, method)
            for status, answer in answers.items():
                schema = answer["content"]["application/json"]["schema"]
                if status >= "4":
                    assert "#/components/schemas/Error" in str(schema), (path, method, status)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", str(document)))

    assert names <= set(document["components"]["schemas"])
    assert {"TaskDefinition", "TaskInstance", "ControlEvent", "TaskEvent", "AggregationContext"} <= names


#: Not said by an answer: names of statuses of other things, or of details.
SOURCES = ("tower", "instances", "controls")


#: Said beside a field of a page, never by the API.
FORM_ERRORS = {"invalid_form", "password_too_common", "password_too_long", "too_many", "wrong"}


def test_every_code_that_the_program_says_is_in_the_document() -> None:
    """Codes are found where they are written: ``code="..."`` and ``code, http_status = "..."``."""
    wrong = {}
    for folder in SOURCES:
        for file in (Path(settings.BASE_DIR) / folder).rglob("*.py"):
            if {"demo", "management", "migrations"} & set(file.parts) or file.name in {
                "forms.py",
                "views.py",
            }:
                continue
            text = file.read_text()
            found = set(re.findall(r'\bcode="([a-z_]+)"', text))
            found |= set(re.findall(r'^    code(?:, [a-z_]+)* = "([a-z_]+)"', text, re.MULTILINE))
            found |= set(re.findall(r'Refusal\(\s*"([a-z_]+)"', text))
            if unknown := found - set(CODES) - FORM_ERRORS:
                wrong[file.name] = unknown

    assert wrong == {}


def test_a_call_that_nobody_described_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi, "CALLS", {key: call for key, call in CALLS.items() if key[0] != "control"})

    with pytest.raises(Exception, match="control"):
        docs.document()


def test_the_document_is_served_to_readers(document: dict[str, Any]) -> None:
    assert bearing("read").get("/api/v1/schema/").json()["paths"].keys() == document["paths"].keys()
    assert signed_in_as("viewer").get("/api/v1/schema/").status_code == 200
    assert Client().get("/api/v1/schema/").status_code == 401


def test_answers_are_as_the_document_says(document: dict[str, Any]) -> None:
    client = bearing("admin")
    body = {"id": "j", "name": "j", "actor_type": "AGENT", "code_ref": "docker://x/y:1"}

    def said(path: str, method: str, answer: Any) -> None:
        operation = document["paths"][path][method]
        schema = operation["responses"][str(answer.status_code)]["content"]["application/json"]["schema"]
        check(document, schema, answer.json())

    definitions, one = "/api/v1/definitions/", "/api/v1/definitions/{id}/"
    said(definitions, "post", client.post(definitions, body, content_type="application/json"))
    said(definitions, "post", client.post(definitions, {"id": "a b"}, content_type="application/json"))
    said(definitions, "get", client.get(definitions))
    said(definitions, "get", client.get(f"{definitions}?nonsense=1"))
    said(definitions, "get", Client().get(definitions))
    said(one, "get", client.get(f"{definitions}j/"))
    said(one, "get", client.get(f"{definitions}nobody/"))
    said(one, "patch", client.patch(f"{definitions}j/", {"name": "k"}, content_type="application/json"))


@pytest.mark.django_db(transaction=True)
def test_a_retried_task_and_its_log_are_as_the_document_says(document: dict[str, Any]) -> None:
    client = bearing("admin")
    task = {"id": "t", "trace_id": "T", "job_id": "undefined", "actor_type": "EXECUTION"}
    assert client.post("/api/v1/tasks/", task, content_type="application/json").status_code == 201
    said = ("STARTED", "FAILED", "COMPLETED", "STARTED")
    events = [
        {"event_id": f"e{n}", "trace_id": "T", "task_id": "t", "event_type": kind, "timestamp_ms": n}
        for n, kind in enumerate(said)
    ]
    assert client.post("/api/v1/events/", events, content_type="application/json").json()["accepted"] == 4

    for path, url in (
        ("/api/v1/tasks/{task_id}/", "/api/v1/tasks/t/"),
        ("/api/v1/tasks/{task_id}/events/", "/api/v1/tasks/t/events/"),
        ("/api/v1/traces/{trace_id}/events/", "/api/v1/traces/T/events/?verdict=conflict"),
    ):
        answer = client.get(url)
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]

        assert answer.status_code == 200
        check(document, schema, answer.json())


# -- the page


def test_the_page_names_files_of_our_own_only() -> None:
    page = signed_in_as("viewer").get("/api/docs/").content.decode()

    assert "swagger-ui-bundle" in page and "api-docs" in page
    assert not re.search(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert (
        not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", page) and "<style" not in page and "style=" not in page
    )
