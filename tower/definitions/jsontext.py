"""JSON that people write: errors name line and column, and nothing gets in that could not be stored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tower.reading import unfit

#: What Python's reader says, without what it puts in brackets.
DECODER: Mapping[str, Promise | str] = {
    "Expecting value": gettext_lazy("expecting value"),
    "Expecting ':' delimiter": gettext_lazy("expecting ':' delimiter"),
    "Expecting ',' delimiter": gettext_lazy("expecting ',' delimiter"),
    "Expecting property name enclosed in double quotes": gettext_lazy(
        "expecting property name enclosed in double quotes"
    ),
    "Extra data": gettext_lazy("extra data"),
    "Unterminated string starting at": gettext_lazy("unterminated string starting at"),
    "Invalid control character at": gettext_lazy("invalid control character at"),
    "Invalid \\escape": gettext_lazy("invalid \\escape"),
    "Invalid \\uXXXX escape": gettext_lazy("invalid \\uXXXX escape"),
    "Illegal trailing comma before end of object": gettext_lazy("illegal trailing comma"),
    "Illegal trailing comma before end of array": gettext_lazy("illegal trailing comma"),
}
#: What ``tower.reading`` says of a value, without the place.
UNFIT: Mapping[str, Promise | str] = {
    "Nested too deeply": gettext_lazy("Nested too deeply"),
    "A key has a NUL or half a character": gettext_lazy("A key has a NUL or half a character"),
    "The text has a NUL or half a character": gettext_lazy("The text has a NUL or half a character"),
    "Not a finite number": gettext_lazy("Not a finite number"),
    "An integer must be within ±(2^63 - 1)": gettext_lazy("An integer must be within ±(2^63 - 1)"),
}


class BadJSON(ValueError):
    """Why a text is not taken; the message is made for the person who wrote it."""


def read_json(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        # The library counts from 1; an error at the very end stands behind the last character.
        place = {"line": error.lineno, "column": error.colno}
        raise BadJSON(f"{_('line %(line)s, column %(column)s') % place}: {_said(error.msg)}") from error
    except RecursionError as error:
        raise BadJSON(_("nested too deeply")) from error
    except ValueError as error:
        raise BadJSON(
            str(error) if isinstance(error, BadJSON) else _("a number has too many digits")
        ) from error
    if refused := unfit(value):
        said, colon, where = refused.message.rstrip(".").partition(": ")
        raise BadJSON(f"{UNFIT.get(said, said)}{colon}{where}")
    return value


def read_object(text: str) -> dict[str, Any]:
    value = read_json(text)
    if not isinstance(value, dict):
        raise BadJSON(_("must be an object: { … }"))
    return value


def pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _refuse(name: str) -> NoReturn:
    raise BadJSON(_("%(name)s is no number of JSON") % {"name": name})


def _said(message: str) -> str:
    bare = re.sub(r"\s*\(.*\)$", "", message)
    return str(DECODER.get(bare, bare))
