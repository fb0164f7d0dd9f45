"""Is it alive, can it work, how much did it do: /healthz, /readyz, /metrics.

They say no host names, paths or error texts: anybody may ask.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, F, Min
from django.http import HttpRequest, HttpResponse, JsonResponse
from redis import RedisError

import tower
from controls.models import Beat
from instances import dead_letters
from instances.models import Intent, QueuePause
from instances.sources import SourceAway, queue
from tower import metrics, redis
from tower.access.matrix import READ, holds
from tower.access.principal import principal_of_user
from tower.access.tokens import principal_of_token
from tower.api import Forbidden, NotAuthenticated, bearer, error_answer
from tower.binding import is_loopback
from tower.upgrade import pending_migrations

PROBE_SECONDS = 1.0
SWEEPER_SECONDS = 15
UNDELIVERED_MS = 10_000
#: A report that waits longer means that the consumer is behind.
BEHIND_MS = 30_000
FREE_BYTES = 256 << 20
#: Below it the next commit may fail.
FULL_BYTES = 1 << 20
FIXED_SQLITE = (3, 51, 3)

#: Written by a proxy: then the loopback address is the proxy's.
FORWARDING = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_FORWARDED",
    "HTTP_X_REAL_IP",
    "HTTP_VIA",
)

#: Threads, since a probe may hang and its caller must not; few, since then more would hang as well.
_probes = ThreadPoolExecutor(max_workers=8, thread_name_prefix="probe")

Check = dict[str, Any]


def healthz(request: HttpRequest) -> HttpResponse:
    return told({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    checks, warnings = examine()
    degraded = [name for name, check in checks.items() if not check["ok"] and name != "database"]
    ready = checks["database"]["ok"]
    body = {
        "status": "ready" if ready else "unready",
        "degraded": degraded,
        "warnings": warnings,
        "version": tower.__version__,
        "checks": checks,
    }
    return told(body, 200 if ready else 503)


def expose(request: HttpRequest) -> HttpResponse:
    """For a token or a person who may read, and for a program on this machine that came here directly."""
    raw = bearer(request)
    if raw is not None or not came_directly(request):
        principal = principal_of_user(request.user) if raw is None else principal_of_token(raw)
        if principal is None:
            return error_answer(NotAuthenticated("Sign in, or send a token."))
        if not holds(principal, READ):
            return error_answer(Forbidden("You lack the right to do this.", needs=READ.needs))
    answer = HttpResponse(metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")
    answer["Cache-Control"] = "no-store"
    return answer


def came_directly(request: HttpRequest) -> bool:
    return is_loopback(request.META.get("REMOTE_ADDR") or "-") and not FORWARDING & request.META.keys()


def told(body: Mapping[str, Any], status: int = 200) -> HttpResponse:
    answer = JsonResponse(body, status=status)
    answer["Cache-Control"] = "no-store"
    return answer


def report() -> tuple[dict[str, Check], list[str]]:
    """For the health page: the checks, what this process counts, what is set up unsafely."""
    checks, warnings = examine()
    checks["consumer"]["paused"] = paused()
    checks["browsers"] = {"ok": True, "connections": int(metrics.total(metrics.WS_CONNECTIONS))}
    checks["reports"] = {"ok": True, "events": int(metrics.total(metrics.EVENTS))}
    return checks, warnings


def examine() -> tuple[dict[str, Check], list[str]]:
    """What /readyz says: all checks at once, each within its second, and what is set up unsafely."""
    asked: dict[str, Future[tuple[Check, list[str]]]] = {
        name: _probes.submit(probe) for name, probe in PROBES.items()
    }
    deadline = time.monotonic() + PROBE_SECONDS
    checks: dict[str, Check] = {}
    warnings = ["debug"] if settings.DEBUG else []
    for name, answer in asked.items():
        try:
            checks[name], more = answer.result(max(0.0, deadline - time.monotonic()))
            warnings += more
        except TimeoutError:
            answer.cancel()
            checks[name] = {"ok": False}
    return checks, warnings


def on_own_connection(ask: Callable[[], tuple[Check, list[str]]]) -> Callable[[], tuple[Check, list[str]]]:
    """Each probe has a thread, and so a connection, of its own; not ok where the database fails it."""

    def probe() -> tuple[Check, list[str]]:
        try:
            return ask()
        except DatabaseError:
            return {"ok": False}, []
        finally:
            connection.close()

    return probe


@on_own_connection
def database() -> tuple[Check, list[str]]:
    start = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    latency = milliseconds(start)
    pending = pending_migrations()
    full = connection.vendor == "sqlite" and shutil.disk_usage(settings.TOWER_HOME).free < FULL_BYTES
    check = {
        "ok": pending == 0 and not full,
        "engine": connection.vendor,
        "latency_ms": latency,
        "pending_migrations": pending,
    }
    return check, WARNINGS_OF[connection.vendor]()


def sqlite_warnings() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous")
        synchronous = cursor.fetchone()[0]
    old = sqlite3.sqlite_version_info < FIXED_SQLITE
    return ["sqlite_version"] * old + ["sqlite_synchronous"] * (synchronous < 2)


def postgres_warnings() -> list[str]:
    names = ("synchronous_commit", "fsync", "full_page_writes")
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
        unsafe = any(value == "off" for value in cursor.fetchone())
    return ["pg_synchronous_commit"] * unsafe


WARNINGS_OF = {"sqlite": sqlite_warnings, "postgresql": postgres_warnings}


def redis_server() -> tuple[Check, list[str]]:
    start = time.perf_counter()
    try:
        told: Any = redis.client().info("memory", "persistence")
    except RedisError:
        return {"ok": False}, []
    lossy = not int(told.get("aof_enabled", 1))
    evicts = told.get("maxmemory_policy", "noeviction") != "noeviction"
    return (
        {"ok": True, "latency_ms": milliseconds(start)},
        ["redis_persistence"] * lossy + ["redis_eviction"] * evicts,
    )


@on_own_connection
def consumer() -> tuple[Check, list[str]]:
    try:
        waits, dead = queue().standing(), dead_letters.place().count()
    except SourceAway:
        return {"ok": False}, []
    check = {
        "ok": waits.oldest_ms <= BEHIND_MS and not paused(),
        "lag": waits.lag,
        "oldest_s": round(waits.oldest_ms / 1000, 1),
        "pending": waits.pending,
        "dead": dead,
        "consumers": waits.consumers,
    }
    return check, []


def paused() -> bool:
    """Consumers stopped reading, and nobody let them go on yet."""
    return QueuePause.objects.filter(resumed_ms=None).exists()


@on_own_connection
def commands() -> tuple[Check, list[str]]:
    waiting = Intent.objects.filter(delivered_number__lt=F("number")).aggregate(
        count=Count("pk"), oldest=Min("created_ms")
    )
    late = waiting["oldest"] is not None and now_ms() - waiting["oldest"] > UNDELIVERED_MS
    return {"ok": not late, "undelivered": waiting["count"]}, []


@on_own_connection
def sweeper() -> tuple[Check, list[str]]:
    beat = Beat.objects.filter(role="sweeper").first()
    if beat is None:
        return {"ok": False}, []
    age = max(0.0, (now_ms() - beat.at_ms) / 1000)
    return {"ok": age <= SWEEPER_SECONDS, "age_s": round(age, 1)}, []


def disk() -> tuple[Check, list[str]]:
    try:
        left = shutil.disk_usage(settings.TOWER_HOME).free
    except OSError:
        return {"ok": False}, []
    return {"ok": left >= FREE_BYTES, "free_bytes": left}, []


PROBES: Mapping[str, Callable[[], tuple[Check, list[str]]]] = {
    "database": database,
    "redis": redis_server,
    "consumer": consumer,
    "commands": commands,
    "sweeper": sweeper,
    "disk": disk,
}


def milliseconds(start: float) -> float:
    return round((time.perf_counter() - start) * 1000, 1)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
