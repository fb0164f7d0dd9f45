"""``manage.py demo_definitions``: what a demo fleet works for that runs apart from ``up --demo``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from tower.first_start import install_demo


class Command(BaseCommand):
    help = "Create the definitions of the demo fleet. One that is there already stays as it is."

    def handle(self, *args: Any, **options: Any) -> None:
        install_demo()
