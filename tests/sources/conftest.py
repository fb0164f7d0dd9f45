"""Which queues there are, and one line at the end where the real broker was not among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import servers
from tests.sources import jars
from tests.sources.broker import Broker
from tests.sources.mock import Mock
from tests.sources.queues import Queue, Streams, Topics

KINDS = ("redis", "mock", "broker")


@pytest.fixture(scope="session")
def real_broker() -> Iterator[Broker]:
    if why := jars.missing():
        pytest.skip(f"NO REAL KAFKA: {why}")
    broker = Broker()
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.fixture
def broker(real_broker: Broker) -> Broker:
    """Running, whatever the test before did to it."""
    real_broker.thaw()
    return real_broker


@pytest.fixture
def mock() -> Iterator[Mock]:
    made = Mock()
    yield made
    made.close()


@pytest.fixture(params=KINDS)
def queue(request: pytest.FixtureRequest, valkey: servers.Valkey) -> Iterator[Queue]:
    """One of each kind, with nothing in it."""
    made: Queue = (
        Streams(valkey) if request.param == "redis" else Topics(request.getfixturevalue(request.param))
    )
    yield made
    made.close()


@pytest.fixture
def topics(mock: Mock) -> Iterator[Topics]:
    made = Topics(mock)
    yield made
    made.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("NO REAL KAFKA" in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.section("Kafka")
        terminalreporter.write_line(
            f"{count} tests against a REAL KAFKA BROKER DID NOT RUN: {jars.missing()}."
            " They ran against librdkafka's mock cluster only.",
            red=True,
            bold=True,
        )
