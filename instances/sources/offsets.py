"""What one consumer knows of one partition: which entries are not done, and how often each was handed out.

Kafka keeps one number for a partition: all before it is done. It counts no
deliveries. So beside that number, in the words that it keeps with it, stands
how often what follows was handed out (``note``): whoever reads the partition
next knows which entry may have killed its reader. Knows nothing of Kafka.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from instances.sources import Entry

#: The form of a note; one in another is not read.
FORM: Final = "1"
#: Kafka keeps 4 KiB. What is cut off counts as never handed out.
NOTE_CHARACTERS: Final = 3_000


class Offsets:
    """Entries come in order of their offsets (which may have gaps) and are finished in any."""

    def __init__(self, start: int | None = None, note: str = "") -> None:
        #: Behind the last that came; None where nothing came and nothing is known.
        self.behind = start
        #: All that came and are not done, in order.
        self.open: dict[int, Entry] = {}
        self.in_hand: set[int] = set()
        #: Not to be handed out before that moment.
        self.aside: dict[int, float] = {}
        self.bytes = 0
        #: (end, tries): from the end of the run before, or ``low``, entries were handed out so often.
        self._runs: list[tuple[int, int]] = [] if start is None else list(_runs(start, note))

    @property
    def low(self) -> int | None:
        """All before it is done."""
        return next(iter(self.open), self.behind)

    @property
    def note(self) -> str:
        low = self.low or 0
        runs = [f"{end - low}:{tries}" for end, tries in self._runs if end > low]
        if not any(tries for end, tries in self._runs if end > low):
            return ""
        note = f"{FORM};{','.join(runs)}"
        return note if len(note) <= NOTE_CHARACTERS else note[:NOTE_CHARACTERS].rpartition(",")[0]

    # -- coming and going

    def add(self, offset: int, entry: Entry) -> None:
        self.open[offset] = entry
        self.behind = offset + 1
        self.bytes += len(entry.raw)

    def finish(self, offset: int) -> None:
        """Of what is not known here (the partition was another's meanwhile) nothing becomes."""
        if entry := self.open.pop(offset, None):
            self.bytes -= len(entry.raw)
            self.in_hand.discard(offset)
            self.aside.pop(offset, None)

    def take(self, offsets: Sequence[int]) -> None:
        """They are handed out."""
        self.in_hand.update(offsets)
        for offset in offsets:
            self.aside.pop(offset, None)
        self._count(offsets, 1)

    def give_back(self, offsets: Sequence[int], *, until: float | None = None) -> None:
        """As if they had not been handed out."""
        given = [offset for offset in offsets if offset in self.in_hand]
        self.in_hand.difference_update(given)
        self._count(given, -1)
        if until is not None:
            self.aside.update(dict.fromkeys(given, until))

    def waiting(self, now: float) -> Iterator[int]:
        """What may be handed out, in order."""
        for offset in self.open:
            if offset not in self.in_hand and self.aside.get(offset, now) <= now:
                yield offset

    # -- counting

    def tries(self, offset: int) -> int:
        return _tries(self._runs, offset)

    def _count(self, offsets: Sequence[int], by: int) -> None:
        low = self.low or 0
        counted = _counted(self._runs, list(_stretches(offsets, self.open, self.behind or 0)), by)
        self._runs = [run for run in counted if run[0] > low]


def _tries(runs: Sequence[tuple[int, int]], offset: int) -> int:
    at = bisect_right(runs, offset, key=lambda run: run[0])
    return runs[at][1] if at < len(runs) else 0


def _stretches(offsets: Sequence[int], opened: Iterable[int], behind: int) -> Iterator[tuple[int, int]]:
    """(first, end) of those that follow each other; what is done goes with what it follows."""
    chosen = set(offsets)
    first = None
    for offset in opened if chosen else ():
        if offset in chosen:
            first = offset if first is None else first
        elif first is not None:
            yield first, offset
            first = None
    if first is not None:
        yield first, behind


def _counted(
    runs: Sequence[tuple[int, int]], stretches: Sequence[tuple[int, int]], by: int
) -> Iterator[tuple[int, int]]:
    """The runs after what lies in the stretches was handed out once more, or less."""
    edges = {end for end, _ in runs}.union(*stretches)
    ends = [end for _, end in stretches]
    before = -1
    last: tuple[int, int] | None = None
    for edge in sorted(edges):
        tries = _tries(runs, before)
        at = bisect_right(ends, before)
        if at < len(stretches) and stretches[at][0] <= before:
            tries = max(0, tries + by)
        if last and last[1] != tries:
            yield last
        last, before = (edge, tries), edge
    if last and last[1]:
        yield last


def _runs(low: int, note: str) -> Iterator[tuple[int, int]]:
    """Whatever cannot be read counts as never handed out: anybody may commit for the group."""
    form, _, runs = note.partition(";")
    if form != FORM:
        return
    for run in runs.split(","):
        end, _, tries = run.partition(":")
        if not (end + tries).isascii() or not end.isdigit() or not tries.isdigit():
            return
        yield low + int(end), int(tries)


def handed_out(low: int, note: str) -> int:
    """Behind the last entry that was handed out and is not known to be done."""
    return max([low, *(end for end, tries in _runs(low, note) if tries)])
