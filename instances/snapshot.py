"""A tree as browsers take it: whole in columns, or what changed behind a ``seq`` (``docs/live.md``)."""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import orjson

from instances import reads
from instances.live import DIFFERS, HEARD, HOLDS, PLACEHOLDER, UNATTACHED, Row
from instances.models import Epoch
from instances.reads import Asked, Head
from instances.rows import is_postgres, run
from tower.definitions import rules

#: What crosses the wire of one task besides its ``n``; bit i of a mask names column i.
WIRE = (
    "id", "parent", "kind", "name", "status", "progress", "start", "end", "attempt", "split", "done", "over",
    "def",
)  # fmt: skip
EVERY = (1 << len(WIRE)) - 1

#: Level 1 costs a third of the time of 6 and gives 12 % more bytes (100,000 rows).
GZIP_LEVEL = 1

_SPLIT = "CASE WHEN t.planned > t.kids THEN t.planned ELSE t.kids END"
_OVER = (
    f"(CASE WHEN t.holds THEN {HOLDS} ELSE 0 END"
    f" + CASE WHEN t.reported_status <> t.status THEN {DIFFERS} ELSE 0 END"
    f" + CASE WHEN t.attached THEN 0 ELSE {UNATTACHED} END"
    f" + CASE WHEN t.registered THEN 0 ELSE {PLACEHOLDER} END"
    f" + CASE WHEN t.reported_status IS NULL THEN 0 ELSE {HEARD} END)"
)
_ROWS = (
    "SELECT t.n, t.id, t.parent_id - t.tree_id * 4294967296, t.kind, t.name, t.job_id, t.version, t.status,"
    f" t.progress, t.started_ms, t.finished_ms, t.attempt, {_SPLIT}, t.kids_ended, {_OVER}"
    f" FROM {reads.TASK} t WHERE t.pk >= %s AND t.pk < %s"
)
#: The columns of a snapshot that the database spells.
_SPELLED = (
    "n", "id", "parent", "kind", "status", "progress", "start", "end", "attempt", "split", "done", "over",
)  # fmt: skip
#: Name, job and version of a task.
Called = tuple[str, str, int | None]
_ONLY = 1


def epoch() -> str:
    """What a browser compares to know whether all it has is void. Call it outside of ``at_one_moment``."""
    known = Epoch.objects.filter(pk=_ONLY).values_list("value", flat=True).first()
    if known is not None:
        return known
    made, _ = Epoch.objects.get_or_create(pk=_ONLY, defaults={"value": secrets.token_hex(4)})
    return made.value


def new_epoch() -> str:
    """Make every browser and every snapshot that is kept anywhere void: after a restored backup."""
    made, _ = Epoch.objects.update_or_create(pk=_ONLY, defaults={"value": secrets.token_hex(4)})
    return made.value


def tag(epoch: str, head: Head) -> str:
    return f'"{epoch}.{head.seq}.{head.control}"'


@dataclass(frozen=True, slots=True)
class Columns:
    """A whole tree, all lists in one order: JSON, and what each task is called by."""

    cells: Mapping[str, bytes]
    called: Sequence[Called]


def columns(head: Head) -> Columns:
    """Spelled by the database, outside of the GIL: as rows 100,000 tasks took twice the time, inside."""
    found = run(_columns(postgres=is_postgres()), [head.created_ms, head.created_ms, *head.keys])
    *cells, names, jobs, versions = (f"[{column or ''}]".encode() for column in found[0])
    called = zip(*(orjson.loads(column) for column in (names, jobs, versions)), strict=True)
    return Columns(dict(zip(_SPELLED, cells, strict=True)), list(called))


@cache
def _columns(*, postgres: bool) -> str:
    """Every column as the inside of a JSON array."""
    quoted = "to_json({})::text" if postgres else "json_quote({})"
    # 17 digits are the same number again; SQLite writes 15 by itself.
    real = "{}::text" if postgres else "format('%!.17g', {})"
    spelled = {
        "n": "CAST(t.n AS text)",
        "id": quoted.format("t.id"),
        "parent": "CAST(coalesce(t.parent_id - t.tree_id * 4294967296, -1) AS text)",
        "kind": "CAST(t.kind AS text)",
        "status": "CAST(t.status AS text)",
        "progress": f"CASE WHEN t.progress IS NULL THEN 'null' ELSE {real.format('t.progress')} END",
        "start": "coalesce(CAST(t.started_ms - %s AS text), 'null')",
        "end": "coalesce(CAST(t.finished_ms - %s AS text), 'null')",
        "attempt": "CAST(t.attempt AS text)",
        "split": f"CAST({_SPLIT} AS text)",
        "done": "CAST(t.kids_ended AS text)",
        "over": f"CAST({_OVER} AS text)",
    }
    assert tuple(spelled) == _SPELLED
    called = (quoted.format("t.name"), quoted.format("t.job_id"), "coalesce(CAST(t.version AS text), 'null')")
    together = "string_agg({}, ',')" if postgres else "group_concat({}, ',')"
    what = ", ".join(together.format(cell) for cell in (*spelled.values(), *called))
    return (
        f"SELECT {what} FROM (SELECT * FROM {reads.TASK} t WHERE t.pk >= %s AND t.pk < %s ORDER BY t.pk) t"
        if postgres
        else f"SELECT {what} FROM {reads.TASK} t WHERE t.pk >= %s AND t.pk < %s"
    )


