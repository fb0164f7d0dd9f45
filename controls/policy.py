"""What may be asked of a place, and what is answered where it may not. Pure: values in, frozen values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tower.schemas import ACTIONS, ControlAction

#: The place that stands for the whole tree: an ``Intent.target``, and the top of every path.
WHOLE_TREE: Final = ""
#: What the whole tree is called outside: in Redis, and in ``details.held_by``.
GLOBAL: Final = "global_action"


class Outcome(StrEnum):
    """What became of a control; all but ``TAKEN`` are the code of the refusal."""

    TAKEN = "taken"
    ALREADY_ENDED = "already_ended"
    CANCELLED = "cancelled"
    NOT_PAUSED_HERE = "not_paused_here"
    NOT_FOUND = "not_found"
    #: Refused for lack of rights, before anybody looked at the place.
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class Place:
    """A place of a tree at the moment when something is asked of it."""

    #: Whether a task there or below it has not ended.
    open: bool
    #: From the root down to the place itself: ``WHOLE_TREE``, the ancestors, the task.
    path: Sequence[str]
    #: The controls in force along the path, by place.
    intents: Mapping[str, ControlAction]


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    #: The ancestor whose PAUSE holds, where RUN was asked at a place without one.
    held_by: str | None = None


RUN, PAUSE, CANCEL = ControlAction.RUN, ControlAction.PAUSE, ControlAction.CANCEL

#: (asked, is something open there, strongest on the path, is a PAUSE at the very place) → answer.
#: None stands for "either way". The first row that fits answers; the last of each action fits all.
ANSWERS: Final[tuple[tuple[ControlAction, bool | None, ControlAction | None, bool | None, Outcome], ...]] = (
    (CANCEL, False, None, None, Outcome.ALREADY_ENDED),
    (CANCEL, None, None, None, Outcome.TAKEN),
    (PAUSE, False, None, None, Outcome.ALREADY_ENDED),
    (PAUSE, None, CANCEL, None, Outcome.CANCELLED),
    (PAUSE, None, None, None, Outcome.TAKEN),
    (RUN, None, CANCEL, None, Outcome.CANCELLED),
    (RUN, None, None, True, Outcome.TAKEN),
    (RUN, None, None, None, Outcome.NOT_PAUSED_HERE),
)


def decide(action: ControlAction, place: Place | None) -> Decision:
    """Answer one control; ``None`` is a place that the tree does not have."""
    if place is None:
        return Decision(Outcome.NOT_FOUND)
    facts = (action, place.open, strongest(place), place.intents.get(place.path[-1]) is PAUSE)
    outcome = next(row[-1] for row in ANSWERS if _fits(row[:-1], facts))
    held_by = holder(place) if outcome is Outcome.NOT_PAUSED_HERE else None
    return Decision(outcome, held_by)


def strongest(place: Place) -> ControlAction:
    """The command in force at a place: CANCEL > PAUSE > RUN."""
    return max((place.intents.get(step, RUN) for step in place.path), key=ACTIONS.index)


def holder(place: Place) -> str | None:
    """The nearest ancestor where a PAUSE was put, by the name that the outside knows."""
    for step in reversed(place.path[:-1]):
        if place.intents.get(step) is PAUSE:
            return step or GLOBAL
    return None


def _fits(row: Sequence[object], facts: Sequence[object]) -> bool:
    return all(want is None or want is fact for want, fact in zip(row, facts, strict=True))
