"""Live sockets over a real Valkey; handshakes and closes also over the real server."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import Group, User
from django.test import Client
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from instances import consumers, hub, live, snapshot
from instances.live_reads import in_database
from instances.routing import websocket_urlpatterns
from tests.screens import until
from tests.trees import a_tree
from tower import metrics, redis
from tower.access.models import Token
from tower.access.tokens import make_token
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)
RUN, PAUSE, CANCEL = ControlAction
HOST = "127.0.0.1:8000"
OWN = f"http://{HOST}"


@pytest.fixture
def token():
    return make_token("watcher", ["read"])


def bearer(raw):
    return {"authorization": f"Bearer {raw}"}


def sign_in(name="vera", group="viewer"):
    """The cookie of a person with that role."""
    user, _ = User.objects.get_or_create(username=name)
    if group:
        user.groups.add(Group.objects.get_or_create(name=group)[0])
    client = Client()
    client.force_login(user)
    return {"cookie": f"tower_session={client.cookies['tower_session'].value}", "origin": OWN}


class Socket:
    """A browser's end."""

    def __init__(self, path, headers):
        lines = [(name.encode(), value.encode()) for name, value in {"host": HOST, **headers}.items()]
        self.line = WebsocketCommunicator(URLRouter(websocket_urlpatterns), path, headers=lines)
        self.heard = []

    async def open(self):
        self.accepted, _ = await self.line.connect(timeout=10)
        return self

    async def say(self, **message):
        await self.line.send_json_to(message)

    async def hear(self, op, seconds=10):
        """The next message of that kind; others are kept in ``heard``."""
        while True:
            output = await self.line.receive_output(timeout=seconds)
            assert output["type"] == "websocket.send", output
            self.heard.append(json.loads(output["text"]))
            if self.heard[-1]["op"] == op:
                return self.heard[-1]

    async def closed(self, seconds=10):
        """The code that it is closed with."""
        while (output := await self.line.receive_output(timeout=seconds))["type"] != "websocket.close":
            pass
        return output["code"]

    async def leave(self):
        await self.line.disconnect(timeout=10)


@asynccontextmanager
async def a_socket(path, headers):
    socket = await Socket(path, headers).open()
    try:
        yield socket
    finally:
        await socket.leave()


@asynccontextmanager
async def watching(tree, headers):
    async with a_socket(f"/ws/traces/{tree.id}/", headers) as socket:
        await socket.say(v=1, op="sub", trace=tree.id, since=None)
        await socket.hear("hello")
        yield socket


async def publish(change):
    live.publish([change])
    return change


# -- from a commit to a browser


async def test_a_committed_change_reaches_a_browser(token):
    tree = await in_database(a_tree, "root(a)")

    async with watching(tree, bearer(token)) as socket:
        change = await publish(await in_database(tree.grow, "a", "b:RUNNING"))
        frame = await socket.hear("d")

        assert (frame["from"], frame["seq"]) == (1, change.seq)
        assert "b" in [row[1] for row in frame["new"]]


async def test_all_sockets_of_a_trace_hear_the_same_frame_and_others_nothing(token):
    tree, other = [await in_database(a_tree, "root(a)") for _ in range(2)]

    async with (
        watching(tree, bearer(token)) as first,
        watching(tree, bearer(token)) as second,
        watching(other, bearer(token)) as elsewhere,
    ):
        await publish(await in_database(tree.change, "a", progress=1.0))

        assert await first.hear("d") == await second.hear("d")
        await elsewhere.say(op="ping")
        assert (await elsewhere.hear("beat"))["seq"] == 1


async def test_a_control_reaches_a_browser(token):
    tree = await in_database(a_tree, "root(a)")

    async with watching(tree, bearer(token)) as socket:
        await in_database(tree.ask, "", CANCEL)
        live.publish_intents(tree.number, tree.id)

        assert (await socket.hear("d"))["intents"] == [[-1, 2, 1]]


async def test_a_socket_that_comes_back_gets_what_it_missed(token):
    tree = await in_database(a_tree, "root(a)")
    epoch = await in_database(snapshot.epoch)
    await in_database(tree.change, "a", progress=7.0)

    async with a_socket(f"/ws/traces/{tree.id}/", bearer(token)) as socket:
        await socket.say(v=1, op="sub", trace=tree.id, since=1, epoch=epoch)
        await socket.hear("hello")
        batch = await socket.hear("d")

        assert (batch["from"], batch["seq"], batch["new"][0][1]) == (1, 2, "a")


