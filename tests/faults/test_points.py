"""Processes that die, wait or find the disk full at a chosen point; on the suite's database and Valkey."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from controls.models import ControlRecord
from controls.store import SENTINEL
from instances.models import Event, Intent, TaskInstance, Trace
from tests import servers
from tests.servers import ROOT, until
from tower import faults, redis
from tower.access.tokens import make_token

pytestmark = pytest.mark.django_db(transaction=True)
STREAM, DEAD, GROUP = "tms.task.events", "tms.task.events.dead", "tower"


class Part(servers.Tower):
    """One role by itself: ``web``, ``consume`` or ``sweep``, on the suite's database and Valkey."""

    def begin(self, role, *, armed=""):
        more = {"TOWER_TESTING": "1", "TOWER_FAULTS": armed} if armed else {}
        self.up = subprocess.Popen(
            [sys.executable, "manage.py", role],
            cwd=ROOT,
            env=self.environment | more,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        if role == "web":
            self.token = make_token("faults", ["admin"], 1)
            self.wait_ready()
        return self


@pytest.fixture
def a_part(suite_database, valkey):
    made = []

    def make(role, *, armed="", **environment):
        made.append(Part(DATABASE_URL=suite_database, REDIS_URL=valkey.url, **environment))
        return made[-1].begin(role, armed=armed)

    yield make
    for part in made:
        part.stop()


def report(event_id="e1", event_type="STARTED", **more):
    base = {"event_id": event_id, "trace_id": "T", "task_id": "a", "event_type": event_type}
    return base | {"timestamp_ms": 1} | more


TASK = {"id": "a", "trace_id": "T", "job_id": "j", "actor_type": "AGENT"}


def client() -> Any:
    """``Any``, since the library's types promise a coroutine or its value."""
    return redis.client()


def put(*reports):
    for one in reports:
        client().xadd(STREAM, {"event": json.dumps(one)})


def stored():
    return sorted(Event.objects.filter(origin=0).values_list("event_id", flat=True))


def pending():
    groups = client().xinfo_groups(STREAM) if client().exists(STREAM) else []
    return next((group["pending"] + (group["lag"] or 0) for group in groups), None)


def command(target="global_action"):
    return client().hget("cmd:instance:T", target)


# -- the points themselves


def test_faults_are_for_tests_alone():
    environment = os.environ | {"TOWER_FAULTS": "after_commit=kill"}
    environment.pop("TOWER_TESTING", None)
    asked = [sys.executable, "-c", "from tower import faults; faults.fault('after_commit'); print('alive')"]

    unarmed = subprocess.run(asked, env=environment, cwd=ROOT, capture_output=True, text=True)
    armed = subprocess.run(asked, env=environment | {"TOWER_TESTING": "1"}, cwd=ROOT, capture_output=True)

    assert unarmed.stdout == "alive\n"
    assert armed.returncode == -signal.SIGKILL


@pytest.mark.parametrize("text", ["after_commit", "after_commit=explode", "=kill", "a=delay:x"])
def test_a_strange_fault_stops_the_start(text):
    with pytest.raises(SystemExit, match="TOWER_FAULTS"):
        faults.armed(text)


# -- F2: dead between the commit and what follows it


def test_f2_a_consumer_that_dies_before_it_acknowledges_is_repeated_without_effect(a_part):
    put(report("e1"), report("e2", "PROGRESS"))
    dead = a_part("consume", armed="after_commit/queue=kill")
    assert dead.up.wait(60) == -signal.SIGKILL
    assert stored() == ["e1", "e2"]
    seq = Trace.objects.get().seq

    age_pending()
    a_part("consume")

    until(lambda: pending() == 0, "they are acknowledged")
    assert (stored(), Trace.objects.get().seq) == (["e1", "e2"], seq)
    assert client().xlen(STREAM) == client().xlen(DEAD) == 0


def test_f2_a_web_process_that_dies_before_it_answers_has_stored_it_once(a_part):
    web = a_part("web", armed="after_commit/rest=kill@2")
    assert web.post("tasks/", TASK)[0] == 201

    assert web.post("events/", report())[0] == 0
    assert web.up.wait(10) == -signal.SIGKILL
    status, answer = a_part("web").post("events/", report())

    assert (status, answer["accepted"], answer["duplicates"]) == (200, 0, 1)
    assert Trace.objects.get().seq == 2


def test_f2_a_control_whose_process_died_before_redis_heard_is_delivered_by_the_sweeper(a_part):
    web = a_part("web", armed="before_put/PAUSE=kill")
    assert web.post("tasks/", TASK)[0] == 201

    assert web.post("controls/", {"id": "c1", "trace_id": "T", "action": "PAUSE"})[0] == 0
    assert (ControlRecord.objects.count(), command()) == (1, None)
    a_part("sweep")

    until(lambda: command() == "PAUSE", "it is delivered")
    until(lambda: Intent.objects.get().delivered_number == 1, "it is marked")
    assert ControlRecord.objects.count() == 1


def test_f2_a_sweeper_that_dies_on_its_way_to_redis_leaves_it_to_the_next(a_part, valkey):
    web = a_part("web")
    assert web.post("tasks/", TASK)[0] == 201
    valkey.stop()
    assert web.post("controls/", {"trace_id": "T", "action": "PAUSE"})[1]["delivered"] is False
    valkey.start()
    client().set(SENTINEL, "not emptied")
    dead = a_part("sweep", armed="before_put/sweep=kill")
    assert dead.up.wait(60) == -signal.SIGKILL
    assert command() is None

    a_part("sweep")

    until(lambda: command() == "PAUSE", "it is delivered")


# -- F5: a signal


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("role", ["web", "consume", "sweep"])
def test_f5_each_process_leaves_at_a_signal_whatever_the_database_does(a_part, role, times):
    """A transaction hangs for minutes; what was in its hands was not acknowledged, and is done again."""
    put(report("e1"))
    part = a_part(role, armed="before_commit=delay:300000")
    if role == "web":
        threading.Thread(target=part.post, args=["tasks/", TASK], daemon=True).start()
    until(lambda: "fault_reached" in part.said, "a transaction hangs")

    for _ in range(times):
        part.up.send_signal(signal.SIGTERM)

    part.up.wait(60)
    assert (stored(), TaskInstance.objects.count()) == ([], 0)
    age_pending()
    a_part("consume")
    until(lambda: stored() == ["e1"], "another one folds the report")


# -- F10, F26: the database is slow, or one sender takes more than its part


def test_f10_while_the_database_is_slow_senders_wait_and_reads_are_answered(a_part):
    web = a_part("web", armed="before_commit=delay:300", TOWER_INGEST_INFLIGHT="6")
    assert web.post("tasks/", TASK)[0] == 201
    ids = [f"e{i:02}" for i in range(24)]

    def said(id):
        return id, web.post("events/", report(id, "PROGRESS"))

    with ThreadPoolExecutor(24) as pool:
        sent = [pool.submit(said, id) for id in ids]
        until(lambda: any(one.done() for one in sent), "some are answered", every=0.01)
        read = [web.get(path)[0] for path in ("traces/T/", "tasks/a/", "traces/T/events/")]
        answers = dict(one.result() for one in sent)

    taken = [id for id in ids if answers[id][0] == 200]
    refused = [id for id in ids if answers[id][0] == 429]
    assert read == [200, 200, 200]
    assert taken and refused and len(taken) + len(refused) == 24
    assert {answers[id][1]["error"]["code"] for id in refused} == {"backpressure"}
    assert stored() == taken
    assert web.post("events/", [report(id, "PROGRESS") for id in ids])[1]["accepted"] == len(refused)
    assert stored() == ids


def test_f26_who_floods_slows_down_itself_alone(a_part):
    web = a_part("web", armed="before_commit=delay:100", TOWER_INGEST_INFLIGHT="8")
    loud, quiet = (f"Bearer {make_token(name, ['ingest'], 1)}" for name in ("loud", "quiet"))
    assert web.post("tasks/", [TASK, TASK | {"id": "b", "trace_id": "quiet"}])[0] == 201
    answers, stop = Counter[int](), threading.Event()

    def flood(who):
        for i in itertools.count():
            if stop.is_set():
                return
            said = report(f"loud-{who}-{i}", "PROGRESS")
            answers[web.call("POST", "events/", said, Authorization=loud)[0]] += 1
            stop.wait(0.02)

    floods = [threading.Thread(target=flood, args=[who]) for who in range(16)]
    for one in floods:
        one.start()
    until(lambda: answers[429] > 50, "who floods is told to wait")
    reports = [report(f"quiet-{i}", trace_id="quiet", task_id="b") for i in range(20)]
    said = [web.call("POST", "events/", one, Authorization=quiet)[0] for one in reports]
    stop.set()
    for one in floods:
        one.join()

    assert set(said) == {200}
    assert answers.keys() == {200, 429}
    assert len(stored()) == 20 + answers[200]


# -- F11, F12: the database cannot be written


def test_f11_a_database_that_another_program_locks_is_busy_and_nothing_is_half_done(a_part, suite_database):
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL locks rows, not the file")
    web = a_part("web")
    assert web.post("tasks/", TASK)[0] == 201
    other = sqlite3.connect(suite_database.removeprefix("sqlite://"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        status, answer = web.post("events/", [report("e1"), report("e2", "PROGRESS")])
        read = web.get("traces/T/")[0]
    finally:
        other.execute("ROLLBACK")
        other.close()

    assert (status, answer["error"]["code"]) == (503, "database_busy")
    assert read == 200
    assert (stored(), Trace.objects.get().seq) == ([], 1)
    assert web.post("events/", [report("e1"), report("e2", "PROGRESS")])[1]["accepted"] == 2


def test_f12_a_full_disk_is_said_and_heals_without_a_restart(a_part):
    """The first transaction makes the trace; the second finds the disk full at its very end."""
    web = a_part("web", armed="before_commit=full@2")
    assert web.post("tasks/", TASK)[0] == 201

    status, answer = web.post("events/", report())

    assert (status, answer["error"]["code"]) == (503, "storage_full")
    assert (stored(), Trace.objects.get().seq) == ([], 1)
    assert web.post("events/", report())[1]["accepted"] == 1


def test_f12_no_file_may_grow_and_then_it_may_again(a_part):
    """As on a full disk, for a real SQLite: every write beyond the first byte of a file is refused."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's files are its server's")
    web, consumer = a_part("web"), a_part("consume")
    assert web.post("tasks/", TASK)[0] == 201
    until(lambda: pending() == 0, "the consumer reads")
    for part in (web, consumer):
        resource.prlimit(part.up.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    try:
        put(report("q1"))
        status, answer = web.post("events/", report("e1"))
        alive = web.get("/healthz")[0]
        until(lambda: client().xpending(STREAM, GROUP)["pending"], "the consumer has it in hand")
    finally:
        for part in (web, consumer):
            resource.prlimit(
                part.up.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            )

    assert (status, answer["error"]["code"], alive) == (503, "storage_full", 200)
    assert web.post("events/", report("e1"))[0] == 200
    until(lambda: stored() == ["e1", "q1"], "the queue is read on")
    assert client().xlen(DEAD) == 0


# -- F19: an entry that kills


def test_f19_an_entry_that_aborts_every_consumer_is_set_aside_unparsed(a_part):
    put(report("good-1"), report("poison", "PROGRESS"), report("good-2", "PROGRESS"))
    for _ in range(5):
        # What may have killed a consumer is left alone for 30 s; here nobody waits so long.
        age_pending()
        part = a_part("consume", armed="before_fold/poison=abort")
        assert part.up.wait(60) == -signal.SIGABRT

    age_pending()
    a_part("consume", armed="before_fold/poison=abort")

    until(lambda: client().xlen(DEAD) == 1, "it is set aside")
    until(lambda: stored() == ["good-1", "good-2"], "the others are folded")
    ((_, letter),) = client().xrange(DEAD)
    assert (letter["code"], json.loads(letter["raw"])["event_id"]) == ("too_many_deliveries", "poison")


def age_pending():
    """As if what a dead consumer had in hand had lain for a minute; the counts of deliveries stay."""
    if not client().exists(STREAM) or not client().xinfo_groups(STREAM):
        return
    for one in client().xpending_range(STREAM, GROUP, "-", "+", 100):
        times = one["times_delivered"]
        client().xclaim(
            STREAM, GROUP, one["consumer"], 0, [one["message_id"]], idle=60_000, retrycount=times, justid=True
        )


# -- F23: delivered in another order than committed


def side_by_side(first, then, between):
    thread = threading.Thread(target=first)
    thread.start()
    between()
    then()
    thread.join()


@pytest.mark.parametrize(("first", "second"), [("PAUSE", "RUN"), ("PAUSE", "CANCEL")])
def test_f23_a_control_that_is_slow_on_its_way_to_redis_does_not_replace_a_later_one(a_part, first, second):
    web = a_part("web", armed=f"before_put/{first}=delay:1500@1")
    assert web.post("tasks/", TASK)[0] == 201

    def ask(action):
        assert web.post("controls/", {"trace_id": "T", "action": action})[0] == 201

    side_by_side(
        lambda: ask(first),
        lambda: ask(second),
        lambda: until(lambda: ControlRecord.objects.count() == 1, "the first is committed"),
    )

    assert (command(), command("#global_action")) == (second, "2")
    assert "faults_armed" in web.said


def test_f23_a_restore_that_read_before_a_control_does_not_replace_it(a_part):
    web = a_part("web")
    assert web.post("tasks/", TASK)[0] == 201
    assert web.post("controls/", {"trace_id": "T", "action": "PAUSE"})[0] == 201
    client().flushall()
    a_part("sweep", armed="before_put/restore=delay:1500@1")
    until(lambda: client().exists("{cmd:tower:epoch}:restoring"), "the restore has begun")

    assert web.post("controls/", {"trace_id": "T", "action": "RUN"})[0] == 201
    until(lambda: client().exists(SENTINEL), "the restore is over")

    assert (command(), command("#global_action")) == ("RUN", "2")
