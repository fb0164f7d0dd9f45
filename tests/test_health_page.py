"""The health page: each part in words, each on its own, also where something is away."""

from __future__ import annotations

import re

import pytest

from controls.models import Beat
from instances.models import Intent
from instances.sources.streams import queue
from tests.people import signed_in_as
from tower import health
from tower.cards import PARTS, cards, in_short, warnings

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def viewer():
    return signed_in_as("viewer")


def card_of(answer, key):
    return next(card for card in answer.context["cards"] if card.key == key)


def beat(ago_ms=0):
    Beat.objects.update_or_create(role="sweeper", defaults={"at_ms": health.now_ms() - ago_ms})


def test_all_is_well_where_all_is_well(viewer):
    beat()
    queue().read(1)
    queue().read(1)

    answer = viewer.get("/health/")

    assert [card.tone for card in answer.context["cards"]] == ["good"] * len(answer.context["cards"])
    assert answer.context["in_short"] == "all is well"


def test_the_page_renders_with_redis_down_and_says_what_still_works(viewer, valkey):
    beat()
    valkey.stop()

    answer = viewer.get("/health/")

    assert answer.status_code == 200
    assert card_of(answer, "redis").tone == "warn"
    assert "still taken" in card_of(answer, "redis").says
    assert card_of(answer, "database").tone == "good"
    assert answer.context["in_short"] == "2 things need a look"


def test_a_sweeper_that_is_gone_needs_a_look(viewer):
    beat(ago_ms=3_600_000)

    card = card_of(viewer.get("/health/"), "sweeper")

    assert card.tone == "warn"
    assert re.fullmatch(r"1:00:0\d", card.big)


def test_a_command_that_waits_for_long_needs_a_look(viewer):
    beat()
    Intent.objects.create(trace=1, target="", action=1, number=1, control_id="c", created_ms=0)

    card = card_of(viewer.get("/health/"), "commands")

    assert (card.tone, card.big) == ("warn", "1")


def a_queue(**more):
    check = {"ok": True, "lag": 0, "oldest_s": 0.0, "pending": 0, "dead": 0, "consumers": 1} | more
    return cards({"consumer": check})[0]


@pytest.mark.parametrize(
    ("found", "tone", "says"),
    [
        ({}, "good", "as they come"),
        ({"consumers": 0}, "warn", "Nobody reads"),
        ({"ok": False, "oldest_s": 75.0}, "warn", "the oldest for 1:15"),
        ({"dead": 1}, "warn", "1 report could not be taken"),
        ({"ok": False, "paused": True, "dead": 100}, "bad", "Stopped"),
    ],
)
def test_the_queue_is_told_of_in_words(found, tone, says):
    card = a_queue(**found)

    assert (card.tone, says in card.says) == (tone, True), card.says


def test_the_script_gets_the_same_words_as_the_page(viewer):
    beat()

    page = viewer.get("/health/")
    told = viewer.get("/health/", headers={"accept": "application/json"}).json()

    assert [card["key"] for card in told["cards"]] == [card.key for card in page.context["cards"]]
    assert card_of(page, "redis").says in {card["says"] for card in told["cards"]}


def test_a_probe_that_answers_half_takes_only_its_own_card_with_it():
    found = cards(
        {"database": {}, "redis": {"ok": True, "latency_ms": 0.2}, "disk": {"ok": True, "free_bytes": "?"}}
    )

    assert {card.key: card.tone for card in found} == {"database": "unknown", "redis": "good", "disk": "good"}


@pytest.mark.parametrize("key", sorted(PARTS.keys() - {"reports", "browsers"}))  # those two only count
def test_a_part_without_answer_never_reads_as_well(key):
    (card,) = cards({key: {"ok": False}})

    assert card.tone != "good"
    assert in_short([card]) != "all is well"


def test_every_warning_of_readyz_has_words():
    known = [
        "sqlite_version",
        "sqlite_synchronous",
        "pg_synchronous_commit",
        "redis_persistence",
        "redis_eviction",
        "debug",
    ]

    assert len(warnings(known)) == len(known)


def test_the_page_warns_of_what_is_set_up_unsafely(viewer, settings):
    settings.DEBUG = True

    assert "DEBUG is on" in viewer.get("/health/").content.decode()
