"""The search of a trace page in what its snapshot does not hold: labels, messages, errors, workers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson
from django.db.models import Q

from instances.models import TaskSaid
from instances.rows import run
from tower.schemas import STATUSES

#: Tasks that one search names; a page that finds more says so.
MOST_FOUND = 5_000
#: Key of a search → a task's texts, any of which may hold the words (static/tree/search.js).
TEXTS = {"error": ("error_code", "error_msg"), "message": ("message",), "worker": ("worker",)}
_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed into the search, taken apart as ``static/tree/search.js`` does it."""

    plain: str
    id: str
    status: int | None
    #: (key, value) for what a row does not show.
    asks: tuple[tuple[str, str], ...]


def parse(text: str) -> Typed:
    plain: list[str] = []
    asks: list[tuple[str, str]] = []
    id, status = "", None
    for word in _WORD.findall(text):
        key, _, said = word.partition(":")
        said = said.replace('"', "")
        named = [i for i, name in enumerate(STATUSES) if said and name.startswith(said.upper())]
        if key == "status" and named:
            status = named[0]
        elif key == "id" and said:
            id = said.lower()
        elif (key in TEXTS or key == "label") and said:
            asks.append((key, said))
        else:
            plain.append(word.replace('"', ""))
    return Typed(" ".join(plain).strip().lower(), id, status, tuple(asks))


def find_in(number: int, asked: str) -> list[int]:
    """The ``n`` of the tasks that fulfil all of ``asked``, one more than ``MOST_FOUND`` at most."""
    found: set[int] | None = None
    for key, value in parse(asked.replace("\0", "")).asks:
        here = labelled(number, value) if key == "label" else saying(number, TEXTS[key], value)
        found = here if found is None else found & here
    return sorted(found or ())[: MOST_FOUND + 1]


def saying(number: int, columns: tuple[str, ...], value: str) -> set[int]:
    holds = Q()
    for column in columns:
        holds |= Q(**{f"{column}__icontains": value})
    low = number << 32
    rows = TaskSaid.objects.filter(holds, task__gte=low, task__lt=low + (1 << 32))
    return {task & 0xFFFF_FFFF for task in rows.values_list("task", flat=True)}


def labelled(number: int, value: str) -> set[int]:
    """``key=value`` names one label; a word alone may stand in any key or value."""
    name, exact, wanted = value.partition("=")
    # The database narrows down, byte for byte as JSON has it; the labels themselves decide.
    part = orjson.dumps(name).decode() if exact else ""
    low = number << 32
    rows = run(
        "SELECT b.task, b.labels FROM instances_taskbody b WHERE b.task >= %s AND b.task < %s"
        r" AND b.labels LIKE %s ESCAPE '\'",
        [low, low + (1 << 32), f"%{_escaped(part)}%"],
    )
    found = set[int]()
    for task, text in rows:
        labels = orjson.loads(text)
        if _has(labels, name, wanted) if exact else _holds(labels, value.lower()):
            found.add(task & 0xFFFF_FFFF)
    return found


def _escaped(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _has(labels: dict[str, Any], name: str, wanted: str) -> bool:
    return name in labels and str(labels[name]).lower() == wanted.lower()


def _holds(labels: dict[str, Any], word: str) -> bool:
    return any(word in name.lower() or word in str(value).lower() for name, value in labels.items())
