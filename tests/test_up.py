"""``manage.py up``: one process tree that starts, heals, ends and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests import servers
from tests.servers import until


def children(tower: servers.Tower, word: str) -> list[int]:
    """The process ids of the children whose command lines hold this word."""
    return [pid for pid, words in tower.below().items() if word in words]


def child(tower: servers.Tower, word: str) -> int | None:
    return next(iter(children(tower, word)), None)


def embedded_redis(tower: servers.Tower) -> str:
    return (tower.home / "secrets" / "redis_url").read_text()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def found(pattern: str, text: str) -> str:
    """What stands in the pattern's parentheses."""
    match = re.search(pattern, text)
    assert match, (pattern, text)
    return match[1]


def launch_to_fail(tower: servers.Tower) -> str:
    """Start it where it must not start; what it said."""
    status = tower.launch().wait(60)
    assert status != 0
    assert "Traceback" not in tower.said
    return tower.said


@pytest.fixture(scope="module")
def tower(own_database):
    """A tower with an embedded Valkey and a generated password, as `up` alone starts it."""
    tower = servers.Tower(DATABASE_URL=own_database, TOWER_ADMIN_PASSWORD="")
    try:
        yield tower.start()
    finally:
        tower.stop()


def test_it_prints_the_addresses_and_the_password_of_admin(tower):
    said = tower.said

    assert f"http://127.0.0.1:{tower.port}/" in said
    assert redis.Redis.from_url(found(r"(redis://\S+)", said)).ping()
    password = found(r"admin, password (\S+)", said)
    assert (tower.home / "secrets" / "admin_password").read_text() == password


def test_its_secrets_are_for_the_owner_alone(tower):
    folder = tower.home / "secrets"

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_whatever_it_writes_is_for_the_owner_alone(tower):
    written = [tower.home / "up.lock", *tower.home.glob("*sqlite3*"), *tower.home.glob("metrics/*")]

    assert [str(path) for path in written if path.stat().st_mode & 0o077] == []


def test_a_home_that_is_made_is_for_the_owner_alone(tmp_path):
    home = tmp_path / "new" / "home"
    environment = {**os.environ, "TOWER_HOME": str(home), "SECRET_KEY": ""}
    environment["DJANGO_SETTINGS_MODULE"] = "tower.settings"

    subprocess.run([sys.executable, "manage.py", "check"], env=environment, check=True, capture_output=True)

    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_the_embedded_valkey_is_safe_and_closed(tower):
    url = embedded_redis(tower)
    client = redis.Redis.from_url(url, decode_responses=True)

    asked = ["appendonly", "appendfsync", "save", "maxmemory", "maxmemory-policy", "bind"]
    assert client.config_get(*asked) == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory": str(512 << 20),
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
    }
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=client.get_connection_kwargs()["port"]).ping()


def test_it_is_ready_with_nothing_missing(tower):
    until(lambda: tower.get("/readyz")[1]["degraded"] == [], "every part is there")


def test_static_files_have_hashed_names_and_are_kept_for_ever(tower):
    page = tower.call("GET", "/login/", Accept="text/html")[1]
    name = found(r'"(/static/css/\w+\.[0-9a-f]{12}\.css)"', page)

    with servers.DIRECT.open(tower.url + name) as answer:
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.read()


def test_what_its_children_print_is_prefixed(tower):
    assert re.search(r"^web +\| \{", tower.said, re.MULTILINE)


@pytest.mark.parametrize("word", ["manage.py web", "manage.py sweep", "manage.py consume", "valkey-server"])
def test_f1_a_killed_child_is_started_again(tower, word):
    before = until(lambda: child(tower, word), f"{word} runs")

    kill(before)

    until(lambda: child(tower, word) not in {None, before}, f"{word} runs again")
    until(lambda: tower.get("/readyz")[1]["degraded"] == [], "all is well again")


