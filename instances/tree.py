"""The only door to which tasks exist, where they hang, and the tree columns.

``parent`` is the truth. ``lft rght level`` are a read index of a tree at rest
(why: docs/decisions/mptt-behind-tree.md); nothing but ``numbered`` readers may
rely on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from django.conf import settings
from django.db.models import QuerySet

from instances import rows
from instances.intake import Registering
from instances.intents import InForce
from instances.lifecycle import Key
from instances.models import TaskInstance, Trace
from instances.node import AGGREGATORS, Node
from instances.work import TraceWork, Work
from instances.writer import in_transaction
from tower.definitions.rules import CurrentVersion
from tower.errors import Refusal
from tower.schemas import KINDS

EXECUTION = KINDS.index(KINDS[-1])
#: Tasks numbered by one transaction: a late report waits for no more of them (``bench/numbering.py``).
NUMBERS_AT_ONCE = 5_000


@dataclass(slots=True)
class Placed:
    """A registration that holds: its task, and whether it was new."""

    node: Node
    created: bool


def _refused(code: str, field: str, message: str, **details: Any) -> Refusal:
    return Refusal(code, message, {"field": field, **details})


# -- registering


def place(work: Work, item: Registering, current: dict[str, CurrentVersion]) -> Placed | Refusal:
    """Register one task, whatever came before: itself, its children, its reports."""
    trace = work.by_trace_id[item.trace_id]
    node = work.find(trace, item.id)
    if node is not None and node.registered:
        return _repeat(work, trace, node, item)
    version = current.get(item.job_id)
    kind = item.kind if item.kind is not None else _kind_of(version)
    if kind is None:
        return _refused("missing_field", "actor_type", f"actor_type is needed: no definition {item.job_id}")
    if item.parent_id is None and trace.root_n is not None and (node is None or node.n != trace.root_n):
        return _refused("second_root", "parent_id", f"{trace.id} has a root already")
    wanted = (node is None) + (item.parent_id is not None and work.find(trace, item.parent_id) is None)
    if trace.next_n + wanted > settings.TOWER_MAX_TRACE_NODES:
        return _too_large()
    if found := _fits(work, trace, node, item.parent_id):
        return found
    if node is None:
        node = _born(work, trace, item.id, kind)
    _fill(work, trace, node, item, kind, version)
    if item.parent_id is None:
        _make_root(work, trace, node, item, version)
    else:
        parent = work.find(trace, item.parent_id) or _born(work, trace, item.parent_id, EXECUTION)
        hang(work, trace, node, parent)
    return Placed(node, created=True)


def _too_large() -> Refusal:
    most = settings.TOWER_MAX_TRACE_NODES
    return _refused("tree_too_large", "id", f"A tree has at most {most} tasks", limit=most)


def _kind_of(version: CurrentVersion | None) -> int | None:
    return None if version is None else KINDS.index(version.actor_type)


def _repeat(work: Work, trace: TraceWork, node: Node, item: Registering) -> Placed | Refusal:
    """The same registration again changes nothing; a contradicting one is refused."""
    if node.job_id != item.job_id or (item.kind is not None and node.kind != item.kind):
        field = "job_id" if node.job_id != item.job_id else "actor_type"
        return _refused("conflict", field, f"{node.id} is registered with another {field}")
    parent = work.parent_of(node)
    if (parent.id if parent else None) != item.parent_id:
        stands = parent.id if parent else None
        return _refused(
            "parent_conflict", "parent_id", f"{node.id} is registered below {stands}", stands=stands
        )
    return Placed(node, created=False)


def _fill(
    work: Work, trace: TraceWork, node: Node, item: Registering, kind: int, version: CurrentVersion | None
) -> None:
    if node.kind != kind:
        work.uncount(node)  # a parent counts GROUP_AGG apart
        node.kind = kind
    node.registered, node.registered_plan = True, item.planned
    node.job_id, node.name = item.job_id, item.name
    node.version = None if version is None else version.pk
    if node.own.heard:
        work.wind(node)  # it reported before anybody knew its time limit
    node.reshaped = node.changed = True
    work.dirty.add(node.key)
    work.reshape(trace)
    if item.collects and kind in AGGREGATORS:
        work.gather(node, item.collects)
    work.bodies.append(
        (node.key, item.input_params, _json(item.labels or None), _json(item.collects or None))
    )


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


def _make_root(
    work: Work, trace: TraceWork, node: Node, item: Registering, version: CurrentVersion | None
) -> None:
    trace.root_n, trace.changed = node.n, True
    trace.job_id, trace.name = item.job_id, item.name
    if version is not None:
        trace.name, trace.version = item.name or version.name, version.number
    trace.started_by, trace.start_digest = item.started_by, item.digest
    if item.labels:
        work.labels.append((trace.number, item.labels))
    work.uncount(node)
    node.parent, node.attached, node.reshaped = None, True, True
    _shift(work, node, 0)


# -- hanging


def _fits(work: Work, trace: TraceWork, node: Node | None, parent_id: str | None) -> Refusal | None:
    """Why a task cannot hang below ``parent_id``: a ring, or too deep a tree."""
    if parent_id is None:
        return None
    parent = work.find(trace, parent_id)
    below = _below(work, node) if node is not None else []
    if parent is not None and any(parent is one for one in below):
        return _refused("cycle", "parent_id", f"{parent_id} hangs below {below[0].id}")
    height = max((one.depth for one in below), default=0) - (node.depth if node is not None else 0)
    over = (parent.depth if parent is not None else 1) + 1 + max(height, 0)
    if over > settings.TOWER_MAX_DEPTH:
        # Tops that nobody has named a parent for lie at depth 1 but count from 0.
        most = settings.TOWER_MAX_DEPTH + (0 if parent is not None and _is_rooted(work, trace, parent) else 1)
        if over > most:
            return _refused(
                "path_too_deep", "parent_id", f"A tree is at most {settings.TOWER_MAX_DEPTH} deep",
                limit=settings.TOWER_MAX_DEPTH,
            )  # fmt: skip
    return None


def _is_rooted(work: Work, trace: TraceWork, node: Node) -> bool:
    at: Node | None = node
    while at is not None and at.parent is not None:
        at = work.parent_of(at)
    return at is not None and at.n == trace.root_n


def _below(work: Work, node: Node) -> list[Node]:
    """The task and all below it; what is stored there must be loaded."""
    found, at = [node], 0
    while at < len(found):
        found.extend(work.children.get(found[at].key, ()))
        at += 1
    return found


def _born(work: Work, trace: TraceWork, id: str, kind: int) -> Node:
    """A task that the tower hears of for the first time; under a CANCEL of the whole tree it is born dead."""
    node = work.make(trace, id, kind)
    if cancel := work.cancel_over(node):
        work.kill(node, control_id=cancel.control_id)
    return node


def born(work: Work, trace: TraceWork, id: str, kind: int) -> Node | Refusal:
    """The placeholder of a task that a report names."""
    if trace.next_n >= settings.TOWER_MAX_TRACE_NODES:
        return _too_large()
    return _born(work, trace, id, kind)


def hang(work: Work, trace: TraceWork, node: Node, parent: Node) -> None:
    """Hang a task, and all below it, under ``parent``; depth, counts and intents follow in this transaction.

    What a CANCEL above covers from now on is CANCELLED, unless it had ended, or
    was ending by its children, when that control was taken (contract, section 5).
    """
    if node.parent == parent.key and node.attached:
        return
    cancel = work.cancel_over(parent)
    if cancel and parent.killed_ms is None and work.idle(parent):
        # A first child between a cancel and its sweep changes nothing: the parent ends first.
        work.kill(parent, control_id=cancel.control_id)
    covered_before = {one.key for one in _below(work, node) if work.cancel_over(one)} if cancel else set()
    work.uncount(node)
    if node.parent is not None:
        work.dirty.add(node.parent)
        work.children[node.parent] = [c for c in work.children.get(node.parent, []) if c is not node]
    node.parent, node.attached, node.reshaped, node.changed = parent.key, True, True, True
    work.children.setdefault(parent.key, []).append(node)
    work.dirty.update((node.key, parent.key))
    work.reshape(trace)
    _shift(work, node, parent.depth + 1)
    if cancel is not None:
        for one in _below(work, node):
            _come_under(work, one, cancel, covered=one.key in covered_before)


def _come_under(work: Work, node: Node, cancel: InForce, *, covered: bool) -> None:
    work.dirty.add(node.key)  # a cancel closes its plan
    if node.killed_ms is not None:
        return
    if node.new or (not covered and not _stood_at(work, node, cancel)):
        work.kill(node, control_id=cancel.control_id)


def _stood_at(work: Work, node: Node, cancel: InForce) -> bool:
    """It had ended, or was ending by its children, when the control was taken."""
    taken = cancel.cancel_seq or 0
    if node.settled_seq is not None and node.settled_seq <= taken:
        return True
    had_child = node.kid_seq is not None and node.kid_seq <= taken
    heard = node.heard_seq is not None and node.heard_seq <= taken
    return had_child and (not heard or work.join_of(node) is not None)


def _shift(work: Work, top: Node, depth: int) -> None:
    by = depth - top.depth
    if by == 0:
        return
    for node in _below(work, top):
        node.depth += by
        node.reshaped = node.changed = True


def hint(work: Work, trace: TraceWork, node: Node, parent_id: str, key: Key) -> Refusal | None:
    """A report names a parent. Before a registration the smallest ``(timestamp_ms, event_id)`` decides.

    Every parent that is named becomes a placeholder, also where it does not decide.
    """
    if parent_id == node.id:
        return _refused("cycle", "parent_id", f"{node.id} names itself as its parent")
    parent = work.find(trace, parent_id)
    if parent is None:
        found = born(work, trace, parent_id, EXECUTION)
        if isinstance(found, Refusal):
            return found
        parent = found
    if node.registered or (node.hint is not None and node.hint < key):
        return None
    if node.parent != parent.key:
        if refused := _fits(work, trace, node, parent_id):
            return refused
        hang(work, trace, node, parent)
    node.hint, node.changed = key, True
    return None


def hear_kind(work: Work, node: Node, kind: int, key: Key) -> None:
    """A placeholder's actor type is that of its earliest report that names one."""
    if node.kind_hint is not None and node.kind_hint < key:
        return
    node.kind_hint, node.changed = key, True
    if node.kind != kind:
        work.uncount(node)  # a parent counts GROUP_AGG apart
        node.kind, node.reshaped = kind, True
        work.dirty.add(node.key)


