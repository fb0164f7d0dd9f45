"""Programs and tables of different ages: migrations only add, so either may be the newer one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading

import psycopg
import pytest
import redis
from django.db import models
from django.db.migrations import operations
from django.db.migrations.loader import MigrationLoader

from tests import servers
from tests.servers import ROOT, until
from tower import upgrade

#: Until the first release nobody runs an older program.
BEFORE_THE_FIRST_RELEASE = {
    ("instances", "0005_aggregators"),
    ("controls", "0003_trace_always_known"),
}
#: What an older program does not notice.
HARMLESS = (
    operations.CreateModel,
    operations.AddIndex,
    operations.RemoveIndex,
    operations.RunPython,
    operations.AlterModelOptions,
)

LATER = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("ALTER TABLE instances_taskinstance ADD COLUMN later integer NULL")
    cursor.execute("ALTER TABLE instances_event ADD COLUMN later text NOT NULL DEFAULT ''")
    cursor.execute("ALTER TABLE instances_trace ADD COLUMN later integer NOT NULL DEFAULT 0")
    cursor.execute("ALTER TABLE controls_controlrecord ADD COLUMN later integer NULL")
    cursor.execute("CREATE TABLE instances_later (id integer)")
    cursor.execute(
        "INSERT INTO django_migrations (app, name, applied)"
        " VALUES ('instances', '9999_later', '2030-01-01 00:00:00')"
    )
"""


@pytest.fixture
def database():
    """DATABASE_URL of an empty database, or "" for a SQLite in each home."""
    with servers.database_of_its_own() as url:
        yield url


