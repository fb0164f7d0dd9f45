"""People, their roles, and tokens, in the admin site; the password is asked again before."""

from __future__ import annotations

import logging
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from tower.access.models import Token
from tower.access.tokens import DAYS, SCOPES, make_token

admin.site.unregister([User, Group])
_log = logging.getLogger("tower.access")


@admin.register(User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg]  # generic for mypy only
    """A person has a role; single permissions and Django's flags stay out of sight."""

    fieldsets = (
        (None, {"fields": ("username", "password")}),
        (_("Person"), {"fields": ("first_name", "last_name", "email")}),
        (_("Role"), {"fields": ("is_active", "groups")}),
        (_("Times"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("username", "password1", "password2", "groups")}),
    )
    list_display = ("username", "first_name", "last_name", "roles", "is_active", "last_login")
    list_filter = ("groups", "is_active")
    readonly_fields = ("last_login", "date_joined")

    @admin.display(description=_("role"))
    def roles(self, user: User) -> str:
        return "admin" if user.is_superuser else ", ".join(sorted(group.name for group in user.groups.all()))

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only a superuser changes one: an admin who could set its password would be it."""
        return super().has_change_permission(request, obj) and self._may(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._may(request, obj)

    def _may(self, request: HttpRequest, obj: Any) -> bool:
        return obj is None or not obj.is_superuser or bool(getattr(request.user, "is_superuser", False))


@admin.register(Group)
class RoleAdmin(GroupAdmin):
    """The four roles are the matrix's; they are looked at, not changed."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TokenForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for mypy only
    wanted = forms.MultipleChoiceField(
        label=_("Scopes"),
        choices=[(scope, scope) for scope in SCOPES],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("admin includes the others; else none includes another."),
    )
    days = forms.IntegerField(label=_("Valid for days"), min_value=1, max_value=36_500, initial=DAYS)

    class Meta:
        model = Token
        fields = ("name",)


@admin.register(Token)
class TokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A token is made and revoked, never changed or deleted: the audit names it."""

    list_display = ("name", "ending", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")
    ordering = ("-created_at",)
    search_fields = ("name", "last_four")
    actions = ("revoke",)
    readonly_fields = ("name", "ending", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at")

    @admin.display(description=_("ends with"))
    def ending(self, token: Token) -> str:
        return f"…{token.last_four}"

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs) if obj else TokenForm

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [(None, {"fields": self.readonly_fields if obj else ("name", "wanted", "days")})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else ()

    def save_model(self, request: HttpRequest, obj: Token, form: Any, change: bool) -> None:
        if change:
            return
        wanted = form.cleaned_data
        raw = make_token(wanted["name"], wanted["wanted"], wanted["days"])
        obj.pk = Token.objects.values_list("pk", flat=True).get(digest=Token.digest_of(raw))
        request.made = raw  # type: ignore[attr-defined]  # for the one page that shows it
        facts = {"token_name": wanted["name"], "code": " ".join(wanted["wanted"])}
        _log.info("token_made", extra={"user": request.user.get_username(), **facts})

    def response_add(
        self, request: HttpRequest, obj: Token, post_url_continue: str | None = None
    ) -> HttpResponse:
        # Not a message: that would lie in a cookie or in the database.
        context = {
            **self.admin_site.each_context(request),
            "title": _("A new token"),
            "opts": self.opts,
            "raw": request.made,  # type: ignore[attr-defined]
        }
        answer = TemplateResponse(request, "admin/access/token_made.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @admin.action(description=_("Revoke the selected tokens"), permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Token]) -> None:
        names = list(queryset.filter(revoked_at=None).values_list("name", flat=True))
        count = queryset.filter(revoked_at=None).update(revoked_at=timezone.now())
        for name in names:
            _log.info("token_revoked", extra={"user": request.user.get_username(), "token_name": name})
        said = ngettext("%(count)d token was revoked.", "%(count)d tokens were revoked.", count)
        self.message_user(request, said % {"count": count})

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
