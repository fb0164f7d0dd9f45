"""Processes that are killed at any moment under load: nothing acknowledged is lost, nothing applied twice."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
from typing import Any

import pytest
import redis

from tests import servers
from tests.faults.load import Load, cut
from tests.servers import until

WEB, CONSUMER, SWEEPER, VALKEY = "manage.py web", "manage.py consume", "manage.py sweep", "valkey-server"


@pytest.fixture(scope="module")
def tower(own_database):
    """With the Valkey that `up` starts, whose file outlives it."""
    tower = servers.Tower(DATABASE_URL=own_database)
    try:
        yield tower.start()
    finally:
        tower.stop()


def child(tower, word):
    return until(
        lambda: next((pid for pid, words in tower.below().items() if word in words), None), f"{word} runs"
    )


def kill(tower, word):
    os.kill(child(tower, word), signal.SIGKILL)


def test_f1_killed_processes_lose_and_repeat_nothing(tower):
    chance = random.Random(1)
    with Load(tower, "f1", seed=1) as load:
        for word in chance.sample([WEB, WEB, CONSUMER, SWEEPER], 4):
            load.goes_on(chance.randint(5, 60))
            kill(tower, word)
        load.goes_on()

    assert load.wrong() == []


def test_f3_a_killed_valkey_loses_nothing_that_it_took_and_holds_nobody_up(tower):
    with Load(tower, "f3", rest=2, queue=4, seed=3) as load:
        for more in (40, 10):
            load.goes_on(more)
            kill(tower, VALKEY)
        load.goes_on()

    assert load.wrong() == []
    assert not load.calls.keys() & {"0", "500", "503"}


def test_f13_writers_that_cross_traces_in_any_order_only_wait_for_each_other(tower):
    with Load(tower, "f13", rest=8, queue=0, traces=6, seed=13) as load:
        load.goes_on(400)

    assert load.wrong() == []
    assert load.calls.keys() <= {"200", "201", "409"}


# -- an answer that is lost


def unanswered(tower, path, body, done):
    """Send a request, wait until its deed is done, and hang up without having read the answer."""
    raw = json.dumps(body).encode()
    head = (
        f"POST /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1:{tower.port}\r\n"
        f"Authorization: Bearer {tower.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", tower.port)) as line:
        line.sendall(head.encode() + raw)
        until(done, f"{path} is done")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset


def test_f29_what_is_said_again_after_a_lost_answer_is_there_once(tower):
    base = {"trace_id": "f29", "job_id": "j", "actor_type": "AGENT"}
    tasks = [{**base, "id": "t0"}, *({**base, "id": f"t{i}", "parent_id": "t0"} for i in range(1, 50))]
    said = {"trace_id": "f29", "event_type": "STARTED", "timestamp_ms": 1}
    reports = [{**said, "event_id": f"e{i}", "task_id": f"t{i}"} for i in range(50)]
    control = {"id": "f29-c", "trace_id": "f29", "action": "PAUSE"}

    unanswered(tower, "tasks/", tasks, lambda: tower.get("traces/f29/")[0] == 200)
    registered = tower.post("tasks/", tasks)
    unanswered(tower, "events/", reports, lambda: tower.get("traces/f29/")[1]["counts"]["RUNNING"] == 50)
    reported = tower.post("events/", reports)
    unanswered(tower, "controls/", control, lambda: tower.get("controls/f29-c/")[0] == 200)
    asked = tower.post("controls/", control)

    assert registered[0] == 201
    assert {one["created"] for one in registered[1]["results"]} == {False}
    assert (reported[0], reported[1]["accepted"], reported[1]["duplicates"]) == (200, 0, 50)
    assert (asked[0], asked[1]["id"]) == (200, "f29-c")
    assert len(tower.get("controls/?trace_id=f29")[1]["results"]) == 1


# -- deliveries in any order


#: What a task says after it began: plain, retried, late, contradicting.
ENDS = (
    [("COMPLETED", {"output_ref": "s3://out"})],
    [("FAILED", {"error_code": "E"}), ("STARTED", {}), ("COMPLETED", {})],
    [("STARTED", {"attempt": 2}), ("FAILED", {"attempt": 2}), ("COMPLETED", {"attempt": 1})],
    [("CANCELLED", {}), ("COMPLETED", {"output_ref": "too late"})],
    [("COMPLETED", {"skipped": True}), ("PROGRESS", {"progress": 70})],
    [("PROGRESS", {"paused": True})],
)


def a_history() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Registrations and reports of one run, with a plan and an aggregator."""
    rng = random.Random(16)
    shared: dict[str, Any] = {"job_id": "j", "actor_type": "EXECUTION"}
    tasks = [shared | {"id": "t0", "split_count": 5}]
    tasks += [shared | {"id": f"t{i}", "parent_id": f"t{(i - 1) // 5}"} for i in range(1, 31)]
    tasks.append(shared | {"id": "sum", "parent_id": "t1", "actor_type": "GROUP_AGG"})
    reports: list[dict[str, Any]] = []
    for i in range(6, 31):
        said = [("STARTED", {"worker": f"w{i % 3}"}), ("PROGRESS", {"progress": 40, "message": "half way"})]
        for n, (kind, payload) in enumerate([*said, *rng.choice(ENDS)]):
            report = {"event_id": f"t{i}-{n}", "task_id": f"t{i}", "event_type": kind, "payload": payload}
            reports.append(report | {"timestamp_ms": 1_734_567_890_000 + 1_000 * n + i})
    return tasks, reports


#: Neither are the others functions of what was said: numbers, and when the tower heard of it.
SAME = (
    "parent_id", "job_id", "actor_type", "status", "depth", "split_count", "completed_children", "output_ref",
    "error_code", "error_msg", "started_at", "finished_at", "reported_status", "attempt", "progress",
    "message", "registered", "attached", "holds",
)  # fmt: skip


