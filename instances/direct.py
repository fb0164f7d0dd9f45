"""Reports and registrations in front of Django: what actors send all day, without a thread of its own.

A request that is plain (POST, a token, ``application/json``) is answered here, by the functions that the
views of ``instances.api`` call; any other is handed to Django, whose view stays the reference:
``tests/test_direct.py`` holds both to one table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

from django.conf import settings
from django.http import HttpResponse
from django.http.request import split_domain_port, validate_host

from instances import api, ingest
from instances.ingest import Request
from instances.reader import Reader
from tower import error_pages, logs, reading
from tower.access import limits
from tower.access.gate import Gate
from tower.access.matrix import holds, right_of
from tower.access.principal import Principal
from tower.api import as_refusal, error_answer, known, lacking
from tower.middleware import framed

log = logging.getLogger("tower.direct")
Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Read = Callable[[list[Any]], Request[Any]]

#: path → (route, what reads its items, what writes its answer).
DOORS: Mapping[str, tuple[str, Read, Callable[[Any], HttpResponse]]] = {
    "/api/v1/events/": ("api:events", ingest.reports_in, api.reported),
    "/api/v1/tasks/": ("api:tasks", ingest.registrations_in, api.registered),
}
#: The headers of which only these values are plain.
PLAIN: Mapping[bytes, frozenset[bytes]] = {
    b"content-type": frozenset(
        {b"application/json", b"application/json; charset=utf-8", b"application/x-ndjson"}
    ),
    b"content-encoding": frozenset({b"identity", b"gzip", b"zstd"}),
    b"accept": frozenset({b"*/*", b"application/json", b"application/json, */*"}),
}
#: A larger body is read in a thread, so that the loop goes on meanwhile (about 1 ms), and there by a process
#: beside (``reader``). One thread for all: several took turns at the interpreter's lock, before the write
#: threads (measured: 0.9 x the reports/s).
LARGE = 32 << 10


class Direct:
    def __init__(self, django: Application) -> None:
        self.django = django
        self.gate = Gate()
        self._reader = Reader()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tower-reader")
        self._begun = False

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        door = DOORS.get(scope["path"]) if scope["method"] == "POST" else None
        plain = _plain(scope) if door else None
        if door is None or plain is None:
            await self.django(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return
        route, read, written = door
        logs.note(route=route)
        try:
            principal = await self._let_in(plain.token, route)
            self._begin()
            with limits.in_flight.one(principal.key):
                small = len(body) <= LARGE and not plain.encoding
                handed = _read_here(read, body, plain) if small else await self._by_reader(read, body, plain)
                answer = written(await handed.arrived(principal.key))
        except Exception as error:
            answer = _refused(error)
        await _send(send, answer, scope["path"])

    def _begin(self) -> None:
        """With the first request, whatever its size: the process takes half a second to be there."""
        if not self._begun:
            self._begun = True
            self._thread.submit(self._reader.begin)

    async def _by_reader(self, read: Read, body: bytes, plain: Plain) -> Request[Any]:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, self._read_beside, read, body, plain
        )

    def _read_beside(self, read: Read, body: bytes, plain: Plain) -> Request[Any]:
        if read is ingest.reports_in:
            sent = self._reader.read(body, plain.encoding, plain.media_type)
            if sent is not None:
                return ingest.reports_of(sent, [])
        return _read_here(read, body, plain)

    async def _let_in(self, token: str, route: str) -> Principal:
        principal, right = known(await self.gate.principal(token)), right_of(route, "POST")
        if not holds(principal, right):
            raise lacking(right)
        limits.take(principal.key, route, "POST")
        return principal


class Plain(NamedTuple):
    token: str
    media_type: str
    encoding: str


def _read_here(read: Read, body: bytes, plain: Plain) -> Request[Any]:
    return read(reading.batch(reading.unpacked(body, plain.encoding), plain.media_type))


def _plain(scope: dict[str, Any]) -> Plain | None:
    """What has to be known of a plain request; None where Django has to look at it."""
    seen: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in seen and (name in PLAIN or name in {b"authorization", b"host"}):
            return None
        seen[name] = value
        if (plain := PLAIN.get(name)) is not None and value.lower() not in plain:
            return None
    kind, _, token = seen.get(b"authorization", b"").partition(b" ")
    host, _port = split_domain_port(seen.get(b"host", b"").decode("latin1"))
    if kind.lower() != b"bearer" or b"content-type" not in seen or scope.get("query_string"):
        return None
    if not host or not validate_host(host, settings.ALLOWED_HOSTS):
        return None
    media_type = seen[b"content-type"].decode().partition(";")[0].lower()
    encoding = seen.get(b"content-encoding", b"identity").decode().lower()
    return Plain(token.decode("latin1").strip(), media_type, "" if encoding == "identity" else encoding)


async def _body(receive: Any) -> bytes | None:
    """All of it; None where the client has gone. The server ends what is too long (``tower.server``)."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(parts)


def _refused(error: Exception) -> HttpResponse:
    found = as_refusal(error)
    if found is None:
        log.error("request_failed", exc_info=error)
        found = error_pages.broken(logs.request_id())
    return error_answer(found)


async def _send(send: Any, answer: HttpResponse, path: str) -> None:
    headers = [
        *_frame(path, settings.TOWER_HTTPS),
        (b"x-request-id", logs.request_id().encode()),
        *_raw(answer),
        (b"content-length", b"%d" % len(answer.content)),
    ]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": answer.content})


def _raw(answer: HttpResponse) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin1")) for name, value in answer.items()]


@cache
def _frame(path: str, https: bool) -> tuple[tuple[bytes, bytes], ...]:
    """What every answer carries, made once: it is the same for all of a door (30 us each time)."""
    own = {b"content-type", b"x-request-id"}
    return tuple(pair for pair in _raw(framed(HttpResponse(), path, "-")) if pair[0] not in own)
