"""What must hold of a tower at rest, whatever was done to it before (after Jepsen's set test).

``python -m tests.faults.checker < log.json`` looks at the database and the Redis of its
environment and prints what is wrong, as a JSON list. The log is that of ``tests.faults.load``.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

OK, UNKNOWN = "ok", "unknown"

#: Of each kind ("tasks", "events", "controls"): "<trace> <id>" to what its sender was told.
Told = Mapping[str, Mapping[str, str]]


def wrong_with(told: Told, traces: Iterable[str]) -> list[str]:
    """Everything that does not hold; empty where all is well."""
    from instances.models import Trace

    found = list(wrong_in_the_sets(told, set(traces)))
    for trace in Trace.objects.filter(id__in=set(traces)).order_by("number"):
        found += [f"{trace.id}: {said}" for said in wrong_in_the_tree(trace)]
    return found


# -- the sets


def wrong_in_the_sets(told: Told, traces: set[str]) -> Iterator[str]:
    from controls.models import ControlRecord
    from instances.models import Event, TaskInstance, Trace

    ids = dict(Trace.objects.filter(id__in=traces).values_list("number", "id"))
    tasks = TaskInstance._base_manager.filter(tree_id__in=ids)
    events = Event.objects.filter(trace__in=ids, origin=0)
    controls = ControlRecord.objects.filter(trace__in=ids)
    stored = {
        "tasks": Counter(f"{ids[tree]} {id}" for tree, id in tasks.values_list("tree_id", "id")),
        "events": Counter(f"{ids[trace]} {id}" for trace, id in events.values_list("trace", "event_id")),
        "controls": Counter(f"{ids[trace]} {id}" for trace, id in controls.values_list("trace", "id")),
    }
    for kind, sent in told.items():
        lost = sorted(id for id, said in sent.items() if said == OK and not stored[kind][id])
        if lost:
            yield f"{len(lost)} acknowledged {kind} are lost: {lost[:5]}"
        if twice := sorted(id for id, times in stored[kind].items() if times > 1):
            yield f"{len(twice)} {kind} are stored twice: {twice[:5]}"
        if odd := sorted(stored[kind].keys() - sent.keys()):
            yield f"{len(odd)} {kind} were sent by nobody: {odd[:5]}"


# -- one tree


@dataclass
class Fold:
    """A task as its stored reports and its children give it."""

    node: Any
    own: Any
    texts: dict[str, str]
    reported: int | None
    kids: list[Fold] = field(default_factory=list)
    status: int = 0
    started: int | None = None
    finished: int | None = None


def wrong_in_the_tree(trace: Any) -> Iterator[str]:
    folds = folded(trace.number)
    yield from wrong_folds(trace, folds)
    yield from wrong_counts(trace, folds)
    yield from wrong_order(trace, folds)
    yield from wrong_columns(trace)
    yield from wrong_commands(trace)


def folded(number: int) -> dict[int, Fold]:
    """Every task of a tree from its stored reports, the deepest first."""
    from instances import rows
    from instances.intake import stored_report
    from instances.lifecycle import refold
    from instances.models import TaskInstance
    from instances.node import from_rows

    keys = list(TaskInstance._base_manager.filter(tree_id=number).values_list("key", flat=True))
    nodes = from_rows(rows.tasks_by_key(keys)) if keys else []
    ids = {node.key: node.id for node in nodes}
    reports: dict[int, list[Any]] = {key: [] for key in keys}
    for key, event_id, kind, ms, parent_id, actor_type, payload in rows.reports_of(keys) if keys else ():
        reports[key].append(
            stored_report(
                event_id=event_id, task_id=ids[key], kind=kind, ms=ms, parent_id=parent_id,
                actor_type=actor_type, payload=payload,
            )
        )  # fmt: skip
    found = {}
    for node in sorted(nodes, key=lambda node: -node.depth):
        told = refold(reports[node.key], cap=None if node.killed_ms is not None else node.cap)
        texts, told.own.texts = told.own.texts or {}, None
        found[node.key] = Fold(node, told.own, texts, told.reported_status)
    for fold in found.values():
        if fold.node.parent is not None:
            found[fold.node.parent].kids.append(fold)
    for fold in found.values():
        _evaluate(fold, number)
    return found


def _evaluate(fold: Fold, number: int) -> None:
    from instances.aggregation import Standing, ends_by_children, status_of
    from instances.lifecycle import CANCELLED, FAILED, RUNNING, SUCCESS
    from instances.node import AGGREGATORS
    from tower.definitions import rules

    node, own = fold.node, fold.own
    forced = None
    if node.killed_ms is not None:
        forced = CANCELLED
    elif node.timed_out is not None and node.timed_out[0] == own.attempt and own.end is None:
        forced = FAILED
    kids, groups = tally_of(fold, grouped=False), tally_of(fold, grouped=True)
    standing = Standing(
        own_status=own.status,
        heard=own.heard,
        own_ended=own.end is not None,
        planned=node.planned,
        join=None if node.version is None else rules.version(node.version).join,
        under_cancel=any(intent.action == 2 for intent in _over(node, number)),
        forced=forced,
        kids=kids,
        aggregators=groups,
    )
    if (node.kind in AGGREGATORS and not own.heard and forced is None) or node.killed_ms is not None:
        # What an aggregator froze, and when the tower killed, depends on the moment.
        fold.status = CANCELLED if node.killed_ms is not None else node.status
        fold.started, fold.finished = node.started_ms, node.finished_ms
        return
    fold.status, fold.started, fold.finished = status_of(standing), own.start, own.ended_ms
    if forced is not None:
        fold.finished = node.timed_out[1]
    elif ends_by_children(standing):
        deciding = groups if groups.total else kids
        fold.started = deciding.first if fold.started is None else fold.started
        if not (standing.own_ended and standing.own_status != SUCCESS):
            fold.finished = deciding.last
    if fold.status <= RUNNING:
        fold.finished = None


def tally_of(fold: Fold, *, grouped: bool) -> Any:
    from instances.aggregation import Tally
    from instances.lifecycle import CANCELLED
    from instances.node import GROUP_AGG

    kids = [kid for kid in fold.kids if (kid.node.kind == GROUP_AGG) == grouped]
    return Tally(
        by_status=[sum(kid.status == status for kid in kids) for status in range(6)],
        asleep=sum(kid.status == CANCELLED and kid.started is None for kid in kids),
        first=min((kid.started for kid in kids if kid.started is not None), default=None),
        last=max((kid.finished for kid in kids if kid.finished is not None), default=None),
    )


def _over(node: Any, number: int) -> list[Any]:
    from instances import tree
    from instances.intents import on_path
    from instances.models import Intent

    intents = {intent.target: intent for intent in Intent.objects.filter(trace=number)}
    path = [id for _, id in tree.path_of(number, node.key)] if set(intents) - {""} else ()
    return list(on_path(path, intents))  # type: ignore[arg-type]


def wrong_folds(trace: Any, folds: Mapping[int, Fold]) -> Iterator[str]:
    from instances.models import TaskSaid

    said = {row.task: row for row in TaskSaid.objects.filter(task__in=folds)}
    for key, fold in folds.items():
        node = fold.node
        now = (node.status, node.started_ms, node.finished_ms)
        if now != (fold.status, fold.started, fold.finished):
            yield f"{node.id} is {now}, by its reports {(fold.status, fold.started, fold.finished)}"
        kept, told = asdict(node.own), asdict(fold.own)
        if kept != told:
            yield f"{node.id} remembers {kept}, its reports say {told}"
        if node.tally != tally_of(fold, grouped=False) or node.group_tally != tally_of(fold, grouped=True):
            yield f"{node.id} counts {node.tally}, there are {tally_of(fold, grouped=False)}"
        if node.killed_ms is not None or node.timed_out is not None:
            continue
        for name, text in fold.texts.items():
            stands = getattr(said[key], name) if key in said else None
            if (stands or "") != text:
                yield f"{node.id}: {name} is {stands!r}, by its reports {text!r}"


def wrong_counts(trace: Any, folds: Mapping[int, Fold]) -> Iterator[str]:
    from instances.lifecycle import RUNNING

    stored = [trace.pending, trace.running, trace.success, trace.failed, trace.cancelled, trace.skipped]
    counted = [sum(fold.status == status for fold in folds.values()) for status in range(6)]
    if stored != counted:
        yield f"the counts are {stored}, recounted {counted}"
    root = next((fold for fold in folds.values() if fold.node.n == trace.root_n), None)
    if trace.status != (RUNNING if root is None else root.status):
        yield f"the status is {trace.status}, not its root's"
    ended = root is not None and root.status > RUNNING and counted[0] + counted[1] == 0
    if (trace.ended_ms is not None) != ended:
        yield f"ended_ms is {trace.ended_ms}, with {counted}"


def wrong_order(trace: Any, folds: Mapping[int, Fold]) -> Iterator[str]:
    """``seq``, ``rev``, ``n`` and the order of receipt: no number was given twice, and none is missing."""
    from instances.models import Event

    numbers = sorted(fold.node.n for fold in folds.values())
    if numbers != list(range(trace.next_n)):
        yield f"n has holes: {numbers[:5]} … up to {trace.next_n}"
    revs = [fold.node.rev for fold in folds.values()]
    if revs and (min(revs) < 1 or max(revs) > trace.seq):
        yield f"rev runs from {min(revs)} to {max(revs)}, seq is {trace.seq}"
    batches: dict[int, list[int]] = {}
    for position in Event.objects.filter(trace=trace.number).values_list("position", flat=True):
        batches.setdefault(position >> 16, []).append(position & 0xFFFF)
    for seq, ordinals in batches.items():
        if sorted(ordinals) != list(range(len(ordinals))):
            yield f"seq {seq} recorded its events as {sorted(ordinals)[:5]}"
    if batches and max(batches) > trace.seq:
        yield f"an event carries seq {max(batches)}, the trace has {trace.seq}"
    # Batches without an event registered something: each made a task, at least.
    silent = trace.seq - len(batches)
    if silent > len(folds):
        yield f"seq is {trace.seq}: {silent} batches left nothing behind"


def wrong_columns(trace: Any) -> Iterator[str]:
    from django.db import transaction

    from instances import tree
    from instances.models import TaskInstance

    tasks = TaskInstance._base_manager.filter(tree_id=trace.number)
    if tasks.filter(parent=None).count() != 1:
        return  # mptt knows one root a tree
    columns = ("id", "lft", "rght", "level")
    ours = list(tree.numbered(trace).values_list(*columns))
    with transaction.atomic():
        TaskInstance.objects.partial_rebuild(trace.number)
        theirs = list(tasks.order_by("lft").values_list(*columns))
        transaction.set_rollback(True)
    if ours != theirs:
        yield "the tree columns differ from mptt's rebuild"


def wrong_commands(trace: Any) -> Iterator[str]:
    from instances.models import Intent
    from tower import redis
    from tower.schemas import ACTIONS

    standing: dict[str, str] = {}
    for intent in Intent.objects.filter(trace=trace.number):
        at = intent.target or "global_action"
        standing |= {at: ACTIONS[intent.action].value, f"#{at}": str(intent.number)}
    in_redis: Any = redis.client().hgetall(f"cmd:instance:{trace.id}")
    if in_redis != standing and (in_redis or trace.ended_ms is None):  # those of an ended trace may go
        yield f"Redis holds {in_redis}, in force is {standing}"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tower.settings")
    import django

    import tower  # noqa: F401  (puts the newer SQLite in before Django loads its own)

    django.setup()
    log = json.load(sys.stdin)
    json.dump(wrong_with(log["told"], log["traces"]), sys.stdout)


if __name__ == "__main__":
    main()
