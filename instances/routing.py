"""The live sockets (``docs/live.md``). Origins are judged by the consumers."""

from __future__ import annotations

from channels.generic.websocket import AsyncWebsocketConsumer
from django.urls import path, re_path

from instances.consumers import RunsConsumer, TraceConsumer


class Nothing(AsyncWebsocketConsumer):
    """A path that is none: the handshake is refused, and not an exception logged."""

    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.close()


websocket_urlpatterns = [
    path("ws/traces/", RunsConsumer.as_asgi(), name="live"),
    path("ws/traces/<str:trace_id>/", TraceConsumer.as_asgi(), name="live"),
    re_path("", Nothing.as_asgi()),
]
