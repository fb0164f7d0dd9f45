"""Commands where actors read them. Knows no database: what to send is handed in.

Keys (contract, section 5):

    cmd:instance:<trace_id>   hash, one per tree, so that a cluster keeps a tree's commands in one slot
        global_action         RUN, PAUSE or CANCEL for the whole tree
        <task_id>             the same for that task and all below it
        #<target>             number of the control that stands there (#global_action, #<task_id>)
    cmd:instance:<trace_id>   channel: each control that was written, as its ControlEvent JSON
    cmd:tower:epoch           the sentinel: missing means that Redis lost its data
    {cmd:tower:epoch}:restoring
                              who fills an emptied Redis; in the sentinel's slot, gone when silent for 5 s

Actors may only read. Every write is one of the scripts below, and the greater
number wins: request, sweeper and restore may deliver in any order, any number of times.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, cast

import redis

from controls.policy import GLOBAL
from tower.schemas import ControlAction

SENTINEL: Final = "cmd:tower:epoch"
RESTORING: Final = "{cmd:tower:epoch}:restoring"
#: Live as long as a restore says something at least this often.
RESTORING_MS: Final = 5_000
#: Commands of one round trip of a restore.
CHUNK: Final = 500
#: Matches the channels of all trees; the sweeper listens there.
CHANNELS: Final = "cmd:instance:*"

#: KEYS: the hash, which is also the channel. ARGV: place, action, number, ControlEvent JSON.
PUT: Final = """
local stands = redis.call('HMGET', KEYS[1], ARGV[1], '#' .. ARGV[1])
if stands[1] == 'CANCEL' and ARGV[2] ~= 'CANCEL' then return 0 end
if tonumber(ARGV[3]) <= (tonumber(stands[2] or '') or 0) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], '#' .. ARGV[1], ARGV[3])
redis.call('PUBLISH', KEYS[1], ARGV[4])
return 1
"""

#: KEYS: who restores. ARGV: our token, milliseconds. Fails where Redis was emptied again meanwhile.
STILL_OURS: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

#: KEYS: who restores, the sentinel. One step: a second loss in between cannot leave a sentinel over holes.
COMPLETE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
return 1
"""


class StoreAway(Exception):
    """Redis does not answer, or does not take writes. The sweeper delivers later."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The intent that stands at one place, on its way to the actors."""

    trace_id: str
    target: str
    action: ControlAction
    number: int
    #: ControlEvent JSON, for the channel.
    event: str


class CommandStore(Protocol):
    """Where actors read commands. Every call may raise ``StoreAway``; every call may be repeated."""

    def put(self, delivery: Delivery) -> bool:
        """Write and publish, unless a newer control or a CANCEL stands there. False: nothing was to do."""

    def put_all(self, deliveries: Sequence[Delivery]) -> list[bool]:
        """``put`` each in one round trip; whether the store now holds it, or something later."""

    def along(self, trace_id: str, path: Sequence[str]) -> list[ControlAction | None]:
        """What stands at each place of a path, as an actor reads it."""

    def intact(self) -> bool:
        """Whether the sentinel stands."""

    def restore(self, deliveries: Iterable[Delivery], *, token: str) -> bool:
        """Fill an emptied store, the sentinel last. False: another one does it, or the data went again."""

    def retire(self, at_ms: Mapping[str, int]) -> None:
        """Let the commands of ended trees go at these times."""

    def keep(self, trace_ids: Sequence[str]) -> None:
        """Let no command of these trees go."""

    def forget(self, trace_id: str) -> None:
        """Drop the commands of a tree that is gone for good."""