def rows_since(head: Head, since: int, most: int) -> list[Row] | None:
    """What changed behind ``since``; None where that is more than ``most`` rows."""
    found = run(f"{_ROWS} AND t.rev > %s ORDER BY t.pk LIMIT %s", [*head.keys, since, most + 1])
    return [tuple(row) for row in found] if len(found) <= most else None


# -- names and definitions, each once a message


class Named(Protocol):
    """What a version of a definition is called."""

    @property
    def name(self) -> str: ...
    @property
    def number(self) -> int: ...


@dataclass(slots=True)
class Words:
    """Gives names and definitions their places in one message."""

    versions: Mapping[int, Named]
    names: list[str] = field(default_factory=list)
    defs: list[tuple[str, int | None]] = field(default_factory=list)
    _name_at: dict[str, int] = field(default_factory=dict)
    _def_at: dict[tuple[str, int | None], int] = field(default_factory=dict)
    _known: dict[tuple[str, str, int | None], tuple[int, int]] = field(default_factory=dict)

    def place(self, name: str, job: str, version: int | None) -> tuple[int, int]:
        """(place in ``names``, place in ``defs``)."""
        known = self._known.get((name, job, version))
        if known is None:
            known = self._known[name, job, version] = self._learn(name, job, version)
        return known

    def _learn(self, name: str, job: str, version: int | None) -> tuple[int, int]:
        pinned = self.versions.get(version) if version is not None else None
        shown = name or (pinned.name if pinned else job)
        definition = (job, pinned.number if pinned else None)
        if shown not in self._name_at:
            self._name_at[shown] = len(self.names)
            self.names.append(shown)
        if job and definition not in self._def_at:
            self._def_at[definition] = len(self.defs)
            self.defs.append(definition)
        return self._name_at[shown], self._def_at.get(definition, -1)


def cells(row: Row, words: Words, t0: int) -> list[Any]:
    """A row in the order of ``WIRE``."""
    _, id, parent, kind, name, job, version, status, progress, start, end, attempt, split, done, over = row
    name_at, def_at = words.place(name, job, version)
    return [
        id,
        -1 if parent is None else parent,
        kind,
        name_at,
        status,
        progress,
        None if start is None else start - t0,
        None if end is None else end - t0,
        attempt,
        split,
        done,
        over,
        def_at,
    ]


# -- the two messages


def snapshot(head: Head, intents: Asked, epoch: str, found: Columns) -> bytes:
    pinned = {version for _, _, version in found.called if version is not None}
    words = Words(rules.versions(pinned) if pinned else {})
    places = {called: words.place(*called) for called in dict.fromkeys(found.called)}
    placed = [places[called] for called in found.called]
    return orjson.dumps(
        {
            "v": 1,
            "epoch": epoch,
            "seq": head.seq,
            "control": head.control,
            "t0": head.created_ms,
            "root": head.root_n,
            "intents": intents.as_columns(),
            "names": words.names,
            "defs": words.defs,
            "cols": {
                **{name: orjson.Fragment(cells) for name, cells in found.cells.items()},
                "name": [name for name, _ in placed],
                "def": [place for _, place in placed],
            },
        }
    )


def frame(
    *,
    after: int,
    seq: int,
    t0: int,
    now_ms: int,
    tick: int,
    new: Iterable[Row],
    up: Iterable[tuple[Row, int]],
    versions: Mapping[int, Named],
    intents: Asked | None = None,
    control: int = 0,
) -> bytes:
    """A ``d`` message: (``after``, ``seq``] with whole rows and (row, mask) pairs."""
    words = Words(versions)
    made = {
        "op": "d",
        "from": after,
        "seq": seq,
        "t": now_ms,
        "tick": tick,
        "new": [[row[0], *cells(row, words, t0)] for row in new],
        "up": [masked(row, mask, words, t0) for row, mask in up],
        "names": words.names,
        "defs": words.defs,
    }
    if intents is not None:
        made |= {"intents": intents.as_columns(), "control": control}
    return orjson.dumps(made)


def masked(row: Row, mask: int, words: Words, t0: int) -> list[Any]:
    whole = cells(row, words, t0)
    return [row[0], mask, *(value for bit, value in enumerate(whole) if mask >> bit & 1)]


#: Where each cell of ``WIRE`` comes from in ``COLUMNS``, to find what differs between two rows.
_SOURCES = (
    (1,), (2,), (3,), (4, 5, 6), (7,), (8,), (9,), (10,), (11,), (12,), (13,), (14,), (5, 6),
)  # fmt: skip


def difference(was: Row, now: Row) -> int:
    """The mask of the columns in which two rows of one task differ."""
    if was == now:
        return 0
    mask = 0
    for bit, sources in enumerate(_SOURCES):
        if any(was[i] != now[i] for i in sources):
            mask |= 1 << bit
    return mask


def compressed(body: bytes) -> bytes:
    # mtime=0: one snapshot, one sequence of bytes.
    return gzip.compress(body, GZIP_LEVEL, mtime=0)
