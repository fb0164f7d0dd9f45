"""Reports folded and committed, over REST and through the queue, against the same rows as raw INSERTs.

    python -m bench.ingest [--tasks 20000] [--large 50000] [--rounds 3] [--only postgresql|sqlite]

Registration, STARTED, two PROGRESS and COMPLETED of each task, in batches of 1,000: 200 runs in turn, and
one run of 50,000. On PostgreSQL the raw limit is ``INSERT … VALUES … ON CONFLICT DO NOTHING`` of the same
rows into the same server, before and after (target: 0.8 of it), with a COPY of them into a stage and on
beside it; on SQLite the target is a rate. Then reports one by one, on 16 connections. Medians of the rounds;
CPU is that of the tower's processes without the database.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import itertools
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import redis

from bench.record import keep
from tests.servers import Tower, postgres, until

TRACES, BATCH = 200, 1_000
TARGET_RATIO, TARGET_SQLITE, TARGET_SINGLE, TARGET_CPU_MS = 0.8, 25_000, 1_000, 0.05 * 1_000
#: Reports one by one, on so many connections at once.
SINGLES, LINES = 4_000, 16
#: Requests that are under way at once where batches are sent.
CONNECTIONS = 8
KINDS = ("STARTED", "PROGRESS", "PROGRESS", "COMPLETED")
STREAM = "tms.task.events"
TICK = os.sysconf("SC_CLK_TCK")

Event = dict[str, Any]
Figures = dict[str, Any]


def events(prefix: str, tasks: int, traces: int = TRACES) -> list[Event]:
    """Four reports a task, the tasks of the runs one after the other; of today, or each had a warning."""
    per, at_ms = max(1, tasks // traces), time.time_ns() // 1_000_000
    return [
        {
            "event_id": f"{prefix}-{trace}-{task}-{k}",
            "trace_id": f"{prefix}-{trace}",
            "task_id": f"{prefix}-{trace}-{task}",
            "event_type": kind,
            "payload": {"progress": 30 * k, "message": f"page {task} of {per}"},
            "timestamp_ms": at_ms + 10 * task + k,
        }
        for trace in range(traces)
        for task in range(per)
        for k, kind in enumerate(KINDS)
    ]


def batches(rows: list[Any]) -> list[list[Any]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]


# -- the raw limit

COLUMNS = "trace_id text, event_id text, task_id text, kind smallint, payload text, timestamp_ms bigint"
Row = tuple[Any, ...]


def raw_rows(rows: list[Event]) -> list[Row]:
    return [
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


def inserted(connection: psycopg.Connection[Any], part: list[Row]) -> None:
    places = ",".join(["(%s,%s,%s,%s,%s,%s)"] * len(part))
    connection.execute(
        f"INSERT INTO raw_limit VALUES {places} ON CONFLICT DO NOTHING".encode(),
        [value for row in part for value in row],
    )


def copied(connection: psycopg.Connection[Any], part: list[Row]) -> None:
    connection.execute("TRUNCATE stage")
    with connection.cursor().copy("COPY stage FROM STDIN") as copy:
        for row in part:
            copy.write_row(row)
    connection.execute("INSERT INTO raw_limit SELECT * FROM stage ON CONFLICT DO NOTHING")


def raw_rate(
    url: str, rows: list[Row], put: Callable[[psycopg.Connection[Any], list[Row]], None] = inserted
) -> float:
    """Rows a second, one transaction a batch, by the client library that the tower has too."""
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE IF EXISTS raw_limit")
        connection.execute(f"CREATE TABLE raw_limit ({COLUMNS}, PRIMARY KEY (trace_id, event_id))".encode())
        connection.execute(f"CREATE TEMPORARY TABLE stage ({COLUMNS})".encode())
        connection.commit()
        start = time.perf_counter()
        for part in batches(rows):
            put(connection, part)
            connection.commit()
        spent = time.perf_counter() - start
        connection.execute("DROP TABLE raw_limit")
        connection.commit()
    return len(rows) / spent


# -- the tower


class Sender:
    """One kept connection a thread."""

    def __init__(self, tower: Tower, path: str = "events/") -> None:
        self._tower, self._path, self._own = tower, path, threading.local()

    def post(self, body: bytes) -> int:
        """How many were taken; all of them have to be."""
        line: http.client.HTTPConnection | None = getattr(self._own, "line", None)
        if line is None:
            line = self._own.line = http.client.HTTPConnection("127.0.0.1", self._tower.port, timeout=120)
        headers = {"Authorization": f"Bearer {self._tower.token}", "Content-Type": "application/json"}
        line.request("POST", f"/api/v1/{self._path}", body, headers)
        reply = line.getresponse()
        said = json.loads(reply.read())
        assert reply.status in {200, 201}, (reply.status, str(said)[:300])
        return int(said["accepted"]) if "accepted" in said else len(said["results"])


class Clock:
    """Seconds, and CPU seconds of the processes that do the work."""

    def __init__(self, tower: Tower) -> None:
        # Those of Python: the web process has a reader beside it.
        self._pids = [
            pid for pid, line in tower.below().items() if "manage.py" in line or "instances.reader" in line
        ]

    def __enter__(self) -> Clock:
        self._start, self._cpu = time.perf_counter(), self._spent()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu = time.perf_counter() - self._start, self._spent() - self._cpu

    def _spent(self) -> float:
        ticks = 0
        for pid in self._pids:
            words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(words[11]) + int(words[12])
        return ticks / TICK


def registrations(prefix: str, tasks: int, traces: int = TRACES) -> list[bytes]:
    """Bodies: a run after the other, its root first, at most 5,000 tasks each."""
    per, bodies = max(1, tasks // traces), []
    for trace in range(traces):
        name = f"{prefix}-{trace}"
        shared = {"trace_id": name, "job_id": "j", "actor_type": "EXECUTION"}
        body: list[Event] = [
            {"id": f"{name}-root", **shared, "actor_type": "AGENT", "split_count": per},
            *({"id": f"{name}-{k}", "parent_id": f"{name}-root", **shared} for k in range(per)),
        ]
        bodies += [json.dumps(body[at : at + 5_000]).encode() for at in range(0, len(body), 5_000)]
    return bodies


def registered(tower: Tower, prefix: str, tasks: int, traces: int = TRACES) -> float:
    """Tasks a second. In turn, since a task has to know its parent."""
    bodies, sender = registrations(prefix, tasks, traces), Sender(tower, "tasks/")
    start = time.perf_counter()
    taken = sum(map(sender.post, bodies))
    return taken / (time.perf_counter() - start)


def ended(tower: Tower, prefix: str, traces: int) -> bool:
    """Whether all that was sent is folded. The last runs are asked first: of the others few are open then."""
    for trace in range(traces - 1, -1, -1):
        status, summary = tower.get(f"traces/{prefix}-{trace}/")
        assert status == 200, (status, summary)
        if (summary["status"], summary["open"]) != ("SUCCESS", 0):
            return False
    return True


def over_rest(tower: Tower, prefix: str, tasks: int, traces: int = TRACES) -> tuple[float, float]:
    """Reports a second and CPU ms per 1,000, from the first POST to the last answer (after the commit)."""
    rows = events(prefix, tasks, traces)
    bodies, sender = [json.dumps(batch).encode() for batch in batches(rows)], Sender(tower)
    with Clock(tower) as clock, concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        taken = sum(pool.map(sender.post, bodies))
    assert taken == len(rows), (taken, len(rows))
    assert ended(tower, prefix, traces)
    return len(rows) / clock.seconds, clock.cpu * 1e6 / len(rows)


def over_queue(tower: Tower, prefix: str, tasks: int, traces: int = TRACES) -> tuple[float, float]:
    """The same from the first XADD until all is folded and acknowledged."""
    rows = events(prefix, tasks, traces)
    stream = redis.Redis.from_url((tower.home / "secrets" / "redis_url").read_text().strip())
    before: Any = stream.xinfo_stream(STREAM) if stream.exists(STREAM) else {"entries-added": 0}
    sum_of = before["entries-added"] + len(rows)
    line: Any = stream.connection_pool.get_connection()
    packed = [
        b"".join(part for row in batch for part in line.pack_command("XADD", STREAM, "*", "event", row))
        for batch in ([json.dumps(row) for row in batch] for batch in batches(rows))
    ]
    # Answers cost the client as much as sending; that nothing is missing is asked at the end.
    line.send_command("CLIENT", "REPLY", "OFF")
    with Clock(tower) as clock:
        for part in packed:
            line.send_packed_command([part])
        # Trimmed once it is acknowledged: an empty stream is a finished one.
        until(lambda: read_to_its_end(stream, sum_of), "all is read", seconds=600, every=0.005)
    stream.connection_pool.disconnect()
    assert ended(tower, prefix, traces)
    return len(rows) / clock.seconds, clock.cpu * 1e6 / len(rows)


def read_to_its_end(stream: redis.Redis, least: int) -> bool:
    about: Any = stream.xinfo_stream(STREAM)
    return bool(about["entries-added"] >= least and about["length"] == 0)


def one_by_one(tower: Tower, prefix: str) -> float:
    """Reports a second, each a request of its own that is answered after its commit."""
    registered(tower, prefix, TRACES * 5)
    requests = iter([asked(tower, json.dumps(e).encode()) for e in events(prefix, TRACES * 5)[:SINGLES]])
    guard = threading.Lock()
    failed: list[bytes] = []

    def line() -> None:
        with socket.create_connection(("127.0.0.1", tower.port)) as own:
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                with guard:
                    request = next(requests, None)
                if request is None:
                    return
                own.sendall(request)
                answer = answered(own)
                if not answer.startswith(b"HTTP/1.1 200 ") or b'"accepted":1' not in answer:
                    failed.append(answer)

    threads = [threading.Thread(target=line) for _ in range(LINES)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - start
    assert not failed, failed[0]
    return SINGLES / spent


# http.client takes 0.4 ms a request, and the machine's cores are the tower's as well.


def asked(tower: Tower, body: bytes) -> bytes:
    head = (
        "POST /api/v1/events/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {tower.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answered(line: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += line.recv(1 << 16)
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += line.recv(1 << 16)
    return head + b"\r\n\r\n" + body


# -- what is measured


def measured(tower: Tower, tasks: int, large: int, rounds: int) -> Iterator[tuple[str, float]]:
    """(name of a figure, one measurement of it), the kinds in turn in each round."""
    # The first batches meet empty tables, cold caches and connections that are yet to be made.
    registered(tower, "warm", TRACES * 2)
    over_rest(tower, "warm", TRACES * 2)
    for k in range(rounds):
        for door, sent in (("rest", over_rest), ("queue", over_queue)):
            yield "register", registered(tower, f"{door}{k}", tasks)
            rate, cpu = sent(tower, f"{door}{k}", tasks)
            yield door, rate
            yield f"{door}_cpu_ms", cpu
            registered(tower, f"{door}-large{k}", large, 1)
            rate, _ = sent(tower, f"{door}-large{k}", large, 1)
            yield f"{door}_one_run", rate
        yield "single", one_by_one(tower, f"single{k}")


def on_postgres(tasks: int, large: int, rounds: int) -> Figures:
    with postgres() as url, Tower(DATABASE_URL=url) as tower:
        rows, found = raw_rows(events("raw", tasks)), list[tuple[str, float]]()
        found.append(("raw", raw_rate(url, rows)))
        for name, figure in measured(tower, tasks, large, rounds):
            found.append((name, figure))
            if name.endswith("_one_run"):
                found.append(("raw", raw_rate(url, rows)))
        found += [("copy", raw_rate(url, rows, copied)) for _ in range(rounds)]
    figures = medians(found)
    raw = figures["raw"]
    print(f"PostgreSQL: raw INSERT {raw:,.0f}/s; by COPY and a stage {figures['copy']:,.0f}/s")
    for door in ("rest", "queue"):
        print(
            f"  {door:5} {figures[door]:,.0f}/s = {figures[door] / raw:.2f} x raw (target {TARGET_RATIO});"
            f" one run {figures[door + '_one_run']:,.0f}/s = {figures[door + '_one_run'] / raw:.2f} x;"
            f" CPU {figures[door + '_cpu_ms']:.0f} ms per 1,000 (target {TARGET_CPU_MS:.0f})"
        )
        figures[f"{door}_ratio"] = round(figures[door] / raw, 2)
    say_rest(figures)
    return figures


def on_sqlite(tasks: int, large: int, rounds: int) -> Figures:
    with Tower() as tower:
        figures = medians(list(measured(tower, tasks, large, rounds)))
    print("SQLite")
    for door in ("rest", "queue"):
        print(
            f"  {door:5} {figures[door]:,.0f}/s = {figures[door] / TARGET_SQLITE:.2f} x the target"
            f" ({TARGET_SQLITE:,}/s); one run {figures[door + '_one_run']:,.0f}/s;"
            f" CPU {figures[door + '_cpu_ms']:.0f} ms per 1,000"
        )
    say_rest(figures)
    return figures


def medians(found: list[tuple[str, float]]) -> Figures:
    by_name = itertools.groupby(sorted(found), key=lambda pair: pair[0])
    rounds = {name: [figure for _, figure in pairs] for name, pairs in by_name}
    return {name: round(statistics.median(all_of), 1) for name, all_of in rounds.items()} | {
        f"{name}_rounds": [*map(round, all_of)] for name, all_of in rounds.items()
    }


def say_rest(figures: Figures) -> None:
    print(
        f"  registered {figures['register']:,.0f} tasks/s; one report a request, {LINES} connections:"
        f" {figures['single']:,.0f}/s = {figures['single'] / TARGET_SINGLE:.2f} x the target"
        f" ({TARGET_SINGLE:,}/s)"
    )


ENGINES = {"postgresql": on_postgres, "sqlite": on_sqlite}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=20_000, help="in 200 runs, four reports each")
    parser.add_argument("--large", type=int, default=50_000, help="tasks of the one run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=sorted(ENGINES))
    chosen = parser.parse_args()
    tasks = max(1, chosen.tasks // TRACES) * TRACES
    for engine, measure in ENGINES.items():
        if chosen.only in (None, engine):
            figures = measure(tasks, chosen.large, chosen.rounds)
            keep(f"ingest-{engine}", {"tasks": tasks, "large": chosen.large, **figures})


if __name__ == "__main__":
    main()
