"""The JSON of each of many values by one call: one for each makes and shrinks a buffer (2.3 us, not 0.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

#: Stands between two values until their texts are apart again.
_SEAM = "\0"


def each_json(values: Sequence[Any], *, sort_keys: bool = False) -> list[str]:
    """One text a value. No string in them may hold a NUL, or the seam would be found in it."""
    if not values:
        return []
    seamed: list[Any] = [_SEAM] * (2 * len(values) - 1)
    seamed[::2] = values
    text = orjson.dumps(seamed, option=orjson.OPT_SORT_KEYS if sort_keys else None).decode()
    # A quote inside a string is escaped, so this stands nowhere but between values.
    return text[1:-1].split(',"\\u0000",')
