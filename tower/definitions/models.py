"""Definitions and their immutable versions.

A task pins the version that is current when it is registered; all its rules
(``join``, limits, grace) come from there, so an edit never changes a run.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from tower.fields import IdField, JSONText
from tower.schemas import ActorType


class Rules(models.Model):
    """What an edit may change: the content of one version."""

    name = models.CharField(_("name"), max_length=200)
    actor_type = models.CharField(
        _("actor type"), max_length=16, choices=[(kind.value, kind.value) for kind in ActorType]
    )
    code_ref = models.TextField(_("code reference"))
    description = models.TextField(_("description"), blank=True, default="")
    default_params = JSONText(_("default parameters"), default=dict, blank=True)
    params_schema = JSONText(_("parameter schema"), null=True, blank=True)
    join = JSONText(_("join"), null=True, blank=True)
    timeout_sec = models.PositiveIntegerField(_("timeout, seconds"), default=300)
    max_retries = models.PositiveIntegerField(_("most retries"), default=3)
    cancel_grace_sec = models.PositiveIntegerField(_("grace of a cancel, seconds"), default=30)

    class Meta:
        abstract = True


class TaskDefinition(Rules):
    id = IdField(primary_key=True)
    is_active = models.BooleanField(_("active"), default=True)
    #: The version that registrations pin from now on; 0 until the first save through the door.
    version = models.PositiveIntegerField(_("version"), default=0, editable=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("task definition")
        verbose_name_plural = _("task definitions")
        ordering = ["id"]

    def __str__(self) -> str:
        return str(self.id)


class DefinitionVersion(Rules):
    definition = models.ForeignKey(TaskDefinition, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField(_("version"))
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    created_by = models.CharField(_("by"), max_length=150, default="")

    class Meta:
        verbose_name = _("definition version")
        verbose_name_plural = _("definition versions")
        ordering = ["definition_id", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["definition", "number"], name="one_version_of_a_number")
        ]

    def __str__(self) -> str:
        return f"{self.definition_id} v{self.number}"
