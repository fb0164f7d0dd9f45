"""Dead letters of Kafka. One record cannot be taken out of a topic, so which are settled stands beside it.

The id of a letter is ``partition-offset``. Newest first is by the time of the
records, over all partitions; within one by their offsets. A page reads about
as many records as it shows, wherever in the topic it begins.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from instances.dead_letters import Letter, settled
from instances.models import SettledLetter
from instances.sources import SourceAway
from instances.sources.kafka import (
    DEAD,
    KEEPING,
    TOPIC,
    Record,
    all_of,
    away,
    edges,
    partitions,
    put_ms,
    send,
)  # fmt: skip
from tower.kafka import Address
from tower.paging import Position

#: Of one call, with all that is asked for it; and of putting back.
VISIT_SECONDS: Final = 3.0
SEND_SECONDS: Final = 5.0
#: What was settled behind the end came since that was asked for, unless it is older than any such question.
ANEW_MS: Final = 60_000
#: So many settled ones are read over rather than sought over.
READ_OVER: Final = 20


class DeadTopic:
    """For all threads; they are served one after the other."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self.topic = address.prefix + TOPIC
        self.dead = address.prefix + DEAD
        self._lock = threading.Lock()
        self._consumer: Any = None

    # -- looking

    def newest(self, limit: int, *, before: Position | None = None) -> list[Letter]:
        with self._visit(reading=True) as visit:
            bounds = {number: end for number, (_, end) in visit.edges.items()}
            if before is not None:
                # A partition that came since holds what is newer.
                bounds = {number: first for number, (first, _) in visit.edges.items()}
                bounds |= {number: below for number, below, _ in before if number in bounds}
            return list(itertools.islice(visit.walk(bounds, limit, down=True), limit))

    def oldest(self, limit: int, *, after: Position) -> list[Letter]:
        with self._visit(reading=True) as visit:
            bounds = {number: first for number, (first, _) in visit.edges.items()}
            bounds |= {number: above for number, _, above in after if number in bounds}
            return list(itertools.islice(visit.walk(bounds, limit, down=False), limit))[::-1]

    def find(self, ids: Sequence[str]) -> list[Letter]:
        with self._visit(reading=True) as visit:
            asked: dict[int, list[int]] = defaultdict(list)
            for number, offset in map(_place, ids):
                if offset in range(*visit.edges.get(number, (0, 0))):
                    asked[number] += visit.still_open(number, range(offset, offset + 1))
            found = {
                letter.id: letter
                for number, offsets in asked.items()
                for letter in visit.read(number, sorted(offsets)).values()
            }
        return [found[id] for id in ids if id in found]

    def count(self) -> int:
        with self._visit() as visit:
            there = sum(end - first for first, end in visit.edges.values())
            return there - settled.count(visit.name, visit.edges)

    # -- deeds

    def replay(self, letters: Sequence[Letter], *, by: str) -> Iterator[Letter]:
        """Put back first: a kill in between lets it be put back twice, which changes nothing.

        Beside one who drops the same letter at the same moment it may be back all the same.
        """
        with self._visit() as visit:
            name, kept = visit.name, visit.edges
        with away():
            records: list[Record] = [(letter.key, letter.raw, {}) for letter in letters]
            producer = Producer(self._address.client(**REPLAYING))
            told = send(producer, self.topic, records, SEND_SECONDS)
        back = [letter for letter, wrong in zip(letters, told, strict=True) if wrong is None]
        yield from _settled(name, kept, back, SettledLetter.REPLAYED, by)
        with away():
            for wrong in filter(None, told):
                raise KafkaException(wrong)

    def drop(self, letters: Sequence[Letter], *, by: str) -> Iterator[Letter]:
        with self._visit() as visit:
            name, kept = visit.name, visit.edges
        yield from _settled(name, kept, letters, SettledLetter.DROPPED, by)

    # -- beside

    @contextmanager
    def _visit(self, *, reading: bool = False) -> Iterator[Visit]:
        until = time.monotonic() + VISIT_SECONDS
        if not self._lock.acquire(timeout=VISIT_SECONDS):
            raise SourceAway("Kafka answers too slowly")
        try:
            with away():
                if self._consumer is None:
                    self._consumer = Consumer(self._address.client(**READING))
                visit = Visit(self._consumer, self.dead, until)
                if reading:
                    visit.forget_what_was_before()
                yield visit
        finally:
            self._lock.release()


