"""Tables of the tree, its events and the intents. Rows only: every change goes through a door.

| change | the only door |
|---|---|
| status, counts, progress | ``instances.ingest`` |
| which tasks exist, where they hang, tree columns | ``instances.tree`` |
| an intent | ``controls.issue`` |

Times that actors or the tower decide by are integers in milliseconds since the
epoch (``*_ms``): one type in both databases, on the wire and in the fold.
Small enums are stored as their index in ``tower.schemas`` (``STATUSES`` …).
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from mptt.models import MPTTModel, TreeForeignKey

from tower.fields import IdField, JSONText


class Trace(models.Model):
    """One run. ``number`` names it inside the database; ``seq`` counts its committed batches."""

    number = models.BigAutoField(primary_key=True)
    id = IdField(unique=True)
    root_n = models.IntegerField(null=True)
    status = models.SmallIntegerField(default=1)  # RUNNING while there is no root
    seq = models.BigIntegerField(default=0)
    #: Raised with each change of shape; numbering writes only if it is unchanged.
    shape_seq = models.BigIntegerField(default=0)
    #: The ``shape_seq`` whose numbers stand in the tree columns.
    numbered_seq = models.BigIntegerField(default=-1)
    shape_ms = models.BigIntegerField(default=0)
    next_n = models.IntegerField(default=0)

    pending = models.IntegerField(default=0)
    running = models.IntegerField(default=0)
    success = models.IntegerField(default=0)
    failed = models.IntegerField(default=0)
    cancelled = models.IntegerField(default=0)
    skipped = models.IntegerField(default=0)

    name = models.CharField(max_length=200, default="", blank=True)
    job_id = IdField(default="", blank=True)
    version = models.PositiveIntegerField(null=True)
    started_by = models.CharField(max_length=150, default="", blank=True)
    #: Digest of the body of ``POST traces/``, so that a repeat can be told from another run.
    start_digest = models.CharField(max_length=64, default="", blank=True)
    started_ms = models.BigIntegerField(null=True)
    finished_ms = models.BigIntegerField(null=True)
    created_ms = models.BigIntegerField()
    updated_ms = models.BigIntegerField()
    #: Aggregators that name what they collect; with none, nobody has to be told of an ending.
    collecting = models.IntegerField(default=0)
    #: When the trace had ended (root ended and nothing open), by the server's clock.
    ended_ms = models.BigIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["status", "-number"], name="trace_by_status"),
            models.Index(fields=["job_id", "-number"], name="trace_by_job"),
            # What the list of runs asks for (bench/runs.py); a migration adds one more, by name.
            models.Index(fields=["job_id", "status", "-number"], name="trace_by_job_status"),
            models.Index(fields=["started_by", "-number"], name="trace_by_starter"),
            # The status too, so that the runs of each hour are counted without their rows.
            models.Index(fields=["created_ms", "status"], name="trace_by_creation"),
            models.Index(
                fields=["-number"],
                name="trace_in_need",
                condition=models.Q(status=3) | models.Q(failed__gt=0, status__in=(0, 1)),
            ),
            models.Index(
                models.F("finished_ms") - models.F("started_ms"),
                "number",
                name="trace_by_length",
                condition=models.Q(finished_ms__isnull=False, started_ms__isnull=False),
            ),
            # Which live, and which have ended lately: the sweeper asks each second.
            models.Index(fields=["ended_ms"], name="trace_by_end"),
        ]

    def __str__(self) -> str:
        return str(self.id)


class TraceLabel(models.Model):
    """Labels of a run (its root's), for the filter of the list of runs."""

    trace = models.ForeignKey(Trace, on_delete=models.CASCADE, db_constraint=False, db_index=False)
    key = models.CharField(max_length=64)
    value = models.CharField(max_length=256)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["trace", "key"], name="one_value_of_a_label")]
        indexes = [models.Index(fields=["key", "value", "-trace"], name="trace_by_label")]


