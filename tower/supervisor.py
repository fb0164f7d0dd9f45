"""Several programs as one foreground process tree. Knows nothing of what they do; one thread, no Django."""

from __future__ import annotations

import ctypes
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

#: As many deaths of one child within so many seconds end the whole tree.
DEATHS, WITHIN_SECONDS = 5, 60.0
#: Before the first restart; twice as long before each further one.
BACK_OFF_SECONDS = 0.2
#: What a signal asks for has so long; then it is killed.
PATIENCE_SECONDS = 8.0
LINE_BYTES = 16 << 10
TAIL_LINES = 20

#: Terminal sequences and control characters: a logged value must not steer the terminal of who reads it.
CONTROL = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


@dataclass
class Child:
    name: str
    words: Sequence[str]
    environment: Mapping[str, str]
    #: File descriptors that it inherits.
    hands: Sequence[int] = ()
    #: Asked to stop only when the others are gone, since they need it until then.
    last: bool = False
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=deque)
    again_at: float | None = None
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    unfinished: bytes = b""


class Supervisor:
    """Starts children, passes on what they print, restarts what dies, and leaves none behind."""

    def __init__(self, say: Callable[[str], None], buried: Callable[[int], object]) -> None:
        self.say = say
        self.buried = buried  # told the id of each process that ended
        self.children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()
        self._asked_to_stop = 0

    def listen(self) -> None:
        """From now on SIGINT, SIGTERM and SIGHUP end the tree in order, and a second one at once."""
        for end in (self._woken, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop_asked)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def _stop_asked(self, *_: object) -> None:
        self._asked_to_stop += 1

    def start(self, child: Child) -> None:
        self.children.append(child)
        self._launch(child)

    def _launch(self, child: Child) -> None:
        child.again_at = None
        child.process = subprocess.Popen(
            child.words,
            env=dict(child.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=child.hands,
            # Ctrl-C goes to a whole process group; only this program may pass it on, in its order.
            process_group=0,
            preexec_fn=die_with(os.getpid()),
        )
        assert child.process.stdout is not None
        os.set_blocking(child.process.stdout.fileno(), False)
        self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    def run(self) -> int:
        """Until a signal (0), or until one child keeps dying (1)."""
        while not self._asked_to_stop:
            if fallen := self._look_after():
                self._tell_end_of(fallen)
                self.stop()
                return 1
            self._wait(self._until_next_restart())
        self.stop()
        return 0

    def _look_after(self) -> Child | None:
        """Collect the dead and start those whose time has come; the child that died too often, if any."""
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                self._bury(child, now)
                if len(child.deaths) >= DEATHS:
                    return child
            if child.again_at is not None and child.again_at <= now:
                self._launch(child)
        return None

    def _bury(self, child: Child, now: float) -> None:
        assert child.process is not None
        status = child.process.returncode
        self._close(child)
        child.deaths.append(now)
        while child.deaths[0] < now - WITHIN_SECONDS:
            child.deaths.popleft()
        wait = BACK_OFF_SECONDS * 2 ** (len(child.deaths) - 1)
        child.again_at = now + wait
        if len(child.deaths) < DEATHS:
            self.say(f"{child.name} ended ({ending(status)}); it is started again in {wait:.1f} s.")

    def _tell_end_of(self, child: Child) -> None:
        self.say(f"{child.name} died {DEATHS} times within {WITHIN_SECONDS:.0f} s. Its last lines:")
        for line in child.tail:
            self.say(f"  {line}")

    def _until_next_restart(self) -> float | None:
        times = [child.again_at for child in self.children if child.again_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _wait(self, seconds: float | None) -> None:
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                with suppress(BlockingIOError):
                    self._woken.recv(4096)
            else:
                self._read(key.data)

    # -- what they print

    def _read(self, child: Child) -> None:
        assert child.process is not None and child.process.stdout is not None
        try:
            part = os.read(child.process.stdout.fileno(), 64 << 10)
        except BlockingIOError:
            return
        if not part:
            self._selector.unregister(child.process.stdout)
        self._print(child, part)

    def _print(self, child: Child, part: bytes) -> None:
        *lines, child.unfinished = (child.unfinished + part).split(b"\n")
        if len(child.unfinished) > LINE_BYTES or (child.unfinished and not part):
            lines.append(child.unfinished)
            child.unfinished = b""
        for line in lines:
            text = plain(line[:LINE_BYTES].decode(errors="replace"))
            child.tail.append(text)
            self.say(f"{child.name:<8}| {text}")

    def _close(self, child: Child) -> None:
        """Read what is left of its output and forget the process."""
        assert child.process is not None and child.process.stdout is not None
        self.buried(child.process.pid)
        out, child.process = child.process.stdout, None
        with suppress(BlockingIOError):
            while part := os.read(out.fileno(), 64 << 10):
                self._print(child, part)
        self._print(child, b"")
        with suppress(KeyError):
            self._selector.unregister(out)
        out.close()

    # -- the end

    def stop(self) -> None:
        """End all children: asked first, killed when their time is up or a second signal comes."""
        self._end([child for child in self.children if not child.last], PATIENCE_SECONDS)
        self._end([child for child in self.children if child.last], 1.0)

    def _end(self, children: list[Child], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for child in children:
            send(child, signal.SIGTERM)
        while (alive := self._alive(children)) and self._asked_to_stop < 2 and time.monotonic() < deadline:
            self._wait(max(0.0, deadline - time.monotonic()))
        for child in alive:
            send(child, signal.SIGKILL)
        for child in alive:
            if child.process is not None:
                child.process.wait()
        self._alive(children)

    def _alive(self, children: list[Child]) -> list[Child]:
        for child in children:
            child.again_at = None
            if child.process is not None and child.process.poll() is not None:
                self._close(child)
        return [child for child in children if child.process is not None]


def send(child: Child, number: signal.Signals) -> None:
    """To the child and whatever it started: it leads a process group of its own."""
    if child.process is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, number)


def plain(text: str) -> str:
    return CONTROL.sub("", text)


def ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def die_with(parent: int) -> Callable[[], None]:
    """For the child between fork and exec: the kernel kills it when its parent is killed, even by SIGKILL."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl: Any = ctypes.CDLL(None, use_errno=True).prctl
    set_parent_death_signal = 1

    def arrange() -> None:
        prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return arrange
