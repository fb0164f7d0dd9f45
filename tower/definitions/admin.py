"""Definitions in the admin site: every save goes through ``edit``; nothing is deleted."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from tower.definitions import edit, versions, words
from tower.definitions.forms import DefinitionForm
from tower.definitions.models import DefinitionVersion, TaskDefinition
from tower.definitions.validation import CHECKS


class VersionInline(admin.TabularInline):  # type: ignore[type-arg]  # generic for mypy only
    model = DefinitionVersion
    fields = ("number", "created_at", "created_by", "name", "timeout_sec", "join_text", "changed")
    readonly_fields = fields
    ordering = ("-number",)
    can_delete = False
    extra = 0
    max_num = 0
    show_full_result_count = False
    verbose_name_plural = _("versions, the newest first")

    @admin.display(description=_("join"))
    def join_text(self, version: DefinitionVersion) -> str:
        return "—" if version.join is None else words.join(version.join)

    @admin.display(description=_("changed"))
    def changed(self, version: DefinitionVersion) -> str:
        return ", ".join(change.label for change in versions.changes_of(version)) or "—"

    def get_queryset(self, request: HttpRequest) -> QuerySet[DefinitionVersion]:
        return super().get_queryset(request).select_related("definition")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(TaskDefinition)
class TaskDefinitionAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    form = DefinitionForm
    list_display = ("name", "id", "actor_type", "version_word", "is_active", "updated_at", "start_link")
    list_display_links = ("name", "id")
    list_filter = ("is_active", "actor_type", "updated_at")
    search_fields = ("id", "name", "code_ref", "description")
    search_help_text = _("id, name, code reference or description")
    ordering = ("id",)
    list_per_page = 50
    actions = ("deactivate", "activate")
    inlines = (VersionInline,)
    save_on_top = True
    view_on_site = False  # the template has a link that says what for
    fieldsets = (
        (None, {"fields": ("id", "name", "description", "is_active", "seen_version")}),
        (_("Who works on it"), {"fields": ("actor_type", "code_ref")}),
        (_("Parameters"), {"fields": ("default_params", "params_schema")}),
        (
            _("How it ends by its children"),
            {"fields": ("join_policy", "join_count", "join_percent", "join_early")},
        ),
        (_("Limits"), {"fields": ("timeout_sec", "cancel_grace_sec", "max_retries")}),
    )

    # -- what may be done

    def has_delete_permission(self, request: HttpRequest, obj: TaskDefinition | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: TaskDefinition | None = None) -> tuple[str, ...]:
        return ("id",) if obj else ()

    def get_inlines(self, request: HttpRequest, obj: TaskDefinition | None) -> Any:
        return self.inlines if obj else ()

    # -- saving

    def save_model(self, request: HttpRequest, obj: TaskDefinition, form: Any, change: bool) -> None:
        by = request.user.get_username()
        said = {name: value for name, value in form.cleaned_data.items() if name in CHECKS}
        edited = edit.change(obj.pk, said, by=by) if change else edit.create(said, by=by)
        obj.version = edited.definition.version
        if edited.created:
            messages.info(
                request, _("Version %(number)s holds for tasks from now on.") % {"number": obj.version}
            )

    @admin.action(description=_("Switch off: no more runs"), permissions=["change"])
    def deactivate(self, request: HttpRequest, chosen: QuerySet[TaskDefinition]) -> None:
        self._switch(request, chosen, active=False)

    @admin.action(description=_("Switch on again"), permissions=["change"])
    def activate(self, request: HttpRequest, chosen: QuerySet[TaskDefinition]) -> None:
        self._switch(request, chosen, active=True)

    def _switch(self, request: HttpRequest, chosen: QuerySet[TaskDefinition], *, active: bool) -> None:
        ids = list(chosen.values_list("pk", flat=True))
        count = edit.switch(ids, active=active, by=request.user.get_username())
        if active:
            said = ngettext("%d definition was switched on.", "%d definitions were switched on.", count)
        else:
            said = ngettext("%d definition was switched off.", "%d definitions were switched off.", count)
        messages.success(request, said % count)

    # -- the list

    @admin.display(description=_("version"), ordering="version")
    def version_word(self, definition: TaskDefinition) -> str:
        return f"v{definition.version}"

    @admin.display(description=_("run"))
    def start_link(self, definition: TaskDefinition) -> SafeString | str:
        url = reverse("definition", args=[definition.pk])
        if not definition.is_active:
            return format_html('<a href="{}">{}</a>', url, _("look"))
        return format_html('<a href="{}">{}</a>', url, _("start a run"))
