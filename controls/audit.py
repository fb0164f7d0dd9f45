"""The page of the audit: what a reader asks for in the address, and what is shown of each control."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest, QueryDict
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from controls import reach, receipts
from controls.export import MOST_ROWS
from controls.issue import affected
from controls.models import ControlQuery, ControlRecord
from controls.policy import GLOBAL, Outcome
from instances.api_reads import LIST_SECONDS
from instances.models import TaskInstance, Trace
from instances.reads import at_one_moment
from tower.definitions import rules
from tower.marks import iso
from tower.paging import PAGED, page_of
from tower.reading import Query
from tower.schemas import ACTIONS, ControlAction

HOUR_MS: Final = 3_600_000
SPANS: Final[Mapping[str, tuple[int, Promise | str]]] = {
    "1h": (HOUR_MS, gettext_lazy("Last hour")),
    "24h": (24 * HOUR_MS, gettext_lazy("Last 24 hours")),
    "7d": (7 * 24 * HOUR_MS, gettext_lazy("Last 7 days")),
    "30d": (30 * 24 * HOUR_MS, gettext_lazy("Last 30 days")),
}
WORDS: Final[Mapping[ControlAction, Promise | str]] = {
    ControlAction.RUN: gettext_lazy("Resume"),
    ControlAction.PAUSE: gettext_lazy("Pause"),
    ControlAction.CANCEL: gettext_lazy("Cancel"),
}
ICONS: Final[Mapping[ControlAction, str]] = {
    ControlAction.RUN: "play",
    ControlAction.PAUSE: "pause",
    ControlAction.CANCEL: "stop",
}
OUTCOMES: Final[Mapping[Outcome, Promise | str]] = {
    Outcome.TAKEN: gettext_lazy("Accepted"),
    Outcome.ALREADY_ENDED: gettext_lazy("Refused: already ended"),
    Outcome.CANCELLED: gettext_lazy("Refused: under a cancel"),
    Outcome.NOT_PAUSED_HERE: gettext_lazy("Refused: not paused here"),
    Outcome.FORBIDDEN: gettext_lazy("Refused: no right"),
}
#: Filters that a row leads to; they stand as chips that can be taken away.
CHIPS: Final = ("by", "run", "batch")
#: The filters, in the order of the page.
FILTERS: Final = ("q", "by", "run", "batch", "action", "outcome", "since", "unanswered", "waiting")


def context(request: HttpRequest) -> dict[str, Any]:
    query = Query(request, allowed=PAGED | set(FILTERS))
    found = page_of(request, query, matching(query), ["number"], "audit", newest_first=True)
    asked = {name: request.GET.get(name, "") for name in FILTERS}
    return {
        "controls": list(lines(found["results"])),
        "newer": found["previous"],
        "older": found["next"],
        "asked": asked,
        "filtered": any(asked.values()),
        "picks": list(picks(asked)),
        "waiting": ControlRecord.objects.undelivered().count(),
        "waiting_url": address(request.GET, waiting="" if asked["waiting"] else "1"),
        "chips": [(name, asked[name], address(request.GET, **{name: ""})) for name in CHIPS if asked[name]],
        "files": [(kind, file_address(kind, request.GET)) for kind in ("csv", "json")],
        "most_rows": MOST_ROWS,
    }


def matching(query: Query) -> ControlQuery:
    found = ControlRecord.objects.matching(
        trace_id=query.text("run", 64),
        action=query.choice("action", [action.value for action in ControlAction]),
        triggered_by=query.text("by", 150),
        outcome=query.choice("outcome", [outcome.value for outcome in OUTCOMES]),
    )
    if q := query.text("q", 200):
        found = found.filter(begins("trace_id", q) | begins("task_id", q) | Q(triggered_by=q))
    if batch := query.text("batch", 26):
        # The controls of one form for several runs begin with its id.
        found = found.filter(begins("id", f"{batch}."))
    if since := query.choice("since", SPANS):
        found = found.filter(created_ms__gte=time.time_ns() // 1_000_000 - SPANS[since][0])
    if query.choice("unanswered", ["1"]):
        with at_one_moment(LIST_SECONDS):
            found = found.filter(id__in=receipts.unanswered())
    return found.undelivered() if query.choice("waiting", ["1"]) else found


def begins(name: str, prefix: str) -> Q:
    """Letter for letter, and never a pattern: ids are ASCII, so everything they go on with is below DEL."""
    return Q((f"{name}__gte", prefix), (f"{name}__lt", prefix + "\x7f"))


def address(asked: QueryDict, **changes: str) -> str:
    query = asked.copy()
    query.pop("cursor", None)
    for name, value in changes.items():
        query.pop(name, None)
        if value:
            query[name] = value
    return f"{reverse('controls:audit')}?{query.urlencode()}" if query else reverse("controls:audit")


def file_address(kind: str, asked: QueryDict) -> str:
    """The same filters as a file."""
    query = asked.copy()
    for name in PAGED:
        query.pop(name, None)
    url = reverse("controls:file", args=[kind])
    return f"{url}?{query.urlencode()}" if query else url


def picks(asked: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The menus: name, title, what is chosen, options."""
    menus: list[tuple[str, str, Iterable[tuple[str, Promise | str]]]] = [
        ("action", _("Any command"), WORDS.items()),
        ("outcome", _("Any outcome"), OUTCOMES.items()),
        ("since", _("Any time"), ((key, title) for key, (_ms, title) in SPANS.items())),
        ("unanswered", _("Answered or not"), [("1", _("Not answered yet"))]),
    ]
    for name, title, options in menus:
        shown = [{"value": str(value), "title": text} for value, text in options]
        yield {"name": name, "title": title, "chosen": asked[name], "options": shown}


