"""Reads of traces and trees, in a few statements each. Paths, depths and commands are derived here.

Statements run on the calling thread's connection. What has to fit together
(``seq`` and the nodes) is read inside ``at_one_moment``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import connection, transaction

from instances import intents as asking
from instances.intents import InForce
from instances.rows import each, is_postgres, keys_of, run
from tower.definitions import rules
from tower.errors import NotFound
from tower.schemas import ACTIONS, ID_PATTERN, KINDS, STATUSES

Row = Sequence[Any]

MASK = 0xFFFF_FFFF
TASK = "instances_taskinstance"
#: Plain text, which orjson writes faster than members of an enum.
STATUS_WORDS, KIND_WORDS, ACTION_WORDS = (tuple(map(str, words)) for words in (STATUSES, KINDS, ACTIONS))
_ID = re.compile(ID_PATTERN)
#: SQLite asks after so many steps of its machine whether the time is up: about each millisecond.
_STEPS = 50_000


@contextmanager
def at_one_moment(seconds: float | None = None) -> Iterator[None]:
    """All reads inside see one state of the database; after ``seconds`` they end as ``query_timeout``.

    Inside a transaction that is open already it adds the limit only.
    """
    with connection.wrap_database_errors:
        connection.ensure_connection()
        if connection.in_atomic_block:
            yield
        elif is_postgres():
            with transaction.atomic():
                run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                if seconds is not None:
                    run(f"SET LOCAL statement_timeout = {int(seconds * 1_000)}")
                yield
        else:
            with _deferred(seconds):
                yield


@contextmanager
def _deferred(seconds: float | None) -> Iterator[None]:
    # Not atomic(): that begins IMMEDIATE here, and a reader would wait for the writers and they for it.
    raw: Any = connection.connection
    raw.execute("BEGIN DEFERRED")
    if seconds is not None:
        until = time.monotonic() + seconds
        raw.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        yield
    finally:
        raw.set_progress_handler(None, 0)
        if raw.in_transaction:
            raw.execute("ROLLBACK")


def valid_id(raw: str) -> bool:
    # fullmatch: "$" alone lets a newline pass.
    return _ID.fullmatch(raw) is not None


# -- times

_shown: dict[int, str] = {}
_seconds: dict[int, str] = {}
_MOST_KEPT = 100_000


def iso(ms: int | None) -> str | None:
    """Epoch milliseconds as 2024-12-18T23:31:30.123Z."""
    if ms is None:
        return None
    # Tasks of one batch share their times; formatting each of 40,000 anew takes as long as reading them.
    return _shown.get(ms) or _written(ms)


def _written(ms: int) -> str:
    second, rest = divmod(ms, 1_000)
    head = _seconds.get(second)
    if head is None:
        head = _seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    for kept in (_shown, _seconds):
        if len(kept) > _MOST_KEPT:
            kept.clear()
    shown = _shown[ms] = f"{head}.{rest:03d}Z"
    return shown


# -- traces


@dataclass(frozen=True, slots=True)
class Head:
    """One trace without its tasks."""

    number: int
    id: str
    root_n: int | None
    root_id: str | None
    progress: float | None
    status: int
    seq: int
    total: int
    counts: tuple[int, ...]
    name: str
    job_id: str
    version: int | None
    started_by: str
    started_ms: int | None
    finished_ms: int | None
    created_ms: int
    updated_ms: int
    ended_ms: int | None
    #: The number of its last control.
    control: int

    @property
    def open(self) -> int:
        return self.counts[0] + self.counts[1]

    @property
    def keys(self) -> tuple[int, int]:
        """The half-open range of its tasks' primary keys."""
        return self.number << 32, (self.number + 1) << 32


_HEAD = (
    "SELECT t.number, t.id, t.root_n, r.id, r.progress, t.status, t.seq, t.next_n, t.pending, t.running,"
    " t.success, t.failed, t.cancelled, t.skipped, t.name, t.job_id, t.version, t.started_by, t.started_ms,"
    " t.finished_ms, t.created_ms, t.updated_ms, t.ended_ms, COALESCE(l.last_number, 0)"
    " FROM instances_trace t"
    f" LEFT JOIN {TASK} r ON r.pk = t.number * 4294967296 + t.root_n"
    " LEFT JOIN instances_intentledger l ON l.trace = t.number"
)
#: The row is made before the first task is, in a transaction of its own.
_EXISTS = "t.next_n > 0"


