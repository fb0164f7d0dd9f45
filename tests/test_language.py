"""Two languages: which one an answer speaks, that every text is translated, and that no page mixes them."""

from __future__ import annotations

import re
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.utils import translation

from tools import language

CATALOGUES = {path.parts[-3]: path for path in language.CATALOGUES}


def entries(path: Path) -> dict[language.Text, polib.POEntry]:
    return {language.text_of(one): one for one in polib.pofile(str(path))}


def said(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def places(text: str) -> set[str]:
    """What is filled in, and the markup around it."""
    return set(re.findall(r"%\(\w+\)0?\d*[sd]|%[sd]|\{\w+\}|</?\w+[^>]*>", text))


# -- the catalogues


def test_each_language_beside_english_has_a_catalogue():
    assert set(CATALOGUES) == {translation.to_locale(code) for code, _ in settings.LANGUAGES} - {"en"}


@pytest.mark.parametrize("path", CATALOGUES.values(), ids=CATALOGUES)
def test_every_text_is_translated_and_nothing_else(path):
    known = entries(path)

    assert set(known) == set(language.texts()), "run `python -m tools.language`"
    assert [one.msgid for one in known.values() if one.fuzzy or not all(said(one)) or not said(one)] == []


@pytest.mark.parametrize("path", CATALOGUES.values(), ids=CATALOGUES)
def test_a_translation_fills_in_what_its_text_fills_in(path):
    differing = [
        one.msgid
        for one in entries(path).values()
        if any(places(text) != places(one.msgid_plural or one.msgid) for text in said(one))
    ]

    assert differing == []


@pytest.mark.parametrize("path", CATALOGUES.values(), ids=CATALOGUES)
def test_the_compiled_catalogue_is_that_of_its_source(path):
    assert path.with_suffix(".mo").read_bytes() == polib.pofile(str(path)).to_binary(), (
        "run `python -m tools.language`"
    )


def test_texts_are_found_in_templates_and_in_python():
    template = """{% translate "One's" %}{% include "x.html" with label=_("In a tag") %}
        {% blocktranslate count n=n %}{{ n }} a{% plural %}{{ n }} b{% endblocktranslate %}"""
    context = '{% translate "Long" context "of a list" %}'
    program = "ngettext('{n} of it', '{n}' ' of them', n)\n_('a'\n  'b')"

    assert list(language.in_template(template)) == [
        language.Text("One's"),
        language.Text("In a tag"),
        language.Text("%(n)s a", "%(n)s b"),
    ]
    assert list(language.in_template(context)) == [language.Text("Long", context="of a list")]
    assert set(language.in_python(program)) == {
        language.Text("{n} of it", "{n} of them"),
        language.Text("ab"),
    }


def test_a_text_that_cannot_be_found_is_refused():
    with pytest.raises(language.NotWritten):
        list(language.in_python("_(name)"))


def test_a_refresh_keeps_what_is_translated_and_drops_what_is_gone():
    old = polib.POFile()
    old += [polib.POEntry(msgid="kept", msgstr="留"), polib.POEntry(msgid="gone", msgstr="去")]

    new = language.refresh(old, {language.Text("new"): ["a.py"], language.Text("kept"): ["b.py"]})

    assert [(one.msgid, one.msgstr) for one in new] == [("new", ""), ("kept", "留")]
