"""The page of all runs: what a reader asks for in the address, and what is shown of each run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from instances.api_reads import filters, page_of_runs
from instances.segments import MOST_COUNTED, SEGMENTS, counts
from tower.access.pages import page
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
FILTERS = ("q", "job_id", "status", "since", "label")
#: What a run may need of somebody. A script of the page takes the marks from here too.
NEEDS = ("cancel", "pause", "cancel_in", "pause_in", "failed")


@page("viewer")
def runs(request: HttpRequest) -> HttpResponse:
    query = Query(request, allowed=PAGED | {"segment", *FILTERS})
    segment = query.choice("segment", SEGMENTS)
    found = page_of_runs(request, query, *conditions(query, segment))
    return render(request, "instances/runs.html", context(request, found, segment))


def conditions(query: Query, segment: str) -> tuple[list[str], list[Any]]:
    where, params = filters(query)
    if segment:
        where.append(SEGMENTS[segment].where)
    if since := query.choice("since", SPANS):
        where.append("t.created_ms >= %s")
        params.append(now() - SPANS[since][0])
    return where, params


def now() -> int:
    return time.time_ns() // 1_000_000


def context(request: HttpRequest, found: Mapping[str, Any], segment: str) -> dict[str, Any]:
    known = counts()
    chips = list(chips_of(request.GET))
    now_ms = now()
    return {
        "runs": [Run.of(summary, now_ms) for summary in found["results"]],
        "newer": found["previous"],
        "older": found["next"],
        "nothing_at_all": not known[""],
        "segments": segments(request.GET, known, segment),
        "none_here": SEGMENTS[segment].none_here,
        "asked": {"segment": segment, **{name: request.GET.get(name, "") for name in FILTERS}},
        "picks": picks(request.GET),
        "chips": chips,
        "without_filters": address(request.GET, dict.fromkeys(FILTERS)),
        "on_first": "cursor" not in request.GET,
        "filtered": bool(chips or segment),
        "first_page": address(request.GET, {}),
        "now_ms": now_ms,
        "statuses": STATUSES,
        "needs": NEEDS,
        "blank": BLANK,
        "curl": curl(request),
    }


def address(asked: QueryDict, changes: Mapping[str, str | None]) -> str:
    """The list from its start with some filters changed; None takes one away."""
    query = asked.copy()
    query.pop("cursor", None)
    for name, value in changes.items():
        query.pop(name, None)
        if value:
            query[name] = value
    return f"/?{query.urlencode()}" if query else "/"


# -- above the list


@dataclass(frozen=True, slots=True)
class Tab:
    key: str
    title: str
    url: str
    shown: str
    here: bool
    alert: bool


def segments(asked: QueryDict, known: Mapping[str, int], here: str) -> list[Tab]:
    return [
        Tab(
            key,
            str(segment.title),
            address(asked, {"segment": key}),
            badge(known[key]),
            key == here,
            key == "attention" and known[key] > 0,
        )
        for key, segment in SEGMENTS.items()
    ]


def badge(known: int) -> str:
    return count(known) if known <= MOST_COUNTED else f"{count(MOST_COUNTED)}+"


def picks(asked: QueryDict) -> list[dict[str, Any]]:
    """The menus: name, title, options, what is chosen."""
    menus: list[tuple[str, str, list[tuple[str, str]]]] = [
        ("job_id", _("Definition"), definitions(asked.get("job_id", ""))),
        ("status", _("Status"), [(status, str(WORDS[status])) for status in STATUSES]),
        ("since", _("Any time"), [(key, str(title)) for key, (_ms, title) in SPANS.items()]),
    ]
    return [
        {
            "name": name,
            "title": title,
            "chosen": asked.get(name, ""),
            "options": [{"value": value, "title": text} for value, text in options],
        }
        for name, title, options in menus
    ]


def definitions(chosen: str) -> list[tuple[str, str]]:
    """By id; a run's definition need not be known here, so the chosen one is always among them."""
    ids = list(TaskDefinition.objects.order_by("id").values_list("id", flat=True)[:MOST_DEFINITIONS])
    return [(id, id) for id in ids + ([chosen] if chosen and chosen not in ids else [])]


def chips_of(asked: QueryDict) -> Iterator[dict[str, str]]:
    """Each filter in force as words, with the address of the list without it."""
    for name in FILTERS:
        if value := asked.get(name):
            yield {"text": chip_text(name, value), "without": address(asked, {name: None})}


def chip_text(name: str, value: str) -> str:
    if name == "status":
        return str(WORDS[TaskInstanceStatus(value)])
    if name == "since":
        return str(SPANS[value][1])
    return _("begins with %s") % value if name == "q" else value


# -- a row


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

    @classmethod
    def of(cls, summary: Mapping[str, Any], now_ms: int) -> Run:
        going = summary["status"] in OPEN
        started, finished = ms(summary["started_at"]), ms(summary["finished_at"])
        ended = now_ms if going else finished
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
        )


#: What the template of new rows is drawn with.
BLANK = Run("", 0, "", "", "PENDING", None, {}, 0, 0, None, None, None, False, "", ())


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
