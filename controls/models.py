"""The audit of controls: every one that was asked, also those that were refused. Append-only."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from tower.fields import IdField
from tower.schemas import ACTIONS, ControlAction


class ControlQuery(models.QuerySet["ControlRecord"]):
    def matching(self, *, trace_id: str, action: str, triggered_by: str, outcome: str) -> ControlQuery:
        """Those that fit every filter; an empty one fits all."""
        rows = self
        if trace_id:
            rows = rows.filter(trace_id=trace_id)
        if action:
            rows = rows.filter(action=ACTIONS.index(ControlAction(action)))
        if triggered_by:
            rows = rows.filter(triggered_by=triggered_by)
        if outcome:
            rows = rows.filter(outcome=outcome)
        return rows

    def undelivered(self) -> ControlQuery:
        return self.filter(outcome="taken", delivered_ms=None)


class ControlRecord(models.Model):
    """One control. ``outcome`` is "taken" or the code of the refusal."""

    number = models.BigAutoField(primary_key=True)
    id = IdField(unique=True)
    trace_id = IdField()
    trace = models.BigIntegerField()  # Trace.number
    task_id = IdField(null=True)
    action = models.SmallIntegerField()  # index in schemas.ACTIONS
    triggered_by = models.CharField(max_length=150)
    on_behalf_of = models.CharField(max_length=200, null=True)
    reason = models.TextField(default="", blank=True)
    outcome = models.CharField(max_length=32, default="taken")
    #: Where a RUN was refused: the ancestor whose PAUSE held, or "global_action".
    held_by = IdField(null=True)
    #: The number among the controls of its trace; null for a refused one.
    intent_number = models.BigIntegerField(null=True)
    affected_pending = models.IntegerField(null=True)
    affected_running = models.IntegerField(null=True)
    affected_capped = models.BooleanField(default=False)
    created_ms = models.BigIntegerField()
    delivered_ms = models.BigIntegerField(null=True)

    objects = ControlQuery.as_manager()

    class Meta:
        verbose_name = _("control")
        verbose_name_plural = _("controls")
        indexes = [
            models.Index(fields=["trace_id", "-number"], name="control_by_trace"),
            # What waits for Redis; few rows, however long the audit grows.
            models.Index(
                fields=["number"],
                name="control_undelivered",
                condition=models.Q(outcome="taken", delivered_ms=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{ACTIONS[self.action]} {self.trace_id}/{self.task_id or ''}"

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("the audit is append-only")


class Beat(models.Model):
    """The last sign of life of a background role (``sweeper``, ``consumer``)."""

    role = models.CharField(max_length=32, primary_key=True)
    at_ms = models.BigIntegerField()


class Bulk(models.Model):
    """One action for all runs that a filter of the list left: asked, begun, then done or stopped."""

    number = models.BigAutoField(primary_key=True)
    id = IdField(unique=True)
    action = models.SmallIntegerField()  # index in schemas.ACTIONS
    #: The filters of the list, as its address has them.
    query = models.CharField(max_length=2000)
    triggered_by = models.CharField(max_length=150)
    reason = models.TextField(default="", blank=True)
    #: Runs that it is for; fixed when it was asked.
    total = models.IntegerField(default=0)
    created_ms = models.BigIntegerField()
    #: When its question was answered; null until then.
    started_ms = models.BigIntegerField(null=True)
    ended_ms = models.BigIntegerField(null=True)
    #: Who stopped it before its end.
    stopped_by = models.CharField(max_length=150, null=True)

    class Meta:
        verbose_name = _("action on several runs")
        verbose_name_plural = _("actions on several runs")
        indexes = [
            # What the sweeper asks twice a second.
            models.Index(
                fields=["number"],
                name="bulk_going",
                condition=models.Q(started_ms__isnull=False, ended_ms=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{ACTIONS[self.action]} {self.total}"


class BulkItem(models.Model):
    """One run of it. ``outcome`` is empty until it was asked, then as of its control, or "gone"."""

    bulk = models.ForeignKey(Bulk, on_delete=models.CASCADE, related_name="items", db_index=False)
    trace = models.BigIntegerField()  # Trace.number
    trace_id = IdField()
    outcome = models.CharField(max_length=32, default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["bulk", "trace"], name="bulk_item_once")]
        indexes = [models.Index(fields=["bulk", "outcome", "trace"], name="bulk_item_by_outcome")]

    def __str__(self) -> str:
        return str(self.trace_id)
