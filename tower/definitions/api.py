"""``definitions/`` and ``definitions/{id}/``: list, create, read, change, deactivate. Never delete."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse

from tower import paging, reading
from tower.api import TowerView, answer
from tower.definitions import edit
from tower.definitions.edit import Edited
from tower.definitions.models import TaskDefinition
from tower.errors import NotFound
from tower.schemas import ActorType


class Definitions(TowerView):
    def get(self, request: HttpRequest) -> HttpResponse:
        query = reading.Query(request, allowed=paging.PAGED | {"is_active", "actor_type"})
        rows = TaskDefinition.objects.all()
        if active := query.choice("is_active", {"true", "false"}):
            rows = rows.filter(is_active=active == "true")
        if actor_type := query.choice("actor_type", set(ActorType)):
            rows = rows.filter(actor_type=actor_type)
        return answer(paging.page_of(request, query, rows, ["id"], "definitions", show=dto))

    def post(self, request: HttpRequest) -> HttpResponse:
        edited = edit.create(body_of(request), by=self.principal(request).name)
        return answer(told(edited), 201 if edited.created else 200)


class Definition(TowerView):
    def get(self, request: HttpRequest, id: str) -> HttpResponse:
        reading.Query(request, allowed=frozenset())
        definition = TaskDefinition.objects.filter(pk=id).first()
        if definition is None:
            raise NotFound("There is no such definition.")
        return answer(dto(definition))

    def patch(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer(told(edit.change(id, body_of(request), by=self.principal(request).name)))

    def put(self, request: HttpRequest, id: str) -> HttpResponse:
        return answer(told(edit.change(id, body_of(request), by=self.principal(request).name, whole=True)))


def body_of(request: HttpRequest) -> dict[str, Any]:
    return reading.one(reading.parse(reading.read_body(request)))


def dto(definition: TaskDefinition) -> dict[str, Any]:
    return {
        "id": definition.pk,
        "name": definition.name,
        "actor_type": definition.actor_type,
        "code_ref": definition.code_ref,
        "default_params": definition.default_params,
        "timeout_sec": definition.timeout_sec,
        "max_retries": definition.max_retries,
        "is_active": definition.is_active,
        "created_at": iso(definition.created_at),
        "description": definition.description,
        "params_schema": definition.params_schema,
        "join": definition.join,
        "cancel_grace_sec": definition.cancel_grace_sec,
        "version": definition.version,
        "updated_at": iso(definition.updated_at),
    }


def told(edited: Edited) -> Mapping[str, Any]:
    """What an edit left behind; a field that nobody reads is named, since it may be a misspelled one."""
    warnings = [{"index": 0, "code": "unknown_field", "field": name[:64]} for name in edited.unknown[:100]]
    return {**dto(edited.definition), **({"warnings": warnings} if warnings else {})}


def iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
