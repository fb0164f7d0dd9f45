"""What every answer carries, what no request gets past: headers, CSRF, sign-in limits, errors, hosts."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.db.utils import DatabaseError
from django.test import Client
from django.urls import resolve

from tests.people import PASSWORD, a_person, bearing, signed_in_as
from tower import outages
from tower.access import limits, signin
from tower.access.limits import Buckets
from tower.access.models import SignInCount
from tower.middleware import CSP, CSP_ADMIN, CSP_DOCS

pytestmark = pytest.mark.django_db

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
LIST = "/api/v1/definitions/"


def error(answer: Any) -> dict[str, Any]:
    found = answer.json()
    assert set(found) == {"error"} and set(found["error"]) == {"code", "message", "details"}
    return dict(found["error"])


# -- headers


def every_kind_of_answer() -> list[tuple[str, Any]]:
    viewer, admin = signed_in_as("viewer"), signed_in_as("admin")
    return [
        ("page", viewer.get("/health/")),
        ("sign-in", Client().get("/login/")),
        ("redirect", Client().get("/health/")),
        ("missing page", viewer.get("/nothing/")),
        ("refused page", viewer.get("/admin/")),
        ("admin", admin.get("/admin/")),
        ("api", bearing("read").get(LIST)),
        ("api, missing", Client().get("/api/v1/nothing/")),
        ("api, refused", Client().get(LIST)),
        ("docs", viewer.get("/api/docs/")),
        ("host", Client().get("/login/", headers={"host": "evil.example"})),
        ("health", Client().get("/healthz")),
    ]


def test_every_answer_carries_the_same_headers_and_its_policy() -> None:
    for kind, answer in every_kind_of_answer():
        wanted = {"admin": CSP_ADMIN, "refused page": CSP_ADMIN, "docs": CSP_DOCS}.get(kind, CSP)
        assert answer["Content-Security-Policy"] == wanted, kind
        assert answer["X-Content-Type-Options"] == "nosniff", kind
        assert answer["Referrer-Policy"] == "same-origin", kind
        assert answer["Cross-Origin-Opener-Policy"] == "same-origin", kind
        assert "camera=()" in answer["Permissions-Policy"], kind
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")], kind


def test_the_policy_is_the_written_one_and_only_the_admin_site_lacks_trusted_types() -> None:
    assert CSP == POLICY + "; require-trusted-types-for 'script'"
    assert CSP_ADMIN == POLICY
    assert POLICY.replace("img-src 'self'", "img-src 'self' data:") == CSP_DOCS
    for policy in (CSP, CSP_ADMIN, CSP_DOCS):
        assert "unsafe" not in policy and "http" not in policy


def test_a_preflight_is_told_nothing() -> None:
    for path in (LIST, "/api/v1/events/", "/"):
        answer = Client().options(
            path,
            headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
        )
        assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
        assert answer.status_code in {302, 401, 404, 405}


def test_with_https_the_browser_stays_on_it(settings: Any) -> None:
    assert "Strict-Transport-Security" not in Client().get("/healthz")

    settings.TOWER_HTTPS = True

    assert Client().get("/healthz")["Strict-Transport-Security"] == "max-age=31536000"


def test_with_https_the_cookies_are_bound_to_the_host() -> None:
    """Settings are read once, so another interpreter says what they are."""
    names = "s.SESSION_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE"
    words = f"import tower.settings as s; print({names})"
    environment = {**os.environ, "TOWER_HTTPS": "1"}

    said = subprocess.run(
        [sys.executable, "-c", words], env=environment, capture_output=True, text=True, check=True
    )

    assert said.stdout.split() == ["__Host-tower_session", "True", "True"]


def test_answers_of_the_api_are_not_kept() -> None:
    assert bearing("read").get(LIST)["Cache-Control"] == "no-store"


# -- CSRF


def test_b63_a_session_without_the_csrf_token_changes_nothing() -> None:
    client = signed_in_as("admin", csrf=True)

    answer = client.post(LIST, {"id": "a"}, content_type="application/json")

    assert answer.status_code == 403 and error(answer)["code"] == "csrf_failed"


def test_b63_with_the_csrf_token_it_is_read() -> None:
    client = signed_in_as("admin", csrf=True)
    client.get("/health/")
    token = client.cookies["csrftoken"].value

    answer = client.post(LIST, {"id": "a"}, content_type="application/json", headers={"x-csrftoken": token})

    assert answer.status_code == 400 and error(answer)["code"] != "csrf_failed"


def test_b63_a_token_needs_none() -> None:
    client = bearing("admin")
    client.handler.enforce_csrf_checks = True

    answer = client.post(LIST, {"id": "a"}, content_type="application/json")

    assert answer.status_code == 400


def test_b63_a_form_without_the_csrf_token_gets_a_page() -> None:
    client = signed_in_as("viewer", csrf=True)

    for path in ("/logout/", "/login/", "/theme/", "/language/", "/login/again/"):
        answer = client.post(path, {})
        assert answer.status_code == 403 and answer["Content-Type"].startswith("text/html"), path
    assert client.get("/health/").status_code == 200


# -- errors


def test_b64_under_the_api_errors_are_json() -> None:
    client = bearing("read", "admin")

    missing = client.get("/api/v1/nothing/")
    wrong = client.delete("/api/v1/definitions/x/")
    xml = client.get(LIST, headers={"accept": "text/xml"})

    assert (missing.status_code, error(missing)["code"]) == (404, "not_found")
    assert (wrong.status_code, error(wrong)["code"]) == (405, "method_not_allowed")
    assert {"GET", "PATCH", "PUT"} <= set(wrong["Allow"].split(", "))
    assert (xml.status_code, error(xml)["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/*", "text/html, */*;q=0.1", None])
def test_b64_who_takes_json_gets_it(accept: str | None) -> None:
    client = bearing("read")

    answer = client.get(LIST, headers={"accept": accept} if accept else {})

    assert answer.status_code == 200 and answer["Content-Type"] == "application/json"


def test_b64_a_missing_slash_is_mended_for_people_and_not_for_programs() -> None:
    assert signed_in_as("viewer").get("/health")["Location"] == "/health/"
    assert bearing("read").get(LIST.rstrip("/")).status_code == 404
    assert bearing("ingest").post("/api/v1/events", "[]", content_type="application/json").status_code == 404


def test_b16_a_nul_in_a_path_is_404() -> None:
    api = bearing("read").get("/api/v1/definitions/%00/")

    assert (api.status_code, error(api)["code"]) == (404, "not_found")
    assert signed_in_as("viewer").get("/traces/a%00b/").status_code == 404


def test_b65_a_foreign_host_gets_a_short_text() -> None:
    answer = Client().get("/api/v1/definitions/", headers={"host": "evil.example"})

    assert answer.status_code == 400
    assert answer["Content-Type"] == "text/plain" and len(answer.content) < 100


def test_b66_what_a_client_says_of_proxies_is_ignored() -> None:
    headers = {
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "evil.example",
    }
    for _ in range(5):
        Client().post("/login/", {"username": "x", "password": "wrong"}, headers=headers)

    assert SignInCount.objects.get(key=signin.keys("x", "127.0.0.1")["both"]).failures == 5
    assert bearing("read").get(f"{LIST}?limit=1", headers=headers).status_code == 200


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the view of a path raise."""

    def breaks(path: str, reason: Exception) -> None:
        def fail(*_args: Any, **_kwargs: Any) -> None:
            raise reason

        view = resolve(path).func
        if hasattr(view, "cls"):
            monkeypatch.setattr(view.cls, "get", fail)
        else:
            from tower import pages

            monkeypatch.setattr(pages, "cards", fail)

    return breaks


