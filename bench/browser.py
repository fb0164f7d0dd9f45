"""The trace page live in Chromium: first rows, frames, elements, heap, report → row, and the server's CPU.

    python -m bench.browser [--nodes 1000,10000,100000] [--updates 500] [--births 20] [--seconds 10]

A real server, a real websocket, reports over REST. Each size gets a tower and a browser of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from websockets.sync.client import connect

from bench.ingest import Sender
from bench.record import keep, p95
from tests.conftest import FLAGS
from tests.servers import ADMIN_PASSWORD, Tower, until

TRACE, STEPS, FAN = "big", 10, 12
#: (figure, most) at 100,000 nodes on two cores.
TARGETS = (
    ("first_rows_ms", 1_000), ("frame_p95_ms", 20), ("elements", 5_000), ("pixel_p95_ms", 150),
    ("heap_mb", 60), ("socket_p50_ms", 9),
)  # fmt: skip

#: Runs before the page's own scripts.
WATCH_FIRST = """(() => {
  const live = '[role=treegrid][data-live=live] [role=row][data-task-id]'
  const look = () => document.querySelector(live)?.getBoundingClientRect().height
    ? (window.firstRow = performance.now()) : requestAnimationFrame(look)
  look()
})()"""
FRAMES = """async ([seconds, scrolls]) => {
  const grid = document.querySelector('[role=treegrid]')
  const boxes = [grid, ...document.querySelectorAll('*')]
  const box = boxes.find(e => (e.contains(grid) || grid.contains(e)) && e.scrollHeight > 4 * e.clientHeight
    && ['auto', 'scroll'].includes(getComputedStyle(e).overflowY)) ?? document.scrollingElement
  const times = [], end = performance.now() + seconds * 1000
  let last = performance.now(), at = 0
  await new Promise(done => requestAnimationFrame(function step (now) {
    times.push(now - last); last = now
    if (scrolls) { at = at + 120 > box.scrollHeight - box.clientHeight ? 0 : at + 120; box.scrollTop = at }
    now < end ? requestAnimationFrame(step) : done()
  }))
  box.scrollTop = 0
  return times.slice(1)
}"""
OPEN_ROW = """used => {
  const middle = r => { const b = r.getBoundingClientRect(); return Math.abs(b.top + b.bottom - innerHeight) }
  return [...document.querySelectorAll('[role=row][data-task-id]')]
    .filter(r => /PENDING|RUNNING/.test(r.dataset.status) && !used.includes(r.dataset.taskId))
    .filter(r => r.getBoundingClientRect().height)
    .sort((a, b) => middle(a) - middle(b))[0]?.dataset.taskId
}"""
TURNED = """id => new Promise(done => {
  const late = performance.now() + 10_000
  const row = () => document.querySelector(`[role=row][data-task-id="${CSS.escape(id)}"]`)
  const look = () => row()?.dataset.status === 'SUCCESS' ? done(Date.now())
    : performance.now() > late ? done(0) : requestAnimationFrame(look)
  look()
})"""


def report(event_id: str, task: str, kind: str, ms: int, **payload: Any) -> dict[str, Any]:
    return {
        "event_id": event_id, "trace_id": TRACE, "task_id": task, "event_type": kind, "timestamp_ms": ms,
        "payload": payload,
    }  # fmt: skip


def grown(tower: Tower, nodes: int) -> list[str]:
    """The ids of a tree that is twelve wide; two of three tasks run."""
    base = {"trace_id": TRACE, "job_id": "step", "actor_type": "EXECUTION"}
    ids = ["root", *(f"n{k}" for k in range(1, nodes))]
    tasks = [{**base, "id": "root"}]
    tasks += [{**base, "id": ids[k], "parent_id": ids[(k - 1) // FAN]} for k in range(1, nodes)]
    for first in range(0, nodes, 5_000):
        status, answer = tower.post("tasks/", tasks[first : first + 5_000])
        assert status == 201, (status, str(answer)[:300])
    began = [report(f"s{k}", id, "STARTED", 1_000 + k) for k, id in enumerate(ids) if k % 3]
    for first in range(0, len(began), 10_000):
        status, answer = tower.post("events/", began[first : first + 10_000])
        assert status == 200, (status, str(answer)[:300])
    return ids


class Load:
    """So many changed and new tasks a second, in ten batches a second, while the block runs."""

    def __init__(self, tower: Tower, ids: list[str], updates: int, births: int) -> None:
        self.tower, self.ids, self.updates, self.births = tower, ids, updates, births
        self.changes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._begun = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.rate = self.changes / (time.perf_counter() - self._begun)

    def _run(self) -> None:
        rng, sender, due = random.Random(5), Sender(self.tower), time.perf_counter()
        for turn in itertools.count():
            if self._over.wait(max(0.0, due - time.perf_counter())):
                return
            due = max(due + 1 / STEPS, time.perf_counter() - 0.5)
            batch = [
                report(f"u{turn}-{k}", rng.choice(self.ids), "PROGRESS", 200_000 + turn, progress=turn % 100)
                for k in range(self.updates // STEPS)
            ]
            self.changes += sender.post(json.dumps(batch).encode())
            born = [
                {
                    "id": f"b{turn}-{k}",
                    "trace_id": TRACE,
                    "job_id": "step",
                    "actor_type": "EXECUTION",
                    "parent_id": rng.choice(self.ids),
                }
                for k in range(self.births // STEPS)
            ]
            status, answer = self.tower.post("tasks/", born)
            assert status == 201, (status, str(answer)[:300])
            self.changes += len(born)


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def below(pid: int) -> list[int]:
    """The processes of a tower."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += below(int(child))
    return found


