"""The only door to a task's status, counts and progress.

Everything here is safe to repeat: known event ids are skipped, a known
registration changes nothing. A caller's thread waits; the write thread commits
what has arrived together; whoever was answered may rely on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Generic, TypeVar

import orjson
from django.conf import settings
from django.db import IntegrityError, transaction
from ulid import ULID

from instances import live, rows, tree
from instances.intake import (
    DAY_MS,
    MOST_WARNINGS,
    Registering,
    Rejected,
    Sent,
    Warnings,
    one_registration,
    read_events,
    read_registrations,
    stored_report,
)
from instances.intents import CANCEL, RUN, WHOLE, command
from instances.landing import landed
from instances.lifecycle import Origin, Report, Verdict, join, refold, verdict_in
from instances.models import Deadline, TaskInstance, Trace
from instances.node import Node
from instances.work import TraceWork, Work
from instances.writer import BeginAgain, in_transaction, submit
from tower import metrics
from tower.definitions import rules
from tower.definitions.validation import check_params
from tower.errors import Conflict, NotFound, Refusal, TowerError, Unavailable, Warned
from tower.schemas import ACTIONS, KINDS

EXECUTION = KINDS.index(KINDS[-1])
WAIT_SECONDS = 60
Item = TypeVar("Item", Sent, Registering)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class IngestReport:
    """What became of one request's events; indices are those of the request."""

    accepted: int = 0
    duplicates: int = 0
    rejected: Rejected = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    warnings: list[Warned] = field(default_factory=list)
    #: Of ``ingest_sent``: what it did not touch.
    left: list[Sent] = field(default_factory=list)

    def add(self, other: IngestReport) -> None:
        self.accepted += other.accepted
        self.duplicates += other.duplicates
        self.rejected += other.rejected
        for task_id, action in other.commands.items():
            self.command(task_id, action)
        self.warnings += other.warnings

    def command(self, task_id: str, action: str) -> None:
        """Where an id of the batch occurs in several traces, the strongest."""
        if STRENGTH[action] > STRENGTH.get(self.commands.get(task_id, ""), -1):
            self.commands[task_id] = action


STRENGTH = {action.value: i for i, action in enumerate(ACTIONS)}


@dataclass(slots=True)
class Registered:
    """One registration that holds, as the answer shows it. ``path``: ids from the top, the task included."""

    index: int
    id: str
    trace_id: str
    status: int
    depth: int
    created: bool
    command: str
    path: tuple[str, ...]


@dataclass(slots=True)
class RegisterReport:
    results: list[Registered] = field(default_factory=list)
    rejected: Rejected = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)

    def add(self, other: RegisterReport) -> None:
        self.results += other.results
        self.rejected += other.rejected
        self.warnings += other.warnings


Told = TypeVar("Told", IngestReport, RegisterReport)


# -- the doors


def ingest(raw: Sequence[Any]) -> IngestReport:
    """Fold a request's events into their trees; blocks until they are committed.

    Raises Backpressure (nothing was stored) and Unavailable (no item was stored).
    """
    return reports_in(raw).stored()


def reports_in(raw: Sequence[Any]) -> Request[IngestReport]:
    """The events of a request, read and ready to be handed over."""
    return reports_of(*read_events(raw, now_ms()))


def reports_of(sent: list[Sent], rejected: Rejected) -> Request[IngestReport]:
    """The same where they were read already."""
    parts = _parts(sent, settings.TOWER_EVENT_BATCH)
    return Request(IngestReport(rejected=rejected), parts, _commit_events, _event_id)


def ingest_sent(sent: list[Sent], *, source: str) -> IngestReport:
    """The same for reports that were read already, as one transaction in the caller's thread.

    Those of runs that another transaction holds are ``left``, for the next call, where there are others:
    consumers hold what follows each other, meet at the run between them, and would take turns there.
    Raises what the database or the fold raised; nothing was stored then.
    """
    return in_transaction(partial(_commit_free, sent, source))


def register(raw: Sequence[Any]) -> RegisterReport:
    """Register a request's tasks; blocks until they are committed. Atomic per item, not as a whole."""
    return registrations_in(raw).stored()


def registrations_in(raw: Sequence[Any]) -> Request[RegisterReport]:
    """The tasks of a request, read and ready to be handed over."""
    items, rejected = read_registrations(raw)
    parts = _parts(items, settings.TOWER_REGISTER_BATCH)
    return Request(RegisterReport(rejected=rejected), parts, _commit_tasks, _task_id)