SECRET = "SELECT s3cret FROM /srv/x"


def test_a_fault_of_ours_tells_its_number_and_nothing_else(broken: Any, caplog: Any) -> None:
    broken(LIST, RuntimeError(SECRET))
    broken("/health/", RuntimeError(SECRET))
    client = bearing("read")
    client.raise_request_exception = False
    viewer = signed_in_as("viewer")
    viewer.raise_request_exception = False

    with caplog.at_level(logging.CRITICAL):
        api, page = client.get(f"{LIST}?q=buried"), viewer.get("/health/?q=buried")

    assert (api.status_code, error(api)["code"]) == (500, "internal")
    assert error(api)["details"] == {"request_id": api["X-Request-Id"]}
    assert page.status_code == 500 and page["X-Request-Id"] in page.content.decode()
    for answer in (api, page):
        said = answer.content.decode()
        assert not any(word in said for word in ("s3cret", "/work", "Traceback", "RuntimeError", "buried"))


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (OperationalError("database is locked"), "database_busy"),
        (OperationalError("connection refused"), "database_unavailable"),
        (OperationalError("disk full"), "storage_full"),
    ],
)
def test_f4_f11_f12_a_failed_database_is_a_503_and_send_again(
    broken: Any, reason: Exception, code: str
) -> None:
    import sqlite3

    import psycopg

    causes: dict[str, Exception] = {
        "database_busy": sqlite3.OperationalError("database is locked"),
        "database_unavailable": psycopg.OperationalError("connection refused"),
        "storage_full": sqlite3.OperationalError("database or disk is full"),
    }
    reason.__cause__ = causes[code]
    broken(LIST, reason)
    broken("/health/", reason)

    api, page = bearing("read").get(LIST), signed_in_as("viewer").get("/health/")

    assert (api.status_code, error(api)["code"], api["Retry-After"]) == (503, code, "1")
    assert (page.status_code, page["Retry-After"]) == (503, "1")
    assert "SELECT" not in page.content.decode()