async def test_a_restored_backup_resets_every_browser(token):
    tree = await in_database(a_tree, "root(a)")

    async with watching(tree, bearer(token)) as socket:
        await in_database(snapshot.new_epoch)

        await socket.hear("reset")


async def test_the_end_reaches_a_browser(token):
    tree = await in_database(a_tree, "root:SUCCESS")

    async with watching(tree, bearer(token)) as socket:
        await in_database(tree.end)

        assert await socket.hear("end") == {"op": "end", "seq": 1}


async def test_the_hub_rests_when_nobody_watches(token):
    tree = await in_database(a_tree, "root")

    async with watching(tree, bearer(token)):
        assert len(hub.hub().feeds) == 1

    await until(lambda: not hub.hub().feeds and not hub.hub()._tasks, "the hub rests")
    assert consumers._open.total() == 0


# -- without Redis


async def test_f7_pages_are_live_by_polling_while_redis_is_away(token, valkey, monkeypatch):
    monkeypatch.setattr(hub, "PULSE_SECONDS", 0.1)
    monkeypatch.setattr(hub, "DEAF_SECONDS", 0.4)
    tree = await in_database(a_tree, "root(a)")

    async with watching(tree, bearer(token)) as socket:
        valkey.stop()
        await until(lambda: hub.hub().mode == "poll", "the hub notices")
        await publish(await in_database(tree.change, "a", progress=1.0))
        frame = await socket.hear("d")
        await socket.say(op="ping")

        assert frame["seq"] == 2
        assert (await socket.hear("beat"))["mode"] == "poll"

        valkey.start()
        await until(lambda: hub.hub().mode == "live", "the hub hears itself again")
        await publish(await in_database(tree.change, "a", progress=2.0))
        assert (await socket.hear("d"))["seq"] == 3


async def test_f7_a_frozen_redis_holds_nobody_up(token, valkey, monkeypatch):
    monkeypatch.setattr(hub, "PULSE_SECONDS", 0.1)
    monkeypatch.setattr(hub, "DEAF_SECONDS", 0.4)
    tree = await in_database(a_tree, "root(a)")

    async with watching(tree, bearer(token)) as socket:
        valkey.freeze()
        await publish(await in_database(tree.change, "a", progress=1.0))

        assert (await socket.hear("d"))["seq"] == 2
        valkey.thaw()


async def follow(socket, seq):
    """Frames up to that one, each acknowledged."""
    frames = [socket.heard[-1]]
    while frames[-1]["seq"] < seq:
        frames.append(await socket.hear("d"))
        await socket.say(op="ack", seq=frames[-1]["seq"])
    return frames[1:]


async def test_f9_what_the_full_outbox_dropped_is_a_gap_that_heals(token, valkey, monkeypatch, caplog):
    monkeypatch.setattr(live, "OUTBOX", 5)
    monkeypatch.setattr(live, "_said_at", {})
    monkeypatch.setattr(hub, "PULSE_SECONDS", 0.1)
    tree = await in_database(a_tree, "root(a)")
    dropped = metrics.WS_DROPPED.labels("layer")
    before = dropped._value.get()

    async with watching(tree, bearer(token)) as socket:
        following = asyncio.create_task(follow(socket, 201))
        valkey.freeze()
        for i in range(200):
            await publish(await in_database(tree.change, "a", progress=i / 2))
        valkey.thaw()
        frames = await following

    assert all(frame["from"] <= shown["seq"] for shown, frame in pairwise(frames))
    assert dropped._value.get() - before >= 100
    said = [line for line in caplog.records if "live messages dropped" in line.msg]
    assert len(said) == 1


async def test_f9_a_subscription_that_redis_cut_is_a_gap_that_heals(token, valkey, monkeypatch):
    """As at a client's output limit: whatever is published until it is back is nobody's."""
    monkeypatch.setattr(hub, "PULSE_SECONDS", 0.1)
    tree = await in_database(a_tree, "root(a)")

    async with watching(tree, bearer(token)) as socket:
        following = asyncio.create_task(follow(socket, 61))
        for i in range(60):
            if i % 20 == 10:
                redis.client().execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
            await publish(await in_database(tree.change, "a", progress=float(i)))
        frames = await following

    assert all(frame["from"] <= shown["seq"] for shown, frame in pairwise(frames))


