from __future__ import annotations

from django.apps import AppConfig


class DefinitionsConfig(AppConfig):
    name = "tower.definitions"
    label = "definitions"
    default_auto_field = "django.db.models.BigAutoField"
