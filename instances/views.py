"""The page of one run. Reads only; its scripts take over what is drawn here."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson
from django.db.models import OuterRef, Subquery
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET

from instances import reads
from instances.eventlog import Entry, entries
from instances.failures import asked, codes_of
from instances.lifecycle import Origin
from instances.models import TaskBody, TaskSaid, Trace
from instances.outline import BLANK, CANCEL, PAGE, PAUSE, RUN, Outline, Task, accepted, named
from instances.pane import AttemptLine, Pane, pane_of
from instances.reads import at_one_moment
from instances.sentences import skew
from instances.textsearch import MOST_FOUND, find_in
from instances.words import MENU, TABS, VERDICTS, VIEWS, words
from tower.access.pages import page
from tower.access.roles import role_at_least
from tower.marks import BAR_ORDER, count
from tower.schemas import ACTIONS, EVENT_TYPES, KINDS, STATUSES, TaskEventType, TaskInstanceStatus

MODULES = tuple(
    f"tree/{name}.js"
    for name in (
        "trace", "store", "groups", "flat", "causes", "search", "order", "views", "errors", "folds", "rows",
        "waterfall", "zoom", "arrivals", "live-socket", "wire", "liveness", "news", "asked", "head",
        "detail-pane", "pane-size", "told", "loose", "controls", "row-menu", "marked", "bulk", "filter",
        "moves", "kept-folds", "address", "keys", "clock", "times", "critical", "critical-line", "idle",
        "idle-times", "minimap", "words", "past", "playback",
    )
) + tuple(f"js/{name}.js" for name in ("json-view", "links", "clipboard"))  # fmt: skip
#: What the icon of the tab can show.
ICONS = ("PENDING", "RUNNING", "PAUSED", "SUCCESS", "FAILED", "CANCELLED", "SKIPPED")
#: How much faster than it went a run is played back.
SPEEDS = (1, 5, 20, 100, 500, 3_600, 20_000)
#: What a pane asks for may take no longer.
PANE_SECONDS = 2.0
#: Reports of a task that are shown before a script fetches more.
EVENTS = 50


@page("viewer")
def trace(request: HttpRequest, trace_id: str) -> HttpResponse:
    # The row is made before the first task is; until then readers know of no run.
    run = (
        Trace.objects.filter(id=trace_id, next_n__gt=0)
        .annotate(newer=next_run("number"), older=next_run("-number"))
        .first()
    )
    if run is None:
        raise Http404(_("There is no run of this id."))
    outline = outline_of(request, run)
    return render(request, "instances/trace.html", context(request, run, outline))


def next_run(order: str) -> Subquery:
    """The id of the run that was begun next, in the query of a run itself."""
    after = {"number__gt": OuterRef("number")} if order == "number" else {"number__lt": OuterRef("number")}
    return Subquery(Trace.objects.filter(**after, next_n__gt=0).order_by(order).values("id")[:1])


@page("viewer")
@require_GET
def task(request: HttpRequest, trace_id: str, task_id: str) -> HttpResponse:
    """What the pane of a task says beyond its row, in the reader's language; for the scripts of the page."""
    with at_one_moment(PANE_SECONDS):
        run = Trace.objects.filter(id=trace_id, next_n__gt=0).first()
        n = None if run is None else reads.n_of(run.number, task_id)
        told = None if run is None or n is None else pane_of(run.number, n, after=after(request))
    if told is None:
        raise Http404(_("There is no such task in this run."))
    return JsonResponse(told.as_json())


@page("viewer")
@require_GET
def find(request: HttpRequest, trace_id: str) -> HttpResponse:
    """The tasks whose labels or texts hold what is asked for, for the search of the page."""
    with at_one_moment(PANE_SECONDS):
        run = Trace.objects.filter(id=trace_id, next_n__gt=0).first()
        if run is None:
            raise Http404(_("There is no run of this id."))
        found = find_in(run.number, request.GET.get("q", "")[:200])
    return JsonResponse({"found": found[:MOST_FOUND], "more": len(found) > MOST_FOUND})


@page("viewer")
@require_GET
def errors(request: HttpRequest, trace_id: str) -> HttpResponse:
    """The error codes of the tasks that the list of failures names."""
    with at_one_moment(PANE_SECONDS):
        run = Trace.objects.filter(id=trace_id, next_n__gt=0).first()
        if run is None:
            raise Http404(_("There is no run of this id."))
        return JsonResponse(codes_of(run.number, asked(request.GET.get("n", ""))))


