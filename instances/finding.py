"""Which runs a list shows: their numbers, in the order of the list, by whichever index leads there.

Left to the planner, SQLite sorts all 1,000,000 runs for one page of the finished ones, and PostgreSQL
walks through all of them for three that a rare word names (``bench/runs.py``). So the choice is made here:
a condition that few runs fulfil names them; else one index is walked in the order of the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from instances.reads import Head
from instances.rows import each, is_postgres, keys_of, run

#: A condition that no more runs fulfil is asked for them. Above that, a page of 50 is met within
#: 20 times as many rows of a walk in 1,000,000 (measured: 12 ms).
FEW = 5_000
#: So few are asked for at once, before anything is counted.
VERY_FEW = 200
#: Of how many runs nearest to a moment the least number counts: clocks of web processes differ by less.
NEAR = 1_000
IS_LABEL = "l.key = %s AND l.value = %s"
#: Before this row's first task was made, in another transaction, readers know of no such run.
EXISTS = "t.next_n > 0"


@dataclass(frozen=True, slots=True)
class Condition:
    """What is asked of the row ``t`` of a run."""

    where: str
    params: tuple[Any, ...] = ()
    #: Numbers of the runs that fulfil it, by an index, and the parameters of that statement.
    source: str = ""
    source_params: tuple[Any, ...] = ()
    #: The column that must have one value, of those in ``WALKS``.
    equal: str = ""
    #: An index of its own that holds what fulfils it in the order of the numbers.
    index: str = ""
    label: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    title: Promise | str
    down: bool
    #: What comes before the number; its index has those rows only that have it.
    by: str = ""
    index: str = ""

    @property
    def order(self) -> str:
        way = "DESC" if self.down else "ASC"
        return f"{self.by} {way}, t.number {way}" if self.by else f"t.number {way}"

    @property
    def turned(self) -> Sort:
        return Sort(self.title, not self.down, self.by, self.index)

    def position(self, head: Head) -> Any:
        """Of a run in this order; as JSON."""
        if not self.by:
            return head.number
        assert head.finished_ms is not None and head.started_ms is not None
        return [head.finished_ms - head.started_ms, head.number]

    def beyond(self, position: Any) -> Condition:
        sign = "<" if self.down else ">"
        if not self.by:
            return Condition(f"t.number {sign} %s", (position,))
        value, number = position
        # Not a comparison of rows: SQLite uses no index on an expression for it.
        return Condition(
            f"{self.by} {sign}= %s AND ({self.by} {sign} %s OR t.number {sign} %s)", (value, value, number)
        )


_TOOK = "(t.finished_ms - t.started_ms)"
HAS_LENGTH = "(t.finished_ms IS NOT NULL AND t.started_ms IS NOT NULL)"
SORTS = {
    "": Sort(_("Newest first"), True),
    "oldest": Sort(_("Oldest first"), False),
    "longest": Sort(_("Longest, ended runs"), True, _TOOK, "trace_by_length"),
    "shortest": Sort(_("Shortest, ended runs"), False, _TOOK, "trace_by_length"),
}

#: Indexes that begin with columns of one value and go on with the number; the longest that fits is walked.
WALKS = {
    frozenset({"job_id", "status"}): "trace_by_job_status",
    frozenset({"job_id"}): "trace_by_job",
    frozenset({"started_by"}): "trace_by_starter",
    frozenset({"status"}): "trace_by_status",
}


@dataclass(frozen=True, slots=True)
class Walk:
    """An index in the order of the list: its FROM text, and what that calls the number of a run."""

    table: str
    number: str = "t.number"
    params: tuple[Any, ...] = ()
    #: Conditions that each of its rows fulfils.
    met: tuple[Condition, ...] = ()


def find(conditions: Sequence[Condition], sort: Sort, position: Any, limit: int) -> list[int]:
    """Numbers of the runs that fulfil all, in the order of ``sort``, behind ``position``."""
    asked = [*conditions, Condition(HAS_LENGTH)] if sort.by else [*conditions]
    if position is not None:
        asked.append(sort.beyond(position))
    walk = _walk(conditions, sort)
    if len(walk.met) < len(conditions) and (few := _few(conditions)) is not None:
        source, param = keys_of(few)
        walk = Walk(each(source, "instances_trace", "t", "t.number = w.key"), params=(param,))
    elif walk.number != "t.number":
        asked = [Condition(IS_LABEL, c.params) if c in walk.met else c for c in asked]
    return _numbers(walk, asked, sort, limit)


def _numbers(walk: Walk, conditions: Sequence[Condition], sort: Sort, limit: int) -> list[int]:
    where = " AND ".join([EXISTS, *(condition.where for condition in conditions)])
    params = [*walk.params, *(param for condition in conditions for param in condition.params), limit]
    text = f"{where} ORDER BY {sort.order} LIMIT %s".replace("t.number", walk.number)
    return [row[0] for row in run(f"SELECT t.number FROM {walk.table} WHERE {text}", params)]


def _few(conditions: Sequence[Condition]) -> set[int] | None:
    """The runs that the rarer conditions leave, if one of them leaves few; others may be unmet."""
    indexed = [condition for condition in conditions if condition.source]
    for condition in indexed:
        # Not the numbers, but the rows are counted: a text may find a run twice, by its id and by its name.
        if len(rows := _fulfilling(condition, VERY_FEW + 1)) <= min(VERY_FEW, FEW):
            return set(rows)
    # Counted in the database first: to hand over 5,001 numbers of each costs more than the page itself.
    rare = [condition for condition in indexed if _count(condition) <= FEW]
    return set.intersection(*(set(_fulfilling(condition, FEW)) for condition in rare)) if rare else None


def _fulfilling(condition: Condition, limit: int) -> list[int]:
    return [row[0] for row in run(f"{condition.source} LIMIT %s", [*condition.source_params, limit])]


def _count(condition: Condition) -> int:
    sql = f"SELECT COUNT(*) FROM ({condition.source} LIMIT %s) AS found"
    return int(run(sql, [*condition.source_params, FEW + 1])[0][0])


def _walk(conditions: Sequence[Condition], sort: Sort) -> Walk:
    if sort.by:
        return Walk(_by_index(sort.index))
    for condition in conditions:
        if condition.label:
            table = each("instances_tracelabel l", "instances_trace", "t", "t.number = l.trace_id")
            return Walk(table, "l.trace_id", met=(condition,))
    for condition in conditions:
        if condition.index:
            return Walk(_by_index(condition.index), met=(condition,))
    equal = {condition.equal: condition for condition in conditions if condition.equal}
    for columns, index in WALKS.items():
        if columns <= equal.keys():
            return Walk(_by_index(index), met=tuple(equal[column] for column in columns))
    return Walk("instances_trace t" if is_postgres() else "instances_trace t NOT INDEXED")


def _by_index(name: str) -> str:
    # PostgreSQL knows how common a value is, and takes it by itself.
    return "instances_trace t" if is_postgres() else f"instances_trace t INDEXED BY {name}"


# -- what may be asked


def has(column: str, value: Any) -> Condition:
    """``column``: one of those in ``WALKS``."""
    return Condition(
        f"t.{column} = %s",
        (value,),
        f"SELECT number FROM instances_trace WHERE {column} = %s",
        (value,),
        equal=column,
    )


def labelled(key: str, value: str) -> Condition:
    return Condition(
        f"EXISTS (SELECT 1 FROM instances_tracelabel l WHERE l.trace_id = t.number AND {IS_LABEL})",
        (key, value),
        f"SELECT l.trace_id FROM instances_tracelabel l WHERE {IS_LABEL}",
        (key, value),
        label=True,
    )


def begins_with(prefix: str) -> Condition:
    """Byte ranges, never LIKE: that ignores case on SQLite and takes ``%`` and ``_`` for patterns."""
    byte_order = ' COLLATE "C"' if is_postgres() else ""
    id, name = "{0}id >= %s AND {0}id < %s", f"{{0}}name{byte_order} >= %s AND {{0}}name{byte_order} < %s"
    params = (prefix, beyond(prefix)) * 2
    part = f"SELECT number FROM (SELECT number FROM instances_trace WHERE %s LIMIT {FEW + 1}) AS found"
    by_id, by_name = part.replace("%s", id.format("")), part.replace("%s", name.format(""))
    return Condition(
        f"(({id.format('t.')}) OR ({name.format('t.')}))",
        params,
        f"SELECT number FROM ({by_id} UNION ALL {by_name}) AS either",
        params,
    )


def beyond(prefix: str) -> str:
    """The least text, by bytes of UTF-8, that is above all that begin with ``prefix``."""
    for at in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[at]) + 1
        if following <= 0x10FFFF:
            # Surrogates stand in no UTF-8 text.
            return prefix[:at] + chr(0xE000 if following == 0xD800 else following)
    return chr(0x10FFFF) * (len(prefix) + 1)


def made(sign: str, ms: int) -> Condition:
    """``sign``: ``>=`` or ``<``. Numbers rise with time, so a walk may end where the time does."""
    least, bound, way = ("MIN", ">=", "ASC") if sign == ">=" else ("MAX", "<=", "DESC")
    nearest = (
        f"(SELECT {least}(near.number) FROM (SELECT number FROM instances_trace"
        f" WHERE created_ms {sign} %s ORDER BY created_ms {way} LIMIT {NEAR}) AS near)"
    )
    return Condition(
        f"t.created_ms {sign} %s AND t.number {bound} {nearest}",
        (ms, ms),
        f"SELECT number FROM instances_trace WHERE created_ms {sign} %s",
        (ms,),
    )
