"""The statements of the hot path, for both databases. Rows in, rows out: no rule is here.

A batch costs the same number of statements whatever it holds. PostgreSQL gets
arrays as hand-made literals through a server-side binding cursor (Python lists
through psycopg cost 1.8 x, measured); SQLite gets ``json_each`` and ``executemany``.
Everything runs inside the caller's transaction on Django's connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

import orjson
import psycopg
from django.db import connection

Row = Sequence[Any]

TASK = "instances_taskinstance"
#: (column, array type) in the order of ``node.rows_of``.
TASK_COLUMNS: tuple[tuple[str, str], ...] = (
    ("pk", "bigint"),
    ("tree_id", "bigint"),
    ("n", "int"),
    ("id", "text"),
    ("parent_id", "bigint"),
    ("depth", "int"),
    ("kind", "smallint"),
    ("job_id", "text"),
    ("version", "bigint"),
    ("name", "text"),
    ("registered", "bool"),
    ("attached", "bool"),
    ("status", "smallint"),
    ("reported_status", "smallint"),
    ("attempt", "int"),
    ("progress", "float8"),
    ("holds", "bool"),
    ("started_ms", "bigint"),
    ("finished_ms", "bigint"),
    ("planned", "int"),
    ("kids", "int"),
    ("kids_ended", "int"),
    ("memory", "text"),
    ("rev", "bigint"),
    ("created_ms", "bigint"),
    ("updated_ms", "bigint"),
)
#: What reports change, and what only a registration or an attachment changes.
STATE = [
    "status",
    "reported_status",
    "attempt",
    "progress",
    "holds",
    "started_ms",
    "finished_ms",
    "planned",
    "kids",
    "kids_ended",
    "memory",
    "rev",
    "updated_ms",
]
SHAPE = ["parent_id", "depth", "kind", "job_id", "version", "name", "registered", "attached"]
#: mptt's columns until the tree is numbered.
UNNUMBERED = ("lft", "rght", "level")

EVENT_COLUMNS: tuple[tuple[str, str], ...] = (
    ("trace", "bigint"),
    ("event_id", "text"),
    ("position", "bigint"),
    ("task", "bigint"),
    ("parent_id", "text"),
    ("kind", "smallint"),
    ("actor_type", "smallint"),
    ("origin", "smallint"),
    ("verdict", "smallint"),
    ("payload", "text"),
    ("warnings", "text"),
    ("timestamp_ms", "bigint"),
    ("received_ms", "bigint"),
)
BODY_COLUMNS = (("task", "bigint"), ("input_params", "text"), ("labels", "text"), ("collects", "text"))
TEXTS = ("message", "worker", "output_ref", "error_code", "error_msg")
SAID_COLUMNS = (("task", "bigint"), *((name, "text") for name in TEXTS))
TRACE_COLUMNS: tuple[tuple[str, str], ...] = (
    ("number", "bigint"),
    ("root_n", "int"),
    ("status", "smallint"),
    ("seq", "bigint"),
    ("shape_seq", "bigint"),
    ("shape_ms", "bigint"),
    ("next_n", "int"),
    ("pending", "int"),
    ("running", "int"),
    ("success", "int"),
    ("failed", "int"),
    ("cancelled", "int"),
    ("skipped", "int"),
    ("name", "text"),
    ("job_id", "text"),
    ("version", "int"),
    ("started_by", "text"),
    ("start_digest", "text"),
    ("started_ms", "bigint"),
    ("finished_ms", "bigint"),
    ("updated_ms", "bigint"),
    ("collecting", "int"),
    ("ended_ms", "bigint"),
)

_TASK_LIST = ", ".join(f"t.{name}" for name, _ in TASK_COLUMNS)


def is_postgres() -> bool:
    return connection.vendor == "postgresql"


# -- arrays


#: Stands between two texts until they are quoted; none holds a NUL (``reading.unfit``).
_SEAM = "\0"


def _text(values: Sequence[str | None]) -> str:
    """Quoted always, or an id NULL would become SQL NULL; escaped in one pass over the whole column."""
    if not values:
        return "{}"
    if None in values:
        if not any(v is not None for v in values):
            return "{" + "NULL," * (len(values) - 1) + "NULL}"
        parts = ["NULL" if v is None else f'"{_escape(v)}"' for v in values]
        return "{" + ",".join(parts) + "}"
    joined = _escape(_SEAM.join(values))  # type: ignore[arg-type]
    return '{"' + joined.replace(_SEAM, '","') + '"}'


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _plain(values: Iterable[Any]) -> str:
    # JSON's numbers, booleans and null are read by PostgreSQL as they are.
    return "{" + orjson.dumps(list(values)).decode()[1:-1] + "}"


def _array(kind: str, values: Sequence[Any]) -> str:
    return _text(values) if kind == "text" else _plain(values)


# -- running statements


def run(sql: str, params: Sequence[Any] = (), *, binary: bool = False) -> list[Row]:
    """One statement; its rows, if it gives any.

    ``binary``: as PostgreSQL has them, which is read a sixth faster; for numbers, booleans and text only.
    """
    connection.ensure_connection()
    raw: Any = connection.connection
    with connection.wrap_database_errors:
        if is_postgres():
            with psycopg.Cursor(raw) as cursor:  # binds in the server; Django's own default in the client
                cursor.execute(sql, params, binary=binary)
                return cursor.fetchall() if cursor.description else []
        found = raw.execute(_qmarks(sql), params)
        return list(found.fetchall()) if found.description else []


@contextlib.contextmanager
def sent_on() -> Iterator[None]:
    """Statements that are sent and not waited for: PostgreSQL works on one while the next is made.

    For such as give no rows. What fails is told by a later one, or at the end of the block. Measured: REST
    on two connections 1.07 x the reports/s.
    """
    if not is_postgres():
        yield
        return
    connection.ensure_connection()
    raw: Any = connection.connection
    with connection.wrap_database_errors, raw.pipeline():
        yield


def _run_many(sql: str, rows: Iterable[Row]) -> None:
    connection.ensure_connection()
    raw: Any = connection.connection
    with connection.wrap_database_errors:
        raw.executemany(sql, rows)


@cache
def _qmarks(sql: str) -> str:
    return sql.replace("%s", "?")


def keys_of(values: Iterable[int]) -> tuple[str, Any]:
    """A table ``w(key)`` of numbers: its FROM text and its one parameter."""
    if is_postgres():
        return "unnest(%s::bigint[]) AS w(key)", _plain(values)
    return "(SELECT value AS key FROM json_each(%s)) AS w", orjson.dumps(list(values)).decode()


def pairs_of(values: Iterable[tuple[int, str]]) -> tuple[str, tuple[Any, ...]]:
    """A table ``w(tree, name)`` of (number, id) pairs: its FROM text and its parameters."""
    pairs = list(values)
    if is_postgres():
        return "unnest(%s::bigint[], %s::text[]) AS w(tree, name)", (
            _plain(a for a, _ in pairs),
            _text([b for _, b in pairs]),
        )
    return (
        "(SELECT value ->> 0 AS tree, value ->> 1 AS name FROM json_each(%s)) AS w",
        (orjson.dumps(pairs).decode(),),
    )


def each(source: str, table: str, alias: str, on: str) -> str:
    """FROM text: for each row of ``source`` its rows of ``table``, by index, in a nested loop.

    Spelled out for PostgreSQL, which otherwise guesses how long an array is and
    hashes the whole table (measured: ancestors of a batch 84 instead of 9 us an event).
    """
    if is_postgres():
        return f"{source} CROSS JOIN LATERAL (SELECT * FROM {table} {alias} WHERE {on} OFFSET 0) {alias}"
    return f"{source} CROSS JOIN {table} {alias} ON {on}"


def insert(table: str, columns: Sequence[tuple[str, str]], rows: Sequence[Row], tail: str = "") -> None:
    if not rows:
        return
    names = ", ".join(name for name, _ in columns)
    if is_postgres():
        arrays = ", ".join(f"%s::{kind}[]" for _, kind in columns)
        params = [
            _array(kind, values) for (_, kind), values in zip(columns, zip(*rows, strict=True), strict=True)
        ]
        run(f"INSERT INTO {table} ({names}) SELECT * FROM unnest({arrays}) {tail}", params)
        return
    marks = ", ".join("?" for _ in columns)
    _run_many(f"INSERT INTO {table} ({names}) VALUES ({marks}) {tail}", rows)


def update(table: str, key: str, columns: Sequence[tuple[str, str]], rows: Sequence[Row]) -> None:
    """``columns[0]`` is the key; the rest is written."""
    if not rows:
        return
    if is_postgres():
        arrays = ", ".join(f"%s::{kind}[]" for _, kind in columns)
        names = ", ".join(name for name, _ in columns)
        sets = ", ".join(f"{name} = w.{name}" for name, _ in columns[1:])
        params = [
            _array(kind, values) for (_, kind), values in zip(columns, zip(*rows, strict=True), strict=True)
        ]
        run(
            f"UPDATE {table} AS t SET {sets} FROM unnest({arrays}) AS w({names}) WHERE t.{key} = w.{key}",
            params,
        )
        return
    sets = ", ".join(f"{name} = ?" for name, _ in columns[1:])
    _run_many(f"UPDATE {table} SET {sets} WHERE {key} = ?", [(*row[1:], row[0]) for row in rows])


def by_index() -> None:
    """For the rest of this transaction: look rows up by index, whatever their number is guessed to be.

    The planner guesses 1,000 rows for any array and then hashes the whole task
    table for one UPDATE: 14 of its 20 ms with 20,000 tasks, and more with each task.
    """
    if is_postgres():
        run(
            "SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
            " set_config('enable_seqscan', 'off', true)"
        )


# -- traces, ledgers, intents

_TRACE_LIST = ", ".join(name for name, _ in TRACE_COLUMNS)


def lock_traces(ids: Iterable[str], *, wait: bool = True) -> list[Row]:
    """(id, *TRACE_COLUMNS) of those that exist, locked in order of number.

    A statement of its own: one that waits for a lock goes on with its old
    snapshot, and two last children would each miss the other. Without ``wait``
    those that another transaction holds are left out.
    """
    if is_postgres():
        return run(
            f"SELECT id, {_TRACE_LIST} FROM instances_trace WHERE id = ANY(%s::text[])"
            f" ORDER BY number FOR NO KEY UPDATE{'' if wait else ' SKIP LOCKED'}",
            [_text(list(ids))],
        )
    return run(
        f"SELECT id, {_TRACE_LIST} FROM instances_trace WHERE id IN (SELECT value FROM json_each(%s))"
        " ORDER BY number",
        [orjson.dumps(list(ids)).decode()],
    )


def traces_among(ids: Iterable[str]) -> set[str]:
    """Those of them that exist."""
    among, params = _among(list(ids))
    return {row[0] for row in run(f"SELECT id FROM instances_trace WHERE id {among}", params)}


def lock_numbers(numbers: Iterable[int]) -> list[Row]:
    source, param = keys_of(numbers)
    lock = "FOR NO KEY UPDATE OF instances_trace" if is_postgres() else ""
    return run(
        f"SELECT id, {_TRACE_LIST} FROM instances_trace JOIN {source} ON number = w.key"
        f" ORDER BY number {lock}",
        [param],
    )


def make_traces(ids: Iterable[str], now_ms: int) -> None:
    """Trace and ledger rows for ids that are new; sorted, so that two makers never wait crosswise."""
    names = sorted(ids)
    defaults = (
        "status, seq, shape_seq, numbered_seq, shape_ms, next_n, pending, running, success, failed,"
        " cancelled, skipped, name, job_id, started_by, start_digest, collecting"
    )
    zeros = "1, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0, 0, '', '', '', '', 0"
    if is_postgres():
        each_id = f"SELECT w.id, %s::bigint, %s::bigint, {zeros} FROM unnest(%s::text[])"
        source, param = f"{each_id} WITH ORDINALITY AS w(id, k) ORDER BY w.k", _text(names)
    else:
        # WHERE: or ON would be read as that of a join.
        source, param = (
            f"SELECT value, %s, %s, {zeros} FROM json_each(%s) WHERE true",
            orjson.dumps(names).decode(),
        )
    run(
        f"INSERT INTO instances_trace (id, created_ms, updated_ms, {defaults}) {source}"
        " ON CONFLICT (id) DO NOTHING",
        [now_ms, now_ms, param],
    )
    among, params = _among(names)
    numbers = [row[0] for row in run(f"SELECT number FROM instances_trace WHERE id {among}", params)]
    insert(
        "instances_intentledger",
        (("trace", "bigint"), ("last_number", "bigint"), ("expiring", "bool")),
        [(number, 0, False) for number in numbers],
        "ON CONFLICT (trace) DO NOTHING",
    )


def pruned(ids: Iterable[str], since_ms: int) -> set[str]:
    """Which of these traces were pruned, not before ``since_ms``."""
    among, params = _among(list(ids))
    found = run(
        f"SELECT trace_id FROM instances_tombstone WHERE trace_id {among} AND gone_ms >= %s",
        [*params, since_ms],
    )
    return {row[0] for row in found}


def _among(ids: Sequence[str]) -> tuple[str, list[Any]]:
    if is_postgres():
        return "= ANY(%s::text[])", [_text(ids)]
    return "IN (SELECT value FROM json_each(%s))", [orjson.dumps(ids).decode()]


def share_ledgers(numbers: Iterable[int]) -> None:
    """Let no control commit until this transaction has: so no child escapes a CANCEL."""
    if is_postgres():
        run(
            "SELECT trace FROM instances_intentledger WHERE trace = ANY(%s::bigint[])"
            " ORDER BY trace FOR SHARE",
            [_plain(numbers)],
        )


def intents_of(numbers: Iterable[int]) -> list[Row]:
    """(trace, target, action, number, control_id, cancel_seq, cancel_ms)."""
    source, param = keys_of(numbers)
    return run(
        "SELECT i.trace, i.target, i.action, i.number, i.control_id, i.cancel_seq, i.cancel_ms"
        f" FROM {each(source, 'instances_intent', 'i', 'i.trace = w.key')}",
        [param],
    )


def write_traces(rows: Sequence[Row]) -> None:
    update("instances_trace", "number", TRACE_COLUMNS, rows)


# -- tasks


def tasks_by_id(pairs: Iterable[tuple[int, str]]) -> list[Row]:
    source, params = pairs_of(pairs)
    return run(
        f"SELECT {_TASK_LIST} FROM {each(source, TASK, 't', 't.tree_id = w.tree AND t.id = w.name')}", params
    )


def tasks_by_key(keys: Iterable[int]) -> list[Row]:
    source, param = keys_of(keys)
    return run(f"SELECT {_TASK_LIST} FROM {each(source, TASK, 't', 't.pk = w.key')}", [param])


def ancestors_of(parents: Iterable[int]) -> list[Row]:
    """The named tasks and everything above them, in one recursive statement."""
    source, param = keys_of(parents)
    return run(
        f"WITH RECURSIVE up(key) AS (SELECT w.key FROM {source} UNION"
        f" SELECT p.parent_id FROM {each('up', TASK, 'p', 'p.pk = up.key')} WHERE p.parent_id IS NOT NULL)"
        f" SELECT {_TASK_LIST} FROM {each('up', TASK, 't', 't.pk = up.key')}",
        [param],
    )


def below(keys: Iterable[int]) -> list[Row]:
    """Everything below the named tasks, themselves excluded."""
    source, param = keys_of(keys)
    return run(
        "WITH RECURSIVE down(key) AS ("
        f"SELECT c.pk FROM {each(source, TASK, 'c', 'c.parent_id = w.key')} UNION"
        f" SELECT c.pk FROM {each('down', TASK, 'c', 'c.parent_id = down.key')})"
        f" SELECT {_TASK_LIST} FROM {each('down', TASK, 't', 't.pk = down.key')}",
        [param],
    )


#: No grace was given yet.
_NO_GRACE = "NOT EXISTS (SELECT 1 FROM instances_deadline d WHERE d.task = t.pk AND d.kind = 0)"


def open_below(key: int) -> list[int]:
    """Keys of the open tasks at and below one task that have no grace."""
    first = "SELECT %s::bigint" if is_postgres() else "SELECT %s"
    found = run(
        f"WITH RECURSIVE down(key) AS ({first} UNION"
        f" SELECT c.pk FROM {each('down', TASK, 'c', 'c.parent_id = down.key')})"
        f" SELECT t.pk FROM {each('down', TASK, 't', 't.pk = down.key')}"
        f" WHERE t.status IN (0, 1) AND {_NO_GRACE}",
        [key],
    )
    return [row[0] for row in found]


def open_in(tree: int) -> list[int]:
    """Keys of the open tasks of a trace that have no grace."""
    found = run(
        f"SELECT t.pk FROM {TASK} t WHERE t.pk >= %s AND t.pk < %s AND t.status IN (0, 1) AND {_NO_GRACE}",
        [tree << 32, (tree + 1) << 32],
    )
    return [row[0] for row in found]


def spans_of(parents: Iterable[int], without: Iterable[int]) -> list[Row]:
    """(parent, is GROUP_AGG, earliest start, latest finish) over stored children but ``without``."""
    source, param = keys_of(parents)
    skipped = list(without)
    if is_postgres():
        but, params = "AND t.pk <> ALL(%s::bigint[])", [param, _plain(skipped)]
    else:
        but, params = (
            "AND t.pk NOT IN (SELECT value FROM json_each(%s))",
            [param, orjson.dumps(skipped).decode()],
        )
    return run(
        f"SELECT t.parent_id, t.kind = 1, min(t.started_ms), max(t.finished_ms) FROM {source}"
        f" JOIN {TASK} t ON t.parent_id = w.key WHERE true {but} GROUP BY t.parent_id, t.kind = 1",
        params,
    )


def insert_tasks(rows: Sequence[Row]) -> None:
    columns = (*TASK_COLUMNS, *((name, "int") for name in UNNUMBERED))
    insert(TASK, columns, [(*row, 0, 0, 0) for row in rows])


_AT = {name: i for i, (name, _) in enumerate(TASK_COLUMNS)}
_KINDS = dict(TASK_COLUMNS)


def update_tasks(rows: Sequence[Row], *, shape: bool) -> None:
    """``rows`` are whole ``node.rows_of``; ``shape`` writes where they hang and what they are, too."""
    names = ["pk", *STATE, *(SHAPE if shape else ())]
    written = itemgetter(*(_AT[name] for name in names))
    update(TASK, "pk", [(name, _KINDS[name]) for name in names], [written(row) for row in rows])


def insert_bodies(rows: Sequence[Row]) -> None:
    insert("instances_taskbody", BODY_COLUMNS, rows, "ON CONFLICT (task) DO NOTHING")


def say(rows: Sequence[Row]) -> None:
    """Upsert texts: None leaves what stands, "" clears it."""
    keep = ", ".join(
        f"{name} = NULLIF(COALESCE(excluded.{name}, s.{name}), '')" for name, _ in SAID_COLUMNS[1:]
    )
    table = "instances_tasksaid AS s"
    insert(table, SAID_COLUMNS, rows, f"ON CONFLICT (task) DO UPDATE SET {keep}")


# -- events


def known_events(pairs: Iterable[tuple[int, str]]) -> list[Row]:
    """(trace, event_id, task, parent_id, kind, actor_type, payload, timestamp_ms) of the stored ones."""
    source, params = pairs_of(pairs)
    return run(
        "SELECT e.trace, e.event_id, e.task, e.parent_id, e.kind, e.actor_type, e.payload, e.timestamp_ms"
        f" FROM {each(source, 'instances_event', 'e', 'e.trace = w.tree AND e.event_id = w.name')}",
        params,
    )


def insert_events(rows: Sequence[Row]) -> None:
    """Append to the log; IntegrityError where an id is known.

    Not ON CONFLICT DO NOTHING: with it a thousand rows cost 6.6 instead of 5.1 ms.
    """
    insert("instances_event", EVENT_COLUMNS, rows)


def reports_of(keys: Iterable[int]) -> list[Row]:
    """(task, event_id, kind, timestamp_ms, parent_id, actor_type, payload) of every report of an actor."""
    source, param = keys_of(keys)
    return run(
        "SELECT e.task, e.event_id, e.kind, e.timestamp_ms, e.parent_id, e.actor_type, e.payload"
        f" FROM {each(source, 'instances_event', 'e', 'e.task = w.key')} WHERE e.origin = 0",
        [param],
    )


# -- deadlines


def add_deadlines(rows: Sequence[Row]) -> None:
    columns = (("task", "bigint"), ("trace", "bigint"), ("kind", "smallint"), ("due_ms", "bigint"))
    # A grace runs from the first cancel; a timeout and a quiet time are set anew.
    insert(
        "instances_deadline AS d",
        columns,
        rows,
        "ON CONFLICT (task, kind) DO UPDATE SET due_ms ="
        " CASE WHEN excluded.kind > 0 THEN excluded.due_ms ELSE d.due_ms END",
    )


def due_deadlines(now_ms: int, limit: int) -> list[Row]:
    """(id, task, trace, kind, status of the task) that are due, earliest first."""
    return run(
        "SELECT d.id, d.task, d.trace, d.kind, t.status FROM"
        " (SELECT * FROM instances_deadline WHERE due_ms <= %s ORDER BY due_ms LIMIT %s) d"
        f" LEFT JOIN {TASK} t ON t.pk = d.task ORDER BY d.due_ms",
        [now_ms, limit],
    )


def dues_of(tasks: Iterable[int], kind: int) -> list[Row]:
    """(task, due_ms) of those that have such a deadline."""
    source, param = keys_of(tasks)
    found = each(source, "instances_deadline", "d", "d.task = w.key")
    return run(f"SELECT d.task, d.due_ms FROM {found} WHERE d.kind = %s", [param, kind])


def still_due(ids: Iterable[int], now_ms: int) -> list[Row]:
    """(id, task, kind) of those that are due still; asked under the trace's lock, where they are set anew."""
    source, param = keys_of(ids)
    return run(
        f"SELECT d.id, d.task, d.kind FROM {each(source, 'instances_deadline', 'd', 'd.id = w.key')}"
        " WHERE d.due_ms <= %s",
        [param, now_ms],
    )


