"""The page of all runs: what a reader asks for in the address, and what is shown of each run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_safe
from ulid import ULID

from instances import glance, reads, run_views
from instances.api_reads import LIST_SECONDS, filters, page_of_runs
from instances.finding import SORTS, Condition, Sort, find, has, made
from instances.lifecycle import Origin
from instances.models import SavedView
from instances.reads import at_one_moment
from instances.rows import keys_of, run
from instances.segments import MOST_COUNTED, SEGMENTS, counts
from instances.sentences import skew
from tower.access.pages import page
from tower.api import answer
from tower.definitions.models import TaskDefinition
from tower.marks import WORDS, count, done
from tower.paging import PAGED
from tower.reading import Query
from tower.schemas import OPEN, STATUSES, TaskInstanceStatus

#: Definitions in the menu; of more, the others are found by typing.
MOST_DEFINITIONS = 200
HOUR_MS = 3_600_000
SPANS: Mapping[str, tuple[int, Promise | str]] = {
    "1h": (HOUR_MS, gettext_lazy("Last hour")),
    "24h": (24 * HOUR_MS, gettext_lazy("Last 24 hours")),
    "7d": (7 * 24 * HOUR_MS, gettext_lazy("Last 7 days")),
    "30d": (30 * 24 * HOUR_MS, gettext_lazy("Last 30 days")),
}
#: The filters beside the segment, in the order of the page.
FILTERS = ("q", "label", "job_id", "status", "started_by", "since")
ASKED = frozenset({"segment", "sort", *FILTERS})
#: What a run may need of somebody. A script of the page takes the marks from here too.
NEEDS = ("cancel", "pause", "cancel_in", "pause_in", "failed")
#: Of the labels of a run so many stand in its row.
MOST_LABELS = 3
#: New runs of a filtered list are counted so far.
MOST_NEW = 100
#: Runs that one action for all that a filter leaves may be for, and how long to look for them.
MOST_AT_ONCE = 10_000
SECONDS_FOR_ALL = 5.0
NOT_ENDED = Condition(
    "t.ended_ms IS NULL", source="SELECT number FROM instances_trace WHERE ended_ms IS NULL"
)


@page("viewer")
@require_safe
def runs(request: HttpRequest) -> HttpResponse:
    views = list(run_views.of(request))
    if not request.GET and (first := next((view for view in views if view.first), None)):
        return HttpResponseRedirect(f"/?{first.query}")
    query = Query(request, allowed=PAGED | ASKED)
    found = page_of_runs(request, query, conditions(query), order_of(query))
    place = Place(request.GET, home="/?segment=" if any(view.first for view in views) else "/")
    return render(request, "instances/runs.html", context(request, found, place, views))


@page("viewer")
@require_GET
def new(request: HttpRequest) -> HttpResponse:
    """How many runs of a filtered list began behind the newest that a page of it shows."""
    query = Query(request, allowed=ASKED | {"after"})
    found = conditions(query)
    after = query.text("after", 64)
    with at_one_moment(LIST_SECONDS):
        if number := reads.numbers_of([after]).get(after):
            found.append(Condition("t.number > %s", (number,)))
        return answer({"n": len(find(found, SORTS[""], None, MOST_NEW))})


@page("viewer")
@require_GET
def matching(request: HttpRequest) -> HttpResponse:
    """How many runs an action for all that the filters leave would be for."""
    return answer({"n": len(open_ones(request.GET, MOST_AT_ONCE + 1)), "most": MOST_AT_ONCE})


def open_ones(asked: QueryDict, most: int) -> list[int]:
    """Those that have not ended, of all pages, newest first."""
    query = Query(SimpleNamespace(GET=asked), allowed=ASKED)
    with at_one_moment(SECONDS_FOR_ALL):
        return find([*conditions(query), NOT_ENDED], SORTS[""], None, most)


@page("viewer")
@require_GET
def beside(request: HttpRequest) -> HttpResponse:
    """The runs before and behind one in a list, by the filters and the order of that list."""
    query = Query(request, allowed=ASKED | {"of"})
    found, sort = conditions(query), order_of(query)
    with at_one_moment(LIST_SECONDS):
        head = reads.head(query.text("of", 64))
        if sort.by and None in (head.started_ms, head.finished_ms):
            return answer({"newer": None, "older": None})  # a list of ended runs has no place for it
        at = sort.position(head)
        before, behind = (find(found, way, at, 1) for way in (sort.turned, sort))
        urls = {one.number: reverse("trace", args=[one.id]) for one in reads.heads([*before, *behind])}
    return answer({"newer": _first(before, urls), "older": _first(behind, urls)})


def _first(numbers: Sequence[int], urls: Mapping[int, str]) -> str | None:
    return urls.get(numbers[0]) if numbers else None


#: What has not ended has been going for longest where it began first.
WHILE_OPEN = {"longest": "oldest", "shortest": ""}


def order_of(query: Query) -> Sort:
    sort = query.choice("sort", SORTS)
    is_open = query.text("segment", 64) in {"running", "paused"} or query.text("status", 64) in OPEN
    return SORTS[WHILE_OPEN.get(sort, sort) if is_open else sort]


def conditions(query: Query) -> list[Condition]:
    where = filters(query)
    if who := query.text("started_by", 150):
        where.append(has("started_by", who))
    if segment := SEGMENTS[query.choice("segment", SEGMENTS)].condition:
        where.append(segment)
    if since := query.choice("since", SPANS):
        where.append(made(">=", now() - SPANS[since][0]))
    return where


def now() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the reader is in the list. ``home``: the address of all runs, whatever view comes first."""

    asked: QueryDict
    home: str = "/"

    def __getitem__(self, name: str) -> str:
        return self.asked.get(name, "")

    def but(self, **changes: str | Sequence[str] | None) -> str:
        """The list from its start with some of it changed; None takes a filter away."""
        query = self.asked.copy()
        query.pop("cursor", None)
        for name, value in changes.items():
            query.pop(name, None)
            if value:
                query.setlist(name, [value] if isinstance(value, str) else list(value))
        return f"/?{query.urlencode()}" if any(query.values()) else self.home

    def labels(self) -> list[str]:
        return [label for label in self.asked.getlist("label") if label]

    def with_label(self, label: str) -> str:
        return self.but(label=[*(one for one in self.labels() if one != label), label])


