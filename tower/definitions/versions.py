"""How the versions of a definition differ. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tower.definitions.edit import RULES
from tower.definitions.jsontext import pretty
from tower.definitions.models import DefinitionVersion, TaskDefinition

SHOWN = 20


@dataclass(frozen=True, slots=True)
class Changed:
    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Version:
    row: DefinitionVersion
    changes: tuple[Changed, ...]


def newest(definition: TaskDefinition) -> list[Version]:
    """The newest versions, each with what it changed of the one before."""
    rows = list(definition.versions.order_by("-number")[: SHOWN + 1])
    pairs = zip(rows, [*rows[1:], None], strict=True)
    return [Version(row, _changes(before, row)) for row, before in pairs][:SHOWN]


def _changes(before: DefinitionVersion | None, after: DefinitionVersion) -> tuple[Changed, ...]:
    if before is None:
        return ()
    pairs = ((name, _text(getattr(before, name)), _text(getattr(after, name))) for name in RULES)
    return tuple(
        Changed(str(DefinitionVersion._meta.get_field(name).verbose_name), one, other)  # type: ignore[union-attr]
        for name, one, other in pairs
        if one != other
    )


def _text(value: Any) -> str:
    if value is None:
        return "—"
    return value if isinstance(value, str) else pretty(value)


def changes_of(version: DefinitionVersion) -> tuple[Changed, ...]:
    """What one version changed of the one before it."""
    before = DefinitionVersion.objects.filter(
        definition=version.definition_id, number=version.number - 1
    ).first()
    return _changes(before, version)
