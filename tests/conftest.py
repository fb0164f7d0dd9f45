"""Fixtures of the whole suite: real database, real Valkey, real tower, real Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import TransactionTestCase

from tests import servers

#: What migrations put in; emptying a table for the next test leaves these alone.
KEPT = {"django_migrations", "django_content_type", "auth_permission", "auth_group", "auth_group_permissions"}

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


#: A test that asks for one of these touches a database, whichever DATABASE_URL names.
DATABASE_FIXTURES = {"db", "transactional_db", "live_tower", "own_database"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test` runs on PostgreSQL as well: ``-m "database and not browser"``."""
    for item in items:
        asked = set(getattr(item, "fixturenames", ()))
        if asked & DATABASE_FIXTURES or item.get_closest_marker("django_db"):
            item.add_marker("database")
        if "chromium" in asked:
            item.add_marker("browser")


def empty_tables(_case: TransactionTestCase) -> None:
    # Django's flush takes 100 ms and drops the groups that a migration made; few tables have rows here.
    # One transaction: foreign keys are looked at when it commits, so the order does not matter.
    with transaction.atomic(), connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True):
            if table not in KEPT:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")


setattr(TransactionTestCase, "_fixture_teardown", empty_tables)  # noqa: B010  (the stubs do not know it)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    yield
    if connection.vendor == "postgresql":
        # The writer's thread keeps a connection of its own, and a database in use cannot be dropped.
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[servers.Valkey]:
    server = servers.Valkey(int(settings.REDIS_URL.rsplit(":", 1)[1].split("/")[0]))
    server.start()
    yield server
    from instances import live

    live._publisher.close()
    server.close()


@pytest.fixture(autouse=True)
def valkey(valkey_server: servers.Valkey) -> servers.Valkey:
    """The suite's Valkey, running and empty; ``stop()``, ``start()``, ``freeze()``, ``thaw()`` it at will."""
    from tower import redis

    valkey_server.start()
    valkey_server.thaw()
    redis.client().flushall()
    return valkey_server


@pytest.fixture(autouse=True)
def forgotten_rules() -> None:
    """Versions are remembered for ever by their keys, which a rolled back test gives out again."""
    from tower.definitions import rules

    rules.forget()


@pytest.fixture(scope="session")
def live_tower() -> Iterator[servers.Tower]:
    """One real process tree for all tests that speak to it over HTTP; use trace ids of your own."""
    with servers.database_of_its_own() as url, servers.Tower(DATABASE_URL=url) as tower:
        yield tower


@pytest.fixture(scope="module")
def own_database() -> Iterator[str]:
    """DATABASE_URL for the towers of one module."""
    with servers.database_of_its_own() as url:
        yield url


@pytest.fixture
def suite_database(db: None) -> str:
    """DATABASE_URL of the database that the tests themselves use, for a process beside them."""
    at = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite://{at['NAME']}"
    place = f"host={quote(at['HOST'], safe='')}&port={at['PORT']}".removesuffix("&port=")
    return f"postgresql://{quote(at['USER'])}:{quote(at['PASSWORD'])}@/{at['NAME']}?{place}"


@pytest.fixture
def a_tower() -> Iterator[Callable[..., servers.Tower]]:
    """Makes towers of this test alone, not started yet: ``a_tower("--demo", DEBUG="1").start()``."""
    made: list[servers.Tower] = []

    def make(*args: str, **environment: str) -> servers.Tower:
        made.append(servers.Tower(*args, **environment))
        return made[-1]

    yield make
    for tower in made:
        tower.stop()


# -- browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    # Of the module: Playwright's loop runs as long as it lives, and asyncio's tests need theirs.
    from playwright.sync_api import sync_playwright

    # Debian's where it is installed, else the one that `playwright install chromium` fetched.
    path = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(chromium: Any, live_tower: servers.Tower) -> Any:
    """Storage state of a browser in which ``admin`` is signed in."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{live_tower.url}/login/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", servers.ADMIN_PASSWORD)
    page.click("form:has(input[name=password]) button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)
    state = context.storage_state()
    context.close()
    return state


#: Runs before any script of a page; a violation then fails the test through the console.
REPORT_VIOLATIONS = """document.addEventListener("securitypolicyviolation", (event) =>
  console.error("securitypolicyviolation", event.violatedDirective, event.blockedURI, event.sourceFile));"""


@pytest.fixture
def new_page(
    chromium: Any, live_tower: servers.Tower, signed_in: Any, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Any]]:
    """Makes pages with a fresh profile, ``admin`` signed in: ``new_page(java_script_enabled=False)``.

    ``storage_state=None`` gives an anonymous one. An error on the console, an exception or a
    violation of the security policy fails the test; ``@pytest.mark.console_may_say("404")`` allows
    lines with that text.
    """
    wrong: list[str] = []
    contexts: list[Any] = []

    def make(**options: Any) -> Any:
        context = chromium.new_context(
            base_url=live_tower.url,
            **{"storage_state": signed_in, "viewport": {"width": 1280, "height": 800}, **options},
        )
        contexts.append(context)
        context.add_init_script(REPORT_VIOLATIONS)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    allowed = [text for mark in request.node.iter_markers("console_may_say") for text in mark.args]
    assert not [line for line in wrong if not any(text in line for text in allowed)]


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    return new_page()
