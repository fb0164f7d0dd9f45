"""One thread, one connection; two on a database server. All that waits commits together (group commit).

Events per transaction matter more than any other choice (measured: 550/s one by
one, 45,000/s at 5,000 a transaction). The hand-over is bounded; when it is full
the caller is told to come back (429), before memory is.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import random
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from tower.errors import Backpressure, TowerError, Unavailable
from tower.faults import fault
from tower.outages import outage

log = logging.getLogger("tower.writer")
T = TypeVar("T")

#: SQLSTATEs after which the same transaction may simply be run again.
AGAIN = frozenset({"40001", "40P01", "55P03"})
TRIES = 5
#: What is in the middle of its commit when the process ends; the rest was promised to nobody.
LEAVE_SECONDS = 2.0
#: Write threads where the database is a server of its own: while it works for one, the other folds
#: (measured: 0.73 instead of 0.62 x raw INSERT). They meet at the locks of their traces.
ON_A_SERVER = 2
#: Rows that wait before the second takes part: of a small load it would make groups half as large, and
#: wait with them for the same traces (measured: reports one by one on 16 connections, 0.7 x).
WORTH_A_SECOND = 200
#: Jobs that are looked at for one that wants no run of the other thread's.
LOOKED_AT = 32


@dataclass(slots=True, eq=False)
class Job:
    """One request's part of a transaction.

    ``size`` counts its rows. Jobs of one ``door`` may share a transaction: the
    door is called once with all their parts and gives back one answer a part.
    ``runs`` are the ids of those that it locks: two transactions that meet in one
    would take turns.
    """

    door: Callable[[Sequence[Any]], Sequence[Any]]
    part: Any
    size: int
    #: Whose turn it takes.
    who: str = ""
    runs: Set[str] = frozenset()
    future: Future[Any] = field(default_factory=Future)


class BeginAgain(Exception):
    """A transaction that found something to be done before it, in a transaction of its own."""

    def __init__(self, first: Callable[[], Any]) -> None:
        super().__init__()
        self.first = first


class Turns:
    """What waits, one of each sender after the other: who floods waits for itself."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[Job]] = OrderedDict()
        #: All that waits, in rows.
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._of)

    def put(self, job: Job) -> None:
        self._of.setdefault(job.who, deque()).append(job)
        self.size += job.size

    def next(self, held: Set[str]) -> Job | None:
        """Whose turn it is, of those that want none of the runs that are ``held``."""
        # The first of each sender before the second of any: who floods one run hides nobody.
        firsts = (jobs[0] for jobs in self._of.values())
        others = chain.from_iterable(islice(jobs, 1, None) for jobs in self._of.values())
        waiting = islice(chain(firsts, others), LOOKED_AT)
        return next((job for job in waiting if job.runs.isdisjoint(held)), None)

    def take(self, job: Job) -> None:
        jobs = self._of.pop(job.who)
        jobs.remove(job)
        if jobs:
            self._of[job.who] = jobs  # behind all others
        self.size -= job.size


class Writer:
    """The write threads of a process; started with the first job, daemonic."""

    def __init__(self) -> None:
        self._jobs = Turns()
        self._urgent: deque[Job] = deque()
        self._unanswered = 0
        self._more = threading.Condition()
        self._busy = 0
        #: The runs of the transactions that are under way.
        self._held: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(
        self, door: Callable[[Sequence[Any]], Sequence[Any]], part: Any, *, size: int, who: str = "",
        runs: Set[str] = frozenset(),
    ) -> Future[Any]:  # fmt: skip
        """Hand one part over; its answer comes through the future after the commit."""
        job = Job(door, part, size, who, runs)
        with self._more:
            if self._unanswered >= settings.TOWER_INGEST_INFLIGHT:
                raise Backpressure("Too many requests wait for the database; try again.")
            self._unanswered += 1
            self._jobs.put(job)
            self._wake()
        job.future.add_done_callback(self._answered)
        return job.future

    def urgent(self, work: Callable[[], T]) -> T:
        """Run one short transaction in a write thread, before what waits there; its answer."""
        job = Job(lambda parts: [work()], None, 0)
        with self._more:
            self._urgent.append(job)
            self._wake()
        answer: T = job.future.result()
        return answer

    def close(self) -> None:
        """End the threads, each after the transaction that it is in (see ``live.Publisher.close``)."""
        with self._more:
            self._closed = True
            self._more.notify_all()
        for thread in self._threads:
            thread.join(LEAVE_SECONDS)

    def _wake(self) -> None:
        if not self._threads:
            for _ in range(1 if connection.vendor == "sqlite" else ON_A_SERVER):
                thread = threading.Thread(target=self._run, name="tower-writer", daemon=True)
                self._threads.append(thread)
                thread.start()
            atexit.register(self.close)
        self._more.notify()

    def _answered(self, _: Future[Any]) -> None:
        with self._more:
            self._unanswered -= 1

    def _run(self) -> None:
        while True:
            with self._more:
                while not self._closed and not self._calls():
                    self._more.wait()
                if self._closed:
                    return
                self._busy += 1
                group = self._group()
                runs = set().union(*(job.runs for job in group))
                self._held |= runs
            if group:
                commit(group)
            with self._more:
                self._busy -= 1
                self._held -= runs
                self._more.notify()  # what waited for these runs

    def _calls(self) -> bool:
        """Whether one more thread should take up what waits."""
        if self._urgent or (self._jobs and not self._busy):
            return True
        return self._jobs.size >= WORTH_A_SECOND and self._jobs.next(self._held) is not None

    def _group(self) -> list[Job]:
        """The next transaction: an urgent one alone, or what fits into one."""
        if self._urgent:
            urgent = self._urgent.popleft()
            urgent.future.set_running_or_notify_cancel()
            return [urgent]
        group: list[Job] = []
        size, most = 0, settings.TOWER_EVENT_BATCH
        while size < most and (job := self._jobs.next(self._held)) is not None:
            if group and (job.door is not group[0].door or size + job.size > most):
                break
            self._jobs.take(job)
            # From here on it cannot be cancelled; before, who asked has gone, and nothing was promised.
            if job.future.set_running_or_notify_cancel():
                group.append(job)
                size += job.size
        return group


