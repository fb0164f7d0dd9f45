"""One line of JSON for each thing that happened, and nothing in it that is secret or steers a terminal."""

from __future__ import annotations

import json
import logging
import sys
import time

import pytest

from tests import servers
from tower import access_log, logs
from tower.supervisor import plain

TOKEN = "ctw_" + "a1B2c3" * 6


def record(message="thing_happened", level=logging.INFO, name="tower.test", exc_info=None, **facts):
    return logging.getLogger(name).makeRecord(name, level, __file__, 1, message, (), exc_info, extra=facts)


def said(**facts):
    return json.loads(logs.JSONLines().format(record(**facts)))


def failing():
    try:
        raise ValueError("postgresql://tower:hunter2@db/x is away")
    except ValueError:
        return sys.exc_info()


def test_a_line_says_when_what_and_by_whom():
    line = said(status=201, trace_id="T", unknown_fact="dropped")

    assert list(line) == ["ts", "level", "event", "role", "pid", "trace_id", "status"]
    assert line["ts"].endswith("Z") and len(line["ts"]) == 24
    assert (line["event"], line["status"], line["trace_id"]) == ("thing_happened", 201, "T")


@pytest.mark.parametrize("form", [logs.JSONLines(), logs.ForPeople()])
@pytest.mark.parametrize(
    "evil", ["a\nb", "a\r\nb", "\x1b[2J", "\x9b2J", "\u2028", "\x85", "\x7f", "\ud800", "\0"]
)
def test_b73_a_value_can_neither_make_a_line_nor_steer_a_terminal(form, evil):
    line = form.format(record(code=evil))

    assert len(line.splitlines()) == 1
    assert line.isprintable()


@pytest.mark.parametrize(
    "evil", ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07red", "\x07r\x08e\x9bd\x1bcred", "red\r"]
)
def test_b73_up_strips_what_steers_a_terminal(evil):
    stripped = plain(evil)

    assert stripped.isprintable()
    assert stripped.endswith("red")


def test_a_long_value_is_cut():
    assert len(said(error="x" * 5000)["error"]) == 512


@pytest.mark.parametrize(
    "secret",
    [TOKEN, f"Bearer {TOKEN}", "redis://:hunter2@h:1/0", "postgresql://u:hunter2@h/x", "password=hunter2",
     "tower_session=hunter2; x", "csrfmiddlewaretoken=hunter2&a=b", "'password': 'hunter2'"],
)  # fmt: skip
def test_secrets_are_masked_wherever_they_come_in(secret):
    text = logs.masked(f"went wrong: {secret} there")

    assert "hunter2" not in text and TOKEN not in text
    assert text.startswith("went wrong: ")


def test_an_exception_is_told_with_its_place_and_without_its_secrets():
    line = said(exc_info=failing(), level=logging.ERROR)

    assert line["error"] == "ValueError: postgresql://tower:***@db/x is away"
    assert line["where"][-1].endswith(" failing")


def test_what_a_library_says_is_named_after_it():
    line = json.loads(logs.JSONLines().format(record(message="Not Found: /x\ny", name="django.request")))

    assert (line["event"], line["message"]) == ("django.request", "Not Found: /x\ny")


def test_facts_of_a_request_are_on_all_its_lines():
    notes = logs.begin()
    logs.note(token_name="worker")

    line = said(count=2)

    assert line["request_id"] == notes["request_id"] == logs.request_id()
    assert (line["token_name"], line["count"]) == ("worker", 2)


def test_a_repeated_warning_is_said_once_a_minute_with_its_count(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    once = logs.OncePerMinute()
    passed = [once.filter(record(level=logging.WARNING)) for _ in range(5)]
    now += logs.QUIET_SECONDS

    late = record(level=logging.WARNING)

    assert passed == [True, False, False, False, False]
    assert once.filter(late)
    assert late.count == 5


def test_the_end_of_a_failed_pipeline_is_not_told_beside_its_error():
    held = logs.RaisedBefore()

    assert not held.filter(record("error ignored terminating %r: %s", logging.WARNING, "psycopg"))
    assert held.filter(record("error ignored in __del__", logging.WARNING, "psycopg"))


def test_errors_and_other_warnings_are_never_held_back():
    once = logs.OncePerMinute()

    assert all(once.filter(record(level=logging.ERROR)) for _ in range(3))
    assert all(once.filter(record(level=logging.WARNING, code=str(code))) for code in range(3))


@pytest.mark.parametrize(
    ("notes", "status", "level"),
    [
        ({"route": "api:events", "token_name": "worker"}, 200, logging.DEBUG),
        ({"route": "api:events", "token_name": "worker"}, 207, logging.INFO),
        ({"route": "api:tasks", "token_name": "worker"}, 200, logging.INFO),
        ({"route": "api:events", "token_name": access_log.DEMO_FLEET}, 200, logging.DEBUG),
        ({"route": "api:events", "token_name": access_log.DEMO_FLEET}, 400, logging.INFO),
        ({"route": "api:events", "token_name": access_log.DEMO_FLEET}, 0, logging.INFO),
        ({"route": "readyz"}, 200, logging.DEBUG),
        ({"route": "readyz"}, 503, logging.INFO),
        ({"route": "login"}, 200, logging.INFO),
    ],
)
def test_of_the_demo_of_probes_and_of_reports_only_what_failed_is_told(notes, status, level):
    assert access_log.level_of(notes, status) == level


def test_a_request_leaves_one_line_without_its_query(live_tower):
    live_tower.get("traces/?q=searched-for&limit=7")

    def lines():
        # Other tests' actors may ask this tower, too.
        said = [line for line in live_tower.said.splitlines() if '"path":"/api/v1/traces/"' in line]
        return [line for line in said if '"token_name":"suite"' in line and '"method":"GET"' in line]

    line = json.loads(servers.until(lines, "its line is printed")[-1].partition("| ")[2])

    assert (line["event"], line["status"]) == ("http_request", 200)
    assert line["route"] == "api:traces"
    assert line["duration_ms"] > 0
    assert "searched-for" not in live_tower.said
    assert live_tower.token not in live_tower.said
