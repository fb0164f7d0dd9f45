"""The only door for changes of definitions: each change of the rules is a version that stays.

Whether a definition is active is no rule: it is switched without a version.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction

from tower.definitions import validation
from tower.definitions.models import DefinitionVersion, Rules, TaskDefinition
from tower.definitions.validation import Fault, Limits
from tower.errors import Conflict, NotFound, TowerError

log = logging.getLogger("tower.definitions")

#: What a version keeps, and what a change of it makes.
RULES = tuple(field.name for field in Rules._meta.local_fields)


class DefinitionRefused(TowerError):
    """What was said of a definition is not fit; ``faults`` has all of it, the error itself the first."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        first, *others = faults
        details: dict[str, Any] = {"field": first.field, **first.details}
        if others:
            details["errors"] = [{"field": f.field, "code": f.code, "message": f.message} for f in faults]
        super().__init__(f"{first.field}: {first.message}", code=first.code, **details)
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Edited:
    definition: TaskDefinition
    #: Whether a definition, or a version of it, was made.
    created: bool
    #: Fields of the body that nobody reads.
    unknown: tuple[str, ...] = ()


def create(body: Mapping[str, Any], *, by: str) -> Edited:
    """Make a definition with its version 1. Repeatable: the same body again finds what is there."""
    reading = _read(body, whole=True)
    existing = TaskDefinition.objects.filter(pk=reading.values["id"]).first()
    if existing is None:
        try:
            with transaction.atomic():
                definition = TaskDefinition(**reading.values)
                _add_version(definition, by=by, insert=True)
        except IntegrityError:
            # Another one was quicker; whether it said the same is looked at below.
            existing = TaskDefinition.objects.get(pk=reading.values["id"])
        else:
            _tell("definition_created", definition, by)
            return Edited(definition, created=True, unknown=reading.unknown)
    # An operator's switching off does not turn the repeat of an old body into another one.
    told = (
        reading.values
        if "is_active" in body
        else {n: v for n, v in reading.values.items() if n != "is_active"}
    )
    if differs := sorted(name for name, value in told.items() if _unlike(value, getattr(existing, name))):
        raise Conflict(f"{existing.pk} is defined otherwise: {', '.join(differs)}", differs=differs)
    return Edited(existing, created=False, unknown=reading.unknown)


def change(id: str, body: Mapping[str, Any], *, by: str, whole: bool = False) -> Edited:
    """Change what the body names; ``whole`` sets what it leaves out back to the defaults."""
    if body.get("id", id) != id:
        raise TowerError("The id of a definition never changes.", code="immutable", field="id")
    reading = _read({**body, "id": id}, whole=whole)
    with transaction.atomic():
        # Two changes at once: the second waits here and numbers its version after the first.
        definition = TaskDefinition.objects.select_for_update().filter(pk=id).first()
        if definition is None:
            raise NotFound("There is no such definition.")
        changed = {n for n, value in reading.values.items() if _set(definition, n, value)}
        if changed & set(RULES):
            _add_version(definition, by=by)
        elif changed:
            definition.save(update_fields=["is_active", "updated_at"])
    if changed:
        _tell("definition_changed", definition, by)
    return Edited(definition, created=bool(changed & set(RULES)), unknown=reading.unknown)


def switch(ids: Iterable[str], *, active: bool, by: str) -> int:
    """Activate or deactivate; says how many of them were not so before."""
    before = TaskDefinition.objects.filter(pk__in=list(ids), is_active=not active)
    switched = [change(id, {"is_active": active}, by=by) for id in before.values_list("pk", flat=True)]
    return len(switched)


def limits() -> Limits:
    return Limits(text_bytes=settings.TOWER_MAX_TEXT_BYTES, params_bytes=settings.TOWER_MAX_PARAMS_BYTES)


def _read(body: Mapping[str, Any], *, whole: bool) -> validation.Reading:
    reading = validation.read(body, limits(), whole=whole)
    if reading.faults:
        raise DefinitionRefused(reading.faults)
    return reading


def _set(definition: TaskDefinition, name: str, value: Any) -> bool:
    if not _unlike(value, getattr(definition, name), ordered=True):
        return False
    setattr(definition, name, value)
    return True


def _unlike(one: Any, other: Any, *, ordered: bool = False) -> bool:
    # As JSON: for Python 1, 1.0 and True are equal. The order of keys is that of the start form's fields.
    option = None if ordered else orjson.OPT_SORT_KEYS
    return orjson.dumps(one, option=option) != orjson.dumps(other, option=option)


def _add_version(definition: TaskDefinition, *, by: str, insert: bool = False) -> None:
    definition.version += 1
    definition.save(force_insert=insert)
    rules = {name: getattr(definition, name) for name in RULES}
    DefinitionVersion.objects.create(
        definition=definition, number=definition.version, created_by=by[:150], **rules
    )


def _tell(event: str, definition: TaskDefinition, by: str) -> None:
    log.info(event, extra={"definition": definition.pk, "version": definition.version, "user": by})
