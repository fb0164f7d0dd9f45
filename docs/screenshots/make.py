"""The pictures of the documentation, of a real tower at work: ``python -m docs.screenshots.make [FOLDER]``.

Starts a tower on a home of its own; the demo fleet makes a little history, quickly, and some live runs, at
its usual pace; then an operator asks one branch to pause, and Chromium takes the pictures.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, ViewportSize, expect, sync_playwright

from tests.conftest import FLAGS
from tests.servers import ADMIN_PASSWORD, ROOT, Tower, until

HERE = Path(__file__).parent
SIZE: ViewportSize = {"width": 1440, "height": 900}
ANALYSIS, CRAWL, RNASEQ = "multi_strategy_financial_analysis", "web_crawl", "rnaseq_workflow"
OPERATOR = "li.wei"
#: The group of tasks whose state makes a good picture.
READERS = "summarise_articles"
HISTORY: tuple[tuple[str, dict[str, Any]], ...] = (
    (ANALYSIS, {"target": "NVIDIA", "year": 2024}),
    (CRAWL, {"site": "wiki.example.net", "pages": 120}),
    (RNASEQ, {"genome": "TAIR10", "samples": 4}),
    (ANALYSIS, {"target": "Rivian", "year": 2023, "strategies": ["fundamental", "technical"]}),
    (RNASEQ, {"genome": "GRCm39", "samples": 6}),
    (CRAWL, {"site": "shop.example.com", "pages": 80}),
)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    folder.mkdir(parents=True, exist_ok=True)
    with Tower() as tower, sync_playwright() as playwright:
        tower.token = token_of(tower, OPERATOR, "read,control")
        tower.manage("demo_definitions")
        fleet_token = token_of(tower, "demo fleet", "ingest,read")
        with fleet(tower, fleet_token, keep=0, speed=10):
            make_history(tower)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        with fleet(tower, fleet_token, keep=3, speed=1):
            trace, branch = a_paused_analysis(tower)
            for theme in ("light", "dark"):
                page = browser.new_context(
                    base_url=tower.url, viewport=SIZE, color_scheme=theme, timezone_id="UTC"
                ).new_page()
                sign_in(page)
                see_trace(page, trace, branch)
                shoot(page, folder / ("trace.png" if theme == "light" else "trace-dark.png"))
                page.goto("/")
                expect(page.locator(f"a[href='/traces/{trace}/']").first).to_be_visible()
                shoot(page, folder / ("runs.png" if theme == "light" else "runs-dark.png"))
        browser.close()


def token_of(tower: Tower, name: str, scopes: str) -> str:
    return tower.manage("create_token", name, "--scopes", scopes).split()[-1]


@contextlib.contextmanager
def fleet(tower: Tower, token: str, *, keep: int, speed: float) -> Iterator[None]:
    redis_url = os.environ.get("REDIS_URL") or (tower.home / "secrets" / "redis_url").read_text().strip()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "demo_fleet", "--keep", str(keep), "--speed", str(speed)],
        cwd=ROOT,
        env={
            **tower.environment,
            "TOWER_URL": tower.url,
            "TOWER_DEMO_TOKEN": token,
            "REDIS_URL": redis_url,
        },
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def make_history(tower: Tower) -> None:
    traces = []
    for job_id, params in HISTORY:
        status, answer = tower.post("traces/", {"job_id": job_id, "input_params": params})
        assert status == 201, answer
        traces.append(answer["trace_id"])
    cancelled = traces[-1]
    until(lambda: summary(tower, cancelled)["counts"]["SUCCESS"] >= 20, "some of it is done", seconds=120)
    control(tower, cancelled, "CANCEL", None, "wrong site")
    until(
        lambda: not any(summary(tower, trace)["open"] for trace in traces), "all ended", seconds=240, every=1
    )


def a_paused_analysis(tower: Tower) -> tuple[str, str]:
    """An analysis that is well under way, with one of its strategies paused and all of it holding."""

    def under_way() -> str | None:
        rows = tower.get(f"traces/?job_id={ANALYSIS}&status=RUNNING")[1]["results"]
        return next((r["trace_id"] for r in rows if of_name(tower, r["trace_id"], READERS, least=5)), None)

    trace = until(under_way, "an analysis is under way", seconds=240, every=0.5)
    branch = of_name(tower, trace, "sentiment")
    control(tower, trace, "PAUSE", branch, "rate limit at Reuters")
    until(lambda: tower.get(f"tasks/{branch}/?trace_id={trace}")[1]["holds"], "it holds")
    return trace, branch


def of_name(tower: Tower, trace: str, name: str, *, least: int = 0) -> str:
    """The id of the task of that name, once so many of its children have ended; else empty."""
    nodes = tower.get(f"traces/{trace}/tree/?depth=2")[1]["nodes"]
    found = (node["id"] for node in nodes if node["name"] == name and node["completed_children"] >= least)
    return next(found, "")


def summary(tower: Tower, trace: str) -> dict[str, Any]:
    body: dict[str, Any] = tower.get(f"traces/{trace}/")[1]
    return body


def control(tower: Tower, trace: str, action: str, task: str | None, reason: str) -> None:
    body = {"trace_id": trace, "task_id": task, "action": action, "reason": reason}
    status, answer = tower.post("controls/", body)
    assert status == 201, answer


# -- in the browser


def sign_in(page: Page, who: str = "admin") -> None:
    page.goto("/login/")
    page.fill("input[name=username]", who)
    page.fill("input[name=password]", ADMIN_PASSWORD)
    page.click("form:has(input[name=password]) button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)


def see_trace(page: Page, trace: str, branch: str) -> None:
    page.goto(f"/traces/{trace}/")
    expect(page.locator("[role=treegrid]")).to_have_attribute("data-live", "live", timeout=15_000)
    unfold(page, "sentiment", READERS)
    row = page.locator(f"[role=row][data-task-id='{branch}']")
    expect(row).to_have_attribute("data-holds", "true", timeout=15_000)
    page.keyboard.press("Home")
    row.click()


def unfold(page: Page, *names: str) -> None:
    """Open just these, so that the shape of the whole fits on one picture."""
    page.locator("button[data-fold=close]").click()
    page.locator("[role=row][data-task-id]").first.press("ArrowRight")
    for name in names:
        row: Locator = page.locator("[role=row][data-task-id]").filter(has_text=name).first
        row.click()
        row.press("ArrowRight")
        expect(row).to_have_attribute("aria-expanded", "true")


def shoot(page: Page, file: Path) -> None:
    page.evaluate("document.fonts.ready.then(() => null)")
    page.screenshot(path=file, animations="disabled")
    print(f"taken: {file}")


if __name__ == "__main__":
    main()
