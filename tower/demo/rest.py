"""The tower as an actor without any library sees it: JSON over HTTP, connections kept open."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

#: Nothing is known to have been stored: the same request may, and has to, be sent again.
AGAIN = frozenset({0, 408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Answer:
    status: int  # 0: no answer
    body: Any
    retry_after: float = 0.0

    @property
    def again(self) -> bool:
        return self.status in AGAIN


class Rest:
    """Blocking calls in a few threads, one kept connection each."""

    def __init__(self, url: str, token: str, *, threads: int = 4, timeout: float = 15.0) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._tls else 80)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        self._timeout = timeout
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rest")

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._call, method, f"/api/v1/{path}", body)

    async def surely(self, method: str, path: str, body: Any = None) -> Answer:
        """Send until the tower has answered for good. Only for what may be repeated."""
        pause = 0.5
        while (answer := await self.call(method, path, body)).again:
            await asyncio.sleep(max(pause, answer.retry_after))
            pause = min(pause * 2, 5.0)
        return answer

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _call(self, method: str, path: str, body: Any) -> Answer:
        raw = None if body is None else json.dumps(body).encode()
        for fresh in (False, True):
            try:
                return self._over(self._line(fresh), method, path, raw)
            except (OSError, http.client.HTTPException):
                continue  # a kept connection may have been closed meanwhile: once more on a new one
        return Answer(0, None)

    def _line(self, fresh: bool) -> http.client.HTTPConnection:
        line: http.client.HTTPConnection | None = getattr(self._own, "line", None)
        if fresh and line is not None:
            line.close()
            line = None
        if line is None:
            kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
            line = self._own.line = kind(self._host, self._port, timeout=self._timeout)
        return line

    def _over(self, line: http.client.HTTPConnection, method: str, path: str, raw: bytes | None) -> Answer:
        line.request(method, path, raw, self._headers)
        reply = line.getresponse()
        said = reply.read()
        wait = reply.getheader("Retry-After") or "0"
        try:
            body = json.loads(said or b"null")
        except ValueError:
            body = None
        return Answer(reply.status, body, float(wait) if wait.isdigit() else 0.0)
