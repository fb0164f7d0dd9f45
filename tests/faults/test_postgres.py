"""PostgreSQL is killed and comes back: 503 meanwhile, and afterwards nobody needs a push."""

from __future__ import annotations

import pytest

from tests import servers
from tests.faults.load import Load
from tests.servers import until


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
    from concurrent.futures import ThreadPoolExecutor

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
