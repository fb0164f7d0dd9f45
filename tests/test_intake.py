"""What is read in compiled code, all at once, is what the contract's own model reads item by item."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from instances import intake
from instances.intake import read_events

NOW = 1_700_000_000_000

ids = st.one_of(
    st.sampled_from(["a", "t-1", "x" * 64, "x" * 65, "", "-a", "a b", "global_action", "é", "a\n"]),
    st.none(),
    st.integers(),
)
texts = st.sampled_from(["", "text", "\0", "\ud800", '","\\u0000","', '\0","', "\\u0000", "é" * 9])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
payloads = st.dictionaries(st.sampled_from(["progress", "message", "attempt", "paused", "own", "\0"]), values)
moments = st.one_of(
    st.sampled_from(
        [NOW, 0, -1, 5.0, 5.5, True, "5", None, 253402300799999, 253402300800000, 10**30, float("inf")]
    )
)
kinds = st.sampled_from(["STARTED", "COMPLETED", "started", None, 1, True])
actors = st.sampled_from(["AGENT", "EXECUTION", "agent", None, 1])
one = st.fixed_dictionaries(
    {"event_id": ids, "trace_id": st.just("t"), "task_id": ids, "event_type": kinds, "timestamp_ms": moments},
    optional={"parent_id": ids, "actor_type": actors, "payload": payloads | values, "more": values},
)
right = st.fixed_dictionaries(
    {
        "event_id": st.just("e"), "trace_id": st.just("t"), "task_id": st.just("a"),
        "event_type": st.just("STARTED"), "timestamp_ms": st.just(NOW),
    },
    optional={"payload": payloads, "more": values},
)  # fmt: skip


def alone(raw: list[Any]) -> tuple[list[Any], list[Any]]:
    """Each item in a batch that is not plain, so that TaskEvent reads it."""
    sent, rejected = [], []
    for index, item in enumerate(raw):
        found, refused = read_events([item, None], NOW)
        for one in found:
            one.index = index
        sent += found
        rejected += [(index, *rest) for at, *rest in refused if at == 0]
    return sent, rejected


def by_index(rejected: list[Any]) -> list[Any]:
    return sorted(rejected, key=lambda entry: entry[0])


@given(st.lists(right | one, max_size=4))
def test_a_batch_that_is_read_at_once_is_read_as_item_by_item(raw):
    sent, rejected = read_events(raw, NOW)

    expected, refused = alone(raw)
    assert sent == expected
    assert by_index(rejected) == refused


@given(st.lists(right, min_size=1, max_size=4))
def test_what_is_recorded_is_the_payload_that_was_sent(raw):
    sent, _ = read_events(raw, NOW)

    for item in sent:
        assert orjson.loads(item.payload) == orjson.loads(orjson.dumps(raw[item.index].get("payload", {})))


def test_a_plain_batch_is_read_at_once(monkeypatch):
    monkeypatch.setattr(intake, "_checked", None)
    plain = {"event_id": "e", "trace_id": "t", "task_id": "a", "event_type": "STARTED", "timestamp_ms": NOW}

    sent, rejected = read_events([plain, {**plain, "event_id": "f", "payload": {"progress": 3}}], NOW)

    assert ([one.report.event_id for one in sent], rejected) == (["e", "f"], [])
