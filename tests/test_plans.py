"""What is asked of one tree is found by an index, however many other trees there are."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from controls import reach
from instances import tree
from instances.models import TaskInstance
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
