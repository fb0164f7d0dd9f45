"""What an address of Kafka says, and what is said of one that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT
from tower.kafka import Address, BadAddress, address, is_kafka


def test_hosts_stand_behind_each_other_and_have_a_port_of_their_own_or_kafka_s():
    assert address("kafka://a,b:9093,[::1]:9094,[::2]").servers == "a:9092,b:9093,[::1]:9094,[::2]:9092"


def test_without_more_it_is_plain():
    assert address("kafka://a") == Address("a:9092", "", {"security.protocol": "PLAINTEXT"})


def test_a_certificate_of_an_authority_makes_it_tls(tmp_path):
    (tmp_path / "ca.pem").touch()

    access = address(f"kafka+ssl://a:9093/?ca={tmp_path}/ca.pem").access

    assert access == {"security.protocol": "SSL", "ssl.ca.location": f"{tmp_path}/ca.pem"}


def test_a_certificate_of_one_s_own_comes_with_its_key(tmp_path):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).touch()

    access = address(f"kafka+ssl://a/?cert={tmp_path}/cert.pem&key={tmp_path}/key.pem").access

    assert access["ssl.certificate.location"] == f"{tmp_path}/cert.pem"
    assert access["ssl.key.location"] == f"{tmp_path}/key.pem"


def test_user_and_password_are_percent_decoded():
    access = address("kafka+ssl://us%40er:p%40ss%3Aword@a/?mechanism=scram-sha-256").access

    assert access["security.protocol"] == "SASL_SSL"
    assert access["sasl.mechanisms"] == "SCRAM-SHA-256"
    assert (access["sasl.username"], access["sasl.password"]) == ("us@er", "p@ss:word")


def test_scram_is_fine_without_tls():
    access = address("kafka://u:p@a/?mechanism=SCRAM-SHA-512").access

    assert access["security.protocol"] == "SASL_PLAINTEXT"


def test_a_prefix_stands_before_topics_and_group():
    assert address("kafka://a/?prefix=staging.").prefix == "staging."


def test_what_is_shown_of_an_address_holds_no_password():
    assert "secret" not in repr(address("kafka://u:secret@a/?mechanism=SCRAM-SHA-512"))


def test_other_schemes_are_not_kafka_s():
    assert is_kafka("KAFKA://a") and is_kafka("kafka+ssl://a")
    assert not any(map(is_kafka, ("", "redis://kafka", "kafkas://a", "kafka")))


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("kafka+tls://a", "scheme"),
        ("kafka:a", "scheme"),
        ("kafka://", "host"),
        ("kafka://a,,b", "host"),
        ("kafka://:9092", "host"),
        ("kafka://::1", "brackets"),
        ("kafka://a:port", "port of its host 'a'"),
        ("kafka://a:0", "port"),
        ("kafka://a:65536", "port"),
        ("kafka://a/topic", "path"),
        ("kafka://a/?acks=1", "'acks' is unknown"),
        ("kafka://a/?prefix", "NAME=VALUE"),
        ("kafka://a/?prefix=a&prefix=b", "twice"),
        ("kafka://a/?prefix=a%20b", "prefix"),
        ("kafka://a/?mechanism=PLAIN", "USER:PASSWORD"),
        ("kafka+ssl://secret@a/?mechanism=PLAIN", "USER:PASSWORD"),
        ("kafka+ssl://u:@a/?mechanism=PLAIN", "USER:PASSWORD"),
        ("kafka+ssl://u:secret@a", "mechanism must be one of PLAIN"),
        ("kafka+ssl://u:secret@a/?mechanism=GSSAPI", "mechanism must be one of"),
        ("kafka://u:secret@a/?mechanism=PLAIN", "kafka+ssl://"),
        ("kafka://a/?ca=/x", "ca needs kafka+ssl://"),
        ("kafka+ssl://a/?ca=/nowhere/ca.pem", "ca: /nowhere/ca.pem cannot be read"),
        ("kafka+ssl://a/?cert=/x", "cert and key"),
    ],
)
def test_what_is_wrong_is_said_by_the_name_of_its_part_and_without_the_password(url, part):
    with pytest.raises(BadAddress) as wrong:
        address(url)

    assert part in str(wrong.value)
    assert "secret" not in str(wrong.value)


def test_a_wrong_address_stops_the_start_with_one_sentence(tmp_path: Path):
    environment = os.environ | {
        "TOWER_EVENTS_URL": "kafka://u:secret@a/?mechanism=PLAIN",
        "TOWER_HOME": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "tower.settings",
    }

    done = subprocess.run(
        [sys.executable, "manage.py", "consume"], cwd=ROOT, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("TOWER_EVENTS_URL cannot be used: mechanism PLAIN")
    assert "secret" not in line