def takes_hint(node: Node, key: Key) -> bool:
    return not node.registered and (node.hint is None or key < node.hint)


# -- reading


def path_of(tree: int, key: int) -> list[tuple[int, str]]:
    """(key, id) from the top of its tree down to one task."""
    found = {row[0]: row for row in rows.ancestors_of([key])}
    path, at = [], found.get(key)
    while at is not None:
        path.append((at[0], at[3]))
        at = found.get(at[4]) if at[4] is not None else None
    return path[::-1]


def numbered(trace: Trace) -> QuerySet[TaskInstance]:
    """The tasks of a tree at rest in pre-order, with mptt's columns true; numbers it where it must.

    mptt's own ``get_descendants()`` and friends are right on these rows, and on no others.
    """
    number(trace.number)
    return TaskInstance.of_tree(trace.number).order_by("lft")


def number(tree: int) -> bool:
    """Write the nested-set columns of one tree; False where it changed meanwhile, or stood already.

    Computed unlocked, written under the lock in chunks and only while the shape is
    unchanged; true once the last has raised ``numbered_seq``. Raises neither ``seq``
    nor ``rev``. Equal to mptt's own rebuild row for row (test).
    """
    trace = Trace.objects.filter(number=tree).values_list("shape_seq", "numbered_seq").first()
    if trace is None or trace[0] == trace[1]:
        return False
    stored = TaskInstance.of_tree(tree).values_list("key", "parent_id", "lft", "rght", "level")
    found = list(stored)
    numbers = nested_set((key, parent) for key, parent, *_ in found)
    changed = [(key, *numbers[key]) for key, _, *before in found if numbers[key] != tuple(before)]
    chunks = [changed[at : at + NUMBERS_AT_ONCE] for at in range(0, len(changed), NUMBERS_AT_ONCE)]
    written = (in_transaction(partial(_write_numbers, tree, trace[0], chunk)) for chunk in chunks)
    return all(written) and in_transaction(partial(_write_numbers, tree, trace[0], [], numbered=True))


