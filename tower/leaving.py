"""How a process that works in rounds leaves at a signal."""

from __future__ import annotations

import os
import signal
import threading

#: A signal finishes what is in hand. A database that hangs is not waited for: nothing is lost by going.
LEAVE_SECONDS = 9.0


def at_a_signal(stop: threading.Event) -> None:
    """SIGTERM and SIGINT set ``stop``; a second one ends the process where it is."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _leave(stop))


def _leave(stop: threading.Event) -> None:
    if stop.is_set():
        os._exit(1)
    stop.set()
    last = threading.Timer(LEAVE_SECONDS, os._exit, [1])
    last.daemon = True
    last.start()
