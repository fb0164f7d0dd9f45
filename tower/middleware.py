"""Around every request: its number, its host, its headers, its right. Plain and synchronous.

``tower.onehop`` runs the whole chain in one thread; an awaitable one would cost
a change of thread on each side of each middleware.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost, PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.middleware import common

from tower import error_pages, logs
from tower.access import limits, sessions
from tower.access.matrix import holds, methods_of, right_of
from tower.access.pages import ask_again, to_sign_in
from tower.access.principal import principal_of_user
from tower.api import TowerView, as_refusal, bearer
from tower.errors import TowerError

Next = Callable[[HttpRequest], HttpResponse]
_log = logging.getLogger("tower.access")

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def _policy(**changes: str) -> str:
    parts = {**_POLICY, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return "; ".join(f"{name} {value}" for name, value in parts.items())


CSP = _policy(require_trusted_types_for="'script'")
#: Django's admin writes HTML with jQuery, and Swagger UI with its own code and ``data:`` pictures.
CSP_ADMIN = _policy()
CSP_DOCS = _policy(img_src="'self' data:")

#: Where rights are given and taken: the password is asked again.
GUARDED = ("admin:auth_", "admin:access_")

HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def policy_of(path: str) -> str:
    if path.startswith("/admin/"):
        return CSP_ADMIN
    return CSP_DOCS if path == "/api/docs/" else CSP


def framed(answer: HttpResponse, path: str, request_id: str) -> HttpResponse:
    """The headers that every answer carries."""
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers.setdefault("Content-Security-Policy", policy_of(path))
    answer.headers.setdefault("X-Request-Id", request_id)
    if path.startswith(error_pages.API):
        answer.headers.setdefault("Cache-Control", "no-store")
    if settings.TOWER_HTTPS:
        answer.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    return answer


class Frame:
    """Outermost: what every request gets and every answer carries, errors and static files included."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.request_id = logs.request_id() or secrets.token_hex(8)  # type: ignore[attr-defined]
        answer = self._refused(request) or self.get_response(request)
        return framed(answer, request.path, request.request_id)  # type: ignore[attr-defined]

    def _refused(self, request: HttpRequest) -> HttpResponse | None:
        try:
            request.get_host()
        except DisallowedHost:
            return HttpResponse("This host is not served here.\n", status=400, content_type="text/plain")
        if "\0" in request.path:
            return error_pages.not_found(request)
        return None


def client_address(request: HttpRequest) -> str:
    """The peer's; ``tower.proxies`` has put the client's there where a proxy of ours may say it."""
    return str(request.META.get("REMOTE_ADDR") or "")


class Common(common.CommonMiddleware):
    """Adds the missing slash for people. A program that lacks it gets 404: a redirect would drop its body."""

    def should_redirect_with_slash(self, request: HttpRequest) -> bool:
        if request.path_info.startswith(error_pages.API) or request.method not in {"GET", "HEAD"}:
            return False
        return super().should_redirect_with_slash(request)


def _no_right(request: HttpRequest, name: str) -> HttpResponse:
    if methods := methods_of(name):
        answer = error_pages.said(
            request, TowerError("This method is not for here.", code="method_not_allowed", http_status=405)
        )
        answer["Allow"] = ", ".join(methods)
        return answer
    _log.error("pattern_without_right", extra={"route": name})
    raise PermissionDenied


class Access:
    """Innermost: nobody gets past the matrix. API views ask it themselves."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        if bearer(request) is None:
            sessions.age(request)
        if issubclass(getattr(view, "cls", object), TowerView):
            return None
        name = request.resolver_match.view_name if request.resolver_match else ""
        right = right_of(name, request.method or "")
        if right is None:
            return _no_right(request, name)
        if right.open:
            return None
        principal = principal_of_user(request.user)
        if principal is None:
            return to_sign_in(request)
        logs.note(user=principal.name)
        if not holds(principal, right):
            # A view whose refusals leave a trace has a function of this name.
            if told := getattr(view, "forbidden", None):
                told(request, principal, **kwargs)
            raise PermissionDenied
        try:
            limits.take(principal.key, name, request.method or "")
        except limits.RateLimited as error:
            return error_pages.said(request, error)
        return ask_again(request) if name.startswith(GUARDED) and not sessions.confirmed(request) else None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """What a page's view refused or what the database failed, as a page."""
        refused = as_refusal(exception)
        return error_pages.said(request, refused) if refused else None
