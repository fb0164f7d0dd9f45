"""Template tags that draw one mark alike on every page: the stacked bar, a status word, a span of time.

``static/js/marks.js`` draws the same marks in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils.formats import date_format, number_format
from django.utils.functional import Promise
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from tower.schemas import OPEN, TaskInstanceStatus

register = template.Library()

Status = TaskInstanceStatus

WORDS: Mapping[Status, Promise] = {
    Status.PENDING: _("Pending"),
    Status.RUNNING: _("Running"),
    Status.SUCCESS: _("Success"),
    Status.FAILED: _("Failed"),
    Status.CANCELLED: _("Cancelled"),
    Status.SKIPPED: _("Skipped"),
}

ROLE_WORDS: Mapping[str, Promise] = {
    "viewer": _("Viewer"),
    "operator": _("Operator"),
    "editor": _("Editor"),
    "admin": _("Admin"),
}

#: Left to right in a bar: what is done well, what is under way, what went wrong, what waits.
BAR_ORDER = (
    Status.SUCCESS,
    Status.RUNNING,
    Status.FAILED,
    Status.CANCELLED,
    Status.SKIPPED,
    Status.PENDING,
)


@dataclass(frozen=True, slots=True)
class Part:
    status: Status | None
    count: int
    share: str


@register.filter
def status_word(status: str) -> str:
    return str(WORDS[Status(status)])


@register.filter
def role_word(role: object) -> str:
    return str(ROLE_WORDS.get(str(role), role))


@register.filter
def count(value: int | None) -> str:
    """1204 → 1,204 in the reader's language, however the settings group numbers."""
    return "" if value is None else number_format(value, decimal_pos=0, force_grouping=True)


@register.inclusion_tag("_stack.html")
def stack(counts: Mapping[str, int], planned: int = 0) -> dict[str, Any]:
    """The stacked bar of ``counts`` per status, with ``planned`` tasks that are not registered yet."""
    whole = sum(counts.values()) + planned
    parts = [Part(s, counts[s], _share(counts[s], whole)) for s in BAR_ORDER if counts.get(s)]
    if planned:
        parts.append(Part(None, planned, _share(planned, whole)))
    return {"parts": parts, "words": in_words(counts, planned)}


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%"


@register.filter
def in_words(counts: Mapping[str, int], planned: int = 0) -> str:
    """312 success, 41 running, 6 failed"""
    said = gettext("{n} {word}")
    words = [said.format(n=count(counts[s]), word=str(WORDS[s]).lower()) for s in BAR_ORDER if counts.get(s)]
    if planned:
        words.append(ngettext("%s planned", "%s planned", planned) % count(planned))
    return gettext(", ").join(words)


@register.filter
def done(counts: Mapping[str, int]) -> int:
    return sum(n for status, n in counts.items() if status not in OPEN)


@register.filter
def moment(ms: int | None) -> datetime | None:
    """Milliseconds since the epoch as a datetime."""
    # A template hands in "" for what is not there.
    return datetime.fromtimestamp(ms / 1000, UTC) if isinstance(ms, int) else None


@register.filter
def iso(ms: int | None) -> str:
    """For ``<time datetime>``: 2024-12-18T23:31:30.123Z"""
    at = moment(ms)
    return "" if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@register.filter
def when(ms: int | None) -> str:
    """The hour of today, day and hour of this year, else the day; UTC, until a script shows local time."""
    at, now = moment(ms), datetime.now(UTC)
    if at is None:
        return ""
    if at.date() == now.date():
        return date_format(at, "H:i:s")
    return date_format(at, gettext("j M, H:i") if at.year == now.year else gettext("j M Y"))


@register.filter
def shortly(ms: int | None) -> str:
    """320 ms · 3.2 s · 4:12"""
    if not isinstance(ms, int) or ms >= 60_000:
        return span(ms)
    if ms < 1000:
        return gettext("%(ms)d ms") % {"ms": ms}
    return gettext("%(seconds)s s") % {"seconds": number_format(ms / 1000, decimal_pos=1)}


@register.filter
def span(ms: int | None) -> str:
    """4:12 · 2:52:33 · 3 d 04:11 · 3650 d"""
    if not isinstance(ms, int):
        return ""
    seconds = max(0, ms // 1000)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    if days and not (hours or minutes):
        return gettext("%(days)d d") % {"days": days}
    if days:
        return gettext("%(days)d d %(hours)02d:%(minutes)02d") % {
            "days": days,
            "hours": hours,
            "minutes": minutes,
        }
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
