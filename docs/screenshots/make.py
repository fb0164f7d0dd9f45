"""The pictures of the documentation, of a real tower at work: ``python -m docs.screenshots.make [FOLDER]``.

Starts ``up --demo`` on a home of its own, waits until there is something to see, asks a branch to pause, and
takes the pictures in Chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from tests.conftest import FLAGS
from tests.servers import ADMIN_PASSWORD, Tower, until

HERE = Path(__file__).parent
SIZE: ViewportSize = {"width": 1440, "height": 860}
JOB = "multi_strategy_financial_analysis"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    folder.mkdir(parents=True, exist_ok=True)
    with Tower("--demo") as tower, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for theme in ("light", "dark"):
            page = browser.new_context(base_url=tower.url, viewport=SIZE, color_scheme=theme).new_page()
            sign_in(page)
            take(page, tower, folder, "" if theme == "light" else "-dark")
        browser.close()


def sign_in(page: Page) -> None:
    page.goto("/login/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", ADMIN_PASSWORD)
    page.click("form:has(input[name=password]) button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)


def take(page: Page, tower: Tower, folder: Path, suffix: str) -> None:
    trace, branch = a_paused_analysis(tower)
    page.goto(f"/traces/{trace}/")
    grid = page.locator("[role=treegrid]")
    expect(grid).to_have_attribute("data-live", "live", timeout=15_000)
    row = page.locator(f"[role=row][data-task-id='{branch}']")
    expect(row).to_have_attribute("data-holds", "true", timeout=15_000)
    row.click()
    shoot(page, folder / f"trace{suffix}.png")
    page.goto("/")
    expect(page.locator(f"a[href='/traces/{trace}/']").first).to_be_visible()
    shoot(page, folder / f"runs{suffix}.png")
    page.goto(f"/definitions/{JOB}/")
    shoot(page, folder / f"definition{suffix}.png")
    tower.post("controls/", {"trace_id": trace, "task_id": branch, "action": "RUN"})


def a_paused_analysis(tower: Tower) -> tuple[str, str]:
    """An analysis that is well under way, with one of its strategies paused and all of it holding."""

    def under_way() -> str | None:
        rows = tower.get(f"traces/?job_id={JOB}&status=RUNNING")[1]["results"]
        return next((row["trace_id"] for row in rows if row["counts"]["SUCCESS"] >= 25), None)

    trace = until(under_way, "an analysis is under way", seconds=120, every=1)
    sentiment = next(node for node in nodes_of(tower, trace) if node["name"] == "sentiment")
    status, answer = tower.post(
        "controls/",
        {"trace_id": trace, "task_id": sentiment["id"], "action": "PAUSE", "reason": "rate limit at Reuters"},
    )
    assert status == 201, answer
    until(lambda: tower.get(f"tasks/{sentiment['id']}/?trace_id={trace}")[1]["holds"], "it holds")
    return trace, str(sentiment["id"])


def nodes_of(tower: Tower, trace: str) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = tower.get(f"traces/{trace}/tree/")[1]["nodes"]
    return nodes


def shoot(page: Page, file: Path) -> None:
    page.evaluate("document.fonts.ready.then(() => null)")
    page.screenshot(path=file, animations="disabled")
    print(f"taken: {file}")


if __name__ == "__main__":
    main()
