"""One action for several runs of the list: the question before a CANCEL, and one control for each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from ulid import ULID

from controls import issue as door
from controls.issue import ControlRefused
from controls.question import CONFIRM_ABOVE, REASON_ABOVE, fit
from instances import reads
from instances.reads import Head, at_one_moment
from tower.errors import NotFound, TowerError
from tower.schemas import ControlAction

#: Runs of one request: each is a control of its own, and all together take a second or so.
MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Done:
    """How many were taken and refused; ``gone``: there is no such run any more."""

    taken: int = 0
    refused: int = 0
    gone: int = 0
    undelivered: int = 0


@dataclass
class Chosen:
    """What the form said."""

    action: ControlAction
    ids: Sequence[str]
    batch: str
    reason: str = ""
    confirm: str = ""
    confirmed: bool = False
    errors: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, request: HttpRequest) -> Chosen:
        said = request.POST
        if said.get("action") not in list(ControlAction):
            raise TowerError("Choose RUN, PAUSE or CANCEL.", code="unknown_enum", field="action")
        ids = list(dict.fromkeys(said.getlist("run")))
        if any(not fit(id) for id in ids):
            raise TowerError("This is no run id.", code="invalid_id", field="run")
        batch = said.get("id", "")
        return cls(
            action=ControlAction(said["action"]),
            ids=ids,
            batch=batch if fit(batch) and len(batch) == 26 else str(ULID()),
            reason=said.get("reason", "").replace("\r\n", "\n").strip(),
            confirm=said.get("confirm", "").strip(),
            confirmed="confirmed" in said,
        )

    @cached_property
    def heads(self) -> list[Head]:
        """Those of them that there are, in the order of the list."""
        with at_one_moment():
            numbers = reads.numbers_of(self.ids)
            return reads.heads_in_order([numbers[id] for id in self.ids if id in numbers])

    @property
    def running(self) -> int:
        return sum(head.counts[1] for head in self.heads)

    @property
    def pending(self) -> int:
        return sum(head.counts[0] for head in self.heads)

    @property
    def open(self) -> int:
        return self.running + self.pending

    @property
    def ended(self) -> int:
        return sum(head.total for head in self.heads) - self.open

    @property
    def still_open(self) -> int:
        return sum(head.open > 0 for head in self.heads)

    @property
    def needs_reason(self) -> bool:
        return self.open > REASON_ABOVE

    @property
    def word(self) -> str:
        """What is to be typed before very much is cancelled: of how many runs; empty where nothing is."""
        return str(len(self.heads)) if self.open > CONFIRM_ABOVE else ""

    def checked(self) -> bool:
        """As ``Answer.checked``, for all of them together."""
        most = settings.TOWER_MAX_TEXT_BYTES
        if "\0" in self.reason or len(self.reason.encode()) > most:
            self.errors["reason"] = _("At most %(most)d bytes of plain text.") % {"most": most}
        elif self.action is ControlAction.CANCEL:
            if self.needs_reason and not self.reason:
                self.errors["reason"] = _("More than %(count)d tasks: say why, for the audit.") % {
                    "count": REASON_ABOVE
                }
            if self.word and self.confirm != self.word:
                self.errors["confirm"] = _("Type %(word)s to show that you mean these runs.") % {
                    "word": self.word
                }
        return not self.errors

    def issue(self, by: str) -> Done:
        """One after the other, each by the one door; repeatable, since the ids are made of what is asked."""
        taken = refused = gone = undelivered = 0
        for id in self.ids:
            try:
                issued = door.issue(
                    id, self.action, control_id=self.control_id(id), reason=self.reason, triggered_by=by
                )
            except ControlRefused:
                refused += 1
            except NotFound:
                gone += 1
            else:
                taken += 1
                undelivered += not issued.delivered
        return Done(taken, refused, gone, undelivered)

    def control_id(self, trace_id: str) -> str:
        asked = f"{self.action} {trace_id} {self.reason}"
        return f"{self.batch}.{sha256(asked.encode()).hexdigest()[:24]}"
