"""Every page in Chinese: no English words, but names and code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.http import QueryDict
from django.urls import URLPattern, URLResolver, get_resolver

from controls import bulk
from controls.issue import issue
from instances import ingest
from instances.words import TABS, words
from tests.people import PASSWORD, signed_in_as
from tests.test_dead_letters_page import a_letter
from tests.test_language import CHINESE
from tests.test_log_page import say
from tower.access.roles import ROLES
from tower.access.tokens import SCOPES
from tower.definitions import edit
from tower.schemas import ACTIONS, EVENT_TYPES, KINDS, STATUSES, ControlAction, JoinPolicy

pytestmark = pytest.mark.django_db(transaction=True)

#: Names, code and keys that stand in every language.
NAMES = {
    *("API", "CSV", "DEBUG", "ID", "JSON", "PostgreSQL", "Redis", "Schema", "SQLite", "EN", "English", "UTC"),
    *("KiB", "KB", "MB", "GB", "TB", "admin", "curl", "manage.py", "migrate"),
    *("Enter", "Shift", "Esc", "Home", "End", "Ctrl"),
    *(name for names in (STATUSES, KINDS, EVENT_TYPES, ACTIONS) for name in names),
    *JoinPolicy,
    *SCOPES,
}
#: What is made up by the tests (ids, names, texts of actors), addresses, and the code of searches.
LEFT_OUT = re.compile(r"\S*zz\S*|\w*:?/\S+|\b[a-z]+:[a-z…]+(?:=[a-z]+)?|\{\w+\}", re.IGNORECASE)
WORD = re.compile(r"(?<![\w.-])[A-Za-z][A-Za-z.]*[A-Za-z](?![\w-])")

#: In the admin site: names of roles, and what Django itself says in English only, most of it not to be seen.
ADMIN = {
    *ROLES,
    *("Add", "Change", "or", "view", "list", "link", "Model", "name", "Search", "True", "False", "Id"),
    *("draft", "pattern", "ref"),
}

#: Attributes that are read out or shown, by these and by our scripts.
SHOWN = ("title", "aria-label", "aria-description", "alt", "placeholder")
SAID = ("data-word", "data-copied", "data-one", "data-many", "data-say")
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
#: Code, and what people write themselves.
CODE = {"style", "code", "pre", "kbd", "textarea"}


class Reader(HTMLParser):
    """All that somebody may come to read of a page, also by its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.within: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        self.said += [value or "" for name, value in attrs if name in SHOWN or name.startswith(SAID)]
        if tag not in VOID:
            code = tag in CODE or "id" in (given.get("class") or "").split()
            words = given.get("type") == "application/json"
            self.within.append("code" if code or (tag == "script" and not words) else tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and self.within:
            self.within.pop()

    def handle_data(self, text: str) -> None:
        if "script" in self.within:
            self.said += texts_in(json.loads(text))
        elif "code" not in self.within:
            self.said.append(text)

    def english(self) -> set[str]:
        return {word for text in self.said for word in WORD.findall(LEFT_OUT.sub("", text))} - NAMES


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts_in(one)


#: Every page that people read, by the name of its address, in several states; ``zz`` begins what is made up.
PAGES: Mapping[str, list[str]] = {
    "runs": ["/", "/?segment=attention", "/?q=zz&status=FAILED&since=24h", "/?q=zz-nothing"],
    "compare": ["/compare/", "/compare/?a=zz&b=zz-2", "/compare/?a=zz&b=zz-2&show=only_a"],
    "search": ["/search/", "/search/?q=zz", "/search/?q=zz-nothing"],
    "trace": [
        "/traces/zz/",
        *(f"/traces/zz/?node=zz-a&tab={tab}" for tab, _ in TABS),
        "/traces/zz/?q=zz-none",
    ],
    "trace-log": ["/traces/zz/events/", "/traces/zz/events/?verdict=conflict", "/traces/zz-2/events/"],
    "definitions": ["/definitions/", "/definitions/?q=zz-nothing"],
    "definition": ["/definitions/zz/", "/definitions/zz-off/"],
    "definition-versions": ["/definitions/zz/versions/"],
    "controls:audit": ["/controls/", "/controls/?action=CANCEL&outcome=forbidden&since=1h"],
    "controls:record": ["/controls/zz-cancel/", "/controls/zz-pause/"],
    "controls:bulks": ["/runs/actions/"],
    "controls:bulk": [
        "/runs/actions/{done}/",
        "/runs/actions/{question}/",
        "/runs/actions/{question}/?limit=1",
    ],
    "controls:issue": ["/traces/zz/control/", "/traces/zz/control/?task_id=zz-a"],
    "health": ["/health/"],
    "dead-letters": ["/dead-letters/"],
    "dead-letter": ["/dead-letters/{letter}/"],
    "password": ["/password/"],
    "password-again": ["/login/again/"],
    "login": ["/login/"],
    "api:docs": ["/api/docs/"],
}
#: Addresses without a page of their own: they lead elsewhere, or answer programs.
NO_PAGES = {
    *(
        "definition-start",
        "controls:file",
        "controls:preview",
        "controls:chosen",
        "controls:bulk-state",
        "controls:bulk-do",
        "runs-matching",
        "runs-beside",
        "trace-task",
        "trace-find",
        "trace-errors",
        "run-views",
        "run-view",
        "runs-new",
        "search-hits",
    ),
    *("theme", "language", "logout", "admin-login", "admin-logout", "admin-password"),
    *("healthz", "readyz", "metrics"),
}


def names_of(patterns: list[Any], space: str = "") -> Iterator[str]:
    for one in patterns:
        if isinstance(one, URLResolver):
            yield from names_of(one.url_patterns, f"{space}{one.namespace}:" if one.namespace else space)
        elif isinstance(one, URLPattern) and one.name:
            yield space + one.name


def test_every_page_is_among_those_that_are_read_here():
    known = {
        name
        for name in names_of(get_resolver().url_patterns)
        if not name.startswith(("admin:", "api:")) or name == "api:docs"
    }

    assert known - NO_PAGES == set(PAGES)


@pytest.fixture
def told() -> dict[str, str]:
    """Something of everything that pages tell of."""
    rule = {"policy": "at_least", "count": 2, "early": True}
    schema = {
        "type": "object",
        "required": ["zz-n"],
        "properties": {
            "zz-n": {"type": "integer", "minimum": 3},
            "zz-mode": {"enum": ["zz-fast", "zz-deep"]},
            "zz-list": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
    }
    body = {"id": "zz", "name": "zz-name", "actor_type": "AGENT", "code_ref": "zz://x", "join": rule}
    edit.create({**body, "params_schema": schema}, by="zz-anna")
    edit.create({**body, "id": "zz-off", "is_active": False}, by="zz-anna")
    shared = {"job_id": "zz", "actor_type": "EXECUTION", "name": "zz-name", "labels": {"zz-key": "zz-value"}}
    tasks = [
        ("zz", "zz-root", None),
        ("zz", "zz-a", "zz-root"),
        ("zz", "zz-b", "zz-root"),
        ("zz", "zz-c", "zz-a"),
    ]
    ingest.register(
        [
            {"trace_id": trace, "id": id, "parent_id": parent, **shared}
            for trace, id, parent in [*tasks, ("zz-2", "zz-root-2", None)]
        ]
    )
    for task, kind in (
        ("a", "STARTED"),
        ("b", "STARTED"),
        ("b", "FAILED"),
        ("b", "COMPLETED"),
        ("loose", "STARTED"),
    ):
        say(f"zz-{task}", kind, trace_id="zz", error_code="zz-code", message="zz-said")
    say("zz-a", "PROGRESS", trace_id="zz", progress=41.5, worker="zz-worker", attempt=2)
    issue(
        "zz",
        ControlAction.PAUSE,
        task_id="zz-a",
        triggered_by="zz-li",
        reason="zz-why",
        control_id="zz-pause",
    )
    issue("zz-2", ControlAction.CANCEL, triggered_by="zz-li", control_id="zz-cancel")
    done, question = (
        bulk.ask(action, QueryDict("q=zz"), by="zz.li")
        for action in (ControlAction.PAUSE, ControlAction.CANCEL)
    )
    bulk.start(done, "zz-why")
    bulk.step(done)
    return {"letter": a_letter(reason="zz-reason"), "done": done.id, "question": question.id}


@pytest.mark.parametrize("path", [path for paths in PAGES.values() for path in paths])
def test_a_page_in_chinese_has_no_english_words(path, told):
    client = signed_in_as("admin", "zz.li")
    if path == "/login/":
        client.logout()

    page = client.get(path.format(**told), headers=CHINESE)

    assert page.status_code == 200
    assert Reader(page.content.decode()).english() == set()


@pytest.mark.parametrize("path", ["/", "/definitions/", "/controls/", "/dead-letters/"])
def test_an_empty_page_in_chinese_has_no_english_words(path):
    page = signed_in_as("admin", "zz.li").get(path, headers=CHINESE)

    assert Reader(page.content.decode()).english() == set()


@pytest.mark.parametrize("path", ["/traces/zz-none/", "/?since=zz", "/?cursor=zz", "/theme/"])
def test_an_error_in_chinese_has_no_english_words(path):
    page = signed_in_as("viewer", "zz.li").get(path, headers=CHINESE)

    assert page.status_code >= 400
    assert Reader(page.content.decode()).english() <= {"since", "cursor"}


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "definitions/taskdefinition/",
            "definitions/taskdefinition/add/",
            "access/token/",
            "access/token/add/",
        ),
        *("definitions/taskdefinition/zz/change/", "auth/user/", "auth/group/"),
    ],
)
def test_the_admin_site_in_chinese_has_no_english_words(path, told):
    client = signed_in_as("admin", "zz.li")
    client.post("/login/again/", {"password": PASSWORD})

    page = client.get(f"/admin/{path}", headers=CHINESE)

    assert page.status_code == 200
    assert Reader(page.content.decode()).english() <= ADMIN


def test_a_form_in_chinese_is_refused_in_chinese(told):
    client = signed_in_as("operator", "zz.li")
    asked = {"as": "form", "p:zz-n": "2", "p:zz-list": "", "labels": "zz"}

    page = client.post("/definitions/zz/start/", asked, headers=CHINESE)

    assert "不得小于 3" in page.content.decode()
    assert Reader(page.content.decode()).english() == set()


def test_scripts_say_only_words_that_they_are_given():
    scripts = [path.read_text() for path in Path(settings.BASE_DIR / "static").glob("*/*.js")]
    one = {key for script in scripts for key in re.findall(r"\bsay\(\"(\w+)\"", script)}
    counted = {key for script in scripts for key in re.findall(r"\bsayCount\(\"(\w+)\"", script)}

    assert one and counted
    assert one | {f"{key}_{form}" for key in counted for form in "1n"} <= set(words())