def _write_numbers(tree: int, shape: int, changed: Sequence[rows.Row], *, numbered: bool = False) -> bool:
    locked = Work(0).lock_number(tree)
    if locked is None or locked.shape_seq != shape:
        return False
    columns = (("pk", "bigint"), ("lft", "int"), ("rght", "int"), ("level", "int"))
    rows.update(rows.TASK, "pk", columns, changed)
    if numbered:
        Trace.objects.filter(number=tree).update(numbered_seq=shape)
    return True


def nested_set(pairs: Any) -> dict[int, tuple[int, int, int]]:
    """(lft, rght, level) of each (key, parent) given in order of ``n``; tops stand one after the other.

    Iterative: a tree may be 1,000 levels deep.
    """
    children: dict[int | None, list[int]] = {}
    known: set[int] = set()
    given = list(pairs)
    known.update(key for key, _ in given)
    for key, parent in given:
        children.setdefault(parent if parent in known else None, []).append(key)
    numbers: dict[int, tuple[int, int, int]] = {}
    counter = 0
    for top in children.get(None, []):
        counter += 1
        open_rows = [(top, 0, iter(children.get(top, ())))]
        left = {top: counter}
        while open_rows:
            key, level, rest = open_rows[-1]
            child = next(rest, None)
            counter += 1
            if child is None:
                numbers[key] = (left[key], counter, level)
                open_rows.pop()
            else:
                left[child] = counter
                open_rows.append((child, level + 1, iter(children.get(child, ()))))
    return numbers