def drop_deadlines(ids: Iterable[int]) -> None:
    source, param = keys_of(ids)
    run(f"DELETE FROM instances_deadline WHERE id IN (SELECT w.key FROM {source})", [param])


def add_labels(rows: Sequence[Row]) -> None:
    """(trace, key, value); the first of a key stands."""
    insert(
        "instances_tracelabel",
        (("trace_id", "bigint"), ("key", "text"), ("value", "text")),
        rows,
        "ON CONFLICT (trace_id, key) DO NOTHING",
    )


# -- aggregators


def aggregators_below(parents: Iterable[int]) -> list[Row]:
    """The GROUP_AGG children of these tasks."""
    source, param = keys_of(parents)
    return run(
        f"SELECT {_TASK_LIST} FROM {each(source, TASK, 't', 't.parent_id = w.key')} WHERE t.kind = 1", [param]
    )


def collect(rows: Sequence[Row]) -> None:
    """(trace, task id, aggregator) of what registrations name."""
    columns = (("trace", "bigint"), ("task_id", "text"), ("aggregator", "bigint"))
    insert("instances_collected", columns, rows, "ON CONFLICT (trace, task_id, aggregator) DO NOTHING")


def collectors_of(pairs: Iterable[tuple[int, str]]) -> list[Row]:
    """(trace, task id, aggregator) of those that collect these tasks."""
    source, params = pairs_of(pairs)
    on = "c.trace = w.tree AND c.task_id = w.name"
    return run(
        f"SELECT c.trace, c.task_id, c.aggregator FROM {each(source, 'instances_collected', 'c', on)}", params
    )


