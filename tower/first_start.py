"""What the first start puts in: the administrator; the demo's definitions and token."""

from __future__ import annotations

import os

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from tower import valkey
from tower.access.tokens import make_token, principal_of_token
from tower.access_log import DEMO_FLEET
from tower.binding import Refused
from tower.settings import SECRETS_DIR, secret

NAME = "admin"


def admin_password() -> str:
    """What to tell of the password of ``admin``, who is made where there is none. Shown that once."""
    User = get_user_model()
    file = SECRETS_DIR / "admin_password"
    if User.objects.filter(username=NAME).exists():
        return f"password as in {file}" if file.exists() else "password as chosen"
    given = os.environ.get("TOWER_ADMIN_PASSWORD", "")
    if given:
        judge(given)
    user = User.objects.create_superuser(NAME, password=given or secret("admin_password", length=15))
    user.groups.add(*Group.objects.filter(name="admin"))
    return "password as in TOWER_ADMIN_PASSWORD" if given else f"password {secret('admin_password')}"


def judge(password: str) -> None:
    try:
        validate_password(password)
    except ValidationError as error:
        raise Refused("TOWER_ADMIN_PASSWORD is too weak: " + " ".join(error.messages)) from error


def install_demo() -> None:
    """The definitions that the fleet works for; one that somebody has edited stays as it is."""
    from tower.definitions import edit
    from tower.definitions.models import TaskDefinition
    from tower.demo.definitions import DEFINITIONS

    there = set(TaskDefinition.objects.values_list("id", flat=True))
    for body in DEFINITIONS:
        if body["id"] not in there:
            edit.create(body, by="system")


def demo_token() -> str:
    """A token that may report and read, and nothing else; the one of last time while it is good."""
    file = SECRETS_DIR / "demo_token"
    if file.exists() and principal_of_token(raw := file.read_text().strip()) is not None:
        return raw
    fresh = make_token(DEMO_FLEET, ("ingest", "read"))
    valkey.written(file, fresh)
    return fresh