def context(
    request: HttpRequest, found: Mapping[str, Any], place: Place, views: Sequence[SavedView]
) -> dict[str, Any]:
    known = counts()
    chips = list(chips_of(place))
    now_ms = now()
    segment, sort, here = place["segment"], place["sort"], run_views.canonical(place.asked)
    in_view = any(view.query == here for view in views)
    return {
        "runs": rows(found["results"], now_ms, place),
        "newer": found["previous"],
        "older": found["next"],
        "nothing_at_all": not known[""],
        # A segment keeps the filters that somebody chose, not those of a saved view: that is a tab too.
        "segments": segments(Place(QueryDict(), place.home) if in_view else place, known, segment),
        "views": [(view, view.query == here) for view in views],
        "no_view_here": not in_view,
        "here": here,
        "none_here": SEGMENTS[segment or ("finished" if SORTS[sort].by else "")].none_here,
        "asked": {"segment": segment, "sort": sort, **{name: place[name] for name in FILTERS}},
        "labels": [(label, place.but(label=others_than(label, place))) for label in place.labels()],
        "picks": picks(place),
        "columns": columns(place),
        "sorted": SORTS[sort].title,
        "day": glance.day(now_ms),
        "durations": glance.durations([place["job_id"]]).get(place["job_id"]) if place["job_id"] else None,
        "chips": chips,
        "without_filters": place.but(**dict.fromkeys(FILTERS)),
        "on_first": "cursor" not in request.GET and not sort,
        "filtered": bool(chips or segment),
        "first_page": place.but(),
        "all_runs": place.home,
        "now_ms": now_ms,
        "statuses": STATUSES,
        "needs": NEEDS,
        "blank": BLANK,
        "batch": str(ULID()),
        "control_url": reverse("controls:chosen"),
        "most_at_once": MOST_AT_ONCE,
        "curl": curl(request),
    }


