"""The page of dead letters: for admins, without scripts."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from instances import dead_letters
from instances.dead_letters import Choice, Letter, Replayed
from instances.log_page import json_words
from instances.sources import SourceAway, SourceRefuses, broker
from tower.access.pages import page
from tower.marks import count
from tower.paging import PAGED
from tower.paging import page as paged
from tower.reading import Query

log = logging.getLogger(__name__)


@page("admin")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def letters(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return _act(request, Choice.of(request.POST))
    query = Query(request, allowed=PAGED)
    try:
        # A place in one kind of queue is none in another.
        kind = f"dead-letters:{broker()}"
        found = paged(request, query, _after, lambda letter: letter.position, kind, rows_before=_before)
        context = {
            "letters": found["results"],
            "newer": found["previous"],
            "older": found["next"],
            "total": dead_letters.place().count(),
        }
    except SourceAway as error:
        return _away(request, error)
    return render(request, "dead_letters/list.html", context)


@page("admin")
@never_cache
@require_GET
def letter(request: HttpRequest, id: str) -> HttpResponse:
    try:
        found = dead_letters.place().find([id]) if dead_letters.ID.fullmatch(id) else []
    except SourceAway as error:
        return _away(request, error)
    if not found:
        raise Http404
    return render(request, "dead_letters/letter.html", {"letter": found[0], "json_words": json_words()})


def _after(position: Any, limit: int) -> list[Letter]:
    return dead_letters.place().newest(limit, before=position)


def _before(position: Any, limit: int) -> list[Letter]:
    return dead_letters.place().oldest(limit, after=position)


def _away(request: HttpRequest, error: SourceAway) -> HttpResponse:
    log.warning("dead_letters_away", extra={"error": str(error)})
    context = {"away": broker(), "refused": isinstance(error, SourceRefuses)}
    return render(request, "dead_letters/list.html", context)


# -- acting


def _act(request: HttpRequest, choice: Choice) -> HttpResponse:
    if choice.action not in {"replay", "drop"}:
        return HttpResponseBadRequest()
    if not choice.ids:
        messages.error(request, _("Nothing was chosen."))
        return _to_list()
    if choice.action == "drop" and not request.POST.get("confirmed"):
        return render(request, "dead_letters/drop.html", {"ids": choice.ids})
    by = request.user.get_username()
    try:
        if choice.action == "drop":
            _say_dropped(request, dead_letters.drop(choice.ids, by=by))
        else:
            _say_replayed(request, dead_letters.replay(choice.ids, by=by))
    except SourceAway as error:
        log.warning("dead_letters_away", extra={"error": str(error)})
        said = _("%(broker)s does not answer, or takes nothing: not all of it was done.")
        messages.error(request, said % {"broker": broker()})
    return _to_list()


def _to_list() -> HttpResponse:
    # 303: the browser reads the page, and a reload does nothing again.
    return HttpResponseRedirect(reverse("dead-letters"), status=HTTPStatus.SEE_OTHER)


def _say_dropped(request: HttpRequest, dropped: int) -> None:
    said = ngettext("%s report was dropped.", "%s reports were dropped.", dropped) % count(dropped)
    messages.success(request, said)


def _say_replayed(request: HttpRequest, outcome: Replayed) -> None:
    if outcome.done:
        said = ngettext(
            "%s report is back in the queue.", "%s reports are back in the queue.", outcome.done
        ) % count(outcome.done)
        messages.success(request, said)
    if outcome.cut:
        said = ngettext(
            "%s report was longer than 64 KiB, and only its beginning is kept.",
            "%s reports were longer than 64 KiB, and only their beginning is kept.",
            outcome.cut,
        ) % count(outcome.cut)
        messages.warning(request, said)
    if outcome.gone:
        said = ngettext("%s was gone already.", "%s were gone already.", outcome.gone) % count(outcome.gone)
        messages.info(request, said)
