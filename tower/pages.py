"""The pages that belong to no subject: the theme, the language, the health of the system."""

from __future__ import annotations

import time

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from tower import health
from tower.access.pages import page
from tower.cards import cards, in_short, warnings

THEMES = ("light", "dark")
A_YEAR = 365 * 24 * 3600


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keep a choice of light or dark in a cookie; anything else goes with the reader's system."""
    answer = HttpResponseRedirect(_back(request))
    chosen = request.POST.get("theme")
    if chosen in THEMES:
        _keep(answer, request, "theme", chosen)
    else:
        answer.delete_cookie("theme", samesite="Lax")
    return answer


@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Keep a choice of language in a cookie; one that is not spoken here changes nothing."""
    answer = HttpResponseRedirect(_back(request))
    chosen = request.POST.get("language", "")
    if chosen in dict(settings.LANGUAGES):
        _keep(answer, request, settings.LANGUAGE_COOKIE_NAME, chosen)
    return answer


def _keep(answer: HttpResponse, request: HttpRequest, name: str, chosen: str) -> None:
    answer.set_cookie(name, chosen, max_age=A_YEAR, samesite="Lax", secure=request.is_secure())


def _back(request: HttpRequest) -> str:
    target = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if safe else "/"


@page("viewer")
@never_cache
def health_page(request: HttpRequest) -> HttpResponse:
    """Words first. The page's script asks for the same cards as JSON: their words are made in one place."""
    checks, unsafe = health.report()
    found = cards(checks)
    at = time.time_ns() // 1_000_000
    if request.accepts("text/html"):
        context = {"cards": found, "in_short": in_short(found), "warnings": warnings(unsafe), "at_ms": at}
        return render(request, "health.html", context)
    return JsonResponse(
        {"in_short": in_short(found), "cards": [card.as_json() for card in found], "at_ms": at}
    )
