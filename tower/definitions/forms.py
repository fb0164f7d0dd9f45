"""The form of a definition in the admin site: JSON as text, all faults at their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from tower.definitions import edit, validation
from tower.definitions.jsontext import BadJSON, pretty, read_json
from tower.definitions.models import TaskDefinition
from tower.language import translated
from tower.schemas import JoinPolicy


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


#: In the order of the form; without a policy the default of the contract holds.
POLICIES = (
    ("", _("by the default: one success is enough, unless the actor itself says how it ended")),
    (JoinPolicy.ANY, _("any: one success is enough")),
    (JoinPolicy.ALL, _("all: nothing may fail or be cancelled")),
    (JoinPolicy.ALL_DONE, _("all_done: success once all have ended, however")),
    (JoinPolicy.AT_LEAST, _("at_least: so many must succeed")),
    (JoinPolicy.AT_MOST_FAILED, _("at_most_failed: no more may fail")),
)


class JoinFields(forms.Form):
    """How a task ends by its children, as fields for people; ``validation`` judges what they say together."""

    join_policy = forms.ChoiceField(
        label=_("Policy"),
        choices=POLICIES,
        required=False,
        help_text=_(
            "With a policy the children decide, even where the actor itself reports that it is done."
        ),
    )
    join_count = forms.IntegerField(
        label=_("Count"), required=False, help_text=_("For at_least and at_most_failed: so many children, …")
    )
    join_percent = forms.FloatField(
        label=_("Percent"),
        required=False,
        help_text=_("… or so many of a hundred that are planned or there; above 0, at most 100."),
        widget=forms.NumberInput({"step": "any"}),
    )
    join_early = forms.BooleanField(
        label=_("Early"),
        required=False,
        help_text=_("It ends as soon as no child still to come can change the verdict."),
    )

    def show_join(self, join: Mapping[str, Any] | None) -> None:
        for part in JOIN_PARTS:
            self.fields[f"join_{part}"].initial = (join or {}).get(part)

    def join_said(self, cleaned: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the fields say together, as the API would be told it; adds the faults that only a form has."""
        said = {part: cleaned.get(f"join_{part}") for part in JOIN_PARTS}
        # Not by truth or equality: a count of 0 is a fault to be told of.
        join = {
            part: _plain(value)
            for part, value in said.items()
            if value is not None and value is not False and value != ""
        }
        if join and "policy" not in join and "join_policy" not in self.errors:
            self.add_error("join_policy", forms.ValidationError(_("Choose a policy."), code="invalid_join"))
            return None
        if join and JoinPolicy(join["policy"]) not in validation.COUNTING:
            text = _("%(policy)s counts nothing: leave this empty.") % {"policy": join["policy"]}
            for part in ("count", "percent"):
                if part in join:
                    self.add_error(f"join_{part}", forms.ValidationError(text, code="invalid_join"))
        return join or None

    def join_is_sound(self) -> bool:
        return not any(f"join_{part}" in self.errors for part in JOIN_PARTS)


JOIN_PARTS = ("policy", "count", "percent", "early")


def _plain(value: Any) -> Any:
    # 90 typed into a field of fractions is the 90 that the API was told.
    return int(value) if isinstance(value, float) and value.is_integer() else value


class DefinitionForm(JoinFields, forms.ModelForm):  # type: ignore[type-arg]  # generic for mypy only
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
    #: The version that the editor looked at, so that nobody's change is written over unseen.
    seen_version = forms.IntegerField(label="", required=False, widget=forms.HiddenInput)

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
        self.show_join(self.instance.join)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        join = self.join_said(cleaned)
        if self.join_is_sound():
            cleaned["join"] = join
        body = {name: value for name, value in cleaned.items() if name in validation.CHECKS}
        for fault in validation.read(body, edit.limits(), whole=False).faults:
            field = f"join_{fault.details.get('part', 'policy')}" if fault.field == "join" else fault.field
            self.add_error(field, forms.ValidationError(translated(fault.message), code=fault.code))
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
