"""kill -9 of web, consumer, sweeper, Valkey and PostgreSQL at random moments under load; then all is counted.

    python -m bench.faults [--rounds 50] [--seed 1]

Writers report over REST and over the queue all the while. A tower has recovered when a report over
each of them is folded, a control delivered, and what it cancelled has ended. Fails where anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import redis

from bench.record import keep, p95
from tests.faults.load import STREAM, Load
from tests.servers import Postgres, Tower, until

#: What a process's command line holds, by its name here.
CHILDREN = {
    "web": "manage.py web", "consumer": "manage.py consume", "sweeper": "manage.py sweep",
    "valkey": "valkey-server",
}  # fmt: skip
POSTGRES = "postgres"
#: Five deaths of one child in a minute end `up`, by design.
DEATHS, WITHIN_SECONDS = 4, 65.0
RECOVERY_SECONDS = 120.0


class Rounds:
    def __init__(self, tower: Tower, postgres: Postgres, load: Load, seed: int) -> None:
        self.tower, self.postgres, self.load = tower, postgres, load
        self.chance = random.Random(seed)
        self.deaths: dict[str, list[float]] = defaultdict(list)
        self.recovered: dict[str, list[float]] = defaultdict(list)

    def play(self, number: int) -> str:
        """One kill at a random moment, mostly while all is well; what was killed."""
        time.sleep(self.chance.uniform(0.1, 1.5))
        victim = self.chance.choice([name for name in (*CHILDREN, POSTGRES) if not self._spared(name)])
        begun = time.monotonic()
        self._kill(victim)
        self._recover(number)
        self.recovered[victim].append(time.monotonic() - begun)
        return victim

    def _spared(self, name: str) -> bool:
        lately = [at for at in self.deaths[name] if time.monotonic() - at < WITHIN_SECONDS]
        return name != POSTGRES and len(lately) >= DEATHS

    def _kill(self, name: str) -> None:
        if name == POSTGRES:
            self.postgres.kill()
            self.postgres.start()
            return
        pid = until(lambda: self._pid(CHILDREN[name]), f"{name} runs")
        self.deaths[name].append(time.monotonic())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _pid(self, word: str) -> int | None:
        return next((pid for pid, words in self.tower.below().items() if word in words), None)

    # -- whether it works again

    def _recover(self, number: int) -> None:
        trace = f"probe-{number}"
        base = {"trace_id": trace, "job_id": "probe", "actor_type": "AGENT"}
        self._insist("tasks/", [base | {"id": "top"}, base | {"id": "below", "parent_id": "top"}])
        said = {"trace_id": trace, "task_id": "top", "timestamp_ms": 1}
        self._insist("events/", said | {"event_id": "rest", "event_type": "STARTED"})
        queued = said | {"event_id": "queue", "event_type": "PROGRESS", "payload": {"progress": 50}}
        self._until(lambda: self._put(queued), "the queue takes a report")
        self._insist("controls/", {"id": trace, "trace_id": trace, "action": "CANCEL"})
        self._until(lambda: self._tasks(trace).get("top", {}).get("progress") == 50, "the queue is read")
        self._until(lambda: self._tasks(trace)["below"]["status"] == "CANCELLED", "it is swept")
        self._until(lambda: self._ask(f"controls/{trace}/").get("delivered"), "it is delivered")

    def _insist(self, path: str, body: object) -> None:
        self._until(lambda: self._call("POST", path, body)[0] in {200, 201}, path)

    def _until(self, ask: Callable[[], Any], what: str) -> None:
        until(ask, what, seconds=RECOVERY_SECONDS, every=0.02)

    def _call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        return self.load.call(method, path, body)

    def _ask(self, path: str) -> dict[str, Any]:
        status, answer = self._call("GET", path)
        return answer if status == 200 else {}

    def _tasks(self, trace: str) -> dict[str, dict[str, Any]]:
        nodes = self._ask(f"traces/{trace}/tree/").get("nodes", [])
        return defaultdict(lambda: {"status": ""}, {node["id"]: node for node in nodes})

    def _put(self, report: dict[str, Any]) -> bool:
        with contextlib.suppress(redis.RedisError):
            client = redis.Redis.from_url(self.load.redis_url(), socket_timeout=2, socket_connect_timeout=1)
            client.xadd(STREAM, {"event": json.dumps(report)})
            return True
        return False


def measure(rounds: int, seed: int) -> dict[str, Any]:
    postgres = Postgres()
    try:
        with Tower(DATABASE_URL=postgres.url) as tower:
            with Load(tower, "faults", rest=6, queue=2, seed=seed) as load:
                played = Rounds(tower, postgres, load, seed)
                for number in range(rounds):
                    victim = played.play(number)
                    spent = played.recovered[victim][-1]
                    print(f"round {number + 1}: {victim}, well again after {spent:.1f} s", file=sys.stderr)
            wrong = load.wrong()
    finally:
        postgres.close()
    return figures(rounds, seed, load, played.recovered, wrong)


def figures(
    rounds: int, seed: int, load: Load, recovered: dict[str, list[float]], wrong: list[str]
) -> dict[str, Any]:
    every = [spent for times in recovered.values() for spent in times]
    return {
        "rounds": rounds,
        "seed": seed,
        "kills": {name: len(times) for name, times in sorted(recovered.items())},
        "acknowledged": load.acknowledged(),
        "lost": [said for said in wrong if "are lost" in said],
        "twice": [said for said in wrong if "stored twice" in said],
        "wrong": wrong,
        "answers": dict(sorted(load.calls.items())),
        "recovery_s": summed_up(every)
        | {name: summed_up(times) for name, times in sorted(recovered.items())},
    }


def summed_up(times: list[float]) -> dict[str, Any]:
    return {
        "p50": round(statistics.median(times), 2),
        "p95": round(p95(times), 2),
        "most": round(max(times), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    found = measure(chosen.rounds, chosen.seed)
    spent = found["recovery_s"]
    print(
        f"kill -9: {found['rounds']} rounds, {found['acknowledged']:,} reports acknowledged, "
        f"{len(found['lost'])} lost, {len(found['twice'])} applied twice, "
        f"counts {'exact' if not found['wrong'] else 'WRONG'}; "
        f"recovery p50 {spent['p50']} s, p95 {spent['p95']} s"
    )
    for said in found["wrong"]:
        print(f"  {said}")
    keep("faults", found)
    sys.exit(bool(found["wrong"]))


if __name__ == "__main__":
    main()