def register_one(item: Registering) -> Registered:
    """One registration that must hold (a run's root); raises its refusal as TowerError."""
    answer: RegisterReport = submit(_commit_tasks, [item], size=1).result(WAIT_SECONDS)
    if answer.rejected:
        refused = answer.rejected[0][2]
        raise TowerError(refused.message, code=refused.code, http_status=409, **refused.details)
    return answer.results[0]


def _parts(items: list[Any], most: int) -> list[list[Any]]:
    return [items[at : at + most] for at in range(0, len(items), most)]


def _event_id(item: Sent) -> str:
    return item.report.event_id


def _task_id(item: Registering) -> str:
    return item.id


@dataclass(slots=True)
class Request(Generic[Told]):
    """One request's items on their way through the write thread, waited for in a thread or in a loop."""

    report: Told
    parts: list[list[Any]]
    door: Callable[[Sequence[Any]], Sequence[Any]]
    shown: Callable[[Any], str]

    def stored(self, who: str = "") -> Told:
        """Blocks until all of it is committed; it takes its turns among those of ``who``."""
        steps = self._steps(who)
        with contextlib.suppress(StopIteration):
            future = next(steps)
            while True:
                try:
                    answer = future.result(WAIT_SECONDS)
                except Exception as error:
                    future = steps.throw(error)
                else:
                    future = steps.send(answer)
        return self.report

    async def arrived(self, who: str = "") -> Told:
        """The same for a caller in an event loop."""
        steps = self._steps(who)
        with contextlib.suppress(StopIteration):
            future = next(steps)
            while True:
                try:
                    answer = await landed(future, WAIT_SECONDS)
                except Exception as error:
                    future = steps.throw(error)
                else:
                    future = steps.send(answer)
        return self.report

    def _steps(self, who: str) -> Generator[Future[Any], Any, None]:
        """Hands the parts over one by one; a later part that fails rejects its items as ``unavailable``."""
        stored = 0
        for part in self.parts:
            try:
                runs = {item.trace_id for item in part}
                self.report.add((yield submit(self.door, part, size=len(part), who=who, runs=runs)))
                stored += 1
            except TowerError as error:
                if not stored:
                    raise
                refused = Refusal("unavailable", error.message)
                self.report.rejected += [(item.index, self.shown(item), refused) for item in part]
            except TimeoutError as error:
                # It may still be committed: the caller sends the same ids again, which is always safe.
                raise Unavailable("The database is slow; send it again.") from error


# -- one transaction


def _commit_events(parts: Sequence[list[Sent]]) -> list[IngestReport]:
    return _fold_in(Work(now_ms()), parts, "rest")


def _fold_in(work: Work, parts: Sequence[list[Sent]], source: str) -> list[IngestReport]:
    gone = _open(work, {sent.trace_id for part in parts for sent in part})
    reports = fold(work, _without(gone, parts), source)
    for report, part in zip(reports, parts, strict=True):
        report.rejected += _gone_in(gone, part, lambda sent: sent.report.event_id)
    try:
        _close(work)
    except IntegrityError as error:
        if all(sent.doubted for part in parts for sent in part):
            raise
        raise BeginAgain(partial(_doubt, parts)) from error
    return reports


def _doubt(parts: Sequence[list[Sent]]) -> None:
    for part in parts:
        for sent in part:
            sent.doubted = True


def _commit_free(sent: list[Sent], source: str) -> IngestReport:
    work = Work(now_ms())
    held = work.lock_free({one.trace_id for one in sent})
    free = [one for one in sent if one.trace_id not in held] if held else sent
    report = _fold_in(work, [free], source)[0]
    report.left = [one for one in sent if one.trace_id in held] if held else []
    return report


def _commit_tasks(parts: Sequence[list[Registering]]) -> list[RegisterReport]:
    work = Work(now_ms())
    gone = _open(work, {item.trace_id for part in parts for item in part})
    work.read_intents(shape_changes=work.traces)
    reports = _place(work, _without(gone, parts))
    work.settle()
    for report, part in zip(reports, parts, strict=True):
        _answer_registrations(work, report, part)
        report.rejected += _gone_in(gone, part, lambda item: item.id)
    _close(work)
    return reports


