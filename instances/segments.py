"""The segments of the list of runs. Conditions are on the row ``t`` of a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from instances.rows import run

#: At most so many of a segment are counted, whatever the number of runs: a longer badge says nothing more.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Segment:
    title: Promise | str
    where: str
    none_here: Promise | str


# Statuses are indexes in schemas.STATUSES: 0 and 1 are open, 3 is FAILED; of schemas.ACTIONS 1 is PAUSE.
_GOING = "t.status IN (0, 1)"
_PAUSED = "EXISTS (SELECT 1 FROM instances_intent i WHERE i.trace = t.number AND i.action = 1)"

SEGMENTS: Mapping[str, Segment] = {
    "": Segment(_("All"), "1 = 1", _("No runs yet")),
    "running": Segment(_("Running"), _GOING, _("Nothing is running")),
    "attention": Segment(
        _("Needs attention"), f"(t.status = 3 OR ({_GOING} AND t.failed > 0))", _("Nothing has failed")
    ),
    "paused": Segment(_("Paused"), f"{_GOING} AND {_PAUSED}", _("Nothing is paused")),
    "finished": Segment(_("Finished"), "t.status > 1", _("Nothing has finished yet")),
}


def counts() -> dict[str, int]:
    """How many runs each segment has, in one statement; ``MOST_COUNTED + 1`` stands for more than that."""
    each = (
        f"(SELECT count(*) FROM (SELECT 1 FROM instances_trace t WHERE t.next_n > 0 AND {segment.where}"
        f" LIMIT {MOST_COUNTED + 1}) AS counted)"
        for segment in SEGMENTS.values()
    )
    (row,) = run(f"SELECT {', '.join(each)}")
    return dict(zip(SEGMENTS, row, strict=True))