def after(request: HttpRequest) -> str:
    """The task id that a page of results follows."""
    asked = request.GET.get("after", "")
    return asked if reads.valid_id(asked) else ""


def outline_of(request: HttpRequest, run: Trace) -> Outline:
    ask = request.GET
    status = ask.get("status", "")
    start = ask.get("from", "")
    return Outline(
        run,
        now_ms=time.time_ns() // 1_000_000,
        node=ask.get("node", "")[:64].replace("\0", ""),
        status=STATUSES.index(TaskInstanceStatus(status))
        if status in TaskInstanceStatus.__members__
        else None,
        q=ask.get("q", "")[:200].replace("\0", ""),
        view=next((view for view, _ in VIEWS if view == ask.get("view")), "tree"),
        start=min(int(start), 1_000_000) if start.isascii() and start.isdigit() and len(start) < 8 else 0,
        folds=ask.get("open"),
    )


def context(request: HttpRequest, run: Trace, outline: Outline) -> dict[str, Any]:
    root = outline.tasks.get(run.root_n) if run.root_n is not None else None
    whole = outline.intents.get("")
    asked = whole.action if whole else RUN
    tab = request.GET.get("tab", "")
    # As in the list of runs: its root tells, whatever is still open below it.
    running = run.finished_ms is None
    end = run.finished_ms or outline.now_ms
    return {
        "trace": run,
        "outline": outline,
        "blank": BLANK,
        "modules": MODULES,
        "now_ms": outline.now_ms,
        "title": run.name or (outline.title(root) if root else "") or run.job_id or run.id,
        "root": root or BLANK.task,
        "root_id": root.id if root else "",
        "status": STATUSES[run.status].value,
        "statuses": [s.value for s in BAR_ORDER],
        "chosen_status": "" if outline.status is None else STATUSES[outline.status].value,
        "counts": named(outline.totals),
        "running": running,
        "spent_ms": None if run.started_ms is None else end - run.started_ms,
        "may_control": role_at_least(request.user, "operator"),
        "accepts": accepted(
            still_open=bool(outline.totals[0] + outline.totals[1]), asked=asked, asked_here=asked
        ),
        "notices": list(notices(outline)),
        "views": VIEWS,
        "menu": MENU,
        "speeds": SPEEDS,
        "tabs": TABS,
        "tab": tab if tab in dict(TABS) else "overview",
        "pane": pane_size(request),
        "detail": detail(outline, after(request), whole="whole" in request.GET) or NO_DETAIL,
        "loose": loose(outline),
        "no_attempt": NO_ATTEMPT,
        "no_event": NO_EVENT,
        "no_notice": Notice("", "PAUSE", "", "", None, None, None),
        "words": words(),
        "icons": [(state, f"favicons/{state.lower()}.svg") for state in ICONS],
        "newer": vars(run)["newer"],
        "older": vars(run)["older"],
    }


# -- notices


@dataclass(frozen=True, slots=True)
class Notice:
    target: str
    action: str
    what: str
    how: str
    holding: int | None
    acting: int | None
    at_ms: int | None


def notices(outline: Outline) -> Iterator[Notice]:
    """What is asked and not yet done: pauses, and cancels below which something still runs."""
    for intent in sorted(outline.intents.values(), key=lambda i: -i.number):
        task = next((t for t in outline.tasks.values() if t.id == intent.target), None)
        if intent.action == RUN or (intent.target and task is None):
            continue
        if not (outline.still_open(task) if task else outline.totals[0] + outline.totals[1]):
            continue
        holding, acting = outline.obeying(intent.target) or (None, None)
        yield Notice(
            target=intent.target,
            action=ACTIONS[intent.action].value,
            what=what(
                intent.action, outline.title(task) if task else "", acting is not None and holding == acting
            ),
            how=how(intent.action, holding, acting),
            holding=holding if intent.action == PAUSE else None,
            acting=acting if intent.action == PAUSE else None,
            at_ms=intent.created_ms,
        )


def what(action: int, name: str, held: bool) -> str:
    if action == CANCEL:
        return _("Cancelling %s") % name if name else _("Cancelling the run")
    if held:
        return _("Paused %s") % name if name else _("Paused the run")
    return _("Pausing %s") % name if name else _("Pausing the run")


