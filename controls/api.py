"""Controls over REST: ask for one, read the audit."""

from __future__ import annotations

from typing import Annotated, Any, Final

from django.conf import settings
from django.http import HttpResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from controls import issue as door
from controls.models import ControlRecord
from controls.policy import Outcome
from tower.access.principal import Principal
from tower.api import TowerView, answer
from tower.errors import NotFound, TowerError
from tower.marks import iso
from tower.paging import PAGED, page_of
from tower.reading import Query, one, parse, read_body, refusal, refuse
from tower.schemas import ACTIONS, RESERVED_IDS, ControlAction, Id

#: Longest name of a person or program that a body may name.
NAME_MOST: Final = 200


class ControlRequest(BaseModel):
    """The body of ``POST controls/``; unknown fields, also ``created_at``, are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Id | None = None
    trace_id: Id
    task_id: Id | None = None
    action: ControlAction
    reason: str | None = None
    triggered_by: Annotated[str, Field(max_length=NAME_MOST)] | None = None

    @field_validator("id", "trace_id", "task_id")
    @classmethod
    def _not_reserved(cls, value: str | None) -> str | None:
        if value in RESERVED_IDS:
            raise PydanticCustomError("reserved_id", "This id is reserved")
        return value

    @field_validator("reason")
    @classmethod
    def _short_enough(cls, value: str | None) -> str | None:
        if value is not None and len(value.encode()) > settings.TOWER_MAX_TEXT_BYTES:
            raise PydanticCustomError("too_large", "The reason is too long")
        return value


#: An id that is no text is an invalid id (reliability.md, B22).
CODES: Final = {"id": "invalid_id", "trace_id": "invalid_id", "task_id": "invalid_id"} | {
    f"{name}:reserved_id": "reserved_id" for name in ("id", "trace_id", "task_id")
}


class ControlsView(TowerView):
    """``/api/v1/controls/``"""

    def get(self, request: Any) -> HttpResponse:
        query = Query(request, allowed=PAGED | {"trace_id", "action", "triggered_by", "outcome"})
        rows = ControlRecord.objects.matching(
            trace_id=query.text("trace_id", 64),
            action=query.choice("action", [action.value for action in ControlAction]),
            triggered_by=query.text("triggered_by", NAME_MOST),
            outcome=query.choice("outcome", [outcome.value for outcome in Outcome]),
        )
        return answer(page_of(request, query, rows, ["number"], "controls", newest_first=True, show=as_json))

    def post(self, request: Any) -> HttpResponse:
        asked = read_control(request)
        issued = door.issue(
            asked.trace_id,
            asked.action,
            task_id=asked.task_id,
            control_id=asked.id,
            reason=asked.reason or "",
            triggered_by=self.principal(request).name,
            on_behalf_of=asked.triggered_by,
        )
        return answer(as_json(issued.record), 201 if issued.created else 200)

    def forbidden(self, request: Any, principal: Principal) -> None:
        """Who asks for a control without the right to is remembered, if the request can be read at all."""
        if request.method != "POST":
            return
        try:
            asked = read_control(request)
        except TowerError:
            return
        door.refuse_unseen(
            asked.trace_id,
            asked.action,
            task_id=asked.task_id,
            reason=asked.reason or "",
            triggered_by=principal.name,
        )


class ControlView(TowerView):
    """``/api/v1/controls/{id}/``"""

    def get(self, request: Any, id: str) -> HttpResponse:
        Query(request, allowed=())
        record = ControlRecord.objects.filter(id=id).first()
        if record is None:
            raise NotFound("There is no such control.", id=id)
        return answer(as_json(record))


def read_control(request: Any) -> ControlRequest:
    body = one(parse(read_body(request)))
    try:
        return ControlRequest.model_validate(body)
    except ValidationError as error:
        raise refuse(refusal(error, CODES)) from error


def as_json(record: ControlRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "trace_id": record.trace_id,
        "task_id": record.task_id,
        "action": ACTIONS[record.action].value,
        "triggered_by": record.triggered_by,
        "on_behalf_of": record.on_behalf_of,
        "reason": record.reason,
        "created_at": iso(record.created_ms),
        "affected": door.affected(record).as_json(),
        "delivered": record.delivered_ms is not None,
        "delivered_at": iso(record.delivered_ms) or None,
        "outcome": record.outcome,
        "number": record.intent_number,
    }