def _open(work: Work, trace_ids: set[str]) -> set[str]:
    """Lock the traces that are not locked yet, make those that are new; the ids of those that were pruned."""
    if not (others := trace_ids - work.by_trace_id.keys()) or not (missing := work.lock(others)):
        return set()
    gone = rows.pruned(missing, work.now_ms - settings.TOWER_TOMBSTONE_DAYS * DAY_MS)
    if fresh := missing - gone:
        if rows.is_postgres():
            # Made while other traces are locked, they could wait crosswise with another maker's.
            raise BeginAgain(lambda: rows.make_traces(fresh, work.now_ms))
        rows.make_traces(fresh, work.now_ms)
        work.lock(fresh)
    return gone


def _without(gone: set[str], parts: Sequence[list[Item]]) -> Sequence[list[Item]]:
    return [[one for one in part if one.trace_id not in gone] for part in parts] if gone else parts


def _gone_in(gone: set[str], part: Sequence[Item], shown: Callable[[Item], str]) -> Rejected:
    if not gone:
        return []
    refused = Refusal("trace_gone", "The trace was pruned.", {"field": "trace_id"})
    return [(one.index, shown(one), refused) for one in part if one.trace_id in gone]


def _close(work: Work) -> None:
    work.flush()
    changes = [_change(trace, nodes) for trace, nodes in work.written()]
    transaction.on_commit(lambda: live.publish(changes), robust=True)


def _change(trace: TraceWork, nodes: list[Node]) -> live.TraceChange:
    shown = live.watched(trace.number)
    return live.TraceChange(
        number=trace.number,
        trace_id=trace.id,
        before=trace.before,
        seq=trace.seq,
        rows=[live.row_of(node) for node in nodes if not node.new] if shown else None,
        new=[live.row_of(node) for node in nodes if node.new] if shown else None,
    )


# -- registering


def _place(work: Work, parts: Sequence[list[Registering]]) -> list[RegisterReport]:
    items = [item for part in parts for item in part]
    number = {item.trace_id: work.by_trace_id[item.trace_id].number for item in items}
    named = {(number[i.trace_id], id) for i in items for id in (i.id, i.parent_id) if id is not None}
    work.load_ids(named | {(number[i.trace_id], id) for i in items for id in i.collects or ()})
    known = [node for i in items if (node := work.find(work.by_trace_id[i.trace_id], i.id)) is not None]
    work.load_below([node for node in known if not node.registered])
    work.load_above(list(work.nodes.values()))
    _load_tops(work)
    current = rules.current({item.job_id for item in items})
    reports = []
    for part in parts:
        report = RegisterReport()
        for item in part:
            placed = tree.place(work, item, current)
            if isinstance(placed, Refusal):
                report.rejected.append((item.index, item.id, placed))
            else:
                report.warnings += _warned(item.index, item.warnings)
                report.results.append(_registered(item, placed))
        reports.append(report)
    return reports


def _load_tops(work: Work) -> None:
    """Parents of what was loaded downwards are there already; nothing hangs in the air."""
    missing = {node.parent for node in work.nodes.values() if node.parent is not None} - work.nodes.keys()
    work.load_keys(missing)
    if missing:
        work.load_above(list(work.nodes.values()))


def _registered(item: Registering, placed: tree.Placed) -> Registered:
    return Registered(item.index, item.id, item.trace_id, 0, 0, placed.created, "", ())


def _answer_registrations(work: Work, report: RegisterReport, part: list[Registering]) -> None:
    for result in report.results:
        trace = work.by_trace_id[result.trace_id]
        node = work.by_id[(trace.number, result.id)]
        path = tuple(work.path(node))
        found = command(path, trace.intents)
        result.status, result.depth, result.path = node.status, node.depth, path
        result.command = ACTIONS[found.action if found else RUN].value


# -- folding


@dataclass(slots=True)
class _Told:
    """One report on its way through the fold: the answer that counts it, its run, its keys, its task.

    Found once for all passes: each look-up costs 0.2 us a report, and there were six.
    """

    answer: IngestReport
    sent: Sent
    report: Report
    trace: TraceWork
    event: tuple[int, str]
    task: tuple[int, str]
    #: Of what was read and of what the fold found.
    warnings: Warnings
    node: Node = field(init=False)
    verdict: Verdict = Verdict.APPLIED

    def warn(self, code: str, field: str) -> None:
        self.warnings += ((code, field),)


