"""What actors answered to a control: who, after how long, and who has not. Read from the log of reports.

An actor answers a PAUSE by reporting that it holds, a RUN by its next report that does not say so, a CANCEL
by its ending. Reports count until the next control is taken at the same place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from controls.models import ControlRecord
from controls.policy import Outcome
from controls.reach import CAP, key_of
from instances.lifecycle import Origin
from instances.reads import MASK
from instances.rows import run
from tower.schemas import ACTIONS, EVENT_TYPES, STATUSES, ControlAction, TaskEventType, TaskInstanceStatus

#: So many reports behind a control are looked at, and so many places that still stand.
MOST_REPORTS: Final = 20_000
MOST_STANDING: Final = 500
MOST_SILENT: Final = 50
#: A report may be stored after others that were received later, by so much.
MARGIN_MS: Final = 10_000

_TASK = "instances_taskinstance"
RUNNING: Final = STATUSES.index(TaskInstanceStatus.RUNNING)
PROGRESS: Final = EVENT_TYPES.index(TaskEventType.PROGRESS)
ENDINGS: Final = frozenset(
    EVENT_TYPES.index(kind)
    for kind in (TaskEventType.COMPLETED, TaskEventType.FAILED, TaskEventType.CANCELLED)
)
#: Runs, and its actor says so, as ``outline.Task.acting``: it can answer.
_ACTING = f"{{0}}.status = {RUNNING} AND {{0}}.reported_status = {RUNNING}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The first answer of one task."""

    task: int
    task_id: str
    name: str
    kind: int
    by_tower: bool
    received_ms: int
    after_ms: int

    @property
    def word(self) -> str:
        return EVENT_TYPES[self.kind].value


@dataclass(frozen=True, slots=True)
class Receipts:
    answers: Sequence[Receipt]
    #: More reports came than are looked at.
    cut: bool
    #: (id, name) of tasks at work that have not answered, while the control stands; one more than is shown.
    silent: Sequence[tuple[str, str]]
    #: Another control was taken at the same place, or its run has ended.
    over: bool

    @property
    def own(self) -> Sequence[Receipt]:
        return [one for one in self.answers if not one.by_tower]

    @property
    def by_tower(self) -> int:
        return len(self.answers) - len(self.own)

    def share(self, part: float) -> int | None:
        """Nearest rank: a time that an actor really took."""
        spent = sorted(one.after_ms for one in self.own)
        return spent[round((len(spent) - 1) * part)] if spent else None

    @property
    def first_ms(self) -> int | None:
        return min((one.after_ms for one in self.own), default=None)

    @property
    def p95_ms(self) -> int | None:
        return self.share(0.95)

    @property
    def last_ms(self) -> int | None:
        return max((one.after_ms for one in self.own), default=None)


def receipts_of(record: ControlRecord) -> Receipts:
    if record.outcome != Outcome.TAKEN:
        return Receipts([], False, [], True)
    following = (
        ControlRecord.objects.filter(trace_id=record.trace_id, task_id=record.task_id, outcome="taken")
        .filter(number__gt=record.number)
        .order_by("number")
        .values_list("created_ms", flat=True)
        .first()
    )
    below = _below(record)
    rows = _reports(record, following)
    answers: dict[int, Receipt] = {}
    for task, kind, origin, received, payload, id, name in rows[:MOST_REPORTS]:
        if task not in answers and (below is None or task in below) and _answers(record, kind, payload):
            by_tower = origin == Origin.TOWER
            after = max(0, received - record.created_ms)
            answers[task] = Receipt(task, id, name or id, kind, by_tower, received, after)
    ended = run("SELECT ended_ms FROM instances_trace WHERE number = %s", [record.trace])
    over = following is not None or not ended or ended[0][0] is not None
    silent = [] if over else list(_silent(record, below, answers))
    return Receipts(list(answers.values()), len(rows) > MOST_REPORTS, silent, over)


def _answers(record: ControlRecord, kind: int, payload: str) -> bool:
    action = ACTIONS[record.action]
    if action is ControlAction.CANCEL:
        return kind in ENDINGS
    holds = kind == PROGRESS and orjson.loads(payload or "{}").get("paused") is True
    return holds if action is ControlAction.PAUSE else not holds


