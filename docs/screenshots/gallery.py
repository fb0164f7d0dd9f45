"""Pictures of every page, to be looked at: ``python -m docs.screenshots.gallery [FOLDER]`` (``all/`` here).

Each page in light, dark and narrow, in English and Chinese, with a run of five tasks; the page of a run and
the list of runs also with 500 and 100,000. The pages are those that axe sees (``tests/browser/test_axe.py``).
Not kept in the repository (15 MB): they are made anew and looked at after a change.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Error, expect, sync_playwright

from docs.screenshots.make import HERE, shoot, sign_in
from tests.browser.test_axe import PAGES, something_of_everything
from tests.conftest import FLAGS
from tests.servers import Tower

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "narrow": {
        "viewport": {"width": 360, "height": 740},
        "color_scheme": "light",
        "has_touch": True,
        "is_mobile": True,
    },
}
LANGUAGES = {"en": "en-GB", "zh": "zh-CN"}
SIZES = (500, 100_000)
#: A tree as a crawl makes it: so many branches, each with pages.
BRANCHES = 8
#: Since it began; the last pages began two minutes ago.
MINUTES = 30
NAMES = ("fetch_page", "parse_page", "extract_links", "summarise", "store")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "all"
    folder.mkdir(parents=True, exist_ok=True)
    with Tower() as tower, sync_playwright() as playwright:
        seen = something_of_everything(tower)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        every_page(browser, tower, seen, folder)
        for size in SIZES:
            trace = a_crawl(tower, size)
            pages = {f"run-of-{size}": f"/traces/{trace}/", f"runs-beside-{size}": "/"}
            for look, language in itertools.product(LOOKS, LANGUAGES):
                with signed_in(browser, tower, look, language) as context:
                    for name, path in pages.items():
                        take(context, path, folder / f"{name}-{look}-{language}.png")
        browser.close()


def every_page(browser: Browser, tower: Tower, seen: dict[str, str], folder: Path) -> None:
    for look, language in itertools.product(LOOKS, LANGUAGES):
        with signed_in(browser, tower, look, language) as context:
            for name, page in PAGES.items():
                file = folder / f"{name.replace(', ', '-').replace(' ', '-')}-{look}-{language}.png"
                if page.anonymous:
                    with fresh(browser, tower, look, language) as anonymous:
                        take(anonymous, page.path, file)
                else:
                    take(context, page.path.format(**seen), file)


def fresh(browser: Browser, tower: Tower, look: str, language: str) -> BrowserContext:
    return browser.new_context(
        base_url=tower.url, locale=LANGUAGES[language], timezone_id="Europe/Berlin", **LOOKS[look]
    )


def signed_in(browser: Browser, tower: Tower, look: str, language: str) -> BrowserContext:
    context = fresh(browser, tower, look, language)
    page = context.new_page()
    sign_in(page)
    page.close()
    return context


def take(context: BrowserContext, path: str, file: Path) -> None:
    page = context.new_page()
    page.goto(path)
    if page.locator("[role=treegrid]").count():
        expect(page.locator("[role=treegrid]")).to_have_attribute("data-live", "live", timeout=60_000)
    with contextlib.suppress(Error):  # a page that lives asks on
        page.wait_for_load_state("networkidle", timeout=3_000)
    shoot(page, file)
    page.close()


def a_crawl(tower: Tower, size: int) -> str:
    """A running crawl of so many tasks: most done, some at work, one in fifty failed; its id."""
    rng, trace, base = random.Random(size), f"crawl-of-{size}", int(time.time() * 1000) - MINUTES * 60_000
    tasks = [task(trace, "root", None, "crawl", "AGENT", BRANCHES)]
    each = size // BRANCHES - 1
    for k in range(BRANCHES):
        tasks.append(task(trace, f"site{k}", "root", f"site-{k}.example.org", "AGENT", each + 20))
        tasks += [
            task(trace, f"p{k}-{i}", f"site{k}", NAMES[i * len(NAMES) // each], "EXECUTION", 0)
            for i in range(each)
        ]
    events: list[dict[str, Any]] = []
    for one in tasks:
        events += history(one, base, rng)
    for at in range(0, len(tasks), 5_000):
        status, answer = tower.post("tasks/", tasks[at : at + 5_000])
        assert status == 201, (status, str(answer)[:300])
    for at in range(0, len(events), 10_000):
        status, answer = tower.post("events/", events[at : at + 10_000])
        assert status == 200, (status, str(answer)[:300])
    control = {"trace_id": trace, "task_id": "site3", "action": "PAUSE", "reason": "robots.txt changed"}
    assert tower.post("controls/", control)[0] == 201
    return trace


def task(trace: str, id: str, parent: str | None, name: str, kind: str, split: int) -> dict[str, Any]:
    made = {"id": id, "trace_id": trace, "job_id": "crawl", "name": name, "actor_type": kind}
    return made | ({"split_count": split} if split else {}) | ({"parent_id": parent} if parent else {})


def history(one: dict[str, Any], base: int, rng: random.Random) -> list[dict[str, Any]]:
    start = base + (0 if "split_count" in one else rng.randrange(5_000, (MINUTES - 2) * 60_000))

    def said(kind: str, ms: int, **payload: Any) -> dict[str, Any]:
        return {
            "event_id": f"{one['id']}-{kind}", "trace_id": one["trace_id"], "task_id": one["id"],
            "event_type": kind, "timestamp_ms": ms, "payload": payload,
        }  # fmt: skip

    chance = rng.random()
    if "split_count" in one or chance < 0.08:
        return [said("STARTED", start), said("PROGRESS", start + 900, progress=float(rng.randrange(5, 95)))]
    if chance < 0.2:
        return []
    end = start + rng.randrange(300, 110_000)
    if chance < 0.22:
        failed = said("FAILED", end, error_code="HTTP_429", error_msg="Too many requests: again in 30 s.")
        return [said("STARTED", start), failed]
    return [said("STARTED", start), said("COMPLETED", end)]


if __name__ == "__main__":
    main()
