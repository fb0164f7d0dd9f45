"""Which command is in force at a place of a tree (contract, section 5). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tower.schemas import ACTIONS, ControlAction

#: Indices as the database stores them; a greater one is stronger.
RUN, PAUSE, CANCEL = range(len(ACTIONS))
#: The target that stands for the whole tree.
WHOLE = ""


@dataclass(frozen=True, slots=True)
class InForce:
    """The control that stands at one place.

    ``cancel_seq`` / ``cancel_ms``: the trace's ``seq`` and the clock when its first
    CANCEL was taken there; None for RUN and PAUSE.
    """

    target: str
    action: int
    number: int
    control_id: str
    cancel_seq: int | None = None
    cancel_ms: int | None = None


#: Intents of one trace by target.
Intents = Mapping[str, InForce]
NONE: Intents = {}


def on_path(path: Iterable[str], intents: Intents) -> list[InForce]:
    """Those that cover a task; ``path``: the ids from the root to the task itself."""
    found = [intents[WHOLE]] if WHOLE in intents else []
    return found + [intents[id] for id in path if id in intents]


def command(path: Iterable[str], intents: Intents) -> InForce | None:
    """The newest control of the strongest action on the path; None where nothing was ever asked."""
    if not intents:
        return None
    return max(on_path(path, intents), key=lambda intent: (intent.action, intent.number), default=None)


def in_force(path: Iterable[str], intents: Intents) -> ControlAction:
    """What the actor of a task is asked: the strongest action along its path, RUN with none."""
    found = command(path, intents)
    return ACTIONS[found.action] if found else ControlAction.RUN


def first_cancel(path: Iterable[str], intents: Intents) -> InForce | None:
    """The CANCEL that covered the task first; its clock is the one that counts."""
    cancels = [intent for intent in on_path(path, intents) if intent.action == CANCEL]
    return min(cancels, key=lambda intent: (intent.cancel_seq or 0, intent.number), default=None)