def commit(group: list[Job]) -> None:
    """Run a group as one transaction; if it fails, each job alone, so that a poisoned one fails by itself."""
    try:
        answers = in_transaction(lambda: group[0].door([job.part for job in group]))
        fault("after_commit", "rest")
    except Exception as error:
        if len(group) > 1 and not _hits_all(error):
            for job in group:
                commit([job])
            return
        for job in group:
            job.future.set_exception(_as_refusal(error))
        return
    for job, answer in zip(group, answers, strict=True):
        job.future.set_result(answer)


#: Outages that nobody's part of a group has caused: alone, each would wait for the same again.
OUTAGES = frozenset({"database_unavailable", "database_busy", "storage_full"})


def _hits_all(error: Exception) -> bool:
    found = outage(error)
    return found is not None and found.code in OUTAGES


def in_transaction(work: Callable[[], T]) -> T:
    """``work`` in a transaction of its own, again after a deadlock or a serialisation failure."""
    for attempt in range(TRIES):
        try:
            with _turn(), transaction.atomic(savepoint=False):
                answer = work()
                fault("before_commit")
            return answer
        except BeginAgain as again:
            with transaction.atomic(savepoint=False):
                again.first()
        except (OperationalError, InterfaceError) as error:
            if connection.connection is not None and not connection.in_atomic_block:
                _drop_if_broken()
            if getattr(error.__cause__, "sqlstate", None) not in AGAIN or attempt == TRIES - 1:
                raise
            time.sleep(random.uniform(0, 0.02 * (attempt + 1)))
    raise AssertionError("unreachable")


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """SQLite's write lock is waited for in growing sleeps; a file lock wakes the next process at once.

    Measured beside a busy writer: a control's p95 was 243 ms without it. What
    does not pass here (sessions, the admin) waits for SQLite's own lock as ever.
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        yield
        return
    path = f"{connection.settings_dict['NAME']}-turn"
    with Path(path).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _drop_if_broken() -> None:
    # The thread keeps its connection; one that the server has cut is replaced at the next use.
    try:
        usable = connection.is_usable()
    except Exception:
        usable = False
    if not usable:
        connection.close()


def _as_refusal(error: Exception) -> Exception:
    if isinstance(error, TowerError):
        return error
    if found := outage(error):
        log.warning("a group was not stored", exc_info=error)
        return found
    if isinstance(error, DatabaseError | InterfaceError):
        log.warning("a group was not stored", exc_info=error)
        return unavailable(error)
    log.error("a group was not stored", exc_info=error)
    return Unavailable("The tower could not store this; send it again.")


#: What the database says, and what a caller is told; first match.
SAID: tuple[tuple[str, str, str], ...] = (
    ("locked", "database_busy", "The database is busy; try again."),
    ("disk", "storage_full", "The database has no room left."),
    ("readonly", "storage_full", "The database cannot be written."),
    ("read-only", "storage_full", "The database cannot be written."),
    ("no space", "storage_full", "The database has no room left."),
)


def unavailable(error: Exception) -> Unavailable:
    """A database error as the 503 that a caller may act on."""
    said = str(error).lower()
    for word, code, message in SAID:
        if word in said:
            return Unavailable(message, code=code)
    return Unavailable("The database does not answer; try again.", code="database_unavailable")


_writer = Writer()


def submit(
    door: Callable[[Sequence[Any]], Sequence[Any]], part: Any, *, size: int, who: str = "",
    runs: Set[str] = frozenset(),
) -> Future[Any]:  # fmt: skip
    return _writer.submit(door, part, size=size, who=who, runs=runs)


def in_turn(work: Callable[[], T]) -> T:
    """One short transaction of another door (a control).

    On SQLite it runs in the write thread, before what waits there, because two
    threads that want the one write lock sleep in growing steps; on PostgreSQL
    in the caller's thread, on the caller's connection.
    """
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        return _writer.urgent(work)
    return in_transaction(work)