def fold(work: Work, parts: Sequence[list[Sent]], source: str) -> list[IngestReport]:
    """Record the new reports, fold them into their tasks, roll up; one answer a part."""
    answers = [IngestReport() for _ in parts]
    told = list(_looked_up(work, answers, parts))
    work.load_ids({one.task for one in told})
    fresh = _fresh(work, told)
    _load(work, fresh)
    arrived = _arrive(work, fresh)
    _fold_nodes(work, arrived)
    work.settle()
    for one in arrived:
        _record(work, one)
    counts = Counter(one.verdict for one in arrived)
    transaction.on_commit(partial(_count, source, counts), robust=True)
    for one in told:
        if one.trace.intents:
            _answer_command(work, one)
        if one.warnings and len(one.answer.warnings) < MOST_WARNINGS:  # they come in order of index
            one.answer.warnings += _warned(one.sent.index, one.warnings)
    return answers


def _count(source: str, counts: Mapping[Verdict, int]) -> None:
    for verdict, count in counts.items():
        metrics.EVENTS.labels(source, verdict.name.lower()).inc(count)


def _looked_up(work: Work, answers: Sequence[IngestReport], parts: Sequence[list[Sent]]) -> Iterator[_Told]:
    traces = work.by_trace_id
    for answer, part in zip(answers, parts, strict=True):
        for sent in part:
            report, trace = sent.report, traces[sent.trace_id]
            number = trace.number
            yield _Told(
                answer,
                sent,
                report,
                trace,
                (number, report.event_id),
                (number, report.task_id),
                sent.warnings,
            )


def _fresh(work: Work, told: Sequence[_Told]) -> list[_Told]:
    """Those whose id is new to the trace; the others are counted as duplicates."""
    asked = [one.event for one in told if _may_be_known(work, one)]
    stored = {(row[0], row[1]): row for row in rows.known_events(asked)} if asked else {}
    first: dict[tuple[int, str], _Told] = {}
    fresh: list[_Told] = []
    again: list[tuple[_Told, Sequence[Any]]] = []
    for one in told:
        stood = first.setdefault(one.event, one)
        if one.event in stored:
            again.append((one, stored[one.event]))
        elif stood is not one:
            if not _same(one.sent, stood.sent):
                one.warn("event_conflict", "event_id")
        else:
            fresh.append(one)
            one.answer.accepted += 1
            continue
        one.answer.duplicates += 1
    _warn_of_conflicts(work, again)
    return fresh


def _may_be_known(work: Work, one: _Told) -> bool:
    """Whether the log is asked for its id: a repeat is no newer than the newest that its task has.

    Any other repeat (an id of another task, an older attempt's) is refused by the log's key, and the
    transaction runs again with all of them ``doubted``. Asked for all, they cost 1.8 of 26 ms a thousand.
    """
    if one.sent.doubted:
        return True
    node = work.by_id.get(one.task)
    newest = node.own.newest if node is not None else None
    return newest is not None and one.report.key <= newest


def _same(one: Sent, other: Sent) -> bool:
    a, b = one.report, other.report
    said = (a.task_id, a.parent_id, a.kind, a.actor_type, a.ms, one.payload)
    return said == (b.task_id, b.parent_id, b.kind, b.actor_type, b.ms, other.payload)


def _warn_of_conflicts(work: Work, again: Sequence[tuple[_Told, Sequence[Any]]]) -> None:
    """A repeated id whose content differs is named; the first stands."""
    if not again:
        return
    work.load_keys({row[2] for _, row in again})
    for one, row in again:
        report = one.report
        said = (report.task_id, report.parent_id, report.kind, report.actor_type, one.sent.payload, report.ms)
        if said != (work.nodes[row[2]].id, *row[3:]):
            one.warn("event_conflict", "event_id")


def _load(work: Work, fresh: Sequence[_Told]) -> None:
    """The parents that are named, intents; ancestors only where a control stands at a branch."""
    work.load_ids((one.trace.number, id) for one in fresh if (id := one.report.parent_id) is not None)
    shaped, moving = set(), []
    for one in fresh:
        node, report = work.by_id.get(one.task), one.report
        if node is None or (report.parent_id is not None and _may_move(work, one.trace, node, report)):
            shaped.add(one.trace.number)
            if node is not None:
                moving.append(node)
    work.read_intents(shape_changes=shaped)
    work.load_below(moving)
    if shaped or any(trace.branches for trace in work.traces.values()):
        work.load_above(list(work.nodes.values()))
    else:
        # A report may change what kind a placeholder is counted as.
        work.load_above([node for node in work.nodes.values() if not node.registered])