class RedisStore:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._put = client.register_script(PUT)
        self._still_ours = client.register_script(STILL_OURS)
        self._complete = client.register_script(COMPLETE)

    def put(self, delivery: Delivery) -> bool:
        with _away():
            return bool(self._put(keys=[key(delivery.trace_id)], args=_words(delivery)))

    def put_all(self, deliveries: Sequence[Delivery]) -> list[bool]:
        with _away(), self._client.pipeline(transaction=False) as pipe:
            for delivery in deliveries:
                # The text and not its digest: an emptied Redis does not know the digest.
                pipe.eval(PUT, 1, key(delivery.trace_id), *_words(delivery))
            return [_holds(result) for result in pipe.execute(raise_on_error=False)]

    def along(self, trace_id: str, path: Sequence[str]) -> list[ControlAction | None]:
        with _away():
            # Without ``await``: the client is the synchronous one, whose stubs promise either.
            found = cast("list[str | None]", self._client.hmget(key(trace_id), [field(at) for at in path]))
        return [ControlAction(action) if action else None for action in found]

    def intact(self) -> bool:
        with _away():
            return bool(self._client.exists(SENTINEL))

    def restore(self, deliveries: Iterable[Delivery], *, token: str) -> bool:
        with _away():
            if not self._client.set(RESTORING, token, nx=True, px=RESTORING_MS):
                return False
        for chunk in _chunks(deliveries):
            if not all(self.put_all(chunk)):
                return False
            with _away():
                if not self._still_ours(keys=[RESTORING], args=[token, RESTORING_MS]):
                    return False
        with _away():
            return bool(self._complete(keys=[RESTORING, SENTINEL], args=[token]))

    def retire(self, at_ms: Mapping[str, int]) -> None:
        with _away(), self._client.pipeline(transaction=False) as pipe:
            for trace_id, when in at_ms.items():
                pipe.pexpireat(key(trace_id), when)
            pipe.execute()

    def keep(self, trace_ids: Sequence[str]) -> None:
        with _away(), self._client.pipeline(transaction=False) as pipe:
            for trace_id in trace_ids:
                pipe.persist(key(trace_id))
            pipe.execute()

    def forget(self, trace_id: str) -> None:
        with _away():
            self._client.delete(key(trace_id))


class MemoryStore:
    """The same answers without a server. ``away`` and ``lose`` break it on purpose."""

    def __init__(self) -> None:
        self.away = False
        self.published: list[tuple[str, str]] = []
        self.expiry: dict[str, int] = {}
        self.lose()

    def lose(self) -> None:
        self._stands: dict[tuple[str, str], tuple[ControlAction, int]] = {}
        self._sentinel = False
        self._restoring: str | None = None
        self.expiry.clear()

    def put(self, delivery: Delivery) -> bool:
        self._answer()
        place = (delivery.trace_id, delivery.target)
        action, number = self._stands.get(place, (None, 0))
        if action is ControlAction.CANCEL and delivery.action is not ControlAction.CANCEL:
            return False
        if delivery.number <= number:
            return False
        self._stands[place] = (delivery.action, delivery.number)
        self.published.append((key(delivery.trace_id), delivery.event))
        return True

    def put_all(self, deliveries: Sequence[Delivery]) -> list[bool]:
        for delivery in deliveries:
            self.put(delivery)
        return [True] * len(deliveries)

    def along(self, trace_id: str, path: Sequence[str]) -> list[ControlAction | None]:
        self._answer()
        return [self._stands.get((trace_id, at), (None, 0))[0] for at in path]

    def intact(self) -> bool:
        self._answer()
        return self._sentinel

    def restore(self, deliveries: Iterable[Delivery], *, token: str) -> bool:
        self._answer()
        if self._restoring is not None:
            return False
        self._restoring = token
        for chunk in _chunks(deliveries):
            self.put_all(chunk)
            if self._restoring != token:
                return False
        if self._restoring != token:
            return False
        self._sentinel, self._restoring = True, None
        return True

    def retire(self, at_ms: Mapping[str, int]) -> None:
        self._answer()
        self.expiry.update(at_ms)

    def keep(self, trace_ids: Sequence[str]) -> None:
        self._answer()
        for trace_id in trace_ids:
            self.expiry.pop(trace_id, None)

    def forget(self, trace_id: str) -> None:
        self._answer()
        self._stands = {place: stands for place, stands in self._stands.items() if place[0] != trace_id}

    def _answer(self) -> None:
        if self.away:
            raise StoreAway("the memory store is away")


def key(trace_id: str) -> str:
    return f"cmd:instance:{trace_id}"


def field(target: str) -> str:
    return target or GLOBAL


def store() -> CommandStore:
    """The store of this process."""
    from tower.redis import client

    return RedisStore(client())


def _words(delivery: Delivery) -> list[str | int]:
    return [field(delivery.target), delivery.action.value, delivery.number, delivery.event]


def _holds(result: object) -> bool:
    """A key that somebody else has taken for something else must not hold up the others."""
    if not isinstance(result, Exception):
        return True
    if isinstance(result, redis.ResponseError) and "WRONGTYPE" in str(result):
        return False
    raise result


def _chunks(deliveries: Iterable[Delivery]) -> Iterator[list[Delivery]]:
    rest = iter(deliveries)
    while chunk := list(itertools.islice(rest, CHUNK)):
        yield chunk


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise StoreAway(str(error)) from error
