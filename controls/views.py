"""Controls on pages: the buttons of a run, the question before a CANCEL, the audit."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from ulid import ULID

from controls import audit as audited
from controls import bulk_views, export, receipts
from controls import issue as door
from controls.api import as_json
from controls.chosen import MOST, Chosen, Done
from controls.issue import ControlRefused, Issued
from controls.models import ControlRecord
from controls.policy import GLOBAL
from controls.question import Answer, Place
from instances.api_reads import LIST_SECONDS
from instances.comparing import back
from instances.reads import at_one_moment
from tower.access.pages import page
from tower.access.principal import Principal
from tower.errors import NotFound, TowerError
from tower.marks import count
from tower.reading import Query
from tower.schemas import ControlAction

CANCEL = ControlAction.CANCEL
FILE_TYPES = {"csv": "text/csv; charset=utf-8", "json": "application/json"}


@page("operator")
@require_http_methods(["GET", "HEAD", "POST"])
def issue(request: HttpRequest, trace_id: str) -> HttpResponse:
    """POST: PAUSE and RUN at once, CANCEL when its question was answered. GET: the question."""
    if request.method != "POST":
        return ask(request, Place.of(trace_id, request.GET.get("task_id", "")))
    answer = Answer.of(request)
    if answer.action is CANCEL and not answer.confirmed and not wants_json(request):
        return see_other(question(trace_id, answer.task_id))
    place = Place.of(trace_id, answer.task_id) if answer.action is CANCEL else None
    if not answer.checked(place):
        return unfit(request, place, answer)
    issued = act(request, trace_id, answer)
    if wants_json(request):
        return told(issued)
    say(request, answer, issued)
    return see_other(audited.link(trace_id, answer.task_id))


def forbidden(request: HttpRequest, principal: Principal, trace_id: str) -> None:
    """Who lacks the right to ask is remembered (reliability.md, B62)."""
    if request.method != "POST":
        return
    try:
        answer = Answer.of(request)
    except TowerError:
        return
    if answer.checked(None):
        door.refuse_unseen(
            trace_id,
            answer.action,
            task_id=answer.task_id or None,
            reason=answer.reason,
            triggered_by=principal.name,
        )


issue.forbidden = forbidden  # type: ignore[attr-defined]


@page("operator")
@require_GET
def preview(request: HttpRequest, trace_id: str) -> HttpResponse:
    """What a CANCEL would touch now, for a question that is open."""
    return JsonResponse(Place.of(trace_id, request.GET.get("task_id", "")).as_json())


@page("viewer")
@require_GET
def audit(request: HttpRequest) -> HttpResponse:
    return render(request, "controls/audit.html", audited.context(request))


@page("viewer")
@require_GET
def file(request: HttpRequest, kind: str) -> HttpResponse:
    """The controls that the filters of the page leave, newest first."""
    query = Query(request, allowed=set(audited.FILTERS))
    if kind not in {"csv", "json"}:
        raise NotFound("There is no such file.", kind=kind)
    records, more = export.newest(audited.matching(query))
    body = export.as_csv(records) if kind == "csv" else export.as_json_file(records, more)
    answer = HttpResponse(body, content_type=FILE_TYPES[kind])
    answer["Content-Disposition"] = f'attachment; filename="controls.{kind}"'
    return answer


@page("viewer")
@require_GET
def record(request: HttpRequest, id: str) -> HttpResponse:
    """One control, and what actors answered to it."""
    query = Query(request, allowed={"from"})
    found = ControlRecord.objects.filter(id=id).first()
    if found is None:
        raise NotFound("There is no such control.", id=id)
    start = query.integer("from", 0, 0, receipts.MOST_REPORTS)
    with at_one_moment(LIST_SECONDS):
        told_by = receipts.receipts_of(found)
        [line] = audited.lines([found])
    end = start + settings.TOWER_PAGE_SIZE
    context = {
        "line": line,
        "url": reverse("trace", args=[found.trace_id]),
        "told": told_by,
        "answers": told_by.answers[start:end],
        "silent": told_by.silent[: receipts.MOST_SILENT],
        "more_silent": len(told_by.silent) > receipts.MOST_SILENT,
        "before": max(0, start - settings.TOWER_PAGE_SIZE) if start else None,
        "behind": end if len(told_by.answers) > end else None,
        "most_reports": receipts.MOST_REPORTS,
    }
    return render(request, "controls/record.html", context)


# -- asking


def act(request: HttpRequest, trace_id: str, answer: Answer) -> Issued | ControlRefused:
    try:
        return door.issue(
            trace_id,
            answer.action,
            task_id=answer.task_id or None,
            control_id=answer.id,
            reason=answer.reason,
            triggered_by=request.user.get_username(),
        )
    except ControlRefused as refused:
        return refused


def ask(request: HttpRequest, place: Place, answer: Answer | None = None) -> HttpResponse:
    context = {
        "place": place,
        "answer": answer,
        "id": answer.id if answer else str(ULID()),
        "back": audited.link(place.trace.id, place.task_id),
    }
    return render(request, "controls/confirm.html", context)


def unfit(request: HttpRequest, place: Place | None, answer: Answer) -> HttpResponse:
    if place is not None and not wants_json(request):
        return ask(request, place, answer)
    name, text = next(iter(answer.errors.items()))
    error = {"code": "invalid_form", "message": text, "details": {"field": name}}
    return JsonResponse({"ok": False, "error": error}, status=HTTPStatus.UNPROCESSABLE_ENTITY)


# -- several runs


@page("operator")
@require_POST
def chosen(request: HttpRequest) -> HttpResponse:
    """PAUSE and RUN at once, CANCEL when its question was answered; then to the rows of the audit."""
    if "all" in request.POST:
        return bulk_views.ask(request)
    found = Chosen.of(request)
    if not found.ids or len(found.ids) > MOST:
        messages.error(request, _("Choose 1 to %(most)d runs.") % {"most": MOST})
        return see_other(back(request))
    asks = found.action is CANCEL and not found.confirmed
    if asks or not found.checked():
        return render(request, "controls/chosen.html", {"chosen": found, "back": back(request)})
    told_of(request, found.issue(request.user.get_username()))
    return see_other(f"{reverse('controls:audit')}?{urlencode({'batch': found.batch})}")


def forbidden_of_several(request: HttpRequest, principal: Principal) -> None:
    if request.method != "POST":
        return
    try:
        found = Chosen.of(request)
    except TowerError:
        return
    for id in found.ids[:MOST]:
        door.refuse_unseen(id, found.action, task_id=None, reason="", triggered_by=principal.name)


chosen.forbidden = forbidden_of_several  # type: ignore[attr-defined]


def told_of(request: HttpRequest, done: Done) -> None:
    """In words above the rows, which are there for good."""
    if done.taken:
        text = ngettext("Asked of %s run.", "Asked of %s runs.", done.taken) % count(done.taken)
        messages.success(request, text)
    if done.refused:
        text = ngettext("%s run refused it.", "%s runs refused it.", done.refused) % count(done.refused)
        messages.error(request, text)
    if done.gone:
        text = ngettext("%s run is gone.", "%s runs are gone.", done.gone) % count(done.gone)
        messages.warning(request, text)
    if done.undelivered:
        messages.warning(request, _("Redis is away: actors hear of it when it is back."))


# -- telling


def wants_json(request: HttpRequest) -> bool:
    return not request.accepts("text/html")


def told(issued: Issued | ControlRefused) -> JsonResponse:
    if isinstance(issued, ControlRefused):
        error = issued.as_json() | {"message": refusal(issued)}
        return JsonResponse({"ok": False, "error": error}, status=issued.http_status)
    return JsonResponse({"ok": True, "control": as_json(issued.record)})


def say(request: HttpRequest, answer: Answer, issued: Issued | ControlRefused) -> None:
    if isinstance(issued, ControlRefused):
        messages.error(request, refusal(issued))
        return
    messages.success(request, done(answer.action, issued))
    if not issued.delivered:
        messages.warning(request, _("Redis is away: actors hear of it when it is back."))


def done(action: ControlAction, issued: Issued) -> str:
    touched = issued.affected.open
    shown = count(touched) + ("+" if issued.affected.capped else "")
    if action is ControlAction.PAUSE:
        return ngettext("Pause asked of %s task.", "Pause asked of %s tasks.", touched) % shown
    if action is ControlAction.CANCEL:
        return ngettext("Cancel asked of %s task.", "Cancel asked of %s tasks.", touched) % shown
    return _("Resumed.")


def refusal(refused: ControlRefused) -> str:
    held_by = refused.details.get("held_by")
    if held_by == GLOBAL:
        return _("No pause was put here; the pause of the whole run holds it.")
    if held_by:
        return _("No pause was put here; that of %(task)s holds it.") % {"task": held_by}
    return {
        "already_ended": _("Nothing there is open any more."),
        "cancelled": _("This is under a cancel, which cannot be taken back."),
        "not_paused_here": _("No pause was put here."),
    }[refused.code]


def see_other(url: str) -> HttpResponse:
    # 303: the browser reads the page, and a reload asks for nothing again.
    return HttpResponseRedirect(url, status=HTTPStatus.SEE_OTHER)


def question(trace_id: str, task_id: str) -> str:
    url = reverse("controls:issue", args=[trace_id])
    return f"{url}?{urlencode({'task_id': task_id})}" if task_id else url