def test_publishing_never_raises_and_never_waits(valkey, monkeypatch):
    monkeypatch.setattr(live, "OUTBOX", 10)
    publisher = live.Publisher()
    tree = a_tree("root")
    change = tree.change("root", attempt=2)
    valkey.freeze()

    for _ in range(100):
        publisher.post([change])

    assert publisher.dropped >= 50
    valkey.thaw()
    publisher.close()


def test_what_was_committed_last_is_still_told_when_the_process_ends(monkeypatch):
    publisher, sent = live.Publisher(), []

    class Layer:
        async def new_channel(self):
            return "one"

        async def group_add(self, group, channel):
            pass

        async def receive(self, channel):
            await asyncio.Event().wait()

        async def group_send(self, group, message):
            await asyncio.sleep(0.05)
            sent.append(message["number"])

    monkeypatch.setattr(live, "get_channel_layer", lambda: Layer())
    publisher.post(1)
    publisher.post(2)

    publisher.close()

    assert sorted(sent) == [1, 2]
    assert publisher._thread is not None and not publisher._thread.is_alive()
    publisher.post(3)
    assert publisher.dropped == 1


def test_a_redis_that_hangs_holds_up_no_process_that_ends(valkey):
    publisher = live.Publisher()
    valkey.freeze()
    publisher.post(1)

    publisher.close()

    assert publisher._thread is not None and not publisher._thread.is_alive()
    valkey.thaw()


def test_a_trace_that_nobody_watches_costs_no_message_of_its_own(valkey, monkeypatch):
    publisher = live.Publisher()
    groups = []

    class Layer:
        async def group_send(self, group, message):
            groups.append(group)

    monkeypatch.setattr(live, "get_channel_layer", lambda: Layer())
    watched, other = (tree.change("root", attempt=2) for tree in (a_tree("root"), a_tree("root")))
    publisher._watched[watched.number] = time.monotonic() + 60

    asyncio.run(publisher._send_now([watched, other], {other.number}))

    assert groups == [live.group_of(watched.number), "traces", "traces"]


# -- the list of runs


async def test_the_list_hears_of_runs_in_view_and_of_new_ones(token):
    shown, other = [await in_database(a_tree, "root(a)") for _ in range(2)]

    async with a_socket("/ws/traces/", bearer(token)) as socket:
        await socket.say(v=1, op="sub", traces=[shown.id, "nobody"])
        first = await socket.hear("runs")
        assert [row["trace_id"] for row in first["rows"]] == [shown.id]
        assert first["counts"]["PENDING"] == 2

        for tree in (shown, other):
            await publish(await in_database(tree.change, "a", status=2))
        second = await socket.hear("runs")
        assert [(row["trace_id"], row["counts"]["SUCCESS"]) for row in second["rows"]] == [(shown.id, 1)]
        assert second["new"] == []

        # The tree grows in several transactions; the list may look between two of them.
        born = await in_database(a_tree, "root:RUNNING")
        third = await socket.hear("runs")
        new = third["new"]
        while not third["counts"]["RUNNING"]:
            third = await socket.hear("runs")
            new += third["new"]
        assert new == [born.id]


async def test_the_list_hears_of_a_control(token):
    tree = await in_database(a_tree, "root(a)")

    async with a_socket("/ws/traces/", bearer(token)) as socket:
        await socket.say(v=1, op="sub", traces=[tree.id])
        await socket.hear("runs")
        await in_database(tree.ask, "", PAUSE)
        live.publish_intents(tree.number, tree.id)

        assert (await socket.hear("runs"))["rows"][0]["intents"][0]["action"] == "PAUSE"


# -- who may open one


async def test_b68_without_a_login_it_is_closed_with_4401():
    tree = await in_database(a_tree, "root")

    for headers in (
        {},
        {"origin": OWN},
        bearer("ctw_" + "x" * 36),
        {"cookie": "tower_session=old", "origin": OWN},
    ):
        async with a_socket(f"/ws/traces/{tree.id}/", headers) as socket:
            assert socket.accepted
            assert await socket.closed() == 4401


