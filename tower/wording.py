"""English sentences that remember what they were made of, so that a page can translate them. Pure.

The API sends them as they are. ``tower.language.translated`` makes the reader's own of them.
"""

from __future__ import annotations

from typing import Any


class Worded(str):
    __slots__ = ("many", "number", "one", "values")

    one: str
    many: str
    number: int
    values: dict[str, Any]


def worded(one: str, /, **values: Any) -> Worded:
    """``one`` with its ``%(places)s`` filled in; a value may be worded itself."""
    return _made(one, "", 1, values)


def worded_n(one: str, many: str, number: int) -> Worded:
    """``one`` or ``many``, with ``%(n)s`` filled in."""
    return _made(one, many, number, {"n": number})


def _made(one: str, many: str, number: int, values: dict[str, Any]) -> Worded:
    made = Worded((one if number == 1 else many) % values)
    made.one, made.many, made.number, made.values = one, many, number, values
    return made
