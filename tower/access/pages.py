"""Rights of page views: ``@page("viewer")``, and what templates may ask."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django import template
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.functional import SimpleLazyObject

from tower.access.principal import principal_of_user
from tower.access.roles import ROLES, role_at_least, roles_of

View = Callable[..., HttpResponse]

register = template.Library()
register.filter("role_at_least", role_at_least)


def page(role: str) -> Callable[[View], View]:
    """A page for people of a role at least; a visitor is sent to sign in and comes back.

    The matrix decides too, by the name of the URL; a test holds both together.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            principal = principal_of_user(request.user)
            if principal is None:
                return to_sign_in(request)
            if role not in principal.roles:
                raise PermissionDenied
            return view(request, *args, **kwargs)

        guarded.least_role = role  # type: ignore[attr-defined]
        return guarded

    return decorate


def to_sign_in(request: HttpRequest) -> HttpResponseRedirect:
    """To the sign-in, and back where the visitor wanted to read."""
    if request.method not in {"GET", "HEAD"} or request.path == "/":
        return HttpResponseRedirect(settings.LOGIN_URL)
    return HttpResponseRedirect(f"{settings.LOGIN_URL}?{urlencode({'next': request.get_full_path()})}")


def ask_again(request: HttpRequest) -> HttpResponseRedirect:
    """To the question for the password, and back to what was to be read."""
    back = request.get_full_path() if request.method in {"GET", "HEAD"} else request.path
    return HttpResponseRedirect(f"{reverse('password-again')}?{urlencode({'next': back})}")


def who(request: HttpRequest) -> dict[str, Any]:
    """Context of every page: the highest role of who looks at it."""

    def highest() -> str:
        user = getattr(request, "user", None)
        held = roles_of(user) if user is not None and user.is_authenticated else frozenset()
        return next((role for role in reversed(ROLES) if role in held), "")

    return {"user_role": SimpleLazyObject(highest), "request_id": getattr(request, "request_id", "")}
