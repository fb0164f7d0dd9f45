"""Settings that must agree: found by ``manage.py check`` and at each start, not by some request."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import Error, register, run_checks

from tower.binding import Refused

TAG = "tower"

#: The first of two may not exceed the second.
AT_MOST = (
    ("TOWER_PAGE_SIZE", "TOWER_PAGE_SIZE_MAX"),
    ("TOWER_MAX_TEXT_BYTES", "TOWER_MAX_PAYLOAD_BYTES"),
    ("TOWER_MAX_PAYLOAD_BYTES", "TOWER_MAX_BODY_BYTES"),
    ("TOWER_MAX_PARAMS_BYTES", "TOWER_MAX_BODY_BYTES"),
    ("TOWER_INGEST_PER_TOKEN", "TOWER_INGEST_INFLIGHT"),
    ("TOWER_WS_PER_USER", "TOWER_WS_PER_PROCESS"),
)


@register(TAG)
def limits_agree(**_: Any) -> list[Error]:
    return [
        Error(f"{less} is {getattr(settings, less)}, more than {more}, which is {getattr(settings, more)}.")
        for less, more in AT_MOST
        if getattr(settings, less) > getattr(settings, more)
    ]


@register(TAG)
def hosts_are_named(**_: Any) -> list[Error]:
    if "*" in settings.ALLOWED_HOSTS:
        return [Error("ALLOWED_HOSTS is *: links and origins would follow whatever a request says.")]
    return []


def refuse_what_disagrees() -> None:
    """One sentence for who starts the tower."""
    if found := run_checks(tags=[TAG]):
        raise Refused(" ".join(str(message.msg) for message in found))
