"""What the health page says of each part: a sentence first, a figure only where something measured it.

Takes the report behind ``/readyz`` and touches nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from django.template.defaultfilters import filesizeformat
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from instances.sources import broker
from tower.marks import count, span

Tone = Literal["good", "warn", "bad", "unknown"]
Check = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Card:
    key: str
    title: str
    tone: Tone
    says: str
    big: str = ""
    unit: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Said:
    tone: Tone
    says: str
    big: str = ""
    unit: str = ""


def _milliseconds(check: Check) -> str:
    value = check.get("latency_ms")
    return "" if value is None else _("%(value)s ms") % {"value": f"{value:.1f}"}


def _database(check: Check) -> Said:
    if not check["ok"]:
        if pending := check.get("pending_migrations"):
            return Said(
                "bad",
                _("The tables are behind this version. Run manage.py migrate."),
                count(pending),
                _("migrations to apply"),
            )
        return Said("bad", _("No answer. Nothing is stored until it is back; actors are told to send again."))
    engine = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(
        check.get("engine", ""), check.get("engine", "")
    )
    says = _("%(engine)s answers. What was accepted is stored.") % {"engine": engine}
    return Said("good", says, _milliseconds(check), _("to answer"))


def _redis(check: Check) -> Said:
    if not check["ok"]:
        return Said(
            "warn",
            _("No answer. Reports and controls are still taken; commands reach actors when it is back."),
        )
    return Said("good", _("Answers. Commands reach actors at once."), _milliseconds(check), _("to answer"))


def _sweeper(check: Check) -> Said:
    age = check.get("age_s")
    if age is None:
        return Said("warn", _("Never seen. Without it nothing pending is cancelled and no deadline fires."))
    big, unit = (
        _("%(age)s s") % {"age": f"{age:.1f}"} if age < 60 else span(int(age * 1000)),
        _("since it last looked"),
    )
    if not check["ok"]:
        return Said(
            "warn",
            _("No sign of life. Until it is back, nothing pending is cancelled and no deadline fires."),
            big,
            unit,
        )
    return Said("good", _("Looks after what is due: cancels, deadlines, deliveries."), big, unit)


def _commands(check: Check) -> Said:
    waiting = check.get("undelivered")
    if waiting is None:
        return Said("unknown", _("Not known now."))
    unit = _("undelivered")
    if not waiting:
        return Said("good", _("All that operators asked for was delivered."), "0", unit)
    says = ngettext(
        "%s command waits to be delivered.", "%s commands wait to be delivered.", waiting
    ) % count(waiting)
    return Said("good" if check["ok"] else "warn", says, count(waiting), unit)


def _consumer(check: Check) -> Said:
    lag = check.get("lag")
    if lag is None:
        return Said("warn", _("Not known now: %(broker)s does not answer.") % {"broker": broker()})
    unit = _("waiting")
    if check.get("paused"):
        says = _("Stopped: most of what came could not be taken. Look at the dead letters, then resume.")
        return Said("bad", says, count(lag), unit)
    if not check["ok"]:
        age = span(int(check["oldest_s"] * 1000))
        says = _("Reports wait longer than they should; the oldest for %(age)s.") % {"age": age}
        return Said("warn", says, count(lag), unit)
    if not check["consumers"]:
        return Said("warn", _("Nobody reads the queue of reports."), count(lag), unit)
    if dead := check["dead"]:
        says = ngettext(
            "%s report could not be taken. It lies with the dead letters.",
            "%s reports could not be taken. They lie with the dead letters.",
            dead,
        ) % count(dead)
        return Said("warn", says, count(lag), unit)
    return Said("good", _("Reports in the queue are read as they come."), count(lag), unit)


def _disk(check: Check) -> Said:
    free = check.get("free_bytes")
    if free is None:
        return Said("unknown", _("Not known now."))
    says = _("Room enough.") if check["ok"] else _("Almost full. When it is, nothing more can be stored.")
    return Said("good" if check["ok"] else "bad", says, filesizeformat(free), _("free"))


def _browsers(check: Check) -> Said:
    pages = int(check.get("connections", 0))
    says = ngettext("%s page is watching live.", "%s pages are watching live.", pages) % count(pages)
    return Said("good", says if pages else _("Nobody is watching live."), count(pages), _("open connections"))


def _reports(check: Check) -> Said:
    taken = int(check.get("events", 0))
    says = _("Recorded since the tower was started.") if taken else _("None since the tower was started.")
    return Said("good", says, count(taken), _("reports"))


#: Key of a check: its title and what is said of it, in the order of the page; others are not shown.
PARTS: Mapping[str, tuple[Promise | str, Callable[[Check], Said]]] = {
    "database": (gettext_lazy("Database"), _database),
    "redis": (gettext_lazy("Redis"), _redis),
    "sweeper": (gettext_lazy("Sweeper"), _sweeper),
    "commands": (gettext_lazy("Commands"), _commands),
    "consumer": (gettext_lazy("Queue of reports"), _consumer),
    "reports": (gettext_lazy("Reports"), _reports),
    "browsers": (gettext_lazy("Browsers"), _browsers),
    "disk": (gettext_lazy("Disk"), _disk),
}

#: What ``/readyz`` warns of, in words.
WARNINGS: Mapping[str, Promise | str] = {
    "sqlite_version": gettext_lazy(
        "This SQLite is older than 3.51.3, so it runs without its write-ahead log."
    ),
    "sqlite_synchronous": gettext_lazy(
        "SQLite does not wait for the disk: a power cut may take the last commits."
    ),
    "pg_synchronous_commit": gettext_lazy(
        "PostgreSQL does not wait for the disk: a power cut may take the last commits."
    ),
    "redis_persistence": gettext_lazy(
        "Redis keeps nothing on disk. Its commands are restored from the database after a restart."
    ),
    "redis_eviction": gettext_lazy(
        "Redis may drop keys when its memory is full. Set maxmemory-policy to noeviction."
    ),
    "debug": gettext_lazy("DEBUG is on. Failures show their inside to every visitor."),
}


def cards(checks: Mapping[str, Check]) -> list[Card]:
    """One card for each part that was looked at."""
    return [_card(key, checks[key]) for key in PARTS if key in checks]


def _card(key: str, check: Check) -> Card:
    title, tell = PARTS[key]
    try:
        said = tell(check)
    except (KeyError, TypeError, ValueError):
        # A probe that answers half must not take the other cards with it.
        said = Said("unknown", _("Not known now."))
    return Card(key, str(title), said.tone, said.says, said.big, said.unit)


def warnings(codes: Sequence[str]) -> list[str]:
    return [str(WARNINGS[code]) for code in codes if code in WARNINGS]


def in_short(found: Sequence[Card]) -> str:
    """The verdict beside the title; what is not known needs a look too."""
    bad = sum(card.tone != "good" for card in found)
    if not bad:
        return _("all is well")
    return ngettext("%s thing needs a look", "%s things need a look", bad) % count(bad)
