"""How Python itself is set in a process that serves."""

from __future__ import annotations

import gc
import sys

#: A batch makes some ten thousand objects that live until its commit. Python's own 700 would look at
#: them, and at everything that was imported, again and again (measured: 6 of 43 us an event).
YOUNG, MIDDLE, OLD = 50_000, 50, 50
#: A thread that the database has answered waits so long for one that computes. Python's own: 5 ms.
SWITCH_SECONDS = 0.001


def settle() -> None:
    """To be called once, when everything is imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    sys.setswitchinterval(SWITCH_SECONDS)
