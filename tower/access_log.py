"""One line and one count for each request and each websocket, whatever became of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse

from tower import logs, metrics

log = logging.getLogger("tower.access_log")

#: A client may send any word as its method; a label must not grow with it.
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
#: Asked every few seconds by machines.
QUIET = {"healthz", "readyz", "metrics"}
#: What they took stands word for word in the log of events; a line each would be 8 % of a small request.
KEPT = {"api:events"}
#: The token of the simulated actors of ``up --demo``: ten requests a second that nobody wants to read.
DEMO_FLEET = "demo fleet"


class Observed:
    """Around the whole application: notes, access line, counters."""

    def __init__(self, application: Callable[..., Awaitable[None]]) -> None:
        self.application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.application(scope, receive, send)

    async def _request(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        notes, start = logs.begin(), time.perf_counter()
        status = 0  # no answer: the client went away, or the application failed

        async def sending(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.application(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - start
            route, method = str(notes.get("route", "")), scope["method"]
            metrics.HTTP_REQUESTS.labels(route, method if method in METHODS else "other", str(status)).inc()
            metrics.HTTP_SECONDS.labels(route).observe(seconds)
            level = level_of(notes, status)
            if log.isEnabledFor(level):
                log.log(level, "http_request", extra=line(scope, status, seconds))

    async def _socket(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        logs.begin()
        start, code = time.perf_counter(), 0

        async def receiving() -> dict[str, Any]:
            nonlocal code
            message: dict[str, Any] = await receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code") or 0
            return message

        log.info("ws_opened", extra=line(scope))
        try:
            await self.application(scope, receiving, send)
        finally:
            log.info("ws_closed", extra=line(scope, code, time.perf_counter() - start))


def level_of(notes: Mapping[str, Any], status: int) -> int:
    """What went well and was asked by a machine of ours is not for the eye; each failure is."""
    demo = notes.get("token_name") == DEMO_FLEET and 200 <= status < 400
    asked = notes.get("route") in QUIET | KEPT and status == 200
    return logging.DEBUG if demo or asked else logging.INFO


def line(scope: dict[str, Any], status: int | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Without the query: it may hold what people searched for."""
    client = scope.get("client")
    return {
        "method": scope.get("method"),
        "path": scope["path"],
        "status": status,
        "duration_ms": None if seconds is None else round(seconds * 1000, 1),
        "client": client[0] if client else None,
    }


class Routed:
    """Middleware: notes the name of the route, and who asks where a session says so."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        match = request.resolver_match
        if match is not None:
            logs.note(route=match.view_name or match.route, **about(match.kwargs))


def about(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: kwargs[name] for name in ("trace_id", "task_id") if name in kwargs}
