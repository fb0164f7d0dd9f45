"""The error codes of tasks that failed, for the list of failures of a trace page. Reads only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from instances.models import TaskInstance, TaskSaid
from tower.reading import invalid_query
from tower.schemas import STATUSES, TaskInstanceStatus

#: Tasks that one request names (static/tree/errors.js asks for no more).
MOST_ASKED = 500
#: Letters of a message that a line shows.
SHOWN = 300
FAILED = STATUSES.index(TaskInstanceStatus.FAILED)


def asked(text: str) -> list[int]:
    """The ``n`` that a request names: numbers with commas between."""
    parts = text.split(",")
    if len(parts) > MOST_ASKED or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise invalid_query("n", f"Give up to {MOST_ASKED} numbers of tasks with commas between.")
    return [int(part) for part in parts]


def codes_of(number: int, tasks: Sequence[int]) -> dict[str, Any]:
    """Each code once, with the message of the first task of it; ``of`` names the code of each task."""
    keys = [number << 32 | n for n in tasks]
    rows = TaskSaid.objects.filter(task__in=keys).values_list("task", "error_code", "error_msg")
    said = {task: (code or "", message or "") for task, code, message in rows}
    codes: dict[str, tuple[int, str]] = {}
    of: list[int] = []
    for key in keys:
        code, message = said.get(key, ("", ""))
        of.append(codes.setdefault(code, (len(codes), message[:SHOWN]))[0])
    return {"codes": [[code, message] for code, (_, message) in codes.items()], "of": of}


def causes(rows: QuerySet[TaskInstance]) -> QuerySet[TaskInstance]:
    """Those of ``rows`` that failed without a failed child."""
    below = TaskInstance.objects.filter(parent_id=OuterRef("pk"), status=FAILED)
    return rows.filter(~Exists(below), status=FAILED)
