"""How the versions of a definition differ. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from tower.definitions.edit import RULES
from tower.definitions.jsontext import pretty
from tower.definitions.models import DefinitionVersion, TaskDefinition

SHOWN = 20
#: Versions that the page of two offers to choose from.
OFFERED = 200
#: Longer texts are not compared line by line, which may take the square of their length.
MOST_LINES = 4_000
#: Unchanged lines around a change.
AROUND = 3


@dataclass(frozen=True, slots=True)
class Line:
    """``kind``: same, gone, come, or skip for lines that are left out because nothing changed in them."""

    kind: str
    text: str
    before: int | None = None
    after: int | None = None
    #: Of lines that are left out.
    count: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    label: str
    before: str
    after: str

    @property
    def lines(self) -> list[Line]:
        """The one text turned into the other, line by line."""
        one, other = self.before.splitlines(), self.after.splitlines()
        if len(one) + len(other) > MOST_LINES:
            return [*_side("gone", one, 0, len(one)), *_side("come", other, 0, len(other))]
        return [line for part in _parts(one, other) for line in part]


@dataclass(frozen=True, slots=True)
class Version:
    row: DefinitionVersion
    #: Of the one before it.
    changes: tuple[Changed, ...]

    @property
    def before(self) -> int:
        return self.row.number - 1


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


def _parts(one: list[str], other: list[str]) -> Iterator[Iterable[Line]]:
    shown_to = 0
    for group in SequenceMatcher(None, one, other, autojunk=False).get_grouped_opcodes(AROUND):
        if (left_out := group[0][1] - shown_to) > 0:
            yield [Line("skip", "", count=left_out)]
        for kind, from_one, to_one, from_other, to_other in group:
            if kind == "equal":
                yield (
                    Line("same", text, from_one + n + 1, from_other + n + 1)
                    for n, text in enumerate(one[from_one:to_one])
                )
            else:
                yield _side("gone", one, from_one, to_one)
                yield _side("come", other, from_other, to_other)
        shown_to = group[-1][2]
    if (left_out := len(one) - shown_to) > 0:
        yield [Line("skip", "", count=left_out)]


def _side(kind: str, text: list[str], first: int, last: int) -> Iterator[Line]:
    for n in range(first, last):
        yield Line(kind, text[n], *((n + 1, None) if kind == "gone" else (None, n + 1)))


@dataclass(frozen=True, slots=True)
class Pair:
    before: DefinitionVersion
    after: DefinitionVersion
    changes: tuple[Changed, ...]

    @property
    def versions(self) -> tuple[DefinitionVersion, DefinitionVersion]:
        return self.before, self.after


def pair(definition: TaskDefinition, before: int, after: int) -> Pair | None:
    """Two versions and how they differ, whichever is older; None where there is no such one."""
    found = {row.number: row for row in definition.versions.filter(number__in={before, after})}
    if not {before, after} <= found.keys():
        return None
    return Pair(found[before], found[after], _changes(found[before], found[after]))


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
