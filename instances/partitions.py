"""The event log on PostgreSQL: a partition for the runs of some days, made ahead, dropped when none is left.

Runs are numbered as they come, so ``trace`` is the key of ranges that follow
each other: an id is still unique within its run, and a lookup by run goes to one
partition. One by task goes to each, since with the run as well the planner may
read all of a large run. What no range holds yet lies in the default partition.
On SQLite it is one table, and nothing here does anything.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from typing import Final, NamedTuple

from instances.intake import DAY_MS
from instances.rows import is_postgres, run
from instances.writer import in_transaction

TABLE: Final = "instances_event"
#: A partition holds the runs of so long, and not less than such a part of all: with 10 of them a known report
#: is found in 0.3 us more than in one table, with 90 in 2, and a task's reports are looked for in each.
DAYS: Final = 3
LEAST_RUNS: Final = 1_000
MOST: Final = 32
#: Behind the newest run: numbers that transactions under way have been given.
UNDER_WAY: Final = 1_000
#: What tells something of the rest.
ENOUGH_ROWS: Final = 1_000
#: Nobody waits for this; reports would wait behind it.
LOCK_SECONDS: Final = 2
_NAME = re.compile(rf"{TABLE}_(\d+)_(\d+)")


class Range(NamedTuple):
    """The runs from ``low`` up to ``high``, without it."""

    low: int
    high: int

    @property
    def name(self) -> str:
        return f"{TABLE}_{self.low}_{self.high}"


def ranges() -> list[Range]:
    """Those that there are, in order."""
    found = run(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        f" WHERE i.inhparent = '{TABLE}'::regclass"
    )
    names = (_NAME.fullmatch(row[0]) for row in found)
    return sorted(Range(int(name[1]), int(name[2])) for name in names if name)


def make_ahead(now_ms: int) -> list[Range]:
    """Make what the next runs need: a whole range behind the newest run is empty. Those that were made."""
    made: list[Range] = []
    while is_postgres() and (needed := in_transaction(partial(_make_next, now_ms))):
        made.append(needed)
    return made


def _make_next(now_ms: int) -> Range | None:
    newest = _newest()
    lately = newest - _newest_before(now_ms - DAYS * DAY_MS)
    runs = max(LEAST_RUNS, lately, (newest - _begin()) // MOST)
    if _end() > newest + runs:
        return None
    _lock("SHARE UPDATE EXCLUSIVE")
    end = _end()  # another may have been faster
    if end > newest + runs:
        return None
    # Runs beyond the last range lie in the default partition, and stay there.
    low = end if newest + UNDER_WAY < end else newest + UNDER_WAY
    needed = Range(low, low + runs)
    run(f"CREATE TABLE {needed.name} (LIKE {TABLE} INCLUDING ALL)")
    run(f"ALTER TABLE {TABLE} ATTACH PARTITION {needed.name} FOR VALUES FROM ({low}) TO ({needed.high})")
    return needed


def _begin() -> int:
    return min((each.low for each in ranges()), default=0)


def _end() -> int:
    return max((each.high for each in ranges()), default=0)


def analyse_fresh() -> None:
    """Until it is analysed, a range is taken for nearly empty: a page of a large log would be read whole.

    PostgreSQL's own turn comes after a minute.
    """
    if not is_postgres():
        return
    for name, *_ in run(
        f"SELECT relname FROM pg_stat_user_tables WHERE relname LIKE '{TABLE}\\_%%' AND n_live_tup > %s"
        " AND last_analyze IS NULL AND last_autoanalyze IS NULL",
        [ENOUGH_ROWS],
    ):
        run(f"ANALYZE {name}")


def drop_left() -> Counter[int]:
    """Drop the ranges in which no run is left; how many events went, by the number of the run."""
    went: Counter[int] = Counter()
    if is_postgres():
        newest = _newest()
        for each in ranges():
            if each.high + UNDER_WAY <= newest and _is_left(each):
                went += in_transaction(partial(_drop, each))
    return went


def _is_left(each: Range) -> bool:
    return not run("SELECT 1 FROM instances_trace WHERE number >= %s AND number < %s LIMIT 1", each)


def _drop(each: Range) -> Counter[int]:
    counted: Counter[int] = Counter()
    for trace, events in run(f"SELECT trace, count(*) FROM {each.name} GROUP BY trace"):
        counted[trace] = events
    _lock("ACCESS EXCLUSIVE")
    if each not in ranges() or not _is_left(each):
        return Counter()
    run(f"DROP TABLE {each.name}")
    return counted


def _lock(mode: str) -> None:
    run(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
    run(f"LOCK TABLE ONLY {TABLE} IN {mode} MODE")


def _newest() -> int:
    """The highest number that was given to a run."""
    found = run("SELECT last_value FROM instances_trace_number_seq")
    return int(found[0][0])


def _newest_before(ms: int) -> int:
    found = run("SELECT number FROM instances_trace WHERE created_ms < %s ORDER BY number DESC LIMIT 1", [ms])
    return int(found[0][0]) if found else 0