class TaskInstance(MPTTModel):
    """One node. Narrow, because it is rewritten with every report; texts stand in side tables.

    ``pk = tree_id << 32 | n``: no sequence, children of one tree side by side.
    ``parent`` is the truth; ``lft rght level`` are a read index of a tree at rest,
    reached through ``tree.numbered`` only.
    """

    key = models.BigIntegerField(primary_key=True, db_column="pk")
    tree_id = models.BigIntegerField()  # = Trace.number
    n = models.IntegerField()
    id = IdField()
    parent = TreeForeignKey(
        "self", null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="children"
    )
    depth = models.IntegerField(default=0)

    kind = models.SmallIntegerField()
    job_id = IdField(default="", blank=True)
    #: ``DefinitionVersion.id``; null where the definition is unknown.
    version = models.BigIntegerField(null=True)
    name = models.CharField(max_length=200, default="", blank=True)
    registered = models.BooleanField(default=False)
    attached = models.BooleanField(default=False)

    status = models.SmallIntegerField(default=0)
    #: What the actor's own reports alone give; null while that is ``status``.
    reported_status = models.SmallIntegerField(null=True)
    attempt = models.IntegerField(default=1)
    progress = models.FloatField(null=True)
    holds = models.BooleanField(default=False)
    started_ms = models.BigIntegerField(null=True)
    finished_ms = models.BigIntegerField(null=True)
    #: Declared number of children; ``split_count`` = max(planned, children).
    planned = models.IntegerField(default=0)
    #: Children that are not GROUP_AGG, and how many of them have ended.
    kids = models.IntegerField(default=0)
    kids_ended = models.IntegerField(default=0)
    #: What ``lifecycle`` and ``aggregation`` remember, as compact JSON (see ``instances.memory``).
    memory = models.TextField(default="", blank=True)

    rev = models.BigIntegerField(default=0)
    created_ms = models.BigIntegerField()
    updated_ms = models.BigIntegerField()

    class MPTTMeta:
        order_insertion_by = ["n"]

    class Meta:
        constraints = [
            # The id first: `tasks/<id>/` asks without the trace, and both orders serve the pair.
            models.UniqueConstraint(fields=["id", "tree_id"], name="one_task_of_an_id"),
        ]

    def __str__(self) -> str:
        return str(self.id)

    @classmethod
    def of_tree(cls, number: int) -> models.QuerySet[TaskInstance]:
        """The tasks of one tree by the range of their keys: ``tree_id`` by itself has no index."""
        tasks: models.QuerySet[TaskInstance] = cls.objects.filter(
            key__gte=number << 32, key__lt=(number + 1) << 32
        )
        return tasks.order_by("key")

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("tasks are written by instances.ingest and instances.tree only")

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("nobody deletes a single task; prune removes whole ended traces")


class TaskBody(models.Model):
    """What a registration said once; never rewritten by reports."""

    task = models.BigIntegerField(primary_key=True)
    input_params = JSONText(default=dict)
    labels = JSONText(null=True)
    collects = JSONText(null=True)


class TaskSaid(models.Model):
    """Texts of the standing reports; a row exists once there is one."""

    task = models.BigIntegerField(primary_key=True)
    message = models.TextField(null=True)
    worker = models.TextField(null=True)
    output_ref = models.TextField(null=True)
    error_code = models.TextField(null=True)
    error_msg = models.TextField(null=True)


class Event(models.Model):
    """Every report as it was received, and what the tower decided; append-only.

    ``position = seq << 16 | ordinal in the batch``: the order of receipt inside a trace.
    """

    pk = models.CompositePrimaryKey("trace", "event_id")
    trace = models.BigIntegerField()
    event_id = IdField()
    position = models.BigIntegerField()
    task = models.BigIntegerField()
    parent_id = IdField(null=True)
    kind = models.SmallIntegerField()
    actor_type = models.SmallIntegerField(null=True)
    origin = models.SmallIntegerField(default=0)  # index in lifecycle.Origin
    verdict = models.SmallIntegerField(default=0)  # index in lifecycle.Verdict
    payload = models.TextField(default="{}")
    warnings = models.TextField(null=True)
    timestamp_ms = models.BigIntegerField()
    received_ms = models.BigIntegerField()

    class Meta:
        indexes = [
            models.Index(fields=["task", "position"], name="event_of_task"),
            models.Index(fields=["trace", "position"], name="event_of_trace"),
        ]


class IntentLedger(models.Model):
    """The lock of a trace's intents and the number of its last control.

    A row of its own, because ingest holds the Trace row for 20-70 ms while a
    control should wait for nobody (measured: p95 4 ms here, 70 ms there).
    """

    trace = models.BigIntegerField(primary_key=True)
    last_number = models.BigIntegerField(default=0)
    #: The Redis keys of this trace carry an expiry, since it has ended.
    expiring = models.BooleanField(default=False)

    class Meta:
        # Traces whose commands Redis keeps for good: those under way, and those that have just ended.
        indexes = [
            models.Index(
                fields=["trace"],
                name="ledger_kept",
                condition=models.Q(expiring=False, last_number__gt=0),
            )
        ]


