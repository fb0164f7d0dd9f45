"""Reads what each attempt of a task did, and to which attempt a recorded report belongs. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.db.models import QuerySet

from instances import rows
from instances.intake import stored_report
from instances.lifecycle import (
    PROGRESS,
    REPORTED_CANCELLED,
    AttemptSummary,
    Decree,
    Key,
    Origin,
    Report,
    attempts_of,
    history,
    summed_up,
)
from instances.models import Event, TaskSaid
from instances.node import Node, from_rows

#: Reports that are walked again for one answer; above it only what the fold remembers is told.
MOST_REPORTS = 5_000
#: Attempts that one answer shows; the newest.
MOST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Attempts:
    """``left_out``: older attempts that are not shown."""

    shown: list[AttemptSummary]
    left_out: int = 0


def node_of(tree: int, n: int) -> Node | None:
    found = rows.tasks_by_key([tree << 32 | n])
    return from_rows(found)[0] if found else None


def attempts(node: Node) -> Attempts:
    """What each attempt of a task did; the last is the standing one."""
    if uneventful(node):
        reports = _logged(node, Origin.ACTOR).count() if node.own.heard else 0
        return Attempts([_from_memory(node, (), reports)] if node.own.heard else [])
    told = _told([node.key], MOST_REPORTS)
    decrees = _decrees(node)
    if told is None:
        reports = _logged(node, Origin.ACTOR).count()
        return Attempts([_from_memory(node, decrees, reports)], node.own.attempt - 1)
    all_of_them = history(_reports(told, {node.key: node.id})[node.key], cap=_cap(node), decrees=decrees)
    return Attempts(all_of_them[-MOST_SHOWN:], max(0, len(all_of_them) - MOST_SHOWN))


def _logged(node: Node, origin: Origin) -> QuerySet[Event]:
    return Event.objects.filter(task=node.key, origin=int(origin))


def uneventful(node: Node) -> bool:
    """Nothing but a first attempt that its actor alone speaks of: the fold remembers all of it."""
    return node.own.plain and node.killed_ms is None and node.timed_out is None


def _cap(node: Node) -> int | None:
    return None if node.killed_ms is not None else node.cap


def _from_memory(node: Node, decrees: Sequence[Decree], reports: int) -> AttemptSummary:
    said = TaskSaid.objects.filter(task=node.key).first() or TaskSaid(task=node.key)
    texts = {name: getattr(said, name) or "" for name in ("worker", "output_ref", "error_code", "error_msg")}
    node.own.texts = texts
    return summed_up(
        node.own, {one.kind: one for one in decrees if one.attempt == node.own.attempt}, reports=reports
    )


def _decrees(node: Node) -> list[Decree]:
    """What the tower itself logged for a task; a CANCELLED ended the attempt that stood then."""
    found = _logged(node, Origin.TOWER).order_by("position")
    return [decree(event.kind, event.timestamp_ms, event.payload, node) for event in found[: MOST_SHOWN + 1]]


def decree(kind: int, ms: int, payload: str, node: Node) -> Decree:
    said = orjson.loads(payload)
    attempt = node.attempt if kind == REPORTED_CANCELLED else said.get("attempt", node.attempt)
    return Decree(kind, ms, attempt, said.get("error_code", ""), said.get("error_msg", ""))


def _told(keys: Iterable[int], most: int) -> list[Sequence[Any]] | None:
    """The recorded reports of some tasks, with what the walk has to know; None where they are too many."""
    found = (
        Event.objects.filter(task__in=list(keys), origin=0)
        .values_list("task", "event_id", "kind", "timestamp_ms", "parent_id", "actor_type", "payload")
        .order_by()[: most + 1]
    )
    told: list[Sequence[Any]] = list(found)
    return None if len(told) > most else told


def _reports(told: Iterable[Sequence[Any]], ids: Mapping[int, str]) -> dict[int, list[Report]]:
    reports: dict[int, list[Report]] = {key: [] for key in ids}
    for key, event_id, kind, ms, parent_id, actor_type, payload in told:
        reports[key].append(
            stored_report(
                event_id=event_id, task_id=ids[key], kind=kind, ms=ms, parent_id=parent_id,
                actor_type=actor_type, payload=payload,
            )
        )  # fmt: skip
    return reports


# -- where a report belongs


@dataclass(frozen=True, slots=True)
class Footing:
    """What stands in one task: which attempt, and which ending of each.

    ``belongs`` is None where every report is of attempt 1, empty where they are too many to be walked.
    """

    attempt: int
    #: The one that the task shows: where it was cancelled for good, that of then.
    shown: int
    cap: int | None
    killed_ms: int | None
    ends: Mapping[int, Key]
    belongs: Mapping[str, int] | None

    def attempt_of(self, event_id: str) -> int | None:
        if self.belongs is None:
            return 1
        return self.belongs.get(event_id)


def footings(keys: Iterable[int]) -> dict[int, Footing]:
    """What stands in some tasks, for the reasons of a page of their reports; a few statements."""
    nodes = {node.key: node for node in from_rows(rows.tasks_by_key(set(keys)))}
    walked = {key: node for key, node in nodes.items() if not node.own.plain}
    told = _told(walked, MOST_REPORTS) if walked else []
    reports = _reports(told, {key: node.id for key, node in walked.items()}) if told is not None else {}
    return {key: _footing(node, reports.get(key)) for key, node in nodes.items()}


def _footing(node: Node, reports: list[Report] | None) -> Footing:
    own, killed = node.own, node.killed_ms
    if own.plain or reports is None:
        ends = {own.attempt: own.end} if own.end is not None else {}
        return Footing(own.attempt, node.attempt, _cap(node), killed, ends, None if own.plain else {})
    belongs = attempts_of(reports, cap=_cap(node))
    ends = {}
    for report in reports:
        at = belongs[report.event_id]
        if report.kind > PROGRESS and (at not in ends or report.key < ends[at]):
            ends[at] = report.key
    return Footing(own.attempt, node.attempt, _cap(node), killed, ends, belongs)
