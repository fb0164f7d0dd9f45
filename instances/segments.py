"""The segments of the list of runs. Conditions are on the row ``t`` of a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from instances.finding import EXISTS, Condition
from instances.rows import Row, run
from tower.schemas import STATUSES

#: At most so many of a segment are counted, whatever the number of runs: a longer badge says nothing more.
MOST_COUNTED = 1_000


@dataclass(frozen=True, slots=True)
class Segment:
    title: Promise | str
    none_here: Promise | str
    condition: Condition | None = None


# Statuses are indexes in schemas.STATUSES: 0 and 1 are open, 3 is FAILED; of schemas.ACTIONS 1 is PAUSE.
_GOING = "{t}status IN (0, 1)"
#: Letter for letter the condition of the index ``trace_in_need``: planners compare them as they stand.
_IN_NEED = "({t}status = 3 OR ({t}failed > 0 AND {t}status IN (0, 1)))"
_PAUSED = "SELECT i.trace FROM instances_intent i WHERE i.action = 1"


def _on_runs(where: str, index: str = "") -> Condition:
    source = f"SELECT number FROM instances_trace WHERE {where.format(t='')}"
    return Condition(where.format(t="t."), source=source, index=index)


SEGMENTS: Mapping[str, Segment] = {
    "": Segment(_("All"), _("No runs yet")),
    "running": Segment(_("Running"), _("Nothing is running"), _on_runs(_GOING)),
    "attention": Segment(_("Needs attention"), _("Nothing has failed"), _on_runs(_IN_NEED, "trace_in_need")),
    "paused": Segment(
        _("Paused"),
        _("Nothing is paused"),
        Condition(f"{_GOING.format(t='t.')} AND t.number IN ({_PAUSED})", source=_PAUSED),
    ),
    "finished": Segment(_("Finished"), _("Nothing has finished yet"), _on_runs("{t}status > 1")),
}


def counts() -> dict[str, int]:
    """How many runs each segment has, in one statement; ``MOST_COUNTED + 1`` stands for more than that."""
    conditions = [segment.condition.where if segment.condition else "1 = 1" for segment in SEGMENTS.values()]
    return dict(zip(SEGMENTS, _counted(conditions), strict=True))


def counts_by_status() -> dict[str, int]:
    """As ``counts``."""
    known = _counted([f"t.status = {i}" for i in range(len(STATUSES))])
    return {status.value: n for status, n in zip(STATUSES, known, strict=True)}


def _counted(conditions: Sequence[str]) -> Row:
    each = (
        f"(SELECT count(*) FROM (SELECT 1 FROM instances_trace t WHERE {EXISTS} AND {where}"
        f" LIMIT {MOST_COUNTED + 1}) AS counted)"
        for where in conditions
    )
    (row,) = run(f"SELECT {', '.join(each)}")
    return row