# -- a line


@dataclass(frozen=True, slots=True)
class Line:
    """One control as its row shows it."""

    record: ControlRecord
    action: ControlAction
    #: What the task is called; empty for a whole run.
    task: str
    run: str
    url: str

    @property
    def word(self) -> str:
        return str(WORDS[self.action])

    @property
    def icon(self) -> str:
        return ICONS[self.action]

    @property
    def at(self) -> str:
        return iso(self.record.created_ms)

    @property
    def taken(self) -> bool:
        return self.record.outcome == Outcome.TAKEN

    @property
    def outcome(self) -> str:
        return str(OUTCOMES[Outcome(self.record.outcome)])

    @property
    def held_by(self) -> str:
        """Where a RUN should have been asked."""
        held_by = self.record.held_by or ""
        return _("held by the whole run") if held_by == GLOBAL else held_by and _("held by %s") % held_by

    @property
    def affected(self) -> reach.Affected:
        return affected(self.record)

    @property
    def receipts_url(self) -> str:
        return reverse("controls:record", args=[self.record.id])

    @property
    def by_url(self) -> str:
        return f"{reverse('controls:audit')}?{urlencode({'by': self.record.triggered_by})}"

    @property
    def run_url(self) -> str:
        return f"{reverse('controls:audit')}?{urlencode({'run': self.record.trace_id})}"

    @property
    def delivered_after_ms(self) -> int | None:
        delivered = self.record.delivered_ms
        return None if delivered is None else max(0, delivered - self.record.created_ms)


def lines(records: Sequence[ControlRecord]) -> Iterator[Line]:
    runs, tasks = names(records)
    for record in records:
        task_id = record.task_id or ""
        yield Line(
            record,
            ACTIONS[record.action],
            tasks.get((record.trace, task_id), task_id),
            runs.get(record.trace) or str(record.trace_id),
            link(record.trace_id, task_id),
        )


def link(trace_id: str, task_id: str) -> str:
    url = reverse("trace", args=[trace_id])
    return f"{url}?{urlencode({'node': task_id})}" if task_id else url


def names(
    records: Sequence[ControlRecord],
) -> tuple[dict[int | None, str], dict[tuple[int | None, str], str]]:
    """What the runs and tasks of a page of controls are called, in one query each."""
    numbers = {record.trace for record in records}
    runs: dict[int | None, str] = {
        number: name or job_id or id
        for number, name, job_id, id in Trace.objects.filter(number__in=numbers).values_list(
            "number", "name", "job_id", "id"
        )
    }
    wanted = Q(pk__in=[])
    for record in records:
        if record.task_id is not None:
            wanted |= Q(tree_id=record.trace, id=record.task_id)
    tasks = TaskInstance.objects.filter(wanted) if wanted else ()
    return runs, {(task.tree_id, task.id): title(task) for task in tasks}


def title(task: TaskInstance) -> str:
    """A task's own name, else its definition's."""
    pinned = "" if task.version is None else rules.version(task.version).name
    return str(task.name or pinned or task.job_id or task.id)