def _may_move(work: Work, trace: TraceWork, node: Node, report: Report) -> bool:
    named = work.find(trace, report.parent_id or "")
    return named is None or (tree.takes_hint(node, report.key) and node.parent != named.key)


def _arrive(work: Work, fresh: Sequence[_Told]) -> list[_Told]:
    """The task of each report, made where it is unknown; what a report says of parent and kind."""
    arrived = []
    for one in fresh:
        report = one.report
        found = work.by_id.get(one.task) or tree.born(work, one.trace, report.task_id, _kind(report))
        refused = found if isinstance(found, Refusal) else None
        if isinstance(found, Node):
            one.node = found
            if report.parent_id is not None or report.actor_type is not None:
                refused = _hear_hints(work, one)
        if refused is None:
            arrived.append(one)
        else:
            one.answer.accepted -= 1
            one.answer.rejected.append((one.sent.index, report.event_id, refused))
    return arrived


def _kind(report: Report) -> int:
    return EXECUTION if report.actor_type is None else report.actor_type


def _hear_hints(work: Work, one: _Told) -> Refusal | None:
    report, trace, node = one.report, one.trace, one.node
    if report.parent_id is not None:
        refused = tree.hint(work, trace, node, report.parent_id, report.key)
        if refused is not None and refused.code != "cycle":
            return refused
        if refused is not None:
            one.warn("cycle", "parent_id")
        elif node.registered and node.parent != work.by_id[(trace.number, report.parent_id)].key:
            one.warn("differs", "parent_id")
    if report.actor_type is not None and report.actor_type != node.kind and node.registered:
        one.warn("differs", "actor_type")
    if report.actor_type is not None and not node.registered:
        tree.hear_kind(work, node, report.actor_type, report.key)
    return None


def _fold_nodes(work: Work, arrived: Sequence[_Told]) -> None:
    by_node: dict[int, list[_Told]] = {}
    for one in arrived:
        by_node.setdefault(one.node.key, []).append(one)
    again: dict[int, list[_Told]] = {}
    for key, ones in by_node.items():
        node = work.nodes[key]
        if work.traces[node.tree].intents:
            _meet_cancel(work, node)
        for one in ones:
            verdict = join(node.own, one.report)
            if verdict is None:
                again[key] = ones
                break
            one.verdict = verdict
        else:
            _take_own(work, node, node.own.status)
    if again:
        _refold(work, again)


def _meet_cancel(work: Work, node: Node) -> None:
    """What a report meets where a CANCEL is in force (contract, section 5)."""
    cancel = work.cancel_over(node)
    if cancel is None or node.killed_ms is not None:
        return
    if node.new or work.idle(node):
        work.kill(node, control_id=cancel.control_id)
        return
    if node.cap is None:
        node.cap = node.own.attempt
    if not node.own.heard:
        # It was left to its children; its actor has the grace from now on.
        work.give_grace(node, since_ms=work.now_ms)


def _refold(work: Work, again: Mapping[int, list[_Told]]) -> None:
    """Attempts are in play: fold every recorded report of these tasks anew."""
    stored: dict[int, list[Report]] = {key: [] for key in again}
    for key, event_id, kind, ms, parent_id, actor_type, payload in rows.reports_of(again):
        stored[key].append(
            stored_report(
                event_id=event_id, task_id=work.nodes[key].id, kind=kind, ms=ms, parent_id=parent_id,
                actor_type=actor_type, payload=payload,
            )
        )  # fmt: skip
    for key, ones in again.items():
        node = work.nodes[key]
        reports = stored[key] + [one.report for one in ones]
        folded = refold(reports, cap=None if node.killed_ms is not None else node.cap)
        node.own = folded.own
        for one in ones:
            one.verdict = verdict_in(folded.own, one.report, folded.attempt_of[one.report.event_id])
        _take_own(work, node, folded.reported_status)