def _reports(record: ControlRecord, until_ms: int | None) -> list[Any]:
    """Behind the control, in the order of receipt; one more than is looked at."""
    start = _position(record.trace, record.created_ms - MARGIN_MS)
    kinds = {
        ControlAction.PAUSE: f" AND e.kind = {PROGRESS}",
        ControlAction.CANCEL: f" AND e.kind IN ({', '.join(map(str, sorted(ENDINGS)))})",
    }.get(ACTIONS[record.action], f" AND e.origin = {int(Origin.ACTOR)}")
    until, params = ("", []) if until_ms is None else (" AND e.received_ms < %s", [until_ms])
    return run(
        "SELECT e.task, e.kind, e.origin, e.received_ms, e.payload, k.id, k.name FROM instances_event e"
        f" JOIN {_TASK} k ON k.pk = e.task WHERE e.trace = %s AND e.position >= %s AND e.received_ms >= %s"
        f"{kinds}{until} ORDER BY e.position LIMIT %s",
        [record.trace, start, record.created_ms, *params, MOST_REPORTS + 1],
    )


def _position(trace: int, ms: int) -> int:
    """Where the log of a run has come to a moment: halved, since no index holds the times of receipt."""
    newest = run("SELECT MAX(position) FROM instances_event WHERE trace = %s", [trace])
    low, high = 0, (newest[0][0] or 0) // 65_536 + 1
    while low < high:
        middle = (low + high) // 2
        found = run(
            "SELECT position, received_ms FROM instances_event WHERE trace = %s AND position >= %s"
            " ORDER BY position LIMIT 1",
            [trace, middle * 65_536],
        )
        if found and found[0][1] < ms:
            low = found[0][0] // 65_536 + 1
        else:
            high = middle
    return low * 65_536


def _below(record: ControlRecord) -> frozenset[int] | None:
    """Keys at and below the place, as many as a control counts; None for the whole tree."""
    if record.task_id is None:
        return None
    top = key_of(record.trace, record.task_id)
    rows = run(
        f"WITH RECURSIVE below(pk) AS (SELECT pk FROM {_TASK} WHERE pk = %s UNION ALL"
        f" SELECT t.pk FROM below JOIN {_TASK} t ON t.parent_id = below.pk) SELECT pk FROM below LIMIT %s",
        [top or 0, 2 * CAP],
    )
    return frozenset(pk for (pk,) in rows)


def _silent(
    record: ControlRecord, below: frozenset[int] | None, answered: Mapping[int, Receipt]
) -> Iterator[tuple[str, str]]:
    """Of a RUN nobody owes an answer."""
    if ACTIONS[record.action] is ControlAction.RUN:
        return
    holding = "" if ACTIONS[record.action] is ControlAction.CANCEL else " AND NOT k.holds"
    low = record.trace << 32
    left = MOST_SILENT + 1
    for pk, id, name in run(
        f"SELECT k.pk, k.id, k.name FROM {_TASK} k WHERE k.pk >= %s AND k.pk <= %s"
        f" AND {_ACTING.format('k')}{holding} ORDER BY k.pk LIMIT %s",
        [low, low | MASK, MOST_REPORTS],
    ):
        if left and pk not in answered and (below is None or pk in below):
            left -= 1
            yield id, name or id


def unanswered() -> list[str]:
    """Controls that stand in runs under way, with a task at work that has not answered; the newest places."""
    owes = "(action = 2 OR NOT holds)"
    columns = "b.control_id, b.action, c.pk, c.status, c.reported_status, c.holds"
    rows = run(
        "WITH RECURSIVE standing(control_id, trace, target, action) AS ("
        " SELECT i.control_id, i.trace, i.target, i.action FROM instances_intent i"
        " JOIN instances_trace t ON t.number = i.trace"
        " WHERE i.action > 0 AND t.ended_ms IS NULL AND t.running > 0"
        f" ORDER BY i.trace DESC LIMIT {MOST_STANDING}),"
        " below(control_id, action, pk, status, reported_status, holds) AS ("
        f" SELECT {columns} FROM standing b JOIN {_TASK} c ON c.tree_id = b.trace AND c.id = b.target"
        f" UNION ALL SELECT {columns} FROM below b JOIN {_TASK} c ON c.parent_id = b.pk)"
        f" SELECT DISTINCT control_id FROM below b WHERE {_ACTING.format('b')} AND {owes}"
        " UNION SELECT s.control_id FROM standing s WHERE s.target = '' AND EXISTS ("
        f" SELECT 1 FROM {_TASK} k WHERE k.pk >= s.trace * 4294967296"
        f" AND k.pk < (s.trace + 1) * 4294967296 AND {_ACTING.format('k')} AND {owes})"
    )
    return [id for (id,) in rows]
