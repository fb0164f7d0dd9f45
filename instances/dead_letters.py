"""What the queue could not take: looked at, put back, dropped. Knows no request.

Kept in a stream beside that of the reports (``instances.sources.streams``),
and not in the database: whoever sends to the one may read why in the other.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from instances.sources import RAW_BYTES, SourceAway
from instances.sources.streams import DEAD, STREAM
from tower.redis import events

log = logging.getLogger(__name__)

ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
#: Of the raw text, in a row.
GLANCE_CHARACTERS: Final = 160
#: What would be drawn as nothing, or as something else.
_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter as it lies there; ``id`` is its own, ``entry`` that of the entry it was."""

    id: str
    entry: str
    reason: str
    code: str
    field: str
    raw: bytes
    first_seen: str
    deliveries: int

    @property
    def died_ms(self) -> int:
        return int(self.id.partition("-")[0])

    @property
    def text(self) -> str:
        """The raw bytes for a reader: whatever is not seen is spelled out."""
        said = self.raw.decode(errors="backslashreplace")
        return _UNSEEN.sub(lambda found: f"\\x{ord(found[0]):02x}", said)

    @property
    def glance(self) -> str:
        return " ".join(self.text[: GLANCE_CHARACTERS * 2].split())[:GLANCE_CHARACTERS]

    @property
    def whole(self) -> bool:
        """One that was cut cannot be put back."""
        return len(self.raw) < RAW_BYTES


@dataclass(slots=True)
class Replayed:
    done: int = 0
    cut: int = 0
    gone: int = 0


def newest(limit: int, *, before: str | None = None) -> list[Letter]:
    with _asked() as client:
        return [
            _letter(id, said)
            for id, said in client.xrevrange(DEAD, f"({before}" if before else "+", "-", limit)
        ]


def oldest(limit: int, *, after: str) -> list[Letter]:
    """Those just behind one, the newest first."""
    with _asked() as client:
        return [_letter(id, said) for id, said in client.xrange(DEAD, f"({after}", "+", limit)][::-1]


def find(ids: Sequence[str]) -> list[Letter]:
    with _asked() as client:
        pipe = client.pipeline(transaction=False)
        for id in ids:
            pipe.xrange(DEAD, id, id)
        return [_letter(id, said) for rows in pipe.execute() for id, said in rows]


def count() -> int:
    with _asked() as client:
        return int(client.xlen(DEAD))


def replay(ids: Sequence[str], *, by: str) -> Replayed:
    """Put reports back into the queue. One that dies here is there twice, and counts once all the same."""
    letters = find(ids)
    outcome = Replayed(gone=len(ids) - len(letters))
    for letter in letters:
        if not letter.whole:
            outcome.cut += 1
            continue
        with _asked() as client:
            client.xadd(STREAM, {"event": letter.raw})
            client.xdel(DEAD, letter.id)
        outcome.done += 1
        _audit("dead_letter_replayed", letter, by)
    return outcome


def drop(ids: Sequence[str], *, by: str) -> int:
    """Remove for good; how many were there."""
    dropped = 0
    for letter in find(ids):
        with _asked() as client:
            gone = client.xdel(DEAD, letter.id)
        if gone:
            dropped += 1
            _audit("dead_letter_dropped", letter, by)
    return dropped


def _audit(deed: str, letter: Letter, by: str) -> None:
    log.info(deed, extra={"user": by, "entry": letter.entry, "code": letter.code})


def _letter(id: bytes, said: dict[bytes, bytes]) -> Letter:
    def text(name: bytes) -> str:
        return said.get(name, b"").decode(errors="backslashreplace")

    return Letter(
        id.decode(),
        text(b"id"),
        text(b"reason"),
        text(b"code"),
        text(b"field"),
        said.get(b"raw", b""),
        text(b"first_seen"),
        int(text(b"deliveries") or 0),
    )


@contextmanager
def _asked() -> Iterator[Any]:
    """``Any``: the client is the synchronous one, whose stubs promise a coroutine or its value."""
    try:
        yield events()
    except redis.RedisError as error:
        raise SourceAway(str(error)) from error


@dataclass(frozen=True, slots=True)
class Choice:
    """What a form chose."""

    action: str
    ids: Sequence[str] = field(default_factory=tuple)

    @classmethod
    def of(cls, posted: Any) -> Choice:
        # Without scripts nothing ticks all boxes: the page names what it shows.
        named = posted.getlist("shown" if posted.get("all") else "letter")
        ids = dict.fromkeys(id for id in named if ID.fullmatch(id))
        return cls(posted.get("action", ""), tuple(ids))