#: Where the results of an aggregator come from: its children, its siblings, or those it names.
COLLECTED_FROM = {
    "children": "t.parent_id = a.pk",
    "siblings": "t.parent_id = a.parent_id",
    "named": "t.tree_id = a.tree_id AND EXISTS (SELECT 1 FROM instances_collected c"
    " WHERE c.trace = a.tree_id AND c.task_id = t.id AND c.aggregator = a.pk)",
}


def freeze(aggregators: Sequence[int], source: str) -> None:
    """Keep the results that there are now; what ends later is late. A repeat changes nothing."""
    if not aggregators:
        return
    into = "INSERT INTO instances_frozenresult (aggregator, position, task, status, output_ref)"
    found = "SELECT a.pk, row_number() OVER (ORDER BY t.n), t.pk, t.status, s.output_ref"
    tail = "ON CONFLICT (aggregator, position) DO NOTHING"
    if is_postgres():
        keys, param = keys_of(aggregators)
        one = f"{found} {_results_of(source, 'w.key')}"
        run(f"{into} SELECT x.* FROM {keys} CROSS JOIN LATERAL ({one} OFFSET 0) x {tail}", [param])
        return
    _run_many(f"{into} {found} {_results_of(source, '?')} {tail}", [(key,) for key in aggregators])