class Intent(models.Model):
    """The control that stands at one place of a tree; ``target`` is a task id, or "" for the whole tree."""

    trace = models.BigIntegerField()
    target = IdField(default="", blank=True)
    action = models.SmallIntegerField()  # index in schemas.ACTIONS
    number = models.BigIntegerField()
    control_id = IdField()
    created_ms = models.BigIntegerField()
    #: ``Trace.seq`` and the clock when the first CANCEL was taken here; null for RUN and PAUSE.
    cancel_seq = models.BigIntegerField(null=True)
    cancel_ms = models.BigIntegerField(null=True)
    #: The number that Redis is known to hold; behind ``number`` means undelivered.
    delivered_number = models.BigIntegerField(default=0)
    #: The sweep of this CANCEL found nothing more to do.
    swept = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["trace", "target"], name="one_intent_of_a_place")]
        # What the sweeper has to do, however many intents there ever were.
        indexes = [
            models.Index(
                fields=["trace"],
                name="intent_undelivered",
                condition=models.Q(delivered_number__lt=models.F("number")),
            ),
            models.Index(fields=["trace"], name="intent_unswept", condition=models.Q(action=2, swept=False)),
            # Of ended runs too, but those are few: a PAUSE is mostly taken back.
            models.Index(fields=["trace"], name="intent_pauses", condition=models.Q(action=1)),
        ]


class Epoch(models.Model):
    """Names this state of the database, in one row. A restored backup gets another one (``new_epoch``)."""

    value = models.CharField(max_length=32)


class Deadline(models.Model):
    """What the sweeper has to look at when its time comes; the timer re-reads everything under the lock."""

    GRACE, TIMEOUT, QUIET = 0, 1, 2

    task = models.BigIntegerField()
    trace = models.BigIntegerField()
    kind = models.SmallIntegerField()
    due_ms = models.BigIntegerField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "kind"], name="one_deadline_of_a_kind")]


class Collected(models.Model):
    """What an aggregator collects, where its registration names it (``collects``)."""

    trace = models.BigIntegerField()
    task_id = IdField()
    aggregator = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["trace", "task_id", "aggregator"], name="one_collection_of_a_task"
            )
        ]


class FrozenResult(models.Model):
    """One result of an aggregator as it was when the aggregator became ready; never changed."""

    aggregator = models.BigIntegerField()
    position = models.IntegerField()
    task = models.BigIntegerField()
    status = models.SmallIntegerField()
    output_ref = models.TextField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["aggregator", "position"], name="one_result_of_a_position")
        ]


class Tombstone(models.Model):
    """A pruned trace: what comes for it later is refused for a while, and never begins it anew."""

    trace_id = IdField(primary_key=True)
    #: ``Trace.number`` that it had.
    number = models.BigIntegerField()
    gone_ms = models.BigIntegerField(db_index=True)
    #: Nothing of it is left, in the database and in Redis.
    emptied = models.BooleanField(default=False)

    class Meta:
        indexes = [
            models.Index(fields=["trace_id"], name="tombstone_open", condition=models.Q(emptied=False))
        ]


class QueuePause(models.Model):
    """The consumers have stopped reading, since most of what came could not be taken; one row at most.

    ``resumed_ms``: an operator has looked. What had come by then goes through, whatever becomes of it.
    """

    since_ms = models.BigIntegerField()
    resumed_ms = models.BigIntegerField(null=True)
    seen = models.IntegerField()
    dead = models.IntegerField()


class SettledLetter(models.Model):
    """A dead letter in Kafka that was put back or dropped: it lies there on until retention takes it.

    ``topic``: behind the cluster's id, since another cluster counts its offsets anew.
    """

    REPLAYED, DROPPED = 1, 2

    topic = models.CharField(max_length=300)
    partition = models.IntegerField()
    offset = models.BigIntegerField()
    #: The record's time: in a topic that was made anew another has that offset.
    died_ms = models.BigIntegerField()
    deed = models.SmallIntegerField()
    by = models.CharField(max_length=150)
    at_ms = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["topic", "partition", "offset"], name="one_deed_of_a_letter")
        ]


class SavedView(models.Model):
    """A name that somebody gave to filters of the list of runs; ``query`` is what stands in the address."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=2_000, blank=True)
    #: The list opens with it.
    first = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="one_view_of_a_name"),
            models.UniqueConstraint(fields=["owner"], name="one_first_view", condition=models.Q(first=True)),
        ]

    def __str__(self) -> str:
        return self.name
