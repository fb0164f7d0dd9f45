"""What may be asked of a place, and what is answered where it may not. Pure: values in, frozen values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from instances.intents import PAUSE as PAUSED
from instances.intents import WHOLE, Intents, in_force
from tower.schemas import ControlAction

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
    #: The ids from the root down to the task; empty for the whole tree.
    path: Sequence[str]
    #: The controls in force along the path, the whole tree's among them.
    intents: Intents

    @property
    def target(self) -> str:
        return self.path[-1] if self.path else WHOLE

    def paused_at(self, target: str) -> bool:
        return target in self.intents and self.intents[target].action == PAUSED


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
    facts = (action, place.open, in_force(place.path, place.intents), place.paused_at(place.target))
    outcome = next(row[-1] for row in ANSWERS if _fits(row[:-1], facts))
    return Decision(outcome, holder(place) if outcome is Outcome.NOT_PAUSED_HERE else None)


def accepts(place: Place) -> list[ControlAction]:
    """What a button may offer there."""
    return [action for action in ControlAction if decide(action, place).outcome is Outcome.TAKEN]


def holder(place: Place) -> str | None:
    """The nearest ancestor where a PAUSE was put, by the name that the outside knows."""
    above = [WHOLE, *place.path[:-1]] if place.path else []
    return next((target or GLOBAL for target in reversed(above) if place.paused_at(target)), None)


def _fits(row: Sequence[object], facts: Sequence[object]) -> bool:
    return all(want is None or want is fact for want, fact in zip(row, facts, strict=True))
