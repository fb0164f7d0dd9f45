"""Pages of one action for many runs: its question, how far it has come, what became of each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from controls import bulk as many
from controls.audit import ICONS, OUTCOMES, WORDS
from controls.bulk import GONE, TAKEN_ID, WAITING, NotMatching
from controls.models import Bulk, BulkItem, ControlRecord
from controls.policy import Outcome
from controls.question import REASON_ABOVE
from instances.comparing import back
from instances.models import Trace
from instances.runs import Place, chips_of
from instances.segments import SEGMENTS
from tower.access.pages import page
from tower.errors import NotFound, TowerError
from tower.marks import count, iso
from tower.paging import PAGED, page_of
from tower.reading import Query
from tower.schemas import ACTIONS, ControlAction

ITEM_WORDS: Final[Mapping[str, Promise | str]] = {
    **{outcome.value: words for outcome, words in OUTCOMES.items()},
    GONE: gettext_lazy("The run is gone"),
    TAKEN_ID: gettext_lazy("Refused: another control has its id"),
}
NOT_YET: Final = "waiting"


@page("viewer")
@require_GET
def bulks(request: HttpRequest) -> HttpResponse:
    """Those that have begun."""
    query = Query(request, allowed=PAGED)
    rows = Bulk.objects.filter(started_ms__isnull=False)
    found = page_of(request, query, rows, ["number"], "bulks", newest_first=True)
    context = {
        "bulks": [Shown.of(one) for one in found["results"]],
        "newer": found["previous"],
        "older": found["next"],
    }
    return render(request, "controls/bulks.html", context)


@page("viewer")
@require_GET
def bulk(request: HttpRequest, id: str) -> HttpResponse:
    return drawn(request, the(id))


@page("viewer")
@require_GET
def state(request: HttpRequest, id: str) -> HttpResponse:
    shown = Shown.of(the(id))
    return JsonResponse({"ended": shown.ended, "done": shown.done, "total": shown.bulk.total})


@page("operator")
@require_POST
def do(request: HttpRequest, id: str) -> HttpResponse:
    """Begin it, stop it, or ask for the runs that it paused to be resumed."""
    found = the(id)
    name = request.user.get_username()
    deed = request.POST.get("do", "")
    if deed == "stop":
        many.stop(found, name)
    elif deed == "resume" and found.started_ms and ACTIONS[found.action] is ControlAction.PAUSE:
        found = many.ask_back(found, by=name)
    elif deed == "start" and found.triggered_by != name:
        messages.error(request, _("Only who chose these runs may begin this."))
    elif deed == "start" and not found.started_ms:
        answer = Answer.of(request)
        if not answer.checked(found):
            return drawn(request, found, answer)
        many.start(found, answer.reason)
    return see_other(found)


def ask(request: HttpRequest) -> HttpResponse:
    """From the list of runs: all that its filters leave."""
    said = request.POST.get("action")
    if said not in list(ControlAction):
        raise TowerError("Choose RUN, PAUSE or CANCEL.", code="unknown_enum", field="action")
    query = QueryDict(request.POST.get("query", "")[:2_000])
    try:
        made = many.ask(ControlAction(said), query, by=request.user.get_username())
    except NotMatching as refused:
        messages.error(request, nothing_or_too_many(refused.found))
        return HttpResponseRedirect(back(request), status=HTTPStatus.SEE_OTHER)
    return see_other(made)


def nothing_or_too_many(found: int) -> str:
    if not found:
        return _("No run that matches is still going.")
    return _("More than %(most)s runs match. Filter them further.") % {"most": count(many.MOST)}


def see_other(bulk: Bulk) -> HttpResponse:
    return HttpResponseRedirect(reverse("controls:bulk", args=[bulk.id]), status=HTTPStatus.SEE_OTHER)


def the(id: str) -> Bulk:
    found = Bulk.objects.filter(id=id).first()
    if found is None:
        raise NotFound("There is no such action.", id=id)
    return found


# -- the question


@dataclass(slots=True)
class Answer:
    """What its form said."""

    reason: str = ""
    confirm: str = ""
    errors: Mapping[str, str] | None = None

    @classmethod
    def of(cls, request: HttpRequest) -> Answer:
        said = request.POST
        return cls(said.get("reason", "").replace("\r\n", "\n").strip(), said.get("confirm", "").strip())

    def checked(self, bulk: Bulk) -> bool:
        errors: dict[str, str] = {}
        tasks = sum(many.open_tasks(bulk))
        most = settings.TOWER_MAX_TEXT_BYTES
        if "\0" in self.reason or len(self.reason.encode()) > most:
            errors["reason"] = _("At most %(most)d bytes of plain text.") % {"most": most}
        elif many.needs_reason(bulk, tasks) and not self.reason:
            text = _("More than %(count)d tasks: say why, for the audit.")
            errors["reason"] = text % {"count": REASON_ABOVE}
        if (word := many.word(bulk, tasks)) and self.confirm != word:
            errors["confirm"] = _("Type %(word)s to show that you mean these runs.") % {"word": word}
        self.errors = errors
        return not errors


# -- what is shown


@dataclass(frozen=True, slots=True)
class Shown:
    bulk: Bulk
    counts: Mapping[str, int]

    @classmethod
    def of(cls, bulk: Bulk) -> Shown:
        return cls(bulk, many.progress(bulk))

    @property
    def action(self) -> str:
        return ACTIONS[self.bulk.action].value

    @property
    def word(self) -> str:
        return str(WORDS[ACTIONS[self.bulk.action]])

    @property
    def icon(self) -> str:
        return ICONS[ACTIONS[self.bulk.action]]

    @property
    def at(self) -> str | None:
        return iso(self.bulk.started_ms or self.bulk.created_ms)

    @property
    def at_ms(self) -> int:
        return self.bulk.started_ms or self.bulk.created_ms

    @property
    def waiting(self) -> int:
        return self.counts.get(WAITING, 0)

    @property
    def done(self) -> int:
        return self.bulk.total - self.waiting

    @property
    def taken(self) -> int:
        return self.counts.get(Outcome.TAKEN.value, 0)

    @property
    def refused(self) -> int:
        return self.done - self.taken

    @property
    def going(self) -> bool:
        return self.bulk.started_ms is not None and self.bulk.ended_ms is None

    @property
    def ended(self) -> bool:
        return self.bulk.ended_ms is not None

    @property
    def filters(self) -> list[str]:
        """In the words of the list."""
        query = QueryDict(self.bulk.query)
        place = Place(query)
        segment = SEGMENTS.get(place["segment"]) if place["segment"] else None
        chips = [chip["text"] for chip in chips_of(place)]
        return [str(segment.title), *chips] if segment else chips

    @property
    def list_url(self) -> str:
        return f"/?{self.bulk.query}"


@dataclass(frozen=True, slots=True)
class Line:
    """One run of it."""

    trace_id: str
    name: str
    outcome: str
    word: str
    control_url: str


def drawn(request: HttpRequest, found: Bulk, answer: Answer | None = None) -> HttpResponse:
    query = Query(request, allowed=PAGED | {"outcome"})
    shown = Shown.of(found)
    outcome = query.choice("outcome", [NOT_YET, *ITEM_WORDS])
    items = BulkItem.objects.filter(bulk=found)
    if outcome:
        items = items.filter(outcome=WAITING if outcome == NOT_YET else outcome)
    listed = page_of(request, query, items, ["trace"], "bulk", newest_first=True)
    running, pending = many.open_tasks(found) if not found.started_ms else (0, 0)
    context = {
        "deed": shown,
        "lines": list(lines(found, listed["results"])),
        "newer": listed["previous"],
        "older": listed["next"],
        "tabs": list(tabs(shown, outcome)),
        "running": running,
        "pending": pending,
        "open": running + pending,
        "needs_reason": many.needs_reason(found, running + pending),
        "confirm": many.word(found, running + pending),
        "answer": answer,
        "mine": found.triggered_by == request.user.get_username(),
    }
    return render(request, "controls/bulk.html", context)


def tabs(shown: Shown, here: str) -> Iterator[dict[str, Any]]:
    yield {"title": _("All"), "n": shown.bulk.total, "url": "?", "here": not here}
    for outcome, n in sorted(shown.counts.items()):
        key = outcome or NOT_YET
        yield {
            "title": item_word(shown.bulk, outcome),
            "n": n,
            "url": f"?outcome={key}",
            "here": here == key,
        }


def item_word(bulk: Bulk, outcome: str) -> str:
    if outcome != WAITING:
        return str(ITEM_WORDS[outcome])
    return _("Not asked") if bulk.ended_ms or not bulk.started_ms else _("Waiting")


def lines(bulk: Bulk, items: Sequence[BulkItem]) -> Iterator[Line]:
    runs = {
        number: name or job_id
        for number, name, job_id in Trace.objects.filter(
            number__in=[item.trace for item in items]
        ).values_list("number", "name", "job_id")
    }
    ids = [many.control_id(bulk, item) for item in items]
    known = set(ControlRecord.objects.filter(id__in=ids).values_list("id", flat=True))
    for item, id in zip(items, ids, strict=True):
        url = reverse("controls:record", args=[id]) if id in known and item.outcome else ""
        name = runs.get(item.trace) or item.trace_id
        yield Line(item.trace_id, name, item.outcome, item_word(bulk, item.outcome), url)
