"""Commands where actors read them: Redis and memory answer alike, in whatever order controls arrive."""

from __future__ import annotations

import itertools
import json

import pytest

from controls import store as stores
from controls.store import Delivery, MemoryStore, RedisStore, StoreAway
from tests.servers import until
from tower import redis
from tower.schemas import ControlAction

RUN, PAUSE, CANCEL = ControlAction


class InMemory:
    def __init__(self):
        self.store = MemoryStore()

    def lose(self):
        self.store.lose()

    def go_away(self):
        self.store.away = True

    def heard(self):
        return [json.loads(event) for _, event in self.store.published]

    def expires_at(self, trace_id):
        return self.store.expiry.get(trace_id)


class InRedis:
    def __init__(self, valkey):
        self._valkey = valkey
        self._client = redis.client()
        self.store = RedisStore(self._client)
        self._ear = self._client.pubsub(ignore_subscribe_messages=True)
        self._ear.psubscribe(stores.CHANNELS)
        until(lambda: self._client.pubsub_numpat(), "the ear listens")

    def lose(self):
        self._client.flushall()

    def go_away(self):
        self._valkey.stop()

    def heard(self):
        said = []
        self._client.publish("cmd:instance:end", "null")
        for message in self._ear.listen():
            if message["channel"] == "cmd:instance:end":
                break
            said.append(json.loads(message["data"]))
        return said

    def expires_at(self, trace_id):
        when = self._client.pexpiretime(stores.key(trace_id))
        return when if when > 0 else None


@pytest.fixture(params=["memory", "redis"])
def at(request, valkey):
    return InMemory() if request.param == "memory" else InRedis(valkey)


def control(action, number, target="", trace_id="T"):
    event = {"id": f"c{number}", "action": action.value}
    return Delivery(trace_id, target, action, number, json.dumps(event))


def test_a_control_is_written_and_told_once(at):
    first, again = at.store.put(control(PAUSE, 1)), at.store.put(control(PAUSE, 1))

    assert (first, again) == (True, False)
    assert at.store.along("T", ["", "a"]) == [PAUSE, None]
    assert at.heard() == [{"id": "c1", "action": "PAUSE"}]


def test_each_place_is_its_own(at):
    at.store.put(control(PAUSE, 1))
    at.store.put(control(RUN, 2, "a"))
    at.store.put(control(CANCEL, 3, "b", "other"))

    assert at.store.along("T", ["", "a", "b"]) == [PAUSE, RUN, None]
    assert at.store.along("other", ["", "b"]) == [None, CANCEL]


#: What one place can live through: nothing follows a CANCEL but another CANCEL.
HISTORIES = [
    (PAUSE, RUN),
    (PAUSE, RUN, PAUSE),
    (PAUSE, CANCEL),
    (PAUSE, PAUSE, RUN, CANCEL),
    (CANCEL, CANCEL, CANCEL),
]


@pytest.mark.parametrize("history", HISTORIES)
def test_f23_of_two_controls_the_later_one_stands_in_whatever_order_they_arrive(at, history):
    numbered = [control(action, number) for number, action in enumerate(history, 1)]

    for trace, order in enumerate(itertools.permutations(numbered)):
        for delivery in (*order, order[0]):
            at.store.put(Delivery(f"T{trace}", "", delivery.action, delivery.number, delivery.event))

        assert at.store.along(f"T{trace}", [""]) == [history[-1]], order


def test_f23_only_what_was_written_is_told(at):
    at.store.put(control(RUN, 2))
    at.store.put(control(PAUSE, 1))

    assert [event["id"] for event in at.heard()] == ["c2"]


def test_f23_a_cancel_is_never_replaced_not_even_by_a_greater_number(at):
    at.store.put(control(CANCEL, 1))

    assert at.store.put(control(RUN, 2)) is False
    assert at.store.put(control(CANCEL, 3)) is True
    assert at.store.along("T", [""]) == [CANCEL]


def test_a_repeated_cancel_is_told_again(at):
    at.store.put(control(CANCEL, 1))
    at.store.put(control(CANCEL, 2))

    assert [event["id"] for event in at.heard()] == ["c1", "c2"]


