"""The event log in partitions on PostgreSQL: made ahead of the runs, dropped behind them."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from django.db import connection

from controls import sweep
from instances import ingest, partitions, reads, rows
from instances.models import Event, TaskInstance, Tombstone, Trace
from instances.partitions import Range
from tests import servers
from tests.servers import until
from tests.test_prune import a_run, event, prune

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="on SQLite the log is one table"),
]


def number_next_run(number: int) -> None:
    rows.run("SELECT setval('instances_trace_number_seq', %s, false)", [number])


def lies_in(trace_id: str) -> set[str]:
    """The tables in which the events of a run lie."""
    number = Trace.objects.get(id=trace_id).number
    found = rows.run("SELECT tableoid::regclass::text FROM instances_event WHERE trace = %s", [number])
    return {row[0] for row in found}


@pytest.fixture(autouse=True)
def some_range():
    """Earlier tests may have left all of them behind."""
    partitions.make_ahead(ingest.now_ms())


def a_fresh_range() -> Range:
    """The last; the next run is its first."""
    last = partitions.ranges()[-1]
    number_next_run(last.low)
    return last


def test_behind_the_newest_run_a_whole_range_is_empty():
    number_next_run(partitions.ranges()[-1].high - 1)
    ingest.ingest([event("T", "a", "STARTED")])

    made = partitions.make_ahead(ingest.now_ms())

    assert [each.low for each in made] == [partitions.ranges()[-1].low]
    assert partitions.ranges()[-1].high - Trace.objects.get().number > partitions.LEAST_RUNS
    assert partitions.make_ahead(ingest.now_ms()) == []


def test_the_sweeper_makes_them():
    number_next_run(partitions.ranges()[-1].high - 1)
    ingest.ingest([event("T", "a", "STARTED")])
    before = len(partitions.ranges())

    sweep.make_partitions()

    assert len(partitions.ranges()) == before + 1


def test_reports_of_a_run_lie_in_its_range_and_are_known_again():
    place = a_fresh_range()

    ingest.ingest([event("T", "a", "STARTED")])
    again = ingest.ingest([event("T", "a", "STARTED")])

    assert lies_in("T") == {place.name}
    assert again.duplicates == 1


def test_an_attempt_is_folded_anew_from_the_range_of_its_run():
    a_fresh_range()
    first = [event("T", "a", "STARTED"), event("T", "a", "FAILED") | {"timestamp_ms": 2}]
    again = event("T", "a", "STARTED", "again") | {"timestamp_ms": 3}

    ingest.ingest(first)
    ingest.ingest([again])

    task = TaskInstance._base_manager.get(id="a")
    assert task.attempt == 2
    assert [row[1] for row in reads.events_after("task", task.key, None, 10)] == [
        "a-STARTED", "a-FAILED", "again"
    ]  # fmt: skip


def test_runs_beyond_the_last_range_are_taken_and_stay_where_they_are():
    beyond = partitions.ranges()[-1].high + 10
    number_next_run(beyond)
    ingest.ingest([event("late", "a", "STARTED")])

    made = partitions.make_ahead(ingest.now_ms())
    ingest.ingest([event("late", "a", "COMPLETED")])

    assert lies_in("late") == {"instances_event_rest"}
    assert made[0].low > beyond
    assert Event.objects.filter(trace=beyond).count() == 2


def test_a_range_without_runs_is_dropped_by_prune_and_its_events_are_counted(capsys: Any):
    place = a_fresh_range()
    old = a_run("old", ended_days_ago=31)
    events = Event.objects.filter(trace=old.number).count()
    number_next_run(place.high + partitions.UNDER_WAY)
    a_run("new", ended_days_ago=1)

    prune()

    assert place not in partitions.ranges()
    assert Tombstone.objects.get().emptied
    assert f"{events} events" in capsys.readouterr().out
    assert lies_in("new") != set()


def test_a_range_with_one_young_run_stays_and_only_the_old_one_goes_from_it():
    place = a_fresh_range()
    old = a_run("old", ended_days_ago=31)
    a_run("young", ended_days_ago=1)
    number_next_run(place.high + partitions.UNDER_WAY)
    a_run("new", ended_days_ago=1)

    prune()

    assert lies_in("young") == {place.name}
    assert not Event.objects.filter(trace=old.number).exists()


def test_a_range_that_is_not_full_yet_stays_though_it_is_empty():
    place = a_fresh_range()
    a_run("old", ended_days_ago=31)

    prune()

    assert place in partitions.ranges()


def test_a_range_is_analysed_as_soon_as_it_tells_something():
    place = a_fresh_range()
    ingest.ingest([event("T", f"t{k}", "STARTED") for k in range(partitions.ENOUGH_ROWS + 1)])

    def analysed() -> bool:
        rows.run("SELECT pg_stat_force_next_flush()")
        partitions.analyse_fresh()
        found = rows.run("SELECT last_analyze FROM pg_stat_user_tables WHERE relname = %s", [place.name])
        return found[0][0] is not None

    until(analysed, "the server has counted the rows")


def test_there_are_not_ever_more_of_them():
    newest = partitions.ranges()[-1].high + 1_000_000
    number_next_run(newest)

    *_, made = partitions.make_ahead(ingest.now_ms())

    assert made.high - made.low >= (newest - partitions.ranges()[0].low) // partitions.MOST


def test_what_was_there_before_becomes_the_first_range():
    with servers.database_of_its_own() as url, psycopg.connect(url, autocommit=True) as raw:
        tower = servers.Tower(DATABASE_URL=url)
        tower.manage("migrate", "instances", "0008")
        raw.execute(
            "INSERT INTO instances_trace (number, id, status, seq, shape_seq, numbered_seq, shape_ms, next_n,"
            " pending, running, success, failed, cancelled, skipped, name, job_id, started_by, start_digest,"
            " collecting, created_ms, updated_ms)"
            " VALUES (5, 'T', 1, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, 0, '', '', '', '', 0, 0, 0)"
        )
        raw.execute(
            "INSERT INTO instances_event (trace, event_id, position, task, kind, origin, verdict, payload,"
            " timestamp_ms, received_ms) VALUES (5, 'e', 1, 5, 0, 0, 0, '{}', 1, 1)"
        )

        tower.manage("migrate")

        kinds: Any = raw.execute("SELECT tableoid::regclass::text, event_id FROM instances_event").fetchall()
        assert kinds == [("instances_event_0_1000001", "e")]
        indexes = raw.execute(
            "SELECT indexname FROM pg_indexes WHERE tablename = 'instances_event' ORDER BY 1"
        ).fetchall()
        assert [name for (name,) in indexes] == ["event_of_task", "event_of_trace", "instances_event_pkey"]
