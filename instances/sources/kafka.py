"""Reports from a Kafka topic, by consumer group. Whatever the cluster, the meaning is that of the stream.

Topics (contract, section 6), and the group, behind the prefix of the address:

    tms.task.events        key: ``trace_id``; value: the TaskEvent JSON. Group ``tower``
    tms.task.events.dead   what cannot be taken: key and value as sent, headers those of ``_headers``

An offset is committed after the database only, and with it stands how often
what follows was handed out (``instances.sources.offsets``). Nothing is sought
anew: what is given back waits here, and the next owner of a partition begins
where the commit stands.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

import orjson
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)  # fmt: skip
from confluent_kafka.admin import AdminClient
from django.conf import settings

from instances.sources import LATEST_MS, RAW_BYTES, DeadLetter, Entry, SourceAway, SourceRefuses, Standing
from instances.sources.offsets import Offsets, handed_out
from tower import metrics
from tower.kafka import Address

log = logging.getLogger(__name__)

TOPIC: Final = "tms.task.events"
DEAD: Final = "tms.task.events.dead"
GROUP: Final = "tower"

#: A consumer that is not heard for so long is gone, and its partitions are another's.
SESSION_MS: Final = 10_000
#: One that does not read for so long (its database is away) gives them up as well, and asks for them again.
SILENCE_MS: Final = 300_000
#: What is given back not at once waits so long.
ASIDE_MS: Final = 30_000
#: How long a read waits for the first entry.
WAIT_MS: Final = 500
#: Entries of one call, and bytes after which nothing more is fetched.
CHUNK: Final = 500
FULL_BYTES: Final = 16 << 20
#: For an answer of the cluster: to the consumer, and to somebody who looks at it and must not wait.
ASK_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.7
KEEP_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0
#: Longer than the id of any run. Such a key could make a dead letter too large, and is not kept with it.
KEY_BYTES: Final = 1 << 10

#: Not the fault of a cluster that is away: the partitions move, or are another's already.
MOVING: Final = {
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._STATE,
    KafkaError._NO_OFFSET,
    KafkaError._ASSIGNMENT_LOST,
}


class KafkaTopic:
    """One consumer of the group. Not for several threads; ``standing`` may be asked from anywhere."""

    def __init__(
        self,
        address: Address,
        *,
        name: str = "",
        wait_ms: int = WAIT_MS,
        idle_ms: int = ASIDE_MS,
        session_ms: int = SESSION_MS,
    ) -> None:
        self._address = address
        self.topic = address.prefix + TOPIC
        self.dead = address.prefix + DEAD
        self.group = address.prefix + GROUP
        self._name = name
        self._wait, self._idle = wait_ms / 1000, idle_ms / 1000
        self._session_ms = session_ms
        self._consumer: Any = None
        self._producer: Any = None
        self._look = Look(address)
        #: By number, of the partitions that are this consumer's.
        self._shares: dict[int, Offsets] = {}
        #: What is committed of them.
        self._said: dict[int, tuple[int, str]] = {}
        #: Partitions whose commit was not read yet, and what came of any and is not sorted in.
        self._unknown: set[int] = set()
        self._unsorted: list[Message] = []
        #: What was asked of the cluster last and is not answered.
        self._asked: Asked | None = None
        #: The cluster is said to be away, or the topic not to be there.
        self._trouble: KafkaError | None = None

    # -- in

    def read(self, most: int) -> list[Entry]:
        with away():
            self._join()
            self._commit()
            self._fetch(most)
            self._learn()
            self._sort()
            hand = self._chosen(most)
            if not hand:
                self._ask_whether_it_is_there()
                return []
            return self._handed_out(hand)

    def _join(self) -> None:
        if self._consumer is not None:
            return
        self._consumer = Consumer(
            self._address.client(
                **{
                    "client.id": f"tower:{self._name}" if self._name else "tower",
                    "group.id": self.group,
                    # Partitions that stay are read on while others move.
                    "partition.assignment.strategy": "cooperative-sticky",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "earliest",
                    "allow.auto.create.topics": True,
                    "session.timeout.ms": self._session_ms,
                    "heartbeat.interval.ms": max(100, self._session_ms // 5),
                    "max.poll.interval.ms": SILENCE_MS,
                    # What is fetched ahead, beside what is in hand.
                    "queued.max.messages.kbytes": FULL_BYTES >> 10,
                    "fetch.message.max.bytes": 1 << 20,
                    "isolation.level": "read_committed",
                    "error_cb": self._hear,
                }
            )
        )
        self._consumer.subscribe(
            [self.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
        )

    def _hear(self, error: KafkaError) -> None:
        if error.code() in TROUBLES and (
            self._trouble is None or error.code() != KafkaError._ALL_BROKERS_DOWN
        ):
            self._trouble = error

    def _fetch(self, most: int) -> None:
        """Calls back, too, when partitions come and go: so it asks for one where there is no room as well."""
        held = sum(len(share.open) for share in self._shares.values()) + len(self._unsorted)
        size = sum(share.bytes for share in self._shares.values())
        wait = 0.0 if self._has_waiting() else self._wait
        want = 1
        while True:
            came = self._consumer.consume(want, wait)
            for message in came:
                if message.error():
                    self._refuse(message.error())
                else:
                    self._unsorted.append(message)
                    size += len(message)
            held += len(came)
            wait, room = 0.0, min(CHUNK, most - held)
            if not came or room <= 0 or size >= FULL_BYTES:
                return
            want = room

    def _has_waiting(self) -> bool:
        now = time.monotonic()
        return any(True for share in self._shares.values() for _ in share.waiting(now))

    def _refuse(self, error: KafkaError) -> None:
        if error.fatal():
            self._forget()
            raise KafkaException(error)
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            log.warning("queue_left", extra={"error": error.str()})
            return
        self._trouble = error

    def _learn(self) -> None:
        """Where the group stands in partitions that are new here, and what was noted there."""
        if not self._unknown:
            return
        places = [TopicPartition(self.topic, number) for number in sorted(self._unknown)]
        for place in self._consumer.committed(places, ASK_SECONDS):
            if place.error:
                raise KafkaException(place.error)
            start = place.offset if place.offset >= 0 else None
            self._shares[place.partition] = Offsets(start, place.metadata or "")
            if start is not None:
                self._said[place.partition] = (start, place.metadata or "")
        self._unknown.clear()

    def _sort(self) -> None:
        came, self._unsorted = self._unsorted, []
        for message in came:
            number, offset = int(message.partition() or 0), int(message.offset() or 0)
            share = self._shares.get(number)
            if share is None:  # it is another's by now
                continue
            if share.behind is not None and offset != share.behind:
                share = self._jumped(number, share, offset)
            share.add(offset, _entry(message))

    def _jumped(self, number: int, share: Offsets, offset: int) -> Offsets:
        assert share.behind is not None
        if offset < share.behind:  # the topic was made anew, and begins again
            self._shares[number] = Offsets()
            return self._shares[number]
        # Transactions and compaction leave gaps, too. What lies before the first entry is gone.
        first, _ = self._consumer.get_watermark_offsets(TopicPartition(self.topic, number), ASK_SECONDS)
        lost = min(first, offset) - share.behind
        if lost > 0:
            metrics.QUEUE_LOST.inc(lost)
            log.error("queue_lost", extra={"count": lost})
        return share

    # -- who gets what

    def _chosen(self, most: int) -> dict[int, list[int]]:
        """By partition. An entry that may have killed its reader has few beside it, at last none."""
        chosen: dict[int, list[int]] = {}
        now = time.monotonic()
        for number, share in self._shares.items():
            row = list(itertools.islice(share.waiting(now), most))
            if row and (few := _few_beside(share.tries(row[0]))):
                tries = share.tries(row[0])
                return {number: [offset for offset in row[:few] if share.tries(offset) == tries]}
            row = list(itertools.takewhile(lambda offset: not _few_beside(share.tries(offset)), row))  # noqa: B023
            if row[:most]:
                chosen[number] = row[:most]
                most -= len(chosen[number])
        return chosen

    def _handed_out(self, hand: dict[int, list[int]]) -> list[Entry]:
        """Noted before it is handed out: a reader that dies of it can note nothing any more."""
        found: list[Entry] = []
        for number, offsets in hand.items():
            share = self._shares[number]
            for offset in offsets:
                entry, tries = share.open[offset], share.tries(offset)
                found.append(_counted(entry, tries + 1) if tries else entry)
            share.take(offsets)
        noted = False
        try:
            noted = self._commit()
        finally:
            if not noted:
                for number, offsets in hand.items():
                    self._shares[number].give_back(offsets)
        return found if noted else []

    # -- out

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        with away():
            if self._producer is None:
                self._producer = Producer(self._address.client(**KEEPING))
            kept = send(
                self._producer,
                self.dead,
                [
                    (_short(letter.entry.key), letter.entry.raw[:RAW_BYTES], _headers(letter))
                    for letter in letters
                ],
                KEEP_SECONDS,
            )
            for wrong in filter(None, kept):
                raise KafkaException(wrong)

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        for number, offset in map(_place, entries):
            if share := self._shares.get(number):
                share.finish(offset)
        with away():
            self._commit()

    def release(self, entries: Sequence[Entry], *, at_once: bool) -> None:
        until = None if at_once else time.monotonic() + self._idle
        for number, places in itertools.groupby(sorted(map(_place, entries)), key=lambda place: place[0]):
            if share := self._shares.get(number):
                share.give_back([offset for _, offset in places], until=until)
        with away():
            self._commit()

    def _commit(self, numbers: Iterable[int] | None = None, *, called_back: bool = False) -> bool:
        """Say what has changed; false where the partitions are on the move, and it is to be said again.

        ``called_back``: from within another call, which a thread would wait for.
        """
        news: dict[int, tuple[int, str]] = {}
        for number in list(self._shares if numbers is None else numbers):
            share = self._shares.get(number)
            if share is None or share.low is None or number in self._unknown:
                continue
            if self._said.get(number, (None, "")) != (share.low, share.note):
                news[number] = (share.low, share.note)
        if not news:
            return True
        places = [TopicPartition(self.topic, number, low, note) for number, (low, note) in news.items()]
        say = partial(self._consumer.commit, offsets=places, asynchronous=False)
        for number in news:  # what is not answered may have been heard all the same
            self._said.pop(number, None)
        try:
            told = say() if called_back else self._ask(say)
        except KafkaException as error:
            if error_of(error).code() in MOVING:
                return False
            raise
        for place in told:
            if place.error is None:
                self._said[place.partition] = news[place.partition]
        wrong = [place.error for place in told if place.error is not None]
        if any(error.code() not in MOVING for error in wrong):
            raise KafkaException(wrong[0])
        return not wrong

    def _ask(self, call: Callable[[], Any]) -> Any:
        """One call at a time: behind one that hangs none is sent."""
        if self._asked is not None:
            # What it says is said again: nothing was taken for said.
            self._asked.wait(0)
        self._asked = Asked(call)
        self._asked.wait(ANSWER_SECONDS)
        answered, self._asked = self._asked, None
        return answered.result()

    # -- partitions come and go; called back by ``consume`` and ``close``

    def _assigned(self, _: Any, places: list[TopicPartition]) -> None:
        for place in places:
            self._shares[place.partition] = Offsets()
            self._unknown.add(place.partition)

    def _revoked(self, _: Any, places: list[TopicPartition]) -> None:
        """Nobody dies of it: what is still in hand here was not handed out for the next owner."""
        numbers = [place.partition for place in places if place.partition in self._shares]
        for number in numbers:
            self._shares[number].give_back(list(self._shares[number].in_hand))
        try:
            self._commit(numbers, called_back=True)
        except KafkaException as error:  # done twice then, and the second time changes nothing
            log.warning("queue_unsaid", extra={"error": str(error_of(error))})
        self._drop(numbers)

    def _lost(self, _: Any, places: list[TopicPartition]) -> None:
        self._drop([place.partition for place in places])

    def _drop(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._shares.pop(number, None)
            self._said.pop(number, None)
            self._unknown.discard(number)
        self._unsorted = [one for one in self._unsorted if one.partition() in self._shares]

    def _forget(self) -> None:
        """Join the group anew, as another."""
        self._consumer = None
        self._drop(list(self._shares))

    # -- beside

    def _ask_whether_it_is_there(self) -> None:
        """A consumer whose cluster is away is told so once, and then reads nothing for ever."""
        if self._trouble is None:
            return
        try:
            told = self._consumer.list_topics(self.topic, ASK_SECONDS).topics[self.topic]
        except KafkaException as error:  # that it was not heard in time says less than what was heard before
            raise SourceAway(self._trouble.str()) from error
        if told.error is not None:
            raise SourceAway(f"{self.topic}: {told.error.str()}")
        self._trouble = None

    def standing(self) -> Standing:
        with away():
            return self._look.at(self.topic, self.group)

    def close(self) -> None:
        if self._consumer is None:
            return
        consumer, said = self._consumer, False
        try:
            with away():
                if self._trouble is None:
                    said = self._commit()
        finally:
            if not said:
                self._drop(list(self._shares))
            self._forget()
            Asked(consumer.close).wait(ANSWER_SECONDS)


KEEPING: Final[dict[str, Any]] = {
    "client.id": "tower:dead-letters",
    "enable.idempotence": True,
    "delivery.timeout.ms": int(KEEP_SECONDS * 900),
    "linger.ms": 0,
    "compression.type": "lz4",
}

REFUSALS: Final = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}
TROUBLES: Final = REFUSALS | {KafkaError._ALL_BROKERS_DOWN, KafkaError._SSL, KafkaError._RESOLVE}


class Look:
    """What waits, for somebody who is no member of the group. Its clients are made when first asked."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._admin: Any = None

    def at(self, topic: str, group: str) -> Standing:
        with self._lock:
            self._open(group)
            places = partitions(self._consumer.list_topics(topic, LOOK_SECONDS), topic)
            if not places:
                return Standing(consumers=self._members(group))
            firsts, ends = edges(self._consumer, places, LOOK_SECONDS)
            lag = pending = 0
            unfinished: list[TopicPartition] = []
            for place in self._consumer.committed(places, LOOK_SECONDS):
                first, end = firsts[place.partition], ends[place.partition]
                low = max(place.offset, first) if place.offset >= 0 else first
                out = min(end, max(low, handed_out(low, place.metadata or "")))
                pending += out - low
                lag += max(0, end - out)
                if low < end:
                    unfinished.append(TopicPartition(topic, place.partition, low))
            oldest = self._oldest(unfinished)
            return Standing(lag, pending, oldest, self._members(group))

    def _open(self, group: str) -> None:
        if self._consumer is not None:
            return
        self._consumer = Consumer(
            self._address.client(
                **{
                    "client.id": "tower:look",
                    "group.id": group,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "earliest",
                    "fetch.message.max.bytes": 1 << 16,
                    "fetch.wait.max.ms": 100,
                    "queued.max.messages.kbytes": 1 << 10,
                }
            )
        )
        self._admin = AdminClient(self._address.client(**{"client.id": "tower:look"}))

    def _oldest(self, unfinished: list[TopicPartition]) -> int:
        """Age of the oldest, in ms: the first of each partition is read for it."""
        if not unfinished:
            return 0
        now = time.time_ns() // 1_000_000
        age, left = 0, {place.partition for place in unfinished}
        until = time.monotonic() + LOOK_SECONDS
        self._consumer.assign(unfinished)
        try:
            while left and time.monotonic() < until:
                for message in self._consumer.consume(len(left), 0.05):
                    if not message.error() and message.partition() in left:
                        left.discard(message.partition())
                        age = max(age, now - put_ms(message))
        finally:
            self._consumer.unassign()
        return age

    def _members(self, group: str) -> int:
        """None where the cluster does not tell (a right that is missing)."""
        try:
            (asked,) = self._admin.describe_consumer_groups([group], request_timeout=LOOK_SECONDS).values()
            return len(asked.result().members)
        except KafkaException:
            return 0


