"""The write threads: what waits together commits together, and who has gone disturbs nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence, Set
from concurrent.futures import Future
from typing import Any

import pytest
from django.db import connection

from instances import writer
from instances.landing import landed
from instances.writer import Writer

pytestmark = pytest.mark.django_db(transaction=True)


class Held:
    """A writer whose one thread is busy until it is let go; what it is given then waits."""

    def __init__(self, runs: Set[str] = frozenset()) -> None:
        self.writer, self.seen = Writer(), list[Any]()
        self._door = self.door  # one object: parts of one door commit together
        self._busy, self._free = threading.Event(), threading.Event()
        self.first = self.writer.submit(self._hold, "first", size=1, runs=runs)
        assert self._busy.wait(20)

    def door(self, parts: Sequence[Any]) -> Sequence[Any]:
        self.seen.append(list(parts))
        return list(parts)

    def submit(self, part: Any, who: str = "", runs: Set[str] = frozenset()) -> Any:
        return self.writer.submit(self._door, part, size=1, who=who, runs=runs)

    def go(self) -> None:
        self._free.set()

    def _hold(self, parts: Sequence[Any]) -> Sequence[Any]:
        self._busy.set()
        assert self._free.wait(20)
        return parts


@pytest.fixture
def held(monkeypatch):
    monkeypatch.setattr(writer, "ON_A_SERVER", 1)
    made = Held()
    yield made
    made.go()


def test_what_waits_together_commits_together(held):
    waiting = [held.submit(part) for part in "abc"]

    held.go()

    assert [future.result(20) for future in waiting] == ["a", "b", "c"]
    assert held.seen == [["a", "b", "c"]]


def test_f26_who_floods_waits_for_itself_and_not_the_others_for_it(held, settings):
    settings.TOWER_EVENT_BATCH = 1  # each in a transaction of its own
    flood = [held.submit(f"flood {k}", "flooder") for k in range(4)]
    quiet = [held.submit(part, "quiet") for part in ("one", "two")]
    other = held.submit("three", "other")

    held.go()

    for future in (*flood, *quiet, other):
        future.result(20)
    order = [part for parts in held.seen for part in parts]
    assert order == ["flood 0", "one", "three", "flood 1", "two", "flood 2", "flood 3"]


def test_a_second_thread_takes_what_wants_no_run_of_the_first_and_leaves_the_rest(monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    monkeypatch.setattr(writer, "WORTH_A_SECOND", 1)
    first = Held(runs={"a"})
    same, other = first.submit("same", runs={"a"}), first.submit("other", runs={"b", "c"})

    assert other.result(20) == "other"
    assert not same.running()
    first.go()

    assert same.result(20) == "same"
    assert first.first.result(20) == "first"


def test_f26_who_floods_a_run_that_is_held_hides_no_other_sender_from_the_second_thread(monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer")
    monkeypatch.setattr(writer, "WORTH_A_SECOND", 1)
    first = Held(runs={"a"})
    flood = [first.submit(k, "flooder", {"a"}) for k in range(writer.LOOKED_AT + 1)]
    quiet = first.submit("quiet", "quiet", {"b"})

    assert quiet.result(20) == "quiet"
    first.go()

    assert [future.result(20) for future in flood] == list(range(len(flood)))


def test_who_went_away_while_waiting_is_left_out_and_the_others_are_answered(held):
    gone, stays = held.submit("gone"), held.submit("stays")
    gone.cancel()

    held.go()

    assert stays.result(20) == "stays"
    assert held.seen == [["stays"]]


def test_who_goes_away_while_it_is_stored_disturbs_nobody(held):
    async def gives_up() -> None:
        with pytest.raises(TimeoutError):
            await landed(held.first, 0.01)

    asyncio.run(gives_up())
    later = held.submit("later")
    held.go()

    assert held.first.result(20) == "first"
    assert later.result(20) == "later"


def test_who_leaves_before_anybody_began_takes_what_was_asked_along(held):
    async def leaves() -> None:
        waits = asyncio.create_task(landed(held.submit("gone"), 20))
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    asyncio.run(leaves())
    stays = held.submit("stays")
    held.go()

    assert stays.result(20) == "stays"
    assert held.seen == [["stays"]]


def test_all_that_come_together_wake_a_loop_once(monkeypatch):
    async def waits() -> tuple[list[Any], int]:
        loop, woken = asyncio.get_running_loop(), list[Any]()
        call = loop.call_soon_threadsafe

        def counted(*args: Any) -> Any:
            woken.append(args)
            return call(*args)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        futures = [Future[int]() for _ in range(5)]
        answers = asyncio.gather(*(landed(future, 20) for future in futures), return_exceptions=True)
        await asyncio.sleep(0)
        for k, future in enumerate(futures[:4]):
            future.set_result(k)
        futures[4].set_exception(ValueError("on purpose"))
        return await answers, len(woken)

    answers, woken = asyncio.run(waits())

    assert answers[:4] == [0, 1, 2, 3]
    assert isinstance(answers[4], ValueError)
    assert woken == 1


def test_a_part_that_fails_fails_alone(held):
    def door(parts: Sequence[Any]) -> Sequence[Any]:
        if "poison" in parts:
            raise ValueError("on purpose")
        return parts

    good = held.writer.submit(door, "good", size=1)
    bad = held.writer.submit(door, "poison", size=1)
    held.go()

    assert good.result(20) == "good"
    with pytest.raises(Exception, match="could not store"):
        bad.result(20)


def test_a_thread_ends_after_the_transaction_that_it_is_in(held):
    closing = threading.Thread(target=held.writer.close)
    closing.start()

    held.go()
    closing.join(20)

    assert held.first.result(20) == "first"
    assert not any(thread.is_alive() for thread in held.writer._threads)
