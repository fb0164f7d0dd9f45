"""Draws the tables of the pages that the code decides: ``python -m docs.draw`` rewrites them in place.

A block begins with ``<!-- draw: NAME -->``, ends with ``<!-- end -->``, and is compared by a test.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tower.settings")

import tower  # noqa: F401  (puts the newer SQLite in before Django loads its own)
from controls.policy import ANSWERS
from instances.lifecycle import MOVES, Verdict
from instances.reasons import Cause
from tower.access.matrix import MATRIX, Right
from tower.schemas import ControlAction, TaskEventType

HERE = Path(__file__).parent
BLOCK = re.compile(r"(<!-- draw: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

VERDICTS: Mapping[Verdict, str] = {
    Verdict.APPLIED: "it counts",
    Verdict.STALE: "of an older attempt, or older than what stands",
    Verdict.LATE: "after the standing ending of its attempt",
    Verdict.CONFLICT: "another ending than the one that stands",
    Verdict.UNATTACHED: "it counts, for a task whose parent nobody has named",
}

REASONS: Mapping[Cause, str] = {
    Cause.OLDER_ATTEMPT: "its attempt is older than the one that stands",
    Cause.ATTEMPT_NOT_OPENED: "its attempt was not opened, since a CANCEL is in force",
    Cause.OLDER: "what it says is older than what stands in its attempt",
    Cause.AFTER_ENDING: "it was made after the ending that stands",
    Cause.OTHER_ENDING: "another ending was made earlier and stands",
    Cause.OVERTAKEN: "it stood, until an earlier ending came",
    Cause.FORCED: "the tower had ended the task CANCELLED; it only sets `reported_status`",
    Cause.NO_PARENT: "it counted, while nobody had named the task's parent",
    Cause.TIMED_OUT: "of the tower: no ending was heard within `timeout_sec`",
    Cause.TIMEOUT_OVERTAKEN: "of the tower: so it had decided, until the actor's own ending came",
    Cause.UNACKNOWLEDGED: "of the tower: the CANCEL was not answered within its grace",
    Cause.UNDER_CANCEL: "of the tower: a CANCEL stood above the task before it began",
}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def moves() -> str:
    return table(
        ["", *TaskEventType],
        (
            [f"**{status}**", *(str(to.get(kind, "")) for kind in TaskEventType)]
            for status, to in MOVES.items()
        ),
    )


def verdicts() -> str:
    return table(["verdict", "means"], ([f"`{v.name.lower()}`", VERDICTS[v]] for v in Verdict))


def reasons() -> str:
    return table(["reason", "means"], ([f"`{cause.value}`", REASONS[cause]] for cause in Cause))


def answers() -> str:
    """The first row that fits answers."""

    def row(
        asked: ControlAction, open_: bool | None, on_path: ControlAction | None, here: bool | None
    ) -> str:
        facts = [
            "" if open_ is None else "something open there" if open_ else "nothing open there",
            "" if on_path is None else f"under {on_path}",
            ""
            if here is None
            else "a PAUSE was put at this very place"
            if here
            else "no PAUSE at this place",
        ]
        return ", ".join(filter(None, facts)) or "else"

    return table(
        ["asked", "where", "answer"],
        (
            [asked, row(asked, open_, on_path, here), "taken" if outcome == "taken" else f"409 `{outcome}`"]
            for asked, open_, on_path, here, outcome in ANSWERS
        ),
    )


def matrix() -> str:
    routes = dict(_routes())
    return table(
        ["call", "method", "token scope", "role of a session"],
        (
            [f"`{routes[name]}`", method.replace("*", "any"), _scopes(right), _role(right)]
            for name, rights in MATRIX.items()
            if name in routes
            for method, right in rights.items()
        ),
    )


def _scopes(right: Right) -> str:
    return "none needed" if right.open else " or ".join(f"`{s}`" for s in sorted(right.scopes or ())) or "–"


def _role(right: Right) -> str:
    return "none needed" if right.open else right.role or "–"


def _routes() -> Iterator[tuple[str, str]]:
    """(URL name, its path as a reader writes it)."""
    import django

    django.setup()
    from django.urls import URLPattern, URLResolver, get_resolver

    def walk(
        patterns: Iterable[URLPattern | URLResolver], space: str, above: str
    ) -> Iterator[tuple[str, str]]:
        for entry in patterns:
            route = above + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(entry.pattern))
            if isinstance(entry, URLResolver):
                if entry.namespace != "admin":
                    inner = f"{space}{entry.namespace}:" if entry.namespace else space
                    yield from walk(entry.url_patterns, inner, route)
            elif entry.name:
                yield space + entry.name, "/" + route

    yield from walk(get_resolver().url_patterns, "", "")


DRAWN: Mapping[str, Callable[[], str]] = {
    "moves": moves,
    "verdicts": verdicts,
    "reasons": reasons,
    "answers": answers,
    "matrix": matrix,
}


def drawn(page: str) -> str:
    return BLOCK.sub(lambda block: block[1] + "\n" + DRAWN[block[2]]() + "\n" + block[3], page)


def main() -> None:
    for path in sorted(HERE.glob("*.md")):
        page = path.read_text()
        if (new := drawn(page)) != page:
            path.write_text(new)
            print(f"drawn: {path.name}")


if __name__ == "__main__":
    main()