def partitions(told: Any, topic: str) -> list[TopicPartition]:
    """Those of a topic, of what ``list_topics`` said."""
    found = told.topics[topic]
    if found.error is None:
        return [TopicPartition(topic, number) for number in sorted(found.partitions)]
    if found.error.code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE}:
        return []  # nobody has sent anything yet
    raise KafkaException(found.error)


def edges(
    consumer: Any, places: list[TopicPartition], seconds: float
) -> tuple[dict[int, int], dict[int, int]]:
    """By partition: the first offset that is kept, and that behind the last."""
    first, end = (
        consumer.offsets_for_times(
            [TopicPartition(place.topic, place.partition, edge) for place in places], seconds
        )
        for edge in (OFFSET_BEGINNING, OFFSET_END)
    )
    for one in (*first, *end):
        if one.error:
            raise KafkaException(one.error)
    return ({one.partition: one.offset for one in first}, {one.partition: one.offset for one in end})


#: Key, value, headers.
Record = tuple[bytes | None, bytes, dict[str, str]]


def send(producer: Any, topic: str, records: Sequence[Record], seconds: float) -> list[KafkaError | None]:
    """What the cluster says of each. When this returns, none of them is on its way."""
    told: list[KafkaError | None] = [KafkaError(KafkaError._TIMED_OUT)] * len(records)

    def hear(at: int, error: KafkaError | None, _: Message) -> None:
        told[at] = error

    for at, (key, value, headers) in enumerate(records):
        producer.produce(topic, value, key, headers=headers, on_delivery=partial(hear, at))
        producer.poll(0)
    if producer.flush(seconds):
        producer.purge()
        producer.flush(1)
    return told


