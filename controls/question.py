"""What is asked before a CANCEL, and what its answer must hold. The page asks; REST does not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from django import template
from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext as _
from ulid import ULID

from controls import reach
from controls.audit import title
from controls.reach import Part
from instances.models import TaskInstance, Trace
from tower.errors import NotFound, TowerError
from tower.schemas import ID_PATTERN, OPEN, RESERVED_IDS, ControlAction, TaskInstanceStatus

#: The page, and the dialog of a run, take the rule from here; it is tried only in ``Answer.checked``.
register = template.Library()

#: A CANCEL of more open tasks wants a reason.
REASON_ABOVE: Final = 100
#: A CANCEL of more open tasks wants the short id of the run to be typed.
CONFIRM_ABOVE: Final = 1_000
#: Letters of a short id.
SHORT: Final = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """What is wanted above which number of open tasks."""

    reason_above: int = REASON_ABOVE
    confirm_above: int = CONFIRM_ABOVE
    short: int = SHORT


@register.simple_tag
def asking() -> Rule:
    return Rule()


@dataclass(frozen=True, slots=True)
class Share:
    """Tasks of one status below a place, and how many there are of each kind."""

    count: int
    kinds: list[Part]

    @classmethod
    def of(cls, parts: Iterable[Part], status: TaskInstanceStatus) -> Share:
        kinds = [part for part in parts if part.status is status]
        return cls(sum(part.count for part in kinds), kinds)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a control is asked, as the page names it."""

    trace: Trace
    task: TaskInstance | None
    parts: list[Part]

    @classmethod
    def of(cls, trace_id: str, task_id: str) -> Place:
        trace = Trace.objects.filter(id=trace_id).first()
        if trace is None:
            raise NotFound("There is no such trace.", trace_id=trace_id)
        task = TaskInstance.objects.filter(tree_id=trace.number, id=task_id).first() if task_id else None
        if task_id and task is None:
            raise NotFound("There is no such task in this trace.", task_id=task_id)
        return cls(trace, task, reach.parts_of(trace, task.key if task else None))

    @property
    def task_id(self) -> str:
        return self.task.id if self.task else ""

    @property
    def name(self) -> str:
        if self.task is None:
            return self.trace.name or self.trace.job_id or self.trace.id
        return title(self.task)

    @property
    def running(self) -> Share:
        return Share.of(self.parts, TaskInstanceStatus.RUNNING)

    @property
    def pending(self) -> Share:
        return Share.of(self.parts, TaskInstanceStatus.PENDING)

    @property
    def open(self) -> int:
        return sum(part.count for part in self.parts if part.status in OPEN)

    @property
    def ended(self) -> int:
        return sum(part.count for part in self.parts) - self.open

    @property
    def alone(self) -> bool:
        return sum(part.count for part in self.parts) == 1

    @property
    def needs_reason(self) -> bool:
        return self.open > REASON_ABOVE

    @property
    def short_id(self) -> str:
        """What is to be typed before very much is cancelled; empty where nothing is."""
        return short_id(self.trace.id) if self.open > CONFIRM_ABOVE else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "trace_id": self.trace.id,
            "task_id": self.task_id or None,
            "name": self.name,
            "open": self.open,
            "ended": self.ended,
            "parts": [
                {"status": part.status.value, "actor_type": part.kind.value, "count": part.count}
                for part in self.parts
            ],
            "needs_reason": self.needs_reason,
            "confirm": self.short_id or None,
        }


@register.filter
def short_id(trace_id: str) -> str:
    """The end of an id: ULIDs of one hour begin alike."""
    return trace_id[-SHORT:]


def words_for(trace_id: str) -> set[str]:
    """What shows that somebody means this run; also its beginning, which lists and crumbs show first."""
    return {trace_id, trace_id[:SHORT], short_id(trace_id)}


@dataclass(slots=True)
class Answer:
    """What a form said: an action, and for a CANCEL the answer to the question."""

    action: ControlAction
    task_id: str
    reason: str
    confirm: str
    #: It comes from the question, not from the button that leads there.
    confirmed: bool
    #: Made with the form, so that it acts once however often it is sent.
    id: str
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: HttpRequest) -> Answer:
        said = request.POST
        if said.get("action") not in list(ControlAction):
            raise TowerError("Choose RUN, PAUSE or CANCEL.", code="unknown_enum", field="action")
        task_id, id = said.get("task_id", ""), said.get("id", "")
        if task_id and not fit(task_id):
            raise TowerError("This is no task id.", code="invalid_id", field="task_id")
        return cls(
            action=ControlAction(said["action"]),
            task_id=task_id,
            reason=said.get("reason", "").replace("\r\n", "\n").strip(),
            confirm=said.get("confirm", "").strip(),
            confirmed="confirmed" in said,
            id=id if fit(id) else str(ULID()),
        )

    def checked(self, place: Place | None) -> bool:
        """Whether it may be acted on; else ``errors`` says at which field not. ``place``: of a CANCEL."""
        most = settings.TOWER_MAX_TEXT_BYTES
        if "\0" in self.reason or len(self.reason.encode()) > most:
            self.errors["reason"] = _("At most %(most)d bytes of plain text.") % {"most": most}
        elif place and place.needs_reason and not self.reason:
            self.errors["reason"] = _("More than %(count)d tasks: say why, for the audit.") % {
                "count": REASON_ABOVE
            }
        if place and place.short_id and self.confirm not in words_for(place.trace.id):
            self.errors["confirm"] = _("Type %(word)s to show that you mean this run.") % {
                "word": place.short_id
            }
        return not self.errors


def fit(id: str) -> bool:
    return re.fullmatch(ID_PATTERN, id) is not None and id not in RESERVED_IDS