def how(action: int, holding: int | None, acting: int | None) -> str:
    if acting is None:
        return ""
    if action == CANCEL:
        return ngettext("%d task still runs", "%d tasks still run", acting) % acting
    if not acting:
        return _("nothing runs; what is pending waits")
    return _("%(holding)d of %(acting)d hold") % {"holding": holding, "acting": acting}


# -- what hangs nowhere

#: Unattached tasks that are named at the head of the page.
LOOSE_NAMED = 5


@dataclass(frozen=True, slots=True)
class Loose:
    """The tops of what is unattached: how many (or "200+"), and the first few by name."""

    count: str
    tasks: list[tuple[str, str]]
    more: int


def loose(outline: Outline) -> Loose:
    tops = [task for task in outline.tops if not task.attached]
    shown = [(task.id, outline.title(task)) for task in tops[:LOOSE_NAMED]]
    capped = not outline.whole and len(tops) > PAGE
    return Loose(f"{PAGE}+" if capped else count(len(tops)), shown, len(tops) - len(shown))


# -- one task

#: What ``<template>`` is drawn from.
NO_ATTEMPT = AttemptLine(0, "PENDING", "", [], None, None, "")


#: More letters of parameters are shown only where somebody asks for them.
PARAMETERS_SHOWN = 16_000


@dataclass(frozen=True, slots=True)
class PaneSize:
    """Pixels that a reader gave the pane beside the tree, and below it; None leaves it to the style."""

    width: int | None = None
    height: int | None = None


def pane_size(request: HttpRequest) -> PaneSize:
    """From the cookie that ``static/tree/pane-size.js`` writes, so that the first paint is right."""
    found = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", request.COOKIES.get("pane", ""))
    return PaneSize(*(int(one) or None for one in found.groups())) if found else PaneSize()


def detail(outline: Outline, results_after: str, *, whole: bool = False) -> dict[str, Any] | None:
    task = outline.selected
    if task is None:
        return None
    key = outline.trace.number << 32 | task.n
    body = TaskBody.objects.filter(task=key).first()
    said = TaskSaid.objects.filter(task=key).first() or TaskSaid(task=key)
    here = outline.intents.get(task.id)
    end = outline.now_ms if task.is_open else task.finished_ms
    told = pane_of(outline.trace.number, task.n, said=said, after=results_after)
    parameters = shown(body.input_params if body else {})
    logged = entries(reads.events_after("task", key, None, EVENTS))
    return {
        "id": task.id,
        "name": outline.title(task),
        "status": STATUSES[task.status].value,
        "actor_type": KINDS[task.kind].value,
        "job_id": task.job_id,
        "version": outline.versions.get(task.version or 0, ("", 0))[1],
        "holds": task.holds,
        "reported_status": STATUSES[task.reported_status or 0].value if task.differs else None,
        "asked_tag": asked_tag(outline, task),
        "attempt": task.attempt,
        "progress": task.progress,
        "started_ms": task.started_ms,
        "finished_ms": task.finished_ms,
        "spent_ms": None if task.started_ms is None or end is None else end - task.started_ms,
        "children": children(outline, task),
        "message": said.message,
        "worker": said.worker,
        "output_ref": said.output_ref,
        "output": output_of(said.output_ref),
        "error_code": said.error_code,
        "error_msg": said.error_msg,
        "parameters": parameters if whole or len(parameters) <= PARAMETERS_SHOWN else None,
        "parameters_size": len(parameters),
        "labels": (body.labels if body else None) or {},
        "path": [{"id": t.id, "title": outline.title(t)} for t in (*outline.above(task), task)],
        "notes": list(notes(outline, task)),
        "told": told,
        "events": [event_line(entry) for entry in logged],
        "accepts": accepted(
            still_open=outline.still_open(task),
            asked=outline.asked(task),
            asked_here=here.action if here else RUN,
        ),
    }


#: The pane before a task is chosen; its script fills the same places.
NO_DETAIL: dict[str, Any] = dict.fromkeys(
    [
        *("name", "actor_type", "job_id", "version", "holds", "reported_status", "asked_tag", "attempt"),
        *("progress", "started_ms", "finished_ms", "spent_ms", "children", "message", "worker"),
        *("output_ref", "output", "error_code", "error_msg"),
    ]
) | {
    "id": "",
    "status": "PENDING",
    "labels": {},
    "path": [],
    "notes": [],
    "parameters": "",
    "parameters_size": 0,
    "told": Pane([], [], 0, None, [], 0),
    "events": [],
    "accepts": [],
}
NO_EVENT: dict[str, Any] = dict.fromkeys(
    [
        *("kind", "status", "verdict", "verdict_word", "what", "origin", "text", "received_ms"),
        *("attempt", "why", "skew", "said_ms", "payload"),
    ]
)


