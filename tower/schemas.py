"""The five DTOs of the contract, and their enums. Pure: no Django, no Redis.

Field names, enum values and defaults are fixed by the contract (section 2).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

#: 1-64 characters, beginning with a letter or digit (contract, section 2).
ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:\-]{0,63}$"
#: Would command the whole tree if it named a task: it is the field of Redis that does.
RESERVED_IDS = frozenset({"global_action"})
#: Year 9999 in milliseconds: the last instant that a datetime can show.
MAX_TIMESTAMP_MS = 253402300799999

#: More children than this nobody declares (reliability.md section 3).
MAX_SPLIT_COUNT = 1_000_000


def _whole(value: object) -> object:
    # true and "5" are integers to pydantic's lax mode, and 1.0 is none to its strict one.
    if type(value) is int or (type(value) is float and value.is_integer()):
        return value
    raise PydanticCustomError("invalid_type", "Input should be a whole number")


Id = Annotated[str, StringConstraints(strict=True, pattern=ID_PATTERN)]
Whole = Annotated[int, BeforeValidator(_whole)]


class TaskInstanceStatus(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"


class ActorType(StrEnum):
    AGENT = "AGENT"
    GROUP_AGG = "GROUP_AGG"
    SINGLE_AGG = "SINGLE_AGG"
    EXECUTION = "EXECUTION"


class ControlAction(StrEnum):
    RUN = "RUN"
    PAUSE = "PAUSE"
    CANCEL = "CANCEL"


class TaskEventType(StrEnum):
    STARTED = "STARTED"
    PROGRESS = "PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class JoinPolicy(StrEnum):
    ANY = "any"
    ALL = "all"
    ALL_DONE = "all_done"
    AT_LEAST = "at_least"
    AT_MOST_FAILED = "at_most_failed"


#: What the database stores; the order is the order of the wire columns.
STATUSES: tuple[TaskInstanceStatus, ...] = tuple(TaskInstanceStatus)
KINDS: tuple[ActorType, ...] = tuple(ActorType)
EVENT_TYPES: tuple[TaskEventType, ...] = tuple(TaskEventType)
ACTIONS: tuple[ControlAction, ...] = tuple(ControlAction)  # in order of strength

OPEN = frozenset({TaskInstanceStatus.PENDING, TaskInstanceStatus.RUNNING})


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Join(Frozen):
    """How a task ends by its children (contract, section 3.9)."""

    policy: JoinPolicy = JoinPolicy.ANY
    count: int | None = Field(default=None, ge=1)
    percent: float | None = Field(default=None, gt=0, le=100)
    early: bool = False


class TaskDefinition(Frozen):
    id: Id
    name: str
    actor_type: ActorType
    code_ref: str
    default_params: dict[str, Any] = {}
    timeout_sec: int = 300
    max_retries: int = 3
    is_active: bool = True
    created_at: datetime
    description: str = ""
    params_schema: dict[str, Any] | None = None
    join: Join | None = None
    cancel_grace_sec: int = 30


class TaskInstance(Frozen):
    id: Id
    trace_id: Id
    parent_id: Id | None = None
    job_id: Id
    actor_type: ActorType
    status: TaskInstanceStatus = TaskInstanceStatus.PENDING
    node_path: str = ""
    depth: int = 0
    split_count: int = 0
    completed_children: int = 0
    input_params: dict[str, Any] = {}
    output_ref: str | None = None
    error_code: str | None = None
    error_msg: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class ControlEvent(Frozen):
    id: Id
    trace_id: Id
    task_id: Id | None = None
    action: ControlAction
    triggered_by: str
    created_at: datetime


class TaskEvent(Frozen):
    event_id: Id
    trace_id: Id
    task_id: Id
    parent_id: Id | None = None
    actor_type: ActorType | None = None
    event_type: TaskEventType
    payload: dict[str, Any] = {}
    timestamp_ms: Whole = Field(ge=0, le=MAX_TIMESTAMP_MS)


class AggregationContext(Frozen):
    aggregator_task_id: Id
    expected_children: int
    received_children: int = 0
    child_results: list[dict[str, Any]] = []
    is_ready: bool = False
    updated_at: datetime
