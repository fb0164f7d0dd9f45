"""What one transaction has in its hands: locked traces, their tasks, and what must be written.

Used by ``tree`` (where tasks hang) and ``ingest`` (what they are) only. It loads,
rolls up and flushes in a fixed number of statements; the rules are in
``lifecycle``, ``aggregation`` and ``intents``.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson
from ulid import ULID

from instances import rows
from instances.aggregation import (
    DEFAULT_JOIN,
    Gathering,
    Standing,
    Tally,
    complete,
    ends_by_children,
    plan_closed,
    ready_verdict,
    status_of,
)
from instances.intents import CANCEL as CANCEL_ACTION
from instances.intents import WHOLE, InForce, Intents, first_cancel, on_path
from instances.lifecycle import (
    CANCELLED,
    FAILED,
    PENDING,
    REPORTED_CANCELLED,
    REPORTED_FAILED,
    RUNNING,
    SUCCESS,
    Origin,
    Verdict,
)
from instances.models import Deadline
from instances.node import (
    AGGREGATORS,
    GROUP_AGG,
    SINGLE_AGG,
    Clock,
    Counted,
    Frozen,
    Node,
    from_rows,
    made,
    rows_of,
)
from tower.definitions import rules
from tower.schemas import Join

DEFAULT_GRACE_SEC = 30
#: With nothing planned an aggregator waits so long after the last ending for another task.
QUIET_MS = 10_000


@dataclass(slots=True)
class TraceWork:
    """One locked trace row, as it will be written."""

    id: str
    number: int
    root_n: int | None
    status: int
    seq: int
    shape_seq: int
    shape_ms: int
    next_n: int
    counts: list[int]
    name: str
    job_id: str
    version: int | None
    started_by: str
    start_digest: str
    started_ms: int | None
    finished_ms: int | None
    updated_ms: int
    collecting: int
    ended_ms: int | None
    before: int = 0
    changed: bool = False
    intents: Intents = field(default_factory=dict)
    events: int = 0

    @classmethod
    def of(cls, row: Sequence[Any]) -> TraceWork:
        id, number, root_n, status, seq, shape_seq, shape_ms, next_n = row[:8]
        trace = cls(id, number, root_n, status, seq, shape_seq, shape_ms, next_n, list(row[8:14]), *row[14:])
        trace.before = seq
        return trace

    @property
    def cancelled(self) -> bool:
        return any(intent.action == CANCEL_ACTION for intent in self.intents.values())

    @property
    def branches(self) -> bool:
        """Some control stands at a branch, so paths have to be known."""
        return any(target != WHOLE for target in self.intents)

    def row(self) -> tuple[Any, ...]:
        return (
            self.number, self.root_n, self.status, self.seq, self.shape_seq, self.shape_ms, self.next_n,
            *self.counts, self.name, self.job_id, self.version, self.started_by, self.start_digest,
            self.started_ms, self.finished_ms, self.updated_ms, self.collecting, self.ended_ms,
        )  # fmt: skip


@dataclass(slots=True)
class Work:
    """``now_ms`` is the server's clock of this transaction."""

    now_ms: int
    traces: dict[int, TraceWork] = field(default_factory=dict)
    by_trace_id: dict[str, TraceWork] = field(default_factory=dict)
    nodes: dict[int, Node] = field(default_factory=dict)
    by_id: dict[tuple[int, str], Node] = field(default_factory=dict)
    children: dict[int, list[Node]] = field(default_factory=dict)
    dirty: set[int] = field(default_factory=set)
    respan: set[int] = field(default_factory=set)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    bodies: list[tuple[Any, ...]] = field(default_factory=list)
    deadlines: list[tuple[int, int, int, int]] = field(default_factory=list)
    labels: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    collections: list[tuple[int, str, int]] = field(default_factory=list)
    freezing: list[Node] = field(default_factory=list)
    _above: set[int] = field(default_factory=set)
    _dues: dict[int, int | None] = field(default_factory=dict)
    _groups: dict[int, list[Node]] = field(default_factory=dict)
    _grouped: set[int] = field(default_factory=set)

    # -- loading

    def lock(self, trace_ids: Iterable[str]) -> set[str]:
        """Lock the traces in order of number; the ids that do not exist yet."""
        wanted = set(trace_ids)
        rows.by_index()
        for row in rows.lock_traces(wanted):
            self._take(TraceWork.of(row))
        return wanted - self.by_trace_id.keys()

    def lock_free(self, trace_ids: Iterable[str]) -> set[str]:
        """Lock those that nobody holds; the ids of the others, where there are some of both."""
        wanted = set(trace_ids)
        rows.by_index()
        for row in rows.lock_traces(wanted, wait=False):
            self._take(TraceWork.of(row))
        held = wanted - self.by_trace_id.keys()
        return rows.traces_among(held) if held and self.traces else set()

    def lock_number(self, number: int) -> TraceWork | None:
        rows.by_index()
        for row in rows.lock_numbers([number]):
            self._take(TraceWork.of(row))
        return self.traces.get(number)

    def look_at(self, number: int) -> None:
        """A trace and its intents for reading; nothing is locked, nothing may be flushed."""
        for row in rows.read_trace(number):
            self._take(TraceWork.of(row))
        self.read_intents()

    def _take(self, trace: TraceWork) -> None:
        self.traces[trace.number] = self.by_trace_id[trace.id] = trace

    def read_intents(self, *, shape_changes: Iterable[int] = ()) -> None:
        """The intents of all locked traces; always after the last lock, so that none is missed.

        ``shape_changes``: traces in which tasks appear or move. Their ledgers
        are locked, so that no control commits between this look and our commit.
        """
        if numbers := sorted(shape_changes):
            rows.share_ledgers(numbers)
        found: dict[int, dict[str, InForce]] = {}
        for number, target, *rest in rows.intents_of(self.traces):
            found.setdefault(number, {})[target] = InForce(target, *rest)
        for number, intents in found.items():
            self.traces[number].intents = intents

    def load_ids(self, pairs: Iterable[tuple[int, str]]) -> None:
        unknown = {pair for pair in pairs if pair not in self.by_id}
        if unknown:
            self._add(rows.tasks_by_id(unknown))

    def load_keys(self, keys: Iterable[int]) -> None:
        unknown = [key for key in keys if key not in self.nodes]
        if unknown:
            self._add(rows.tasks_by_key(unknown))

    def load_above(self, nodes: Iterable[Node]) -> None:
        """All ancestors of these tasks, in one statement."""
        wanted = {node.parent for node in nodes if node.parent is not None} - self._above
        if wanted:
            self._add(rows.ancestors_of(wanted))
            self._above |= wanted

    def load_below(self, nodes: Iterable[Node]) -> None:
        """Everything below these stored tasks, so that they can be moved."""
        keys = [node.key for node in nodes if not node.new and not node.childless]
        if not keys:
            return
        for row in rows.below(keys):
            self._add([row])
            node = self.nodes[row[0]]
            siblings = self.children.setdefault(node.parent or 0, [])
            if all(sibling is not node for sibling in siblings):
                siblings.append(node)

    def _add(self, found: Iterable[Sequence[Any]]) -> None:
        for node in from_rows([row for row in found if row[0] not in self.nodes]):
            self.nodes[node.key] = node
            self.by_id[(node.tree, node.id)] = node

    # -- looking

    def find(self, trace: TraceWork, id: str) -> Node | None:
        return self.by_id.get((trace.number, id))

    def parent_of(self, node: Node) -> Node | None:
        return None if node.parent is None else self.nodes[node.parent]

    def path(self, node: Node) -> list[str]:
        """Ids from the top of its tree to the task; its ancestors must be loaded."""
        ids, at = [node.id], node
        while at.parent is not None:
            at = self.nodes[at.parent]
            ids.append(at.id)
        return ids[::-1]

    def cancel_over(self, node: Node) -> InForce | None:
        """The first CANCEL that covers a task, if any does."""
        trace = self.traces[node.tree]
        if not trace.intents or not trace.cancelled:
            return None
        path = self.path(node) if trace.branches else ()
        return first_cancel(path, trace.intents)

    def covering(self, node: Node) -> list[InForce]:
        trace = self.traces[node.tree]
        return on_path(self.path(node) if trace.branches else (), trace.intents) if trace.intents else []

    def join_of(self, node: Node) -> Join | None:
        return None if node.version is None else rules.version(node.version).join

    def grace_ms(self, node: Node) -> int:
        seconds = DEFAULT_GRACE_SEC if node.version is None else rules.version(node.version).cancel_grace_sec
        return seconds * 1000

    def ends_by_children(self, node: Node) -> bool:
        return ends_by_children(self._standing(node, under_cancel=False))

    def collects(self, node: Node) -> bool:
        """An aggregator with something to collect, whose actor has said nothing: it ends by that."""
        if node.kind not in AGGREGATORS or node.own.heard:
            return False
        if node.named is not None:
            return node.named > 0
        if node.kind == SINGLE_AGG:
            return node.tally.total > 0
        parent = self.parent_of(node)
        return parent is not None and parent.tally.total > 0

    def idle(self, node: Node) -> bool:
        """PENDING, unheard, and left to nobody: what a CANCEL ends by itself."""
        return node.untouched and not self.collects(node)

    def gather(self, node: Node, ids: Sequence[str]) -> None:
        """An aggregator names what it collects; the tasks must be loaded as far as they exist."""
        trace = self.traces[node.tree]
        trace.collecting += 1
        node.named, node.gathered = len(ids), Tally()
        for id in ids:
            self.collections.append((node.tree, id, node.key))
            known = self.by_id.get((node.tree, id))
            if known is not None and known.seen is not None:
                _gather(node.gathered, None, known)

    # -- changing

    def make(self, trace: TraceWork, id: str, kind: int) -> Node:
        """A placeholder: numbered, counted, hanging nowhere yet."""
        n = trace.next_n
        trace.next_n += 1
        node = made(trace.number << 32 | n, trace.number, n, id, kind, self.now_ms)
        self.nodes[node.key] = node
        self.by_id[(trace.number, id)] = node
        trace.counts[node.status] += 1
        self.reshape(trace)
        self.dirty.add(node.key)
        return node

    def reshape(self, trace: TraceWork) -> None:
        trace.changed = True
        trace.shape_seq += 1
        trace.shape_ms = self.now_ms

    def uncount(self, node: Node) -> None:
        """Take a task out of its parent's tally, before it hangs elsewhere."""
        if node.parent is not None and node.counted is not None:
            self._recount(self.nodes[node.parent], node.counted, None)
            node.counted = None

    def kill(self, node: Node, *, error_code: str = "", error_msg: str = "", control_id: str = "") -> None:
        """The tower ends a task CANCELLED, for good: an event of origin ``tower``."""
        node.killed_ms = self.now_ms
        payload = {"error_code": error_code, "error_msg": error_msg, "control_id": control_id}
        self.log(
            self.traces[node.tree],
            node,
            event_id=str(ULID()),
            kind=REPORTED_CANCELLED,
            ms=self.now_ms,
            origin=Origin.TOWER,
            payload=orjson.dumps({k: v for k, v in payload.items() if v}).decode(),
        )
        node.texts = {"output_ref": "", "error_code": error_code, "error_msg": error_msg}
        self.dirty.add(node.key)

    def time_out(self, node: Node) -> None:
        """The tower ends an attempt FAILED: an event of origin ``tower``."""
        said = "No ending was heard within the time limit."
        node.timed_out = (node.own.attempt, self.now_ms)
        payload = {"error_code": "TIMEOUT", "error_msg": said, "attempt": node.own.attempt}
        self.log(
            self.traces[node.tree],
            node,
            event_id=str(ULID()),
            kind=REPORTED_FAILED,
            ms=self.now_ms,
            origin=Origin.TOWER,
            payload=orjson.dumps(payload).decode(),
        )
        node.texts = {"output_ref": "", "error_code": "TIMEOUT", "error_msg": said}
        self.dirty.add(node.key)

    def wind(self, node: Node) -> None:
        """Heard time runs from the receipt of an attempt's first report, and stands still while it holds."""
        if node.version is None or node.own.end is not None or node.killed_ms is not None:
            return
        limit = rules.version(node.version).timeout_sec * 1000
        if not limit or self.ends_by_children(node):
            return
        own, clock = node.own, node.clock
        if clock is None or clock.attempt != own.attempt:
            clock = Clock(own.attempt, 0, None)
        elif own.paused == (clock.since is None):
            return
        if own.paused:
            node.clock = Clock(own.attempt, self._spent(node, clock, limit), None)
            return
        node.clock = Clock(own.attempt, clock.spent, self.now_ms)
        due = self.now_ms + max(limit - clock.spent, 0)
        self.deadlines.append((node.key, node.tree, Deadline.TIMEOUT, due))

    def _spent(self, node: Node, clock: Clock, limit: int) -> int:
        if clock.since is None:
            return clock.spent
        # The deadline and not the clock: it was moved by the time in which nobody listened.
        due = self._due(node)
        return clock.spent + self.now_ms - clock.since if due is None else limit - max(due - self.now_ms, 0)

    def _due(self, node: Node) -> int | None:
        """When its attempt is over, as it was set before; all that run are asked for at once."""
        if node.key not in self._dues:
            running = [
                one.key
                for one in self.nodes.values()
                if one.clock is not None and one.clock.since is not None and one.key not in self._dues
            ]
            self._dues |= dict.fromkeys(running)
            for key, due in rows.dues_of(running, Deadline.TIMEOUT):
                self._dues[key] = due
        return self._dues[node.key]

    def give_grace(self, node: Node, *, since_ms: int) -> None:
        self.deadlines.append((node.key, node.tree, Deadline.GRACE, since_ms + self.grace_ms(node)))

    def log(
        self, trace: TraceWork, node: Node, event_id: str, kind: int, ms: int, payload: str,
        origin: Origin, verdict: Verdict = Verdict.APPLIED, parent_id: str | None = None,
        actor_type: int | None = None, warnings: str | None = None,
    ) -> None:  # fmt: skip
        trace.changed = True
        position = (trace.before + 1) << 16 | trace.events
        trace.events += 1
        self.events.append(
            (
                trace.number, event_id, position, node.key, parent_id, kind, actor_type, int(origin),
                int(verdict), payload, warnings, ms, self.now_ms,
            )
        )  # fmt: skip

    # -- rolling up

    def settle(self) -> None:
        """Evaluate what was touched, deepest first, and its ancestors while something changes."""
        queued, self.dirty = self.dirty, set()
        moved = [node for key in queued if self._stirs(node := self.nodes[key])]
        self.load_above(moved)
        self._load_groups()
        waiting = [(-node.depth, node.key) for node in moved]
        queued = {node.key for node in moved}
        heapq.heapify(waiting)
        while waiting:
            _, key = heapq.heappop(waiting)
            queued.discard(key)
            node = self.nodes[key]
            self._evaluate(node)
            self._queue_groups(node, queued, waiting)
            if node.parent is None:
                continue
            now = node.contribution()
            if now == node.counted:
                continue
            parent = self.nodes[node.parent]
            self._recount(parent, node.counted, now)
            node.counted = now
            if parent.key not in queued:
                queued.add(parent.key)
                heapq.heappush(waiting, (-parent.depth, parent.key))
        if self.respan:
            self._reread_spans()
        if self._tell_collectors():
            self.settle()

    def _load_groups(self) -> None:
        """GROUP_AGG tasks speak for their siblings: they are looked at with their parent."""
        parents = {node.key for node in self.nodes.values() if node.group_tally.total} - self._grouped
        if parents:
            self._add(rows.aggregators_below(parents))
            self._grouped |= parents
        self._groups = {}
        for node in self.nodes.values():
            if node.kind == GROUP_AGG and node.parent is not None:
                self._groups.setdefault(node.parent, []).append(node)

    def _queue_groups(self, parent: Node, queued: set[int], waiting: list[tuple[int, int]]) -> None:
        for node in self._groups.get(parent.key, ()):
            if node.frozen is None and node.key not in queued:
                queued.add(node.key)
                heapq.heappush(waiting, (-node.depth, node.key))

    def _tell_collectors(self) -> bool:
        """Hand endings to the aggregators that name these tasks; whether any has to be looked at."""
        moved = [
            node
            for node in self.nodes.values()
            if node.status != node.seen and self.traces[node.tree].collecting
        ]
        if not moved:
            return False
        found = rows.collectors_of((node.tree, node.id) for node in moved)
        found += [one for one in self.collections if self.by_id.get((one[0], one[1])) in moved]
        self.load_keys({key for _, _, key in found})
        self.load_above([self.nodes[key] for _, _, key in found])
        for number, id, key in {tuple(one) for one in found}:
            collector = self.nodes[key]
            if collector.gathered is not None:
                node = self.by_id[(number, id)]
                _gather(collector.gathered, node.seen, node)
                collector.changed = True
                self.dirty.add(key)
        for node in moved:
            node.seen = node.status
        return bool(self.dirty)

    def _stirs(self, node: Node) -> bool:
        """Whether a touched task has to be looked at with its ancestors at hand.

        Most reports change no parent: those tasks are evaluated here and now,
        and no ancestor is read at all.
        """
        if self.traces[node.tree].branches or node.kind == GROUP_AGG or node.group_tally.total:
            return True
        self._evaluate(node)
        return node.parent is not None and node.contribution() != node.counted

    def _reread_spans(self) -> None:
        """Where a child's start rose or its finish fell, its parent's span is read again."""
        parents, self.respan = self.respan, set()
        mine: dict[int, list[Node]] = {key: [] for key in parents}
        for node in self.nodes.values():
            if node.parent in mine:
                mine[node.parent].append(node)
        spans: dict[tuple[int, bool], tuple[int | None, int | None]] = {}
        for parent, grouped, first, last in rows.spans_of(parents, self.nodes):
            spans[(parent, bool(grouped))] = (first, last)
        for key in parents:
            parent_node = self.nodes[key]
            for grouped, tally in ((False, parent_node.tally), (True, parent_node.group_tally)):
                first, last = spans.get((key, grouped), (None, None))
                for child in mine[key]:
                    if (child.kind == 1) == grouped and child.counted is not None:
                        first = _least(first, child.started_ms)
                        last = _most(last, child.finished_ms)
                tally.first, tally.last = first, last
            parent_node.changed = True
            self.dirty.add(key)
        self.settle()

    def _recount(self, parent: Node, was: Counted | None, now: Counted | None) -> None:
        parent.changed = True
        if was is not None:
            tally = parent.group_tally if was[0] else parent.tally
            tally.by_status[was[1]] -= 1
            tally.asleep -= was[2]
            if self._shrinks(was, now, tally):
                self.respan.add(parent.key)
        if now is not None:
            tally = parent.group_tally if now[0] else parent.tally
            tally.by_status[now[1]] += 1
            tally.asleep += now[2]
            tally.first, tally.last = _least(tally.first, now[3]), _most(tally.last, now[4])
            if parent.kid_seq is None:
                parent.kid_seq = self.traces[parent.tree].before + 1

    @staticmethod
    def _shrinks(was: Counted, now: Counted | None, tally: Tally) -> bool:
        start, finish = (now[3], now[4]) if now is not None and now[0] == was[0] else (None, None)
        first_leaves = was[3] is not None and was[3] == tally.first and (start is None or start > was[3])
        last_leaves = was[4] is not None and was[4] == tally.last and (finish is None or finish < was[4])
        return first_leaves or last_leaves

    def _standing(self, node: Node, *, under_cancel: bool) -> Standing:
        forced: int | None = None
        if node.killed_ms is not None:
            forced = CANCELLED
        elif node.timed_out is not None and node.timed_out[0] == node.own.attempt and node.own.end is None:
            forced = FAILED
        return Standing(
            own_status=node.own.status,
            heard=node.own.heard,
            own_ended=node.own.end is not None,
            planned=node.planned,
            join=self.join_of(node),
            under_cancel=under_cancel,
            forced=forced,
            kids=node.tally,
            aggregators=node.group_tally,
        )

    def _outcome(self, node: Node) -> Outcome:
        own = node.own
        planned = own.planned if own.planned is not None and node.killed_ms is None else node.registered_plan
        if node.planned != planned:
            node.planned, node.changed = planned, True
        if (
            node.killed_ms is None
            and node.timed_out is None
            and node.childless
            and node.kind not in AGGREGATORS
        ):
            # Most tasks by far: what the actor said is all there is.
            status = own.status
            progress = 100.0 if status == SUCCESS else own.progress
            holds = own.paused and status == RUNNING
            return Outcome(status, own.start, own.ended_ms, progress, holds, own.attempt)
        standing = self._standing(node, under_cancel=self._covered(node))
        status = status_of(standing)
        if node.killed_ms is not None:
            return Outcome(status, node.started_ms, node.killed_ms, node.progress, False, node.attempt)
        if node.kind in AGGREGATORS:
            self._freeze_if_ready(node, standing)
            if not own.heard and (node.frozen is not None or self.collects(node)):
                return self._collected_outcome(node)
        started, finished = own.start, own.ended_ms
        if standing.forced is not None and node.timed_out is not None:
            finished = node.timed_out[1]
        elif ends_by_children(standing):
            deciding = node.group_tally if node.group_tally.total else node.tally
            started = deciding.first if started is None else started
            if not (standing.own_ended and standing.own_status != SUCCESS):
                finished = deciding.last
        if status <= RUNNING:
            finished = None
        progress = 100.0 if status == SUCCESS else own.progress
        return Outcome(status, started, finished, progress, own.paused and status == RUNNING, own.attempt)

    def gathering_of(self, node: Node) -> Gathering | None:
        """What an aggregator collects, as it stands; its ancestors must be loaded."""
        return self._gathering(node, self.standing_of(node))

    def standing_of(self, node: Node) -> Standing:
        """What decides a task's status, as it stands; its ancestors must be loaded."""
        return self._standing(node, under_cancel=self._covered(node))

    def _gathering(self, node: Node, standing: Standing) -> Gathering | None:
        join = standing.join or DEFAULT_JOIN
        settled = standing.own_ended or standing.under_cancel
        if node.named is not None and node.gathered is not None:
            known = node.gathered.total
            closed = known >= node.named or standing.under_cancel
            of = known if standing.under_cancel else node.named
            return Gathering(node.gathered, of, closed, True, join)
        if node.kind == SINGLE_AGG:
            planned, tally, closed = node.planned, node.tally, plan_closed(standing)
        elif (parent := self.parent_of(node)) is not None:
            above = self._standing(parent, under_cancel=standing.under_cancel or self._covered(parent))
            planned, tally, closed = parent.planned, parent.tally, plan_closed(above)
            settled = settled or above.own_ended or above.under_cancel
        else:
            return None
        of = tally.total if settled else max(planned, tally.total)
        return Gathering(tally, of, closed, settled or planned > 0 or node.quiet, join)

    def _freeze_if_ready(self, node: Node, standing: Standing) -> None:
        if node.frozen is not None:
            return
        gathering = self._gathering(node, standing)
        if gathering is None:
            return
        alone = replace(standing, kids=gathering.tally, aggregators=Tally())
        decided = ready_verdict(gathering, alone)
        if decided is not None:
            tally = gathering.tally
            node.frozen = Frozen(
                self.traces[node.tree].before + 1, self.now_ms, decided, tally.first, tally.last
            )
            node.changed = True
            self.freezing.append(node)
        elif complete(gathering):
            self.deadlines.append((node.key, node.tree, Deadline.QUIET, self.now_ms + QUIET_MS))

    def _collected_outcome(self, node: Node) -> Outcome:
        frozen = node.frozen
        if frozen is None:
            stirred = node.tally.stirred or node.group_tally.stirred
            status = RUNNING if stirred else PENDING
            return Outcome(status, node.tally.first if stirred else None, None, None, False, node.own.attempt)
        progress = 100.0 if frozen.verdict == SUCCESS else None
        return Outcome(frozen.verdict, frozen.first, frozen.last, progress, False, node.own.attempt)

    def _covered(self, node: Node) -> bool:
        trace = self.traces[node.tree]
        if not trace.intents or not trace.cancelled:
            return False
        return self.cancel_over(node) is not None

    def _evaluate(self, node: Node) -> None:
        after = self._outcome(node)
        trace = self.traces[node.tree]
        if after.status != node.status:
            trace.counts[node.status] -= 1
            trace.counts[after.status] += 1
            node.settled_seq = trace.before + 1 if after.status > RUNNING else None
        if after != Outcome(
            node.status, node.started_ms, node.finished_ms, node.progress, node.holds, node.attempt
        ):
            node.changed = True
        node.status, node.started_ms, node.finished_ms = after.status, after.started_ms, after.finished_ms
        node.progress, node.holds, node.attempt = after.progress, after.holds, after.attempt
        if trace.root_n == node.n:
            self._root_changed(trace, node)

    def _root_changed(self, trace: TraceWork, root: Node) -> None:
        trace.status, trace.started_ms, trace.finished_ms = root.status, root.started_ms, root.finished_ms

    # -- writing

    def written(self) -> list[tuple[TraceWork, list[Node]]]:
        """After ``flush``: each trace that changed, with its changed tasks in order of ``n``."""
        nodes: dict[int, list[Node]] = {trace.number: [] for trace in self.traces.values() if trace.changed}
        for node in self.nodes.values():
            if node.rev == self.traces[node.tree].seq and node.tree in nodes:
                nodes[node.tree].append(node)
        return [
            (self.traces[number], sorted(found, key=lambda node: node.n)) for number, found in nodes.items()
        ]

    def flush(self) -> None:
        """Write all of it. Afterwards each changed node carries the trace's new ``seq`` as its ``rev``."""
        changed = [node for node in self.nodes.values() if node.changed or node.texts]
        for node in changed:
            trace = self.traces[node.tree]
            trace.changed = True
            node.rev, node.updated_ms = trace.before + 1, self.now_ms
        with rows.sent_on():
            rows.insert_events(self.events)
            self._write_texts(changed)
            rows.insert_tasks(rows_of([node for node in changed if node.new]))
            stored = [node for node in changed if not node.new]
            rows.update_tasks(rows_of([node for node in stored if not node.reshaped]), shape=False)
            rows.update_tasks(rows_of([node for node in stored if node.reshaped]), shape=True)
            rows.insert_bodies(self.bodies)
            rows.add_deadlines(list({(row[0], row[2]): row for row in self.deadlines}.values()))
            rows.collect(self.collections)
            for source in rows.COLLECTED_FROM:
                rows.freeze([node.key for node in self.freezing if source_of(node) == source], source)
            rows.add_labels([(n, key, value) for n, labels in self.labels for key, value in labels.items()])
            self._write_traces()

    def _write_texts(self, changed: Iterable[Node]) -> None:
        said = []
        for node in changed:
            texts = node.texts
            if not texts:
                continue
            if not node.has_texts:
                texts = {name: text for name, text in texts.items() if text}
                if not texts:
                    continue
                node.has_texts = True
            said.append((node.key, *(texts.get(name) for name, _ in rows.SAID_COLUMNS[1:])))
        rows.say(said)

    def _write_traces(self) -> None:
        written = []
        for trace in self.traces.values():
            if not trace.changed:
                continue
            trace.seq, trace.updated_ms = trace.before + 1, self.now_ms
            still_open = trace.counts[0] + trace.counts[1]
            ended = trace.root_n is not None and trace.status > RUNNING and still_open == 0
            trace.ended_ms = (trace.ended_ms or self.now_ms) if ended else None
            written.append(trace.row())
        rows.write_traces(written)


def source_of(node: Node) -> str:
    if node.named is not None:
        return "named"
    return "children" if node.kind == SINGLE_AGG else "siblings"


def _gather(tally: Tally, seen: int | None, node: Node) -> None:
    if seen is not None:
        tally.by_status[seen] -= 1
    tally.by_status[node.status] += 1
    tally.first, tally.last = _least(tally.first, node.started_ms), _most(tally.last, node.finished_ms)


class Outcome(NamedTuple):
    status: int
    started_ms: int | None
    finished_ms: int | None
    progress: float | None
    holds: bool
    attempt: int


def _least(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


def _most(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)