class Visit:
    """The topic as it is found, for one call; all of it before ``until``."""

    def __init__(self, consumer: Any, topic: str, until: float) -> None:
        self._consumer, self._topic, self._until = consumer, topic, until
        told = consumer.list_topics(topic, self._left())
        places = partitions(told, topic)
        firsts, ends = edges(consumer, places, self._left()) if places else ({}, {})
        #: Of the topic on this cluster.
        self.name = f"{told.cluster_id}/{topic}"
        self.edges = {number: (firsts[number], ends[number]) for number in ends}

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise SourceAway("Kafka answers too slowly")
        return left

    def forget_what_was_before(self) -> None:
        """A topic that was made anew counts from 0: other letters have the offsets of what was settled."""
        for row in settled.lasts(self.name):
            first, end = self.edges.get(row.partition, (0, 0))
            if first <= row.offset < end:
                there = self.read(row.partition, [row.offset]).get(row.offset)
                anew = there is not None and there.died_ms != row.died_ms
            else:
                anew = end <= row.offset and row.at_ms < settled.now_ms() - ANEW_MS
            if anew:
                settled.forget(self.name, row.partition)

    def walk(self, bounds: dict[int, int], limit: int, *, down: bool) -> Iterator[Letter]:
        """From where the bounds are in each partition: those below, the newest first, or those above.

        By the times at hand and not by a time sought, since the clocks of senders differ: what the page
        before left out comes now, and nothing comes twice.
        """
        # In the order in which those of one moment are shown, so that the way back is the same.
        numbers = sorted(bounds, reverse=down)
        at_once = -(-limit // max(1, len(numbers)))
        rows = heapq.merge(
            *(self._partition(number, bounds[number], at_once, down=down) for number in numbers),
            key=lambda row: -row[1].died_ms if down else row[1].died_ms,
        )
        for (number, offset), letter in rows:
            others = [[one, bound, bound] for one, bound in bounds.items() if one != number]
            yield replace(letter, position=[*others, [number, offset, offset + 1]])
            bounds[number] = offset if down else offset + 1

    def _partition(
        self, number: int, bound: int, at_once: int, *, down: bool
    ) -> Iterator[tuple[tuple[int, int], Letter]]:
        first, end = self.edges[number]
        offsets = range(min(bound, end) - 1, first - 1, -1) if down else range(max(bound, first), end)
        waiting = self.still_open(number, offsets)
        while some := list(itertools.islice(waiting, at_once)):
            letters = self.read(number, sorted(some))
            yield from (((number, offset), letters[offset]) for offset in some if offset in letters)

    def still_open(self, number: int, offsets: range) -> Iterator[int]:
        return settled.still_open(self.name, number, offsets, before_each=self._left)

    def read(self, number: int, offsets: Sequence[int]) -> dict[int, Letter]:
        """Those of these that are there, in ascending order: transactions and compaction leave gaps."""
        found: dict[int, Letter] = {}
        for stretch in _stretches(offsets):
            wanted = set(stretch)
            self._consumer.assign([TopicPartition(self._topic, number, stretch[0])])
            try:
                for message in self._messages(stretch[-1]):
                    if (offset := int(message.offset() or 0)) in wanted:
                        found[offset] = _letter(message)
            finally:
                self._consumer.unassign()
        return found

    def _messages(self, last: int) -> Iterator[Message]:
        """What comes up to that offset, or to the end."""
        while True:
            for message in self._consumer.consume(100, min(0.1, self._left())):
                if message.error() is None:
                    yield message
                elif message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                if message.error() is not None or int(message.offset() or 0) >= last:
                    return


READING: Final[dict[str, Any]] = {
    "client.id": "tower:dead-letters",
    # No member of it; the library wants a name.
    "group.id": "tower",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "fetch.message.max.bytes": 256 << 10,
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 1 << 10,
}
REPLAYING: Final = KEEPING | {
    "client.id": "tower:replay",
    "delivery.timeout.ms": int(SEND_SECONDS * 900),
}


def _settled(
    name: str, kept: settled.Edges, letters: Iterable[Letter], deed: int, by: str
) -> Iterator[Letter]:
    by_place = {_place(letter.id): letter for letter in letters}
    rows = [(*place, letter.died_ms) for place, letter in by_place.items()]
    done = settled.settle(name, rows, deed=deed, by=by)
    settled.clear(name, kept)
    return (letter for place, letter in by_place.items() if place in done)


def _stretches(offsets: Sequence[int]) -> Iterator[list[int]]:
    stretch: list[int] = []
    for offset in offsets:
        if stretch and offset - stretch[-1] > READ_OVER:
            yield stretch
            stretch = []
        stretch.append(offset)
    if stretch:
        yield stretch


def _letter(message: Message) -> Letter:
    headers = cast(list[tuple[str, Any]], message.headers() or [])
    said = {name: value for name, value in headers if isinstance(value, bytes)}
    value = message.value()
    return Letter.of(
        f"{message.partition()}-{message.offset()}",
        put_ms(message),
        said,
        all_of(message) if value is None else value,
        key=message.key(),
    )


def _place(id: str) -> tuple[int, int]:
    number, _, offset = id.partition("-")
    return int(number), int(offset)
