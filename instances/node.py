"""One task in memory while a transaction works on it: its row, and what the fold remembers.

``memory`` is one compact JSON column: the keys that make the fold independent of
order, the tallies of the children, and the few moments that a CANCEL has to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from instances.aggregation import Tally
from instances.each_json import each_json
from instances.lifecycle import CANCELLED, PENDING, Key, Own

GROUP_AGG, SINGLE_AGG = 1, 2  # indices in schemas.KINDS
AGGREGATORS = frozenset({GROUP_AGG, SINGLE_AGG})


class Clock(NamedTuple):
    """Heard time of one attempt: what was spent, and since when it runs (None while the task holds); ms."""

    attempt: int
    spent: int
    since: int | None


class Frozen(NamedTuple):
    """What an aggregator made of its results when it became ready; only a rerun opens it again."""

    seq: int
    at_ms: int
    verdict: int
    first: int | None
    last: int | None


#: What a parent's tally holds of a child: (is GROUP_AGG, status, asleep, start, finish).
Counted = tuple[bool, int, bool, int | None, int | None]


@dataclass(slots=True)
class Node:
    key: int
    tree: int
    n: int
    id: str
    parent: int | None
    depth: int
    kind: int
    job_id: str
    version: int | None
    name: str
    registered: bool
    attached: bool
    status: int
    reported_status: int | None
    attempt: int
    progress: float | None
    holds: bool
    started_ms: int | None
    finished_ms: int | None
    planned: int
    rev: int
    created_ms: int
    updated_ms: int
    own: Own
    tally: Tally
    group_tally: Tally
    #: Declared at registration; a report's plan stands over it.
    registered_plan: int = 0
    #: The report whose parent hint decides, before a registration does.
    hint: Key | None = None
    #: The report whose actor type decides for a placeholder.
    kind_hint: Key | None = None
    #: No attempt above this one is opened: the one that a CANCEL found.
    cap: int | None = None
    killed_ms: int | None = None
    #: (attempt, epoch ms) that the tower ended for silence.
    timed_out: tuple[int, int] | None = None
    has_texts: bool = False
    #: ``Trace.seq`` when it ended, when its first child came, when its actor first reported.
    settled_seq: int | None = None
    kid_seq: int | None = None
    heard_seq: int | None = None
    clock: Clock | None = None
    #: Of an aggregator that names what it collects: their number, and a tally of those that are known.
    named: int | None = None
    gathered: Tally | None = None
    frozen: Frozen | None = None
    # -- of this transaction only
    new: bool = False
    reshaped: bool = False
    changed: bool = False
    counted: Counted | None = None
    texts: dict[str, str] | None = None
    #: The status that collectors know of; None for a task that they have not heard of.
    seen: int | None = None
    #: The quiet time after the last ending is over.
    quiet: bool = False

    @property
    def parent_n(self) -> int | None:
        return None if self.parent is None else self.parent & 0xFFFFFFFF

    @property
    def kids(self) -> int:
        return self.tally.total

    @property
    def kids_ended(self) -> int:
        return self.tally.ended

    @property
    def ended(self) -> bool:
        return self.status > 1

    @property
    def childless(self) -> bool:
        return self.tally.total + self.group_tally.total == 0

    @property
    def untouched(self) -> bool:
        """PENDING, nothing reported, nothing below it: what a CANCEL ends by itself."""
        return self.status == PENDING and not self.own.heard and self.childless

    def contribution(self) -> Counted:
        asleep = self.status == CANCELLED and self.started_ms is None
        return (self.kind == GROUP_AGG, self.status, asleep, self.started_ms, self.finished_ms)

    def _row(self, memory: str) -> tuple[Any, ...]:
        return (
            self.key,
            self.tree,
            self.n,
            self.id,
            self.parent,
            self.depth,
            self.kind,
            self.job_id,
            self.version,
            self.name,
            self.registered,
            self.attached,
            self.status,
            self.reported_status,
            self.attempt,
            self.progress,
            self.holds,
            self.started_ms,
            self.finished_ms,
            self.planned,
            self.tally.total,
            self.tally.ended,
            memory,
            self.rev,
            self.created_ms,
            self.updated_ms,
        )


def from_rows(rows: Sequence[Sequence[Any]]) -> list[Node]:
    """Stored tasks; ``rows`` in the order of ``rows.TASK_COLUMNS``."""
    # One call for all memories: a call for each costs more than what it reads.
    memories = orjson.loads(f"[{','.join([row[_MEMORY] or '{}' for row in rows])}]")
    return [_from_row(row, parts) for row, parts in zip(rows, memories, strict=True)]


def rows_of(nodes: Sequence[Node]) -> list[tuple[Any, ...]]:
    """In the order of ``rows.TASK_COLUMNS``."""
    memories = each_json([_remembered(node) for node in nodes])
    return [node._row("" if memory == "{}" else memory) for node, memory in zip(nodes, memories, strict=True)]


#: Where ``memory`` stands in a row.
_MEMORY = 22


def _from_row(row: Sequence[Any], parts: dict[str, Any]) -> Node:
    (key, tree, n, id, parent, depth, kind, job_id, version, name, registered, attached, status, reported) = (
        row[:14]
    )
    attempt, progress, holds, started, finished, planned, _, _, _, rev, created, updated = row[14:]
    recall = parts.get
    own, tally, group = recall("o"), recall("k"), recall("g")
    timed_out = recall("t")
    node = Node(
        key, tree, n, id, parent, depth, kind, job_id, version, name, bool(registered), bool(attached),
        status, reported, attempt, progress, bool(holds), started, finished, planned, rev, created, updated,
        _own(own) if own else Own(), _tally(tally) if tally else Tally(), _tally(group) if group else Tally(),
        recall("p", 0), _key(recall("h")), _key(recall("y")), recall("c"), recall("x"),
        (timed_out[0], timed_out[1]) if timed_out else None, recall("m", False),
        recall("s"), recall("f"), recall("r"),
    )  # fmt: skip
    node.seen = status
    if clock := recall("w"):
        node.clock = Clock(*clock)
    if kind in AGGREGATORS and parts:
        node.named, gathered, frozen = recall("n"), recall("q"), recall("z")
        node.gathered = _tally(gathered) if gathered else None if node.named is None else Tally()
        node.frozen = Frozen(*frozen) if frozen else None
    if parent is not None:
        node.counted = node.contribution()
    return node


def made(key: int, tree: int, n: int, id: str, kind: int, now_ms: int) -> Node:
    """A task that nobody has registered yet."""
    return Node(
        key, tree, n, id, None, 1, kind, "", None, "", False, False, PENDING, None, 1, None, False,
        None, None, 0, 0, now_ms, now_ms, Own(), Tally(), Tally(), new=True, changed=True,
    )  # fmt: skip


# -- the memory column

_SAME = 1  # stands for the newest report's key, which most keys are


def _remembered(node: Node) -> dict[str, Any]:
    """Spelled out, since it is written for each changed task of each batch."""
    own = node.own
    parts: dict[str, Any] = {}
    if own.newest is not None or not own.plain:
        newest = own.newest
        end, progress, message = own.end, own.progress_key, own.message_key
        worker, plan, start = own.worker_key, own.plan_key, own.last_start
        parts["o"] = [
            own.attempt,
            newest,
            own.paused,
            own.start,
            _SAME if end is not None and end == newest else end,
            own.end_kind,
            own.skipped,
            _SAME if progress is not None and progress == newest else progress,
            _SAME if message is not None and message == newest else message,
            _SAME if worker is not None and worker == newest else worker,
            _SAME if plan is not None and plan == newest else plan,
            _SAME if start is not None and start == newest else start,
            own.plain,
            own.progress,
            own.planned,
        ]
    if any(node.tally.by_status):
        parts["k"] = _counts(node.tally)
    if any(node.group_tally.by_status):
        parts["g"] = _counts(node.group_tally)
    if node.registered_plan:
        parts["p"] = node.registered_plan
    if node.hint is not None:
        parts["h"] = node.hint
    if node.kind_hint is not None:
        parts["y"] = node.kind_hint
    if node.cap is not None:
        parts["c"] = node.cap
    if node.killed_ms is not None:
        parts["x"] = node.killed_ms
    if node.timed_out is not None:
        parts["t"] = node.timed_out
    if node.has_texts:
        parts["m"] = True
    if node.settled_seq is not None:
        parts["s"] = node.settled_seq
    if node.kid_seq is not None:
        parts["f"] = node.kid_seq
    if node.heard_seq is not None:
        parts["r"] = node.heard_seq
    if node.clock is not None:
        parts["w"] = list(node.clock)
    if node.named is not None:
        parts["n"] = node.named
    if node.gathered is not None and any(node.gathered.by_status):
        parts["q"] = _counts(node.gathered)
    if node.frozen is not None:
        parts["z"] = list(node.frozen)
    return parts


def _counts(tally: Tally) -> list[Any]:
    return [*tally.by_status, tally.asleep, tally.first, tally.last]


def _own(kept: list[Any]) -> Own:
    (attempt, newest, paused, start, end, end_kind, skipped, progress_key, message, worker, plan, begun,
     plain, progress, planned) = kept  # fmt: skip
    key = None if newest is None else (newest[0], newest[1])
    return Own(
        attempt,
        key,
        paused,
        start,
        key if end == _SAME else None if end is None else (end[0], end[1]),
        end_kind,
        skipped,
        key
        if progress_key == _SAME
        else None
        if progress_key is None
        else (progress_key[0], progress_key[1]),
        key if message == _SAME else None if message is None else (message[0], message[1]),
        key if worker == _SAME else None if worker is None else (worker[0], worker[1]),
        key if plan == _SAME else None if plan is None else (plan[0], plan[1]),
        key if begun == _SAME else None if begun is None else (begun[0], begun[1]),
        plain,
        progress,
        planned,
    )


def _tally(counts: list[Any]) -> Tally:
    return Tally(counts[:6], counts[6], counts[7], counts[8])


def _key(value: Any) -> Key | None:
    return (value[0], value[1]) if value else None
