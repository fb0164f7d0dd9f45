"""Whose fault it is, and which field: every refusal of the tower. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class TowerError(Exception):
    """A request that is refused as a whole.

    ``code`` is stable and documented; ``http_status`` is what REST answers;
    ``details`` carries the facts (the field's name is ``details["field"]``).
    """

    code: str = "invalid_body"
    http_status: int = 400
    retry_after: int | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        http_status: int | None = None,
        retry_after: int | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.http_status = http_status or self.http_status
        self.retry_after = retry_after or self.retry_after
        self.details = details

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "details": self.details}


class NotFound(TowerError):
    code, http_status = "not_found", 404


class Conflict(TowerError):
    code, http_status = "conflict", 409


class Unavailable(TowerError):
    """Nothing was stored; the same request may be sent again."""

    code, http_status, retry_after = "unavailable", 503, 1


class Backpressure(TowerError):
    code, http_status, retry_after = "backpressure", 429, 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one item of a batch is refused; the others are applied."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "details": self.details}


@dataclass(frozen=True, slots=True)
class Warned:
    """Accepted, but a reader should know: ``code`` about ``field`` of item ``index``."""

    index: int
    code: str
    field: str

    def as_json(self) -> dict[str, Any]:
        return {"index": self.index, "code": self.code, "field": self.field}
