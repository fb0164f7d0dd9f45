"""Live sockets: who may open one, what they may say, and when they are closed (``docs/live.md``).

They know no group: each belongs to a feed of its process, which listens for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import orjson
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

from instances import reads
from instances.feed import Feed
from instances.hub import hub
from instances.live import warn_seldom
from instances.live_reads import in_database
from instances.runs_feed import Reader, RunsFeed
from instances.watcher import Watcher
from tower import metrics
from tower.access.matrix import allowed
from tower.access.principal import Principal
from tower.access.sessions import principal_of_session
from tower.access.tokens import principal_of_token
from tower.errors import NotFound

NOT_JSON, NOT_SIGNED_IN, NO_RIGHT, NO_SUCH_TRACE, TOO_MANY, UNAVAILABLE = 4400, 4401, 4403, 4404, 4429, 4503
TOO_LARGE = 1009
MOST_MESSAGES_A_SECOND = 100
#: A session that ended, a token that was revoked: the socket closes within a minute.
CHECK_SECONDS = 30.0
MOST_IN_VIEW = 500

#: Open sockets of this process by principal.
_open: Counter[str] = Counter()


# -- who asks


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    return {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope["headers"]}


def bearer_of(headers: Mapping[str, str]) -> str | None:
    kind, _, raw = headers.get("authorization", "").partition(" ")
    return raw.strip() if kind.lower() == "bearer" else None


def session_key_of(headers: Mapping[str, str]) -> str | None:
    return parse_cookie(headers.get("cookie", "")).get(settings.SESSION_COOKIE_NAME)


def origin_allowed(scope: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """The origin equals scheme, host and port of the request, or is named in ``TOWER_ORIGINS``.

    It may be absent where no cookie could speak for a browser: with a token, or without a session.
    """
    host = headers.get("host", "")
    # A foreign name that resolves to us would send itself as host and as origin.
    if not validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS):
        return False
    origin = headers.get("origin")
    if origin is None:
        return bearer_of(headers) is not None or session_key_of(headers) is None
    secure = settings.TOWER_HTTPS or scope.get("scheme") in {"wss", "https"}
    own = ("https" if secure else "http", *_host_and_port(f"//{host}", secure))
    return origin in settings.TOWER_ORIGINS or _parts(origin) == own


def _parts(origin: str) -> tuple[str, str, int] | None:
    scheme, rest, _ = origin.partition("://")
    if not rest or any(sign in origin.partition("://")[2] for sign in "/?#@"):
        return None
    return (scheme, *_host_and_port(f"//{origin.partition('://')[2]}", scheme == "https"))


def _host_and_port(url: str, secure: bool) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").lower(), parts.port or (443 if secure else 80)
    except ValueError:
        return "", 0


def principal_of(headers: Mapping[str, str]) -> Principal | None:
    """Who opens the socket: by token where one is sent, else by session. Reads the database each time."""
    raw = bearer_of(headers)
    return principal_of_session(session_key_of(headers)) if raw is None else principal_of_token(raw)


# -- sockets


class Refused(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class LiveConsumer(AsyncWebsocketConsumer):
    """Opens, checks, counts and closes; what is said on it is for those that inherit."""

    #: No channel of its own: where Redis is away, a consumer that listened to it would die.
    channel_layer_alias = "none"
    #: What the client may say: op → method.
    ops: ClassVar[Mapping[str, str]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.principal: Principal | None = None
        self.counted = ""
        self.checking: asyncio.Task[None] | None = None
        self.closed = False
        self._second, self._messages = 0, 0
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Also where the server cancels us without a disconnect.
            await self.gone()

    async def connect(self) -> None:
        headers = headers_of(self.scope)
        if not origin_allowed(self.scope, headers):
            metrics.WS_DROPPED.labels("origin").inc()
            await self.close()
            return
        # Accepted first: a browser cannot see why a handshake was refused.
        await self.accept()
        try:
            self.principal = await in_database(principal_of, headers)
            self._admit()
            await self.open()
        except Refused as refused:
            await self.drop(refused.code)
            return
        self.checking = asyncio.get_running_loop().create_task(self._check_always(headers))

    def _admit(self) -> None:
        if self.principal is None:
            raise Refused(NOT_SIGNED_IN)
        if not allowed(self.principal, "live"):
            raise Refused(NO_RIGHT)
        if (
            _open[self.principal.key] >= settings.TOWER_WS_PER_USER
            or _open.total() >= settings.TOWER_WS_PER_PROCESS
        ):
            raise Refused(TOO_MANY)
        self.counted = self.principal.key
        _open[self.counted] += 1
        metrics.WS_CONNECTIONS.inc()

    async def _check_always(self, headers: Mapping[str, str]) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                principal = await in_database(principal_of, headers)
            except Exception as error:
                warn_seldom("live check: %r", error)
                continue
            if principal is None or not allowed(principal, "live"):
                await self.drop(NO_RIGHT if principal else NOT_SIGNED_IN)
                return

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self.closed:
            return
        try:
            await self._hear(text_data)
        except Refused as refused:
            await self.drop(refused.code)

    async def _hear(self, text: str | None) -> None:
        if text is None:
            raise Refused(NOT_JSON)
        if len(text.encode(errors="replace")) > settings.TOWER_WS_MAX_MESSAGE_IN:
            raise Refused(TOO_LARGE)
        self._count()
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise Refused(NOT_JSON) from error
        if not isinstance(message, dict):
            raise Refused(NOT_JSON)
        op = message.get("op")
        if isinstance(op, str) and op in self.ops:
            await getattr(self, self.ops[op])(message)

    def _count(self) -> None:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._messages = second, 0
        self._messages += 1
        if self._messages > MOST_MESSAGES_A_SECOND:
            metrics.WS_DROPPED.labels("messages").inc()
            raise Refused(TOO_MANY)

    async def tell(self, text: str) -> None:
        """Send, unless the socket is on its way out."""
        if not self.closed:
            with contextlib.suppress(Exception):
                await self.send(text_data=text)

    async def drop(self, code: int) -> None:
        if not self.closed:
            self.closed = True
            with contextlib.suppress(Exception):
                await self.close(code=code)

    async def gone(self) -> None:
        self.closed = True
        if self.checking is not None:
            self.checking.cancel()
            self.checking = None
        if self.counted:
            _open[self.counted] -= 1
            if not _open[self.counted]:
                del _open[self.counted]
            self.counted = ""
            metrics.WS_CONNECTIONS.dec()
        await self.let_go()

    async def open(self) -> None:
        """Admitted: find what it is about, or raise ``Refused``."""

    async def let_go(self) -> None:
        """Gone, maybe for the second time."""


class TraceConsumer(LiveConsumer):
    """One trace: snapshot over HTTP, the changes here."""

    ops: ClassVar[Mapping[str, str]] = {
        "sub": "subscribe",
        "since": "catch_up",
        "ack": "acknowledge",
        "focus": "look_at",
        "ping": "answer",
    }
    feed: Feed | None = None
    subscribed = False

    async def open(self) -> None:
        self.watcher = Watcher(self.tell, self.drop)
        try:
            head = await in_database(reads.head, self.scope["url_route"]["kwargs"]["trace_id"])
            self.feed = await hub().watch(head.number)
        except NotFound as error:
            raise Refused(NO_SUCH_TRACE) from error
        except Exception as error:
            warn_seldom("live socket: %r", error)
            raise Refused(UNAVAILABLE) from error
        if self.feed is None:
            raise Refused(NO_SUCH_TRACE)

    async def let_go(self) -> None:
        feed, self.feed = self.feed, None
        if feed is not None:
            await hub().leave(feed, self.watcher)

    async def subscribe(self, message: dict[str, Any]) -> None:
        if self.feed is None or self.subscribed:
            return
        self.subscribed = True
        epoch = message.get("epoch")
        await self.feed.greet(
            self.watcher, number_in(message, "since"), epoch if isinstance(epoch, str) else None
        )

    async def catch_up(self, message: dict[str, Any]) -> None:
        since = number_in(message, "seq")
        if self.feed is not None and self.subscribed and since is not None:
            await self.feed.resync(self.watcher, since)

    async def acknowledge(self, message: dict[str, Any]) -> None:
        seq = number_in(message, "seq")
        if seq is not None:
            await self.watcher.ack(seq)

    async def look_at(self, message: dict[str, Any]) -> None:
        n = number_in(message, "n")
        if self.feed is not None and self.subscribed and (n is None or n <= reads.MASK):
            await self.feed.focus(self.watcher, n)

    async def answer(self, _message: dict[str, Any]) -> None:
        if self.feed is not None:
            await self.tell(self.feed.beat())


class RunsConsumer(LiveConsumer):
    """The list of runs: rows in view that change."""

    ops: ClassVar[Mapping[str, str]] = {"sub": "show"}
    runs: RunsFeed | None = None

    async def open(self) -> None:
        self.reader = Reader(self.tell)
        self.runs = runs_feed()

    async def let_go(self) -> None:
        runs, self.runs = self.runs, None
        if runs is not None:
            runs.readers.discard(self.reader)
            if not runs.readers:
                await hub().remove(runs)

    async def show(self, message: dict[str, Any]) -> None:
        asked = message.get("traces")
        ids = [id for id in asked if isinstance(id, str)] if isinstance(asked, list) else []
        if self.runs is not None:
            hub().add(self.runs)
            after = message.get("after")
            await self.runs.show(self.reader, ids[:MOST_IN_VIEW], after if isinstance(after, str) else None)


def runs_feed() -> RunsFeed:
    """That of the running loop, listening or not."""
    found = hub().runs
    if found is None:
        found = hub().runs = RunsFeed(hub())
    assert isinstance(found, RunsFeed)
    return found


def number_in(message: Mapping[str, Any], name: str) -> int | None:
    value = message.get(name)
    return value if type(value) is int and 0 <= value < 1 << 63 else None
