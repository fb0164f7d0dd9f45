"""Reports from a Redis stream, by consumer group.

Keys (contract, section 6):

    tms.task.events        stream; field ``event`` of an entry is the TaskEvent JSON. Group ``tower``
    tms.task.events.dead   stream of what cannot be taken; its fields are those of ``BURY``

Nobody uses ``MAXLEN``. An entry is trimmed when every group has read and
acknowledged it, so a group that nobody reads keeps all of it.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import redis
from django.conf import settings

from instances.sources import LATEST_MS, RAW_BYTES, DeadLetter, Entry, SourceAway, Standing
from tower import metrics

log = logging.getLogger(__name__)

STREAM: Final = "tms.task.events"
DEAD: Final = "tms.task.events.dead"
GROUP: Final = "tower"
FIELD: Final = b"event"

#: An entry that its consumer has been silent about for so long is another's.
IDLE_MS: Final = 30_000
#: A consumer that asked for nothing for so long does not count as there.
PRESENT_MS: Final = 15_000
#: One that left nothing behind is forgotten.
FORGOTTEN_MS: Final = 3_600_000
#: How long a read waits for the first entry.
WAIT_MS: Final = 500
#: Entries of a first command, and bytes after which a batch is full: 5,000 of 64 KiB would be 320 MB.
CHUNK: Final = 500
FULL_BYTES: Final = 16 << 20
CLAIM_SECONDS: Final = 1.0

_FACTS: Final = """
local function facts(flat)
  local found = {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end
"""

#: KEYS: stream. ARGV: group, consumer, how many. New entries, and how many unread ones the group's
#: counters prove to be gone (a producer's MAXLEN, an XDEL). Those are told once: the counter is set right.
READ: Final = (
    _FACTS
    + """
local function after(one, other)
  local a, b = string.match(one, '(%d+)-(%d+)')
  local c, d = string.match(other, '(%d+)-(%d+)')
  a, b, c, d = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  return a > c or (a == c and b > d)
end
local stream, group, lost = facts(redis.call('XINFO', 'STREAM', KEYS[1])), nil, 0
for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  one = facts(one)
  if one['name'] == ARGV[1] then group = one end
end
local first = stream['first-entry']
if group and group['entries-read'] and (not first or after(first[1], group['last-delivered-id'])) then
  lost = stream['entries-added'] - group['entries-read'] - stream['length']
  if lost > 0 then
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], group['last-delivered-id'],
      'ENTRIESREAD', stream['entries-added'] - stream['length'])
  end
end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
return {lost, read and read[1][2] or {}}
"""
)

#: KEYS: stream. ARGV: group, consumer, idle ms, how many, deliveries at most, mine. Takes over what lies
#: idle, that first which was delivered least: (id, fields, deliveries), and how many were deleted meanwhile.
#: With ``mine`` 1 only what this consumer's name has in hand, idle or not, and not yet handed out thrice.
#: (One script and not XAUTOCLAIM, which counts a delivery for all that it takes, also for what must wait.)
#: An entry that kills its consumer would take the others of its batch along when its deliveries are
#: used up: so on the last but one it has few beside it, and on the last none.
CLAIM: Final = """
local asked = {'XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4]}
if ARGV[6] == '1' then asked[9] = ARGV[2] end
local idle = redis.call(unpack(asked))
if #idle == 0 then return {0, {}} end
local least = idle[1][4]
for _, one in ipairs(idle) do if one[4] < least then least = one[4] end end
if ARGV[6] == '1' and least > 2 then return {0, {}} end
local left, size = tonumber(ARGV[5]) - least - 1, tonumber(ARGV[4])
if left == 1 then size = math.min(size, 20) elseif left == 0 then size = 1 end
local ids = {}
for _, one in ipairs(idle) do
  if one[4] == least and #ids < size then ids[#ids + 1] = one[1] end
end
local taken = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], unpack(ids))
for _, one in ipairs(taken) do one[3] = least + 1 end
return {#ids - #taken, taken}
"""

#: KEYS: stream. ARGV: group, consumer, idle ms. Forgets consumers that have nothing in hand: this one, and
#: those long gone. (Deleting one that has would lose its entries.)
LEAVE: Final = (
    _FACTS
    + """
for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  one = facts(one)
  if one['pending'] == 0 and (one['name'] == ARGV[2] or one['idle'] > tonumber(ARGV[3])) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], one['name'])
  end
end
"""
)

#: KEYS: stream. ARGV: group, entries that were trimmed before. Also where memory is full: reading frees it.
MAKE_GROUP: Final = """#!lua flags=allow-oom
return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM', 'ENTRIESREAD', ARGV[2])
"""

#: KEYS: dead letters. ARGV: the seven values of each. Also where memory is full: it moves what is there, and
#: what lies pending meanwhile would keep the stream from being trimmed.
BURY: Final = """#!lua flags=allow-oom
for i = 1, #ARGV, 7 do
  redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'reason', ARGV[i + 1], 'code', ARGV[i + 2],
    'field', ARGV[i + 3], 'raw', ARGV[i + 4], 'first_seen', ARGV[i + 5], 'deliveries', ARGV[i + 6])
