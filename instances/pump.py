"""From a queue to the door: read, commit, acknowledge, and set aside what cannot be taken.

The order is the promise. An entry is acknowledged after its commit, or after
its dead letter; whatever dies in between is delivered again, and a repeated
event changes nothing. What the database or the queue does wrong never counts
against an entry.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, connection

from instances import ingest
from instances.intake import Sent, read_events
from instances.models import QueuePause
from instances.sources import DeadLetter, Entry, EventSource, SourceAway
from instances.writer import in_transaction, unavailable
from tower import metrics, reading
from tower.errors import Refusal, TowerError, Unavailable
from tower.faults import fault
from tower.outages import outage

log = logging.getLogger(__name__)

#: With so many entries in the span and more than half of them dead, something else is wrong (a deploy).
ENOUGH: Final = 100
SPAN_SECONDS: Final = 60.0
PAUSE_SECONDS: Final = 1.0
BEAT_SECONDS: Final = 1.0
#: Nothing asks a queue or a database that is away more often than the first; after a return all is well in
#: less than the second.
PATIENCE_SECONDS: Final = (1.0, 3.5)
#: Of a traceback's last line.
REASON_CHARACTERS: Final = 1_000


@dataclass(slots=True)
class Hand:
    """The entries of one read, and what was decided on each; on the rest nothing was."""

    entries: Sequence[Entry]
    stored: set[str] = field(default_factory=set)
    letters: dict[str, DeadLetter] = field(default_factory=dict)

    def refuse(self, entry: Entry, refusal: Refusal) -> None:
        said = str(refusal.details.get("field") or "")
        self.letters[entry.id] = DeadLetter(entry, refusal.message, refusal.code, said)


class Pump:
    """One consumer. ``beat`` says that it lives, and raises where the database is away."""

    def __init__(self, source: EventSource, *, beat: Callable[[], None], stop: threading.Event) -> None:
        self.source = source
        self.beat = beat
        self.stop = stop
        self.health = Health()
        self._beaten_at = -BEAT_SECONDS

    def run(self) -> None:
        """Until ``stop``; what is in hand then is finished first."""
        tries = 0
        while not self.stop.is_set():
            try:
                self.turn()
                tries = 0
            except (SourceAway, Unavailable) as error:
                tries += 1
                log.warning("consumer_waits", extra={"code": _code(error), "error": str(error)})
                self.stop.wait(_patience(tries))
        try:
            self.source.close()
        except SourceAway as error:
            log.warning("consumer_waits", extra={"code": _code(error), "error": str(error)})

    def turn(self) -> int:
        """One hand at most; how many entries it held. Nothing is read while the database is away."""
        with _from_database():
            if time.monotonic() - self._beaten_at >= BEAT_SECONDS:
                self.beat()
                self._beaten_at = time.monotonic()
            paused = self._paused()
        if paused:
            self.stop.wait(PAUSE_SECONDS)
            return 0
        entries = self.source.read(settings.TOWER_QUEUE_BATCH)
        if entries:
            self.take(entries)
        return len(entries)

    def take(self, entries: Sequence[Entry]) -> None:
        """Decide on each, keep what was decided, and give the rest back."""
        hand = Hand(entries)
        away: Unavailable | None = None
        try:
            self._decide(hand)
        except Unavailable as error:
            away = error
        self.health.look(hand)
        self._settle(hand)
        if self.health.tripped and away is None:
            self._pause()
        if away is not None:
            raise away

    # -- deciding

    def _decide(self, hand: Hand) -> None:
        entry_of: list[Entry] = []
        items: list[Any] = []
        for entry in hand.entries:
            try:
                items.append(_parsed(entry))
                entry_of.append(entry)
            except TowerError as refused:
                hand.refuse(entry, Refusal(refused.code, refused.message, refused.details))
        sent, rejected = read_events(items, ingest.now_ms())
        for index, _, refusal in rejected:
            hand.refuse(entry_of[index], refusal)
        if sent:
            self._store(hand, entry_of, sent)

    def _store(self, hand: Hand, entry_of: Sequence[Entry], sent: list[Sent]) -> None:
        """One transaction; where the fold raises, each half by itself, down to the one that is at fault."""
        for one in sent:
            fault("before_fold", one.report.event_id)
        try:
            report = ingest.ingest_sent(sent, source="queue")
            fault("after_commit", "queue")
        except Exception as error:
            away = _away(error)
            if away is not None:
                connection.close()
            if away is not None and (away.code != "query_timeout" or len(sent) == 1):
                raise away from error
            if len(sent) == 1:
                hand.letters[entry_of[sent[0].index].id] = _raised(entry_of[sent[0].index], error)
                return
            self._halve(hand, entry_of, sent)
            return
        for index, _, refusal in report.rejected:
            hand.refuse(entry_of[index], refusal)
        left = {entry_of[one.index].id for one in report.left}
        hand.stored |= {entry_of[one.index].id for one in sent} - hand.letters.keys() - left
        if report.left:
            self._store(hand, entry_of, report.left)

    def _halve(self, hand: Hand, entry_of: Sequence[Entry], sent: list[Sent]) -> None:
        middle = len(sent) // 2
        for half in (sent[:middle], sent[middle:]):
            # Neither a signal nor a wrong deploy waits for thousands of transactions.
            if self.stop.is_set() or self.health.would_trip(hand):
                return
            self._store(hand, entry_of, half)

    # -- keeping

    def _settle(self, hand: Hand) -> None:
        letters = [hand.letters[entry.id] for entry in hand.entries if entry.id in hand.letters]
        buried = self._buried(letters)
        done = [entry for entry in hand.entries if entry.id in hand.stored or entry.id in buried]
        left = [e for e in hand.entries if e.id not in hand.stored and e.id not in hand.letters]
        if done:
            self.source.acknowledge(done)
        if left:
            self.source.release(left, at_once=True)

    def _buried(self, letters: Sequence[DeadLetter]) -> set[str]:
        """Ids of the letters that are kept; others stay pending and come again, and hold up no report."""
        if not letters:
            return set()
        try:
            self.source.bury(letters)
        except SourceAway as error:
            log.warning("dead_letters_not_kept", extra={"count": len(letters), "error": str(error)})
            self.source.release([letter.entry for letter in letters], at_once=False)
            return set()
        for letter in letters:
            metrics.DEAD_LETTERS.labels(letter.code).inc()
        log.warning("dead_letters", extra={"count": len(letters), "code": letters[0].code})
        return {letter.entry.id for letter in letters}

    # -- pausing

    def _paused(self) -> bool:
        pause = QueuePause.objects.order_by("-pk").first()
        if pause is None:
            return False
        if pause.resumed_ms is None:
            return True
        if pause.resumed_ms != self.health.resumed_ms:
            self.health = Health(pause.resumed_ms)
        return False

    def _pause(self) -> None:
        seen, dead = self.health.totals()
        with _from_database():
            in_transaction(lambda: pause(seen=seen, dead=dead))
        log.error("consumer_paused", extra={"count": dead})


def pause(*, seen: int, dead: int) -> None:
    """Stop all consumers, until ``resume``."""
    QueuePause.objects.all().delete()
    QueuePause.objects.create(since_ms=ingest.now_ms(), seen=seen, dead=dead)


def resume() -> bool:
    """Let them go on; false where they had not stopped."""
    waiting = QueuePause.objects.filter(resumed_ms=None)
    return bool(in_transaction(lambda: waiting.update(resumed_ms=ingest.now_ms())))


class Health:
    """How many of the last minute's entries were dead; those put before ``resumed_ms`` do not count."""

    def __init__(self, resumed_ms: int = 0) -> None:
        self.resumed_ms = resumed_ms
        self.tripped = False
        self._minute: deque[tuple[float, int, int]] = deque()

    def look(self, hand: Hand) -> None:
        """Count what was decided; dead letters beyond the point where it is too much are taken back."""
        seen, dead = self.totals()
        before = (seen, dead)
        for entry in hand.entries:
            if entry.put_ms <= self.resumed_ms:
                continue
            is_dead = entry.id in hand.letters
            if is_dead and self.tripped:
                del hand.letters[entry.id]
            elif is_dead or entry.id in hand.stored:
                seen, dead = seen + 1, dead + is_dead
                self.tripped = self.tripped or _too_much(seen, dead)
        self._minute.append((time.monotonic(), seen - before[0], dead - before[1]))

    def would_trip(self, hand: Hand) -> bool:
        seen, dead = self.totals()
        fresh = [entry.id for entry in hand.entries if entry.put_ms > self.resumed_ms]
        died = sum(id in hand.letters for id in fresh)
        return _too_much(seen + died + sum(id in hand.stored for id in fresh), dead + died)

    def totals(self) -> tuple[int, int]:
        now = time.monotonic()
        while self._minute and self._minute[0][0] < now - SPAN_SECONDS:
            self._minute.popleft()
        return sum(seen for _, seen, _ in self._minute), sum(dead for *_, dead in self._minute)