async def test_b68_without_the_right_it_is_closed_with_4403():
    tree = await in_database(a_tree, "root")
    cookie = await in_database(sign_in, "nobody", "")
    raw = await in_database(make_token, "reporter", ["ingest"])

    for headers in (cookie, bearer(raw)):
        async with a_socket(f"/ws/traces/{tree.id}/", headers) as socket:
            assert await socket.closed() == 4403


async def test_b68_an_unknown_trace_is_closed_with_4404(token):
    await in_database(a_tree, "", trace_id="empty")

    for id in ("nobody", "empty", "a%00b", "global_action"):
        async with a_socket(f"/ws/traces/{id}/", bearer(token)) as socket:
            assert await socket.closed() == 4404


async def test_a_viewer_may_watch():
    tree = await in_database(a_tree, "root")

    async with watching(tree, await in_database(sign_in)) as socket:
        assert socket.accepted


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        (OWN, True),
        ("https://127.0.0.1:8000", False),
        ("http://127.0.0.1:8001", False),
        ("http://127.0.0.1", False),
        ("http://localhost:8000", False),
        ("http://sub.127.0.0.1:8000", False),
        ("http://evil.example", False),
        ("null", False),
        ("http://127.0.0.1:8000/path", False),
        ("http://x@127.0.0.1:8000", False),
        ("HTTP://127.0.0.1:8000", False),
        ("", False),
        ("https://tower.example", True),  # named in TOWER_ORIGINS
    ],
)
@pytest.mark.parametrize("login", ["session", "token"])
async def test_b68_a_foreign_origin_is_refused_at_the_handshake(settings, token, origin, own, login):
    settings.TOWER_ORIGINS = ["https://tower.example"]
    tree = await in_database(a_tree, "root")
    headers = await in_database(sign_in) if login == "session" else bearer(token)

    socket = await Socket(f"/ws/traces/{tree.id}/", headers | {"origin": origin}).open()

    assert socket.accepted is own
    await socket.leave()


async def test_an_origin_may_be_absent_with_a_token_only(token):
    tree = await in_database(a_tree, "root")
    cookie = await in_database(sign_in)
    del cookie["origin"]

    assert (await Socket(f"/ws/traces/{tree.id}/", bearer(token)).open()).accepted
    assert not (await Socket(f"/ws/traces/{tree.id}/", cookie).open()).accepted


async def test_a_foreign_host_that_names_itself_as_origin_is_refused():
    cookie = await in_database(sign_in)

    socket = await Socket(
        "/ws/traces/", cookie | {"host": "evil.example", "origin": "http://evil.example"}
    ).open()

    assert not socket.accepted


def test_the_scheme_of_the_request_counts_behind_https(settings):
    settings.TOWER_HTTPS = True
    settings.ALLOWED_HOSTS = ["tower.example"]
    headers = {"host": "tower.example", "cookie": "__Host-tower_session=x"}

    def allowed(origin):
        return consumers.origin_allowed({"headers": []}, headers | {"origin": origin})

    assert allowed("https://tower.example")
    assert allowed("https://tower.example:443")
    assert not allowed("http://tower.example")


async def test_a_path_that_is_none_is_refused():
    assert not (await Socket("/ws/nothing/", {"origin": OWN}).open()).accepted


# -- what closes one


async def test_a_session_that_ended_closes_its_sockets(monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.05)
    tree = await in_database(a_tree, "root")

    async with watching(tree, await in_database(sign_in)) as socket:
        await in_database(lambda: User.objects.filter(username="vera").update(password="changed"))

        assert await socket.closed() == 4401


async def test_a_role_that_was_taken_closes_its_sockets(monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.05)
    tree = await in_database(a_tree, "root")

    async with watching(tree, await in_database(sign_in)) as socket:
        await in_database(lambda: User.objects.get(username="vera").groups.clear())

        assert await socket.closed() == 4403


async def test_a_token_that_was_revoked_closes_its_sockets(token, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.05)
    tree = await in_database(a_tree, "root")

    async with watching(tree, bearer(token)) as socket:
        await in_database(lambda: Token.objects.all().delete())

        assert await socket.closed() == 4401


@pytest.mark.parametrize("text", ["{", "[]", "5", "null", "\ud800"])
async def test_b69_what_is_no_json_object_is_closed_with_4400(token, text):
    tree = await in_database(a_tree, "root")

    async with watching(tree, bearer(token)) as socket:
        await socket.line.send_to(text_data=text)

        assert await socket.closed() == 4400