def test_many_are_put_at_once(at):
    several = [control(PAUSE, 1), control(RUN, 2), control(PAUSE, 1), control(CANCEL, 3, "a")]

    held = at.store.put_all(several)

    assert held == [True, True, True, True]
    assert [event["id"] for event in at.heard()] == ["c1", "c2", "c3"]
    assert at.store.along("T", ["", "a"]) == [RUN, CANCEL]


def test_f6_a_restore_sets_the_sentinel_last(at):
    seen = []

    def commands():
        for number in range(1, stores.CHUNK + 2):
            seen.append(at.store.intact())
            yield control(PAUSE, number, f"t{number}")

    assert at.store.intact() is False
    assert at.store.restore(commands(), token="one") is True

    assert seen == [False] * (stores.CHUNK + 1)
    assert at.store.intact() is True
    assert at.store.along("T", ["t1", f"t{stores.CHUNK + 1}"]) == [PAUSE, PAUSE]


def test_f6_data_lost_in_the_middle_of_a_restore_leaves_no_sentinel_over_holes(at):
    def commands():
        for number in range(1, stores.CHUNK + 2):
            if number == stores.CHUNK + 1:
                at.lose()
            yield control(PAUSE, number, f"t{number}")

    assert at.store.restore(commands(), token="one") is False
    assert at.store.intact() is False

    at.lose()
    assert at.store.restore([control(PAUSE, 1, "t1")], token="two") is True
    assert at.store.along("T", ["t1"]) == [PAUSE]


def test_f22_one_restores_at_a_time(at):
    answers = []

    def commands():
        answers.append(at.store.restore([], token="second"))
        yield control(PAUSE, 1)

    assert at.store.restore(commands(), token="first") is True
    assert answers == [False]


def test_f6_a_restore_does_not_put_an_older_control_over_a_newer_one(at):
    def commands():
        at.store.put(control(RUN, 2))
        yield control(PAUSE, 1)

    at.store.restore(commands(), token="one")

    assert at.store.along("T", [""]) == [RUN]


def test_commands_of_an_ended_tree_go_and_those_of_a_reopened_one_stay(at):
    at.store.put(control(PAUSE, 1))
    at.store.put(control(PAUSE, 1, trace_id="other"))

    at.store.retire({"T": 4_000_000_000_000, "other": 4_000_000_000_000})
    assert at.expires_at("T") == 4_000_000_000_000

    at.store.keep(["T"])
    assert at.expires_at("T") is None
    assert at.expires_at("other") == 4_000_000_000_000
    assert at.store.along("T", [""]) == [PAUSE]


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.put(control(PAUSE, 1)),
        lambda store: store.put_all([control(PAUSE, 1)]),
        lambda store: store.along("T", [""]),
        lambda store: store.intact(),
        lambda store: store.restore([], token="one"),
        lambda store: store.retire({"T": 1}),
        lambda store: store.keep(["T"]),
    ],
)
def test_f3_a_store_that_is_away_says_so(at, call):
    at.go_away()

    with pytest.raises(StoreAway):
        call(at.store)


def test_f8_a_redis_out_of_memory_is_as_good_as_away():
    client = redis.client()
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreAway):
            RedisStore(client).put(control(PAUSE, 1))
    finally:
        client.config_set("maxmemory", "0")


def test_the_layout_in_redis_is_the_contracts():
    RedisStore(redis.client()).put_all([control(PAUSE, 7), control(CANCEL, 8, "task-1")])

    assert redis.client().hgetall("cmd:instance:T") == {
        "global_action": "PAUSE",
        "#global_action": "7",
        "task-1": "CANCEL",
        "#task-1": "8",
    }


def test_a_key_that_somebody_took_for_something_else_holds_up_no_other():
    redis.client().set("cmd:instance:T", "mine")

    held = RedisStore(redis.client()).put_all([control(PAUSE, 1), control(PAUSE, 1, trace_id="other")])

    assert held == [False, True]
