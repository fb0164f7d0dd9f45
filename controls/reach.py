"""How far a control reaches: the way down to its place, and what is open there. Reads only.

Trees are walked over ``parent``; the numbers of a tree at rest are not asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.db import connection
from django.db.models import Count

from instances.models import TaskInstance, Trace
from tower.schemas import KINDS, STATUSES, ActorType, TaskInstanceStatus

#: A branch is counted up to here; more is shown as "10000+". A whole tree's counts stand ready.
CAP: Final = 10_000

_TASK = "instances_taskinstance"

_UP = f"""
WITH RECURSIVE up(id, parent_id, height) AS (
    SELECT id, parent_id, 0 FROM {_TASK} WHERE pk = %s
    UNION ALL
    SELECT t.id, t.parent_id, up.height + 1 FROM up JOIN {_TASK} t ON t.pk = up.parent_id
)
SELECT id FROM up ORDER BY height DESC
"""

_BELOW = f"""
WITH RECURSIVE below(pk, status, kind) AS (
    SELECT pk, status, kind FROM {_TASK} WHERE pk = %s
    UNION ALL
    SELECT t.pk, t.status, t.kind FROM below JOIN {_TASK} t ON t.parent_id = below.pk
)
"""
#: The walk ends where both counts have reached the cap.
_OPEN_BELOW = f"""{_BELOW}
SELECT (SELECT count(*) FROM (SELECT 1 FROM below WHERE status = 0 LIMIT {CAP + 1}) AS pending),
       (SELECT count(*) FROM (SELECT 1 FROM below WHERE status = 1 LIMIT {CAP + 1}) AS running)
"""
_COUNTED_BELOW = f"{_BELOW} SELECT status, kind, count(*) FROM below GROUP BY status, kind"


@dataclass(frozen=True, slots=True)
class Affected:
    """What is open at a place and below it."""

    pending: int
    running: int
    #: Counted up to ``CAP`` only.
    capped: bool = False

    @property
    def open(self) -> int:
        return self.pending + self.running

    def as_json(self) -> dict[str, int | str]:
        return {"pending": self._shown(self.pending), "running": self._shown(self.running)}

    def _shown(self, count: int) -> int | str:
        return f"{CAP}+" if self.capped and count > CAP else count


@dataclass(frozen=True, slots=True)
class Part:
    """Tasks of one status and one kind below a place."""

    status: TaskInstanceStatus
    kind: ActorType
    count: int


def key_of(number: int, task_id: str) -> int | None:
    """Where a task stands in the table; None where the tree has no such task."""
    keys: list[int] = list(
        TaskInstance.objects.filter(tree_id=number, id=task_id).values_list("key", flat=True)
    )
    return keys[0] if keys else None


def path_to(key: int) -> list[str]:
    """The ids from the root, or from an unattached top, down to a task."""
    return [id for (id,) in _rows(_UP, key)]


def open_below(key: int) -> Affected:
    [(pending, running)] = _rows(_OPEN_BELOW, key)
    return Affected(pending, running, capped=max(pending, running) > CAP)


def parts_of(trace: Trace, key: int | None) -> list[Part]:
    """Everything below a place (None: the whole tree) by status and kind, in the order of the enums."""
    if key is None:
        tasks = TaskInstance.of_tree(trace.number).order_by()
        found: Iterable[Any] = tasks.values_list("status", "kind").annotate(Count("key"))
    else:
        found = _rows(_COUNTED_BELOW, key)
    return [Part(STATUSES[status], KINDS[kind], count) for status, kind, count in sorted(found)]


def _rows(sql: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())
