"""Dead letters of the Redis stream: in a stream beside it, each gone from there when it is settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.exceptions import AuthenticationError, NoPermissionError

from instances.dead_letters import Letter
from instances.sources import SourceAway, SourceRefuses
from instances.sources.streams import DEAD, STREAM
from tower.paging import Position
from tower.redis import events

#: KEYS: dead letters, reports. ARGV: id, report. One of two that replay it at once finds it gone. (Put back
#: first: where memory is full that fails, and the letter stays.)
REPLAY: Final = """
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', 'event', ARGV[2])
return redis.call('XDEL', KEYS[1], ARGV[1])
"""


class DeadStream:
    def newest(self, limit: int, *, before: Position | None = None) -> list[Letter]:
        with _asked() as client:
            rows = client.xrevrange(DEAD, f"({before}" if before else "+", "-", limit)
        return [_letter(id, said) for id, said in rows]

    def oldest(self, limit: int, *, after: Position) -> list[Letter]:
        with _asked() as client:
            rows = client.xrange(DEAD, f"({after}", "+", limit)
        return [_letter(id, said) for id, said in rows][::-1]

    def find(self, ids: Sequence[str]) -> list[Letter]:
        with _asked() as client:
            pipe = client.pipeline(transaction=False)
            for id in ids:
                pipe.xrange(DEAD, id, id)
            return [_letter(id, said) for rows in pipe.execute() for id, said in rows]

    def count(self) -> int:
        with _asked() as client:
            return int(client.xlen(DEAD))

    def replay(self, letters: Sequence[Letter], *, by: str) -> Iterator[Letter]:
        for letter in letters:
            with _asked() as client:
                done = client.eval(REPLAY, 2, DEAD, STREAM, letter.id, letter.raw)
            if done:
                yield letter

    def drop(self, letters: Sequence[Letter], *, by: str) -> Iterator[Letter]:
        for letter in letters:
            with _asked() as client:
                gone = client.xdel(DEAD, letter.id)
            if gone:
                yield letter


def _letter(raw_id: bytes, fields: dict[bytes, bytes]) -> Letter:
    id = raw_id.decode()
    said = {name.decode(errors="backslashreplace"): value for name, value in fields.items()}
    return Letter.of(id, int(id.partition("-")[0]), said, said.get("raw", b""), position=id)


@contextmanager
def _asked() -> Iterator[Any]:
    """``Any``: the client is the synchronous one, whose stubs promise a coroutine or its value."""
    try:
        yield events()
    except (AuthenticationError, NoPermissionError) as error:
        raise SourceRefuses(str(error)) from error
    except redis.RedisError as error:
        raise SourceAway(str(error)) from error
