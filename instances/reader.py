"""Large bodies of reports, read in a process beside.

Reading is a quarter of what a report costs the interpreter, whose lock the write threads wait for (measured
over REST: 0.72 x raw INSERT without it on two connections, 0.87 with it; on eight 0.80 and 1.0).

What is not plain (a fault, an item that is refused) the process gives back, and the caller reads it itself,
by the same functions: there is one set of answers. The process reads bytes and nothing else; it has no
connection and holds nothing. It ends with its parent, and one that has ended is begun anew.
"""

from __future__ import annotations

import logging
import marshal
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

from django.conf import settings

from instances.intake import Sent, read_events, told_from, told_of
from tower import interpreter, reading

log = logging.getLogger("tower.reader")

#: Length of the encoding, of the media type, of the body.
_HEAD = struct.Struct("!HHI")
_SIZE = struct.Struct("!I")
#: The largest body takes a second.
PATIENCE_SECONDS = 20.0
#: After one has ended, the next is begun.
REST_SECONDS = 5.0


class Reader:
    """The process, for one thread at a time; asked once it is there."""

    def __init__(self) -> None:
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._begun = -REST_SECONDS

    def begin(self) -> None:
        """To be called before the first body, so that it is there for it (0.5 s); begins nothing twice."""
        due = time.monotonic() - self._begun >= REST_SECONDS
        if self._line is None and due and settings.TOWER_READER:
            self._begin()

    def read(self, body: bytes, encoding: str, media_type: str) -> list[Sent] | None:
        """Its reports; None where the caller has to read it."""
        try:
            if not self._there():
                return None
            told = self._asked(body, encoding.encode(), media_type.encode())
        except OSError as error:
            log.warning("reader_lost", exc_info=error)
            self.close()
            return None
        return told_from(marshal.loads(told)) if told else None

    def _asked(self, body: bytes, encoding: bytes, media_type: bytes) -> bytearray:
        assert self._line is not None
        head = _HEAD.pack(len(encoding), len(media_type), len(body))
        # In one call: after each the interpreter's lock is waited for (in three: 0.7 x the reports/s).
        self._line.sendall(b"".join((head, encoding, media_type, body)))
        return _received(self._line, _SIZE.unpack(_received(self._line, _SIZE.size))[0])

    def close(self) -> None:
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line, self._process, self._ready = None, None, False

    def _there(self) -> bool:
        if self._line is None:
            self.begin()
        elif not self._ready and select.select([self._line], [], [], 0)[0]:
            # It says so with an empty answer, when all is imported.
            _received(self._line, _SIZE.size)
            self._ready = True
        return self._ready

    def _begin(self) -> None:
        self._begun = time.monotonic()
        self._line, its = socket.socketpair()
        self._line.settimeout(PATIENCE_SECONDS)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(its.fileno())],
                pass_fds=[its.fileno()],
                cwd=settings.BASE_DIR,
            )


def _received(line: socket.socket, size: int) -> bytearray:
    got, at = bytearray(size), 0
    with memoryview(got) as view:
        while at < size:
            more = line.recv_into(view[at:])
            if not more:
                raise ConnectionResetError("The reader has ended.")
            at += more
    return got


def read(body: bytes, encoding: str, media_type: str) -> bytes:
    """What the process answers: nothing where an item is refused, or all of it."""
    try:
        items = reading.batch(reading.unpacked(body, encoding), media_type)
        sent, rejected = read_events(items, time.time_ns() // 1_000_000)
        return b"" if rejected else marshal.dumps(told_of(sent))
    except Exception:  # the caller meets it too, and answers it
        return b""


def serve(line: socket.socket) -> None:
    """Until the other side has ended."""
    line.sendall(_SIZE.pack(0))
    while True:
        packing, kind, size = _HEAD.unpack(_received(line, _HEAD.size))
        encoding, media_type = (bytes(_received(line, length)).decode() for length in (packing, kind))
        told = read(bytes(_received(line, size)), encoding, media_type)
        line.sendall(_SIZE.pack(len(told)) + told)


def main(number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is at the terminal means the tower
    interpreter.settle()
    with socket.socket(fileno=number) as line:
        try:
            serve(line)
        except ConnectionError:
            os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
