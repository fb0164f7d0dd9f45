"""Reports into a full database against an empty one, and the memory of each process over many of them.

    python -m bench.growth [--tasks 1000000] [--reports 10000000] [--through 2000000] [--rounds 3]

On PostgreSQL. One run of 100 tasks goes through the doors; its rows are then copied inside the database, as
other runs, until so many tasks and reports are stored (the numbers of runs go on, so the log's ranges are
made by the tower itself). Target: 0.8 of the rate of the empty database, and as much for tasks registered.
Then so many reports go through REST, and the memory of each process is read on the way: flat is the target.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import psycopg

from bench.ingest import KINDS, TRACES, Sender, batches, events, over_queue, over_rest, registered
from bench.record import keep
from tests.servers import Tower, postgres

TARGET = 0.8
#: Tasks of the run that is copied.
TASKS = 100
#: Tables of a run, and what a copy ``g`` runs further on holds in each column that names the run.
KEY = "+ (g::bigint << 32)"
COPIED: dict[str, dict[str, str]] = {
    "instances_trace": {"number": "t.number + g", "id": "t.id || '-' || g"},
    "instances_intentledger": {"trace": "t.trace + g"},
    "instances_taskinstance": {
        "pk": f"t.pk {KEY}", "tree_id": "t.tree_id + g", "parent_id": f"t.parent_id {KEY}",
    },
    "instances_taskbody": {"task": f"t.task {KEY}"},
    "instances_tasksaid": {"task": f"t.task {KEY}"},
    "instances_event": {"trace": "t.trace + g", "task": f"t.task {KEY}"},
}  # fmt: skip
#: Runs of one copying transaction.
STEP = 500


def template(tower: Tower, reports: int) -> str:
    """A finished run, so many reports to each task."""
    name = "template-0"
    registered(tower, "template", TASKS, 1)
    kinds = [KINDS[0], *[KINDS[1]] * (reports - 2), KINDS[-1]]
    sent = [
        {
            **event,
            "event_id": f"{event['task_id']}-{k}",
            "event_type": kind,
            "timestamp_ms": event["timestamp_ms"] + k,
        }
        for event in events("template", TASKS, 1)[:: len(KINDS)]
        for k, kind in enumerate(kinds)
    ]
    sender = Sender(tower)
    for batch in batches(sent):
        sender.post(json.dumps(batch).encode())
    return name


def fill(tower: Tower, url: str, name: str, tasks: int) -> None:
    """Copy the run until there are so many tasks."""
    with psycopg.connect(url, autocommit=True) as raw:
        number = one(raw, "SELECT number FROM instances_trace WHERE id = %s", name)
        offset = one(raw, "SELECT last_value FROM instances_trace_number_seq") - number
        statements = [copying(raw, table, changed) for table, changed in COPIED.items()]
        for start in range(1, tasks // TASKS + 1, STEP):
            low, high = offset + start, offset + min(start + STEP, tasks // TASKS + 1) - 1
            raw.execute("SELECT setval('instances_trace_number_seq', %s)", [number + high])
            # What the sweeper does each ten seconds, at the pace of this.
            if start % (2 * STEP) == 1:
                tower.manage("shell", "-c", MAKE_AHEAD)
            with raw.transaction():
                for statement in statements:
                    raw.execute(statement.encode(), {"number": number, "low": low, "high": high})
        raw.execute("VACUUM ANALYZE")
        raw.execute("CHECKPOINT")


MAKE_AHEAD = (
    "import time; from instances import partitions; partitions.make_ahead(time.time_ns() // 1_000_000)"
)


def copying(raw: psycopg.Connection[Any], table: str, changed: dict[str, str]) -> str:
    columns = [
        row[0]
        for row in raw.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
        ).fetchall()
    ]
    values = ", ".join(changed.get(column, f't."{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    key = next(iter(changed))
    where = f"t.{key} = %(number)s" if key in {"number", "trace"} else f"t.{key} >> 32 = %(number)s"
    return (
        f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(%(low)s::int, %(high)s::int) g,"
        f" {table} t WHERE {where} ORDER BY g"
    )


def one(raw: psycopg.Connection[Any], sql: str, *params: Any) -> int:
    row = raw.execute(sql.encode(), params).fetchone()
    assert row is not None
    return int(row[0])


def rates(tower: Tower, prefix: str, tasks: int, rounds: int) -> dict[str, float]:
    """Medians: tasks registered, and reports over REST and through the queue, a second."""
    found: dict[str, list[float]] = {"register": [], "rest": [], "queue": []}
    for k in range(rounds):
        for door, sent in (("rest", over_rest), ("queue", over_queue)):
            found["register"].append(registered(tower, f"{prefix}-{door}{k}", tasks))
            found[door].append(sent(tower, f"{prefix}-{door}{k}", tasks)[0])
    return {name: round(statistics.median(all_of)) for name, all_of in found.items()}


def memory(tower: Tower) -> dict[str, int]:
    """MiB of each of the tower's processes, those without what they share with others."""
    found: dict[str, int] = {}
    for pid, line in sorted(tower.below().items()):
        words = next((word for word in ("manage.py ", "-m instances.", "valkey") if word in line), None)
        if words is not None:
            name = "valkey" if words == "valkey" else line.split(words)[1].split()[0]
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            private = sum(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Private_"))
            found[f"{name}-{pid}"] = private >> 10
    return found


def through(tower: Tower, reports: int) -> list[dict[str, int]]:
    """Memory at the start and after each tenth of so many reports, half over REST and half by the queue."""
    tasks = max(TRACES, reports // 10 // len(KINDS) // TRACES * TRACES)
    told = [memory(tower)]
    for k in range(10):
        registered(tower, f"flow{k}", tasks)
        (over_rest if k % 2 else over_queue)(tower, f"flow{k}", tasks)
        told.append(memory(tower))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--reports", type=int, default=10_000_000)
    parser.add_argument("--through", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--each", type=int, default=10_000, help="tasks of one measurement")
    chosen = parser.parse_args()
    with postgres() as url, Tower(DATABASE_URL=url) as tower:
        rates(tower, "warm", TRACES * 5, 1)
        empty = rates(tower, "empty", chosen.each, chosen.rounds)
        start = time.perf_counter()
        fill(tower, url, template(tower, chosen.reports // chosen.tasks), chosen.tasks)
        spent = time.perf_counter() - start
        print(f"{chosen.tasks:,} tasks with {chosen.reports:,} reports stored in {spent:.0f} s")
        full = rates(tower, "full", chosen.each, chosen.rounds)
        for name in empty:
            print(
                f"  {name:8} {full[name]:,.0f}/s, empty {empty[name]:,.0f}/s ="
                f" {full[name] / empty[name]:.2f} x (target {TARGET})"
            )
        told = through(tower, chosen.through)
        print(f"memory, MiB, after 0 to {chosen.through:,} reports in tenths")
        for name in told[-1]:
            print(f"  {name:16} {' '.join(str(each.get(name, '-')) for each in told)}")
    stored = {"tasks": chosen.tasks, "reports": chosen.reports}
    keep("growth", {**stored, "empty": empty, "full": full, "memory": told})


if __name__ == "__main__":
    main()
