"""What simulated actors are to do: a tree of work, known in advance. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tower.schemas import ActorType


@dataclass(frozen=True, slots=True)
class Failure:
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Work:
    """One task of a plan, and how its actor will fare.

    Children stand in ``stages``: a stage begins when the one before it has ended,
    and at most ``width`` tasks of a stage are worked on at once.
    """

    name: str
    job_id: str
    kind: ActorType = ActorType.EXECUTION
    seconds: float = 0.0
    says: tuple[str, ...] = ()
    stages: tuple[tuple[Work, ...], ...] = ()
    width: int = 4
    #: Reports nothing itself: its children decide.
    silent: bool = False
    #: The parent fails where this one does, and its later stages are skipped.
    critical: bool = False
    #: How its first attempts end. With ``gives_up`` the last of them is the ending.
    fails: tuple[Failure, ...] = ()
    gives_up: bool = False
    skipped: str | None = None
    output: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    #: Seconds between two checkpoints, where no hint wakes the actor earlier.
    stride: float = 0.4

    @property
    def children(self) -> tuple[Work, ...]:
        return tuple(child for stage in self.stages for child in stage)

    @property
    def planned(self) -> int:
        """What to declare as ``split_count``: aggregators are no part of a plan."""
        return sum(child.kind is not ActorType.GROUP_AGG for child in self.children)

    @property
    def below(self) -> int:
        return sum(1 for _ in self) - 1

    def __iter__(self) -> Iterator[Work]:
        yield self
        for child in self.children:
            yield from child


def id_of(work: Work, ordinal: int, path: tuple[str, ...], trace_id: str) -> str:
    """The id of a child: readable, one of its kind across traces, and the same again after a restart."""
    digest = hashlib.sha256("/".join((trace_id, *path, str(ordinal))).encode()).hexdigest()[:10]
    return f"{work.job_id[:40]}-{digest}"