def test_a_wrong_statement_stays_a_fault_of_ours() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")
    except DatabaseError as raised:
        assert outages.outage(raised) is None


def test_the_states_of_postgres_are_told_apart() -> None:
    from psycopg import errors

    found = {
        kind: outages.outage(kind("x")).code  # type: ignore[union-attr]
        for kind in (
            errors.LockNotAvailable,
            errors.DeadlockDetected,
            errors.SerializationFailure,
            errors.QueryCanceled,
            errors.DiskFull,
            errors.AdminShutdown,
            errors.TooManyConnections,
        )
    }

    assert list(found.values()) == [
        "database_busy",
        "database_busy",
        "database_busy",
        "query_timeout",
        "storage_full",
        "database_unavailable",
        "database_unavailable",
    ]
    assert outages.outage(errors.UniqueViolation("x")) is None


# -- how often


def test_b67_who_asks_too_often_is_told_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "reads", Buckets(1, clock=lambda: 0.0))
    client, other = bearing("read", name="one"), bearing("read", name="two")

    statuses = [client.get(LIST).status_code for _ in range(3)]
    answer = client.get(LIST)

    assert statuses == [200, 200, 429]
    assert error(answer)["code"] == "rate_limited" and int(answer["Retry-After"]) >= 1
    assert other.get(LIST).status_code == 200


def test_b67_pages_have_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "reads", Buckets(1, clock=lambda: 0.0))
    client = signed_in_as("viewer")

    assert [client.get("/definitions/").status_code for _ in range(3)] == [200, 200, 429]


def test_a_bucket_fills_again_and_holds_twice_its_rate() -> None:
    now = [0.0]
    bucket = Buckets(10, clock=lambda: now[0])

    assert sum(not bucket.take("a") for _ in range(50)) == 20
    now[0] = 0.5
    assert sum(not bucket.take("a") for _ in range(50)) == 5
    now[0] = 1_000.0
    assert sum(not bucket.take("a") for _ in range(50)) == 20
    assert bucket.take("a") == pytest.approx(0.1)


# -- sign-in


def attempt(name: str = "viewer", password: str = "wrong", address: str = "192.0.2.1") -> Any:
    return Client(REMOTE_ADDR=address).post("/login/", {"username": name, "password": password})


