"""The way in front of Django and Django's own view: one table of requests, the same answers."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.db import OperationalError

from instances import ingest
from instances.direct import DOORS, Direct
from instances.models import Event, TaskInstance, Trace
from tower import faults, metrics
from tower.access import gate, tokens
from tower.access.models import Token
from tower.access.tokens import make_token
from tower.errors import Backpressure
from tower.onehop import OneHop
from tower.reading import zstd

pytestmark = pytest.mark.django_db(transaction=True)

Answer = tuple[int, dict[str, str], Any]
#: Differ from request to request, say something of pages, or what DRF says to everybody.
OWN_HEADERS = {"x-request-id", "vary", "content-language", "content-length", "allow"}


async def nobody(scope: dict[str, Any], receive: Any, send: Any) -> None:
    raise AssertionError("handed to Django")


def ask(
    application: Callable[..., Awaitable[None]],
    path: str,
    body: bytes,
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
    query: bytes = b"",
) -> Answer:
    sent = {"host": "testserver", "content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query,
        "http_version": "1.1", "scheme": "http", "client": ["127.0.0.1", 1], "server": ["testserver", 80],
        "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
    }  # fmt: skip

    async def asked() -> Answer:
        line = ApplicationCommunicator(application, scope)
        half = len(body) // 2
        await line.send_input({"type": "http.request", "body": body[:half], "more_body": True})
        await line.send_input({"type": "http.request", "body": body[half:]})
        start = await line.receive_output(20)
        said = b""
        while True:
            part = await line.receive_output(20)
            said += part.get("body", b"")
            if not part.get("more_body"):
                break
        await line.wait(20)
        shown = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        assert int(shown["content-length"]) == len(said)
        return start["status"], {k: v for k, v in shown.items() if k not in OWN_HEADERS}, json.loads(said)

    return asyncio.run(asked())


@pytest.fixture
def direct():
    made = Direct(nobody)
    yield made
    made.gate.close()


@pytest.fixture(params=["direct", "django"])
def way(request, direct):
    return direct if request.param == "direct" else OneHop()


@pytest.fixture
def bearer():
    return {"authorization": f"Bearer {make_token('actor', ['ingest'])}"}


def event(id: str, task: str = "a", **more: Any) -> dict[str, Any]:
    return {
        "event_id": id, "trace_id": "t", "task_id": task, "event_type": "STARTED", "timestamp_ms": 1_000,
        **more,
    }  # fmt: skip


def task(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "trace_id": "t", "job_id": "j", "actor_type": "EXECUTION", **more}


EVENTS, TASKS = DOORS
GOOD = json.dumps([event("e1"), event("e2", "b")]).encode()
SOME = json.dumps([event("e1"), event("e2", event_type="STOPPED"), 5]).encode()
LONG = json.dumps([event(f"e{k}") for k in range(999)]).encode()
NONE = json.dumps([event("e1", task_id="global_action")]).encode()

NDJSON = {"content-type": "application/x-ndjson"}

#: (name, path, body, headers over the plain ones, status).
TABLE: list[tuple[str, str, bytes, dict[str, str], int]] = [
    ("events that are taken", EVENTS, GOOD, {}, 200),
    ("one event alone", EVENTS, json.dumps(event("e1")).encode(), {}, 200),
    ("the same id twice", EVENTS, json.dumps([event("e1"), event("e1")]).encode(), {}, 200),
    ("some are refused", EVENTS, SOME, {}, 207),
    ("all are refused", EVENTS, NONE, {}, 400),
    ("an empty list", EVENTS, b"[]", {}, 200),
    ("a body that is read in a thread", EVENTS, LONG, {}, 200),
    ("tasks that are made", TASKS, json.dumps([task("a"), task("b", parent_id="a")]).encode(), {}, 201),
    ("tasks of which one is refused", TASKS, json.dumps([task("a"), task("-")]).encode(), {}, 207),
    ("no JSON", EVENTS, b'{"event_id"', {}, 400),
    ("nothing", EVENTS, b"", {}, 400),
    ("neither object nor list", EVENTS, b"7", {}, 400),
    ("too deep", EVENTS, b"[" * 300 + b"]" * 300, {}, 400),
    ("half a character", EVENTS, json.dumps(event("e1", payload={"a": "\ud800"})).encode(), {}, 400),
    ("too many items", EVENTS, b"[" + b"1," * 10_000 + b"1]", {}, 413),
    ("an unknown token", EVENTS, GOOD, {"authorization": "Bearer ctw_" + "0" * 36}, 401),
    ("no token", EVENTS, GOOD, {"authorization": "Bearer"}, 401),
    ("a charset", EVENTS, GOOD, {"content-type": "application/json; charset=utf-8"}, 200),
    ("an encoding that is none", EVENTS, GOOD, {"content-encoding": "identity"}, 200),
    ("a line each", EVENTS, b"\n".join(json.dumps(event(id)).encode() for id in "ab"), NDJSON, 200),
    ("a broken line", EVENTS, json.dumps(event("a")).encode() + b"\n{", NDJSON, 207),
    ("packed by gzip", EVENTS, gzip.compress(GOOD), {"content-encoding": "gzip"}, 200),
    ("packed by zstd", EVENTS, zstd.compress(GOOD), {"content-encoding": "zstd"}, 200),
    ("a bomb", EVENTS, gzip.compress(b" " * (20 << 20)), {"content-encoding": "gzip"}, 413),
    ("a packed body that is cut off", EVENTS, gzip.compress(GOOD)[:-2], {"content-encoding": "gzip"}, 400),
    ("another packing", EVENTS, GOOD, {"content-encoding": "gzip"}, 400),
    ("what is accepted", EVENTS, GOOD, {"accept": "application/json"}, 200),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_a_plain_request_is_answered_as_by_the_view(direct, bearer, path, body, headers, status):
    here = ask(direct, path, body, bearer | headers)
    stored = (Event.objects.count(), TaskInstance._base_manager.count())
    Event.objects.all().delete()
    TaskInstance._base_manager.all().delete()
    Trace.objects.all().delete()

    there = ask(OneHop(), path, body, bearer | headers)

    assert (here[0], there[0]) == (status, status)
    assert here[1] == there[1]
    assert here[2] == there[2]
    assert stored == (Event.objects.count(), TaskInstance._base_manager.count())


#: What is not plain goes to Django, which may have something to say of it.
STRANGE: list[tuple[str, dict[str, Any]]] = [
    ("another method", {"method": "GET"}),
    ("another path", {"path": "/api/v1/traces/"}),
    ("a path without its slash", {"path": "/api/v1/events"}),
    ("a query", {"query": b"x=1"}),
    ("a form", {"headers": {"content-type": "application/x-www-form-urlencoded"}}),
    ("no type", {"headers": {"content-type": ""}}),
    ("a packed body of another kind", {"headers": {"content-encoding": "br"}}),
    ("an answer in XML", {"headers": {"accept": "text/xml"}}),
    ("a foreign host", {"headers": {"host": "evil.example"}}),
    ("no host", {"headers": {"host": ""}}),
    ("a password", {"headers": {"authorization": "Basic eDp5"}}),
    ("nobody's word", {"headers": {"authorization": ""}}),
]


@pytest.mark.parametrize("what", [row[1] for row in STRANGE], ids=[row[0] for row in STRANGE])
def test_what_is_not_plain_is_handed_to_django(bearer, what):
    handed = []

    async def django(scope: dict[str, Any], receive: Any, send: Any) -> None:
        handed.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    ask(
        Direct(django), what.get("path", EVENTS), GOOD, bearer | what.get("headers", {}),
        method=what.get("method", "POST"), query=what.get("query", b""),
    )  # fmt: skip

    assert len(handed) == 1
    assert Event.objects.count() == 0


def test_a_token_without_the_scope_is_told_what_it_needs(way):
    headers = {"authorization": f"Bearer {make_token('reader', ['read'])}"}

    status, _, body = ask(way, EVENTS, GOOD, headers)

    assert (status, body["error"]["code"]) == (403, "forbidden")
    assert body["error"]["details"] == {"needs": {"scopes": ["ingest"], "role": "admin"}}


def test_a_revoked_token_is_refused_at_the_next_request(way, bearer):
    from django.utils import timezone

    assert ask(way, EVENTS, GOOD, bearer)[0] == 200
    Token.objects.update(revoked_at=timezone.now())

    status, headers, body = ask(way, EVENTS, GOOD, bearer)

    assert (status, body["error"]["code"]) == (401, "invalid_token")
    assert headers["www-authenticate"].startswith("Bearer")


def test_where_too_many_wait_it_says_when_to_come_again(way, bearer, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise Backpressure("Too many requests wait for the database; try again.")

    monkeypatch.setattr(ingest, "submit", full)

    status, headers, body = ask(way, EVENTS, GOOD, bearer)

    assert (status, body["error"]["code"], headers["retry-after"]) == (429, "backpressure", "1")


def test_a_full_disk_is_a_503_and_stores_nothing(way, bearer, monkeypatch):
    import errno

    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, "on purpose")

    monkeypatch.setattr(faults, "FAULTS", {"before_commit": [faults.Fault("", no_room, 0, 0)]})

    status, headers, body = ask(way, EVENTS, GOOD, bearer)

    assert (status, body["error"]["code"]) == (503, "storage_full")
    assert "retry-after" in headers
    assert Event.objects.count() == 0


def test_a_database_that_is_away_at_the_door_is_a_503(direct, bearer, monkeypatch):
    def away(_: Any) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(gate, "principals_of_tokens", away)

    status, _, body = ask(direct, EVENTS, GOOD, bearer)

    assert (status, body["error"]["code"]) == (503, "database_unavailable")


def test_a_fault_of_ours_is_a_500_that_names_the_request(direct, bearer, monkeypatch):
    monkeypatch.setattr(ingest, "read_events", None)

    status, _, body = ask(direct, EVENTS, GOOD, bearer)

    assert (status, body["error"]["code"]) == (500, "internal")
    assert "NoneType" not in json.dumps(body)


def test_a_connection_that_was_cut_while_nobody_asked_is_replaced(direct, bearer, monkeypatch):
    real = tokens.principals_of_tokens
    failed: list[int] = []

    def cut_once(raws: Any) -> Any:
        if not failed:
            failed.append(1)
            raise OperationalError("server closed the connection unexpectedly")
        return real(raws)

    monkeypatch.setattr(gate, "principals_of_tokens", cut_once)

    assert ask(direct, EVENTS, GOOD, bearer)[0] == 200


def test_those_that_come_at_once_share_a_look_at_their_tokens(monkeypatch):
    asked = []
    raws = [make_token(name, ["ingest"]) for name in "ab"]
    real = tokens.principals_of_tokens

    def counted(some: Any) -> Any:
        asked.append(sorted(some))
        return real(some)

    monkeypatch.setattr(gate, "principals_of_tokens", counted)

    async def all_at_once() -> list[Any]:
        door = gate.Gate()
        found = await asyncio.gather(*(door.principal(raw) for raw in raws * 20))
        door.close()
        return found

    names = [principal.name for principal in asyncio.run(all_at_once())]

    assert names == ["a", "b"] * 20
    assert asked == [sorted(raws)]


def test_a_refusal_is_counted(direct, bearer):
    counter = metrics.REJECTED.labels("invalid_json")
    before = counter._value.get()

    ask(direct, EVENTS, b"{", bearer)

    assert counter._value.get() == before + 1
