"""Reads beside a running ingest: the whole tree, a window, what changed, a run, a task, the list of runs.

    python -m bench.reads [--nodes 10000] [--rate 2000] [--rounds 30] [--postgres]

Targets while 2,000 reports/s flow, a tenth of them into the tree that is read: the whole tree of 10,000
tasks in 100 ms (Prefect took 1,306, MLflow 2,133 on such a machine), a window of 200 rows in 30 ms. Beside
each stands the same idle, and what the connection itself takes (``/healthz``).
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import time
from typing import Any

from bench.control import Load
from bench.ingest import KINDS, registered
from bench.record import keep, p95
from bench.register import database
from tests.servers import Tower

TREE, OTHERS = "tree", 50
TARGETS = {"tree": 100, "window": 30}


class Flow(Load):
    """A tenth of it into the tree."""

    def __init__(self, tower: Tower, nodes: int, rate: int) -> None:
        super().__init__(tower, rate)
        self._nodes = nodes

    def _event(self, ordinal: int) -> dict[str, Any]:
        tree = ordinal % 10 == 0
        trace = f"{TREE}-0" if tree else f"other-{ordinal % OTHERS}"
        return {
            "event_id": f"flow-{ordinal}",
            "trace_id": trace,
            "task_id": f"{trace}-{ordinal // 10 % (self._nodes if tree else 20)}",
            "event_type": KINDS[1],
            "payload": {"progress": ordinal % 100},
            "timestamp_ms": self.began_ms + ordinal,
        }


class Reader:
    def __init__(self, tower: Tower) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", tower.port, timeout=60)
        self._headers = {"Authorization": f"Bearer {tower.token}"}

    def ms(self, path: str) -> float:
        """Until the last byte of the answer is here."""
        start = time.perf_counter()
        self._line.request("GET", path, headers=self._headers)
        reply = self._line.getresponse()
        body = reply.read()
        spent = (time.perf_counter() - start) * 1000
        assert reply.status == 200, (reply.status, body[:300])
        return spent


def paths(nodes: int) -> dict[str, str]:
    run, api = f"{TREE}-0", "/api/v1"
    return {
        "connection": "/healthz",
        "tree": f"{api}/traces/{run}/tree/?limit={nodes + 1}",
        "window": f"{api}/traces/{run}/tree/?after={run}-{nodes // 2}&limit=200",
        "changes": f"{api}/traces/{run}/changes/?since=0",
        "snapshot": f"{api}/traces/{run}/snapshot/",
        "summary": f"{api}/traces/{run}/",
        "task": f"{api}/tasks/{run}-{nodes // 2}/?trace_id={run}",
        "runs": f"{api}/traces/?limit=50",
    }


def measure(tower: Tower, nodes: int, rate: int, rounds: int) -> dict[str, Any]:
    registered(tower, TREE, nodes, 1)
    registered(tower, "other", OTHERS * 20, OTHERS)
    reader = Reader(tower)
    figures: dict[str, Any] = {
        name: {"idle": times(reader, path, rounds)} for name, path in paths(nodes).items()
    }
    with Flow(tower, nodes, rate) as flow:
        for name, path in paths(nodes).items():
            figures[name]["flowing"] = times(reader, path, rounds)
    return {"reached": round(flow.reached), **figures}


def times(reader: Reader, path: str, rounds: int) -> dict[str, float]:
    reader.ms(path)
    spent = [reader.ms(path) for _ in range(rounds)]
    return {"p50": round(statistics.median(spent), 1), "p95": round(p95(spent), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--postgres", action="store_true")
    chosen = parser.parse_args()
    with database(chosen.postgres) as url, Tower(DATABASE_URL=url) as tower:
        figures = measure(tower, chosen.nodes, chosen.rate, chosen.rounds)
    engine = "postgresql" if chosen.postgres else "sqlite"
    print(f"reads on {engine} of a tree of {chosen.nodes:,}, while {figures['reached']:,} reports/s flow")
    for name in paths(chosen.nodes):
        idle, flowing = figures[name]["idle"], figures[name]["flowing"]
        target = f" = {flowing['p50'] / TARGETS[name]:.2f} x the target" if name in TARGETS else ""
        print(
            f"  {name:10} {flowing['p50']:7.1f} ms (p95 {flowing['p95']:.1f}); idle {idle['p50']:.1f}"
            f" (p95 {idle['p95']:.1f}){target}"
        )
    keep(f"reads-{engine}", {"nodes": chosen.nodes, "rate": chosen.rate, **figures})


if __name__ == "__main__":
    main()