def asked_tag(outline: Outline, task: Task) -> str:
    asked = outline.asked(task)
    if asked == RUN or not outline.still_open(task):
        return ""
    return _("cancel asked") if asked == CANCEL else _("pause asked")


def children(outline: Outline, task: Task) -> str:
    if not task.kids and not task.planned:
        return ""
    ended = sum(not t.is_open for t in outline.children.get(task.n, ()) if t.kind != 1)
    if not outline.whole:
        return str(max(task.planned, task.kids))
    return _("%(ended)d of %(all)d ended") % {"ended": ended, "all": max(task.planned, task.kids)}


def notes(outline: Outline, task: Task) -> Iterator[str]:
    """Sentences about what a row can only hint at."""
    here = outline.intents.get(task.id)
    asked = outline.asked(task)
    if asked != RUN and outline.still_open(task) and (here is None or here.action != asked):
        place = next((t for t in reversed(outline.above(task)) if held(outline, t, asked)), None)
        name = outline.title(place) if place else _("the whole run")
        yield (
            _("Cancelled by what was asked of %s.") if asked == CANCEL else _("Held by the pause of %s.")
        ) % name
    if not task.attached and task.parent_id is None:
        yield _("No report has named its parent yet.")
    if not task.registered:
        yield _("It has not been registered: all that is known of it comes from reports.")


def held(outline: Outline, task: Task, action: int) -> bool:
    intent = outline.intents.get(task.id)
    return intent is not None and intent.action == action


@dataclass(frozen=True, slots=True)
class Output:
    """What a task points at: a link and the host it leads to, or JSON; else it is plain text."""

    href: str = ""
    host: str = ""
    json: str = ""


def output_of(ref: str | None) -> Output:
    if href := link_of(ref):
        return Output(href=href, host=urlsplit(href).netloc.lower())
    if ref and ref[:1] in "{[":
        try:
            return Output(json=shown(orjson.loads(ref)))
        except orjson.JSONDecodeError:
            pass
    return Output()


#: Letters, digits and dots, or an address of IPv6, with a port: no host that reads as another one.
HOST = re.compile(r"([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.IGNORECASE)


def link_of(ref: str | None) -> str:
    """An output is a link only where it is plain http or https (B72); static/js/links.js says the same."""
    if not ref or "\\" in ref or any(ord(c) < 33 for c in ref):
        return ""
    try:
        parts = urlsplit(ref)
    except ValueError:
        return ""
    return ref if parts.scheme in {"http", "https"} and HOST.fullmatch(parts.netloc) else ""


def shown(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


#: The colour of a report's dot is that of the status that it speaks of.
SPEAKS_OF = {
    TaskEventType.STARTED: TaskInstanceStatus.RUNNING,
    TaskEventType.PROGRESS: TaskInstanceStatus.RUNNING,
    TaskEventType.COMPLETED: TaskInstanceStatus.SUCCESS,
    TaskEventType.FAILED: TaskInstanceStatus.FAILED,
    TaskEventType.CANCELLED: TaskInstanceStatus.CANCELLED,
}


#: More of a payload is not drawn into a page; the API has all of it.
PAYLOAD_SHOWN = 4_000


def event_line(entry: Entry) -> dict[str, Any]:
    kind = EVENT_TYPES[entry.kind]
    said = entry.said
    return {
        "kind": kind.value,
        "status": SPEAKS_OF[kind].value,
        "verdict": entry.verdict.name.lower(),
        "verdict_word": VERDICTS[entry.verdict],
        "what": kind.value,
        "origin": _("by the tower") if entry.origin == Origin.TOWER else "",
        "attempt": entry.attempt,
        "why": entry.why,
        "skew": skew(entry.skew_ms) if entry.origin == Origin.ACTOR else "",
        "said_ms": entry.timestamp_ms,
        "text": " · ".join(
            str(said[key]) for key in ("message", "error_code", "error_msg", "output_ref") if said.get(key)
        ),
        "payload": payload_text(said) if said else "",
        "received_ms": entry.received_ms,
    }


def payload_text(said: Mapping[str, Any]) -> str:
    text = shown(said)
    return text if len(text) <= PAYLOAD_SHOWN else text[:PAYLOAD_SHOWN] + "\n…"
