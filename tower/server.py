"""daphne with the limits that it lacks: it takes in a body of any size, at any pace, before our code runs.

Importing this installs Twisted's asyncio reactor: only the process that serves does so.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any

import daphne.server  # first: it installs the reactor
from daphne.http_protocol import HTTPFactory, WebRequest
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol
from django.conf import settings
from twisted.internet import reactor as installed
from twisted.logger import globalLogBeginner

from tower import metrics
from tower.errors import TowerError

#: Twisted's type says module.
reactor: Any = installed
log = logging.getLogger("tower.server")

#: After a refusal the sender may still be writing; a close with unread bytes is a reset, and eats the answer.
LINGER_SECONDS = 2.0
#: What a signal finds under way may end; the supervisor kills after that.
LEAVE_SECONDS = 7.0
GOING_AWAY = 1001
#: Written and not taken off by the client: then the next request of the same line waits, and a socket ends.
MOST_UNSENT = 1 << 20
MOST_UNSENT_LIVE = 4 * settings.TOWER_WS_MAX_MESSAGE_OUT
#: A body of so many bytes is kept in memory as it comes, a larger one in a file. Twisted's own 100 kB is
#: half of a batch of 1,000; each read and write of a file lets go of the interpreter, and waits for it
#: behind the write threads.
IN_MEMORY = 512 << 10
#: A longer body is not copied behind its head.
WITH_HEAD = 64 << 10
#: Twisted's own 128 KiB is a turn of the loop each.
SENT_AT_ONCE = 1 << 20
#: Between two looks at whether it was taken off.
LOOK_SECONDS = 0.05
#: Messages of a socket that its consumer has not come to; as many as it takes in a second.
MOST_WAITING = 100
TOO_MANY = 4429

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus} | {413: b"Content Too Large"}


class LimitedRequest(WebRequest):
    """Ends at ``TOWER_MAX_BODY_BYTES``, declared or counted, and at ``TOWER_REQUEST_TIMEOUT``."""

    def __init__(self, channel: Any, queued: Any = False) -> None:
        # Twisted would parse forms by itself, into memory and without a limit of its own.
        super().__init__(channel, queued, parsePOSTFormSubmission=False)
        self.refused = False
        self._start: Mapping[str, Any] | None = None
        self._received = 0
        self._held: Any = None
        self._clock = reactor.callLater(settings.TOWER_REQUEST_TIMEOUT, self._too_slow)

    # -- Twisted's steps

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        if length is not None and length <= IN_MEMORY:
            self.content = BytesIO()
        if length is not None and length > settings.TOWER_MAX_BODY_BYTES:
            self._too_large()

    def handleContentChunk(self, data: bytes) -> None:
        if self.refused:
            return
        self._received += len(data)
        if self._received > settings.TOWER_MAX_BODY_BYTES:
            self._too_large()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self._stop_clock()
        if not self.refused:
            super().requestReceived(command, path, version)

    def process(self) -> None:
        # Twisted goes on to requests that came in one piece with this one, whether or not their answers
        # are read: 16 KiB of requests became gigabytes of answers.
        left = unsent(self.channel.transport)
        if self._held is None and left > MOST_UNSENT:
            self._held = reactor.callLater(LOOK_SECONDS, self._look, reactor.seconds(), left)
            return
        # By this daphne lets a client say at which path it is: one could go around the rules of a proxy.
        self.requestHeaders.removeHeader(b"Daphne-Root-Path")
        super().process()

    def _look(self, since: float, before: int) -> None:
        """Whether the client took something since; one that takes nothing is cut off."""
        left, now = unsent(self.channel.transport), reactor.seconds()
        if left <= MOST_UNSENT:
            self.process()
        elif left < before:
            self._held = reactor.callLater(LOOK_SECONDS, self._look, now, left)
        elif now - since > settings.TOWER_REQUEST_TIMEOUT:
            self.channel.transport.abortConnection()
        else:
            self._held = reactor.callLater(LOOK_SECONDS, self._look, since, left)

    def connectionLost(self, reason: Any) -> None:
        self._stop_clock()
        if self._held is not None and self._held.active():
            self._held.cancel()
        super().connectionLost(reason)

    # -- answers

    def handle_reply(self, message: Mapping[str, Any]) -> None:
        """Head and body together where the body comes in one piece."""
        if message["type"] == "http.response.start" and not self._response_started:
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None and not message.get("more_body") and self._may_be_whole(start["status"]):
            self._answer(start, message.get("body", b""))
            return
        if start is not None:
            super().handle_reply(start)
        super().handle_reply(message)

    def _may_be_whole(self, status: int) -> bool:
        bodiless = status < 200 or status in {204, 304} or self.method == b"HEAD"
        return self.clientproto == b"HTTP/1.1" and not bodiless

    def _answer(self, start: Mapping[str, Any], body: bytes) -> None:
        """Written at once: Twisted would walk over each header twice, and ask the loop for a socket that
        takes bytes and wait for a turn (a sixth of what a small request costs)."""
        if self.finished or self.channel is None:
            return
        self._response_started, self.startedWriting, self.code = True, 1, start["status"]
        parts = [b"HTTP/1.1 %d %s\r\n" % (self.code, PHRASES.get(self.code, b"Unknown"))]
        counted = False
        # No line break is in them: Django refuses one in a header, and the others are our own.
        for name, value in start.get("headers", ()):
            parts += name, b": ", value, b"\r\n"
            counted = counted or name.lower() == b"content-length"
        for name, values in self.responseHeaders.getAllRawHeaders():  # Connection: close
            parts += (b"%s: %s\r\n" % (name, value) for value in values)
        if not counted:
            parts.append(b"Content-Length: %d\r\n" % len(body))
        parts.append(b"\r\n")
        if len(body) <= WITH_HEAD:
            parts.append(body)
        write_now(self.channel.transport, b"".join(parts))
        if len(body) > WITH_HEAD:
            write_now(self.channel.transport, body)
        self.finish()

    # -- refusals

    def _too_large(self) -> None:
        limit = settings.TOWER_MAX_BODY_BYTES
        self.refuse(
            TowerError(
                f"A body has at most {limit} bytes.", code="body_too_large", http_status=413, limit=limit
            )
        )

    def _too_slow(self) -> None:
        seconds = settings.TOWER_REQUEST_TIMEOUT
        self.refuse(
            TowerError(
                f"A request must arrive within {seconds} s.",
                code="request_timeout",
                http_status=408,
                seconds=seconds,
            )
        )

    def refuse(self, error: TowerError) -> None:
        """Answer although the request is not complete, read no more of it into memory, and close."""
        self.refused = True
        self._stop_clock()
        self.content.close() if self.content else None
        # The channel would say "100 Continue" behind this answer.
        self.requestHeaders.removeHeader(b"Expect")
        channel = self.channel
        for receiver in ("dataReceived", "rawDataReceived", "lineReceived"):
            setattr(channel, receiver, discard)
        channel.setTimeout(None)
        channel.transport.write(complete_answer(error))
        half_close = getattr(channel.transport, "loseWriteConnection", None)
        if half_close is not None:
            half_close()
        reactor.callLater(LINGER_SECONDS, channel.transport.loseConnection)
        metrics.REJECTED.labels(error.code).inc()
        metrics.HTTP_REQUESTS.labels("", "", str(error.http_status)).inc()
        log.info("http_refused", extra={"status": error.http_status, "code": error.code})

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        code = "internal" if status >= 500 else "bad_request"
        message = "Something went wrong here." if status >= 500 else body
        answer = envelope(TowerError(message, code=code, http_status=status))
        headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(answer))]
        self.handle_reply({"type": "http.response.start", "status": status, "headers": headers})
        self.handle_reply({"type": "http.response.body", "body": answer})

    def _stop_clock(self) -> None:
        if self._clock.active():
            self._clock.cancel()


class LimitedSocket(WebSocketProtocol):
    """Ends where either side lets too much wait: daphne keeps it all, to the last of the memory."""

    flooded = False

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self.flooded:
            return
        if self.application_queue.qsize() >= MOST_WAITING:
            self.flooded = True
            metrics.WS_DROPPED.labels("messages").inc()
            while not self.application_queue.empty():
                self.application_queue.get_nowait()
            self.sendClose(code=TOO_MANY)
            return
        super().onMessage(payload, isBinary)

    def sendData(self, *args: Any, **kwargs: Any) -> None:
        super().sendData(*args, **kwargs)
        if unsent(self.transport) > MOST_UNSENT_LIVE and not self.wasClean and not self.flooded:
            self.flooded = True
            metrics.WS_DROPPED.labels("slow").inc()
            self.dropConnection(abort=True)


def unsent(transport: Any) -> int:
    """Bytes that were written and that the kernel has not taken."""
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def write_now(transport: Any, data: bytes) -> None:
    """As much as the kernel takes at once, if nothing waits before it; the rest by Twisted."""
    transport.SEND_LIMIT = SENT_AT_ONCE
    waits = unsent(transport) or transport.disconnecting or not transport.connected
    sent = None if waits else transport.writeSomeData(data)
    if not isinstance(sent, int):  # or the line is lost, which Twisted finds out by itself
        transport.write(data)
    elif sent < len(data):
        # As ``write`` does it, but without two copies of what is left, which may be 16 MiB.
        transport.dataBuffer, transport.offset = data, sent
        transport._maybePauseProducer()
        transport.startWriting()


def discard(_data: bytes) -> None:
    pass


def envelope(error: TowerError) -> bytes:
    import orjson

    return orjson.dumps({"error": error.as_json()})


def complete_answer(error: TowerError) -> bytes:
    body = envelope(error)
    return (
        b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        % (error.http_status, PHRASES[error.http_status], len(body))
    ) + body


class Factory(HTTPFactory):
    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = LimitedRequest
        return protocol

    def log(self, request: Any) -> None:
        """Nothing: Twisted would format a line (6 % of a small request) that ``tower.access_log`` writes."""


class TowerServer(Server):
    """Serves on a socket that was bound before and outlives it; a signal lets what runs finish."""

    def __init__(self, application: Any, listening: socket.socket, ready: Callable[[], None]) -> None:
        super().__init__(
            application,
            endpoints=[listening],
            signal_handlers=False,
            server_name="",
            websocket_max_message_size=settings.TOWER_WS_MAX_MESSAGE_IN,
            websocket_max_frame_size=settings.TOWER_WS_MAX_MESSAGE_IN,
            # A body is handed over in one piece; it is here already.
            request_buffer_size=settings.TOWER_MAX_BODY_BYTES + 1,
        )
        self.listening = listening
        self.ready = ready
        self.ports: list[Any] = []
        self.leaving = False

    def run(self) -> None:
        """daphne's own, but for the factory, the socket and the signals."""
        self.connections: dict[Any, dict[str, Any]] = {}
        self.http_factory = Factory(self)
        self.ws_factory = WebSocketFactory(self, server=self.server_name)
        self.ws_factory.protocol = LimitedSocket
        self.ws_factory.setProtocolOptions(
            autoPingTimeout=self.ping_timeout,
            allowNullOrigin=True,  # origins are judged by instances.routing
            openHandshakeTimeout=self.websocket_handshake_timeout,
            maxMessagePayloadSize=self.websocket_max_message_size,
            maxFramePayloadSize=self.websocket_max_frame_size,
            failByDrop=False,  # else a message that is too large ends the line without the code 1009
        )
        observer: Any = nobody
        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
        reactor.callLater(1, self.application_checker)
        reactor.callLater(2, self.timeout_checker)
        # Twisted accepts until nobody is left: on a blocking socket it would wait for the next for ever.
        self.listening.setblocking(False)
        port = reactor.adoptStreamPort(self.listening.fileno(), self.listening.family, self.http_factory)
        self.ports.append(port)
        daphne.server.asyncio.set_event_loop(reactor._asyncioEventloop)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: reactor.callFromThread(self.leave))
        reactor.callWhenRunning(self.ready)
        reactor.run(installSignalHandlers=False)

    def create_application(self, protocol: Any, scope: Any) -> Any:
        queue = super().create_application(protocol, scope)
        details = self.connections.get(protocol)
        if details is not None:
            details["application_instance"].add_done_callback(lambda _: self._reap(protocol))
        return queue

    def protocol_disconnected(self, protocol: Any) -> None:
        if protocol in self.connections:
            super().protocol_disconnected(protocol)
            self._reap(protocol)

    def _reap(self, protocol: Any) -> None:
        """Forget what has ended, at once: daphne's ``application_checker`` would walk over a second's
        requests each second (9 % of a small one). That still kills what does not end."""
        details = self.connections.get(protocol)
        if details is None:
            return
        running = details.get("application_instance")
        if running is not None and running.done():
            del details["application_instance"]
            if not running.cancelled() and (error := running.exception()) is not None:
                log.error("application_failed", exc_info=error)
                if "disconnected" not in details:
                    protocol.handle_exception(error)
            running = None
        if running is None and "disconnected" in details:
            self.connections.pop(protocol, None)

    def leave(self) -> None:
        """Take no new connection, let requests end, tell sockets to come again; the second time at once."""
        if self.leaving:
            reactor.stop()
            return
        self.leaving = True
        for port in self.ports:
            port.stopListening()
        for protocol in list(self.connections):
            if isinstance(protocol, WebSocketProtocol) and protocol.state == protocol.STATE_OPEN:
                protocol.serverClose(code=GOING_AWAY)
        self._stop_when_idle(reactor.seconds() + LEAVE_SECONDS)

    def _stop_when_idle(self, deadline: float) -> None:
        if not self._busy() or reactor.seconds() > deadline:
            reactor.stop()
        else:
            reactor.callLater(0.05, self._stop_when_idle, deadline)

    def _busy(self) -> bool:
        return any(
            "application_instance" in details and not details["application_instance"].done()
            for protocol, details in self.connections.items()
            if isinstance(protocol, WebRequest)
        )


def nobody(_event: Any) -> None:
    """Listens to Twisted's own log: what matters of it reaches ours as exceptions."""