class Asked:
    """A call that has no end of its own where a broker hangs: in a thread that nobody has to wait for."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._done = threading.Event()
        self._answer: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="kafka", daemon=True).start()

    def _run(self) -> None:
        try:
            self._answer = self._call()
        except BaseException as error:
            self._error = error
        self._done.set()

    def wait(self, seconds: float) -> None:
        if not self._done.wait(seconds):
            raise SourceAway("Kafka does not answer")

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._answer


@contextmanager
def away() -> Iterator[None]:
    try:
        yield
    except (KafkaException, BufferError) as error:
        said = error_of(error)
        if not isinstance(said, KafkaError):
            raise SourceAway(str(error)) from error
        raise (SourceRefuses if said.code() in REFUSALS else SourceAway)(said.str()) from error


def error_of(error: Exception) -> Any:
    return error.args[0] if error.args else error


def _few_beside(tries: int) -> int:
    """How many may come together that were handed out so often; 0 for any number."""
    left = int(settings.TOWER_MAX_DELIVERIES) - tries - 1
    return 0 if left > 1 else 20 if left == 1 else 1


def _counted(entry: Entry, deliveries: int) -> Entry:
    return entry._replace(deliveries=deliveries)


def _entry(message: Message) -> Entry:
    value = message.value()
    raw = all_of(message) if value is None else value
    return Entry(
        f"{message.partition()}-{message.offset()}",
        raw,
        put_ms(message),
        1,
        value is not None,
        message.key(),
    )


def all_of(message: Message) -> bytes:
    """What an entry without a report holds instead, for people to read."""
    headers = cast(list[tuple[str, Any]], message.headers() or [])
    said = {name: text_of(value) for name, value in headers}
    return orjson.dumps({"key": text_of(message.key()), "headers": said})


def text_of(raw: Any) -> str | None:
    return raw.decode(errors="backslashreplace") if isinstance(raw, bytes) else raw


def put_ms(message: Message) -> int:
    kind, at_ms = message.timestamp()
    return 0 if kind == TIMESTAMP_NOT_AVAILABLE else int(at_ms)


def _short(key: bytes | None) -> bytes | None:
    return key if key is not None and len(key) <= KEY_BYTES else None


def _place(entry: Entry) -> tuple[int, int]:
    partition, _, offset = entry.id.partition("-")
    return int(partition), int(offset)


def _headers(letter: DeadLetter) -> dict[str, str]:
    entry = letter.entry
    seen = datetime.fromtimestamp(min(max(0, entry.put_ms), LATEST_MS) / 1000, UTC)
    return {
        "id": entry.id,
        "reason": letter.reason,
        "code": letter.code,
        "field": letter.field,
        "first_seen": seen.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "deliveries": str(entry.deliveries),
    }
