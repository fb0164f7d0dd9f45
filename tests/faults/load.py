"""Writers that report to a tower over REST and the queue while things break, and keep what they were told.

Each call ends as ``ok`` or ``unknown`` (no answer, or one that says to come again); an
unknown one is sent again, the same ids, or left so. A refusal is a fault of the tower. Knows no Django.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import redis

from tests.faults.checker import OK, UNKNOWN
from tests.servers import ROOT, Tower, until

Body = dict[str, Any]
STREAM = "tms.task.events"
#: A writer rests so long between two tasks: what is tested is order, not strength.
PAUSE_SECONDS = 0.01
GIVE_UP_SECONDS = 90.0


class Load:
    """``with Load(tower, ...) as load: kill(...)``; afterwards ``load.wrong()`` says what does not hold."""

    def __init__(
        self, tower: Tower, name: str, *, rest: int = 6, queue: int = 2, traces: int = 3, seed: int = 1
    ) -> None:
        self.tower = tower
        self.traces = [f"{name}-{i}" for i in range(traces)]
        self.told: dict[str, dict[str, str]] = {"tasks": {}, "events": {}, "controls": {}}
        self.refused: list[str] = []
        self.calls: Counter[str] = Counter()
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._name, self._seed = name, seed
        works: list[Callable[[int], None]] = [self._control, self._follow]
        works += [self._over_rest] * rest + [self._over_the_queue] * queue
        self._threads = [
            threading.Thread(target=self._work, args=(work, i), daemon=True) for i, work in enumerate(works)
        ]
        self.followed: dict[str, Body] = {}

    def __enter__(self) -> Load:
        for trace in self.traces:
            self._register([self._task(trace, "root", None)], random.Random(0), insist=True)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(GIVE_UP_SECONDS)

    def acknowledged(self) -> int:
        """Reports that were acknowledged so far."""
        with self._guard:
            return sum(said == OK for said in self.told["events"].values())

    def goes_on(self, more: int = 20, *, seconds: float = 60) -> None:
        """Wait until so many further reports are acknowledged."""
        goal = self.acknowledged() + more
        until(lambda: self.acknowledged() >= goal, f"{more} more reports are acknowledged", seconds=seconds)

    # -- the end

    def rest(self) -> None:
        """Wait until all that was acknowledged is folded and every control delivered."""
        assert not any(thread.is_alive() for thread in self._threads), "a writer still waits"

        def at_rest() -> bool:
            status, body = self.tower.get("/readyz")
            if status != 200:
                return False
            checks = body["checks"]
            waits = checks["consumer"].get("lag"), checks["consumer"].get("pending")
            return waits == (0, 0) and checks["commands"].get("undelivered") == 0

        until(at_rest, "nothing waits any more", seconds=90)

    def wrong(self) -> list[str]:
        """What does not hold at rest; asked of the tower's own database, by a process of its own."""
        self.rest()
        log = {"told": self.told, "traces": self.traces}
        environment = {**self.tower.environment, "DJANGO_SETTINGS_MODULE": "tower.settings"}
        environment.pop("TOWER_FAULTS", None)
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.checker"],
            cwd=ROOT, env=environment, input=json.dumps(log), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return [*self.refused, *self._not_followed(), *json.loads(done.stdout)]

    def _not_followed(self) -> list[str]:
        """P5: the changes that were read meanwhile give the tree that stands now."""
        self._catch_up(0)
        fresh = {node["id"]: node for node in self._tree()}
        odd = [id for id in fresh.keys() | self.followed.keys() if fresh.get(id) != self.followed.get(id)]
        return [f"{len(odd)} tasks differ for who followed the changes: {sorted(odd)[:5]}"] if odd else []

    # -- the writers

    def _work(self, work: Callable[[int], None], who: int) -> None:
        try:
            work(who)
        except Exception as error:
            self.refused.append(f"writer {who}: {error!r}")

    def _over_rest(self, who: int) -> None:
        rng = random.Random(f"{self._seed} {who}")
        for i in range(10**6):
            if self._stop.is_set():
                return
            # Several traces in one call, in any order: the tower must lock them in one.
            picked = rng.sample(self.traces, rng.randint(1, len(self.traces)))
            tasks = [self._task(trace, f"{who}-{i}", "root") for trace in picked]
            self._register(tasks, rng, insist=True)
            reports = [report for task in tasks for report in self._reports(task, rng)]
            rng.shuffle(reports)
            for batch in cut(reports, rng):
                self._report(batch, rng)
            if rng.random() < 0.2:
                self._report(rng.sample(reports, 2), rng)
            time.sleep(PAUSE_SECONDS)

    def _over_the_queue(self, who: int) -> None:
        rng = random.Random(f"{self._seed} {who}")
        client = redis.Redis.from_url(self.redis_url(), socket_timeout=2, socket_connect_timeout=1)
        for i in range(10**6):
            if self._stop.is_set():
                return
            task = self._task(rng.choice(self.traces), f"{who}-{i}", "root")
            self._register([task], rng, insist=True)
            for report in self._reports(task, rng):
                self._put(client, report, rng)
            time.sleep(PAUSE_SECONDS)

    def _control(self, who: int) -> None:
        """PAUSE and RUN in turn, at a branch and over the whole."""
        rng = random.Random(f"{self._seed} {who}")
        for i in range(10**6):
            if self._stop.is_set():
                return
            trace = rng.choice(self.traces)
            body: Body = {"id": f"{self._name}-c{i}", "trace_id": trace, "action": ("PAUSE", "RUN")[i % 2]}
            if rng.random() < 0.5:
                body["task_id"] = "root"
            self._send("controls/", body, "controls", [f"{trace} {body['id']}"], rng, also={409})
            self._stop.wait(0.15)

    def _follow(self, who: int) -> None:
        since = 0
        while not self._stop.wait(0.2):
            since = self._catch_up(since)

    def _catch_up(self, since: int) -> int:
        while True:
            status, body = self.call("GET", f"traces/{self.traces[0]}/changes/?since={since}")
            if status != 200:
                return since
            if body.get("reset"):
                self.refused.append("a reset, although the database lost nothing")
                return since
            self.followed |= {node["id"]: node for node in body["nodes"]}
            since = body["seq"]
            if not body.get("more"):
                return since

    def _tree(self) -> list[Body]:
        nodes: list[Body] = []
        after = ""
        while True:
            status, body = self.call("GET", f"traces/{self.traces[0]}/tree/{after}")
            assert status == 200, (status, body)
            nodes += body["nodes"]
            if len(nodes) >= body["total"] or not body["nodes"]:
                return nodes
            after = f"?after={nodes[-1]['id']}"

    # -- what they say

    def _task(self, trace: str, id: str, parent: str | None) -> Body:
        return {
            "id": id, "trace_id": trace, "parent_id": parent, "job_id": "load", "actor_type": "AGENT",
        }  # fmt: skip

    def _reports(self, task: Body, rng: random.Random) -> list[Body]:
        """A first attempt that fails now and then, and its second."""
        kinds = ["STARTED", "PROGRESS"]
        if rng.random() < 0.3:
            kinds += ["FAILED", "STARTED"]
        kinds += rng.choice([["COMPLETED"], ["COMPLETED"], ["FAILED"], ["CANCELLED"], []])
        at = rng.randint(1, 10**6)
        base = {"trace_id": task["trace_id"], "task_id": task["id"]}
        return [
            {
                **base, "event_id": f"{task['id']}-{k}", "event_type": kind, "timestamp_ms": at + k,
                "payload": {"progress": 10 * k, "message": f"{kind} {k}", "worker": f"w{at % 3}"},
            }
            for k, kind in enumerate(kinds)
        ]  # fmt: skip

    def _register(self, tasks: Sequence[Body], rng: random.Random, *, insist: bool) -> None:
        names = [f"{task['trace_id']} {task['id']}" for task in tasks]
        self._send("tasks/", list(tasks), "tasks", names, rng, insist=insist)

    def _report(self, reports: Sequence[Body], rng: random.Random) -> None:
        names = [f"{one['trace_id']} {one['event_id']}" for one in reports]
        self._send("events/", list(reports), "events", names, rng)

    def _put(self, client: redis.Redis, report: Body, rng: random.Random) -> None:
        names = [f"{report['trace_id']} {report['event_id']}"]
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                client.xadd(STREAM, {"event": json.dumps(report)})
            except redis.RedisError:
                self._tell("events", names, UNKNOWN)
                if rng.random() < 0.2 or time.monotonic() > give_up:
                    return
                time.sleep(0.2)
            else:
                self._tell("events", names, OK)
                return

    def _send(
        self, path: str, body: Any, kind: str, names: Sequence[str], rng: random.Random, *,
        insist: bool = False, also: frozenset[int] | set[int] = frozenset(),
    ) -> None:  # fmt: skip
        """Until it is answered; one in five that is in doubt stays so."""
        give_up = time.monotonic() + GIVE_UP_SECONDS
        self._tell(kind, names, UNKNOWN)
        while True:
            status, answer = self.call("POST", path, body)
            self.calls[str(status)] += 1
            if status in {200, 201} | also:
                return self._tell(kind, names, OK)
            if 0 < status < 500 and status != 429:
                self.refused.append(f"{path} {status} {str(answer)[:300]}")
                return None
            if time.monotonic() > give_up:
                self.refused.append(f"{path} was not answered: {status} {str(answer)[:300]}")
                return None
            if not insist and rng.random() < 0.2:
                return None
            time.sleep(rng.uniform(0.05, 0.2))

    def _tell(self, kind: str, names: Sequence[str], said: str) -> None:
        with self._guard:
            for name in names:
                # What was acknowledged once stays so, whatever a repeat was told.
                if self.told[kind].get(name) != OK:
                    self.told[kind][name] = said

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.tower.call(method, path, body)
        return 0, "the answer broke off"

    def redis_url(self) -> str:
        return (
            self.tower.environment.get("REDIS_URL")
            or (self.tower.home / "secrets" / "redis_url").read_text().strip()
        )


def cut(rows: Sequence[Body], rng: random.Random) -> list[list[Body]]:
    """Into batches of some sizes."""
    found, at = [], 0
    while at < len(rows):
        size = rng.randint(1, 6)
        found.append(list(rows[at : at + size]))
        at += size
    return found