def tree_of(tower, trace_id):
    nodes = tower.get(f"traces/{trace_id}/tree/")[1]["nodes"]
    return {
        node["id"]: {name: node.get(name) for name in SAME}
        | {"path": node["node_path"].replace(trace_id, "T", 1)}
        for node in nodes
    }


def told(tower, trace_id):
    """How many reports are in the log."""
    return len(tower.get(f"traces/{trace_id}/events/?origin=actor&limit=500")[1]["results"])


@pytest.fixture(scope="module")
def in_order(tower):
    """The history as it happened, and the tree that it gives."""
    tasks, reports = a_history()
    assert tower.post("tasks/", [task | {"trace_id": "f16"} for task in tasks])[0] == 201
    assert tower.post("events/", [one | {"trace_id": "f16"} for one in reports])[0] == 200
    return tasks, reports, tree_of(tower, "f16")


@pytest.mark.parametrize("seed", range(4))
def test_f16_what_comes_twice_in_another_order_and_split_otherwise_gives_the_same_tree(tower, in_order, seed):
    tasks, reports, expected = in_order
    rng, trace = random.Random(seed), f"f16-{seed}"
    queue = redis.Redis.from_url((tower.home / "secrets" / "redis_url").read_text())
    told_once = tasks + reports
    deliveries = told_once + rng.sample(told_once, len(told_once) // 5)
    rng.shuffle(deliveries)

    for batch in cut(deliveries, rng):
        for path in ("tasks/", "events/"):
            mine = [item for item in batch if ("event_id" in item) == (path == "events/")]
            items = [item | {"trace_id": trace} for item in mine]
            if items and path == "events/" and rng.random() < 0.5:
                for item in items:
                    queue.xadd("tms.task.events", {"event": json.dumps(item)})
            elif items:
                status, answer = tower.post(path, items)
                assert status in {200, 201}, answer

    until(lambda: told(tower, trace) == len(reports), "all is folded")
    assert tree_of(tower, trace) == expected


# -- a storm


def test_f27_a_storm_of_children_is_registered_once_and_none_escapes_the_cancel_in_its_middle(tower):
    """8 writers, 10 calls; a second of them repeats each call, as after a lost answer."""
    base = {"trace_id": "f27", "job_id": "storm", "actor_type": "EXECUTION"}
    assert tower.post("tasks/", base | {"id": "root"})[0] == 201
    calls = [[base | {"id": f"{call}-{i}", "parent_id": "root"} for i in range(1_000)] for call in range(10)]
    answers: list[tuple[int, int]] = []

    def write(who):
        for call in calls[who::4]:
            status, body = tower.post("tasks/", call)
            answers.append((status, sum(one["created"] for one in body["results"])))

    writers = [threading.Thread(target=write, args=[who % 4]) for who in range(8)]
    for writer in writers:
        writer.start()
    until(lambda: answers, "some are registered", every=0.005)
    assert tower.post("controls/", {"trace_id": "f27", "action": "CANCEL"})[0] == 201
    for writer in writers:
        writer.join()

    assert {status for status, _ in answers} == {201}
    assert sum(created for _, created in answers) == 10_000
    counted = until(
        lambda: (found := tower.get("traces/f27/")[1])["open"] == 0 and found, "all are cancelled", seconds=60
    )
    assert counted["counts"]["CANCELLED"] == 10_001


# -- Redis is away, and comes back


def test_f7_a_valkey_that_hangs_stops_neither_reports_nor_controls(tower):
    base = {"trace_id": "f7", "job_id": "j", "actor_type": "AGENT"}
    assert tower.post("tasks/", base | {"id": "a"})[0] == 201
    valkey = child(tower, VALKEY)
    os.kill(valkey, signal.SIGSTOP)
    try:
        said = {
            "event_id": "e1",
            "trace_id": "f7",
            "task_id": "a",
            "event_type": "STARTED",
            "timestamp_ms": 1,
        }
        reported = tower.post("events/", said)
        asked = tower.post("controls/", {"id": "f7-c", "trace_id": "f7", "action": "PAUSE"})
        answered = tower.post("events/", said)
    finally:
        os.kill(valkey, signal.SIGCONT)

    assert reported[0] == 200
    assert (asked[0], asked[1]["delivered"]) == (201, False)
    assert answered[1]["commands"] == {"a": "PAUSE"}
    until(lambda: tower.get("controls/f7-c/")[1]["delivered"], "it is delivered later", seconds=10)


def test_f6_an_emptied_valkey_gets_its_commands_and_its_readers_back(tower):
    client = redis.Redis.from_url((tower.home / "secrets" / "redis_url").read_text(), decode_responses=True)
    base = {"trace_id": "f6", "job_id": "j", "actor_type": "AGENT"}
    assert tower.post("tasks/", base | {"id": "a"})[0] == 201
    assert tower.post("controls/", {"trace_id": "f6", "action": "PAUSE"})[1]["delivered"] is True
    until(lambda: client.exists("cmd:tower:epoch"), "the sentinel stands")

    client.flushall()

    until(lambda: client.exists("cmd:tower:epoch"), "the sentinel stands again", seconds=10)
    assert client.hget("cmd:instance:f6", "global_action") == "PAUSE"
    said = {"event_id": "e1", "trace_id": "f6", "task_id": "a", "event_type": "STARTED", "timestamp_ms": 1}
    client.xadd("tms.task.events", {"event": json.dumps(said)})
    until(lambda: tower.get("tasks/a/?trace_id=f6")[1]["status"] == "RUNNING", "the queue is read again")
