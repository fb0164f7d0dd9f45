"""The audit as a file: CSV for tables, JSON for programs. Bounded, and it says so."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from controls.api import as_json
from controls.models import ControlQuery, ControlRecord

#: The newest so many rows, and no more than so many bytes of reasons.
MOST_ROWS: Final = 10_000
MOST_BYTES: Final = 16 << 20
#: The first letters by which spreadsheets take a text for a formula.
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
COLUMNS: Final = (
    "created_at", "triggered_by", "on_behalf_of", "action", "trace_id", "task_id", "pending", "running",
    "delivered_at", "outcome", "reason", "id",
)  # fmt: skip


def newest(found: ControlQuery) -> tuple[list[ControlRecord], bool]:
    """The rows of a file, and whether there are more."""
    taken: list[ControlRecord] = []
    size = 0
    for record in found.order_by("-number")[: MOST_ROWS + 1].iterator(chunk_size=500):
        size += len(record.reason)
        if len(taken) == MOST_ROWS or size > MOST_BYTES:
            return taken, True
        taken.append(record)
    return taken, False


def as_csv(records: Sequence[ControlRecord]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([plain(value) for value in _cells(record)] for record in records)
    # With the mark of UTF-8, without which Excel reads names in the code page of the machine.
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def plain(value: Any) -> str:
    """Never a formula for who opens the file: a reason or a name is what somebody else wrote."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _cells(record: ControlRecord) -> Iterator[Any]:
    row = as_json(record)
    for name in COLUMNS:
        yield row["affected"][name] if name in row["affected"] else row[name]


def as_json_file(records: Sequence[ControlRecord], more: bool) -> bytes:
    return orjson.dumps({"controls": [as_json(record) for record in records], "more": more})
