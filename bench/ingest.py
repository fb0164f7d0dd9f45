"""Events over REST in batches of 1,000, folded and committed, against the same rows as raw multi-row INSERTs.

    python -m bench.ingest [--tasks 20000] [--connections 2] [--only postgresql|sqlite]

On PostgreSQL the raw limit is ``INSERT … VALUES … ON CONFLICT DO NOTHING`` of the same rows into the same
server, before and after (target: 0.8 of it). On SQLite the target is a rate: 25,000 events/s. Then reports
one by one, on 16 connections (target: 1,000/s).
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import statistics
import threading
import time
from typing import Any

import psycopg

from bench.record import keep
from tests.servers import Tower, postgres

TRACES, BATCH = 200, 1_000
TARGET_RATIO, TARGET_SQLITE, TARGET_SINGLE = 0.8, 25_000, 1_000
#: Reports one by one, on so many connections at once.
SINGLES, LINES = 4_000, 16
KINDS = ("STARTED", "PROGRESS", "PROGRESS", "COMPLETED")

Event = dict[str, Any]


def events(prefix: str, tasks: int) -> list[Event]:
    """Four reports a task, the tasks of 200 traces one after the other."""
    per = max(1, tasks // TRACES)
    return [
        {
            "event_id": f"{prefix}-{trace}-{task}-{k}",
            "trace_id": f"{prefix}-{trace}",
            "task_id": f"{prefix}-{trace}-{task}",
            "event_type": kind,
            "payload": {"progress": 30 * k, "message": f"page {task} of {per}"},
            "timestamp_ms": 1_700_000_000_000 + 10 * task + k,
        }
        for trace in range(TRACES)
        for task in range(per)
        for k, kind in enumerate(KINDS)
    ]


def batches(rows: list[Event]) -> list[list[Event]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


# -- the raw limit


def raw_rate(url: str, rows: list[Event]) -> float:
    """Rows a second, one transaction a batch, by the client library that the tower has too."""
    columns = [
        (
            e["trace_id"],
            e["event_id"],
            e["task_id"],
            KINDS.index(e["event_type"]),
            json.dumps(e["payload"]),
            e["timestamp_ms"],
        )
        for e in rows
    ]
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS raw_limit")
        connection.execute(
            "CREATE TABLE raw_limit (trace_id text, event_id text, task_id text, kind smallint, "
            "payload text, timestamp_ms bigint, PRIMARY KEY (trace_id, event_id))"
        )
        connection.commit()
        start = time.perf_counter()
        for first in range(0, len(columns), BATCH):
            part = columns[first : first + BATCH]
            places = ",".join(["(%s,%s,%s,%s,%s,%s)"] * len(part))
            connection.execute(
                f"INSERT INTO raw_limit VALUES {places} ON CONFLICT DO NOTHING".encode(),
                [value for row in part for value in row],
            )
            connection.commit()
        spent = time.perf_counter() - start
        connection.execute("DROP TABLE raw_limit")
        connection.commit()
    return len(rows) / spent


# -- the tower


class Sender:
    """One kept connection a thread."""

    def __init__(self, tower: Tower) -> None:
        self._tower, self._own = tower, threading.local()

    def post(self, body: bytes) -> int:
        line: http.client.HTTPConnection | None = getattr(self._own, "line", None)
        if line is None:
            line = self._own.line = http.client.HTTPConnection("127.0.0.1", self._tower.port, timeout=120)
        headers = {"Authorization": f"Bearer {self._tower.token}", "Content-Type": "application/json"}
        line.request("POST", "/api/v1/events/", body, headers)
        reply = line.getresponse()
        said = json.loads(reply.read())
        assert reply.status == 200, (reply.status, said)
        return int(said["accepted"])


def prepare(tower: Tower, prefix: str, tasks: int) -> None:
    per = max(1, tasks // TRACES)
    for trace in range(TRACES):
        name = f"{prefix}-{trace}"
        body = [
            {"id": f"{name}-root", "trace_id": name, "job_id": "j", "actor_type": "AGENT", "split_count": per}
        ]
        body += [
            {
                "id": f"{name}-{k}",
                "trace_id": name,
                "parent_id": f"{name}-root",
                "job_id": "j",
                "actor_type": "EXECUTION",
            }
            for k in range(per)
        ]
        status, answer = tower.post("tasks/", body)
        assert status == 201, (status, str(answer)[:300])


def rest_rate(tower: Tower, prefix: str, rows: list[Event], connections: int) -> float:
    """Events a second from the first POST to the last answer, which follows the commit; then a check."""
    bodies = [json.dumps(batch).encode() for batch in batches(rows)]
    sender = Sender(tower)
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        accepted = sum(pool.map(sender.post, bodies))
    spent = time.perf_counter() - start
    assert accepted == len(rows), (accepted, len(rows))
    for trace in range(TRACES):
        status, summary = tower.get(f"traces/{prefix}-{trace}/")
        assert status == 200, (status, summary)
        assert (summary["status"], summary["open"]) == ("SUCCESS", 0), summary
    return len(rows) / spent


def single_rate(tower: Tower, prefix: str) -> float:
    """Reports a second, each a request of its own that is answered after its commit."""
    prepare(tower, prefix, TRACES * 5)
    bodies = [json.dumps(event).encode() for event in events(prefix, TRACES * 5)[:SINGLES]]
    sender = Sender(tower)
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(LINES) as pool:
        accepted = sum(pool.map(sender.post, bodies))
    spent = time.perf_counter() - start
    assert accepted == SINGLES, accepted
    return SINGLES / spent


def on_postgres(tasks: int, connections: int, rounds: int) -> dict[str, Any]:
    with postgres() as url, Tower(DATABASE_URL=url) as tower:
        sample = events("raw", tasks)
        raw, rest = [raw_rate(url, sample)], []
        for k in range(rounds):
            prefix = f"rest{k}"
            prepare(tower, prefix, tasks)
            rest.append(rest_rate(tower, prefix, events(prefix, tasks), connections))
            raw.append(raw_rate(url, sample))
        single = [single_rate(tower, f"single{k}") for k in range(rounds)]
    ratio = statistics.median(rest) / statistics.median(raw)
    print(
        f"ingest on PostgreSQL: REST {statistics.median(rest):,.0f} events/s = {ratio:.2f} x raw INSERT "
        f"({statistics.median(raw):,.0f}/s; target {TARGET_RATIO})"
    )
    say_single(single)
    return {
        "raw": [*map(round, raw)],
        "rest": [*map(round, rest)],
        "ratio": round(ratio, 2),
        "single": [*map(round, single)],
    }


def on_sqlite(tasks: int, connections: int, rounds: int) -> dict[str, Any]:
    with Tower() as tower:
        rest: list[float] = []
        for k in range(rounds):
            prefix = f"rest{k}"
            prepare(tower, prefix, tasks)
            rest.append(rest_rate(tower, prefix, events(prefix, tasks), connections))
        single = [single_rate(tower, f"single{k}") for k in range(rounds)]
    rate = statistics.median(rest)
    print(
        f"ingest on SQLite: REST {rate:,.0f} events/s = {rate / TARGET_SQLITE:.2f} x the target "
        f"({TARGET_SQLITE:,}/s)"
    )
    say_single(single)
    return {
        "rest": [*map(round, rest)],
        "ratio_to_target": round(rate / TARGET_SQLITE, 2),
        "single": [*map(round, single)],
    }


def say_single(rates: list[float]) -> None:
    rate = statistics.median(rates)
    print(
        f"  one report a request, {LINES} connections: {rate:,.0f}/s = {rate / TARGET_SINGLE:.2f} x the"
        f" target ({TARGET_SINGLE:,}/s)"
    )


ENGINES = {"postgresql": on_postgres, "sqlite": on_sqlite}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=20_000, help="four events each; at least 200")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=sorted(ENGINES))
    chosen = parser.parse_args()
    tasks = max(1, chosen.tasks // TRACES) * TRACES
    for engine, measure in ENGINES.items():
        if chosen.only in (None, engine):
            figures = measure(tasks, chosen.connections, chosen.rounds)
            keep(
                f"ingest-{engine}",
                {"events": tasks * len(KINDS), "connections": chosen.connections, **figures},
            )


if __name__ == "__main__":
    main()