def test_f3_what_valkey_holds_outlives_its_kill(tower):
    client = redis.Redis.from_url(embedded_redis(tower), decode_responses=True)
    client.set("kept", "1")

    kill(until(lambda: child(tower, "valkey-server"), "valkey runs"))

    def kept():
        try:
            return client.get("kept") == "1"
        except redis.RedisError:
            return False

    until(kept, "the value is back")


def test_it_reads_the_queue_and_counts_what_it_read(tower):
    client = redis.Redis.from_url(embedded_redis(tower), decode_responses=True)
    event = {"event_id": "e", "trace_id": "Q", "task_id": "a", "event_type": "STARTED", "timestamp_ms": 1}

    client.xadd("tms.task.events", {"event": json.dumps(event)})

    until(lambda: tower.get("tasks/a/?trace_id=Q")[1].get("status") == "RUNNING", "it is folded")
    counted = 'tower_events_total{source="queue",verdict="unattached"} 1.0'
    until(lambda: counted in tower.call("GET", "/metrics", Accept="*/*")[1], "it is counted")
    assert tower.get("/readyz")[1]["checks"]["consumer"]["consumers"] == 1


def test_it_runs_as_many_consumers_as_are_asked_for():
    with servers.Tower(TOWER_CONSUMERS="2") as tower:
        until(
            lambda: tower.get("/readyz")[1]["checks"]["consumer"]["consumers"] == 2,
            "both have asked for reports, each by a name of its own",
        )


def test_on_postgresql_it_runs_two_consumers():
    with servers.postgres() as url, servers.Tower(DATABASE_URL=url) as tower:
        until(lambda: len(children(tower, "manage.py consume")) == 2, "two run")


def test_a_second_one_on_the_same_home_is_refused(tower):
    second = subprocess.run(
        [sys.executable, "manage.py", "up", "--bind", f"127.0.0.1:{servers.free_port()}"],
        cwd=servers.ROOT,
        env=tower.environment,
        capture_output=True,
        text=True,
    )

    assert second.returncode != 0
    assert "Another `manage.py up` runs" in second.stderr
    assert "Traceback" not in second.stderr


# -- towers of one test