def _head(row: Row) -> Head:
    number, id, root_n, root_id, progress, status, seq, total = row[:8]
    rest: tuple[Any, ...] = tuple(row[14:])
    return Head(number, id, root_n, root_id, progress, status, seq, total, tuple(row[8:14]), *rest)


def head(trace_id: str) -> Head:
    """Raises NotFound where readers know no such trace."""
    rows = run(f"{_HEAD} WHERE t.id = %s AND {_EXISTS}", [trace_id]) if valid_id(trace_id) else []
    if not rows:
        raise NotFound("There is no such trace.", trace_id=trace_id)
    return _head(rows[0])


def head_of(number: int) -> Head | None:
    rows = run(f"{_HEAD} WHERE t.number = %s AND {_EXISTS}", [number])
    return _head(rows[0]) if rows else None


def heads(numbers: Iterable[int]) -> list[Head]:
    """Newest first."""
    source, param = keys_of(numbers)
    found = run(f"{_HEAD} JOIN {source} ON w.key = t.number WHERE {_EXISTS} ORDER BY t.number DESC", [param])
    return [_head(row) for row in found]


def heads_in_order(numbers: Sequence[int]) -> list[Head]:
    known = {head.number: head for head in heads(numbers)}
    return [known[number] for number in numbers if number in known]


def heads_where(
    conditions: Sequence[str], params: Sequence[Any], limit: int, *, oldest_first: bool = False
) -> list[Head]:
    """Those that fulfil every condition on ``t``, newest first."""
    where = " AND ".join([_EXISTS, *conditions])
    order = "ASC" if oldest_first else "DESC"
    found = run(f"{_HEAD} WHERE {where} ORDER BY t.number {order} LIMIT %s", [*params, limit])
    return [_head(row) for row in found]


def numbers_of(trace_ids: Sequence[str]) -> dict[str, int]:
    known = [id for id in trace_ids if valid_id(id)]
    if not known:
        return {}
    marks = ", ".join(["%s"] * len(known))
    sql = f"SELECT t.id, t.number FROM instances_trace t WHERE t.id IN ({marks}) AND {_EXISTS}"
    return {row[0]: row[1] for row in run(sql, known)}


def labels_of(numbers: Iterable[int]) -> dict[int, dict[str, str]]:
    source, param = keys_of(numbers)
    found: dict[int, dict[str, str]] = {}
    for number, key, value in run(
        f"SELECT l.trace_id, l.key, l.value FROM {source} JOIN instances_tracelabel l ON l.trace_id = w.key"
        " ORDER BY l.key",
        [param],
    ):
        found.setdefault(number, {})[key] = value
    return found


# -- intents


@dataclass(frozen=True, slots=True)
class Asked:
    """The intents of one trace. ``at`` is keyed by task id, "" for the whole tree; ``n_of`` by task id."""

    at: Mapping[str, InForce] = field(default_factory=dict)
    n_of: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {
                "task_id": intent.target or None,
                "action": ACTION_WORDS[intent.action],
                "number": intent.number,
                "control_id": intent.control_id,
            }
            for intent in self.at.values()
        ]

    def as_columns(self) -> list[list[int]]:
        """[n or -1, index of the action, number], as browsers take it."""
        return [
            [self.n_of[intent.target] if intent.target else -1, intent.action, intent.number]
            for intent in self.at.values()
            if not intent.target or intent.target in self.n_of
        ]


NOTHING_ASKED = Asked()


