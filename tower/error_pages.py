"""What is said of an error: the envelope under ``/api/``, a page elsewhere. Tells nothing of our insides."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tower.api import as_refusal, error_answer
from tower.errors import TowerError
from tower.outages import outage

API = "/api/"
#: The statuses that have a page of their own; others borrow the nearest.
PAGES = {400: "400", 401: "403", 403: "403", 404: "404", 405: "400", 409: "400", 429: "429"}


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    found = as_refusal(exception) if exception else None
    return said(request, found or TowerError("The request is malformed.", code="bad_request"))


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return said(request, TowerError("You lack the right to do this.", code="forbidden", http_status=403))


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return said(request, TowerError("There is no such thing.", code="not_found", http_status=404))


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    return said(request, TowerError("The CSRF check failed.", code="csrf_failed", http_status=403))


def failed(request: HttpRequest) -> HttpResponse:
    """The 500, or the 503 that a failed database is."""
    error = sys.exc_info()[1]
    found = (outage(error) if error else None) or broken(getattr(request, "request_id", ""))
    return said(request, found)


def broken(request_id: str) -> TowerError:
    """The 500."""
    return TowerError(
        "Something broke on our side; the log has it by this request_id.",
        code="internal",
        http_status=500,
        request_id=request_id,
    )


def said(request: HttpRequest, error: TowerError) -> HttpResponse:
    """One refusal, as JSON or as a page."""
    if request.path.startswith(API):
        return error_answer(error)
    answer = HttpResponse(_page(request, error), status=error.http_status)
    if error.retry_after is not None:
        answer["Retry-After"] = str(max(1, error.retry_after))
    return answer


def _page(request: HttpRequest, error: TowerError) -> str:
    name = f"errors/{PAGES.get(error.http_status, '500' if error.http_status >= 500 else '400')}.html"
    context: dict[str, Any] = {
        "request_id": getattr(request, "request_id", ""),
        "why": _why(error),
        "status": error.http_status,
    }
    if error.http_status < 500:
        return render_to_string(name, context, request)
    # Without the request: nothing of it may ask the database that has just failed.
    return render_to_string(name, context)


#: Sentences where the page's own would mislead. An error's message is written for the API, in English.
REASONS: Mapping[str, Promise | str] = {
    "csrf_failed": gettext_lazy(
        "This page was open for too long, so its form expired. Reload the page and try again."
    ),
    "invalid_query": gettext_lazy("The address asks for something that this page does not know."),
    "invalid_cursor": gettext_lazy("This link leads to no page of this list. Begin at its start."),
    "method_not_allowed": gettext_lazy("This address cannot be used in this way."),
}


def _why(error: TowerError) -> str:
    if error.http_status == 503:
        return _("The database does not answer right now. Nothing was changed; try again in a moment.")
    why = str(REASONS.get(error.code, ""))
    field = error.details.get("field", "")
    return _("%(why)s Field: %(field)s") % {"why": why, "field": field} if why and field else why
