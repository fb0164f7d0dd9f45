from __future__ import annotations

from django.apps import AppConfig


class TowerConfig(AppConfig):
    name = "tower"

    def ready(self) -> None:
        from tower import checks, faults  # noqa: F401  (registers them)

        faults.warn()
