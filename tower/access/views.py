"""Signing in and out, one's own password, and the password asked again before rights are changed."""

from __future__ import annotations

import logging
import math
from importlib import import_module
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView, RedirectURLMixin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.generic import FormView

from tower import metrics
from tower.access import sessions, signin
from tower.access.passwords import MOST
from tower.middleware import client_address

log = logging.getLogger("tower.access")


class Counted:
    """A form that spends one attempt on each password it looks at."""

    #: Seconds until the next attempt, where there were too many.
    wait = 0

    def spend(self, name: str, address: str) -> None:
        self.wait = signin.claim(name, address)
        if self.wait:
            minutes = math.ceil(self.wait / 60)
            raise forms.ValidationError(
                ngettext(
                    "Too many attempts. Try again in %(minutes)d minute.",
                    "Too many attempts. Try again in %(minutes)d minutes.",
                    minutes,
                )
                % {"minutes": minutes},
                code="too_many",
            )


class SignInForm(Counted, AuthenticationForm):
    """Django's form behind the count of attempts."""

    password = forms.CharField(strip=False, max_length=MOST, widget=forms.PasswordInput)
    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": _("This name and password do not belong together. Mind upper and lower case."),
    }

    def clean(self) -> dict[str, Any]:
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if not name or not password:
            return self.cleaned_data
        address = client_address(self.request) if self.request else ""
        self.spend(name, address)
        cleaned: dict[str, Any] = super().clean()
        signin.succeeded(name, address)
        return cleaned


class PasswordForm(Counted, forms.Form):
    password = forms.CharField(strip=False, max_length=MOST, widget=forms.PasswordInput)

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        name, address = self.request.user.get_username(), client_address(self.request)
        self.spend(name, address)
        if not self.request.user.check_password(password):
            raise forms.ValidationError(_("This is not your password."), code="wrong")
        signin.succeeded(name, address)
        return password


class NewPasswordForm(Counted, PasswordChangeForm):
    """Django's form; whoever found a browser open must not find out the old password by trying."""

    old_password = forms.CharField(strip=False, max_length=MOST, widget=forms.PasswordInput)

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request

    def clean_old_password(self) -> str:
        name, address = self.user.get_username(), client_address(self.request)
        self.spend(name, address)
        password: str = super().clean_old_password()
        signin.succeeded(name, address)
        return password


class Limited:
    """Notes what a form refused, and answers 429 where it had no attempt left."""

    def form_invalid(self, form: Any) -> HttpResponse:
        answer: HttpResponse = super().form_invalid(form)  # type: ignore[misc]
        metrics.AUTH_FAILURES.labels("password").inc()
        _tell("password_refused", form.request, _known(form), code="too_many" if form.wait else "wrong")
        if form.wait:
            answer.status_code = 429
            answer["Retry-After"] = str(form.wait)
        return answer


class SignIn(Limited, LoginView):
    """The one place to sign in; ``/admin/login/`` leads here."""

    form_class = SignInForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        answer = super().form_valid(form)
        sessions.begin(self.request)
        _tell("signed_in", self.request, form.get_user().get_username())
        # Both tables would grow for ever; who signs in seldom waits for it.
        signin.forget()
        import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
        return answer

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        nobody_yet = not get_user_model().objects.filter(last_login__isnull=False).exists()
        return super().get_context_data(nobody_yet=nobody_yet, **kwargs)


class PasswordAgain(Limited, RedirectURLMixin, FormView):  # type: ignore[type-arg]  # none at run time
    """Asks who is signed in for the password, before rights are changed."""

    form_class = PasswordForm
    template_name = "registration/password_again.html"
    next_page = "/admin/"

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: PasswordForm) -> HttpResponse:
        sessions.confirm(self.request)
        return super().form_valid(form)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(next=self.get_redirect_url(), **kwargs)


class OwnPassword(Limited, PasswordChangeView):
    """Anybody changes their own; their other sessions end with it."""

    form_class = NewPasswordForm
    template_name = "registration/password.html"
    success_url = "/"

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        answer = super().form_valid(form)
        _tell("password_changed", self.request, form.user.get_username())
        messages.success(
            self.request,
            gettext("Your password is changed. Wherever else you were signed in, you no longer are."),
        )
        return answer


class SignOut(LogoutView):
    http_method_names = ["post"]

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.user.is_authenticated:
            _tell("signed_out", request, request.user.get_username())
        return super().post(request, *args, **kwargs)


def _tell(event: str, request: HttpRequest, user: str, **facts: str) -> None:
    log.info(event, extra={"user": user, "client": client_address(request), **facts})


def _known(form: Any) -> str:
    """Whose password was refused; nothing where nobody has the name: people type passwords there."""
    if form.request.user.is_authenticated:
        return str(form.request.user.get_username())
    name = form.cleaned_data.get("username") or ""
    return name if get_user_model().objects.filter(username=name).exists() else ""


def to_own_password(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect("/password/")


def to_sign_in(request: HttpRequest) -> HttpResponseRedirect:
    query = request.META.get("QUERY_STRING", "")
    return HttpResponseRedirect(f"/login/?{query}" if query else "/login/?next=/admin/")
