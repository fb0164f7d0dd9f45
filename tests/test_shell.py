"""What all pages share: frame, theme, errors, and the rules that every template and vendored file keeps."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings
from django.template.loader import get_template, render_to_string

from tests.people import signed_in_as
from tower import marks

pytestmark = pytest.mark.django_db(transaction=True)

TEMPLATES = sorted(Path(settings.BASE_DIR / "templates").rglob("*.html"))
STATIC = Path(settings.BASE_DIR / "static")
VENDOR = STATIC / "vendor"


def name_of(path):
    return str(path.relative_to(settings.BASE_DIR / "templates"))


# -- rules of every template


class Inline(HTMLParser):
    """What the policy would refuse: style attributes, handlers, scripts and styles with a body."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.found += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        self.found += [f"{tag}" for _ in [0] if tag == "style"]
        if tag == "script" and not given.get("src") and given.get("type") != "application/json":
            self.found.append("script without src")
        self.found += [
            f"{tag} {value}"
            for value in given.values()
            if (value or "").strip().lower().startswith("javascript:")
        ]


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_no_template_has_anything_inline(path):
    seen = Inline()

    seen.feed(path.read_text())

    assert seen.found == []


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_nothing_is_loaded_from_elsewhere(path):
    assert not re.search(r"""(?:src|href|action)=["'](?:https?:)?//""", path.read_text())


#: Words that are names: of the product's own formats, not of a language.
NAMES = {"id", "API", "JSON", "curl", "UTC"}


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_the_words_of_every_template_go_through_gettext(path):
    source = path.read_text()
    source = re.sub(r"{%\s*(blocktranslate|comment)\b.*?%}.*?{%\s*end\1\s*%}", "", source, flags=re.S)
    source = re.sub(r"{% block kind %}.*?{% endblock %}", "", source)  # a class of the body
    source = re.sub(r"<(script|style|code|pre|kbd)\b.*?</\1>", "", source, flags=re.S)
    source = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", "", source, flags=re.S)
    if "<" not in source:
        return  # a handful of attributes
    bare = re.sub(r"&\w+;", " ", re.sub(r"<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>", "\n", source))

    words = {word for word in re.findall(r"[A-Za-z]{2,}", bare) if word not in NAMES}

    assert words == set()


@pytest.mark.parametrize("path", sorted((STATIC / "js").glob("*.js")), ids=lambda path: path.name)
def test_our_modules_write_text_and_never_markup(path):
    refused = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|parseFromString"

    assert not re.search(rf"{refused}|\bconfirm\(", path.read_text())


#: The document of the API is drawn by somebody else's style sheet, which knows no tokens.
COLOURED = {"tokens.css", "api-docs.css"}


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((STATIC / "css").glob("*.css")) if path.name not in COLOURED],
    ids=lambda path: path.name,
)
def test_only_the_tokens_name_a_colour(path):
    # Black with little alpha is a shadow, white and black are paper.
    css = re.sub(r"rgb\(0 0 0 / [.\d]+\)|@media print {.*?\n}", "", path.read_text(), flags=re.S)

    assert re.findall(r"#[0-9a-f]{3,8}\b(?=[^{}]*;)|\brgba?\(|\bhsl\(", css) == []


def test_every_icon_that_a_template_names_is_in_the_sprite():
    have = set(re.findall(r'<symbol id="(\w+)"', (STATIC / "icons.svg").read_text()))
    named = {
        name for path in TEMPLATES for name in re.findall(r'icon\.html" with name="(\w+)"', path.read_text())
    }

    assert named <= have
    assert {"PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED", "SKIPPED"} <= have


# -- what other people made


def test_vendored_files_are_what_their_list_says():
    listed = json.loads((VENDOR / "vendor.json").read_text())
    found = {}
    for name, package in listed.items():
        folder = VENDOR / f"{name}-{package['version']}"
        found[name] = {
            path.name: "sha384-" + base64.b64encode(hashlib.sha384(path.read_bytes()).digest()).decode()
            for path in sorted(folder.iterdir())
        }

    assert found == {name: package["files"] for name, package in listed.items()}
    assert all("LICENSE" in package["files"] and package["licence"] for package in listed.values())
    assert {path.name for path in VENDOR.iterdir()} == {
        "vendor.json",
        *(f"{name}-{package['version']}" for name, package in listed.items()),
    }


# -- the frame


