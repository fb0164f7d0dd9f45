"""What stands in the start form of a definition, fresh or as it was sent. Asks nobody to start anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext as _

from tower.definitions import parameters
from tower.definitions.jsontext import BadJSON, pretty, read_object
from tower.definitions.models import TaskDefinition
from tower.definitions.parameters import Filled, Posted
from tower.definitions.validation import check_params
from tower.errors import TowerError
from tower.language import translated

MAX_LABELS, MAX_LABEL_KEY, MAX_LABEL_VALUE = 16, 64, 256
FORM, JSON = "form", "json"


@dataclass(frozen=True, slots=True)
class StartForm:
    """``mode`` is how the parameters are written: by fields, or as one JSON text."""

    mode: str
    can_be_fields: bool
    filled: Filled
    text: str = ""
    text_errors: tuple[str, ...] = ()
    labels_text: str = ""
    labels_errors: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    #: What is wrong and stands beside no field.
    errors: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        return not (self.text_errors or self.labels_errors or self.errors) and self.filled.sound

    @property
    def params(self) -> dict[str, Any]:
        return self.filled.params

    def problems(self) -> list[tuple[str, str]]:
        """Each fault with the id of what it is about, for the summary above the form."""
        found = list(_problems(self.filled.fields))
        found += [("others", _said_of(_("Other parameters"), e)) for e in self.filled.others_errors]
        found += [("params", _said_of(_("Parameters"), e)) for e in self.text_errors]
        return found + [("labels", _said_of(_("Labels"), e)) for e in self.labels_errors]


def _problems(fields: Iterable[parameters.Field], above: str = "") -> Iterator[tuple[str, str]]:
    for one in fields:
        title = f"{above}{one.title}"
        yield from ((f"p{one.at}", _said_of(title, error)) for error in one.errors)
        yield from _problems(one.fields, f"{title} › ")


def _said_of(title: str, error: str) -> str:
    return _("%(title)s: %(error)s") % {"title": title, "error": error}


def fresh(definition: TaskDefinition, mode: str = FORM) -> StartForm:
    return _showing(definition, definition.default_params, mode)


def _showing(definition: TaskDefinition, params: Mapping[str, Any], mode: str) -> StartForm:
    fields = parameters.fields(definition.params_schema, params)
    filled = Filled(dict(params), fields, parameters.others(definition.params_schema, params))
    return StartForm(FORM if fields and mode == FORM else JSON, bool(fields), filled, pretty(params))


def sent(definition: TaskDefinition, posted: Posted) -> StartForm:
    """The form as it was filled in, with all that the tower will find wrong beside its field."""
    form = _params_of(definition, posted)
    try:
        form = replace(form, labels=read_labels(text := str(posted.get("labels", ""))), labels_text=text)
    except BadJSON as bad:
        form = replace(form, labels_text=text, labels_errors=(str(bad),))
    if form.text_errors or not form.filled.sound:
        return form
    return blamed(form, check_params(definition.params_schema, {**definition.default_params, **form.params}))


def _params_of(definition: TaskDefinition, posted: Posted) -> StartForm:
    prepared = parameters.fields(definition.params_schema, definition.default_params)
    if prepared and posted.get("as", JSON) == FORM:
        return StartForm(FORM, True, parameters.fill(prepared, posted))
    text = str(posted.get("params", ""))
    try:
        return StartForm(JSON, bool(prepared), Filled(read_object(text) if text.strip() else {}, ()), text)
    except BadJSON as bad:
        return StartForm(JSON, bool(prepared), Filled({}, ()), text, text_errors=(str(bad),))


def in_mode(definition: TaskDefinition, form: StartForm, mode: str) -> StartForm:
    """The same parameters written the other way; a text that is no JSON stays as it is."""
    if form.text_errors or not form.filled.sound:
        return form
    shown = _showing(definition, {**definition.default_params, **form.params}, mode)
    return replace(shown, labels_text=form.labels_text, labels=form.labels, labels_errors=form.labels_errors)


def refused(form: StartForm, error: TowerError) -> StartForm:
    """What the start itself refused, put where it belongs."""
    if error.code == "invalid_params" and error.details.get("errors"):
        return blamed(form, list(error.details["errors"]))
    return replace(form, errors=(*form.errors, error.message))


def blamed(form: StartForm, errors: list[dict[str, str]]) -> StartForm:
    filled, homeless = parameters.blame(form.filled, errors)
    said = tuple(f"{error['path']} {translated(error['message'])}".strip() for error in homeless)
    if form.mode == JSON:
        return replace(form, filled=filled, text_errors=said)
    return replace(form, filled=filled, errors=said)


def read_labels(text: str) -> dict[str, str]:
    """``team:research, env:prod``"""
    labels: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.replace("\n", ",").split(","))):
        key, colon, value = (part.strip() for part in pair.partition(":"))
        if not colon or not key or len(key) > MAX_LABEL_KEY or len(value) > MAX_LABEL_VALUE or "\0" in pair:
            raise BadJSON(
                _("each label is key:value, a key of 1 to 64 characters and a value of at most 256")
            )
        labels[key] = value
    if len(labels) > MAX_LABELS:
        raise BadJSON(_("at most 16 labels"))
    return labels


def as_curl(definition: TaskDefinition, form: StartForm, site: str) -> str:
    """The same start as a command for a shell."""
    body: dict[str, Any] = {"job_id": definition.pk, "input_params": form.params}
    if form.labels:
        body["labels"] = dict(form.labels)
    return (
        f"curl -X POST {site}/api/v1/traces/ \\\n"
        '  -H "Authorization: Bearer $TOWER_TOKEN" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(pretty(body))}"
    )
