"""What every API view has in common: who asks, whether they may, and how the answer is written.

DRF keeps authentication, negotiation and the schema; bodies come from
``tower.reading`` and answers are written by orjson, without serializers.
"""

from __future__ import annotations

import json
from typing import Any

import orjson
from django.core.exceptions import PermissionDenied, SuspiciousOperation, TooManyFieldsSent
from django.db import DatabaseError
from django.http import Http404, HttpResponse
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from tower import logs, metrics
from tower.access import limits
from tower.access.matrix import Right, holds, right_of
from tower.access.principal import Principal, principal_of_user
from tower.access.tokens import principal_of_token
from tower.errors import TowerError
from tower.outages import outage

CHALLENGE = 'Bearer realm="command-tower"'


# -- answers


def answer(data: Any, status: int = 200) -> HttpResponse:
    """JSON, as fast as it goes."""
    return HttpResponse(_dumps(data), status=status, content_type="application/json")


def _dumps(data: Any) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError:
        # A refused item may carry what orjson cannot write: half a character, or an integer beyond 64 bits.
        return json.dumps(data, default=str, separators=(",", ":")).encode()


def error_answer(error: TowerError) -> HttpResponse:
    """The envelope of every refusal."""
    metrics.REJECTED.labels(error.code).inc()
    response = answer({"error": error.as_json()}, error.http_status)
    if error.retry_after is not None:
        response["Retry-After"] = str(max(1, error.retry_after))
    if error.http_status == 401:
        response["WWW-Authenticate"] = CHALLENGE
    return response


class NotAuthenticated(TowerError):
    code, http_status = "not_authenticated", 401


class InvalidToken(TowerError):
    code, http_status = "invalid_token", 401


class Forbidden(TowerError):
    code, http_status = "forbidden", 403


class CsrfFailed(TowerError):
    code, http_status = "csrf_failed", 403


class JSONRenderer(BaseRenderer):
    """Stands in the negotiation, so that another ``Accept`` is answered 406; ``answer`` does the writing."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return _dumps(data)


# -- who asks


def bearer(request: Any) -> str | None:
    """The token that a request carries in its ``Authorization``, and nowhere else."""
    kind, _, raw = (request.META.get("HTTP_AUTHORIZATION") or "").partition(" ")
    return raw.strip() if kind.lower() == "bearer" else None


def known(principal: Principal | None) -> Principal:
    """The holder of a token, or the refusal of who holds none."""
    if principal is None:
        metrics.AUTH_FAILURES.labels("token").inc()
        raise InvalidToken("This token is unknown, expired or revoked.")
    logs.note(token_name=principal.name)
    return principal


class BearerAuthentication(BaseAuthentication):
    """Stands first: what it refuses is not rescued by a cookie."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        raw = bearer(request)
        if raw is None:
            return None
        return known(principal_of_token(raw)), None

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


class SessionAuthentication(BaseAuthentication):
    """The signed-in browser, with Django's CSRF check."""

    def authenticate(self, request: Request) -> tuple[Principal, None] | None:
        inner = request._request
        principal = principal_of_user(getattr(inner, "user", None))
        if principal is None:
            return None
        if refused := _csrf_fault(inner):
            raise CsrfFailed(f"The CSRF check failed: {refused}")
        logs.note(user=principal.name)
        return principal, None


def _csrf_fault(request: Any) -> Any:
    """Django's reason, or None."""
    check: Any = CSRFCheck(lambda _: HttpResponse())
    check.process_request(request)
    return check.process_view(request, None, (), {})


# -- the view


def lacking(right: Right | None) -> Forbidden:
    return Forbidden("You lack the right to do this.", needs=right.needs if right else {})


class TowerView(APIView):
    """A view of the API: right by the matrix, errors in the envelope.

    A view whose refusals leave a trace overrides ``forbidden``.
    """

    authentication_classes = (BearerAuthentication, SessionAuthentication)
    permission_classes = ()
    throttle_classes = ()
    parser_classes = ()
    renderer_classes = (JSONRenderer,)
    metadata_class = None
    http_method_names = ["get", "post", "put", "patch", "delete", "head"]

    def principal(self, request: Any) -> Principal:
        """Who asks; only after the checks, so always somebody."""
        found = request.user
        if not isinstance(found, Principal):
            raise NotAuthenticated("Sign in, or send a token.")
        return found

    def forbidden(self, request: Any, principal: Principal) -> None:
        """Told of each request that lacks the right, before it is refused."""

    def check_permissions(self, request: Any) -> None:
        principal = request.user if isinstance(request.user, Principal) else None
        right = right_of(request.resolver_match.view_name, request.method)
        if principal is None and not (right and right.open):
            raise NotAuthenticated("Sign in, or send a token.")
        if not hasattr(self, request.method.lower()):
            raise exceptions.MethodNotAllowed(request.method)
        if not holds(principal, right):
            if principal:
                self.forbidden(request, principal)
            raise lacking(right)

    def check_throttles(self, request: Any) -> None:
        if isinstance(request.user, Principal):
            limits.take(request.user.key, request.resolver_match.view_name, request.method)

    def handle_exception(self, exc: Exception) -> Any:
        response = self.get_exception_handler()(exc, self.get_exception_handler_context())
        if response is None:
            raise exc
        response.exception = True
        return response

    def get_exception_handler(self) -> Any:
        return exception_handler


def exception_handler(exc: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """DRF's hook: the envelope for what is foreseen, None (so a 500) for what is not."""
    refused = as_refusal(exc)
    return error_answer(refused) if refused else None


def as_refusal(exc: BaseException) -> TowerError | None:
    """What a request is told of an exception; None where it is a fault of ours."""
    match exc:
        case TowerError():
            return exc
        case Http404() | exceptions.NotFound():
            return TowerError("There is no such thing.", code="not_found", http_status=404)
        case exceptions.MethodNotAllowed():
            return TowerError("This method is not for here.", code="method_not_allowed", http_status=405)
        case exceptions.NotAcceptable():
            return TowerError("Answers are application/json.", code="not_acceptable", http_status=406)
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return NotAuthenticated("Sign in, or send a token.")
        case PermissionDenied() | exceptions.PermissionDenied():
            return Forbidden("You lack the right to do this.", needs={})
        case TooManyFieldsSent():
            return TowerError("There are too many parameters.", code="invalid_query")
        case SuspiciousOperation():
            return TowerError("The request is malformed.", code="bad_request")
        case DatabaseError():
            return outage(exc)
    return None