def asked(numbers: Iterable[int]) -> dict[int, Asked]:
    """The intents of several traces, in order of their numbers; traces without any are left out."""
    source, param = keys_of(numbers)
    found: dict[int, tuple[dict[str, InForce], dict[str, int]]] = {}
    for number, target, action, control, control_id, n in run(
        f"SELECT i.trace, i.target, i.action, i.number, i.control_id, k.n FROM {source}"
        " JOIN instances_intent i ON i.trace = w.key"
        f" LEFT JOIN {TASK} k ON k.tree_id = i.trace AND k.id = i.target ORDER BY i.number",
        [param],
    ):
        at, n_of = found.setdefault(number, ({}, {}))
        at[target] = InForce(target, action, control, control_id)
        if n is not None:
            n_of[target] = n
    return {number: Asked(at, n_of) for number, (at, n_of) in found.items()}


def asked_of(number: int) -> Asked:
    return asked([number]).get(number, NOTHING_ASKED)


# -- summaries


def summaries(found: Sequence[Head]) -> list[dict[str, Any]]:
    """Traces as the API shows them, with what is asked and their labels: two statements for all."""
    if not found:
        return []
    numbers = [head.number for head in found]
    intents, labels = asked(numbers), labels_of(numbers)
    return [
        summary(head, intents.get(head.number, NOTHING_ASKED), labels.get(head.number, {})) for head in found
    ]


def summary(head: Head, intents: Asked, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "trace_id": head.id,
        "name": head.name or head.job_id or head.id,
        "job_id": head.job_id or None,
        "job_version": head.version,
        "status": STATUS_WORDS[head.status],
        "progress": head.progress,
        "open": head.open,
        "total": head.total,
        "counts": dict(zip(STATUS_WORDS, head.counts, strict=True)),
        "root_task_id": head.root_id,
        "seq": head.seq,
        "intents": intents.as_json(),
        "labels": labels,
        "started_by": head.started_by or None,
        "started_at": iso(head.started_ms),
        "finished_at": iso(head.finished_ms),
        "created_at": iso(head.created_ms),
        "updated_at": iso(head.updated_ms),
        "ended_at": iso(head.ended_ms),
    }


# -- places: where a task hangs, and what that means


@dataclass(slots=True)
class Places:
    """Path, depth and command of tasks, from the parents and ids of them and all above them.

    Each is found once and kept, since that of a child begins with its parent's.
    """

    trace_id: str
    root_n: int | None
    intents: Asked
    parent: Mapping[int, int | None]
    ids: dict[int, str]
    _known: dict[int, tuple[str, int, int]] = field(default_factory=dict)

    def of(self, n: int) -> tuple[str, int, int]:
        """(``node_path``, ``depth``, index of the action in force)."""
        known = self._known
        if n in known:
            return known[n]
        at = self.parent[n]
        if at in known:  # as nearly always, where parents come first
            place = known[n] = self._below(n)
            return place
        above = [n]
        while at is not None and at not in known:
            above.append(at)
            at = self.parent[at]
        for n in reversed(above):
            known[n] = self._below(n)
        return known[n]

    def _below(self, n: int) -> tuple[str, int, int]:
        id, parent = self.ids[n], self.parent[n]
        own = self.intents.at.get(id)
        strength = own.action if own else asking.RUN
        if parent is not None:
            path, depth, above = self._known[parent]
            return f"{path}{id}/", depth + 1, max(above, strength)
        whole = self.intents.at.get(asking.WHOLE)
        strength = max(strength, whole.action if whole else asking.RUN)
        if n == self.root_n:
            return f"/{self.trace_id}/", 0, strength
        return f"/{self.trace_id}/{id}/", 1, strength


def skeleton(head: Head) -> dict[int, int | None]:
    """n → the parent's n, of a whole tree, in order of ``n``."""
    sql = f"SELECT n, parent_id FROM {TASK} WHERE pk >= %s AND pk < %s ORDER BY pk"
    rows = run(sql, head.keys, binary=True)
    return {n: None if parent is None else parent & MASK for n, parent in rows}


def pre_order(parent: Mapping[int, int | None], root_n: int | None) -> list[tuple[int, int]]:
    """(n, depth) of a whole tree: parents first, siblings by ``n``, what hangs nowhere last."""
    kids: dict[int, list[int]] = {}
    tops: list[int] = []
    for n, up in parent.items():
        if up is None:
            tops.append(n)
        else:
            kids.setdefault(up, []).append(n)
    tops.sort(key=lambda n: (n != root_n, n))
    stack = [(n, 0 if n == root_n else 1) for n in reversed(tops)]
    order: list[tuple[int, int]] = []
    while stack:
        n, depth = stack.pop()
        order.append((n, depth))
        if below := kids.get(n):
            stack.extend([(kid, depth + 1) for kid in reversed(below)])
    return order


