"""The log of a trace or a task: every report as it was received, and why it has its verdict. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from instances import attempts, reads, sentences
from instances.attempts import Footing
from instances.lifecycle import Origin, Verdict
from instances.pieces import Sentence, plain
from instances.reads import Head, Row
from instances.reasons import Logged, Reason, reason
from tower.paging import PAGED, page
from tower.reading import Query
from tower.schemas import EVENT_TYPES, KINDS

ORIGINS: Final = tuple(origin.name.lower() for origin in Origin)
VERDICTS: Final = tuple(verdict.name.lower() for verdict in Verdict)
FILTERS: Final = PAGED | {"verdict", "origin", "event_type"}
_NOBODY = Footing(1, 1, None, None, {}, None)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the log; ``attempt`` and ``reason`` are what stands now."""

    position: int
    event_id: str
    task_id: str
    task_name: str
    parent_id: str | None
    kind: int
    actor_type: int | None
    origin: Origin
    verdict: Verdict
    payload: str
    warnings: str | None
    timestamp_ms: int
    received_ms: int
    attempt: int | None
    reason: Reason | None

    @property
    def skew_ms(self) -> int:
        """The actor's clock against the server's, the way included; positive: the actor's is ahead."""
        return self.timestamp_ms - self.received_ms

    @property
    def said(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = orjson.loads(self.payload or "{}")
        return found

    @property
    def why(self) -> Sentence:
        return sentences.reason(self.reason)

    def as_json(self, trace_id: str) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "trace_id": trace_id,
            "task_id": self.task_id,
            "parent_id": self.parent_id,
            "actor_type": None if self.actor_type is None else KINDS[self.actor_type],
            "event_type": EVENT_TYPES[self.kind],
            "payload": orjson.Fragment(self.payload),
            "timestamp_ms": self.timestamp_ms,
            "received_at": reads.iso(self.received_ms),
            "skew_ms": self.skew_ms,
            "origin": self.origin.name.lower(),
            "verdict": self.verdict.name.lower(),
            "reason": None
            if self.reason is None
            else {
                "code": self.reason.cause.value,
                "message": plain(self.why),
                "at": reads.iso(self.reason.at_ms),
            },
            "warnings": orjson.Fragment(self.warnings) if self.warnings else [],
            "attempt": self.attempt,
        }


# -- reading


def conditions(query: Query) -> tuple[list[str], list[Any]]:
    """The filters of a query, as conditions on ``e`` and their parameters."""
    # No index for these, which each report would pay: 500,000 rows are looked through in 50 ms (SQLite).
    found: list[str] = []
    params: list[Any] = []
    for name, column, words in (
        ("verdict", "verdict", VERDICTS),
        ("origin", "origin", ORIGINS),
        ("event_type", "kind", tuple(kind.value for kind in EVENT_TYPES)),
    ):
        if word := query.choice(name, words):
            found.append(f"e.{column} = %s")
            params.append(words.index(word))
    return found, params


def log_page(
    request: Any,
    query: Query,
    head: Head,
    *,
    task: int | None = None,
    newest_first: bool = False,
    show: Callable[[Entry], Any] | None = None,
) -> dict[str, Any]:
    """One page of the log of a trace, or of one of its tasks: ``{"results", "next", "previous"}``."""
    column, key = ("trace", head.number) if task is None else ("task", task)
    where, params = conditions(query)

    def rows(position: int | None, limit: int, *, backwards: bool) -> list[Row]:
        found = reads.events_after(
            column,
            key,
            position,
            limit,
            backwards=backwards is not newest_first,
            where=where,
            params=params,
        )
        return found[::-1] if newest_first else found

    body = page(
        request,
        query,
        lambda position, limit: rows(position, limit, backwards=False),
        lambda row: row[0],
        f"{column}-events",
        rows_before=lambda position, limit: rows(position, limit, backwards=True),
    )
    found = entries(body["results"])
    body["results"] = [show(one) if show else one for one in found]
    return body


def entries(rows: Sequence[Row]) -> list[Entry]:
    """Rows of ``reads.events_after`` with what stands in their tasks."""
    stands = attempts.footings({row[12] for row in rows}) if rows else {}
    return [_entry(row, stands.get(row[12], _NOBODY)) for row in rows]


def _entry(row: Row, stands: Footing) -> Entry:
    position, event_id, task_id, parent_id, kind, actor_type, origin, verdict, payload, warnings = row[:10]
    timestamp, received, _, name = row[10:]
    said: Mapping[str, Any] = orjson.loads(payload or "{}")
    named = said.get("attempt")
    attempt = named if isinstance(named, int) else _walked(event_id, origin, stands)
    logged = Logged(
        verdict=Verdict(verdict),
        by_tower=origin == Origin.TOWER,
        kind=kind,
        key=(timestamp, event_id),
        received_ms=received,
        attempt=attempt,
        error_code=str(said.get("error_code") or ""),
    )
    return Entry(
        position, event_id, task_id, name or task_id, parent_id, kind, actor_type, Origin(origin),
        Verdict(verdict), payload, warnings, timestamp, received, attempt,
        reason(
            logged, attempt=stands.attempt, cap=stands.cap, killed_ms=stands.killed_ms, ends=stands.ends
        ),
    )  # fmt: skip


def _walked(event_id: str, origin: int, stands: Footing) -> int | None:
    if origin == Origin.TOWER:
        return stands.shown
    return stands.attempt_of(event_id)