# -- above the list


@dataclass(frozen=True, slots=True)
class Tab:
    key: str
    title: str
    url: str
    shown: str
    here: bool
    alert: bool


def segments(place: Place, known: Mapping[str, int], here: str) -> list[Tab]:
    return [
        Tab(
            key,
            str(segment.title),
            place.but(segment=key),
            badge(known[key]),
            key == here,
            key == "attention" and known[key] > 0,
        )
        for key, segment in SEGMENTS.items()
    ]


def badge(known: int) -> str:
    return count(known) if known <= MOST_COUNTED else f"{count(MOST_COUNTED)}+"


def picks(place: Place) -> list[dict[str, Any]]:
    """The menus: name, title, options, what is chosen. The first option is none of them."""
    menus: list[tuple[str, str, list[tuple[str, str]]]] = [
        ("job_id", _("Definition"), definitions(place["job_id"])),
        ("status", _("Status"), [(status, str(WORDS[status])) for status in STATUSES]),
        ("started_by", _("Started by"), with_chosen(glance.starters(), place["started_by"])),
        ("since", _("Any time"), [(key, str(title)) for key, (_ms, title) in SPANS.items()]),
        ("sort", str(SORTS[""].title), [(key, str(sort.title)) for key, sort in SORTS.items() if key]),
    ]
    return [
        {
            "name": name,
            "title": title,
            "chosen": place[name],
            "options": [{"value": value, "title": text} for value, text in options],
        }
        for name, title, options in menus
    ]


def definitions(chosen: str) -> list[tuple[str, str]]:
    """By id; a run's definition need not be known here."""
    ids = TaskDefinition.objects.order_by("id").values_list("id", flat=True)[:MOST_DEFINITIONS]
    return with_chosen(list(ids), chosen)


def with_chosen(names: list[str], chosen: str) -> list[tuple[str, str]]:
    """What is chosen is always among them, so that the menu can say so."""
    return [(name, name) for name in names + ([chosen] if chosen and chosen not in names else [])]


@dataclass(frozen=True, slots=True)
class SortColumn:
    """A head that sorts: by its first order, and by the other one where that is in force."""

    title: str
    url: str
    #: ascending, descending or none, as ``aria-sort`` says it.
    state: str


def columns(place: Place) -> dict[str, SortColumn]:
    return {
        "started": _column(place, _("Started"), "", "oldest"),
        "took": _column(place, _("Duration"), "longest", "shortest"),
    }


def _column(place: Place, title: str, down: str, up: str) -> SortColumn:
    here = place["sort"]
    state = {down: "descending", up: "ascending"}.get(here, "none")
    return SortColumn(title, place.but(sort=up if here == down else down), state)


def chips_of(place: Place) -> Iterator[dict[str, str]]:
    """Each filter in force as words, with the address of the list without it."""
    for name in FILTERS:
        if name == "label":
            for label in place.labels():
                yield {"text": label, "without": place.but(label=others_than(label, place))}
        elif value := place[name]:
            yield {"text": chip_text(name, value), "without": place.but(**{name: None})}


def others_than(label: str, place: Place) -> list[str]:
    return [other for other in place.labels() if other != label]


def chip_text(name: str, value: str) -> str:
    if name == "status":
        return str(WORDS[TaskInstanceStatus(value)])
    if name == "since":
        return str(SPANS[value][1])
    words = {"q": _("begins with %s"), "started_by": _("started by %s")}
    return words[name] % value if name in words else value


# -- a row

#: A clock that is further off is shown (reliability.md, B29), of so many of the newest reports.
SKEW_MS = 24 * HOUR_MS
MOST_REPORTS = 20


def rows(summaries: Sequence[Mapping[str, Any]], now_ms: int, place: Place) -> list[Run]:
    off = clocks([summary["trace_id"] for summary in summaries])
    return [Run.of(summary, now_ms, place, off.get(summary["trace_id"], 0)) for summary in summaries]


