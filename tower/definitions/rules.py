"""The rules that tasks live by, read for the hot path. Reads only; edits go through ``edit``.

Both functions use the calling thread's own connection, inside whatever
transaction it has open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from django.db.models import F

from tower.definitions.models import DefinitionVersion
from tower.schemas import ActorType, Join


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """What a registration pins now, and whether a run may be started."""

    pk: int
    number: int
    is_active: bool
    actor_type: ActorType
    name: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The content of one version; it never changes. Whether the definition is active is no part of it."""

    pk: int
    definition_id: str
    number: int
    name: str
    actor_type: ActorType
    code_ref: str
    timeout_sec: int
    max_retries: int
    cancel_grace_sec: int
    join: Join | None
    default_params: Mapping[str, Any] = field(repr=False)
    params_schema: Mapping[str, Any] | None = field(repr=False)


#: Versions are immutable, so what was read once is true for ever. Bounded, because
#: the parameters of one may take 256 KiB.
CACHED_VERSIONS = 1_024
_known: dict[int, Rules] = {}
_knowing = Lock()


def current(job_ids: Iterable[str]) -> dict[str, CurrentVersion]:
    """The current versions of the definitions there are, in one query; unknown ids are absent."""
    rows = DefinitionVersion.objects.filter(
        definition_id__in=set(job_ids), number=F("definition__version")
    ).values_list("definition_id", "pk", "number", "definition__is_active", "actor_type", "name")
    return {
        id: CurrentVersion(pk, number, is_active, ActorType(actor_type), name)
        for id, pk, number, is_active, actor_type, name in rows.order_by()
    }


def version(version_pk: int) -> Rules:
    """One version, from memory where it was read before. Raises KeyError where there is none."""
    known = _known.get(version_pk)
    return known or versions([version_pk])[version_pk]


def versions(version_pks: Iterable[int]) -> dict[int, Rules]:
    """Several versions, those not known yet in one query; absent ones are left out."""
    wanted = set(version_pks)
    found = {pk: known for pk in wanted if (known := _known.get(pk)) is not None}
    missing = wanted - found.keys()
    if missing:
        read = {row.pk: _rules(row) for row in DefinitionVersion.objects.filter(pk__in=missing).order_by()}
        _remember(read)
        found |= read
    return found


def forget() -> None:
    """For tests only, whose rollbacks give out the same keys again."""
    with _knowing:
        _known.clear()


def _remember(read: Mapping[int, Rules]) -> None:
    with _knowing:
        _known.update(read)
        while len(_known) > CACHED_VERSIONS:
            del _known[next(iter(_known))]


def _rules(row: DefinitionVersion) -> Rules:
    return Rules(
        pk=row.pk,
        definition_id=row.definition_id,
        number=row.number,
        name=row.name,
        actor_type=ActorType(row.actor_type),
        code_ref=row.code_ref,
        timeout_sec=row.timeout_sec,
        max_retries=row.max_retries,
        cancel_grace_sec=row.cancel_grace_sec,
        join=None if row.join is None else Join.model_validate(row.join),
        default_params=row.default_params,
        params_schema=row.params_schema,
    )
