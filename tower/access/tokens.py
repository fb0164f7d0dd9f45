"""Tokens of programs: ``ctw_``, 30 random characters, and 6 that check them. Kept as SHA-256, shown once."""

from __future__ import annotations

import logging
import re
import secrets
import zlib
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError

from tower.access.models import Token
from tower.access.principal import Principal

SCOPES = ("read", "ingest", "control", "admin")
PREFIX = "ctw_"
#: What secret scanners look for.
SHAPE = re.compile(r"ctw_[0-9A-Za-z]{36}")
#: As long as a token lives unless somebody says otherwise.
DAYS = 365

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM, _CHECK = 30, 6
_log = logging.getLogger("tower.access")


def make_token(name: str, scopes: Collection[str], days: int | None = DAYS) -> str:
    """Make a token and give it back: the only time that anyone sees it."""
    unknown = set(scopes) - set(SCOPES)
    if unknown or not scopes:
        given = ", ".join(sorted(unknown)) or "none"
        raise ValueError(f"A token has some of the scopes {', '.join(SCOPES)}, not {given}.")
    random = "".join(secrets.choice(_BASE62) for _ in range(_RANDOM))
    raw = PREFIX + random + _check(random)
    Token.objects.create(
        name=name,
        digest=Token.digest_of(raw),
        last_four=raw[-4:],
        scopes=" ".join(scope for scope in SCOPES if scope in scopes),
        expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
    )
    return raw


def well_formed(raw: str) -> bool:
    """Whether the check characters fit: a mistyped token is refused without a query."""
    if not SHAPE.fullmatch(raw):
        return False
    random = raw[len(PREFIX) : -_CHECK]
    return secrets.compare_digest(raw[-_CHECK:], _check(random))


def principal_of_token(raw: str) -> Principal | None:
    """Who holds this token; None where it is mistyped, unknown, expired or revoked."""
    return principals_of_tokens([raw])[raw]


def principals_of_tokens(raws: Collection[str]) -> dict[str, Principal | None]:
    """The same for several, by one query."""
    digests = {Token.digest_of(raw): raw for raw in raws if well_formed(raw)}
    found: dict[str, Principal | None] = dict.fromkeys(raws)
    now = datetime.now(UTC)
    for token in Token.objects.filter(digest__in=digests) if digests else ():
        if token.revoked_at or (token.expires_at and token.expires_at <= now):
            continue
        _used(token, now)
        scopes = frozenset(token.scopes.split())
        found[digests[token.digest]] = Principal(token.name, True, scopes, frozenset(), f"token:{token.pk}")
    return found


def _used(token: Token, now: datetime) -> None:
    """Note the use, to the minute: a write a minute, not one a request."""
    minute = now.replace(second=0, microsecond=0)
    if token.last_used_at is not None and token.last_used_at >= minute:
        return
    try:
        # Of the requests of one minute the first one writes; the rest match no row.
        Token.objects.filter(pk=token.pk).exclude(last_used_at__gte=minute).update(last_used_at=minute)
    except DatabaseError as error:  # a busy database must not refuse who may come in
        _log.warning("token_use_not_noted", extra={"error": type(error).__name__})


def _check(random: str) -> str:
    value, digits = zlib.crc32(random.encode()), []
    for _ in range(_CHECK):
        value, digit = divmod(value, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