def ids_of(number: int, ns: Iterable[int]) -> dict[int, str]:
    source, param = keys_of((number << 32) | n for n in ns)
    rows = run(f"SELECT t.n, t.id FROM {each(source, TASK, 't', 't.pk = w.key')}", [param])
    return {row[0]: row[1] for row in rows}


def n_of(number: int, task_id: str) -> int | None:
    if not valid_id(task_id):
        return None
    rows = run(f"SELECT n FROM {TASK} WHERE tree_id = %s AND id = %s", [number, task_id])
    return rows[0][0] if rows else None


def with_all_above(number: int, ns: Iterable[int]) -> tuple[dict[int, int | None], dict[int, str]]:
    """Parents and ids of some tasks and of all above them, in one statement."""
    source, param = keys_of((number << 32) | n for n in ns)
    rows = run(
        "WITH RECURSIVE up(pk, parent_id, n, id) AS ("
        f"SELECT t.pk, t.parent_id, t.n, t.id FROM {each(source, TASK, 't', 't.pk = w.key')}"
        f" UNION SELECT t.pk, t.parent_id, t.n, t.id FROM {each('up', TASK, 't', 't.pk = up.parent_id')}"
        ") SELECT n, parent_id, id FROM up",
        [param],
    )
    parent = {n: None if up is None else up & MASK for n, up, _ in rows}
    return parent, {n: id for n, _, id in rows}


# -- whole tasks

_DETAIL = (
    "SELECT t.n, t.id, t.parent_id, t.kind, t.job_id, t.version, t.name, t.registered, t.attached, t.status,"
    " t.reported_status, t.attempt, t.progress, t.holds, t.started_ms, t.finished_ms, t.planned, t.kids,"
    " t.kids_ended, t.rev, t.created_ms, t.updated_ms, b.input_params, b.labels, b.collects, s.message,"
    " s.worker, s.output_ref, s.error_code, s.error_msg"
)
_SIDES = " LEFT JOIN instances_taskbody b ON b.task = t.pk LEFT JOIN instances_tasksaid s ON s.task = t.pk"
#: By index for each task (``rows.each``); hashed whole, both tables cost a window of 200 rows 8 of 9 ms.
_SIDES_EACH = "".join(
    f" LEFT JOIN LATERAL (SELECT * FROM {table} WHERE task = t.pk OFFSET 0) {alias} ON true"
    for table, alias in (("instances_taskbody", "b"), ("instances_tasksaid", "s"))
)
FIELDS = (
    "id", "trace_id", "parent_id", "job_id", "actor_type", "status", "node_path", "depth", "split_count",
    "completed_children", "input_params", "output_ref", "error_code", "error_msg", "started_at",
    "finished_at", "created_at", "updated_at", "name", "labels", "collects", "reported_status", "attempt",
    "progress", "message", "worker", "registered", "attached", "asked", "holds", "job_version", "n", "rev",
)  # fmt: skip
_EMPTY: dict[str, Any] = dict.fromkeys(FIELDS)


def details(number: int, ns: Sequence[int]) -> list[Row]:
    """Rows of some tasks, for ``task_json``, in no order."""
    source, param = keys_of((number << 32) | n for n in ns)
    sides = _SIDES_EACH if is_postgres() else _SIDES
    return run(f"{_DETAIL} FROM {each(source, TASK, 't', 't.pk = w.key')}{sides}", [param], binary=True)


def all_details(head: Head) -> list[Row]:
    return run(f"{_DETAIL} FROM {TASK} t{_SIDES} WHERE t.pk >= %s AND t.pk < %s", head.keys, binary=True)


def details_since(head: Head, since: int, limit: int) -> list[Row]:
    return run(
        f"{_DETAIL} FROM {TASK} t{_SIDES} WHERE t.pk >= %s AND t.pk < %s AND t.rev > %s"
        " ORDER BY t.rev, t.n LIMIT %s",
        [*head.keys, since, limit],
        binary=True,
    )


