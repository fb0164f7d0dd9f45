"""Where reports come from beside REST: the edge to the queue, and what every kind of queue must do.

A source delivers at least once. What becomes of an entry is decided by
``instances.pump``; a source knows neither reports nor the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol

from django.conf import settings

from tower.kafka import address, is_kafka

#: Of an entry that cannot be taken, so much is kept.
RAW_BYTES = 64 << 10
#: What a date can be made of.
LATEST_MS = 253_402_300_799_999


class SourceAway(Exception):
    """The queue does not answer, or does not take a write. Never the fault of an entry."""


class SourceRefuses(SourceAway):
    """It answers, but not to the tower: a right is missing, or the password is another."""


class Entry(NamedTuple):
    """One entry in hand. ``id`` names it in its source, in order of its coming."""

    id: str
    #: The report as it was sent; all of the entry where it carries none (``complete`` is false).
    raw: bytes
    #: When the queue took it, by the queue's clock.
    put_ms: int
    #: How often it was handed to a consumer, this time included.
    deliveries: int = 1
    complete: bool = True
    #: What its sender named it by, where the queue has such a thing; kept with what cannot be taken.
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An entry that cannot be taken, and why; ``field`` is empty where no field is at fault."""

    entry: Entry
    reason: str
    code: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """What waits in a queue: not handed out yet (``lag``), handed out and not committed (``pending``)."""

    lag: int = 0
    pending: int = 0
    #: Age of the oldest of both.
    oldest_ms: int = 0
    #: Consumers that asked lately.
    consumers: int = 0


class EventSource(Protocol):
    """Every call may raise ``SourceAway``; every call may be repeated."""

    def read(self, most: int) -> list[Entry]:
        """What comes next, also what a consumer that died left; empty after a short wait.

        An entry that may have killed consumers comes with few others, at last alone.
        """

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what cannot be taken. Before ``acknowledge``: in the other order a kill would lose it."""

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        """Have these never delivered again, after their commit; they may be forgotten."""

    def release(self, entries: Sequence[Entry], *, at_once: bool) -> None:
        """Give back what was not decided on: this delivery does not count.

        It comes again ``at_once``, or when it has lain as long as a dead consumer's.
        """

    def standing(self) -> Standing:
        """What waits; asked by others than the consumer."""

    def close(self) -> None:
        """Leave. What is still in hand comes to another."""


def broker() -> str:
    """What the queue is, to people."""
    return "Kafka" if is_kafka(str(settings.TOWER_EVENTS_URL)) else "Redis"


def queue(*, consuming: bool = False, name: str = "") -> EventSource:
    """The queue of this tower, for one who reads it or one who looks at it."""
    url = str(settings.TOWER_EVENTS_URL)
    if not is_kafka(url):
        from instances.sources import streams

        return streams.queue(consuming=consuming, name=name)
    return _kafka_topic(url, name) if consuming else _looked_at(url)


def _kafka_topic(url: str, name: str) -> EventSource:
    from instances.sources.kafka import KafkaTopic  # its library is loaded where it is wanted

    return KafkaTopic(address(url), name=name)


@cache
def _looked_at(url: str) -> EventSource:
    return _kafka_topic(url, "")
