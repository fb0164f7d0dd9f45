"""The page of a run's log: what a reader asks for in the address, and what is shown of each report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET

from instances import reads
from instances.api_reads import LIST_SECONDS, task_of
from instances.eventlog import FILTERS, Entry, log_page
from instances.lifecycle import Origin
from instances.reads import at_one_moment
from instances.sentences import skew
from instances.views import SPEAKS_OF, payload_text
from instances.words import words
from tower.access.pages import page
from tower.reading import Query
from tower.schemas import EVENT_TYPES, KINDS

VERDICTS: Final[Mapping[str, Promise | str]] = {
    "applied": gettext_lazy("applied"),
    "stale": gettext_lazy("stale"),
    "late": gettext_lazy("late"),
    "conflict": gettext_lazy("conflict"),
    "unattached": gettext_lazy("unattached"),
}
ORIGINS: Final[Mapping[str, Promise | str]] = {
    "actor": gettext_lazy("By actors"),
    "tower": gettext_lazy("By the tower"),
}
ORDERS: Final[Mapping[str, Promise | str]] = {"oldest": gettext_lazy("Oldest first")}
#: Warnings of the API, in words for readers.
WARNINGS: Final[Mapping[str, Promise | str]] = {
    "clock_skew": gettext_lazy("a clock more than a day away"),
    "differs": gettext_lazy("differs from the registration"),
    "cycle": gettext_lazy("would close a ring"),
    "event_conflict": gettext_lazy("sent again with another content"),
    "payload_ignored": gettext_lazy("not fit, ignored"),
    "unknown_field": gettext_lazy("not known, ignored"),
}
#: From here on a difference of clocks is marked.
SKEW_MS: Final = 60_000
ASKED: Final = ("task_id", "verdict", "origin", "event_type", "order")


@page("viewer")
@require_GET
def log(request: HttpRequest, trace_id: str) -> HttpResponse:
    return render(request, "instances/log.html", context(request, trace_id))


def context(request: HttpRequest, trace_id: str) -> dict[str, Any]:
    query = Query(request, allowed=FILTERS | {"task_id", "order"})
    newest_first = query.choice("order", ORDERS) != "oldest"
    with at_one_moment(LIST_SECONDS):
        head = reads.head(trace_id)
        found = log_page(
            request, query, head, task=task_of(query, head), newest_first=newest_first, show=Line
        )
        title = head.name or head.job_id or head.id
    asked = {name: request.GET.get(name, "") for name in ASKED}
    return {
        "trace": head,
        "title": title,
        "url": reverse("trace", args=[head.id]),
        "lines": found["results"],
        "before": found["previous"],
        "behind": found["next"],
        "newest_first": newest_first,
        "asked": asked,
        "filtered": any(value for name, value in asked.items() if name != "order"),
        "picks": list(picks(asked)),
        "json_words": json_words(),
    }


def json_words() -> dict[str, str]:
    """What ``static/js/json-view.js`` says."""
    return {key: text for key, text in words().items() if key.startswith("json_") or key == "copied"}


def picks(asked: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The menus: name, title, what is chosen, options."""
    menus: list[tuple[str, str, Iterable[tuple[str, Promise | str]]]] = [
        ("verdict", _("Any verdict"), VERDICTS.items()),
        ("origin", _("By anybody"), ORIGINS.items()),
        ("event_type", _("Any type"), ((kind.value, kind.value) for kind in EVENT_TYPES)),
        ("order", _("Newest first"), ORDERS.items()),
    ]
    for name, title, options in menus:
        shown = [{"value": str(value), "title": text} for value, text in options]
        yield {"name": name, "title": title, "chosen": asked[name], "options": shown}


@dataclass(frozen=True, slots=True)
class Line:
    """One report as its row shows it."""

    entry: Entry

    @property
    def kind(self) -> str:
        return EVENT_TYPES[self.entry.kind].value

    @property
    def status(self) -> str:
        return SPEAKS_OF[EVENT_TYPES[self.entry.kind]].value

    @property
    def verdict(self) -> str:
        return self.entry.verdict.name.lower()

    @property
    def verdict_word(self) -> str:
        return str(VERDICTS[self.verdict])

    @property
    def by_tower(self) -> bool:
        return self.entry.origin == Origin.TOWER

    @property
    def skew(self) -> str:
        return "" if self.by_tower else skew(self.entry.skew_ms)

    @property
    def off(self) -> bool:
        return abs(self.entry.skew_ms) >= SKEW_MS

    @property
    def text(self) -> str:
        said = self.entry.said
        words = [f"{said['progress']:g} %"] if isinstance(said.get("progress"), int | float) else []
        words += [
            str(said[name])
            for name in ("message", "error_code", "error_msg", "output_ref", "worker")
            if said.get(name)
        ]
        return " · ".join(words)

    @property
    def payload(self) -> str:
        return payload_text(self.entry.said) if self.entry.said else ""

    @property
    def says_of_itself(self) -> str:
        """What it names besides its task."""
        kind = self.entry.actor_type
        words = [KINDS[kind].value] if kind is not None else []
        if self.entry.parent_id:
            words.append(_("parent %s") % self.entry.parent_id)
        return " · ".join(words)

    @property
    def warnings(self) -> list[str]:
        found = orjson.loads(self.entry.warnings) if self.entry.warnings else []
        return [_warning(one) for one in found]


def _warning(one: Any) -> str:
    code, field = (one["code"], one["field"]) if isinstance(one, dict) else one
    word = WARNINGS.get(code, code)
    return f"{field}: {word}" if field else str(word)