def versions_in(rows: Iterable[Row]) -> Mapping[int, rules.Rules]:
    """The definitions' versions that these rows pin."""
    pinned = {row[5] for row in rows} - {None}
    return rules.versions(pinned) if pinned else {}


def task_json(row: Row, places: Places, versions: Mapping[int, rules.Rules]) -> dict[str, Any]:
    (n, id, parent, kind, job_id, version, name, registered, attached, status, reported, attempt, progress,
     holds, started, finished, planned, kids, kids_ended, rev, created, updated, params, labels, collects,
     message, worker, output_ref, error_code, error_msg) = row  # fmt: skip
    path, depth, strength = places.of(n)
    pinned = versions.get(version) if version is not None else None
    # A copy has its size at once; a display of so many keys grows by steps (1.26 us, this 0.72).
    task = _EMPTY.copy()
    task["id"] = id
    task["trace_id"] = places.trace_id
    task["parent_id"] = None if parent is None else places.ids[parent & MASK]
    task["job_id"] = job_id or None
    task["actor_type"] = KIND_WORDS[kind]
    task["status"] = STATUS_WORDS[status]
    task["node_path"] = path
    task["depth"] = depth
    task["split_count"] = planned if planned > kids else kids
    task["completed_children"] = kids_ended
    task["input_params"] = orjson.Fragment(params) if params else {}
    task["output_ref"] = output_ref
    task["error_code"] = error_code
    task["error_msg"] = error_msg
    task["started_at"] = iso(started)
    task["finished_at"] = iso(finished)
    task["created_at"] = iso(created)
    task["updated_at"] = iso(updated)
    task["name"] = name or (pinned.name if pinned else job_id or id)
    task["labels"] = orjson.Fragment(labels) if labels else {}
    task["collects"] = orjson.Fragment(collects) if collects else None
    task["reported_status"] = None if reported is None else STATUS_WORDS[reported]
    task["attempt"] = attempt
    task["progress"] = progress
    task["message"] = message
    task["worker"] = worker
    task["registered"] = bool(registered)
    task["attached"] = bool(attached)
    task["asked"] = ACTION_WORDS[strength]
    task["holds"] = bool(holds)
    task["job_version"] = pinned.number if pinned else None
    task["n"] = n
    task["rev"] = rev
    return task


# -- one task by its id alone


def where_is(task_id: str, trace_id: str | None) -> list[tuple[Head, int]]:
    """The traces that have a task of this id, at most two, and its ``n`` in each."""
    if not valid_id(task_id):
        return []
    if trace_id is not None:
        found = head(trace_id)
        n = n_of(found.number, task_id)
        return [] if n is None else [(found, n)]
    rows = run(f"SELECT tree_id, n FROM {TASK} WHERE id = %s ORDER BY tree_id LIMIT 2", [task_id])
    return [(known, n) for number, n in rows if (known := head_of(number))]


# -- the event log

_EVENT = (
    "SELECT e.position, e.event_id, k.id, e.parent_id, e.kind, e.actor_type, e.origin, e.verdict, e.payload,"
    " e.warnings, e.timestamp_ms, e.received_ms, e.task, k.name"
    f" FROM instances_event e JOIN {TASK} k ON k.pk = e.task"
)


def events_after(
    column: str,
    key: int,
    position: int | None,
    limit: int,
    *,
    backwards: bool = False,
    where: Sequence[str] = (),
    params: Sequence[Any] = (),
) -> list[Row]:
    """Log rows of one ``trace`` or ``task`` behind (or in front of) a position, in order of receipt."""
    sign, order = ("<", "DESC") if backwards else (">", "ASC")
    beyond = [f"e.position {sign} %s"] if position is not None else []
    all_of = " AND ".join([f"e.{column} = %s", *where, *beyond])
    values = [key, *params, *([position] if position is not None else []), limit]
    rows = run(f"{_EVENT} WHERE {all_of} ORDER BY e.position {order} LIMIT %s", values)
    return rows[::-1] if backwards else rows
