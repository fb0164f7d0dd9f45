"""JSON that people write: errors name line and column, and nothing gets in that could not be stored."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from tower.reading import unfit


class BadJSON(ValueError):
    """Why a text is not taken; the message is made for the person who wrote it."""


def read_json(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        # The library counts from 1; an error at the very end stands behind the last character.
        raise BadJSON(f"line {error.lineno}, column {error.colno}: {_said(error.msg)}") from error
    except RecursionError as error:
        raise BadJSON("nested too deeply") from error
    except ValueError as error:
        raise BadJSON(str(error) if isinstance(error, BadJSON) else "a number has too many digits") from error
    if refused := unfit(value):
        raise BadJSON(refused.message)
    return value


def read_object(text: str) -> dict[str, Any]:
    value = read_json(text)
    if not isinstance(value, dict):
        raise BadJSON("must be an object: { … }")
    return value


def pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _refuse(name: str) -> NoReturn:
    raise BadJSON(f"{name} is no number of JSON")


def _said(message: str) -> str:
    return re.sub(r"\s*\(.*\)$", "", message)[:1].lower() + re.sub(r"\s*\(.*\)$", "", message)[1:]
