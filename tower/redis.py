"""The way to Redis: which one, and with how much patience. Every caller expects it to be away."""

from __future__ import annotations

from functools import cache
from typing import Any

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from tower.kafka import is_kafka

#: Where `up` leaves the address of the embedded Valkey for processes that it did not start.
EMBEDDED_URL = settings.SECRETS_DIR / "redis_url"

#: A connection that died while it idled is opened anew once, at once; after that Redis is away.
#: The library's own default waits seconds between three tries, inside a request.
PATIENCE: dict[str, Any] = {
    "decode_responses": True,
    "socket_connect_timeout": 0.5,
    "socket_timeout": 1,
    "health_check_interval": 0,
}


def url() -> str:
    """REDIS_URL, else the address of the embedded Valkey."""
    if settings.REDIS_URL:
        return str(settings.REDIS_URL)
    try:
        return EMBEDDED_URL.read_text().strip()
    except FileNotFoundError:
        # Never a guess such as port 6379: that may be somebody else's Redis. This one is simply away.
        return f"unix://{EMBEDDED_URL.with_name('no-redis-yet')}"


def client() -> redis.Redis:
    """The process's, for all threads. Where Redis is away a call raises ``RedisError`` in about a second."""
    return _client(url())


@cache
def _client(address: str) -> redis.Redis:
    return redis.Redis.from_url(address, retry=Retry(NoBackoff(), 1), **PATIENCE)


def events(*, consuming: bool = False) -> redis.Redis:
    """Where the queue of reports is: TOWER_EVENTS_URL, else the Redis above. Answers bytes as they were sent.

    ``consuming``: for large answers, and never asking twice, since an answer that was lost held entries.
    """
    address = str(settings.TOWER_EVENTS_URL)
    return _events_client(url() if not address or is_kafka(address) else address, consuming)


@cache
def _events_client(address: str, consuming: bool) -> redis.Redis:
    patience = PATIENCE | {"decode_responses": False, "socket_timeout": 5 if consuming else 1}
    return redis.Redis.from_url(address, retry=Retry(NoBackoff(), 0 if consuming else 1), **patience)


def async_client() -> redis.asyncio.Redis:
    """A new client for the running event loop; close it with ``aclose()``."""
    return redis.asyncio.Redis.from_url(url(), retry=AsyncRetry(NoBackoff(), 1), **PATIENCE)
