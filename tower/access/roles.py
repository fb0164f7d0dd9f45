"""The four roles: Django groups of these names, each with the rights of those before it."""

from __future__ import annotations

from typing import Any

#: From least to most; a superuser counts as the last.
ROLES = ("viewer", "operator", "editor", "admin")


def up_to(role: str) -> frozenset[str]:
    """A role with all below it."""
    return frozenset(ROLES[: ROLES.index(role) + 1])


def roles_of(user: Any) -> frozenset[str]:
    """All roles of a person, the lower ones included; one query for each user object."""
    known: frozenset[str] | None = getattr(user, "_tower_roles", None)
    if known is not None:
        return known
    if user.is_superuser:
        found = up_to(ROLES[-1])
    else:
        named = user.groups.filter(name__in=ROLES).values_list("name", flat=True)
        found = frozenset().union(*(up_to(name) for name in named))
    user._tower_roles = found
    return found


def role_at_least(user: Any, role: str) -> bool:
    """Whether a visitor or a person holds a role; false for who has not signed in."""
    return bool(user is not None and user.is_authenticated and user.is_active and role in roles_of(user))
