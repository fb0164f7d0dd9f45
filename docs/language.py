"""Refreshes the translations: ``python -m docs.language`` (no GNU gettext needed).

Reads every text that templates and Python wrap in gettext, writes the catalogue of each
language anew (what it had is kept, what is new has no translation yet, what is gone is
dropped), and compiles it. ``tests/test_language.py`` fails while a text lacks its translation.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tower.settings")

import polib
from django.utils.translation.template import templatize

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ("tower", "instances", "controls")
TEMPLATES = ROOT / "templates"
CATALOGUES = sorted(ROOT.glob("locale/*/LC_MESSAGES/django.po"))

#: Functions that take texts, and what their first arguments are.
CALLS: Mapping[str, Sequence[str]] = {
    "_": ["one"],
    "gettext": ["one"],
    "worded": ["one"],
    "worded_n": ["one", "many"],
    "gettext_lazy": ["one"],
    "gettext_noop": ["one"],
    "ngettext": ["one", "many"],
    "ngettext_lazy": ["one", "many"],
    "pgettext": ["context", "one"],
    "pgettext_lazy": ["context", "one"],
    "npgettext": ["context", "one", "many"],
    "npgettext_lazy": ["context", "one", "many"],
}
#: A call as it stands in a template that Django has turned into something like Python.
STRING = r"""(u?'(?:\\.|[^'\\])*'|u?"(?:\\.|[^"\\])*")"""
IN_TEMPLATE = re.compile(rf"\b(_|n?p?gettext)\({STRING}(?:, {STRING})?(?:, {STRING})?")


class NotWritten(Exception):
    """A text that is made while the program runs cannot be found, so nobody would translate it."""


@dataclass(frozen=True, slots=True)
class Text:
    one: str
    many: str = ""
    context: str = ""


def texts() -> dict[Text, list[str]]:
    """Every text of the program, and the files that it stands in."""
    found: dict[Text, list[str]] = {}
    for path, text in _all():
        files = found.setdefault(text, [])
        if (name := path.relative_to(ROOT).as_posix()) not in files:
            files.append(name)
    return found


def _all() -> Iterator[tuple[Path, Text]]:
    for path in sorted(TEMPLATES.rglob("*.html")):
        yield from ((path, text) for text in in_template(path.read_text()))
    for folder in PROGRAM:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from ((path, text) for text in in_python(path.read_text(), str(path)))


def in_template(source: str) -> Iterator[Text]:
    for found in IN_TEMPLATE.finditer(templatize(source)):
        name, *given = found.groups()
        yield Text(**dict(zip(CALLS[name], (ast.literal_eval(part) for part in given if part), strict=True)))


def in_python(source: str, name: str = "") -> Iterator[Text]:
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CALLS:
            parts = CALLS[call.func.id]
            written = [str(part.value) for part in call.args[: len(parts)] if isinstance(part, ast.Constant)]
            if len(written) != len(parts):
                raise NotWritten(f"{name}:{call.lineno}: {ast.unparse(call)}")
            yield Text(**dict(zip(parts, written, strict=True)))


def text_of(entry: polib.POEntry) -> Text:
    return Text(entry.msgid, entry.msgid_plural, entry.msgctxt or "")


def refresh(old: polib.POFile, found: Mapping[Text, Iterable[str]]) -> polib.POFile:
    """The catalogue of these texts, with the translations that the old one has."""
    new = polib.POFile(wrapwidth=100)
    new.header, new.metadata = old.header, old.metadata
    known = {text_of(entry): entry for entry in old}
    for text, files in found.items():
        entry = known.get(text) or polib.POEntry(
            msgid=text.one, msgid_plural=text.many, msgctxt=text.context or None
        )
        if text.many and not entry.msgstr_plural:
            entry.msgstr_plural = {0: ""}
        entry.occurrences = [(file, "") for file in files]
        new.append(entry)
    return new


def main() -> None:
    found = texts()
    for path in CATALOGUES:
        new = refresh(polib.pofile(str(path)), found)
        new.save(str(path))
        new.save_as_mofile(str(path.with_suffix(".mo")))
        print(f"{path.relative_to(ROOT)}: {len(new)} texts, {len(new.untranslated_entries())} to translate")


if __name__ == "__main__":
    main()