def _results_of(source: str, aggregator: str = "%s") -> str:
    but = "" if source == "named" else " AND t.kind <> 1"
    return (
        f"FROM {TASK} a JOIN {TASK} t ON {COLLECTED_FROM[source]}"
        " LEFT JOIN instances_tasksaid s ON s.task = t.pk"
        f" WHERE a.pk = {aggregator} AND t.status > 1{but}"
    )


_NOT_KEPT = "NOT EXISTS (SELECT 1 FROM instances_frozenresult f WHERE f.aggregator = a.pk AND f.task = t.pk)"


def count_results(aggregator: int, source: str) -> tuple[int, int]:
    """How many results were kept, and how many endings are not among them."""
    kept = run("SELECT count(*) FROM instances_frozenresult WHERE aggregator = %s", [aggregator])
    rest = run(f"SELECT count(*) {_results_of(source)} AND {_NOT_KEPT}", [aggregator])
    return kept[0][0], rest[0][0]


def place_of_result(tree: int, aggregator: int, task_id: str) -> tuple[int | None, int] | None:
    """(position among the kept ones or None, n): where a page that ends with this task goes on."""
    found = run(
        f"SELECT f.position, t.n FROM {TASK} t LEFT JOIN instances_frozenresult f"
        " ON f.aggregator = %s AND f.task = t.pk WHERE t.tree_id = %s AND t.id = %s",
        [aggregator, tree, task_id],
    )
    if not found:
        return None
    position, n = found[0]
    return (position, -1) if position is not None else (None, n)


def kept_results(aggregator: int, after: int, limit: int) -> list[Row]:
    """(task id, status, output_ref) as they were frozen."""
    return run(
        f"SELECT t.id, f.status, f.output_ref FROM instances_frozenresult f JOIN {TASK} t ON t.pk = f.task"
        " WHERE f.aggregator = %s AND f.position > %s ORDER BY f.position LIMIT %s",
        [aggregator, after, limit],
    )


def other_results(aggregator: int, source: str, after: int, limit: int) -> list[Row]:
    """(task id, status, output_ref) of endings that are not frozen, by ``n``."""
    return run(
        f"SELECT t.id, t.status, s.output_ref {_results_of(source)} AND {_NOT_KEPT} AND t.n > %s"
        " ORDER BY t.n LIMIT %s",
        [aggregator, after, limit],
    )


def read_trace(number: int) -> list[Row]:
    """(id, *TRACE_COLUMNS), without a lock."""
    return run(f"SELECT id, {_TRACE_LIST} FROM instances_trace WHERE number = %s", [number])
