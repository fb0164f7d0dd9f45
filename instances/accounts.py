"""Why a task's status is not what its actor said, or not only that (contract, section 3.6). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from instances.lifecycle import RUNNING, Own


class Because(StrEnum):
    UNACKNOWLEDGED = "unacknowledged"  # the tower ended it: no answer to a CANCEL within its grace
    UNDER_CANCEL = "under_cancel"  # the tower ended it before it began: a CANCEL stood above it
    TIMED_OUT = "timed_out"  # the tower ended the attempt: nothing was heard in time
    TIMEOUT_OVERTAKEN = "timeout_overtaken"  # so it had, until the actor's own ending came
    ITS_PART = "its_part"  # its actor spoke of its own part; the children decide
    NOT_OPENED = "not_opened"  # its actor speaks of an attempt that a CANCEL did not let be opened
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Account:
    """``reported`` is None where the actor said nothing else than what stands."""

    because: Because
    status: int
    reported: int | None
    attempt: int
    #: When the tower ended it.
    at_ms: int | None = None
    #: The actor's own ending that stands over a timeout, by its clock.
    own_ms: int | None = None

    @property
    def actor_ended(self) -> bool:
        return self.reported is not None and self.reported > RUNNING


def account(
    *,
    status: int,
    reported: int | None,
    own: Own,
    killed_ms: int | None,
    unacknowledged: bool,
    timed_out: tuple[int, int] | None,
    cap: int | None,
    by_children: bool,
) -> Account | None:
    """None where the status simply is what the actor said, or what follows from the tasks below."""
    differs = reported if reported is not None and reported != status else None
    if killed_ms is not None:
        because = Because.UNACKNOWLEDGED if unacknowledged else Because.UNDER_CANCEL
        return Account(because, status, differs, own.attempt, at_ms=killed_ms)
    if timed_out is not None and timed_out[0] == own.attempt:
        if own.end is None:
            return Account(Because.TIMED_OUT, status, differs, own.attempt, at_ms=timed_out[1])
        return Account(
            Because.TIMEOUT_OVERTAKEN, status, differs, own.attempt, at_ms=timed_out[1], own_ms=own.end[0]
        )
    if differs is None:
        return None
    if by_children:
        return Account(Because.ITS_PART, status, differs, own.attempt)
    if cap is not None and own.status == status:
        return Account(Because.NOT_OPENED, status, differs, own.attempt)
    return Account(Because.DIFFERS, status, differs, own.attempt)