def test_five_failures_of_a_name_from_an_address_close_it_for_a_while() -> None:
    a_person("viewer")

    statuses = [attempt().status_code for _ in range(6)]
    answer = attempt(password=PASSWORD)

    assert statuses == [200] * 5 + [429]
    assert answer.status_code == 429 and 0 < int(answer["Retry-After"]) <= 900
    assert b"Too many attempts" in answer.content
    assert attempt(password=PASSWORD, address="192.0.2.2").status_code == 302


def test_a_sign_in_forgives_what_failed_before_it() -> None:
    a_person("viewer")

    for _ in range(3):
        for _ in range(4):
            attempt()
        assert attempt(password=PASSWORD).status_code == 302


def test_twenty_failures_close_an_address_whatever_the_names() -> None:
    a_person("viewer")
    statuses = [attempt(name=f"n{n}").status_code for n in range(21)]

    assert statuses == [200] * 20 + [429]
    assert attempt(password=PASSWORD).status_code == 429
    assert attempt(password=PASSWORD, address="192.0.2.2").status_code == 302


def test_an_address_that_is_closed_leaves_no_more_rows() -> None:
    for n in range(20):
        assert signin.claim(f"n{n}", "192.0.2.1") == 0
    rows = SignInCount.objects.count()

    assert all(signin.claim(f"made up {n}", "192.0.2.1") > 0 for n in range(30))
    assert SignInCount.objects.count() == rows


def test_a_sign_in_clears_away_sessions_that_are_over() -> None:
    a_person("viewer")
    over = datetime.now(UTC) - timedelta(seconds=1)
    Session.objects.create(session_key="x" * 32, session_data="", expire_date=over)

    assert attempt(password=PASSWORD).status_code == 302

    assert not Session.objects.filter(session_key="x" * 32).exists()


def test_a_hundred_failures_close_a_name_whatever_the_addresses() -> None:
    for n in range(100):
        assert signin.claim("viewer", f"192.0.2.{n}") == 0

    assert signin.claim("viewer", "198.51.100.1") > 0
    assert signin.claim("other", "198.51.100.1") == 0


def test_the_window_ends() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for _ in range(5):
        signin.claim("viewer", "192.0.2.1", start)

    assert signin.claim("viewer", "192.0.2.1", start + timedelta(minutes=14)) == 60
    assert signin.claim("viewer", "192.0.2.1", start + timedelta(minutes=15)) == 0


def test_counts_whose_window_is_over_are_dropped() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    signin.claim("viewer", "192.0.2.1", start)
    signin.claim("viewer", "192.0.2.2", start + timedelta(minutes=10))

    assert (
        signin.forget(start + timedelta(minutes=16)) == 3
    )  # of the first one, and what both share: the name
    assert SignInCount.objects.count() == 2


def test_a_name_that_nobody_has_is_answered_alike() -> None:
    a_person("viewer")
    a_person("viewer", "gone", is_active=False)

    known, unknown, gone = attempt(), attempt(name="nobody"), attempt(name="gone", password=PASSWORD)

    def words(answer: Any) -> str:
        text = answer.content.decode().split('role="alert"')[1].split("</div>")[0]
        return str(text)

    assert known.status_code == unknown.status_code == gone.status_code == 200
    assert words(known) == words(unknown) == words(gone)


@pytest.mark.django_db(transaction=True)
def test_parallel_attempts_get_no_more_answers_than_five() -> None:
    a_person("viewer")
    statuses: list[int] = []
    gate = threading.Barrier(12)

    def try_once() -> None:
        gate.wait()
        try:
            statuses.append(attempt().status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=try_once) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200] * 5 + [429] * 7


@pytest.mark.parametrize("password", ["x" * 129, "x" * 100_000])
def test_a_password_longer_than_any_is_not_chewed_on(password: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a_person("viewer")

    def chewed(*_: Any) -> int:
        raise AssertionError("it was looked at")

    monkeypatch.setattr("tower.access.signin.claim", chewed)

    assert attempt(password=password).status_code == 200
