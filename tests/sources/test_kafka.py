"""What only Kafka does: partitions that move, commits that are refused, retention, TLS and passwords."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from urllib.parse import quote

import pytest

from controls.models import Beat
from instances.models import Event
from instances.sources import DeadLetter, Entry, SourceAway, kafka, queue
from instances.sources.kafka import KafkaTopic
from tests.servers import ROOT, until
from tests.sources.broker import PASSWORD, USER
from tests.sources.mock import (
    GROUP_FORBIDDEN,
    OFFSET_COMMIT,
    PRODUCE,
    REBALANCING,
    TOPIC_FORBIDDEN,
    UNKNOWN_MEMBER,
)  # fmt: skip
from tests.sources.queues import Topics
from tests.sources.test_contract import event, got, nothing_waits, raws
from tower import health, metrics
from tower.kafka import address


def spread(topics: Topics, count: int) -> set[bytes]:
    """So many entries over the partitions."""
    for number in range(count):
        topics.put(f"{number}".encode(), key=f"t{number}")
    return {f"{number}".encode() for number in range(count)}


def partition_of(entry: Entry) -> str:
    return entry.id.partition("-")[0]


# -- partitions


def test_what_has_one_key_is_one_reader_s(topics):
    sources = [topics.source(), topics.source()]
    for number in range(30):
        topics.put(f"{number % 10}".encode(), key=f"t{number % 10}")
    readers: dict[bytes, set[int]] = {}

    def read_all() -> bool:
        for number, source in enumerate(sources):
            found = source.read(5_000)
            source.acknowledge(found)
            for entry in found:
                readers.setdefault(entry.raw, set()).add(number)
        return nothing_waits(sources[0])

    until(read_all, "all are read", every=0)
    assert {len(by) for by in readers.values()} == {1}
    assert set.union(*readers.values()) == {0, 1}


def test_f21_a_partition_that_moves_takes_along_what_is_not_done_and_nothing_else(topics):
    first = topics.source()
    every = spread(topics, 30)
    found = got(first, 30)
    done, open_ = found[::2], found[1::2]
    first.acknowledge(done)

    second = topics.source()  # while the first has half of it in hand
    again: list[Entry] = []

    def moved() -> bool:
        first.read(0)
        again.extend(second.read(5_000))
        # Behind the lowest that is not done all of it comes again.
        return bool(again) and again[-1].id == last_of[partition_of(again[0])]

    last_of = {partition_of(entry): entry.id for entry in found}
    until(moved, "one has moved", every=0)
    first.acknowledge(open_)
    second.acknowledge(again)

    kept = [entry for entry in open_ if partition_of(entry) != partition_of(again[0])]
    assert {partition_of(entry) for entry in again} == {partition_of(again[0])}
    assert {entry.deliveries for entry in again} == {1}
    assert set(raws(done)) | set(raws(kept)) | set(raws(again)) == every
    assert nothing_waits(first)


def test_a_commit_that_is_refused_while_partitions_move_is_said_later(mock, topics):
    source = topics.source()
    topics.put(b"1")
    found = got(source, 1)

    mock.fail(OFFSET_COMMIT, REBALANCING)
    source.acknowledge(found)
    assert not nothing_waits(source)

    assert source.read(10) == []
    assert nothing_waits(source)


def test_a_commit_for_what_is_another_s_by_now_is_no_fault_of_the_cluster(mock, topics):
    source = topics.source()
    topics.put(b"1")
    found = got(source, 1)

    mock.fail(OFFSET_COMMIT, UNKNOWN_MEMBER)
    source.acknowledge(found)


def test_a_commit_that_is_refused_for_good_is_an_outage_and_said_again(mock, topics):
    source = topics.source()
    topics.put(b"1")
    found = got(source, 1)

    mock.fail(OFFSET_COMMIT, GROUP_FORBIDDEN)
    with pytest.raises(SourceAway, match="Group authorization failed"):
        source.acknowledge(found)

    assert source.read(10) == []
    assert nothing_waits(source)


def test_what_could_not_be_noted_is_not_handed_out(mock, topics):
    source = topics.source()
    topics.put(b"1")
    until(lambda: source.read(0) or any(share.open for share in source._shares.values()), "it came", every=0)

    mock.fail(OFFSET_COMMIT, GROUP_FORBIDDEN)
    with pytest.raises(SourceAway):
        source.read(10)

    (entry,) = got(source, 1)
    assert (entry.raw, entry.deliveries) == (b"1", 1)


def test_unread_entries_that_the_cluster_dropped_are_counted_as_lost_once(mock):
    topics = Topics(mock, partitions=1)
    source = topics.source()
    topics.put(*(f"{i}".encode() for i in range(10)))
    source.acknowledge(got(source, 2, most=2))
    topics.kill(source)
    mock.trim(source.topic, 0, 6)
    before = metrics.QUEUE_LOST._value.get()

    found = got(topics.source(), 4)

    assert raws(found) == [b"6", b"7", b"8", b"9"]
    assert metrics.QUEUE_LOST._value.get() == before + 4
    topics.close()


def test_towers_of_different_prefixes_share_a_cluster_and_nothing_else(mock, topics):
    other = Topics(mock)
    other.put(b"theirs")
    topics.put(b"ours")

    assert raws(got(topics.source(), 1)) == [b"ours"]
    assert (other.source().standing().lag) == 1
    other.close()


# -- bounds


def test_what_is_large_comes_in_several_hands(topics, monkeypatch):
    monkeypatch.setattr(kafka, "FULL_BYTES", 500_000)
    source = topics.source()
    topics.put(*(b"x" * 100_000 for _ in range(40)), key="T")
    sizes: list[int] = []

    def read_all() -> bool:
        found = source.read(5_000)
        sizes.append(sum(len(entry.raw) for entry in found))
        source.acknowledge(found)
        return sum(sizes) == 4_000_000

    until(read_all, "all is read", every=0)
    # The library, too, fetches so much ahead, and then one answer of 1 MiB.
    assert max(sizes) <= 500_000 * 2 + (1 << 20)


def test_a_dead_letter_that_cannot_be_kept_is_an_outage_and_holds_up_no_other(mock, topics):
    source = topics.source()
    topics.put(b"{", event("e1"), key="T")
    bad, good = got(source, 2)

    mock.fail(PRODUCE, TOPIC_FORBIDDEN)
    with pytest.raises(SourceAway):
        source.bury([DeadLetter(bad, "It is no JSON.", "invalid_json")])
    source.release([bad], at_once=False)
    source.acknowledge([good])
    topics.put(event("e2"), key="T")

    assert raws(got(source, 1)) == [event("e2")]


def test_letters_that_wait_for_long_stop_the_reading_before_memory_does(topics):
    source = topics.source()
    topics.put(*(f"{i}".encode() for i in range(20)), key="T")
    for _ in range(3):
        source.release(got(source, 3, most=3), at_once=False)

    source.read(5)

    assert sum(len(share.open) for share in source._shares.values()) <= 10


# -- a tower with Kafka


@pytest.fixture
def kafka_url(topics, settings):
    settings.TOWER_EVENTS_URL = topics.url
    return settings.TOWER_EVENTS_URL


@pytest.mark.django_db(transaction=True)
def test_health_and_metrics_show_what_waits_in_kafka(topics, kafka_url):
    topics.put(b"1", b"2", b"3", key="T")

    check, _ = health.consumer()
    assert (check["lag"], check["pending"], check["dead"]) == (3, 0, 0)
    assert "tower_queue_lag_entries 3.0" in metrics.exposition().decode()

    got(topics.source(), 1, most=1)
    check, _ = health.consumer()
    assert (check["lag"], check["pending"]) == (2, 1)


@pytest.mark.django_db(transaction=True)
def test_without_its_cluster_the_consumer_is_not_well(topics, kafka_url):
    topics.stop()

    check, _ = health.consumer()

    assert check["ok"] is False


def test_the_address_decides_who_reads(kafka_url):
    assert isinstance(queue(consuming=True, name="one"), KafkaTopic)
    assert queue() is queue()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_f5_the_consumer_reads_kafka_beats_and_leaves_at_a_signal(
    topics, kafka_url, suite_database, tmp_path, number
):
    topics.put(event("e1"), b"{", key="T")
    environment = os.environ | {
        "DATABASE_URL": suite_database,
        "DJANGO_SETTINGS_MODULE": "tower.settings",
        "TOWER_HOME": str(tmp_path),
        "TOWER_EVENTS_URL": kafka_url,
    }
    process = subprocess.Popen([sys.executable, "manage.py", "consume"], cwd=ROOT, env=environment)
    try:
        until(lambda: Event.objects.filter(event_id="e1").exists(), "the report is folded")
        until(lambda: Beat.objects.filter(role="consumer").exists(), "it beats")
        until(lambda: nothing_waits(queue()), "all is said")
        process.send_signal(number)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    assert [letter["code"] for letter in topics.letters()] == ["invalid_json"]


# -- a real broker, its TLS and its passwords


def secured(broker, password: str, mechanism: str) -> KafkaTopic:
    login = f"{USER}:{quote(password, safe='')}"
    url = f"kafka+ssl://{login}@{broker.secure_servers}/?mechanism={mechanism}&ca={broker.ca}&prefix=tls."
    return KafkaTopic(address(url), wait_ms=50)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_the_real_broker_lets_in_who_has_the_password(broker, mechanism):
    source = secured(broker, PASSWORD, mechanism)

    assert source.standing().lag == 0


def test_the_real_broker_refuses_a_wrong_password_and_nobody_prints_it(broker):
    source = secured(broker, "not-the-one", "SCRAM-SHA-256")

    with pytest.raises(SourceAway) as wrong:
        until(lambda: source.read(10) and False, "it is refused", every=0)

    assert "uthentication" in str(wrong.value)
    assert "not-the-one" not in str(wrong.value)
    source.close()