def test_the_bar_says_where_one_is_and_who_one_is():
    page = signed_in_as("editor", "li.wei").get("/health/").content.decode()

    assert re.search(r'<a href="/health/" aria-current="page">', page)
    assert len(re.findall(r'aria-current="page"', page)) == 1
    assert "Signed in as li.wei" in page
    assert "Editor" in page


def test_administration_is_offered_to_those_who_may_enter_it():
    assert 'href="/admin/"' not in signed_in_as("viewer").get("/health/").content.decode()

    client = signed_in_as("admin")
    entered = client.get("/admin/").status_code == 200

    assert ('href="/admin/"' in client.get("/health/").content.decode()) == entered


def test_signing_out_is_a_form_and_ends_the_session():
    client = signed_in_as("viewer")

    assert client.post("/logout/").headers["Location"] == "/login/"
    assert client.get("/").headers["Location"].startswith("/login/")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_theme_is_kept_and_drawn_by_the_server(theme):
    client = signed_in_as("viewer")

    answer = client.post("/theme/", {"theme": theme, "next": "/health/"})

    assert answer.headers["Location"] == "/health/"
    assert f'data-theme="{theme}"' in client.get("/health/").content.decode()


def test_the_system_decides_again_once_the_choice_is_given_back():
    client = signed_in_as("viewer")
    client.post("/theme/", {"theme": "dark"})

    client.post("/theme/", {"theme": "system"})

    assert 'data-theme="system"' in client.get("/health/").content.decode()


def test_a_theme_that_does_not_exist_never_reaches_the_page():
    client = signed_in_as("viewer")
    client.cookies["theme"] = '"><script>'

    assert 'data-theme="system"' in client.get("/health/").content.decode()


@pytest.mark.parametrize("elsewhere", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_the_theme_never_leads_to_another_site(client, elsewhere):
    assert client.post("/theme/", {"theme": "dark", "next": elsewhere}).headers["Location"] == "/"


def test_the_theme_is_changed_by_a_form_only(client):
    assert client.get("/theme/").status_code == 405


# -- errors


@pytest.mark.parametrize("status", ["400", "403", "404", "429", "500"])
def test_error_pages_draw_without_a_request(status):
    page = render_to_string(f"errors/{status}.html")

    assert page.count("<h1") == 1
    assert status in page


def test_what_is_not_there_is_a_page_in_the_frame():
    answer = signed_in_as("viewer").get("/nothing/")

    assert answer.status_code == 404
    assert b"Nothing is here" in answer.content
    assert b'href="/definitions/"' in answer.content


def test_a_visitor_sees_no_navigation_on_an_error(client):
    assert b'href="/definitions/"' not in client.get("/nothing/").content


def test_the_sign_in_is_drawn_with_the_hooks_of_the_contract(client):
    page = client.get("/login/").content.decode()

    for hook in ('name="username"', 'name="password"', '<button class="b solid" type="submit">'):
        assert hook in page
    assert page.count("<h1") == 1


def test_a_wrong_password_is_said_at_the_form(client):
    page = client.post("/login/", {"username": "admin", "password": "wrong"}).content.decode()

    assert 'role="alert" id="refused"' in page
    assert 'value="admin"' in page


# -- marks


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "0:00"),
        (-5, "0:00"),
        (59_999, "0:59"),
        (252_000, "4:12"),
        (10_353_000, "2:52:33"),
        (3 * 86_400_000 + 251 * 60_000, "3 d 04:11"),
    ],
)
def test_a_span_is_written_as_a_clock(ms, words):
    assert marks.span(ms) == words


def test_the_shares_of_a_bar_add_up_and_nothing_is_left_out():
    counts = {"SUCCESS": 87_210, "RUNNING": 812, "FAILED": 1_204, "PENDING": 10_774, "CANCELLED": 0}

    parts = marks.stack(counts, planned=500)["parts"]

    assert [part.status for part in parts] == ["SUCCESS", "RUNNING", "FAILED", "PENDING", None]
    assert sum(float(part.share.rstrip("%")) for part in parts) == pytest.approx(100, abs=0.05)


def test_a_bar_of_nothing_has_no_parts():
    assert marks.stack({})["parts"] == []


def test_counts_are_told_in_words():
    assert (
        marks.in_words({"SUCCESS": 1_312, "FAILED": 6, "PENDING": 0}, 47)
        == "1,312 success, 6 failed, 47 planned"
    )


def test_every_page_template_compiles():
    for path in TEMPLATES:
        get_template(name_of(path))
