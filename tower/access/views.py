"""Signing in and out, and the password asked again before rights are changed."""

from __future__ import annotations

import math
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, LogoutView, RedirectURLMixin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.generic import FormView

from tower.access import sessions, signin
from tower.access.passwords import MOST
from tower.middleware import client_address


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


class Limited:
    """Answers 429 where the form had no attempt left."""

    def form_invalid(self, form: Any) -> HttpResponse:
        answer: HttpResponse = super().form_invalid(form)  # type: ignore[misc]
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
        signin.forget()
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


class SignOut(LogoutView):
    http_method_names = ["post"]


def to_sign_in(request: HttpRequest) -> HttpResponseRedirect:
    query = request.META.get("QUERY_STRING", "")
    return HttpResponseRedirect(f"/login/?{query}" if query else "/login/?next=/admin/")