def _take_own(work: Work, node: Node, reported_status: int | None) -> None:
    if node.heard_seq is None:
        node.heard_seq = work.traces[node.tree].before + 1
    node.reported_status = reported_status
    said, node.own.texts = node.own.texts, None
    if said and node.killed_ms is None:
        node.texts = said if node.texts is None else node.texts | said
    work.wind(node)
    node.changed = True
    work.dirty.add(node.key)


def _record(work: Work, one: _Told) -> None:
    report, node = one.report, one.node
    if one.verdict is Verdict.APPLIED and not node.attached:
        one.verdict = Verdict.UNATTACHED
    warnings = _stored(one.warnings) if one.warnings else None
    work.log(
        one.trace, node, report.event_id, report.kind, report.ms, one.sent.payload,
        Origin.ACTOR, one.verdict, report.parent_id, report.actor_type, warnings,
    )  # fmt: skip


def _warned(index: int, warnings: Warnings) -> list[Warned]:
    return [Warned(index, code, field) for code, field in warnings]


@lru_cache(256)  # a wrong clock warns of each event alike
def _stored(warnings: Warnings) -> str:
    return orjson.dumps(warnings).decode()


def _answer_command(work: Work, one: _Told) -> None:
    trace, node = one.trace, work.by_id.get(one.task)
    if node is None:
        return
    found = command(work.path(node) if trace.branches else (), trace.intents)
    if found is not None and found.action != RUN:
        one.answer.command(node.id, ACTIONS[found.action].value)


# -- what the tower ends itself


#: Transactions of one call, so that one large tree does not keep another's cancel waiting.
SWEEP_CHUNKS = 4


def sweep_cancelled(tree_number: int, *, limit: int = 1000) -> int:
    """End what the CANCELs of a trace found pending, give grace to what ran, close the plans below.

    A few transactions of at most ``limit`` tasks; how many tasks it touched: call
    again until that is 0, which means that a whole scan found nothing more to do.
    """
    touched = 0
    # Most children have greater numbers than their parents: from the leaves up, few are folded twice.
    keys = sorted(_open_under_cancel(tree_number), reverse=True)
    for at in range(0, len(keys), limit):
        touched += in_transaction(partial(_sweep_chunk, tree_number, keys[at : at + limit]))
        if touched >= SWEEP_CHUNKS * limit:
            break
    return touched


def _open_under_cancel(tree_number: int) -> set[int]:
    """Open tasks that a CANCEL covers and that have no grace yet."""
    keys: set[int] = set()
    for _, target, action, *_ in rows.intents_of([tree_number]):
        if action == CANCEL and target == WHOLE:
            return set(rows.open_in(tree_number))
        if action == CANCEL:
            for row in rows.tasks_by_id([(tree_number, target)]):
                keys.update(rows.open_below(row[0]))
    return keys


def _sweep_chunk(tree_number: int, keys: Iterable[int]) -> int:
    work = Work(now_ms())
    if work.lock_number(tree_number) is None:
        return 0
    work.read_intents()
    work.load_keys(keys)
    nodes = [work.nodes[key] for key in keys if key in work.nodes and not work.nodes[key].ended]
    work.load_above(nodes)
    before = {node.key: node.status for node in nodes}
    for node in nodes:
        _sweep_one(work, node)
    work.settle()
    touched = len(work.deadlines) + sum(node.status != before[node.key] for node in nodes)
    _close(work)
    return touched


def _sweep_one(work: Work, node: Node) -> None:
    cancel = work.cancel_over(node)
    if cancel is None or node.killed_ms is not None:
        return
    if work.idle(node):
        work.kill(node, control_id=cancel.control_id)
    elif work.ends_by_children(node) or work.collects(node):
        work.dirty.add(node.key)
    else:
        work.give_grace(node, since_ms=cancel.cancel_ms or work.now_ms)


def expire(at_ms: int, *, limit: int = 500) -> int:
    """Look at the deadlines due by ``at_ms``, each again under the lock; how many there were."""
    due = rows.due_deadlines(at_ms, limit)
    over = [id for id, _, _, kind, status in due if kind != Deadline.QUIET and (status is None or status > 1)]
    if over:
        in_transaction(partial(rows.drop_deadlines, over))  # most tasks end in time
    by_trace: dict[int, list[int]] = {}
    for id, _, number, _, _ in due:
        by_trace.setdefault(number, []).append(id)
    for number, ids in by_trace.items():
        if left := set(ids).difference(over):
            in_transaction(partial(_expire_in, number, left, at_ms))
    return len(due)


