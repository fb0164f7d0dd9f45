"""From the POST of a control until Redis has it, idle and under 1,000 events/s, in ms.

    python -m bench.control [--rounds 100] [--rate 1000] [--postgres]

Half of the load goes into the trace that is controlled: its rows are locked while the control comes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from typing import Any

import redis

from bench.ingest import Sender
from bench.record import keep, p95
from bench.register import database
from tests.servers import Tower, Valkey, free_port

KIDS, BATCH = 50, 100


class Load:
    """So many events a second, in batches of 100, until stopped."""

    def __init__(self, tower: Tower, rate: int) -> None:
        self.trace = "background"
        self.sent = 0
        #: Of today: a report whose clock is a day off costs a warning that is kept.
        self.began_ms = time.time_ns() // 1_000_000
        self._sender, self._rate = Sender(tower), rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._start = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.reached = self.sent / (time.perf_counter() - self._start)

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._over.is_set():
            batch = [self._event(self.sent + k) for k in range(BATCH)]
            self._sender.post(json.dumps(batch).encode())
            self.sent += BATCH
            due = max(due + BATCH / self._rate, time.perf_counter() - 0.5)
            self._over.wait(max(0.0, due - time.perf_counter()))

    def _event(self, ordinal: int) -> dict[str, Any]:
        trace = self.trace if ordinal % 2 else "background"
        return {
            "event_id": f"load-{ordinal}",
            "trace_id": trace,
            "task_id": f"{trace}-{ordinal % KIDS}",
            "event_type": "PROGRESS",
            "payload": {"progress": ordinal // 1000 % 100},
            "timestamp_ms": self.began_ms + ordinal,
        }


def a_running_trace(tower: Tower, trace: str) -> None:
    nodes = [{"id": f"{trace}-root", "trace_id": trace, "job_id": "j", "actor_type": "AGENT"}]
    nodes += [
        {
            "id": f"{trace}-{k}",
            "trace_id": trace,
            "parent_id": f"{trace}-root",
            "job_id": "j",
            "actor_type": "EXECUTION",
        }
        for k in range(KIDS)
    ]
    status, body = tower.post("tasks/", nodes)
    assert status == 201, (status, body)
    started = [
        {
            "event_id": f"{node['id']}-s",
            "trace_id": trace,
            "task_id": node["id"],
            "event_type": "STARTED",
            "timestamp_ms": 1,
        }
        for node in nodes
    ]
    status, body = tower.post("events/", started)
    assert status == 200, (status, body)


def once(tower: Tower, store: redis.Redis, trace: str) -> tuple[float, float]:
    """(until a polling reader sees it in Redis, until the answer), in ms."""
    seen: list[float] = []

    def poll() -> None:
        while store.hget(f"cmd:instance:{trace}", "global_action") != "PAUSE":
            time.sleep(0.0005)
        seen.append(time.perf_counter())

    reader = threading.Thread(target=poll, daemon=True)
    reader.start()
    start = time.perf_counter()
    status, body = tower.post("controls/", {"trace_id": trace, "action": "PAUSE"})
    answered = time.perf_counter()
    assert status == 201, (status, body)
    assert body["delivered"] is True, body
    reader.join(30)
    assert seen, "the command is not in Redis after 30 s"
    return (seen[0] - start) * 1e3, (answered - start) * 1e3


def measure(
    tower: Tower, store: redis.Redis, rounds: int, prefix: str, load: Load | None
) -> dict[str, float]:
    in_redis, answered = [], []
    for k in range(rounds):
        trace = f"{prefix}{k}"
        a_running_trace(tower, trace)
        if load is not None:
            load.trace = trace
            time.sleep(0.05)
        first, second = once(tower, store, trace)
        in_redis.append(first)
        answered.append(second)
    return {
        "p50": round(statistics.median(in_redis), 1),
        "p95": round(p95(in_redis), 1),
        "answer_p95": round(p95(answered), 1),
    }


def bare(store: redis.Redis, rounds: int) -> float:
    """A write and a read of Redis alone: what no tower can be quicker than."""
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        store.hset("bare", "action", "PAUSE")
        store.hget("bare", "action")
        spent.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(spent), 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--rate", type=int, default=1_000, help="events a second of the load")
    parser.add_argument("--postgres", action="store_true")
    chosen = parser.parse_args()
    engine = "postgresql" if chosen.postgres else "sqlite"
    valkey = Valkey(free_port())
    valkey.start()
    try:
        with database(chosen.postgres) as url, Tower(DATABASE_URL=url, REDIS_URL=valkey.url) as tower:
            store = redis.Redis.from_url(valkey.url, decode_responses=True)
            a_running_trace(tower, "background")
            measure(tower, store, 5, "warm", None)
            floor = bare(store, chosen.rounds)
            idle = measure(tower, store, chosen.rounds, "idle", None)
            with Load(tower, chosen.rate) as load:
                busy = measure(tower, store, chosen.rounds, "busy", load)
    finally:
        valkey.close()
    ratio = round(busy["p95"] / idle["p95"], 2)
    print(
        f"control on {engine}, POST to Redis, ms: idle p50 {idle['p50']} p95 {idle['p95']}; "
        f"at {load.reached:,.0f} events/s p50 {busy['p50']} p95 {busy['p95']} = {ratio} x idle; "
        f"bare Redis write and read {floor}"
    )
    figures = {
        "idle_ms": idle,
        "busy_ms": busy,
        "busy_events_per_second": round(load.reached),
        "bare_ms": floor,
    }
    keep(
        f"control-{engine}",
        {"rounds": chosen.rounds, "ratio_p95": ratio, **figures},
    )


if __name__ == "__main__":
    main()
