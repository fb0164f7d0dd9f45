"""Large bodies are read in a process beside: the same reports, and none is lost with it."""

from __future__ import annotations

import gzip
import json
import marshal
import os
import signal
import subprocess
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances import reader
from instances.intake import read_events, told_from
from instances.reader import Reader
from tests.servers import command_line, until
from tests.test_intake import NOW, one, right
from tower.reading import JSON, LINES, zstd


def reports(count=300, **changes):
    return [
        {
            "event_id": f"e{n}", "trace_id": "t", "task_id": f"a{n // 4}", "event_type": "PROGRESS",
            "timestamp_ms": NOW + n, "payload": {"message": f"page {n}", "progress": n % 100, "own": [n]},
            **changes,
        }
        for n in range(count)
    ]  # fmt: skip


def body_of(items):
    return json.dumps(items).encode()


@pytest.fixture
def running(settings):
    settings.TOWER_READER = True
    made = Reader()
    made.begin()
    until(made._there, "the reader is there", every=0.01)
    yield made
    made.close()


@given(st.lists(right | one, max_size=4))
def test_what_it_tells_is_what_was_read(items):
    raw = json.dumps(items, allow_nan=True).encode()
    sent, rejected = read_events(json.loads(raw), NOW)

    told = reader.read(raw, "", JSON)

    if rejected:
        assert told == b""
    elif told:  # what JSON itself does not allow is left to the caller, with its refusal
        found = told_from(marshal.loads(told))
        assert [(s.report, s.payload, s.trace_id, s.index) for s in found] == [
            (s.report, s.payload, s.trace_id, s.index) for s in sent
        ]


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [(lambda b: b, ""), (gzip.compress, "gzip"), (zstd.compress, "zstd")],
)
def test_a_body_comes_back_as_its_reports(running, packed, encoding):
    expected, _ = read_events(reports(), NOW)

    sent = running.read(packed(body_of(reports())), encoding, JSON)

    assert [s.report for s in sent] == [s.report for s in expected]
    assert [s.payload for s in sent] == [s.payload for s in expected]


def test_a_line_is_an_item_there_too(running):
    lines = b"\n".join(json.dumps(item).encode() for item in reports())

    assert len(running.read(lines, "", LINES)) == 300


def test_what_the_items_are_warned_of_comes_with_them(running):
    sent = running.read(body_of(reports(1, timestamp_ms=5, colour="red")), "", JSON)

    assert sent[0].warnings == (("unknown_field", "colour"), ("clock_skew", "timestamp_ms"))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (body_of([*reports(), {"event_id": "x"}]), ""),
        (b"{", ""),
        (b"[" * 5000, ""),
        (b"not gzip", "gzip"),
        (zlib.compress(b"x" * 100_000_000), "gzip"),
        (body_of(reports()), "br"),
    ],
    ids=["an item is refused", "no JSON", "too deep", "no gzip", "another packing", "an unknown packing"],
)
def test_what_is_refused_is_left_to_the_caller_and_the_next_is_read(running, body, encoding):
    assert running.read(body, encoding, JSON) is None
    assert len(running.read(body_of(reports()), "", JSON)) == 300


def test_a_body_of_the_largest_size_passes(running, settings):
    many = reports(2000, payload={"own": "m" * 7000})

    assert len(running.read(body_of(many), "", JSON)) == 2000


def test_until_it_is_there_the_caller_reads(settings):
    settings.TOWER_READER = True
    early = Reader()
    try:
        assert early.read(body_of(reports()), "", JSON) is None
        until(lambda: early.read(body_of(reports()), "", JSON), "it reads by itself")
    finally:
        early.close()


def test_one_that_was_killed_is_missed_once_and_begun_anew(running, monkeypatch):
    monkeypatch.setattr(reader, "REST_SECONDS", 0.0)
    running._process.kill()
    running._process.wait()

    assert running.read(body_of(reports()), "", JSON) is None
    assert until(lambda: running.read(body_of(reports()), "", JSON), "another one reads")


def test_one_that_stands_still_is_given_up(running):
    running._line.settimeout(0.2)
    stuck = running._process.pid
    os.kill(stuck, signal.SIGSTOP)

    assert running.read(body_of(reports()), "", JSON) is None
    until(lambda: not command_line(stuck), "it is gone")


def test_it_is_not_begun_again_at_once(running):
    running._process.kill()
    running._process.wait()

    assert [running.read(body_of(reports()), "", JSON) for _ in range(3)] == [None] * 3
    assert running._process is None


def test_it_ends_with_its_parent(tmp_path):
    script = (
        "import os, time; os.environ['DJANGO_SETTINGS_MODULE'] = 'tower.settings'\n"
        "from instances.reader import Reader\n"
        "one = Reader(); one.begin()\n"
        "while not one._there(): time.sleep(0.01)\n"
        "print(one._process.pid, flush=True); time.sleep(60)\n"
    )
    environment = {**os.environ, "TOWER_HOME": str(tmp_path), "TOWER_READER": "1"}
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())

    parent.kill()
    parent.wait()

    until(lambda: not command_line(child), "the reader is gone")
    parent.stdout.close()


def test_where_it_is_turned_off_none_is_begun(settings):
    settings.TOWER_READER = False
    off = Reader()

    assert off.read(body_of(reports()), "", JSON) is None
    assert off._process is None


def readers_of(tower):
    return [pid for pid, words in tower.below().items() if "instances.reader" in words]


def test_a_tower_whose_reader_is_killed_answers_all_the_same(live_tower):
    def sent(trace):
        status, answer = live_tower.post("events/", reports(400, trace_id=trace))
        return status, answer["accepted"]

    assert sent("reader-1") == (200, 400)
    [first] = until(lambda: readers_of(live_tower), "the web process has a reader")
    os.kill(first, signal.SIGKILL)
    assert sent("reader-2") == (200, 400)
    assert live_tower.get("traces/reader-2/")[1]["counts"]["RUNNING"] == 100
