"""Reports from Kafka by one consumer and by two, sharded by run, on a real broker and PostgreSQL.

    python -m tests.sources.jars            # once: the broker
    python -m bench.kafka [--tasks 20000] [--rounds 3]

Four reports of each task in 200 runs, keyed by their run over 8 partitions. The consumers are in the group
and stand still until all is sent (by one process in Python, which takes a core); a round ends when all is
committed. Target: two are 1.6 x one. Beside it the
raw limit (``bench.ingest``) and who keeps the cores busy: database, broker and consumers share them, and
where none is left, that bounds the rest. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from bench.ingest import TICK, TRACES, Event, Figures, ended, events, medians, raw_rate, raw_rows, registered
from bench.record import keep
from instances.sources.kafka import KafkaTopic
from tests.servers import ROOT, Tower, postgres, processes_below, until
from tests.sources import jars
from tests.sources.broker import Broker
from tower.kafka import Address

PARTITIONS, TARGET = 8, 1.6


@contextmanager
def consumers(count: int, tower: Tower, database: str, address: Address) -> Iterator[list[int]]:
    """So many processes of ``manage.py consume``, each with partitions of its own; their ids."""
    redis_url = (tower.home / "secrets" / "redis_url").read_text().strip()
    environment = tower.environment | {
        "DATABASE_URL": database,
        "REDIS_URL": redis_url,
        "TOWER_EVENTS_URL": f"kafka://{address.servers}/?prefix={address.prefix}",
    }
    with tempfile.TemporaryDirectory() as home:
        environment["TOWER_HOME"] = home
        words = [sys.executable, "manage.py", "consume"]
        started = [
            subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
            for _ in range(count)
        ]
        try:
            until(lambda: shared_out(address, count), "each has partitions", seconds=120, every=0.2)
            yield [one.pid for one in started]
        finally:
            for one in started:
                one.terminate()
            for one in started:
                one.wait(60)


def shared_out(address: Address, count: int) -> bool:
    group = address.prefix + "tower"
    admin = AdminClient(address.client())
    try:
        members = admin.describe_consumer_groups([group])[group].result().members
    except KafkaException:  # the broker has only begun with this group
        return False
    sizes = [len(one.assignment.topic_partitions) for one in members]
    return len(sizes) == count and min(sizes) >= PARTITIONS // count


class Cores:
    """CPU seconds by who spent them, while the block ran."""

    def __init__(self, **pids: list[int]) -> None:
        self._pids = pids

    def __enter__(self) -> Cores:
        self._start, self._spent = (
            time.perf_counter(),
            {name: spent(pids) for name, pids in self._pids.items()},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        #: Cores that each kept busy, on average.
        self.busy = {
            name: (spent(pids) - self._spent[name]) / self.seconds for name, pids in self._pids.items()
        }


def spent(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # it left; what it spent is its parent's from then on
            continue
        ticks += sum(map(int, words[11:15]))
    return ticks / TICK


def sent(producer: Any, topic: str, packed: list[tuple[str, bytes]]) -> None:
    for key, report in packed:
        while True:
            try:
                producer.produce(topic, report, key=key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


def one_round(count: int, tower: Tower, database: str, broker: Broker, tasks: int, name: str) -> Figures:
    address = Address(broker.servers, f"{name}.", {"security.protocol": "PLAINTEXT"})
    topic = address.prefix + "tms.task.events"
    broker.create(topic, PARTITIONS)
    registered(tower, name, tasks)
    rows: list[Event] = events(name, tasks)
    packed = [(row["trace_id"], json.dumps(row).encode()) for row in rows]
    producer, look = Producer(address.client(**{"linger.ms": 5})), KafkaTopic(address)
    with consumers(count, tower, database, address) as pids:
        backends = pids_of(database)
        java = [pid for pid, line in processes_below(os.getpid()).items() if "kafka.Kafka" in line]
        with held(pids):
            sent(producer, topic, packed)
        with Cores(consumers=pids, postgres=backends, broker=java) as cores:
            until(lambda: finished(look), "all is committed", seconds=600, every=0.02)
        assert ended(tower, name, TRACES)
    return {"rate": len(rows) / cores.seconds, **cores.busy}


@contextmanager
def held(pids: list[int]) -> Iterator[None]:
    """They stay members of the group meanwhile: shorter than the session's timeout."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def pids_of(database: str) -> list[int]:
    """Of the server's processes; the consumers are connected already."""
    with psycopg.connect(database) as connection:
        return [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity").fetchall()]


def finished(look: KafkaTopic) -> bool:
    waits = look.standing()
    return waits.lag + waits.pending == 0


def measure(tasks: int, rounds: int) -> Figures:
    found: list[tuple[str, float]] = []
    with postgres() as database, Broker(heap="-Xmx512m") as broker, Tower(DATABASE_URL=database) as tower:
        rows = raw_rows(events("raw", tasks))
        one_round(1, tower, database, broker, TRACES * 2, "warm")
        for k in range(rounds):
            found.append(("raw", raw_rate(database, rows)))
            for count, word in ((1, "one"), (2, "two")):
                figures = one_round(count, tower, database, broker, tasks, f"{word}{k}")
                found += [(f"{word}_{name}", round(figure, 3)) for name, figure in figures.items()]
    return medians(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=20_000, help="in 200 runs, four reports each")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if why := jars.missing():
        sys.exit(f"No broker can be started: {why}.")
    tasks = max(1, chosen.tasks // TRACES) * TRACES
    figures = measure(tasks, chosen.rounds)
    ratio = figures["two_rate"] / figures["one_rate"]
    print(
        f"Kafka: one consumer {figures['one_rate']:,.0f}/s, two {figures['two_rate']:,.0f}/s = {ratio:.2f} x"
        f" (target {TARGET}); raw INSERT {figures['raw']:,.0f}/s, two are"
        f" {figures['two_rate'] / figures['raw']:.2f} x"
    )
    for word in ("one", "two"):
        parts = ", ".join(
            f"{who} {figures[f'{word}_{who}']:.2f}" for who in ("consumers", "postgres", "broker")
        )
        print(f"  cores busy with {word}: {parts} of {os.cpu_count()}")
    keep("kafka", {"tasks": tasks, "ratio": round(ratio, 2), **figures})


if __name__ == "__main__":
    main()
