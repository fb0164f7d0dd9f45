"""Two languages: which one an answer speaks, that every text is translated, and that no page mixes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.utils import translation

from docs import language
from tests.people import bearing, signed_in_as
from tower import marks

pytestmark = pytest.mark.django_db(transaction=True)

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

    assert set(known) == set(language.texts()), "run `python -m docs.language`"
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
        "run `python -m docs.language`"
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


# -- which language


CHINESE = {"accept-language": "zh-CN,zh;q=0.9,en;q=0.8"}


@pytest.mark.parametrize("asked", ["zh-CN", "zh-Hans", "zh", "zh-SG,en;q=0.5", "de,zh-hans;q=0.9,en;q=0.1"])
def test_the_browser_is_heard(client, asked):
    page = client.get("/login/", headers={"accept-language": asked})

    assert '<html lang="zh-hans"' in page.content.decode()
    assert page["Content-Language"] == "zh-hans"
    assert {"Accept-Language", "Cookie"} <= set(re.split(", *", page["Vary"]))


@pytest.mark.parametrize("asked", ["", "de", "en-GB,zh;q=0.5", "%%"])
def test_whoever_asks_for_nothing_that_we_speak_is_told_in_english(client, asked):
    assert '<html lang="en"' in client.get("/login/", headers={"accept-language": asked}).content.decode()


def test_a_choice_is_kept_and_leads_back_to_the_page():
    client = signed_in_as("viewer")
    page = client.get("/health/?a=b")
    (chosen,) = re.findall(r'name="language" value="([^"]+)" lang="\1"', page.content.decode())

    back = client.post("/language/", {"language": chosen, "next": "/health/?a=b"})
    after = client.get(back["Location"], headers={"accept-language": "en"}).content.decode()

    assert (chosen, back["Location"]) == ("zh-hans", "/health/?a=b")
    assert '<html lang="zh-hans"' in after
    assert re.findall(r'name="language" value="([^"]+)" lang="\1" title="([^"]+)"', after) == [
        ("en", "English")
    ]


@pytest.mark.parametrize("chosen", ["", "de", "zh", '"><script>', "en\r\nX: y"])
def test_a_language_that_is_not_spoken_here_changes_nothing(client, chosen):
    answer = client.post("/language/", {"language": chosen})

    assert answer["Location"] == "/" and not answer.cookies


@pytest.mark.parametrize("kept", ["", "de", '"><script>'])
def test_a_cookie_of_another_language_never_reaches_the_page(client, kept):
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = kept

    assert '<html lang="en"' in client.get("/login/").content.decode()


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_the_switch_never_leads_to_another_site(client, elsewhere):
    assert client.post("/language/", {"language": "en", "next": elsewhere})["Location"] == "/"


def test_the_switch_is_a_form_only(client):
    assert client.get("/language/").status_code == 405


def test_the_api_speaks_english_to_everybody():
    client = bearing("read", "admin")

    said = [
        client.generic(
            method, f"/api/v1/{path}", body, content_type="application/json", headers=headers
        ).content
        for headers in ({}, CHINESE)
        for method, path, body in (
            ("GET", "traces/nothing/", ""),
            ("GET", "traces/?limit=x", ""),
            ("POST", "definitions/", '{"id": "-", "params_schema": {"type": 3}}'),
            ("POST", "definitions/", "["),
        )
    ]

    assert said[:4] == said[4:]
    assert all(answer.isascii() for answer in said)


def test_a_language_holds_for_its_answer_only(client):
    client.get("/login/", headers=CHINESE)

    assert translation.get_language() == "en"


def test_numbers_dates_and_durations_follow():
    at = int(datetime(2019, 3, 5, 7, 8, 9, tzinfo=UTC).timestamp() * 1000)

    def said():
        return marks.count(1_234_567), marks.when(at), marks.span(3 * 86_400_000 + 15_060_000)

    assert said() == ("1,234,567", "5 Mar 2019", "3 d 04:11")
    with translation.override("zh-hans"):
        assert said() == ("1,234,567", "2019年3月5日", "3 天 04:11")
