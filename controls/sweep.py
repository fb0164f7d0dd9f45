"""What must happen later: commands that wait for Redis, what a CANCEL found pending, deadlines, trees.

Any number of sweepers may run, and each deed may be repeated. Three rounds, each
in a thread of its own, because a Redis that hangs must not hold up a cancel.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import F, QuerySet
from ulid import ULID

from controls import bulk, ledger
from controls.clock import now_ms
from controls.issue import delivery_of
from controls.models import Beat, Bulk, ControlRecord
from controls.store import CHANNELS, CommandStore, Delivery, StoreAway, store
from controls.turns import alone
from instances import ingest, live, partitions, tree, writer
from instances.intents import CANCEL
from instances.models import Deadline, Intent, IntentLedger, Trace
from instances.sources import EventSource, SourceAway, queue
from tower import metrics
from tower.faults import fault
from tower.redis import client

log = logging.getLogger(__name__)

ROLE: Final = "sweeper"
#: While this row of Beat stands, reports wait unread; since then no clock counts.
UNHEARD: Final = "unheard"
#: Rows of one deed in one round; what is left comes in the next.
BATCH: Final = 500
#: Tasks that one transaction of a cancel ends at most.
SWEEP_LIMIT: Final = 1_000
#: Commands of an ended tree stay so long.
KEEP_MS: Final = 24 * 3600 * 1000
#: Longer silence than this is time in which nobody listened: no clock counts it.
DEAF_MS: Final = 30_000
#: The shape of an ended tree rests so long before it is numbered.
REST_MS: Final = 5_000
#: Traces that ended up to so long ago are looked at for numbering.
NUMBER_WITHIN_MS: Final = 3600 * 1000
#: A round that is woken again and again still leaves the processor to others.
PAUSE_SECONDS: Final = 0.02
#: Nothing asks a Redis or a database that is away more often.
PATIENCE_SECONDS: Final = 1.0

#: Does what is due now; true where more of it waits.
Deed = Callable[[], bool]


# -- deeds that need Redis


def restore(commands: CommandStore) -> bool:
    """Fill a Redis that lost its data with the commands of all live trees, the sentinel last."""
    if commands.intact():
        return False
    if commands.restore(_live_commands(), token=str(ULID())):
        log.info("commands_restored")
    return False


def deliver(commands: CommandStore) -> bool:
    """Hand over what Redis is not known to hold: Redis was away, or a process died between commit and put."""
    with alone("deliver") as mine:
        if not mine:
            return False
        waiting = list(Intent.objects.filter(delivered_number__lt=F("number")).order_by("pk")[:BATCH])
        records = _records(waiting)
        if not records:
            return False
        fault("before_put", "sweep")
        held = commands.put_all([delivery_of(record) for record in records])
        records = [record for record, holds in zip(records, held, strict=True) if holds]
        now = now_ms()
        writer.in_turn(lambda: _mark_delivered(records, now))
    for number, trace_id in {(record.trace, record.trace_id) for record in records}:
        live.publish_intents(number, trace_id)
    return len(waiting) == BATCH


def _mark_delivered(records: list[ControlRecord], at_ms: int) -> None:
    for record in records:
        ledger.mark_delivered(record, at_ms)


def retire(commands: CommandStore) -> bool:
    """Let the commands of ended trees go after a day."""
    kept = IntentLedger.objects.filter(expiring=False, last_number__gt=0).values("trace")
    traces = Trace.objects.filter(number__in=kept, ended_ms__isnull=False)
    ended = list(traces.annotate(gone=F("ended_ms") + KEEP_MS).values_list("number", "id", "gone")[:BATCH])
    if ended:
        commands.retire({trace_id: gone for _, trace_id, gone in ended})
        numbers = [number for number, _, _ in ended]
        writer.in_turn(lambda: _ledgers(numbers, expiring=False).update(expiring=True))
    return len(ended) == BATCH


def revive(commands: CommandStore) -> bool:
    """Keep the commands of a trace that a late child opened again, and put them back if they were gone."""
    going = IntentLedger.objects.filter(expiring=True).values("trace")
    opened = dict(Trace.objects.filter(ended_ms=None, number__in=going).values_list("number", "id")[:BATCH])
    if opened:
        commands.keep(list(opened.values()))
        writer.in_turn(lambda: _delivered_anew(opened))
    return len(opened) == BATCH


def _delivered_anew(opened: dict[int, str]) -> None:
    if _ledgers(opened, expiring=True).update(expiring=False):
        Intent.objects.filter(trace__in=opened).update(delivered_number=0)


def _ledgers(numbers: Iterable[int], *, expiring: bool) -> QuerySet[IntentLedger]:
    return IntentLedger.objects.filter(trace__in=list(numbers), expiring=expiring)


def _live_commands() -> Iterator[Delivery]:
    alive = Trace.objects.filter(ended_ms=None).values("number")
    after = 0
    while rows := list(Intent.objects.filter(pk__gt=after, trace__in=alive).order_by("pk")[:BATCH]):
        after = rows[-1].pk
        records = _records(rows)
        fault("before_put", "restore")
        yield from (delivery_of(record) for record in records)


def _records(intents: Sequence[Intent]) -> list[ControlRecord]:
    """The audit rows of the controls that stand; an intent without one has nothing to say."""
    return list(ControlRecord.objects.filter(id__in=[intent.control_id for intent in intents]))


# -- deeds that need the database only


def beat() -> bool:
    """Say that somebody listens; time in which nobody did is taken out of every deadline."""
    now = now_ms()
    writer.in_turn(lambda: _beat(now))
    return False


def _beat(now: int) -> None:
    last = Beat.objects.filter(role=ROLE).values_list("at_ms", flat=True).first()
    if last is None:
        Beat.objects.bulk_create([Beat(role=ROLE, at_ms=now)], ignore_conflicts=True)
        return
    # The sweeper whose row matches is the one that moves the deadlines.
    moved = Beat.objects.filter(role=ROLE, at_ms=last).update(at_ms=now)
    # What is unheard is counted out when it has been heard, and not twice.
    if moved and abs(now - last) > DEAF_MS and not unheard():
        _count_out(last, now)


def _count_out(since: int, now: int) -> None:
    """Also after a step of the clock, in either direction: no mass of deadlines fires for it."""
    Deadline.objects.filter(due_ms__gt=min(now, since)).update(due_ms=F("due_ms") + (now - since))
    metrics.DEAF_SECONDS.inc(abs(now - since) / 1000)
    log.warning("deaf_time", extra={"duration_ms": now - since})


def unheard() -> bool:
    """Reports wait in the queue: an actor that is silent here may have said all that it should."""
    return Beat.objects.filter(role=UNHEARD).exists()


def hear(reports: EventSource) -> bool:
    """Look whether reports wait too long; once folded, that time is taken out of every deadline."""
    try:
        behind = reports.standing().oldest_ms > DEAF_MS
    except SourceAway:
        return False  # what is known holds until it can be asked again
    if behind != unheard():
        now = now_ms()
        writer.in_turn(lambda: _unheard_from(now - DEAF_MS) if behind else _heard(now))
    return False


def _unheard_from(at_ms: int) -> None:
    Beat.objects.bulk_create([Beat(role=UNHEARD, at_ms=at_ms)], ignore_conflicts=True)


def _heard(now: int) -> None:
    since = Beat.objects.filter(role=UNHEARD).values_list("at_ms", flat=True).first()
    # The sweeper whose row goes is the one that moves the deadlines.
    if since is not None and Beat.objects.filter(role=UNHEARD).delete()[0]:
        _count_out(since, now)


def sweep_cancels() -> bool:
    """End what each CANCEL found pending: one transaction a trace and round, so that none starves another."""
    unswept = Intent.objects.filter(action=CANCEL, swept=False).order_by("pk")
    by_trace: dict[int, list[Intent]] = {}
    for intent in unswept[:BATCH]:
        by_trace.setdefault(intent.trace, []).append(intent)
    # Each of them: ``any`` would stop at the first that has more.
    return True in [_swept_on(number, intents) for number, intents in by_trace.items()]


def _swept_on(number: int, intents: list[Intent]) -> bool:
    try:
        with alone("sweep", number) as mine:
            if mine and ingest.sweep_cancelled(number, limit=SWEEP_LIMIT):
                return True
            if mine:
                writer.in_turn(lambda: _mark_swept(intents))
    except Exception as error:
        # One tree that cannot be swept must not keep the others waiting; it comes again next time.
        failed("sweep", error)
    return False


def _mark_swept(intents: list[Intent]) -> None:
    for intent in intents:
        # A control that came meanwhile wants a sweep of its own.
        if Intent.objects.filter(pk=intent.pk, number=intent.number).update(swept=True) and intent.cancel_ms:
            metrics.CONTROL_EFFECT_SECONDS.observe(max(0, now_ms() - intent.cancel_ms) / 1000)


def expire() -> bool:
    """Act on deadlines that are due; each is looked at again under the lock of its trace."""
    if unheard():
        return False
    with alone("expire") as mine:
        return mine and ingest.expire(now_ms(), limit=BATCH) >= BATCH


def ask_of_many() -> bool:
    """A few runs of each action on many, so that none waits for the end of another."""
    return True in [_asked_on(each) for each in bulk.going()]


def _asked_on(action: Bulk) -> bool:
    try:
        return bulk.step(action)
    except Exception as error:
        # It goes on next time; the others must not wait for it.
        failed("bulk", error)
        return False


def make_partitions() -> bool:
    """Room in the event log for the next runs."""
    with alone("partition") as mine:
        if mine:
            for made in partitions.make_ahead(now_ms()):
                log.info("partition_made", extra={"partition": made.name})
            partitions.analyse_fresh()
    return False


def number_trees() -> bool:
    """Number the trees that ended lately and have come to rest."""
    now = now_ms()
    resting = Trace.objects.filter(ended_ms__gte=now - NUMBER_WITHIN_MS, shape_ms__lte=now - REST_MS)
    for number in resting.exclude(numbered_seq=F("shape_seq")).values_list("number", flat=True)[:10]:
        with alone("number", number) as mine, metrics.NUMBERING_SECONDS.time():
            if mine:
                tree.number(number)
    return False


# -- rounds


@dataclass
class Round:
    """Deeds that are done one after the other, again and again, in a thread of their own."""

    name: str
    #: (name, deed, at most once in so many seconds)
    deeds: Sequence[tuple[str, Deed, float]]
    period: float
    woken: threading.Event = field(default_factory=threading.Event)
    _done_at: dict[str, float] = field(default_factory=dict)

    def turn(self) -> bool:
        """Each deed that is due, once; true where more waits. Raises nothing but ``StoreAway``."""
        return True in [self._do(name, deed) for name, deed, every in self.deeds if self._due(name, every)]

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                more = self.turn()
            except StoreAway as error:
                log.warning("redis_away", extra={"error": str(error)})
                stop.wait(PATIENCE_SECONDS)
                continue
            stop.wait(PAUSE_SECONDS)
            if not more and not stop.is_set():
                self.woken.wait(self.period)
            self.woken.clear()

    def _due(self, name: str, every: float) -> bool:
        now = monotonic()
        if now - self._done_at.get(name, -every) < every:
            return False
        self._done_at[name] = now
        return True

    def _do(self, name: str, deed: Deed) -> bool:
        try:
            with metrics.SWEEP_SECONDS.labels(name).time():
                return deed()
        except StoreAway:
            raise
        except Exception as error:
            # Whatever one deed dies of, the others go on; the database may be away, or back in a second.
            failed(name, error)
            self._done_at[name] = monotonic() + random.uniform(0, PATIENCE_SECONDS)
            return False


def failed(deed: str, error: Exception) -> None:
    log.warning("deed_failed", extra={"deed": deed, "error": str(error)}, exc_info=error)
    # A connection that the server has cut would fail for ever.
    connection.close()


def rounds(commands: CommandStore, reports: EventSource | None = None) -> tuple[Round, Round]:
    """What a sweeper does: with the database, and between it and Redis."""
    heard = reports or queue()
    pace = float(settings.TOWER_SWEEP_SEC)
    ending = Round(
        "ending",
        (
            ("beat", beat, 1.0),
            ("sweep", sweep_cancels, 0.0),
            ("expire", expire, 0.0),
            ("number", number_trees, 1.0),
            ("partition", make_partitions, 10.0),
        ),
        period=pace,
    )
    delivering = Round(
        "delivering",
        (
            # First, since the others end the round where the Redis of commands is away.
            ("hear", lambda: hear(heard), 1.0),
            ("restore", lambda: restore(commands), 0.0),
            ("deliver", lambda: deliver(commands), 0.0),
            ("retire", lambda: retire(commands), 5.0),
            ("revive", lambda: revive(commands), 5.0),
        ),
        # A lost Redis is to be seen within a second, and seeing costs one EXISTS.
        period=min(pace, 0.5),
    )
    return ending, delivering


def asking() -> Round:
    """Apart from the others: the many controls of one action must not hold up an ending or a delivery."""
    return Round("asking", (("bulk", ask_of_many, 0.0),), period=min(float(settings.TOWER_SWEEP_SEC), 0.5))


def run(stop: threading.Event) -> None:
    """Sweep until ``stop``; blocks."""
    reports = queue()
    with suppress(DatabaseError):
        hear(reports)  # a backlog is folded before any deadline is looked at
    ending, delivering = rounds(store(), reports)
    threads = [
        threading.Thread(target=round.run, args=[stop], name=f"sweep-{round.name}")
        for round in (ending, delivering, asking())
    ]
    for thread in threads:
        thread.start()
    _listen(stop, ending.woken)
    for thread in threads:
        thread.join()


def _listen(stop: threading.Event, woken: threading.Event) -> None:
    """Wake at once when a CANCEL is published; the other actions leave nothing to end."""
    while not stop.is_set():
        try:
            with client().pubsub(ignore_subscribe_messages=True) as ear:  # type: ignore[no-untyped-call]
                ear.psubscribe(CHANNELS)
                while not stop.is_set():
                    message = ear.get_message(timeout=PATIENCE_SECONDS / 2)
                    if message and "CANCEL" in str(message["data"]):
                        woken.set()
        except redis.RedisError:
            stop.wait(PATIENCE_SECONDS)
    woken.set()
