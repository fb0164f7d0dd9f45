"""One live socket, as its feed sees it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tower import metrics

#: A socket with so many frames unacknowledged for so long, or so many bytes, gets no more until it answers.
MOST_FRAMES, FRAME_SECONDS, MOST_BYTES = 8, 2.0, 1 << 20
#: One that does not come back is closed after this.
PATIENCE_SECONDS = 20.0
TOO_SLOW = 4408


@dataclass(slots=True, eq=False)
class Watcher:
    """One socket: what it was sent and has not acknowledged, and which task it looks at."""

    send: Callable[[str], Awaitable[None]]
    close: Callable[[int], Awaitable[None]]
    focus: int | None = None
    missed: bool = False
    choked_at: float | None = None
    #: Frames that came while a resync is read; None at all other times.
    held: list[tuple[str, int]] | None = None
    _unacked: deque[tuple[int, int, float]] = field(default_factory=deque)
    _bytes: int = 0

    async def offer(self, text: str, seq: int) -> None:
        if self.choked:
            self.missed = True
        elif self.held is not None:
            self._bytes += len(text)
            self.held.append((text, seq))
        else:
            await self.give(text, seq)

    async def give(self, text: str, seq: int) -> None:
        self._unacked.append((seq, len(text), time.monotonic()))
        self._bytes += len(text)
        await self.send(text)

    async def release(self, above: int) -> None:
        """Send what was held, as far as it is not in the batch up to ``above``."""
        held, self.held = self.held or [], None
        for text, seq in held:
            self._bytes -= len(text)
            if seq > above:
                await self.offer(text, seq)

    @property
    def choked(self) -> bool:
        late = len(self._unacked) >= MOST_FRAMES and time.monotonic() - self._unacked[0][2] >= FRAME_SECONDS
        return late or self._bytes >= MOST_BYTES

    async def ack(self, seq: int) -> None:
        while self._unacked and self._unacked[0][0] <= seq:
            self._bytes -= self._unacked.popleft()[1]
        if self.missed and not self.choked:
            await self.reset()

    async def reset(self) -> None:
        self.missed = False
        metrics.WS_RESETS.inc()
        await self.send('{"op":"reset"}')

    async def look(self, now: float) -> bool:
        """Whether it stays; it is closed where it has been choked for too long."""
        if not self.choked:
            self.choked_at = None
        elif self.choked_at is None:
            self.choked_at = now
        elif now - self.choked_at >= PATIENCE_SECONDS:
            metrics.WS_DROPPED.labels("slow").inc()
            await self.close(TOO_SLOW)
            return False
        return True