end
"""


class RedisStream:
    """One consumer of the group. Not for several threads; ``standing`` may be asked from anywhere.

    One that is given the ``name`` of another that is gone takes over at once what that had in hand.
    (Not what was handed out thrice: that may have killed it, and is to wait like any other's.)
    """

    def __init__(
        self,
        client: Callable[[], redis.Redis],
        *,
        name: str = "",
        idle_ms: int = IDLE_MS,
        wait_ms: int = WAIT_MS,
    ) -> None:
        self._client = client
        self._idle_ms, self._wait_ms = idle_ms, wait_ms
        self.consumer = name or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._inherits = bool(name)
        self._claim_at = 0.0
        #: A call failed, and what it may have handed out is not in hand.
        self._unsure = False
        #: Committed, but Redis went away before it was told.
        self._unsaid: list[str] = []

    # -- in

    def read(self, most: int) -> list[Entry]:
        try:
            with _away():
                self._acknowledge()
                if self._unsure:
                    self._give_back_unseen()
                self._unsure = True
                found = self._claimed(min(most, CHUNK)) or self._new(most)
                self._unsure = False
                return found
        except _NoGroup:
            self._make_group()
            return []

    def _give_back_unseen(self) -> None:
        """What was handed out by an answer that never came: a Redis in trouble must not look like poison."""
        mine: Any = self._client().xpending_range(STREAM, GROUP, "-", "+", 10_000, self.consumer)
        self.release(
            [Entry(one["message_id"].decode(), b"", 0, one["times_delivered"]) for one in mine], at_once=True
        )

    def _claimed(self, most: int) -> list[Entry]:
        if self._inherits:
            if found := self._take_over(most, idle_ms=0, mine=True):
                return found
            self._inherits = False
        if time.monotonic() < self._claim_at:
            return []
        found = self._take_over(most, idle_ms=self._idle_ms, mine=False)
        if not found:
            # After a full hand there may be more at once.
            self._claim_at = time.monotonic() + min(CLAIM_SECONDS, self._idle_ms / 1000)
        return found

    def _take_over(self, most: int, *, idle_ms: int, mine: bool) -> list[Entry]:
        args = [GROUP, self.consumer, idle_ms, most, settings.TOWER_MAX_DELIVERIES, int(mine)]
        lost, taken = self._run(CLAIM, STREAM, args)
        _count_lost(lost)
        return [_entry(id, fields, deliveries) for id, fields, deliveries in taken]

    def _new(self, most: int) -> list[Entry]:
        found: list[Entry] = []
        size, want = 0, min(CHUNK, most)
        while want:
            lost, rows = self._run(READ, STREAM, [GROUP, self.consumer, want])
            _count_lost(lost)
            came = [_entry(id, fields) for id, fields in rows]
            found += came
            size += sum(len(entry.raw) for entry in came)
            if len(came) < want or size >= FULL_BYTES:
                break
            # As many as fit by the size of those before: what one consumer holds in a row is of the same
            # runs, and another is to have others in hand.
            want = min(most - len(found), max(CHUNK, (FULL_BYTES - size) * len(found) // max(size, 1)))
        return found or self._first()

    def _first(self) -> list[Entry]:
        """Wait for the first entry to come."""
        try:
            answer: Any = self._client().xreadgroup(
                GROUP, self.consumer, {STREAM: ">"}, count=CHUNK, block=self._wait_ms
            )
        except redis.ResponseError as error:
            if str(error).startswith("UNBLOCKED"):  # the stream went while it waited
                return []
            raise
        return [_entry(id, _flat(fields)) for _, rows in answer for id, fields in rows]

    def _make_group(self) -> None:
        """From the very first entry: ``$`` would lose what is there. Gone, it is made again."""
        with _away():
            try:
                stream: Any = self._client().xinfo_stream(STREAM)
                trimmed = stream["entries-added"] - stream["length"]
            except redis.ResponseError:
                trimmed = 0
            try:
                self._run(MAKE_GROUP, STREAM, [GROUP, trimmed])
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
            log.info("consumer_group_made")

    # -- out

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        for few in _few(letters, CHUNK // 5):
            values = [value for letter in few for value in _words(letter)]
            with _away():
                self._run(BURY, DEAD, values)

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        self._unsaid += [entry.id for entry in entries]
        with _away():
            self._acknowledge()
            self._trim()

    def _acknowledge(self) -> None:
        for ids in _few(self._unsaid, CHUNK):
            self._client().xack(STREAM, GROUP, *ids)
        self._unsaid = []

    def release(self, entries: Sequence[Entry], *, at_once: bool) -> None:
        by_count: dict[int, list[str]] = {}
        for entry in entries:
            by_count.setdefault(max(0, entry.deliveries - 1), []).append(entry.id)
        was, self._unsure = self._unsure, True
        with _away():
            for count, ids in by_count.items():
                for some in _few(ids, CHUNK):
                    self._client().xclaim(
                        STREAM, GROUP, self.consumer, 0, list(some),
                        idle=self._idle_ms if at_once else 0, retrycount=count, justid=True,
                    )  # fmt: skip
        self._unsure = was
        self._claim_at = 0.0

    def _trim(self) -> None:
        """Drop what every group has read and acknowledged."""
        lowest = self._lowest_kept()
        if lowest is not None:
            self._client().xtrim(STREAM, minid=_shown(lowest), approximate=False)

    def _lowest_kept(self) -> tuple[int, int] | None:
        kept: list[tuple[int, int]] = []
        groups: Any = self._client().xinfo_groups(STREAM)
        for group in groups:
            last, number = _id(group["last-delivered-id"])
            kept.append((last, number + 1))
            if group["pending"]:
                pending: Any = self._client().xpending(STREAM, group["name"])
                if pending["min"]:
                    kept.append(_id(pending["min"]))
        return min(kept, default=None)

    # -- beside

    def standing(self) -> Standing:
        with _away():
            pipe = self._client().pipeline(transaction=False)
            pipe.time()
            pipe.xlen(STREAM)
            pipe.xinfo_groups(STREAM)
            pipe.xpending(STREAM, GROUP)
            pipe.xinfo_consumers(STREAM, GROUP)
            clock, length, groups, pending, consumers = pipe.execute(raise_on_error=False)
            for answer in (clock, length):
                if isinstance(answer, Exception):
                    raise answer
            now = clock[0] * 1000 + clock[1] // 1000
            group = None if isinstance(groups, Exception) else _of(groups)
            if group is None:  # nobody has read here yet
                return Standing(length, 0, self._age(now, "-", None) if length else 0)
            unread = group["lag"]
            if unread is None:  # entries were deleted; then Redis does not count
                unread = max(0, length - group["pending"])
            oldest = self._age(now, b"(" + group["last-delivered-id"], pending["min"]) if length else 0
            here = sum(one["idle"] <= PRESENT_MS for one in consumers)
            return Standing(unread, group["pending"], oldest, here)

    def _age(self, now: int, unread_from: bytes | str, pending: bytes | None) -> int:
        rows: Any = self._client().xrange(STREAM, min=unread_from, count=1)
        ids = [id for id, _ in rows] + ([pending] if pending else [])
        return max([0, *(now - _id(id)[0] for id in ids)])

    def close(self) -> None:
        with _away():
            self._acknowledge()
            try:
                self._run(LEAVE, STREAM, [GROUP, self.consumer, FORGOTTEN_MS])
            except redis.ResponseError:
                return  # no stream, no group: nobody to forget

    def _run(self, script: str, key: str, args: Sequence[Any]) -> Any:
        # The text and not its digest: an emptied Redis does not know the digest.
        return self._client().eval(script, 1, key, *args)


class _NoGroup(SourceAway):
    """Nobody has made it yet, or Redis came back empty."""


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except redis.ResponseError as error:
        said = str(error)
        if "NOGROUP" in said or "no such key" in said:
            raise _NoGroup from error
        raise SourceAway(said) from error
    except redis.RedisError as error:
        raise SourceAway(str(error)) from error


def _count_lost(lost: int) -> None:
    if lost > 0:
        metrics.QUEUE_LOST.inc(lost)
        log.error("queue_lost", extra={"count": lost})


def _entry(id: bytes, fields: Sequence[bytes], deliveries: int = 1) -> Entry:
    text = id.decode()
    put_ms = int(text.partition("-")[0])
    if len(fields) == 2 and fields[0] == FIELD:  # as nearly all are
        return Entry(text, fields[1], put_ms, deliveries)
    said = dict(zip(fields[::2], fields[1::2], strict=True))
    event = said.get(FIELD)
    return Entry(text, _all(said) if event is None else event, put_ms, deliveries, event is not None)


def _all(said: dict[bytes, bytes]) -> bytes:
    """What an entry without a report holds instead, for people to read."""
    return orjson.dumps({_text(name): _text(value) for name, value in said.items()})


def _text(raw: bytes) -> str:
    return raw.decode(errors="backslashreplace")


def _flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return list(itertools.chain.from_iterable(fields.items()))


def _words(letter: DeadLetter) -> tuple[str | bytes | int, ...]:
    entry = letter.entry
    seen = datetime.fromtimestamp(min(entry.put_ms, LATEST_MS) / 1000, UTC)
    first_seen = seen.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raw = entry.raw[:RAW_BYTES]
    return entry.id, letter.reason, letter.code, letter.field, raw, first_seen, entry.deliveries


def _few(values: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    return (values[at : at + most] for at in range(0, len(values), most))


def _id(raw: bytes | str) -> tuple[int, int]:
    text = raw.decode() if isinstance(raw, bytes) else raw
    at, _, number = text.partition("-")
    return int(at), int(number or 0)


def _shown(id: tuple[int, int]) -> str:
    return f"{id[0]}-{id[1]}"


def _of(groups: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    return next((group for group in groups if group["name"] == GROUP.encode()), None)


def queue(*, consuming: bool = False, name: str = "") -> RedisStream:
    """The queue of this tower, for one who reads it or one who looks at it."""
    from tower.redis import events

    return RedisStream(lambda: events(consuming=consuming), name=name)
