"""The pages say what the code does: tables, variables, commands, codes and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

from docs import draw

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROGRAM = [
    path for part in ("tower", "instances", "controls") for path in sorted((ROOT / part).rglob("*.py"))
]
SOURCE = "\n".join(path.read_text() for path in PROGRAM)

LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
READ = re.compile(r'(?:environ(?:\.get\(|\[)\s*|env_(?:int|bool)\(\s*)"([A-Z_]+)"')
#: What `up` tells its own children; nobody sets these by hand.
INTERNAL = {
    "PROMETHEUS_MULTIPROC_DIR",
    "TOWER_ROLE",
    "TOWER_URL",
    "TOWER_DEMO_TOKEN",
    "DJANGO_SETTINGS_MODULE",
    # Tests make processes fail by these.
    "TOWER_TESTING",
    "TOWER_FAULTS",
}


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower().replace("`", "")).replace(" ", "-") for head in heads}


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_link_leads_somewhere(page):
    links = [link for link in LINK.findall(page.read_text()) if not link.startswith(("http:", "https:"))]

    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page

        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_drawn_tables_are_those_of_the_code(page):
    assert page.read_text() == draw.drawn(page.read_text()), "run `python -m docs.draw`"


def rows_of(page: str) -> dict[str, str]:
    """Variable and default of each row of the tables of a page."""
    return dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", (ROOT / page).read_text(), re.MULTILINE))


def test_every_variable_that_is_read_stands_in_a_table_and_no_other():
    told = rows_of("docs/deployment.md") | rows_of("docs/limits.md")

    assert set(told) == set(READ.findall(SOURCE)) - INTERNAL


def test_every_variable_that_a_page_names_is_read():
    named = {name for page in PAGES for name in re.findall(r"\bTOWER_[A-Z_]+\b", page.read_text())}

    assert named - set(READ.findall(SOURCE)) == set()


@pytest.mark.parametrize(("name", "value"), sorted(rows_of("docs/limits.md").items()))
def test_a_limit_is_the_one_in_force(name, value):
    assert getattr(settings, name) == int(value)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_commands_that_a_page_names_exist(page):
    commands = set(re.findall(r"manage\.py (\w+)", page.read_text())) - {"migrate"}
    targets = set(re.findall(r"`?make (\w+)`", page.read_text()))
    makefile = (ROOT / "Makefile").read_text()

    assert {
        c for c in commands if f"/management/commands/{c}.py" not in "\n".join(map(str, PROGRAM))
    } == set()
    assert {t for t in targets if not re.search(rf"^{t}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_files_that_a_page_names_exist(page):
    for file in re.findall(
        r"`((?:tower|instances|controls|bench|docs|tests|static)/[\w/.\-]*\w)`", page.read_text()
    ):
        assert (ROOT / file).exists(), file


def test_error_codes_for_actors_are_those_of_the_code():
    text = (ROOT / "docs/actors.md").read_text().split("## Error codes", 1)[1]
    codes = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", text)) - {"rejected"}

    assert {code for code in codes if f'"{code}"' not in SOURCE} == set()


def test_every_guarantee_names_the_tests_that_hold_it_and_they_exist():
    page = (ROOT / "docs/guarantees.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "held by" not in line]
    held = [re.findall(r"`(test_\w+)`", row.rsplit("|", 2)[1]) for row in rows]
    tests = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")))

    assert [row for row, names in zip(rows, held, strict=True) if not names] == []
    # One row a fault, held by a test that carries its number.
    faults = {re.match(r"\| F(\d+) ", row): names for row, names in zip(rows, held, strict=True)}
    numbers = {int(match[1]): names for match, names in faults.items() if match}
    assert numbers.keys() == set(range(1, 30))
    assert [n for n, names in numbers.items() if not any(f"_f{n}_" in name for name in names)] == []
    assert {name for names in held for name in names if f"def {name}(" not in tests} == set()
