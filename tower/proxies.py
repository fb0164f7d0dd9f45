"""Whose word about a client's address and scheme counts: our own proxies', by default nobody's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

from django.conf import settings

SECURE = {"http": "https", "ws": "wss", "https": "https", "wss": "wss"}


class Forwarded:
    """Puts what TOWER_TRUSTED_PROXIES proxies say in the place of the peer; all others look at the scope."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        proxies = settings.TOWER_TRUSTED_PROXIES
        if proxies and scope["type"] in {"http", "websocket"}:
            scope = {**scope, **believed(scope, proxies)}
        await self.application(scope, receive, send)


def believed(scope: dict[str, Any], proxies: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # Each proxy appends whom it saw: with n of them, the n-th from the right was written by the outermost.
    addresses = [part.strip() for part in header(scope, b"x-forwarded-for").split(",") if part.strip()]
    if len(addresses) >= proxies and is_address(addresses[-proxies]):
        found["client"] = [addresses[-proxies], 0]
    schemes = [part.strip() for part in header(scope, b"x-forwarded-proto").lower().split(",")]
    if schemes[-min(proxies, len(schemes))] == "https":
        found["scheme"] = SECURE[scope.get("scheme") or ("ws" if scope["type"] == "websocket" else "http")]
    return found


def header(scope: dict[str, Any], name: bytes) -> str:
    """All lines of that name as one."""
    return ",".join(value.decode("latin1") for key, value in scope["headers"] if key == name)


def is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
