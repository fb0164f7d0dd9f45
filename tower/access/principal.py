"""Who asks: a person by session, or a program by token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tower.access.roles import roles_of


@dataclass(frozen=True, slots=True)
class Principal:
    """``roles`` has the lower ones too; ``key`` is unique among people and programs, for limits."""

    name: str
    is_token: bool
    scopes: frozenset[str]
    roles: frozenset[str]
    key: str

    #: What DRF asks of a user.
    is_authenticated = True
    is_active = True

    def __str__(self) -> str:
        return self.name


def principal_of_user(user: Any) -> Principal | None:
    """A signed-in person; None for a visitor."""
    if user is None or not user.is_authenticated or not user.is_active:
        return None
    if isinstance(user, Principal):
        return user
    return Principal(user.get_username(), False, frozenset(), roles_of(user), f"user:{user.pk}")
