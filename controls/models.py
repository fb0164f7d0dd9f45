"""The audit of controls: every one that was asked, also those that were refused. Append-only."""

from __future__ import annotations

from django.db import models

from tower.fields import IdField


class ControlRecord(models.Model):
    """One control. ``outcome`` is "taken" or the code of the refusal."""

    number = models.BigAutoField(primary_key=True)
    id = IdField(unique=True)
    trace_id = IdField()
    trace = models.BigIntegerField(null=True)
    task_id = IdField(null=True)
    action = models.SmallIntegerField()  # index in schemas.ACTIONS
    triggered_by = models.CharField(max_length=150)
    on_behalf_of = models.CharField(max_length=200, null=True)
    reason = models.TextField(default="", blank=True)
    outcome = models.CharField(max_length=32, default="taken")
    #: The number among the controls of its trace; null for a refused one.
    intent_number = models.BigIntegerField(null=True)
    affected_pending = models.IntegerField(null=True)
    affected_running = models.IntegerField(null=True)
    affected_capped = models.BooleanField(default=False)
    created_ms = models.BigIntegerField()
    delivered_ms = models.BigIntegerField(null=True)

    class Meta:
        indexes = [models.Index(fields=["trace", "-number"], name="control_by_trace")]


class Beat(models.Model):
    """The last sign of life of a background role (``sweeper``, later ``consumer``)."""

    role = models.CharField(max_length=32, primary_key=True)
    at_ms = models.BigIntegerField()
