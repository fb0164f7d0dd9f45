"""What the queue could not take: looked at, put back, dropped. Knows no request.

Kept beside the reports, where the queue is (``instances.sources``), and not in
the database: whoever sends to the one may read why in the other. What a page
asks for is asked here; which queue it is knows ``place`` alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol

from django.conf import settings

from instances.sources import LATEST_MS, RAW_BYTES
from tower.kafka import address, is_kafka
from tower.paging import Position

log = logging.getLogger(__name__)

ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
#: Of the raw text, in a row; of a word beside it, which anybody may have written.
GLANCE_CHARACTERS: Final = 160
WORD_CHARACTERS: Final = 2_000
#: Letters of a deed that are in memory at once: 6 MiB at most.
STEP: Final = 100
#: What would be drawn as nothing, or as something else.
_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter as it lies there; ``id`` is its own, ``entry`` that of the entry it was."""

    id: str
    died_ms: int
    entry: str
    reason: str
    code: str
    field: str
    raw: bytes
    first_seen: str
    deliveries: int
    #: What said which run it is of, where the queue knows that.
    key: bytes | None = None
    #: Where the list goes on from here, in both directions.
    position: Position = None

    @classmethod
    def of(cls, id: str, died_ms: int, said: dict[str, bytes], raw: bytes, **more: Any) -> Letter:
        """By what stands beside it. Anybody may have put it there: nothing need be so."""

        def word(name: str) -> str:
            return said.get(name, b"")[:WORD_CHARACTERS].decode(errors="backslashreplace")

        times = word("deliveries")
        return cls(
            id,
            min(max(0, died_ms), LATEST_MS),
            word("id") or id,
            word("reason"),
            word("code"),
            word("field"),
            raw[:RAW_BYTES],
            word("first_seen"),
            int(times) if re.fullmatch("[0-9]{1,9}", times) else 0,
            **more,
        )

    @property
    def title(self) -> str:
        return self.code or self.id

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


class Place(Protocol):
    """Where dead letters lie. Every call may raise ``SourceAway``, and does so within seconds."""

    def newest(self, limit: int, *, before: Position | None = None) -> list[Letter]:
        """The newest first."""

    def oldest(self, limit: int, *, after: Position) -> list[Letter]:
        """Those just behind one, the newest first."""

    def find(self, ids: Sequence[str]) -> list[Letter]: ...

    def count(self) -> int: ...

    def replay(self, letters: Sequence[Letter], *, by: str) -> Iterator[Letter]:
        """Those that this call, and no other, put back into the queue."""

    def drop(self, letters: Sequence[Letter], *, by: str) -> Iterator[Letter]:
        """Those that this call, and no other, removed."""


def place() -> Place:
    """That of this tower."""
    url = str(settings.TOWER_EVENTS_URL)
    if is_kafka(url):
        return _topic(url)
    from instances.dead_letters.stream import DeadStream

    return DeadStream()


@cache
def _topic(url: str) -> Place:
    from instances.dead_letters.topic import DeadTopic  # its library is loaded where it is wanted

    return DeadTopic(address(url))


# -- deeds


@dataclass(slots=True)
class Replayed:
    done: int = 0
    cut: int = 0
    gone: int = 0


def replay(ids: Sequence[str], *, by: str) -> Replayed:
    """Put reports back into the queue. One that dies here is there twice, and counts once all the same."""
    outcome = Replayed()
    for some in _steps(ids):
        letters = place().find(some)
        whole = [letter for letter in letters if letter.whole]
        done = 0
        for letter in place().replay(whole, by=by):
            _audit("dead_letter_replayed", letter, by)
            done += 1
        outcome.done += done
        outcome.cut += len(letters) - len(whole)
        outcome.gone += len(some) - len(letters) + len(whole) - done
    return outcome


def drop(ids: Sequence[str], *, by: str) -> int:
    """Remove for good; how many were there."""
    dropped = 0
    for some in _steps(ids):
        for letter in place().drop(place().find(some), by=by):
            _audit("dead_letter_dropped", letter, by)
            dropped += 1
    return dropped


def _steps(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[at : at + STEP] for at in range(0, len(ids), STEP))


def _audit(deed: str, letter: Letter, by: str) -> None:
    log.info(deed, extra={"user": by, "entry": letter.entry, "code": letter.code})


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
