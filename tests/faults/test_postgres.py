"""PostgreSQL is killed and comes back: 503 meanwhile, and afterwards nobody needs a push."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from tests import servers
from tests.faults.load import Load
from tests.servers import until


class Slow:
    """A way to PostgreSQL on which whatever a client says arrives ``seconds`` later."""

    def __init__(self, folder):
        self.seconds = 0.0
        self._server = f"{folder}/.s.PGSQL.5432"
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                client = self._listening.accept()[0]
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, here, there, slowly):
        with contextlib.suppress(OSError):
            while part := here.recv(65536):
                if slowly:
                    time.sleep(self.seconds)
                there.sendall(part)
        with contextlib.suppress(OSError):
            there.shutdown(socket.SHUT_WR)

    def close(self):
        self._listening.close()


@pytest.fixture(scope="module")
def postgres():
    server = servers.Postgres()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def tower(postgres):
    tower = servers.Tower(DATABASE_URL=postgres.url)
    try:
        yield tower.start()
    finally:
        tower.stop()


def report(id, **more):
    return {
        "event_id": id, "trace_id": "P", "task_id": "a", "event_type": "STARTED", "timestamp_ms": 1, **more,
    }  # fmt: skip


def asked_at_once(tower, count):
    """So many reads at a time: the pool holds several connections afterwards."""
    with ThreadPoolExecutor(count) as pool:
        return {status for status, _ in pool.map(tower.get, ["traces/"] * count * 4)}


def test_f4_the_first_call_after_its_return_finds_no_stale_connection(tower, postgres):
    assert tower.post("events/", report("e1"))[0] == 200
    assert asked_at_once(tower, 8) == {200}

    postgres.kill()
    postgres.start()

    assert tower.post("events/", report("e2"))[0] == 200
    assert asked_at_once(tower, 8) == {200}


def test_f4_while_it_is_away_a_call_is_told_to_come_again(tower, postgres):
    postgres.kill()
    try:
        status, answer = tower.post("events/", report("e3"))
        alive, _ = tower.get("/healthz")
        ready, _ = tower.get("/readyz")
    finally:
        postgres.start()

    assert (status, answer["error"]["code"]) == (503, "database_unavailable")
    assert (alive, ready) == (200, 503)
    until(lambda: tower.post("events/", report("e3"))[0] == 200, "it is taken", seconds=10)


def test_f4_a_killed_database_loses_and_repeats_nothing(tower, postgres):
    with Load(tower, "f4", seed=4) as load:
        for more in (40, 10):
            load.goes_on(more)
            postgres.kill()
            postgres.start()
        load.goes_on()

    assert load.wrong() == []


def resident(tower, word):
    """Bytes of memory of a child."""
    pid = next(pid for pid, words in tower.below().items() if word in words)
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_f10_where_each_statement_takes_long_senders_wait_and_nothing_piles_up(postgres):
    way = Slow(parse_qs(urlsplit(postgres.url).query)["host"][0])
    url = f"postgresql://postgres@127.0.0.1:{way.port}/postgres"
    tower = servers.Tower(DATABASE_URL=url, TOWER_INGEST_INFLIGHT="6")
    base = {"trace_id": "slow", "task_id": "s", "event_type": "PROGRESS", "timestamp_ms": 1}
    big = {"payload": {"text": "x" * 50_000}}
    reports = [{**base, **big, "event_id": f"s{i}"} for i in range(90)]
    try:
        tower.start()
        queue = redis.Redis.from_url((tower.home / "secrets" / "redis_url").read_text())
        task = {"id": "s", "trace_id": "slow", "job_id": "j", "actor_type": "AGENT"}
        assert tower.post("tasks/", task)[0] == 201
        until(lambda: tower.get("/readyz")[1]["degraded"] == [], "all of it runs")
        before = resident(tower, "manage.py web")
        way.seconds = 0.2

        with ThreadPoolExecutor(30) as pool:
            sent = [pool.submit(tower.post, "events/", [report] * 10) for report in reports]
            for i in range(100):
                queue.xadd("tms.task.events", {"event": json.dumps({**base, "event_id": f"q{i}"})})
            read = tower.get("traces/slow/")[0]
            answers = [one.result() for one in sent]
        grown = resident(tower, "manage.py web") - before
        way.seconds = 0.0

        assert read == 200
        assert {status for status, _ in answers} == {200, 429}
        assert grown < 100 << 20
        until(lambda: tower.get("/readyz")[1]["checks"]["consumer"]["lag"] == 0, "the queue is read")
        again = [tower.post("events/", report)[1] for report in reports]
        taken = [status == 200 for status, _ in answers]
        assert [answer["duplicates"] == 1 for answer in again] == taken
        logged = until(lambda: len(all_events(tower)) >= 190 and all_events(tower), "all is stored")
        assert len(logged) == len(set(logged)) == 190
    finally:
        way.seconds = 0.0
        tower.stop()
        way.close()


def all_events(tower):
    found, url = [], "traces/slow/events/?limit=500&origin=actor"
    while url:
        page = tower.get(url)[1]
        found += [one["event_id"] for one in page["results"]]
        url = page["next"] and page["next"].removeprefix(tower.url)
    return found
