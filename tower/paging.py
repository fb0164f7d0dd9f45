"""Cursor pages over anything that has an order. Cursors are opaque, signed, and bound to their query."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.utils.crypto import constant_time_compare, salted_hmac

from tower.errors import TowerError
from tower.reading import Query

#: The parameters of every list, to be allowed beside its own: ``Query(request, allowed=PAGED | {"q"})``.
PAGED = frozenset({"cursor", "limit"})

#: What finds a row again in its list: strings, integers, or a list of them.
Position = Any
Rows = Callable[[Position | None, int], Sequence[Any]]

_SIGNATURE_BYTES = 16
_FORWARD, _BACK = 0, 1


def page(
    request: Any,
    query: Query,
    rows_after: Rows,
    position_of: Callable[[Any], Position],
    kind: str,
    *,
    rows_before: Rows | None = None,
    show: Callable[[Any], Any] = lambda row: row,
) -> dict[str, Any]:
    """One page: ``{"results", "next", "previous"}``, the links absolute or null.

    ``rows_after(position, limit)`` gives up to ``limit`` rows behind a
    position (None: from the start), ``rows_before`` those nearest in front of
    it, both in the order of the list. Without ``rows_before`` the way back
    leads to the first page.
    """
    limit = query.integer("limit", settings.TOWER_PAGE_SIZE, 1, settings.TOWER_PAGE_SIZE_MAX)
    back, position = _opened(request, kind)
    if back and rows_before:
        rows = rows_before(position, limit + 1)
        more_before, more_after = len(rows) > limit, True
        rows = rows[-limit:]
    else:
        rows = rows_after(position, limit + 1)
        more_before, more_after = position is not None, len(rows) > limit
        rows = rows[:limit]
    first = position_of(rows[0]) if rows and rows_before else None
    return {
        "results": [show(row) for row in rows],
        "next": _link(request, kind, _FORWARD, position_of(rows[-1])) if rows and more_after else None,
        "previous": _before(request, kind, first) if more_before else None,
    }


def page_of(
    request: Any,
    query: Query,
    rows: QuerySet[Any],
    key: Sequence[str],
    kind: str,
    *,
    newest_first: bool = False,
    show: Callable[[Any], Any] = lambda row: row,
) -> dict[str, Any]:
    """``page`` over a query set whose order is ``key``: columns that are never null and together unique."""
    walk = Walk(rows, tuple(key), newest_first)
    return page(request, query, walk.after, walk.position, kind, rows_before=walk.before, show=show)


@dataclass(frozen=True, slots=True)
class Walk:
    """A query set in the order of some columns, from any of its rows in both directions."""

    rows: QuerySet[Any]
    key: tuple[str, ...]
    newest_first: bool = False

    def position(self, row: Any) -> Position:
        return [row[name] if isinstance(row, dict) else getattr(row, name) for name in self.key]

    def after(self, position: Position | None, limit: int) -> list[Any]:
        return list(self._beyond(position, downward=self.newest_first)[:limit])

    def before(self, position: Position | None, limit: int) -> list[Any]:
        return list(self._beyond(position, downward=not self.newest_first)[:limit])[::-1]

    def _beyond(self, position: Position | None, *, downward: bool) -> QuerySet[Any]:
        rows = self.rows.order_by(*(f"-{name}" if downward else name for name in self.key))
        if position is None:
            return rows
        beyond, equal = Q(), Q()
        for name, value in zip(self.key, position, strict=True):
            beyond |= equal & Q((f"{name}__{'lt' if downward else 'gt'}", value))
            equal &= Q((name, value))
        return rows.filter(beyond)


def _before(request: Any, kind: str, position: Position | None) -> str:
    return _link(request, kind, _BACK, position) if position else _absolute(request, None)


def _link(request: Any, kind: str, direction: int, position: Position) -> str:
    body = orjson.dumps([direction, position])
    return _absolute(request, _encode(_seal(request, kind, body) + body))


def _absolute(request: Any, cursor: str | None) -> str:
    parameters: QueryDict = request.GET.copy()
    parameters.pop("cursor", None)
    if cursor:
        parameters["cursor"] = cursor
    query = parameters.urlencode()
    return str(request.build_absolute_uri(f"{request.path}?{query}" if query else request.path))


def _opened(request: Any, kind: str) -> tuple[bool, Position | None]:
    """Whether backwards, and from where; refuses a cursor that is cut, altered or of another query."""
    cursor = request.GET.get("cursor") or ""
    if not cursor:
        return False, None
    try:
        sealed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError as error:
        raise _invalid() from error
    seal, body = sealed[:_SIGNATURE_BYTES], sealed[_SIGNATURE_BYTES:]
    # Base64 has spellings that decode alike; only our own is taken.
    if _encode(sealed) != cursor or not constant_time_compare(seal, _seal(request, kind, body)):
        raise _invalid()
    direction, position = orjson.loads(body)
    return direction == _BACK, position


def _encode(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _seal(request: Any, kind: str, body: bytes) -> bytes:
    query = sorted((name, values) for name, values in request.GET.lists() if name not in PAGED)
    bound = orjson.dumps([kind, request.path, query]) + b"\0" + body
    return salted_hmac("tower.paging", bound, algorithm="sha256").digest()[:_SIGNATURE_BYTES]


def _invalid() -> TowerError:
    return TowerError("This cursor belongs to no page of this list.", code="invalid_cursor", field="cursor")
