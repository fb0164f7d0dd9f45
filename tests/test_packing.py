"""Answers packed for whoever takes gzip."""

from __future__ import annotations

import gzip

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from tower.packing import LEAST_BYTES, Packed, takes_gzip

LONG = b"a long text " * 200


def answered(answer, accepted="gzip, deflate, br"):
    headers = {"Accept-Encoding": accepted} if accepted else {}
    return Packed(lambda _: answer)(RequestFactory().get("/", headers=headers))


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json", "text/csv"])
def test_a_text_is_packed_for_whoever_takes_it(kind):
    answer = answered(HttpResponse(LONG, content_type=kind))

    assert answer["Content-Encoding"] == "gzip"
    assert answer["Vary"] == "Accept-Encoding"
    assert gzip.decompress(answer.content) == LONG
    assert len(answer.content) < len(LONG) / 2


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip; q=0.0"])
def test_whoever_does_not_take_it_gets_it_as_it_is_and_caches_know(accepted):
    answer = answered(HttpResponse(LONG), accepted)

    assert answer.content == LONG
    assert not answer.has_header("Content-Encoding")
    assert answer["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "answer",
    [
        HttpResponse(b"x" * (LEAST_BYTES - 1)),
        HttpResponse(LONG, content_type="font/woff2"),
        HttpResponse(LONG, headers={"Content-Encoding": "zstd"}),
        HttpResponse(status=304),
    ],
    ids=["short", "font", "packed already", "no body"],
)
def test_what_would_win_nothing_is_left_alone(answer):
    before = (answer.content, answer.get("Content-Encoding"))

    left = answered(answer)

    assert (left.content, left.get("Content-Encoding")) == before


def test_what_streams_goes_on_streaming():
    assert b"".join(answered(StreamingHttpResponse([LONG]))) == LONG


def test_a_strong_tag_becomes_a_weak_one():
    answer = answered(HttpResponse(LONG, headers={"ETag": '"seven"'}))

    assert answer["ETag"] == 'W/"seven"'


def test_the_length_of_an_answer_varies_so_that_it_tells_no_secret():
    assert len({len(answered(HttpResponse(LONG)).content) for _ in range(50)}) > 1


@pytest.mark.parametrize(
    ("accepted", "takes"), [("*", True), ("br;q=1, gzip;q=0.5", True), ("deflate", False), ("GZIP", True)]
)
def test_the_header_is_read_as_the_rules_of_http_say(accepted, takes):
    assert takes_gzip(accepted) is takes


@pytest.mark.django_db
def test_pages_and_the_api_are_packed(admin_client):
    page = admin_client.get("/", headers={"Accept-Encoding": "gzip"})
    schema = admin_client.get("/api/v1/schema/", headers={"Accept-Encoding": "gzip"})

    assert (page["Content-Encoding"], schema["Content-Encoding"]) == ("gzip", "gzip")
    assert b"<h1" in gzip.decompress(page.content)