@pytest.mark.parametrize("role", ["web", "consume", "sweep"])
def test_f28_a_program_that_is_newer_than_its_database_leaves_with_a_sentence(a_tower, database, role):
    tower = a_tower(DATABASE_URL=database)
    tower.manage("migrate", "instances", "0004")

    done = subprocess.run(
        [sys.executable, "manage.py", role],
        cwd=ROOT, env=tower.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert "lacks" in done.stderr and "run `manage.py migrate`" in done.stderr
    assert "Traceback" not in done.stderr


def test_f28_up_brings_an_older_database_up_to_date_and_its_rows_stay(a_tower, database):
    tower = a_tower(DATABASE_URL=database)
    tower.manage("migrate", "instances", "0004")

    tower.start()

    assert "The database was brought up to date." in tower.said
    assert tower.get("/readyz")[1]["checks"]["database"]["pending_migrations"] == 0


def test_f28_a_program_that_is_older_than_its_database_goes_on(a_tower, database):
    tower = a_tower(DATABASE_URL=database).start()
    queue = redis.Redis.from_url((tower.home / "secrets" / "redis_url").read_text())
    base = {"trace_id": "old", "job_id": "j", "actor_type": "AGENT"}

    def report(n, kind="PROGRESS"):
        return {"event_id": f"e{n}", "trace_id": "old", "task_id": "a", "event_type": kind, "timestamp_ms": n}

    def works(first):
        """Registration, reports over REST and the queue, a control, reads: often enough to be prepared."""
        for n in range(first, first + 8):
            assert tower.post("tasks/", base | {"id": f"t{n}", "parent_id": "a"})[0] == 201
            assert tower.post("events/", report(n))[0] == 200
            queue.xadd("tms.task.events", {"event": json.dumps(report(n + 1_000))})
            assert tower.post("controls/", {"trace_id": "old", "action": ("PAUSE", "RUN")[n % 2]})[0] == 201
            assert tower.get("traces/old/tree/")[0] == tower.get("traces/old/events/")[0] == 200
        until(lambda: said(first + 1_007), "the queue is read")

    def said(n):
        found = tower.get("tasks/a/events/?trace_id=old&limit=500")[1]["results"]
        return any(one["event_id"] == f"e{n}" for one in found)

    assert tower.post("tasks/", base | {"id": "a"})[0] == 201
    works(0)
    tower.manage("shell", "-c", LATER)
    works(100)
    for pid, words in tower.below().items():
        if re.search(r"manage.py (web|consume|sweep)", words):
            os.kill(pid, signal.SIGKILL)
    until(lambda: tower.get("/readyz")[0] == 200, "it is there again")
    until(lambda: tower.get("/readyz")[1]["degraded"] == [], "all of it")
    works(200)

    assert tower.get("/readyz")[1]["checks"]["database"]["pending_migrations"] == 0


def test_f28_two_that_start_at_once_take_turns(a_tower, database, tmp_path):
    shared = database or f"sqlite://{tmp_path / 'shared.sqlite3'}"
    both = [a_tower(DATABASE_URL=shared) for _ in range(2)]

    threads = [threading.Thread(target=tower.start) for tower in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [tower.get("/readyz")[0] for tower in both] == [200, 200]
    assert sorted("brought up to date" in tower.said for tower in both) == [False, True]


def test_f28_while_another_migrates_it_waits(a_tower, database):
    if not database:
        pytest.skip("the lock of a server")
    tower = a_tower(DATABASE_URL=database)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [upgrade.LOCK])
        tower.launch()
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        until(lambda: other.execute(waits).fetchone() == (1,), "it waits", seconds=60)
        tables = other.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'django_migrations'")
        assert tables.fetchone() == (0,)
        other.execute("SELECT pg_advisory_unlock(%s)", [upgrade.LOCK])

    tower.wait_ready()


# -- what a migration may do


def breaks_older_programs(loader, key):
    """Operations of a migration that a program without it would fail at."""
    migration = loader.disk_migrations[key]
    made = {op.name_lower for op in migration.operations if isinstance(op, operations.CreateModel)}
    state = loader.project_state(key, at_end=False)
    return [op for op in migration.operations if not harmless(op, made, column_before(state, key[0], op))]


def column_before(state, app, op):
    """The field that an operation alters, as it was."""
    if not isinstance(op, operations.AlterField):
        return None
    model = state.models.get((app, op.model_name_lower))
    return model and model.fields.get(op.name)


def harmless(op, made, before=None):
    if isinstance(op, HARMLESS) or getattr(op, "model_name_lower", "") in made:
        return True
    if isinstance(op, operations.AlterField) and before is not None:
        return same_column(before, op.field)
    # An older program's INSERT does not name the column.
    return isinstance(op, operations.AddField) and (op.field.null or op.field.has_db_default())


def same_column(before, after):
    """What forms and pages call it is not in the database."""
    (*_, path, args, before_words), (*_, other_path, other_args, words) = (
        before.deconstruct(), after.deconstruct(),
    )  # fmt: skip
    shown = set(models.Field.non_db_attrs)
    return (path, args) == (other_path, other_args) and {
        name for name in before_words.keys() | words.keys() if before_words.get(name) != words.get(name)
    } <= shown


def test_f28_migrations_only_add_what_an_older_program_need_not_know():
    loader = MigrationLoader(None)
    ours = [
        key
        for key, migration in loader.disk_migrations.items()
        if migration.__module__.startswith(("instances.", "controls.", "tower."))
    ]

    broken = {key for key in ours if breaks_older_programs(loader, key)}

    assert broken == BEFORE_THE_FIRST_RELEASE


@pytest.mark.parametrize(
    ("op", "fits"),
    [
        (operations.AddField("trace", "x", models.IntegerField(default=0)), False),
        (operations.AddField("trace", "x", models.IntegerField(db_default=0)), True),
        (operations.AddField("trace", "x", models.IntegerField(null=True)), True),
        (operations.RemoveField("trace", "seq"), False),
        (operations.RenameField("trace", "seq", "sequence"), False),
        (operations.DeleteModel("trace"), False),
        (operations.AlterField("trace", "seq", models.TextField()), False),
        (operations.AlterField("trace", "seq", models.IntegerField(null=True)), False),
        (operations.AlterField("trace", "seq", models.IntegerField(verbose_name="order")), True),
    ],
)
def test_f28_what_counts_as_adding(op, fits):
    assert harmless(op, set(), models.IntegerField()) is fits
