"""Who may do what: one row for each URL pattern. A pattern without a row is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tower.access.principal import Principal


@dataclass(frozen=True, slots=True)
class Right:
    """Any of these token scopes (None: no token), at least this role (None: no session); ``open`` to all."""

    scopes: frozenset[str] | None
    role: str | None
    open: bool = False

    @property
    def needs(self) -> dict[str, object]:
        """What a refused request is told."""
        return {"scopes": sorted(self.scopes or ()), "role": self.role}


OPEN = Right(None, None, open=True)
READ = Right(frozenset({"read"}), "viewer")
COMMAND = Right(frozenset({"read", "ingest"}), "viewer")
REPORT = Right(frozenset({"ingest"}), "admin")
START = Right(frozenset({"ingest", "control"}), "operator")
CONTROL = Right(frozenset({"control"}), "operator")
DEFINE = Right(frozenset({"admin"}), "editor")
PAGE = Right(None, "viewer")
OPERATE = Right(None, "operator")
EDIT = Right(None, "editor")
ADMINISTER = Right(None, "admin")

#: ``"*"`` stands for the methods that a row does not name.
MATRIX: Mapping[str, Mapping[str, Right]] = {
    "api:definitions": {"GET": READ, "POST": DEFINE},
    "api:definition": {"GET": READ, "PUT": DEFINE, "PATCH": DEFINE},
    "api:traces": {"GET": READ, "POST": START},
    "api:trace": {"GET": READ},
    "api:tree": {"GET": READ},
    "api:changes": {"GET": READ},
    "api:snapshot": {"GET": READ},
    "api:trace-events": {"GET": READ},
    "api:tasks": {"POST": REPORT},
    "api:task": {"GET": READ},
    "api:task-events": {"GET": READ},
    "api:aggregation": {"GET": READ},
    "api:command": {"GET": COMMAND},
    "api:events": {"POST": REPORT},
    "api:controls": {"GET": READ, "POST": CONTROL},
    "api:control": {"GET": READ},
    "api:schema": {"GET": READ},
    "api:docs": {"*": PAGE},
    "runs": {"*": PAGE},
    "runs-new": {"GET": PAGE},
    "runs-beside": {"GET": PAGE},
    "runs-matching": {"GET": PAGE},
    "run-views": {"POST": PAGE},
    "run-view": {"POST": PAGE},
    "compare": {"*": PAGE},
    "search": {"*": PAGE},
    "search-hits": {"GET": PAGE},
    "trace": {"*": PAGE},
    "trace-log": {"GET": PAGE},
    "trace-find": {"GET": PAGE},
    "trace-errors": {"GET": PAGE},
    "trace-task": {"GET": PAGE},
    "definitions": {"GET": PAGE, "POST": EDIT},
    "definition": {"GET": PAGE, "POST": EDIT},
    "definition-versions": {"GET": PAGE},
    "definition-start": {"*": OPERATE},
    "controls:audit": {"*": PAGE},
    "controls:chosen": {"POST": OPERATE},
    "controls:bulks": {"GET": PAGE},
    "controls:bulk": {"GET": PAGE},
    "controls:bulk-state": {"GET": PAGE},
    "controls:bulk-do": {"POST": OPERATE},
    "controls:file": {"GET": PAGE},
    "controls:record": {"GET": PAGE},
    "controls:issue": {"*": OPERATE},
    "controls:preview": {"GET": OPERATE},
    "health": {"*": PAGE},
    "dead-letters": {"*": ADMINISTER},
    "dead-letter": {"*": ADMINISTER},
    "password-again": {"*": PAGE},
    "password": {"*": PAGE},
    "theme": {"*": OPEN},
    "language": {"*": OPEN},
    "login": {"*": OPEN},
    "logout": {"*": OPEN},
    "healthz": {"*": OPEN},
    "readyz": {"*": OPEN},
    # A program on this machine may read it too: its view looks at the peer (reliability.md, section 4).
    "metrics": {"*": OPEN},
    "admin-login": {"*": OPEN},
    "admin-logout": {"*": OPEN},
    "admin-password": {"*": PAGE},
    # The admin site asks for the permission of each model beside this.
    "admin:*": {"*": EDIT},
    "live": {"*": READ},
}


def right_of(url_name: str, method: str) -> Right | None:
    """The row of a URL pattern; None where there is none, which refuses everyone."""
    rows = _rows(url_name)
    return rows.get("GET" if method == "HEAD" else method) or rows.get("*")


def methods_of(url_name: str) -> list[str]:
    """The methods that its rows name; empty where it has none."""
    return sorted(_rows(url_name))


def _rows(url_name: str) -> Mapping[str, Right]:
    space, colon, _ = url_name.partition(":")
    return MATRIX.get(url_name) or MATRIX.get(f"{space}:*" if colon else "") or {}


def holds(principal: Principal | None, right: Right | None) -> bool:
    if right is None:
        return False
    if right.open:
        return True
    if principal is None:
        return False
    if principal.is_token:
        return bool((right.scopes or frozenset()) & principal.scopes) or (
            right.scopes is not None and "admin" in principal.scopes
        )
    return right.role is not None and right.role in principal.roles


def allowed(principal: Principal | None, url_name: str, method: str = "GET") -> bool:
    return holds(principal, right_of(url_name, method))