def _too_much(seen: int, dead: int) -> bool:
    return seen >= ENOUGH and dead * 2 > seen


# -- one entry


def _parsed(entry: Entry) -> Any:
    """The one object that an entry holds."""
    if entry.deliveries > settings.TOWER_MAX_DELIVERIES:
        raise TowerError(
            f"Delivered {entry.deliveries} times and never finished; it was not looked at.",
            code="too_many_deliveries",
        )
    if not entry.complete:
        raise TowerError("The entry has no field event.", code="missing_field", field="event")
    if len(entry.raw) > settings.TOWER_MAX_BODY_BYTES:
        raise reading.body_too_large()
    value = reading.parse(entry.raw)
    if not isinstance(value, dict):
        raise TowerError("An entry holds exactly one object.", code="invalid_body", field="event")
    return value


def _raised(entry: Entry, error: Exception) -> DeadLetter:
    log.error("fold_failed", extra={"code": type(error).__name__}, exc_info=error)
    last = traceback.format_exception_only(error)[-1].strip()
    return DeadLetter(entry, last[:REASON_CHARACTERS], "fold_failed")


# -- whose fault


def _away(error: Exception) -> Unavailable | None:
    """The outage behind an exception; None where what was sent is at fault."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, DataError | IntegrityError):
        return None
    if found := outage(error):
        return found
    # A missing column is a wrong deploy, and an OSError the machine's: neither is an entry's fault.
    if isinstance(error, DatabaseError | InterfaceError | OSError):
        return unavailable(error)
    return None


@contextmanager
def _from_database() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # A connection that the server has cut would fail for ever.
        connection.close()
        if away := _away(error):
            raise away from error
        raise


def _code(error: Exception) -> str:
    return error.code if isinstance(error, Unavailable) else "queue_unavailable"


def _patience(tries: int) -> float:
    least, most = PATIENCE_SECONDS
    return random.uniform(least, min(most, least * 1.5**tries))