def socket_ms(tower: Tower, rounds: int) -> list[float]:
    """From the POST of one report to its frame at an idle websocket."""
    tower.post("tasks/", {"id": "idle", "trace_id": "idle", "job_id": "step", "actor_type": "EXECUTION"})
    tower.post("events/", {**report("i", "idle", "STARTED", 1), "trace_id": "idle"})
    sender, found = Sender(tower), []
    headers = {"Authorization": f"Bearer {tower.token}"}
    with connect(f"ws://127.0.0.1:{tower.port}/ws/traces/idle/", additional_headers=headers) as line:
        line.send(json.dumps({"v": 1, "op": "sub", "trace": "idle", "since": None, "epoch": None}))
        line.recv()
        for turn in range(rounds):
            time.sleep(0.25)  # idle is what is measured
            body = {
                **report(f"i{turn}", "idle", "PROGRESS", 2 + turn, progress=turn % 100),
                "trace_id": "idle",
            }
            begun = time.perf_counter()
            threading.Thread(target=sender.post, args=(json.dumps(body).encode(),)).start()
            while (frame := json.loads(line.recv(10)))["op"] != "d":
                pass
            found.append((time.perf_counter() - begun) * 1_000)
            line.send(json.dumps({"op": "ack", "seq": frame["seq"]}))
    return found


def pixel_ms(page: Page, tower: Tower, rounds: int) -> list[float]:
    """From the POST of an ending until its row shows it; rows in view, near the middle."""
    found: list[float] = []
    used = ["root"]
    for turn in range(rounds):
        task = page.evaluate(OPEN_ROW, used)
        assert task, "no row in view has an open task"
        used.append(task)
        sent: list[float] = []

        def end(task: str = task, turn: int = turn, sent: list[float] = sent) -> None:
            sent.append(time.time() * 1_000)
            tower.post("events/", report(f"end{turn}", task, "COMPLETED", 999_999))

        timer = threading.Timer(0.05, end)
        timer.start()
        shown = page.evaluate(TURNED, task)
        timer.join()
        assert shown, f"{task} did not turn"
        found.append(shown - sent[0])
    return found


@contextlib.contextmanager
def a_page(tower: Tower) -> Iterator[Page]:
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as profile:
        browser = driver.chromium.launch_persistent_context(
            profile,
            executable_path=shutil.which("chromium"),
            args=FLAGS,
            viewport={"width": 1440, "height": 900},
        )
        page = browser.new_page()
        page.goto(f"{tower.url}/login/")
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", ADMIN_PASSWORD)
        page.click("form:has(input[name=password]) button[type=submit]")
        page.wait_for_url(lambda url: "/login" not in url)
        page.add_init_script(WATCH_FIRST)
        yield page
        browser.close()


def measured(nodes: int, chosen: argparse.Namespace) -> dict[str, Any]:
    with Tower() as tower:
        ids = grown(tower, nodes)
        idle = socket_ms(tower, 40)
        with a_page(tower) as page:
            page.goto(f"{tower.url}/traces/{TRACE}/", wait_until="commit")
            first = until(lambda: page.evaluate("window.firstRow"), "a live row", seconds=60)
            page.locator("[role=row][data-task-id=root]").focus()
            page.keyboard.press("e")
            still = page.evaluate(FRAMES, [2, True])
            assert tower.up is not None
            pids = below(tower.up.pid)
            with Load(tower, ids, chosen.updates, chosen.births) as load:
                page.wait_for_timeout(1_000)
                spent, begun = cpu_seconds(pids), time.perf_counter()
                moving = page.evaluate(FRAMES, [chosen.seconds, True])
                resting = page.evaluate(FRAMES, [chosen.seconds, False])
                spent, seconds = cpu_seconds(pids) - spent, time.perf_counter() - begun
                pixels = pixel_ms(page, tower, 20)
            memory = page.context.new_cdp_session(page)
            memory.send("HeapProfiler.collectGarbage")
            heap = memory.send("Runtime.getHeapUsage")["usedSize"] / (1 << 20)
            elements = page.evaluate("document.querySelectorAll('*').length")
            badge = page.locator("[role=treegrid]").get_attribute("data-live")
    assert badge == "live", badge
    return {
        "nodes": nodes,
        "changes_per_second": round(load.rate),
        "first_rows_ms": round(first),
        "frame_idle_p95_ms": round(p95(still), 1),
        "frame_p50_ms": round(statistics.median(moving), 1),
        "frame_p95_ms": round(p95(moving), 1),
        "frame_live_p95_ms": round(p95(resting), 1),
        "elements": elements,
        "heap_mb": round(heap, 1),
        "pixel_p50_ms": round(statistics.median(pixels)),
        "pixel_p95_ms": round(p95(pixels)),
        "socket_p50_ms": round(statistics.median(idle), 1),
        "server_cpu": round(spent / seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", default="1000,10000,100000")
    parser.add_argument("--updates", type=int, default=500, help="changed tasks a second")
    parser.add_argument("--births", type=int, default=20, help="new tasks a second")
    parser.add_argument("--seconds", type=float, default=10)
    chosen = parser.parse_args()
    sizes = []
    for nodes in map(int, chosen.nodes.split(",")):
        figures = measured(nodes, chosen)
        sizes.append(figures)
        said = ", ".join(f"{name} {figures[name]} = {figures[name] / most:.2f} x" for name, most in TARGETS)
        print(f"{nodes:,} nodes at {figures['changes_per_second']} changes/s: {said}; all: {figures}")
    keep("browser", {"updates": chosen.updates, "births": chosen.births, "sizes": sizes})


if __name__ == "__main__":
    main()
