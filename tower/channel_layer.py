"""How web processes tell each other of changes: Redis pub/sub, a hint that may be lost.

Pub/sub rather than lists: one PUBLISH a message however many listen, groups come back by themselves
when Redis does (lists lose their memberships with it), and nothing is dropped at a fixed
capacity. What is lost while Redis is away, a feed fills from the database.
"""

from __future__ import annotations

from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tower import redis


class ChannelLayer(RedisPubSubChannelLayer):
    """The project's own Redis; where it is away, a call fails within about a second."""

    def __init__(self, **options: Any) -> None:
        host = {
            "address": redis.url(),
            "retry": Retry(NoBackoff(), 1),
            "socket_connect_timeout": redis.PATIENCE["socket_connect_timeout"],
            "socket_timeout": redis.PATIENCE["socket_timeout"],
        }
        super().__init__(hosts=[host], prefix="tower", **options)