async def test_b69_binary_is_closed_with_4400(token):
    tree = await in_database(a_tree, "root")

    async with watching(tree, bearer(token)) as socket:
        await socket.line.send_to(bytes_data=b"{}")

        assert await socket.closed() == 4400


async def test_b69_what_is_unknown_is_ignored(token):
    tree = await in_database(a_tree, "root")

    async with watching(tree, bearer(token)) as socket:
        for message in (
            {"op": "dance"}, {"op": ["sub"]}, {"op": "__init__"}, {}, {"op": "ack", "seq": "x"},
            {"op": "ack", "seq": True}, {"op": "since", "seq": -1}, {"op": "focus", "n": 2**40},
            {"op": "focus", "n": 77}, {"op": "since", "seq": 2**70},
        ):  # fmt: skip
            await socket.say(**message)
        await socket.say(op="ping")

        assert (await socket.hear("beat"))["seq"] == 1


async def test_b69_a_hundred_messages_a_second_are_too_many(token):
    tree = await in_database(a_tree, "root")

    async with watching(tree, bearer(token)) as socket, watching(tree, bearer(token)) as other:
        for _ in range(250):
            await socket.say(op="dance")

        assert await socket.closed() == 4429
        await other.say(op="ping")
        await other.hear("beat")


async def test_b69_the_21st_socket_of_a_user_is_closed_with_4429(token, settings):
    settings.TOWER_WS_PER_USER = 2
    tree = await in_database(a_tree, "root")
    path = f"/ws/traces/{tree.id}/"

    async with watching(tree, bearer(token)), watching(tree, bearer(token)):
        async with a_socket(path, bearer(token)) as third:
            assert await third.closed() == 4429
        async with watching(tree, await in_database(sign_in)) as somebody_else:
            assert somebody_else.accepted
    async with watching(tree, bearer(token)) as again:
        assert again.accepted


# -- over the real server


class TestOverTheWire:
    @pytest.fixture
    def tower(self, live_tower):
        live_tower.post(
            "tasks/",
            {"id": "root", "trace_id": "wire", "parent_id": None, "job_id": "j", "actor_type": "AGENT"},
        )
        return live_tower

    def line(self, tower, path="wire/", **headers):
        sent = {"Authorization": f"Bearer {tower.token}"} | headers
        url = tower.url.replace("http", "ws") + f"/ws/traces/{path}"
        return connect(url, additional_headers=sent, proxy=None, max_size=None)

    def code(self, line):
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                line.recv(timeout=20)
        assert closed.value.rcvd, "closed without a code"
        return closed.value.rcvd.code

    def test_a_report_reaches_the_browser(self, tower):
        with self.line(tower) as line:
            line.send('{"v":1,"op":"sub","trace":"wire","since":null}')
            hello = json.loads(line.recv(timeout=20))
            tower.post(
                "events/",
                {
                    "event_id": f"e{time.time_ns()}", "trace_id": "wire", "task_id": "root",
                    "event_type": "PROGRESS", "timestamp_ms": 1, "payload": {"progress": 40},
                },
            )  # fmt: skip
            # A beat may come first where the machine is slow.
            while (frame := json.loads(line.recv(timeout=20)))["op"] == "beat":
                pass

        assert (hello["op"], frame["op"], frame["from"]) == ("hello", "d", hello["seq"])

    def test_b68_a_foreign_origin_is_answered_403(self, tower):
        with pytest.raises(InvalidStatus) as refused, self.line(tower, Origin="http://evil.example"):
            pass
        assert refused.value.response.status_code == 403

    def test_b68_no_login_is_4401_and_an_unknown_trace_4404(self, tower):
        with self.line(tower, Authorization="") as line:
            assert self.code(line) == 4401
        with self.line(tower, "nobody/") as line:
            assert self.code(line) == 4404

    def test_b69_binary_is_4400_and_64_kib_and_a_byte_1009(self, tower):
        with self.line(tower) as line:
            line.send(b"{}")
            assert self.code(line) == 4400
        with self.line(tower) as line:
            line.send('{"op":"' + "x" * (64 << 10) + '"}')
            assert self.code(line) == 1009
