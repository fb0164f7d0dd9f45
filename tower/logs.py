"""Log lines: one JSON object each on stderr (TOWER_LOG=text for people).

``log.warning("token_use_not_noted", extra={"code": ...})``: the message is a fixed name, never built
from input; facts go into ``extra``, under the names in ``FACTS``; others are dropped. Nobody
puts tokens, cookies, passwords, bodies, payloads, parameters, outputs or ``q`` there.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import time
import traceback
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

FACTS = (
    "request_id",
    "user",
    "token_name",
    "trace_id",
    "task_id",
    "definition",
    "version",
    "route",
    "method",
    "path",
    "status",
    "duration_ms",
    "count",
    "code",
    "error",
    "deed",
    "entry",
    "client",
)
VALUE_CHARACTERS = 512
QUIET_SECONDS = 60.0
BREAKS = {ord("\n"): "\\n", ord("\r"): "\\r", 0x1B: "\\x1b", 0x7F: "\\x7f"}

#: What a line must not show even where it came in by an exception's text: passwords in URLs, tokens, cookies.
SECRETS = re.compile(
    r"(?P<url>://[^\s/@:]*:)[^\s/@]+(?=@)"
    r"|ctw_[0-9A-Za-z]{36}"
    r"|(?P<bearer>\bBearer\s+)\S+"
    r"|(?P<pair>\b(?:password|sessionid|tower_session|csrftoken|csrfmiddlewaretoken)['\"]?\s*[=:]\s*['\"]?)[^\s'\";,&]+",
    re.IGNORECASE,
)

#: Facts about the request under way; set anew for each by ``tower.asgi``, filled by ``note``.
_NOTES: ContextVar[MutableMapping[str, Any] | None] = ContextVar("notes", default=None)


def begin() -> MutableMapping[str, Any]:
    """Notes for a new request, in the context of the caller."""
    notes: MutableMapping[str, Any] = {"request_id": secrets.token_hex(8)}
    _NOTES.set(notes)
    return notes


def note(**facts: Any) -> None:
    """Add to all log lines of this request, its access line included. Without a request: nothing happens."""
    if (notes := _NOTES.get()) is not None:
        notes.update(facts)


def request_id() -> str:
    """Of the request under way, for a 500's ``details``; empty outside of one."""
    return str((_NOTES.get() or {}).get("request_id", ""))


def masked(text: str) -> str:
    return SECRETS.sub(lambda found: (found["url"] or found["bearer"] or found["pair"] or "") + "***", text)


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a line says, in order: only known names, only short values."""
    ours = record.name.split(".")[0] in {"tower", "instances", "controls"}
    said: dict[str, Any] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:23] + "Z",
        "level": record.levelname.lower(),
        "event": record.msg if ours else record.name,
        "role": os.environ.get("TOWER_ROLE", "manage"),
        "pid": record.process,
    }
    if not ours:
        said["message"] = short(record.getMessage())
    known = {**(_NOTES.get() or {}), **record.__dict__}
    said |= {name: short(value) for name in FACTS if (value := known.get(name)) not in (None, "")}
    if record.exc_info and record.exc_info[1] is not None:
        said["error"] = short("".join(traceback.format_exception_only(record.exc_info[1])).strip())
        frames = traceback.extract_tb(record.exc_info[2])[-6:]
        said["where"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return said


def short(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return masked(str(value))[:VALUE_CHARACTERS]


class JSONLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # In ASCII: no line break, no terminal sequence and no half character gets out of its string.
        return json.dumps(facts_of(record), default=str, separators=(",", ":")).replace("\x7f", "\\u007f")


class ForPeople(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = facts_of(record)
        head = f"{said.pop('ts')[11:23]} {said.pop('level').upper():<7} {said.pop('event')}"
        said.pop("role")
        said.pop("pid")
        rest = " ".join(f"{name}={value!r}" for name, value in said.items())
        return f"{head} {rest}".encode("ascii", "backslashreplace").decode().translate(BREAKS)


class RaisedBefore(logging.Filter):
    """Holds back what psycopg says at the end of a pipeline that has failed: its error was raised."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("error ignored terminating")


class OncePerMinute(logging.Filter):
    """Lets a repeated warning through once a minute, with the count of those it held back."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str, Any], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        kind = (record.name, str(record.msg), getattr(record, "code", None))
        now = time.monotonic()
        said_at, held = self._seen.get(kind, (-QUIET_SECONDS, 0))
        if now - said_at < QUIET_SECONDS:
            self._seen[kind] = (said_at, held + 1)
            return False
        if len(self._seen) > 1000:  # messages of libraries may be built from input
            self._seen.clear()
        self._seen[kind] = (now, 0)
        if held:
            record.count = held + 1
        return True


def configuration(form: str) -> dict[str, Any]:
    """``LOGGING`` for the settings."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "once_per_minute": {"()": "tower.logs.OncePerMinute"},
            "raised_before": {"()": "tower.logs.RaisedBefore"},
        },
        "formatters": {
            "json": {"()": "tower.logs.JSONLines"},
            "text": {"()": "tower.logs.ForPeople"},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": form,
                "filters": ["once_per_minute"],
            }
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            name: {"level": "INFO", "handlers": ["stderr"], "propagate": False}
            for name in ("tower", "instances", "controls")
        }
        | {
            # Each request has its access line already; what is left here are exceptions.
            "django": {"level": "WARNING", "handlers": ["stderr"], "propagate": False},
            "django.request": {"level": "ERROR", "handlers": ["stderr"], "propagate": False},
            # They log at each failed try of a Redis that is away, which /readyz says once.
            "channels_redis": {"level": "ERROR"},
            "daphne": {"level": "WARNING"},
            "psycopg": {"filters": ["raised_before"]},
        },
    }
