"""Requests that are too large, too slow or contradictory: raw sockets against a real process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests import servers

MEBIBYTE = 1 << 20
LIMIT = 16 * MEBIBYTE


@dataclass
class Web:
    port: int
    process: subprocess.Popen[bytes]
    token: str

    def head(self, *lines: str, path: str = "/api/v1/events/") -> bytes:
        head = [
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {self.token}",
            "Content-Type: application/json",
            *lines,
        ]
        return ("\r\n".join(head) + "\r\n\r\n").encode()

    def raw(self, *parts: bytes) -> bytes:
        """All that is answered to these bytes; nothing where the line is cut before."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as line:
            with contextlib.suppress(OSError):  # cut while we still send; an answer may be there all the same
                for part in parts:
                    line.sendall(part)
            with contextlib.suppress(OSError):
                while part := line.recv(65536):
                    answer += part
        return answer

    def say(self, *parts: bytes) -> tuple[int, Any]:
        """(status, body) of the answer; status 0 for none."""
        head, _, body = self.raw(*parts).partition(b"\r\n\r\n")
        status = int(head.split()[1]) if head else 0
        return status, json.loads(body) if body.startswith(b"{") else body

    def rss_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def web(own_database: str) -> Iterator[Web]:
    """The web process alone, with a second to receive a request in."""
    port = servers.free_port()
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
            "TOWER_HOME": home,
            "TOWER_BIND": f"127.0.0.1:{port}",
            "TOWER_REQUEST_TIMEOUT": "1",
            "DATABASE_URL": own_database,
        }
        manage = [sys.executable, str(servers.ROOT / "manage.py")]
        subprocess.run([*manage, "migrate", "-v0"], env=environment, check=True)
        made = subprocess.run(
            [*manage, "create_token", "limits", "--scopes", "ingest,read"],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        process = subprocess.Popen([*manage, "web"], env=environment, stderr=subprocess.DEVNULL)
        try:
            servers.until(lambda: servers.answers(port), "web listens")
            yield Web(port, process, made.stdout.split()[-1])
        finally:
            process.terminate()
            assert process.wait(15) == 0


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


def test_b7_a_declared_length_over_the_limit_is_refused_at_once(web):
    status, body = web.say(web.head(f"Content-Length: {LIMIT + 1}"), b"[")

    assert status == 413
    assert body["error"]["code"] == "body_too_large"
    assert body["error"]["details"] == {"limit": LIMIT}


def test_b7_a_sender_that_goes_on_still_gets_the_answer(web):
    status, _ = web.say(web.head(f"Content-Length: {LIMIT + MEBIBYTE}"), b" " * (LIMIT + MEBIBYTE))

    assert status == 413


def test_b7_a_refused_sender_that_waits_for_a_go_ahead_gets_none(web):
    status, _ = web.say(web.head(f"Content-Length: {LIMIT + 1}", "Expect: 100-continue"))

    assert status == 413


def test_b7_a_length_at_the_limit_is_read(web):
    status, body = web.say(
        web.head(f"Content-Length: {LIMIT}", "Connection: close"), b"[" + b" " * (LIMIT - 2) + b"]"
    )

    assert status == 200, body


def test_b7_a_false_length_ends_the_body_where_it_says(web):
    status, body = web.say(web.head("Content-Length: 1", "Connection: close"), b"[]")

    assert status == 400
    assert body["error"]["code"] == "invalid_json"


def test_b7_a_chunked_body_is_read(web):
    status, body = web.say(web.head("Transfer-Encoding: chunked", "Connection: close"), chunked(b"[", b"]"))

    assert status == 200
    assert body["accepted"] == 0


def test_b7_a_chunked_body_ends_at_the_limit_in_flat_memory(web):
    before = web.rss_bytes()

    status, body = web.say(
        web.head("Transfer-Encoding: chunked"), *[b"100000\r\n" + b" " * MEBIBYTE + b"\r\n"] * 40
    )

    assert status in {413, 0}  # 0: cut off while we still sent
    if status:
        assert body["error"]["code"] == "body_too_large"
    assert web.rss_bytes() - before < 2 * LIMIT


def test_b11_a_body_that_takes_too_long_is_refused(web):
    status, body = web.say(web.head("Content-Length: 100"), b"[")

    assert status == 408
    assert body["error"]["code"] == "request_timeout"


def test_b11_headers_that_take_too_long_are_refused(web):
    status, _ = web.say(b"POST /api/v1/events/ HTTP/1.1\r\nHost: ")

    assert status == 408


def test_b65_a_length_and_chunks_at_once_are_refused(web):
    status, _ = web.say(web.head("Content-Length: 2", "Transfer-Encoding: chunked"), b"[]")

    assert status == 400


def test_b65_two_lengths_are_refused(web):
    status, _ = web.say(web.head("Content-Length: 2", "Content-Length: 3"), b"[]")

    assert status == 400


@pytest.mark.parametrize(
    "lines", [("X-Long: " + "a" * 17_000,), tuple(f"X-{i}: {'a' * 1000}" for i in range(17))]
)
def test_b65_headers_over_16_kib_are_refused(web, lines):
    status, _ = web.say(web.head(*lines))

    assert status in {400, 0}


def test_b65_a_path_that_is_not_ascii_is_refused_without_naming_the_server(web):
    status, body = web.say(web.head("Content-Length: 2", "Connection: close", path="/\xe9/"), b"[]")

    assert status == 400
    assert b"aphne" not in json.dumps(body, default=repr).encode()


@pytest.fixture
def live(web):
    """An open websocket of the list of runs."""
    headers = {"Authorization": f"Bearer {web.token}"}
    with connect(f"ws://127.0.0.1:{web.port}/ws/traces/", additional_headers=headers, proxy=None) as line:
        yield line


def test_b69_a_message_of_64_kib_is_read(live):
    live.send('{"op":"nothing","x":"' + "x" * (64 * 1024 - 23) + '"}')

    assert live.ping().wait(20)  # answered behind it: an unknown op is ignored, and the line stays open


def test_b69_a_message_over_64_kib_ends_its_websocket(live):
    live.send("x" * (64 * 1024 + 1))

    with pytest.raises(ConnectionClosed) as closed:
        live.recv(timeout=20)
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1009


def test_no_websocket_handshake_names_the_server(live):
    assert "server" not in live.response.headers


def test_no_answer_names_the_server(web):
    host = f"Host: 127.0.0.1:{web.port}"

    answer = web.raw(f"GET /healthz HTTP/1.1\r\n{host}\r\nConnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nserver:" not in answer.lower()


def test_a_connection_serves_one_request_after_the_other(web):
    first, last = web.head("Content-Length: 2"), web.head("Content-Length: 2", "Connection: close")

    answer = web.raw(first + b"[]" + last + b"[]")

    assert answer.count(b"HTTP/1.1 200") == 2


def test_an_answer_says_how_long_it_is_and_has_a_body_where_one_may_be(web):
    def asked(first_line: str) -> tuple[bytes, bytes]:
        text = f"{first_line}\r\nHost: 127.0.0.1:{web.port}\r\nConnection: close\r\n\r\n"
        head, _, body = web.raw(text.encode()).partition(b"\r\n\r\n")
        return head.lower(), body

    (got, body), (head, nothing) = asked("GET /healthz HTTP/1.1"), asked("HEAD /healthz HTTP/1.1")
    old, old_body = asked("GET /healthz HTTP/1.0")

    assert b"content-length: %d\r\n" % len(body) in got + b"\r\n"
    assert b"connection: close" in got
    assert b"200" in head.split(b"\r\n")[0]
    assert nothing == b""
    assert b"200" in old.split(b"\r\n")[0]
    assert old_body == body


def test_what_was_asked_behind_answers_that_are_read_late_is_answered(web):
    many = 100  # what Twisted takes in before it waits for the first answer to be written
    one = web.head(path="/api/v1/schema/").replace(b"POST", b"GET", 1)
    one = one.replace(b"Content-Type: application/json\r\n", b"")
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        line.sendall(one * (many - 1) + last)
        web.raw(last)  # the answers behind the first ones wait by now
        received = b""
        while part := line.recv(1 << 16):
            received += part

    assert received.count(b"HTTP/1.1 200") == many


def test_who_never_reads_the_answers_is_cut_off(web):
    one = web.head(path="/api/v1/schema/").replace(b"POST", b"GET", 1)

    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(one * 150)
        gone = select.poll()
        gone.register(line, select.POLLHUP | select.POLLERR)

        assert gone.poll(30_000)


def test_a_client_does_not_say_where_the_tower_is_mounted(web):
    head = f"GET /api/healthz HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nConnection: close\r\n"

    answer = web.raw(f"{head}Daphne-Root-Path: /api\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 404")


def test_b69_messages_faster_than_they_are_read_end_their_socket_in_flat_memory(web, live):
    before = web.rss_bytes()
    message = json.dumps({"op": "sub", "traces": ["x"] * 500, "pad": "x" * 60_000})

    with pytest.raises(ConnectionClosed) as closed:
        for _ in range(3_000):
            live.send(message)

    assert closed.value.rcvd is None or closed.value.rcvd.code == 4429
    assert web.rss_bytes() - before < 40 * MEBIBYTE


def test_a_socket_that_asks_and_never_reads_is_cut_off_in_flat_memory(web):
    before = web.rss_bytes()
    ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
    upgrade = [
        "GET /ws/traces/ HTTP/1.1",
        f"Host: 127.0.0.1:{web.port}",
        f"Authorization: Bearer {web.token}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]

    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.sendall(("\r\n".join(upgrade) + "\r\n\r\n").encode())
        assert line.recv(12) == b"HTTP/1.1 101"
        with pytest.raises(OSError):
            for _ in range(2_000):  # 250 MiB
                line.sendall(ping * 1_000)

    assert web.rss_bytes() - before < 40 * MEBIBYTE
