"""Sentences with links and times in them, as values: a page and a script draw them alike, as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from instances.reads import iso


@dataclass(frozen=True, slots=True)
class Piece:
    """Plain text; with ``task_id`` a link to a task, with ``ms`` an instant."""

    text: str
    task_id: str = ""
    ms: int | None = None

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"text": self.text}
        if self.task_id:
            found["task_id"] = self.task_id
        if self.ms is not None:
            found["ms"] = self.ms
        return found


Sentence = list[Piece]
Value = str | int | Piece | Sequence[Piece]
_PLACE = re.compile(r"\{(\w+)\}")


def at(ms: int) -> Piece:
    return Piece(iso(ms) or "", ms=ms)


def fill(pattern: str, **values: Value) -> Sentence:
    """A translated pattern with its ``{places}`` filled in; what is put in is never read as a pattern."""
    pieces: Sentence = []
    for i, part in enumerate(_PLACE.split(pattern)):
        value: Value = values[part] if i % 2 else part
        if isinstance(value, Piece):
            pieces.append(value)
        elif isinstance(value, str | int):
            pieces.append(Piece(str(value)))
        else:
            pieces += value
    return [piece for piece in pieces if piece.text]


def plain(sentence: Iterable[Piece]) -> str:
    return "".join(piece.text for piece in sentence)


def listed(pieces: Sequence[Piece]) -> Sentence:
    """a, b, c"""
    found: Sentence = []
    for piece in pieces:
        found += [Piece(", "), piece] if found else [piece]
    return found


def as_json(sentences: Iterable[Sentence]) -> list[list[dict[str, Any]]]:
    return [[piece.as_json() for piece in sentence] for sentence in sentences]
