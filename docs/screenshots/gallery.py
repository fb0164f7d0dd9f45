"""Pictures of every page, to be looked at: ``python -m docs.screenshots.gallery [FOLDER [WORD ...]]``.

Each page in light, dark and narrow, in English and Chinese, with a run of five tasks; the page of a run and
the list of runs also with 500 and 100,000. The pages are those that axe sees (``tests/browser/test_axe.py``);
``scenes.py`` adds what is seen only after a deed. With words, only those whose name has one of them.
Not kept in the repository (``all/`` here, 30 MB): they are made anew and looked at after a change.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Error, Page, Route, expect, sync_playwright

from docs.screenshots.make import HERE, shoot, sign_in
from docs.screenshots.scenes import ASKED, AT_FIRST, BARE, NIGHT, SCENES, Scene, nothing
from tests.browser.test_axe import PAGES, actions_on_several, something_of_everything
from tests.conftest import FLAGS
from tests.servers import ADMIN_PASSWORD, Tower, until

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


ERRORS = {
    "/failed/": ("errors/500.html", {"status": 500, "request_id": "8c1f0ab2e7d94c55"}),
    "/too-many/": ("errors/429.html", {"request_id": "8c1f0ab2e7d94c55"}),
}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "all"
    folder.mkdir(parents=True, exist_ok=True)
    pages = {name: Scene(page.path, anonymous=page.anonymous) for name, page in PAGES.items()}
    with Tower() as tower, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        gallery = Gallery(tower, browser, folder, sys.argv[2:])
        a_viewer(tower)
        gallery.take(AT_FIRST)
        gallery.seen = something_of_everything(tower, at=int(time.time() * 1000) - 4 * 60_000)
        gallery.seen |= actions_on_several(browser, tower, gallery.state_of("admin"), gallery.seen["run"])
        gallery.take(pages)
        made = {
            "id": "crawl",
            "name": "Site crawl",
            "actor_type": "AGENT",
            "code_ref": "docker://example/crawl:3",
        }
        assert tower.post("definitions/", made)[0] == 201
        gallery.seen |= {"asked": a_short_run(tower, ASKED), "bare": a_short_run(tower, BARE)}
        gallery.seen |= {"night": a_night(tower)}
        for size in SIZES:
            gallery.seen["crawl"] = trace = a_crawl(tower, size)
            if size == SIZES[0]:
                gallery.seen["pause"] = f"{trace}.pause"
                gallery.take(SCENES)
            gallery.take({f"run of {size}": Scene(f"/traces/{trace}/"), f"runs beside {size}": Scene("/")})
        browser.close()
    if gallery.missing:
        sys.exit(f"{len(gallery.missing)} pictures could not be taken: {', '.join(gallery.missing)}")


class Gallery:
    def __init__(self, tower: Tower, browser: Browser, folder: Path, words: list[str]) -> None:
        self.tower, self.browser, self.folder, self.words = tower, browser, folder, words
        #: What the paths name.
        self.seen: dict[str, str] = {}
        self._states: dict[str, Any] = {}
        self._errors: dict[tuple[str, str], str] = {}
        self._contexts: dict[tuple[str, str, str], BrowserContext] = {}
        self.missing: list[str] = []

    def take(self, scenes: Mapping[str, Scene]) -> None:
        for name, scene in scenes.items():
            if self.words and not any(word in name for word in self.words):
                continue
            for look, language in itertools.product(LOOKS, LANGUAGES):
                if not (scene.wide and look == "narrow"):
                    file = self.folder / f"{re.sub('[^A-Za-z0-9]+', '-', name)}-{look}-{language}.png"
                    try:
                        with self.context(scene, look, language) as context:
                            self.take_one(context, scene, file, language)
                    except (AssertionError, Error) as error:
                        self.missing.append(file.name)
                        print(f"NOT taken: {file}: {str(error)[:300]}")

    def take_one(self, context: BrowserContext, scene: Scene, file: Path, language: str) -> None:
        page = context.new_page()
        for path in ERRORS:
            # A handler of two arguments would be given the request for the second.
            page.route(f"**{path}", partial(self._answer, path, language))
        page.goto(scene.path.format(**self.seen))
        if page.locator(".trace .grid").count():
            expect(page.locator(".trace .grid")).to_have_attribute("data-live", "live", timeout=60_000)
        self.settle(page)
        scene.act(page)
        self.settle(page)  # it may have led to another page
        shoot(page, file)
        page.close()

    def settle(self, page: Page) -> None:
        with contextlib.suppress(Error):  # a page that lives asks on
            page.wait_for_load_state("networkidle", timeout=1_500)

    @contextlib.contextmanager
    def context(self, scene: Scene, look: str, language: str) -> Iterator[BrowserContext]:
        """Signed in as who looks on, once for all pages that are only opened."""
        who = scene.role or "admin"
        if scene.anonymous or scene.act is not nothing:
            with self.fresh(look, language, None if scene.anonymous else self.state_of(who)) as context:
                yield context
            return
        key = (who, look, language)
        if key not in self._contexts:
            self._contexts[key] = self.fresh(look, language, self.state_of(who))
        yield self._contexts[key]

    def state_of(self, who: str) -> Any:
        if who not in self._states:
            with self.fresh("light", "en") as context:
                sign_in(context.new_page(), who)
                self._states[who] = context.storage_state()
        return self._states[who]

    def fresh(self, look: str, language: str, state: Any = None) -> BrowserContext:
        return self.browser.new_context(
            base_url=self.tower.url,
            locale=LANGUAGES[language],
            timezone_id="Europe/Berlin",
            storage_state=state,
            **LOOKS[look],
        )

    def _answer(self, path: str, language: str, route: Route) -> None:
        route.fulfill(content_type="text/html", body=self.error(path, language))

    def error(self, path: str, language: str) -> str:
        """A page that no request is answered with while the tower is well."""
        if (path, language) not in self._errors:
            template, context = ERRORS[path]
            code = "zh-hans" if language == "zh" else "en"
            self._errors[path, language] = self.tower.manage(
                "shell", "--no-imports", "-v0", "-c",
                "from django.template.loader import render_to_string as r;"
                "from django.utils.translation import override;"
                f"o = override({code!r}); o.__enter__(); print(r({template!r}, {context!r}))",
            )  # fmt: skip
        return self._errors[path, language]


def a_viewer(tower: Tower) -> None:
    tower.manage(
        "shell", "--no-imports", "-v0", "-c",
        "from django.contrib.auth.models import Group, User;"
        f"User.objects.create_user('viewer', password={ADMIN_PASSWORD!r})"
        ".groups.add(Group.objects.get(name='viewer'))",
    )  # fmt: skip


def a_short_run(tower: Tower, trace: str) -> str:
    made = task(trace, f"{trace}.root", None, "index rebuild", "AGENT", 0) | {
        "labels": {"team": "research", "night": "yes"}
    }
    assert tower.post("tasks/", made)[0] == 201
    return trace


def a_night(tower: Tower) -> str:
    """A run that ended, with an hour in which nothing of it ran."""
    start, names = int(time.time() * 1000) - 180 * 60_000, ("load", "clean", "wait for the market", "report")
    tasks = [task(NIGHT, "night.root", None, "nightly report", "AGENT", len(names))]
    tasks += [task(NIGHT, f"night.{k}", "night.root", name, "EXECUTION", 0) for k, name in enumerate(names)]
    assert tower.post("tasks/", tasks)[0] == 201
    spans = {"root": (0, 96), "0": (1, 12), "1": (11, 19), "2": (18, 21), "3": (84, 95)}
    events = [
        {
            "event_id": f"night.{id}.{kind}", "trace_id": NIGHT, "task_id": f"night.{id}",
            "event_type": kind, "timestamp_ms": start + minute * 60_000,
        }
        for id, (begin, end) in spans.items()
        for kind, minute in (("STARTED", begin), ("COMPLETED", end))
    ]  # fmt: skip
    assert tower.post("events/", events)[0] == 200
    until(lambda: not tower.get(f"traces/{NIGHT}/")[1]["open"], "the night is over")
    return NIGHT


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
    control = {
        "id": f"{trace}.pause", "trace_id": trace, "task_id": "site3",
        "action": "PAUSE", "reason": "robots.txt changed",
    }  # fmt: skip
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
