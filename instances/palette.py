"""One search for everything: the answers of the command palette, and its page without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from instances import reads
from instances.api_reads import LIST_SECONDS, page_of_runs
from instances.finding import SORTS, Condition, begins_with, find, labelled
from instances.reads import TASK, at_one_moment, valid_id
from instances.rows import run
from instances.runs import sub
from tower.access.pages import page
from tower.api import answer
from tower.definitions.models import TaskDefinition
from tower.paging import PAGED
from tower.reading import Query
from tower.schemas import STATUSES

#: Hits of one kind in the palette, and on the page.
MOST: Final = 6
MOST_ON_PAGE: Final = 50
#: A name is known by its beginning, which an index finds; among so many newest runs also by any part.
NEWEST: Final = 500
LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Hit:
    title: str
    sub: str
    href: str
    icon: str

    def as_json(self) -> dict[str, str]:
        return {"title": self.title, "sub": self.sub, "href": self.href, "icon": self.icon}


@dataclass(frozen=True, slots=True)
class Group:
    key: str
    title: str
    hits: Sequence[Hit]
    #: There are others, which a longer text would find.
    more: bool

    @classmethod
    def of(cls, key: str, title: str, hits: Iterable[Hit], most: int) -> Group:
        found = list(hits)
        return cls(key, title, found[:most], len(found) > most)

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "title": self.title, "hits": [hit.as_json() for hit in self.hits]}


@page("viewer")
@require_GET
def hits(request: HttpRequest) -> HttpResponse:
    q = asked(Query(request, allowed={"q"}))
    with at_one_moment(LIST_SECONDS):
        groups = [runs_group(q, MOST), *others(q, MOST)] if q else []
        return answer({"q": q, "groups": [group.as_json() for group in groups if group.hits]})


@page("viewer")
@require_GET
def search(request: HttpRequest) -> HttpResponse:
    query = Query(request, allowed=PAGED | {"q"})
    q = asked(query)
    context: dict[str, Any] = {"q": q, "longest": LONGEST, "newest": NEWEST, "most": MOST_ON_PAGE}
    if q:
        context |= found_on_page(request, query, q)
    return render(request, "instances/search.html", context)


def found_on_page(request: HttpRequest, query: Query, q: str) -> dict[str, Any]:
    found = page_of_runs(request, query, conditions(q))
    groups = [Group("runs", _("Runs"), [hit_of(summary) for summary in found["results"]], False)]
    if "cursor" not in request.GET:
        listed = {summary["trace_id"] for summary in found["results"]}
        with at_one_moment(LIST_SECONDS):
            named = [hit_of(summary) for summary in newest_named(q) if summary["trace_id"] not in listed]
            groups.append(Group.of("named", _("Newest runs by a part of the name"), named, MOST_ON_PAGE))
            groups += others(q, MOST_ON_PAGE)
    return {
        "groups": [group for group in groups if group.hits],
        "newer": found["previous"],
        "older": found["next"],
    }


def asked(query: Query) -> str:
    return query.text("q", LONGEST).strip()


# -- runs


def runs_group(q: str, most: int) -> Group:
    """That of this very id first, then by a beginning or a label, then by a part of the name."""
    wanted = list(reads.numbers_of([q]).values())
    wanted += find(conditions(q), SORTS[""], None, most + 1)
    found = reads.summaries(reads.heads_in_order(list(dict.fromkeys(wanted))))
    known = {summary["trace_id"] for summary in found}
    if len(found) <= most:
        found += [summary for summary in newest_named(q) if summary["trace_id"] not in known]
    return Group.of("runs", _("Runs"), map(hit_of, found), most)


def conditions(q: str) -> list[Condition]:
    """What begins with the text; where nothing does and it reads as ``key:value``, the label."""
    key, colon, value = q.partition(":")
    begins = begins_with(q)
    if colon and key and not find([begins], SORTS[""], None, 1):
        return [labelled(key, value)]
    return [begins]


def newest_named(q: str) -> list[dict[str, Any]]:
    """Compared here and not in the database: SQLite knows upper and lower case of ASCII only."""
    newest = f"SELECT number, name FROM instances_trace WHERE next_n > 0 ORDER BY number DESC LIMIT {NEWEST}"
    part = q.casefold()
    numbers = [number for number, name in run(newest) if part in name.casefold()]
    return reads.summaries(reads.heads_in_order(numbers[: MOST_ON_PAGE + 1]))


def hit_of(summary: dict[str, Any]) -> Hit:
    return Hit(summary["name"], sub(summary), reverse("trace", args=[summary["trace_id"]]), summary["status"])


# -- everything else


def others(q: str, most: int) -> list[Group]:
    return [
        Group.of("tasks", _("Tasks"), tasks(q, most + 1), most),
        Group.of("definitions", _("Definitions"), definitions(q, most + 1), most),
    ]


def tasks(q: str, limit: int) -> Iterator[Hit]:
    """By the very id, newest run first; one index holds both."""
    if not valid_id(q):
        return
    for id, name, status, trace_id, called in run(
        f"SELECT k.id, k.name, k.status, t.id, t.name FROM {TASK} k"
        " JOIN instances_trace t ON t.number = k.tree_id WHERE k.id = %s ORDER BY k.tree_id DESC LIMIT %s",
        [q, limit],
    ):
        where = f"{reverse('trace', args=[trace_id])}?{urlencode({'node': id})}"
        title = f"{name} · {id}" if name and name != id else id
        yield Hit(title, _("in %s") % (called or trace_id), where, STATUSES[status].value)


def definitions(q: str, limit: int) -> Iterator[Hit]:
    """As the list of definitions finds them, those that begin with the text first."""
    matching = TaskDefinition.objects.filter(Q(id__icontains=q) | Q(name__icontains=q))
    found = list(matching.order_by("id")[:LONGEST])
    part = q.casefold()
    found.sort(
        key=lambda one: not (one.pk.casefold().startswith(part) or one.name.casefold().startswith(part))
    )
    for one in found[:limit]:
        off = "" if one.is_active else f" · {_('switched off')}"
        yield Hit(one.name, f"{one.pk} · v{one.version}{off}", reverse("definition", args=[one.pk]), "book")