def test_five_deaths_of_one_child_end_it_with_its_last_lines(a_tower):
    tower = a_tower()
    # A folder where the log says that a file has to be: Valkey cannot start, ever.
    (tower.home / "valkey" / "appendonlydir").mkdir(parents=True)
    (tower.home / "valkey" / "appendonlydir" / "appendonly.aof.manifest").mkdir()

    status = tower.launch().wait(90)

    assert status == 1
    assert "valkey died 5 times" in tower.said
    assert "appendonly.aof.manifest" in tower.said.partition("Its last lines:")[2]
    assert not servers.answers(tower.port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_f5_a_signal_ends_all_of_it(a_tower, number):
    tower = a_tower().start()
    below = tower.below()
    assert len(below) >= 3

    tower.up.send_signal(number)

    assert tower.up.wait(10) == 0
    assert not [pid for pid, words in below.items() if servers.command_line(pid) == words]
    assert "Traceback" not in tower.said


def test_f5_a_kill_leaves_no_orphan_and_nothing_in_the_way_of_the_next_start(a_tower):
    tower = a_tower().start()
    below, url = tower.below(), embedded_redis(tower)
    redis.Redis.from_url(url).set("kept", "1")

    kill(tower.up.pid)
    tower.up.wait()

    until(lambda: not any(servers.command_line(pid) == words for pid, words in below.items()), "no orphan")
    tower.launch()
    tower.wait_ready()
    assert embedded_redis(tower) == url
    assert redis.Redis.from_url(url).get("kept") == b"1"
    assert tower.get("traces/")[0] == 200  # the token of before is still good


def test_the_next_start_does_not_print_the_password_again(a_tower):
    tower = a_tower(TOWER_ADMIN_PASSWORD="").start()
    password = (tower.home / "secrets" / "admin_password").read_text()
    tower.up.send_signal(signal.SIGINT)
    tower.up.wait(15)

    tower.launch()
    tower.wait_ready()

    assert tower.said.count(password) == 1


def test_the_given_password_is_neither_printed_nor_handed_on(a_tower):
    tower = a_tower().start()

    assert servers.ADMIN_PASSWORD not in tower.said
    for pid in tower.below():
        assert servers.ADMIN_PASSWORD.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


# -- one clear sentence


def test_a_port_in_use_is_said(a_tower):
    tower = a_tower()
    with socket.create_server(("127.0.0.1", tower.port)):
        said = launch_to_fail(tower)

    assert said.strip() == f"CommandError: Cannot listen at 127.0.0.1:{tower.port}: address already in use."


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"TOWER_BIND": "nonsense"}, "HOST:PORT"),
        ({"TOWER_BIND": "127.0.0.1:99999"}, "HOST:PORT"),
        ({"TOWER_BIND": "no.such.invalid:8000", "ALLOWED_HOSTS": "no.such.invalid"}, "no such host"),
        ({"TOWER_HOME": "/proc/no-such-home"}, "cannot be written"),
        ({"DATABASE_URL": "mysql://x/y"}, "must begin with postgresql://"),
        ({"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, "The database cannot be used"),
        ({"DATABASE_URL": "sqlite:////no/such/folder/x.sqlite3"}, "The database cannot be used"),
        ({"REDIS_URL": "http://127.0.0.1:6379"}, "REDIS_URL http://127.0.0.1:6379 cannot be used"),
        ({"TOWER_EVENTS_URL": "http://127.0.0.1:1"}, "TOWER_EVENTS_URL http://127.0.0.1:1 cannot be used"),
        ({"TOWER_MAX_DELIVERIES": "1"}, "TOWER_MAX_DELIVERIES must be at least 3"),
        ({"TOWER_ADMIN_PASSWORD": "short"}, "TOWER_ADMIN_PASSWORD is too weak"),
        ({"TOWER_MAX_BATCH": "many"}, "TOWER_MAX_BATCH must be a whole number"),
        ({"TOWER_LOG": "xml"}, "TOWER_LOG must be json or text"),
        ({"TOWER_BIND": "0.0.0.0:{port}"}, "ALLOWED_HOSTS"),
        ({"TOWER_BIND": "0.0.0.0:{port}", "ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS"),
        (
            {"TOWER_BIND": "0.0.0.0:{port}", "ALLOWED_HOSTS": "t.example", "SECRET_KEY": "x" * 60},
            "SECRET_KEY",
        ),
        ({"TOWER_BIND": "0.0.0.0:{port}", "ALLOWED_HOSTS": "t.example", "DEBUG": "1"}, "DEBUG"),
    ],
)
def test_what_cannot_be_meant_is_said_in_one_sentence(a_tower, environment, sentence):
    tower = a_tower()
    tower.environment |= {name: value.format(port=tower.port) for name, value in environment.items()}

    said = launch_to_fail(tower)

    assert sentence in said
    assert "hunter2" not in said
    assert not servers.answers(tower.port)


def test_a_redis_that_refuses_the_password_is_said(a_tower, valkey):
    tower = a_tower(REDIS_URL=valkey.url.replace("redis://", "redis://nobody:hunter2@"))

    said = launch_to_fail(tower)

    assert "the password is refused" in said
    assert "hunter2" not in said


def test_f7_a_redis_that_is_away_is_said_and_waited_for(a_tower):
    away = f"redis://127.0.0.1:{servers.free_port()}/0"

    tower = a_tower(REDIS_URL=away).start()

    assert "starting without it" in tower.said
    assert "redis" in tower.get("/readyz")[1]["degraded"]


def test_other_machines_are_let_in_where_that_is_said(a_tower):
    tower = a_tower(TOWER_BIND="0.0.0.0:{port}", ALLOWED_HOSTS="127.0.0.1,tower.example")
    tower.environment["TOWER_BIND"] = f"0.0.0.0:{tower.port}"

    tower.start()

    assert f"Open to other machines at 0.0.0.0:{tower.port}" in tower.said
