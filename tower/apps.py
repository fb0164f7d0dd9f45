from __future__ import annotations

from django.apps import AppConfig


class TowerConfig(AppConfig):
    name = "tower"
