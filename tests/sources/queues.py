"""The kinds of queue that the contract is held against: each is put into, read, taken away and given back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Protocol

from confluent_kafka import Consumer, Producer, TopicPartition

from instances.sources import EventSource
from instances.sources.kafka import KafkaTopic
from instances.sources.streams import DEAD, GROUP, STREAM, RedisStream
from tests.servers import Valkey, until
from tests.sources.broker import Broker
from tests.sources.mock import Mock
from tower import redis
from tower.kafka import Address

#: Long enough for a machine that has much to do. (The mock lets nobody in before it has passed but for 1 s.)
SESSION_MS = {Mock: 2_000, Broker: 6_000}


class Queue(Protocol):
    """``key`` says what belongs together; what has one key comes in order."""

    #: Where a tower finds it (``TOWER_EVENTS_URL``), and what its pages call it.
    url: str
    name: str

    def put(self, *raws: bytes, key: str = "") -> None: ...

    def put_without_report(self) -> None: ...

    def source(self, *, idle_ms: int = 30_000) -> EventSource:
        """One more consumer; it is there when this returns."""

    def kill(self, source: EventSource) -> None:
        """Nothing of its consumer runs any more; what it had in hand is another's at once."""

    def letters(self) -> list[dict[str, str]]: ...

    def stop(self) -> None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


class Streams:
    url, name = "", "Redis"

    def __init__(self, server: Valkey) -> None:
        self._server = server

    def put(self, *raws: bytes, key: str = "") -> None:
        for raw in raws:
            redis.events().xadd(STREAM, {"event": raw})

    def put_without_report(self) -> None:
        redis.events().xadd(STREAM, {"evnt": b"\xff"})

    def source(self, *, idle_ms: int = 30_000) -> RedisStream:
        made = RedisStream(redis.events, wait_ms=10, idle_ms=idle_ms)
        made._make_group()
        return made

    def kill(self, source: EventSource) -> None:
        assert isinstance(source, RedisStream)
        client: Any = redis.events()
        for one in client.xpending_range(STREAM, GROUP, "-", "+", 10_000, source.consumer):
            client.xclaim(
                STREAM, GROUP, source.consumer, 0, [one["message_id"]],
                idle=3_600_000, retrycount=one["times_delivered"], justid=True,
            )  # fmt: skip

    def letters(self) -> list[dict[str, str]]:
        rows: Any = redis.events().xrange(DEAD)
        return [{name.decode(): _text(value) for name, value in said.items()} for _, said in rows]

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()

    def close(self) -> None: ...


class Topics:
    """On the mock, or on a real broker, of which each test has topics of its own."""

    name = "Kafka"

    def __init__(self, server: Mock | Broker, *, partitions: int = 3, dead_partitions: int = 1) -> None:
        self.server = server
        self.address = Address(
            server.servers, f"t{secrets.token_hex(6)}.", {"security.protocol": "PLAINTEXT"}
        )
        server.create(self.address.prefix + "tms.task.events", partitions)
        server.create(self.address.prefix + "tms.task.events.dead", dead_partitions)
        self.url = f"kafka://{server.servers}/?prefix={self.address.prefix}"
        self._producer: Any = Producer(self.address.client(**{"linger.ms": 0}))
        self._made: list[KafkaTopic] = []

    def put(self, *raws: bytes | None, key: str = "") -> None:
        topic = self.address.prefix + "tms.task.events"
        for raw in raws:
            self._producer.produce(topic, raw, key=key or None)
        assert self._producer.flush(30) == 0

    def put_without_report(self) -> None:
        self.put(None, key="T")

    def source(self, *, idle_ms: int = 30_000) -> KafkaTopic:
        session_ms = SESSION_MS[type(self.server)]
        made = KafkaTopic(self.address, wait_ms=20, idle_ms=idle_ms, session_ms=session_ms)
        self._made.append(made)
        assigned, told = made._assigned, list[Any]()
        made._assigned = lambda *args: told.append(args) or assigned(*args)  # type: ignore[method-assign, func-returns-value]

        def is_member() -> bool:
            # Those that are there already have to be asked, too, or nobody is let in.
            for one in self._made:
                if one is made or one._consumer is not None:
                    one.read(0)
            return bool(told)

        until(is_member, "it is in the group", every=0)
        return made

    def kill(self, source: EventSource) -> None:
        assert isinstance(source, KafkaTopic)
        consumer, source._consumer = source._consumer, None
        source._shares.clear()  # so that leaving says nothing, and does at once what the time would do
        source._unsorted.clear()
        consumer.close()

    def letters(self) -> list[dict[str, str]]:
        topic = self.address.prefix + "tms.task.events.dead"
        reader: Any = Consumer(self.address.client(**{"group.id": "reader", "enable.auto.commit": False}))
        _, end = reader.get_watermark_offsets(TopicPartition(topic, 0), 10)
        reader.assign([TopicPartition(topic, 0, 0)])
        found: list[Any] = []
        while len(found) < end:
            found += reader.consume(100, 0.1)
        reader.close()
        return [
            {name: _text(value) for name, value in one.headers()} | {"raw": _text(one.value())}
            for one in found
        ]

    def stop(self) -> None:
        # A broker that is killed takes half a minute to come back; one that hangs is as good as away.
        self.server.freeze() if isinstance(self.server, Broker) else self.server.stop()

    def start(self) -> None:
        self.server.thaw() if isinstance(self.server, Broker) else self.server.start()

    def close(self) -> None:
        for made in self._made:
            if made._consumer is not None:
                self.kill(made)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


#: Makes a queue of a kind, with nothing in it.
Make = Callable[[], Queue]