def clocks(trace_ids: Sequence[str]) -> dict[str, int]:
    """By how much the clocks of actors are off, where it is more than a day; the farthest of each run."""
    numbers = reads.numbers_of(trace_ids)
    source, param = keys_of(numbers.values())
    by = "(SELECT {0}(e.timestamp_ms - e.received_ms) FROM (SELECT timestamp_ms, received_ms, origin"
    by += " FROM instances_event WHERE trace = w.key ORDER BY position DESC"
    by += f" LIMIT {MOST_REPORTS}) AS e WHERE e.origin = {int(Origin.ACTOR)})"
    found = run(f"SELECT w.key, {by.format('MIN')}, {by.format('MAX')} FROM {source}", [param])
    far = {number: max(least or 0, most or 0, key=abs) for number, least, most in found}
    return {id: far[number] for id, number in numbers.items() if abs(far.get(number, 0)) > SKEW_MS}


@dataclass(frozen=True, slots=True)
class Need:
    key: str
    n: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One run as its row shows it. ``static/js/runs.js`` shows the same of a summary that comes later."""

    trace_id: str
    seq: int
    name: str
    sub: str
    status: str
    percent: int | None
    counts: Mapping[str, int]
    done: int
    total: int
    started_at: str | None
    started_ms: int | None
    spent_ms: int | None
    ticks: bool
    started_by: str
    needs: Sequence[Need]
    labels: Sequence[tuple[str, str]]
    more_labels: int
    #: By how much a clock is off, in words.
    skew: str = ""

    @classmethod
    def of(cls, summary: Mapping[str, Any], now_ms: int, place: Place, off_ms: int = 0) -> Run:
        going = summary["status"] in OPEN
        started, finished = ms(summary["started_at"]), ms(summary["finished_at"])
        ended = now_ms if going else finished
        labels = [f"{key}:{value}" for key, value in summary["labels"].items()]
        return cls(
            trace_id=summary["trace_id"],
            seq=summary["seq"],
            name=summary["name"],
            sub=sub(summary),
            status=summary["status"],
            percent=int(summary["progress"]) if going and summary["progress"] is not None else None,
            counts=summary["counts"],
            done=done(summary["counts"]),
            total=summary["total"],
            started_at=summary["started_at"],
            started_ms=started,
            spent_ms=None if started is None or ended is None else max(0, ended - started),
            ticks=going and started is not None,
            started_by=summary["started_by"] or "",
            needs=list(needs_of(summary)),
            labels=[(label, place.with_label(label)) for label in labels[:MOST_LABELS]],
            more_labels=max(0, len(labels) - MOST_LABELS),
            skew=skew(off_ms) if off_ms else "",
        )


#: What the template of new rows is drawn with.
BLANK = Run("", 0, "", "", "PENDING", None, {}, 0, 0, None, None, None, False, "", (), (), 0)


def sub(summary: Mapping[str, Any]) -> str:
    """The line below a run's name: definition, version, id, without saying the name again."""
    version = summary["job_version"]
    parts = [summary["job_id"], None if version is None else f"v{version}", summary["trace_id"]]
    return " · ".join(part for part in parts if part and part != summary["name"])


def needs_of(summary: Mapping[str, Any]) -> Iterator[Need]:
    if summary["open"]:
        asked = {(intent["action"], intent["task_id"] is None) for intent in summary["intents"]}
        for action, key in (("CANCEL", "cancel"), ("PAUSE", "pause")):
            if (action, True) in asked:
                yield Need(key)
            elif (action, False) in asked:
                yield Need(f"{key}_in")
    if failed := summary["counts"]["FAILED"]:
        yield Need("failed", failed)


def ms(iso: str | None) -> int | None:
    return None if iso is None else round(datetime.fromisoformat(iso).timestamp() * 1000)


def curl(request: HttpRequest) -> str:
    """The first task of a newcomer; it works as it stands once the token is set."""
    return (
        f"curl -X POST {request.build_absolute_uri('/api/v1/tasks/')} \\\n"
        '  -H "Authorization: Bearer $TOWER_TOKEN" -H "Content-Type: application/json" \\\n'
        '  -d \'{"id": "hello", "trace_id": "my-first-run", "job_id": "hello",\n'
        '       "actor_type": "AGENT"}\''
    )
