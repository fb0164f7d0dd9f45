"""``manage.py up``: everything in one foreground process tree, without installing."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connections
from prometheus_client import multiprocess

from tower import binding, checks, kafka, logs, metrics, static, upgrade, valkey
from tower.first_start import admin_password, demo_token, install_demo
from tower.supervisor import Child, Supervisor


class Command(BaseCommand):
    help = (
        "Run migrations, then an embedded Valkey (unless REDIS_URL is set), web, sweeper and consumer,"
        " until Ctrl-C."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default=settings.TOWER_BIND, metavar="HOST:PORT")
        parser.add_argument(
            "--demo", action="store_true", help="run a small fleet of simulated actors as well"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # Whatever is written under TOWER_HOME, the database above all, is for this user's eyes only.
        os.umask(0o077)
        try:
            with home_of_its_own():
                status = Start(options["bind"], demo=options["demo"]).run()
        except binding.Refused as refused:
            raise CommandError(str(refused)) from refused
        sys.exit(status)


class Start:
    """One start of the tree: what is prepared, then what runs."""

    def __init__(self, bind: str, *, demo: bool) -> None:
        host, port = binding.parsed(bind)
        checks.refuse_what_disagrees()
        binding.judge(host)
        self.demo = demo
        self.host = host
        self.listening = binding.bound_socket(host, port)
        self.port = int(self.listening.getsockname()[1])
        self.folder = settings.TOWER_HOME / "metrics"
        self.supervisor = Supervisor(say, self._forget)

    def run(self) -> int:
        # What this process has to tell it says to a person, in words.
        logging.getLogger("tower").setLevel(logging.WARNING)
        metrics.empty_folder(self.folder)
        self.supervisor.listen()
        try:
            redis_url = self._redis()
            password, token = self._prepared()
            static.collect()
        except BaseException:
            self.supervisor.stop()
            raise
        # The children have connections of their own; one that is handed down would be used by two.
        connections.close_all()
        environment = self._environment(redis_url)
        self._start(
            "web", environment, "web", "--fd", str(self.listening.fileno()), hands=[self.listening.fileno()]
        )
        self._start("sweeper", environment, "sweep")
        for _ in range(settings.TOWER_CONSUMERS):
            self._start("consumer", environment, "consume")
        if self.demo:
            self._start("demo", {**environment, "TOWER_DEMO_TOKEN": token}, "demo_fleet")
        self._tell(redis_url, password)
        status = self.supervisor.run()
        say("Stopped.")
        return status

    def _redis(self) -> str:
        """The URL for the children. The embedded server is ready while others still load."""
        if (events := str(settings.TOWER_EVENTS_URL)) and not kafka.is_kafka(events):
            look_at(events, name="TOWER_EVENTS_URL", lacking="reports are read from it when it is there")
        url = str(settings.REDIS_URL)
        if url:
            look_at(url)
            return url
        words, url = valkey.prepare()
        self.supervisor.start(Child("valkey", words, os.environ, last=True))
        return url

    def _prepared(self) -> tuple[str, str]:
        """Tables, and what the first start puts in; what to tell of the password, and the demo's token."""
        try:
            with upgrade.alone():
                if upgrade.migrate():
                    say("The database was brought up to date.")
                return admin_password(), self._demo() if self.demo else ""
        except DatabaseError as error:
            raise binding.Refused(f"The database cannot be used: {one_line(error)}.") from error

    def _demo(self) -> str:
        install_demo()
        return demo_token()

    def _environment(self, redis_url: str) -> dict[str, str]:
        # Whoever reads a process's environment must not find the password there for ever.
        inherited = {name: value for name, value in os.environ.items() if name != "TOWER_ADMIN_PASSWORD"}
        return {
            **inherited,
            "REDIS_URL": redis_url,
            "TOWER_BIND": binding.shown(self.host, self.port),
            "TOWER_URL": self.url,
            "PYTHONUNBUFFERED": "1",
            "PROMETHEUS_MULTIPROC_DIR": str(self.folder),
            "TOWER_LOG": os.environ.get("TOWER_LOG") or ("text" if sys.stdout.isatty() else "json"),
        }

    def _start(
        self, name: str, environment: dict[str, str], *words: str, hands: list[int] | None = None
    ) -> None:
        self.supervisor.start(
            Child(
                name,
                [sys.executable, str(settings.BASE_DIR / "manage.py"), *words],
                {**environment, "TOWER_ROLE": name},
                hands=hands or (),
            )
        )

    @property
    def url(self) -> str:
        """Where a program on this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{binding.shown(host, self.port)}"

    def _tell(self, redis_url: str, password: str) -> None:
        say(f"Command Tower: {self.url}/")
        if not binding.is_loopback(self.host):
            hosts = ", ".join(settings.ALLOWED_HOSTS)
            say(f"Open to other machines at {binding.shown(self.host, self.port)}, for the hosts {hosts}.")
        # A person has to hand the embedded server's password to actors; an external one's is theirs already.
        say(f"Redis:         {logs.masked(redis_url) if settings.REDIS_URL else redis_url}")
        say(f"Sign in as:    admin, {password}")

    def _forget(self, pid: int) -> None:
        with suppress(OSError):
            multiprocess.mark_process_dead(pid, str(self.folder))  # type: ignore[no-untyped-call]


def say(line: str) -> None:
    # Who reads this may have gone; the tree must not end of it.
    with suppress(BrokenPipeError):
        print(line, flush=True)


@contextmanager
def home_of_its_own() -> Iterator[None]:
    """The kernel's lock on TOWER_HOME: two towers would share a Valkey's files. It ends with the process."""
    try:
        settings.TOWER_HOME.mkdir(parents=True, exist_ok=True)
        lock = os.open(settings.TOWER_HOME / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise binding.Refused(
            f"TOWER_HOME {settings.TOWER_HOME} cannot be written: {error.strerror}."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise binding.Refused(
            f"Another `manage.py up` runs on {settings.TOWER_HOME}: stop it, or set another TOWER_HOME."
        ) from error
    try:
        yield
    finally:
        os.close(lock)


def look_at(
    url: str, *, name: str = "REDIS_URL", lacking: str = "commands are delivered when it is there"
) -> None:
    """A Redis that is away is waited for; a URL that is wrong or refused is a mistake to mend now."""
    try:
        redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1).ping()
    except redis.AuthenticationError as error:
        raise binding.Refused(f"{name} {logs.masked(url)}: the password is refused.") from error
    except (ValueError, redis.ResponseError) as error:
        raise binding.Refused(f"{name} {logs.masked(url)} cannot be used: {one_line(error)}.") from error
    except (redis.RedisError, OSError) as error:
        say(f"{name} {logs.masked(url)} does not answer ({one_line(error)}); starting without it, {lacking}.")


def one_line(error: Exception) -> str:
    return logs.masked(" ".join(str(error).split())).rstrip(".")
