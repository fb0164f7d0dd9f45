"""The form of a definition in the admin site: JSON as text, all faults at their fields."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tower.definitions import edit, validation
from tower.definitions.jsontext import BadJSON, pretty, read_json
from tower.definitions.models import TaskDefinition


class JSONTextField(forms.CharField):
    """JSON that a person edits; blank is ``empty``. What was typed wrong stays as it was typed."""

    def __init__(self, *, empty: Any = None, **kwargs: Any) -> None:
        self.empty = empty
        attrs = {
            "class": "vLargeTextField mono",
            "data-json": "",
            "spellcheck": "false",
            "rows": 12,
            "cols": 80,
        }
        kwargs.setdefault("widget", forms.Textarea(attrs))
        super().__init__(required=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        # Text is what was typed; a definition's own values are objects or nothing.
        return value if isinstance(value, str) else "" if value is None else pretty(value)

    def to_python(self, value: Any) -> Any:
        text = str(value or "")
        if not text.strip():
            return self.empty
        try:
            return read_json(text)
        except BadJSON as bad:
            raise forms.ValidationError(str(bad), code="invalid_json") from bad

    def validate(self, value: Any) -> None:
        """What it may hold is said by ``validation``, for all fields at once."""

    def run_validators(self, value: Any) -> None:
        pass

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(self.to_python(data) != initial)
        except forms.ValidationError:
            return True


class DefinitionForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for mypy only
    default_params = JSONTextField(
        label=_("Default parameters"),
        empty={},
        help_text=_("An object; a run's own parameters are laid over it."),
    )
    params_schema = JSONTextField(
        label=_("Parameter schema"),
        help_text=_(
            "JSON Schema (draft 2020-12) of a run's parameters; empty: any object. Each $ref leads to a place"
            " inside, patterns have at most 200 characters, without look-around and back-references."
        ),
    )
    join = JSONTextField(
        label=_("Join"),
        help_text=_(
            'How a task ends by its children; empty: by the default. {"policy": "any" | "all" | "all_done"},'
            ' or {"policy": "at_least" | "at_most_failed", "count": 2} with "percent" instead of "count";'
            ' "early": true ends it as soon as nothing can change the verdict.'
        ),
        widget=forms.Textarea(
            {"class": "vLargeTextField mono", "data-json": "", "spellcheck": "false", "rows": 6, "cols": 80}
        ),
    )
    #: The version that the editor looked at, so that nobody's change is written over unseen.
    seen_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = TaskDefinition
        fields = (
            "id",
            "name",
            "description",
            "actor_type",
            "code_ref",
            "default_params",
            "params_schema",
            "join",
            "timeout_sec",
            "max_retries",
            "cancel_grace_sec",
            "is_active",
        )
        widgets = {
            "description": forms.Textarea({"class": "vLargeTextField", "rows": 3, "cols": 80}),
            "code_ref": forms.TextInput({"class": "vTextField mono", "spellcheck": "false"}),
        }
        help_texts = {
            "id": _("For ever: 1–64 of A–Z a–z 0–9 _ . : -, beginning with a letter or digit."),
            "code_ref": _(
                "Where the code stands, such as docker://team/image:tag. The tower only passes it on."
            ),
            "timeout_sec": _("From an attempt's first report on; 0 is never, at most 30 days."),
            "cancel_grace_sec": _("What an actor has after a CANCEL before the tower ends its task."),
            "is_active": _("Switched off, no run can be started; tasks below other runs are still accepted."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.version:
            self.fields["seen_version"].initial = self.instance.version

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        body = {name: value for name, value in cleaned.items() if name in validation.CHECKS}
        for fault in validation.read(body, edit.limits(), whole=False).faults:
            self.add_error(fault.field, forms.ValidationError(fault.message, code=fault.code))
        if self.instance.version:
            self._refuse_what_is_outdated(cleaned.get("seen_version"))
        return cleaned

    def _refuse_what_is_outdated(self, seen: int | None) -> None:
        # Locked until the save, which is in the same transaction (the admin site opens one).
        now = (
            TaskDefinition.objects.select_for_update()
            .values_list("version", flat=True)
            .get(pk=self.instance.pk)
        )
        if seen is not None and seen != now:
            said = _("Somebody saved version %(now)s while you edited version %(seen)s. Open the page again.")
            raise forms.ValidationError(said, code="conflict", params={"now": now, "seen": seen})
