"""Numbering a tree at rest, and what reports of the same run wait for meanwhile.

    python -m bench.numbering [--tasks 100000] [--postgres]

A run ends, rests, and the sweeper writes its tree's numbers: all of them, then those that a hundred more
tasks have moved. Late reports of the same run go on one by one all the time; beside how long they took
stands how long they take while nothing is numbered.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import time
from typing import Any

import psycopg

from bench.ingest import Sender, batches, events, registered
from bench.record import keep, p95
from bench.register import database
from tests.servers import Tower

RUN, MORE = "rest-0", 100
#: Between two late reports.
PAUSE_SECONDS = 0.02


class Numbers:
    """Whether the run's numbers are those of its shape, asked of the database."""

    def __init__(self, url: str, tower: Tower) -> None:
        self._line: Any = (
            psycopg.connect(url, autocommit=True) if url else sqlite3.connect(tower.home / "tower.sqlite3")
        )

    def stand(self) -> bool:
        found = self._line.execute(
            f"SELECT numbered_seq = shape_seq FROM instances_trace WHERE id = '{RUN}'"
        ).fetchone()
        return bool(found and found[0])


def completed(first: int, count: int, tag: str) -> list[dict[str, Any]]:
    at_ms = time.time_ns() // 1_000_000
    return [
        {
            "event_id": f"{tag}-{k}",
            "trace_id": RUN,
            "task_id": f"{RUN}-{k}",
            "event_type": "COMPLETED",
            "payload": {},
            "timestamp_ms": at_ms,
        }
        for k in range(first, first + count)
    ]


def late(sender: Sender, tag: str, k: int) -> float:
    """Milliseconds of one late report."""
    [event] = events(f"{tag}-{k}", 1, 1)[1:2]
    body = json.dumps({**event, "trace_id": RUN, "task_id": f"{RUN}-{k % 100}"}).encode()
    start = time.perf_counter()
    sender.post(body)
    return (time.perf_counter() - start) * 1_000


def until_numbered(sender: Sender, numbers: Numbers, tag: str) -> tuple[float, list[float]]:
    """Seconds from now until the numbers stand, and how long late reports took on the way."""
    start, took = time.perf_counter(), list[float]()
    while not numbers.stand():
        took.append(late(sender, tag, len(took)))
        time.sleep(PAUSE_SECONDS)
        assert time.perf_counter() - start < 300, "not numbered within 300 s"
    return time.perf_counter() - start, took


def said(took: list[float]) -> dict[str, float]:
    return {
        "reports": len(took),
        "p50": round(statistics.median(took), 1),
        "p95": round(p95(took), 1),
        "max": round(max(took), 1),
    }


def measure(url: str, tower: Tower, tasks: int) -> dict[str, Any]:
    sender, numbers = Sender(tower), Numbers(url, tower)
    registered(tower, "rest", tasks, 1)
    for batch in batches(completed(0, tasks, "end")):
        sender.post(json.dumps(batch).encode())
    seconds, took = until_numbered(sender, numbers, "all")
    quiet = [late(sender, "quiet", k) for k in range(200)]
    more = [
        {
            "id": f"{RUN}-{tasks + k}",
            "trace_id": RUN,
            "parent_id": f"{RUN}-root",
            "job_id": "j",
            "actor_type": "EXECUTION",
        }
        for k in range(MORE)
    ]
    Sender(tower, "tasks/").post(json.dumps(more).encode())
    sender.post(json.dumps(completed(tasks, MORE, "more")).encode())
    again, took_again = until_numbered(sender, numbers, "again")
    return {
        "tasks": tasks,
        "all_seconds": round(seconds, 1),
        "again_seconds": round(again, 1),
        "quiet": said(quiet),
        "while_all": said(took),
        "while_again": said(took_again),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--postgres", action="store_true")
    chosen = parser.parse_args()
    with database(chosen.postgres) as url, Tower(DATABASE_URL=url) as tower:
        figures = measure(url, tower, chosen.tasks)
    engine = "postgresql" if chosen.postgres else "sqlite"
    print(f"numbering {chosen.tasks:,} tasks on {engine}; it rests 5 s before")
    for name, words in (("all", "all of them"), ("again", f"{MORE} more")):
        took, quiet = figures[f"while_{name}"], figures["quiet"]
        print(
            f"  {words:12} stands after {figures[f'{name}_seconds']} s; a late report p50 {took['p50']},"
            f" p95 {took['p95']}, at most {took['max']} ms = {took['max'] / quiet['max']:.1f} x the most"
            f" of {quiet['reports']} while nothing is numbered ({quiet['max']} ms)"
        )
    keep(f"numbering-{engine}", figures)


if __name__ == "__main__":
    main()
