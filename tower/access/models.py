"""Tokens of programs, and failed sign-ins."""

from __future__ import annotations

import hashlib

from django.db import models
from django.utils.translation import gettext_lazy as _


class Token(models.Model):
    """A program's credential. Only the SHA-256 of it is kept; it is shown once."""

    name = models.CharField(_("name"), max_length=150)
    digest = models.CharField(max_length=64, unique=True)
    last_four = models.CharField(max_length=4)
    #: Space-separated: read, ingest, control, admin.
    scopes = models.CharField(_("scopes"), max_length=64)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    expires_at = models.DateTimeField(_("valid until"), null=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True)
    last_used_at = models.DateTimeField(_("last used"), null=True)

    class Meta:
        verbose_name = _("token")
        verbose_name_plural = _("tokens")

    @staticmethod
    def digest_of(raw: str) -> str:
        return hashlib.sha256(raw.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.name} …{self.last_four}"


class SignInCount(models.Model):
    """Failed sign-ins in the current window, by name, by address and by both; counted under a row lock."""

    key = models.CharField(max_length=300, primary_key=True)
    failures = models.PositiveIntegerField(default=0)
    window_start = models.DateTimeField()
