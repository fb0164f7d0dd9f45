"""How often one principal may ask, and how much of its may wait. Guards the others, not a secret."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from django.conf import settings

from tower.errors import Backpressure, TowerError

#: What ``take`` counts; reports have their own limit, the requests in flight (``Backpressure``).
_FREE = frozenset({"api:events", "api:tasks", "api:traces"})
#: Principals remembered; who is forgotten starts with a full bucket, as who was away does.
_REMEMBERED = 10_000


class RateLimited(TowerError):
    code, http_status, retry_after = "rate_limited", 429, 1


@dataclass(slots=True)
class Buckets:
    """A token bucket a key, in each process: ``rate`` a second, twice that at once."""

    rate: int
    clock: Callable[[], float] = time.monotonic
    _levels: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def take(self, key: str) -> float:
        """0 where there was one to take, else the seconds until there is."""
        burst = 2.0 * self.rate
        with self._lock:
            now = self.clock()
            level, since = self._levels.pop(key, (burst, now))
            level = min(burst, level + (now - since) * self.rate)
            wait = 0.0 if level >= 1 else (1 - level) / self.rate
            self._levels[key] = (level if wait else level - 1, now)
            if len(self._levels) > _REMEMBERED:
                self._levels.popitem(last=False)
        return wait


@dataclass(slots=True)
class InFlight:
    """What waits to be written; one principal may not take all the places of a process."""

    _waiting: Counter[str] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def one(self, key: str) -> Iterator[None]:
        """A place for one request; raises ``Backpressure`` where this principal has all of its own."""
        with self._lock:
            if self._waiting[key] >= settings.TOWER_INGEST_PER_TOKEN:
                raise Backpressure("Too many requests of this sender wait for the database; try again.")
            self._waiting[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[key] -= 1
                if not self._waiting[key]:
                    del self._waiting[key]


reads = Buckets(settings.TOWER_RATE_READ)
controls = Buckets(settings.TOWER_RATE_CONTROL)
in_flight = InFlight()


def take(key: str, url_name: str, method: str) -> None:
    """Count one request; raises ``RateLimited`` above the limit."""
    reading = method in {"GET", "HEAD"}
    if not reading and url_name in _FREE:
        return
    wait = (reads if reading else controls).take(key)
    if wait:
        raise RateLimited("Too many requests; send this one later.", retry_after=max(1, math.ceil(wait)))
