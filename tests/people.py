"""People with a role, tokens with scopes, and clients of both."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client

from tower.access.tokens import make_token

PASSWORD = "correct horse battery"


def a_person(role: str = "", name: str = "", **more: Any) -> User:
    person = User.objects.create_user(name or role or "nobody", password=PASSWORD, **more)
    if role:
        person.groups.add(Group.objects.get(name=role))
    return person


def signed_in_as(role: str, name: str = "", *, csrf: bool = False) -> Client:
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(a_person(role, name))
    return client


def bearing(*scopes: str, name: str = "program") -> Client:
    """A client that sends a new token with these scopes."""
    return with_token(make_token(name, scopes))


def with_token(raw: str) -> Client:
    return Client(headers={"authorization": f"Bearer {raw}"})
