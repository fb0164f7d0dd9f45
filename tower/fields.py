"""Column types that both databases store alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from django.db import models

if TYPE_CHECKING:  # Django's own classes take no parameters at run time
    Chars = models.CharField[Any, Any]
    Text = models.TextField[Any, Any]
else:
    Chars, Text = models.CharField, models.TextField


class IdField(Chars):
    """An outside id: 64 characters of ASCII, compared byte for byte.

    PostgreSQL: ``COLLATE "C"`` makes prefix ranges exact and cheap; the type is
    spelled out because Django adds a ``_like`` index beside every unique
    ``varchar`` column, which costs a third of the write rate (measured).
    SQLite compares bytes already.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 64)
        super().__init__(*args, **kwargs)

    def db_type(self, connection: Any) -> str:
        if connection.vendor == "postgresql":
            return f'character varying({self.max_length}) COLLATE "C"'
        return f"varchar({self.max_length})"


class JSONText(Text):
    """JSON kept as text that was checked on the way in.

    Not ``jsonb``: that refuses NUL and lone surrogates at write time and writes
    large exponents out in full.
    """

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Any:
        return None if value is None or value == "" else orjson.loads(value)

    def to_python(self, value: Any) -> Any:
        return value

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def value_to_string(self, obj: Any) -> str:
        return orjson.dumps(self.value_from_object(obj)).decode()
