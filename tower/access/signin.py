"""Failed sign-ins, counted in the database under row locks: parallel attempts cannot outrun the count."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest

from tower.access.models import SignInCount

WINDOW = timedelta(minutes=15)
#: Failures in a window, by what they have in common.
LIMITS: Mapping[str, int] = {"both": 5, "address": 20, "name": 100}


def keys(name: str, address: str) -> dict[str, str]:
    # Digests: a name may have any length, and the table need not tell who failed.
    return {
        "both": _key("both", name.lower(), address),
        "address": _key("address", address),
        "name": _key("name", name.lower()),
    }


def claim(name: str, address: str, now: datetime | None = None) -> int:
    """Take one of the attempts there are: 0, or the seconds until there is one again.

    An attempt counts as failed until ``succeeded`` says otherwise: who asks a
    hundred times at once gets five answers, not a hundred.
    """
    now = now or datetime.now(UTC)
    wanted = keys(name, address)
    with transaction.atomic():
        # The address first: one that is closed must not fill the table with names that it makes up.
        rows = _locked({"address": wanted.pop("address")}, now)
        if not (waits := _waits(rows, now)):
            rows |= _locked(wanted, now)
            waits = _waits(rows, now)
        if waits:
            return max(waits)
        for row in rows.values():
            fresh = row.window_start + WINDOW <= now
            row.failures = 1 if fresh else row.failures + 1
            row.window_start = now if fresh else row.window_start
        SignInCount.objects.bulk_update(rows.values(), ["failures", "window_start"])
    return 0


def succeeded(name: str, address: str) -> None:
    """Give the attempt back; what this name failed from this address is forgiven."""
    wanted = keys(name, address)
    SignInCount.objects.filter(key=wanted["both"]).delete()
    SignInCount.objects.filter(key__in=[wanted["address"], wanted["name"]]).update(
        failures=Greatest(F("failures") - 1, 0)
    )


def forget(now: datetime | None = None) -> int:
    """Drop the counts whose window is over; how many."""
    over = (now or datetime.now(UTC)) - WINDOW
    return SignInCount.objects.filter(window_start__lt=over).delete()[0]


def _locked(wanted: Mapping[str, str], now: datetime) -> dict[str, SignInCount]:
    """The counts, made where there are none, by kind. Always in the order of their keys."""
    SignInCount.objects.bulk_create(
        [SignInCount(key=key, window_start=now) for key in sorted(wanted.values())], ignore_conflicts=True
    )
    found = SignInCount.objects.select_for_update().filter(key__in=wanted.values()).order_by("key")
    rows = {row.key: row for row in found}
    return {kind: rows[key] for kind, key in wanted.items()}


def _waits(rows: Mapping[str, SignInCount], now: datetime) -> list[int]:
    return [wait for kind, row in rows.items() if (wait := _wait(row, LIMITS[kind], now))]


def _wait(row: SignInCount, limit: int, now: datetime) -> int:
    rest = row.window_start + WINDOW - now
    if row.failures < limit or rest <= timedelta(0):
        return 0
    return max(1, int(rest.total_seconds()))


def _key(kind: str, *parts: str) -> str:
    return f"{kind}:{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}"
