"""The pages of definitions: the list, one definition, and the start of a run from it."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe
from ulid import ULID

from instances import ingest
from tower import paging
from tower.access.pages import page
from tower.access.roles import role_at_least
from tower.definitions import history, versions, words
from tower.definitions import start as starting
from tower.definitions.models import TaskDefinition
from tower.definitions.start import FORM, JSON, StartForm
from tower.errors import Conflict, TowerError
from tower.reading import Query
from tower.schemas import ActorType

PAGE_SIZE = 50


@page("viewer")
@require_safe
def definitions(request: HttpRequest) -> HttpResponse:
    query = Query(request, allowed=paging.PAGED | {"q", "actor_type", "active"})
    asked = {
        "q": query.text("q", 200).strip(),
        "actor_type": query.choice("actor_type", set(ActorType)),
        "active": query.choice("active", {"yes", "no"}),
    }
    found = paging.page_of(request, query, _matching(asked), ["id"], "definitions-page")
    runs = history.runs_of(found["results"])
    shown = [(one, runs.get(one.pk, history.Runs())) for one in found["results"]]
    return render(
        request,
        "definitions/list.html",
        {
            "definitions": shown,
            "most_counted": history.MOST_COUNTED,
            "asked": asked,
            "filtered": any(asked.values()),
            "kinds": list(ActorType),
            "previous": found["previous"],
            "next": found["next"],
            "may_edit": role_at_least(request.user, "editor"),
            "curl": words.first_definition(_site(request)),
        },
    )


def _matching(asked: dict[str, str]) -> Any:
    rows = TaskDefinition.objects.all()
    if asked["q"]:
        rows = rows.filter(Q(id__icontains=asked["q"]) | Q(name__icontains=asked["q"]))
    if asked["actor_type"]:
        rows = rows.filter(actor_type=asked["actor_type"])
    if asked["active"]:
        rows = rows.filter(is_active=asked["active"] == "yes")
    return rows


@page("viewer")
@require_safe
def definition(request: HttpRequest, id: str) -> HttpResponse:
    found = _found(id)
    mode = JSON if request.GET.get("as") == JSON else FORM
    return _shown(request, found, starting.fresh(found, mode))


@page("operator")
def start(request: HttpRequest, id: str) -> HttpResponse:
    """Start a run and lead to it; else the form again, with what is wrong beside its field."""
    found = _found(id)
    if request.method != "POST":
        # Who had to sign in on the way comes back with a GET.
        return HttpResponseRedirect(reverse("definition", args=[id]))
    form = starting.sent(found, request.POST)
    if request.POST.get("show") == "curl":
        return _as_curl(request, found, form)
    if (mode := request.POST.get("mode")) in {FORM, JSON}:
        return _shown(request, found, starting.in_mode(found, form, mode))
    if not form.sound:
        return _shown(request, found, form, sent=True)
    try:
        trace_id = _start(request, found, form)
    except TowerError as error:
        return _shown(request, found, starting.refused(form, error), sent=True)
    return HttpResponseRedirect(f"/traces/{trace_id}/")


def _start(request: HttpRequest, found: TaskDefinition, form: StartForm) -> str:
    begin = partial(
        ingest.start_run,
        job_id=found.pk,
        input_params=form.params,
        labels=dict(form.labels) or None,
        started_by=request.user.get_username(),
    )
    try:
        # The run's id comes with the form: pressed twice, it leads to the one run.
        return begin(trace_id=_run_id(request)).trace_id
    except Conflict as error:
        if error.code != "conflict":
            raise
        # An old copy of the form, filled in anew: what it asks for is another run.
        return begin(trace_id=None).trace_id


def _run_id(request: HttpRequest) -> str | None:
    sent = request.POST.get("trace_id", "")
    try:
        return str(ULID.from_str(sent))
    except ValueError:
        return None


@page("viewer")
@require_safe
def compared(request: HttpRequest, id: str) -> HttpResponse:
    """Two versions side by side; without a choice the current one and the one before it."""
    found = _found(id)
    query = Query(request, allowed={"from", "to"})
    newest = int(found.version)
    after = query.integer("to", newest, 1, 1 << 31)
    before = query.integer("from", max(1, after - 1), 1, 1 << 31)
    pair = versions.pair(found, before, after)
    if pair is None:
        raise Http404(_("There is no such version."))
    numbers = list(found.versions.order_by("-number").values_list("number", flat=True)[: versions.OFFERED])
    return render(
        request,
        "definitions/compared.html",
        {
            "definition": found,
            "pair": pair,
            "numbers": sorted({*numbers, before, after}, reverse=True),
            "older": before - 1 if before > 1 and before < after else None,
            "newer": after + 1 if before < after < newest else None,
        },
    )


def _found(id: str) -> TaskDefinition:
    found = TaskDefinition.objects.filter(pk=id).first()
    if found is None:
        raise Http404(_("There is no definition of this id."))
    return found


def _shown(
    request: HttpRequest, found: TaskDefinition, form: StartForm, *, sent: bool = False, curl: bool = False
) -> HttpResponse:
    return render(
        request,
        "definitions/detail.html",
        {
            "definition": found,
            "form": form,
            "problems": form.problems() if sent else [],
            "form_errors": form.errors if sent else (),
            "run_id": ULID(),
            "curl": starting.as_curl(found, form, _site(request)),
            "curl_open": curl,
            "may_start": role_at_least(request.user, "operator"),
            "may_edit": role_at_least(request.user, "editor"),
            "rules": words.rules(found),
            "parameters": words.parameters(found.params_schema),
            "defaults_text": words.as_text(found.default_params),
            "schema_text": words.as_text(found.params_schema),
            "versions": versions.newest(found),
            "runs": history.recent(found),
            "fortnight": history.fortnight(found),
            "failures": history.failures(found),
        },
    )


def _as_curl(request: HttpRequest, found: TaskDefinition, form: StartForm) -> HttpResponse:
    if not form.sound:
        return _shown(request, found, form, sent=True)
    if request.accepts("text/html"):
        return _shown(request, found, form, curl=True)
    return HttpResponse(
        starting.as_curl(found, form, _site(request)), content_type="text/plain; charset=utf-8"
    )


def _site(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}"
