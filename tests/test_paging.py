"""Cursor pages: each row once, in both directions, while rows arrive; no cursor but our own (B58, P13)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import RequestFactory
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from tower.access.models import Token
from tower.errors import TowerError
from tower.paging import PAGED, page, page_of
from tower.reading import Query

ADDRESS = "http://testserver/things/"


def asked(url: str) -> tuple[Any, Query]:
    request = RequestFactory().get(url)
    return request, Query(request, allowed=PAGED | {"q"})


def numbers(url: str, upto: int, kind: str = "numbers") -> dict[str, Any]:
    """The numbers from 0, as a list of rows that knows nothing of the database."""

    def after(position: int | None, limit: int) -> list[int]:
        start = 0 if position is None else position + 1
        return list(range(start, upto))[:limit]

    def before(position: int | None, limit: int) -> list[int]:
        return list(range(upto))[: position or 0][-limit:]

    request, query = asked(url)
    return page(request, query, after, int, kind, rows_before=before)


def walked(url: str | None, upto: int, way: str) -> list[list[int]]:
    pages = []
    while url:
        found = numbers(url, upto)
        pages.append(found["results"])
        url = found[way]
    return pages


def test_pages_go_forth_and_back_over_the_same_rows() -> None:
    forth = walked(f"{ADDRESS}?limit=3", 10, "next")
    assert forth == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]

    last = f"{ADDRESS}?limit=3"
    while (found := numbers(last, 10))["next"]:
        last = found["next"]

    assert walked(last, 10, "previous") == [[9], [6, 7, 8], [3, 4, 5], [0, 1, 2]]


@pytest.mark.parametrize("upto", [0, 1, 3])
def test_what_fits_on_one_page_has_no_other(upto: int) -> None:
    found = numbers(f"{ADDRESS}?limit=3", upto)

    assert (found["results"], found["next"], found["previous"]) == (list(range(upto)), None, None)


def test_the_links_are_absolute_and_keep_the_query() -> None:
    found = numbers(f"{ADDRESS}?q=a%26b&limit=2", 5)

    parts = urlsplit(found["next"])
    assert found["next"].startswith(ADDRESS)
    assert parse_qs(parts.query)["q"] == ["a&b"] and parse_qs(parts.query)["limit"] == ["2"]


def test_the_limit_of_a_page_may_change_on_the_way() -> None:
    following = numbers(f"{ADDRESS}?limit=2", 9)["next"].replace("limit=2", "limit=4")

    assert numbers(following, 9)["results"] == [2, 3, 4, 5]


def test_b58_a_limit_is_cut_at_500_and_is_50_if_none_is_asked() -> None:
    assert len(numbers(ADDRESS, 1000)["results"]) == 50
    assert len(numbers(f"{ADDRESS}?limit=501", 1000)["results"]) == 500


def cursor() -> str:
    following: str = numbers(f"{ADDRESS}?q=a", 100)["next"]
    return parse_qs(urlsplit(following).query)["cursor"][0]


def refused(url: str, kind: str = "numbers") -> bool:
    with pytest.raises(TowerError) as caught:
        numbers(url, 100, kind)
    return caught.value.code == "invalid_cursor" and caught.value.http_status == 400


def test_b58_a_cursor_that_is_cut_altered_or_foreign_is_refused() -> None:
    ours = cursor()

    assert numbers(f"{ADDRESS}?q=a&cursor={ours}", 100)["results"][0] == 50
    for place in range(len(ours)):
        other = ours[:place] + ("A" if ours[place] != "A" else "B") + ours[place + 1 :]
        assert refused(f"{ADDRESS}?q=a&cursor={other}")
    for wrong in ("abc", ours[:-1], ours + "A", ours + "=", "é", "!", "A" * 10_000):
        assert refused(f"{ADDRESS}?q=a&cursor={wrong}")


def test_b58_a_cursor_of_another_query_list_or_path_is_refused() -> None:
    ours = cursor()

    assert refused(f"{ADDRESS}?q=b&cursor={ours}")
    assert refused(f"{ADDRESS}?cursor={ours}")
    assert refused(f"http://testserver/others/?q=a&cursor={ours}")
    assert refused(f"{ADDRESS}?q=a&cursor={ours}", kind="others")


# -- over the database


def tokens(url: str, newest_first: bool) -> dict[str, Any]:
    request, query = asked(url)
    rows = Token.objects.all()
    return page_of(
        request, query, rows, ["name", "pk"], "tokens", newest_first=newest_first, show=lambda row: row.digest
    )


class OverTheDatabase(TestCase):
    @settings(max_examples=25, deadline=None)
    @given(
        names=st.lists(st.sampled_from("abc"), max_size=12),
        late=st.lists(st.sampled_from("abc"), max_size=6),
        limit=st.integers(1, 5),
        newest_first=st.booleans(),
    )
    def test_p13_each_row_that_was_there_all_the_time_appears_once(
        self, names: list[str], late: list[str], limit: int, newest_first: bool
    ) -> None:
        there = {f"old{n}" for n in range(len(names))}
        for n, name in enumerate(names):
            Token.objects.create(name=name, digest=f"old{n}")

        seen: list[str] = []
        back: list[str] = []
        url, waiting = f"{ADDRESS}?limit={limit}", list(enumerate(late))
        while url:
            found = tokens(url, newest_first)
            seen += found["results"]
            if waiting:
                n, name = waiting.pop()
                Token.objects.create(name=name, digest=f"new{n}")
            last, url = found, found["next"]
        while last["previous"]:
            last = tokens(last["previous"], newest_first)
            back = last["results"] + back

        old = [digest for digest in seen if digest in there]
        assert sorted(old) == sorted(there)
        assert [digest for digest in back if digest in there] == [d for d in old if d in back]
        order = [
            (row.name, row.pk) for row in sorted(Token.objects.all(), key=lambda row: (row.name, row.pk))
        ]
        places = [
            order.index((Token.objects.get(digest=d).name, Token.objects.get(digest=d).pk)) for d in seen
        ]
        assert places == sorted(places, reverse=newest_first)
