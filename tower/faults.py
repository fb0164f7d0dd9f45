"""Places at which a test makes a process fail. In a tower that serves, each is one look at an empty table.

Armed only where TOWER_TESTING=1 and TOWER_FAULTS is set, for example:

    TOWER_FAULTS=after_commit/queue=kill@3,before_put/PAUSE=delay:500

The point, the detail it must be reached with (none: any), what happens there, and at which time of
reaching it (none: each). ``kill`` is kill -9, ``abort`` ends the process by itself, ``full`` is a
full disk, ``delay`` waits so many milliseconds.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

WORDS = re.compile(
    r"(?P<point>[a-z_]+)(?:/(?P<detail>[\w.:-]+))?=(?P<deed>[a-z]+)(?::(?P<ms>\d+))?(?:@(?P<time>\d+))?"
)


def _kill(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _abort(_: int) -> None:
    os.abort()


def _full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _delay(ms: int) -> None:
    time.sleep(ms / 1000)


DEEDS: Mapping[str, Callable[[int], None]] = {
    "kill": _kill,
    "abort": _abort,
    "full": _full,
    "delay": _delay,
}


@dataclass(slots=True)
class Fault:
    detail: str
    deed: Callable[[int], None]
    ms: int
    time: int
    reached: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, detail: str) -> None:
        if self.detail and self.detail != detail:
            return
        with self._guard:
            self.reached += 1
            mine = self.time in (0, self.reached)
        if mine:
            log.warning("fault_reached")
            self.deed(self.ms)


def armed(text: str) -> dict[str, list[Fault]]:
    """The faults of a value of TOWER_FAULTS; a strange one stops the start."""
    found: dict[str, list[Fault]] = {}
    for word in filter(None, text.split(",")):
        said = WORDS.fullmatch(word)
        if said is None or said["deed"] not in DEEDS:
            sys.exit(f"TOWER_FAULTS cannot be read at {word!r}.")
        one = Fault(said["detail"] or "", DEEDS[said["deed"]], int(said["ms"] or 0), int(said["time"] or 0))
        found.setdefault(said["point"], []).append(one)
    return found


FAULTS: dict[str, list[Fault]] = {}
if os.environ.get("TOWER_TESTING") == "1":
    FAULTS = armed(os.environ.get("TOWER_FAULTS", ""))


def fault(point: str, detail: str = "") -> None:
    """Nothing, unless a test has armed this point."""
    if FAULTS:
        for one in FAULTS.get(point, ()):
            one.reach(detail)


def warn() -> None:
    """Said at each start, since nobody else may ever run like this."""
    if FAULTS:
        log.warning("faults_armed", extra={"error": ",".join(sorted(FAULTS))})
