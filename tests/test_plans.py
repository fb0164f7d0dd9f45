"""What is asked of one tree is found by an index, however many other trees there are."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from controls import reach
from instances import ingest, rows, tree
from instances.models import FrozenResult, TaskInstance, TraceLabel
from tests.trees import a_tree

pytestmark = pytest.mark.django_db(transaction=True)

READ = {
    "numbering": lambda run: tree.number(run.number),
    "its tasks in order": lambda run: list(tree.numbered(run)),
    "what a control reaches": lambda run: reach.parts_of(run, None),
}


def plan_of(sql):
    with connection.cursor() as cursor, transaction.atomic():
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # few rows are read through, wanted or not
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{sql}")
        return "\n".join(str(row[-1]) for row in cursor.fetchall())


@pytest.mark.parametrize("what", READ)
def test_a_tree_is_read_by_the_range_of_its_keys(what):
    run = a_tree("root(a b)").trace
    with CaptureQueriesContext(
        connection,
    ) as asked:
        READ[what](run)
    plans = [
        plan_of(q["sql"])
        for q in asked
        if q["sql"].startswith("SELECT") and TaskInstance._meta.db_table in q["sql"]
    ]
    by_key = "(pk>? AND pk<?)" if connection.vendor == "sqlite" else "Cond: ((pk >="
    assert plans and all(by_key in plan for plan in plans), plans


@pytest.fixture
def statements(monkeypatch):
    """How many were sent by the doors; those of one call for many rows are one."""
    sent: list[str] = []
    real, many = rows.run, rows._run_many

    def run(sql, params=(), **how):
        sent.append(sql)
        return real(sql, params, **how)

    def run_many(sql, given):
        sent.append(sql)
        return many(sql, given)

    monkeypatch.setattr(rows, "run", run)
    monkeypatch.setattr(rows, "_run_many", run_many)
    return sent


def family(trace):
    own = {"trace_id": trace, "job_id": "j"}
    return [
        {**own, "id": f"{trace}-r", "actor_type": "AGENT", "labels": {"team": "a", trace: "b"}},
        {**own, "id": f"{trace}-a", "parent_id": f"{trace}-r", "actor_type": "EXECUTION"},
        {**own, "id": f"{trace}-s", "parent_id": f"{trace}-r", "actor_type": "SINGLE_AGG",
         "collects": [f"{trace}-a"]},
        {**own, "id": f"{trace}-g", "parent_id": f"{trace}-r", "actor_type": "GROUP_AGG"},
    ]  # fmt: skip


def ended(trace):
    return {
        "event_id": f"{trace}-e", "trace_id": trace, "task_id": f"{trace}-a", "event_type": "COMPLETED",
        "timestamp_ms": ingest.now_ms(), "payload": {"output_ref": "s3://x"},
    }  # fmt: skip


def test_a_transaction_takes_as_many_statements_for_thirty_runs_as_for_two(statements):
    def taken(prefix, count):
        runs = [f"{prefix}{k}" for k in range(count)]
        statements.clear()
        told = ingest.register([task for run in runs for task in family(run)])
        assert not told.rejected
        registered = len(statements)
        statements.clear()
        assert ingest.ingest([ended(run) for run in runs]).accepted == count
        return registered, len(statements)

    assert taken("few", 2) == taken("many", 30)
    assert set(TraceLabel.objects.filter(trace__id="many7").values_list("key", "value")) == {
        ("team", "a"),
        ("many7", "b"),
    }
    frozen = FrozenResult.objects.values_list("output_ref", flat=True)
    assert list(frozen) == ["s3://x"] * len(frozen) != []
