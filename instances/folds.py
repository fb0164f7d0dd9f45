"""What a link opened and folded, as ``static/tree/folds.js`` wrote it into a few characters."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from urllib.parse import unquote

#: No link has more.
LONGEST = 2_000


class Folds:
    """By the number of a task; of a group by "parent/name"."""

    def __init__(self, text: str) -> None:
        runs, *groups = text[:LONGEST].split(".")
        self._ends = list(accumulate(_numbers(runs)))
        self._groups = {unquote(key) for key in groups}

    def is_open(self, n: int) -> bool | None:
        """None where the link says nothing of it."""
        place = bisect_right(self._ends, n)
        return place % 2 == 1 if place < len(self._ends) else None

    def group_is_open(self, parent: int, name: str) -> bool:
        return f"{parent}/{name}" in self._groups


def _numbers(text: str) -> Iterator[int]:
    """Seven bits a byte, the lowest first."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return
    number = shift = 0
    for byte in packed:
        number += (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0
