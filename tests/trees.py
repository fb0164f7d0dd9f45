"""Trees written as text, put into the tables directly: ``a_tree("root:RUNNING(a:SUCCESS b(c d))")``.

For tests of what *reads* trees. What makes them is tested through its doors.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from django.db import models, transaction

from instances.live import TraceChange, row_of
from instances.models import Intent, IntentLedger, TaskBody, TaskInstance, TaskSaid, Trace
from tower.schemas import ACTIONS, KINDS, STATUSES, ActorType, ControlAction, TaskInstanceStatus

NOW_MS = 1_734_567_890_000
ENDED = range(2, len(STATUSES))

_serial = itertools.count(1)
_WORD = re.compile(r"\s*(?:([A-Za-z0-9][\w.\-]*)(?::([A-Z_]+))?|([()]))")


class Tree:
    """A trace in the tables. Each ``grow`` and ``change`` is one committed batch: it raises ``seq``."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    @property
    def id(self) -> str:
        return str(self.trace.id)

    @property
    def number(self) -> int:
        return self.trace.number

    @property
    def seq(self) -> int:
        return self.trace.seq

    def __getitem__(self, id: str) -> TaskInstance:
        found: TaskInstance = TaskInstance._base_manager.get(tree_id=self.number, id=id)
        return found

    def nodes(self) -> list[TaskInstance]:
        return list(TaskInstance._base_manager.filter(tree_id=self.number).order_by("n"))

    @transaction.atomic
    def grow(self, parent: str | None, text: str, **fields: Any) -> TraceChange:
        """Hang the trees of ``text`` below ``parent`` (None: at the top; the first one becomes the root)."""
        known = {node.id: node for node in self.nodes()}
        made: list[TaskInstance] = []
        for id, status, above in _walk(text, parent):
            up = known.get(above) if above else None
            made.append(self._node(id, status, up, **fields))
            known[id] = made[-1]
            if up is not None and made[-1].kind != KINDS.index(ActorType.GROUP_AGG):
                up.kids += 1
                up.kids_ended += made[-1].status in ENDED
        before = self.trace.seq
        self._next_batch([*made])
        TaskInstance._base_manager.bulk_create(made)
        parents = [node for node in known.values() if node.kids and node not in made]
        for node in parents:
            self._write(node, kids=node.kids, kids_ended=node.kids_ended, rev=self.seq)
        return self._said(before, parents, made)

    @transaction.atomic
    def change(self, ids: str | Sequence[str], **fields: Any) -> TraceChange:
        """Set columns of tasks, as one batch."""
        before = self.trace.seq
        self._next_batch([])
        nodes = [self[id] for id in ([ids] if isinstance(ids, str) else ids)]
        for node in nodes:
            self._write(node, **fields, rev=self.seq)
        self._recount()
        return self._said(before, nodes, [])

    def say(self, id: str, **texts: str | None) -> None:
        TaskSaid.objects.update_or_create(task=self[id].key, defaults=texts)

    def describe(self, id: str, **body: Any) -> None:
        TaskBody.objects.update_or_create(task=self[id].key, defaults=body)

    @transaction.atomic
    def ask(self, target: str, action: ControlAction) -> Intent:
        """Put a control at a place ("" for the whole tree)."""
        ledger, _ = IntentLedger.objects.get_or_create(trace=self.number)
        ledger.last_number += 1
        ledger.save()
        values = {
            "action": ACTIONS.index(action),
            "number": ledger.last_number,
            "control_id": f"c{ledger.last_number}",
            "created_ms": NOW_MS,
        }
        return Intent.objects.update_or_create(trace=self.number, target=target, defaults=values)[0]

    def end(self) -> None:
        self._set_trace(ended_ms=NOW_MS + 60_000, finished_ms=NOW_MS + 60_000)

    # -- rows

    def _node(
        self, id: str, status: TaskInstanceStatus, up: TaskInstance | None, **fields: Any
    ) -> TaskInstance:
        n = self.trace.next_n
        self.trace.next_n += 1
        is_root = up is None and self.trace.root_n is None and fields.get("registered", True)
        if is_root:
            self.trace.root_n = n
        started = status is not TaskInstanceStatus.PENDING
        values = {
            "key": self.number << 32 | n,
            "tree_id": self.number,
            "n": n,
            "id": id,
            "parent_id": up.key if up else None,
            "depth": up.depth + 1 if up else 0 if is_root else 1,
            "kind": KINDS.index(ActorType.EXECUTION),
            "job_id": "job",
            "registered": True,
            "attached": up.attached if up else is_root,
            "status": STATUSES.index(status),
            "started_ms": NOW_MS + n if started else None,
            "finished_ms": NOW_MS + 1_000 + n if STATUSES.index(status) in ENDED else None,
            "rev": self.trace.seq + 1,
            "created_ms": NOW_MS,
            "updated_ms": NOW_MS,
            "lft": 0,
            "rght": 0,
            "level": 0,
        }
        return TaskInstance(**values | fields)

    def _write(self, node: TaskInstance, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(node, name, value)
        TaskInstance._base_manager.filter(key=node.key).update(**fields)

    def _next_batch(self, made: list[TaskInstance]) -> None:
        self._set_trace(seq=self.trace.seq + 1, next_n=self.trace.next_n, root_n=self.trace.root_n)
        self._recount(made)

    def _recount(self, made: Sequence[TaskInstance] = ()) -> None:
        stored = TaskInstance._base_manager.filter(tree_id=self.number).values("status").order_by("status")
        counts = {row["status"]: row["many"] for row in stored.annotate(many=models.Count("key"))}
        for node in made:
            counts[node.status] = counts.get(node.status, 0) + 1
        self._set_trace(**{status.value.lower(): counts.get(i, 0) for i, status in enumerate(STATUSES)})
        root = [node for node in [*self.nodes(), *made] if node.n == self.trace.root_n]
        if root:
            self._set_trace(
                status=root[0].status, started_ms=root[0].started_ms, finished_ms=root[0].finished_ms
            )

    def _set_trace(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self.trace, name, value)
        Trace.objects.filter(number=self.number).update(**fields)

    def _said(self, before: int, rows: Sequence[TaskInstance], new: Sequence[TaskInstance]) -> TraceChange:
        return TraceChange(
            self.number,
            self.id,
            before,
            self.seq,
            [_row(node) for node in rows],
            [_row(node) for node in new],
        )


def a_tree(text: str, *, trace_id: str = "", **fields: Any) -> Tree:
    """A trace with these tasks; an empty text gives a trace that readers must not see."""
    serial = next(_serial)
    trace = Trace.objects.create(
        id=trace_id or f"run-{serial}", job_id="job", name="A run", created_ms=NOW_MS, updated_ms=NOW_MS
    )
    tree = Tree(trace)
    if text:
        tree.grow(None, text, **fields)
    return tree


def _row(node: TaskInstance) -> tuple[Any, ...]:
    node.parent_n = None if node.parent_id is None else node.parent_id & 0xFFFFFFFF
    return row_of(node)


def _walk(text: str, top: str | None) -> Iterator[tuple[str, TaskInstanceStatus, str | None]]:
    above: list[str | None] = [top]
    last: str | None = top
    for id, status, bracket in _WORD.findall(text):
        if bracket == "(":
            above.append(last)
        elif bracket == ")":
            above.pop()
        else:
            last = id
            yield id, TaskInstanceStatus(status or "PENDING"), above[-1]