def _expire_in(number: int, ids: Iterable[int], at_ms: int) -> None:
    work = Work(now_ms())
    if work.lock_number(number) is None:
        return
    work.read_intents()
    due = rows.still_due(ids, at_ms)
    work.load_keys([key for _, key, _ in due])
    work.load_above(list(work.nodes.values()))
    for _, key, kind in due:
        if node := work.nodes.get(key):
            DEEDS[kind](work, node)
    # Before the flush, which may set one anew.
    rows.drop_deadlines(id for id, _, _ in due)
    work.settle()
    _close(work)


def _end_grace(work: Work, node: Node) -> None:
    cancel = work.cancel_over(node)
    if cancel is None or node.ended or node.killed_ms is not None or work.ends_by_children(node):
        return
    said = "The actor did not answer the cancel within its grace."
    work.kill(node, error_code="CANCEL_UNACKNOWLEDGED", error_msg=said, control_id=cancel.control_id)


def _time_out(work: Work, node: Node) -> None:
    """End an attempt that was not heard to end; its own ending, when it comes late, stands over this."""
    clock = node.clock
    if node.ended or clock is None or clock.since is None or clock.attempt != node.own.attempt:
        return
    if node.killed_ms is None and node.own.end is None and not work.ends_by_children(node):
        work.time_out(node)


def _end_quiet(work: Work, node: Node) -> None:
    node.quiet = True
    work.dirty.add(node.key)


#: What a due deadline does, by its kind.
DEEDS: Mapping[int, Callable[[Work, Node], None]] = {
    Deadline.GRACE: _end_grace,
    Deadline.TIMEOUT: _time_out,
    Deadline.QUIET: _end_quiet,
}


# -- runs


@dataclass(frozen=True, slots=True)
class Started:
    trace_id: str
    root_task_id: str
    created: bool


def start_run(
    *, job_id: str, input_params: dict[str, Any] | None = None, trace_id: str | None = None,
    task_id: str | None = None, split_count: int | None = None, labels: dict[str, str] | None = None,
    started_by: str = "",
) -> Started:  # fmt: skip
    """Start a run of a definition: its root, with parameters merged over the defaults and checked.

    Safe to repeat with the same ``trace_id`` and body; another body is a Conflict.
    Refuses an unknown definition (404), an inactive one (409) and parameters that
    ``params_schema`` does not take (400 ``invalid_params``, ``details.errors``).
    """
    body = [job_id, input_params or {}, task_id, split_count or 0, labels or {}]
    digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
    if trace_id is not None and (existing := _existing(trace_id, digest)):
        return existing
    item = {
        "id": task_id or str(ULID()),
        "trace_id": trace_id or str(ULID()),
        "job_id": job_id,
        "input_params": _params(job_id, input_params or {}),
        "split_count": split_count or 0,
        "labels": labels or {},
    }
    registering = one_registration(item)
    registering.started_by, registering.digest = started_by[:150], digest
    try:
        registered = register_one(registering)
    except TowerError as error:
        if error.http_status == 409 and (existing := _existing(registering.trace_id, digest)):
            return existing
        raise
    return Started(registered.trace_id, registered.id, True)


def _existing(trace_id: str, digest: str) -> Started | None:
    trace = Trace.objects.filter(id=trace_id, next_n__gt=0).first()
    if trace is None:
        return None
    if trace.start_digest != digest or trace.root_n is None:
        raise Conflict(f"There is a trace {trace_id}, started otherwise.", field="trace_id")
    root = TaskInstance.objects.values_list("id", flat=True).get(key=trace.number << 32 | trace.root_n)
    return Started(trace_id, root, False)


def _params(job_id: str, given: dict[str, Any]) -> dict[str, Any]:
    current = rules.current([job_id]).get(job_id)
    if current is None:
        raise NotFound(f"There is no definition {job_id}.", field="job_id")
    if not current.is_active:
        raise Conflict(f"The definition {job_id} is inactive.", code="definition_inactive", field="job_id")
    version = rules.version(current.pk)
    params = {**version.default_params, **given}
    if version.params_schema is not None and (errors := check_params(version.params_schema, params)):
        raise TowerError("The parameters do not fit.", code="invalid_params", errors=errors)
    return params
