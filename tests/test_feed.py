"""One feed: order, holes, ticks, sockets that do not read, texts, the end."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import orjson
import pytest

from instances import feed as feeds
from instances import live_reads, watcher
from instances.feed import Feed, Heard
from instances.hub import Named
from instances.live import COLUMNS, MOST_BYTES, rows_message
from instances.live_reads import Standing, in_database
from instances.snapshot import EVERY, WIRE, difference
from instances.watcher import Watcher
from tests.screens import Screen, until
from tests.trees import a_tree
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)
RUN, PAUSE, CANCEL = ControlAction


class NoHub:
    """Nobody tells the feed anything but the test."""

    mode, epoch = "live", "e"

    def __init__(self):
        self.names = {}

    async def join(self, group): ...
    async def part(self, group): ...

    def unknown(self, rows):
        return {row[6] for row in rows} - self.names.keys() - {None}

    async def learn(self, versions):
        self.names.update({pk: Named(f"v{pk}", pk) for pk in versions})


@asynccontextmanager
async def a_feed(text, *, tick=1):
    tree = await in_database(a_tree, text)
    feed = Feed(NoHub(), tree.number)
    await feed.started
    feed.tick = tick
    try:
        yield tree, feed
    finally:
        await feed.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(feeds, "TICKS", (1, 50, 250, 60_000))


@pytest.fixture
def reads(monkeypatch):
    """How often a feed read a hole."""
    counted = []

    def count(*args):
        counted.append(args)
        return live_reads.read_since(*args)

    monkeypatch.setattr(feeds, "read_since", count)
    return counted


class Ear:
    """A socket that notes what it is sent, and never answers."""

    def __init__(self):
        self.heard, self.closed = [], []
        self.watcher = Watcher(self.hear, self.close)

    async def hear(self, text):
        self.heard.append(orjson.loads(text))

    async def close(self, code):
        self.closed.append(code)

    def ops(self):
        return [message["op"] for message in self.heard]

    @property
    def frames(self):
        return [message for message in self.heard if message["op"] == "d"]


async def an_ear(feed):
    ear = Ear()
    await feed.greet(ear.watcher)
    return ear


def hear(feed, change):
    message = rows_message(change)
    assert message
    feed.heard(Heard(*(message[name] for name in ("before", "seq", "at", "rows", "new"))))


async def sent(feed, change):
    await until(lambda: feed.sent >= change.seq, "the feed has sent it")


async def test_a_hello_says_where_the_feed_stands():
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)

        hello = ear.heard[0]
        assert (hello["op"], hello["v"], hello["trace"], hello["seq"]) == ("hello", 1, tree.id, 1)
        assert (hello["epoch"], hello["mode"], hello["ended"], hello["intents"]) == ("e", "live", False, [])


async def test_the_first_change_goes_out_at_once_and_the_next_ones_in_one_frame():
    async with a_feed("root(a b)") as (tree, feed):
        ear = await an_ear(feed)
        feed.tick = 60_000

        first = await in_database(tree.change, "a", progress=1.0)
        hear(feed, first)
        await sent(feed, first)
        for progress in (2.0, 3.0):
            hear(feed, await in_database(tree.change, "a", progress=progress))
        hear(feed, await in_database(tree.change, "b", attempt=2))
        feed.tick, feed._flushed_at = 1, 0.0
        feed._running.cancel()
        await feed._flush()

        assert [(frame["from"], frame["seq"]) for frame in ear.frames] == [(1, 2), (2, 5)]
        assert ear.frames[1]["up"] == [[1, 1 << WIRE.index("progress"), 3.0], ear.frames[1]["up"][1]]
        assert ear.frames[1]["up"][1][0] == 2


async def test_only_the_columns_that_changed_are_sent_once_the_task_is_known():
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        for attempt in (2, 3):
            change = await in_database(tree.change, "a", attempt=attempt)
            hear(feed, change)
            await sent(feed, change)

        assert [frame["up"][0][1] for frame in ear.frames] == [EVERY, 1 << WIRE.index("attempt")]


async def test_a_value_that_went_there_and_back_is_sent():
    """A browser whose snapshot is of the moment between would keep it."""
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        first = await in_database(tree.change, "a", attempt=2)
        hear(feed, first)
        await sent(feed, first)
        held = await in_database(tree.change, "a", holds=True)
        back = await in_database(tree.change, "a", holds=False)
        hear(feed, held)
        hear(feed, back)
        await sent(feed, back)

        sent_over = [up for frame in ear.frames[1:] for up in frame["up"] if up[1] >> WIRE.index("over") & 1]
        assert sent_over[-1][-1] == 0


async def test_messages_are_put_in_order_without_a_read(reads):
    async with a_feed("root(a)") as (tree, feed):
        feed.tick = 60_000  # no hole outlives it
        ear = await an_ear(feed)
        changes = [await in_database(tree.change, "a", progress=float(i)) for i in range(3)]

        for change in (changes[2], changes[0], changes[1], changes[1]):
            hear(feed, change)
        await sent(feed, changes[2])

        assert (ear.frames[-1]["seq"], ear.frames[-1]["up"][0][0]) == (4, 1)
        assert reads == []


async def test_a_hole_that_outlives_a_tick_is_filled_before_browsers_see_it(reads):
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        await in_database(tree.grow, "root", "lost")
        seen = await in_database(tree.change, "a", progress=5.0)

        hear(feed, seen)
        await sent(feed, seen)

        # The frames are without a gap, whatever the messages were.
        assert [frame["from"] for frame in ear.frames] == [1, *(frame["seq"] for frame in ear.frames[:-1])]
        assert [row[1] for frame in ear.frames for row in frame["new"] if row[1] == "lost"] == ["lost"]
        assert len(reads) == 1


async def test_a_change_without_rows_is_read(reads):
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        change = await in_database(tree.grow, "a", "b c")

        feed.told(change.seq)
        await sent(feed, change)

        assert [row[1] for row in ear.frames[-1]["new"]] == ["root", "a", "b", "c"]
        assert len(reads) == 1


def test_a_change_with_many_rows_or_bytes_carries_none():
    tree = a_tree("root")
    change = tree.grow("root", " ".join(f"t{i}" for i in range(10)))
    assert change.new
    row = change.new[0]

    message = rows_message(change)
    assert message
    assert message["seq"] == change.seq
    many = type(change)(change.number, change.trace_id, 1, 2, [row] * 2_001, [])
    large = type(change)(change.number, change.trace_id, 1, 2, [(*row[:4], "x" * MOST_BYTES, *row[5:])], [])
    assert rows_message(many) is None
    assert rows_message(large) is None


async def test_the_pulse_finds_a_lost_last_message():
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        change = await in_database(tree.change, "a", progress=1.0)

        feed.stands(Standing(change.seq, False, 0))
        await sent(feed, change)

        assert ear.frames[-1]["seq"] == change.seq


async def test_a_read_that_messages_have_overtaken_takes_nothing_back(monkeypatch):
    async with a_feed("root(a)") as (tree, feed):
        screen = await Screen(feed).open()
        first = await in_database(tree.change, "a", progress=1.0)
        stale = await in_database(live_reads.read_since, tree.number, 1)
        second = await in_database(tree.change, "a", progress=2.0)
        hear(feed, first)
        hear(feed, second)

        await feed._take_read(stale, 1)
        await until(lambda: screen.seq == second.seq, "the screen has both")

        assert screen.tasks[1]["progress"] == 2.0


async def test_too_much_behind_a_hole_is_a_reset(monkeypatch):
    monkeypatch.setattr(live_reads, "FEW_ROWS", 2)
    async with a_feed("root") as (tree, feed):
        ear = await an_ear(feed)
        change = await in_database(tree.grow, "root", "a b c d")

        feed.told(change.seq)
        await sent(feed, change)

        assert ear.ops() == ["hello", "reset"]


async def test_a_frame_above_the_limit_is_a_reset(settings):
    settings.TOWER_WS_MAX_MESSAGE_OUT = 100
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        change = await in_database(tree.change, "a", attempt=2)

        hear(feed, change)
        await sent(feed, change)

        assert ear.ops() == ["hello", "reset"]


# -- since


async def test_what_was_missed_comes_as_one_batch():
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        await in_database(tree.grow, "a", "b")
        await in_database(tree.change, "root", attempt=2)

        await feed.resync(ear.watcher, 1)

        batch = ear.frames[0]
        assert (batch["from"], batch["seq"]) == (1, 3)
        assert sorted(row[1] for row in batch["new"]) == ["a", "b", "root"]


@pytest.mark.parametrize("since", [2, 10**12])
async def test_a_since_that_was_never_reached_is_a_reset(since):
    async with a_feed("root") as (_, feed):
        ear = await an_ear(feed)

        await feed.resync(ear.watcher, since)

        assert ear.ops() == ["hello", "reset"]


async def test_a_browser_of_another_epoch_is_reset():
    async with a_feed("root") as (_, feed):
        ours, other = Ear(), Ear()

        await feed.greet(ours.watcher, since=1, epoch="e")
        await feed.greet(other.watcher, since=1, epoch="before the restore")

        assert ours.ops() == ["hello", "d"]
        assert other.ops() == ["hello", "reset"]


async def test_frames_that_come_while_a_resync_is_read_follow_it(monkeypatch):
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        await in_database(tree.change, "a", progress=1.0)
        late = {}
        read_since = live_reads.read_since

        def read_and_meanwhile(number, since):
            found = read_since(number, since)
            late["change"] = tree.change("a", progress=2.0)
            loop.call_soon_threadsafe(hear, feed, late["change"])
            loop.call_soon_threadsafe(feed.told, late["change"].seq)
            deadline = time.monotonic() + 20
            while feed.sent < late["change"].seq and time.monotonic() < deadline:
                asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001), loop).result()
            return found

        loop = asyncio.get_running_loop()
        hear(feed, await in_database(tree.change, "a", progress=1.5))
        await until(lambda: feed.sent == 3, "the feed is in order")
        ear.heard.clear()
        monkeypatch.setattr(feeds, "read_since", read_and_meanwhile)
        await feed.resync(ear.watcher, 1)

        assert [(frame["from"], frame["seq"]) for frame in ear.frames] == [(1, 3), (3, 4)]


# -- intents


async def test_a_control_is_told_without_a_new_seq():
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        await in_database(tree.ask, "a", PAUSE)

        feed.asked()
        await until(lambda: ear.frames, "the intents are told")

        frame = ear.frames[0]
        assert (frame["from"], frame["seq"], frame["control"]) == (1, 1, 1)
        assert (frame["intents"], frame["new"], frame["up"]) == ([[1, 1, 1]], [], [])


async def test_a_control_whose_message_was_lost_is_found_by_the_pulse():
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)
        await in_database(tree.ask, "", CANCEL)

        feed.stands(Standing(1, False, 1))
        await until(lambda: ear.frames, "the intents are told")

        assert ear.frames[0]["intents"] == [[-1, 2, 1]]


# -- the end, and silence


async def test_the_end_is_told_once_and_a_late_child_takes_it_back():
    async with a_feed("root:SUCCESS") as (tree, feed):
        ear = await an_ear(feed)
        await in_database(tree.end)

        for _ in range(2):
            feed.stands(Standing(1, True, 0))
            await feed.look(time.monotonic())
        assert ear.ops() == ["hello", "end"]

        change = await in_database(tree.grow, "root", "late")
        hear(feed, change)
        await sent(feed, change)
        feed.stands(Standing(change.seq, False, 0))
        await feed.look(time.monotonic())
        feed.stands(Standing(change.seq, True, 0))
        await feed.look(time.monotonic())
        assert ear.ops() == ["hello", "end", "d", "end"]


async def test_a_beat_comes_after_five_seconds_of_silence_and_thirty_once_ended():
    async with a_feed("root") as (_, feed):
        ear = await an_ear(feed)
        start = time.monotonic()

        feed._spoke_at = start
        await feed.look(start + 4.9)
        assert ear.ops() == ["hello"]
        await feed.look(start + 5)
        assert ear.heard[-1] | {"t": 0} == {
            "op": "beat", "seq": 1, "control": 0, "t": 0, "tick": feed.tick, "mode": "live",
        }  # fmt: skip
        feed.ended = feed._end_told = True
        await feed.look(start + 34.9)
        assert ear.ops() == ["hello", "beat"]
        await feed.look(start + 35)
        assert ear.ops() == ["hello", "beat", "beat"]


async def test_the_tick_grows_under_pressure_and_shrinks_when_calm():
    async with a_feed("root") as (_, feed):
        for _ in range(2):
            feed._adapt(1.0)
        assert feed.tick == 250
        for _ in range(feeds.CALM_FLUSHES):
            feed._adapt(0.0)
        assert feed.tick == 50


# -- sockets that do not read


async def test_f24_a_socket_that_does_not_answer_gets_no_more_then_one_reset(monkeypatch):
    monkeypatch.setattr(watcher, "FRAME_SECONDS", 0.0)
    async with a_feed("root(a)") as (tree, feed):
        deaf, well = await an_ear(feed), await Screen(feed).open()

        for i in range(12):
            change = await in_database(tree.change, "a", progress=float(i))
            hear(feed, change)
            await sent(feed, change)
        assert len(deaf.frames) == watcher.MOST_FRAMES
        await until(lambda: well.seq == tree.seq, "the other one has all")

        await deaf.watcher.ack(deaf.frames[-1]["seq"])
        await deaf.watcher.ack(deaf.frames[-1]["seq"])
        assert deaf.ops().count("reset") == 1
        change = await in_database(tree.change, "a", progress=50.0)
        hear(feed, change)
        await sent(feed, change)
        assert deaf.frames[-1]["seq"] == change.seq


async def test_f24_a_burst_within_two_seconds_cuts_nobody_off():
    async with a_feed("root(a)") as (tree, feed):
        ear = await an_ear(feed)

        for i in range(12):
            change = await in_database(tree.change, "a", progress=float(i))
            hear(feed, change)
            await sent(feed, change)

        assert "reset" not in ear.ops()
        assert ear.frames[-1]["seq"] == tree.seq


async def test_f24_a_mebibyte_without_an_answer_is_too_much():
    ear = Ear()

    await ear.watcher.offer('{"op":"d","x":"' + "x" * (1 << 20) + '"}', 1)
    await ear.watcher.offer('{"op":"d"}', 2)
    assert ear.ops() == ["d"]

    await ear.watcher.ack(1)
    assert ear.ops() == ["d", "reset"]


async def test_f24_a_socket_that_does_not_come_back_is_closed_with_4408():
    ear = Ear()
    now = time.monotonic()
    await ear.watcher.offer('{"op":"d","x":"' + "x" * (1 << 20) + '"}', 1)

    assert [await ear.watcher.look(now + seconds) for seconds in (0, 19.9, 20)] == [True, True, False]
    assert ear.closed == [4408]


# -- texts


async def test_the_texts_of_the_task_in_focus_come_at_once_and_with_each_change():
    async with a_feed("root(a b)") as (tree, feed):
        ear, other = await an_ear(feed), await an_ear(feed)
        await in_database(tree.say, "a", message="first")

        await feed.focus(ear.watcher, 1)
        await in_database(tree.say, "a", message="second")
        for id in ("a", "b"):
            change = await in_database(tree.change, id, attempt=2)
            hear(feed, change)
            await sent(feed, change)
        await until(lambda: ear.ops().count("focus") == 2, "both texts came")

        said = [message for message in ear.heard if message["op"] == "focus"]
        assert [message["message"] for message in said] == ["first", "second"]
        assert (said[0]["n"], said[0]["error_msg"]) == (1, None)
        assert "focus" not in other.ops()


async def test_a_database_that_fails_for_a_while_costs_no_change(monkeypatch):
    monkeypatch.setattr(feeds, "PATIENCE_SECONDS", 0.01)
    async with a_feed("root(a)") as (tree, feed):
        screen = await Screen(feed).open()
        read_since, failures = live_reads.read_since, [OSError("away"), OSError("away")]

        def failing(*args):
            if failures:
                raise failures.pop()
            return read_since(*args)

        monkeypatch.setattr(feeds, "read_since", failing)
        change = await in_database(tree.grow, "a", "b")
        feed.told(change.seq)
        await until(lambda: screen.seq == change.seq, "the screen has it after all")

        assert screen.tasks[2]["id"] == "b"
        assert failures == []


def test_two_rows_differ_in_what_their_columns_show():
    was = (1, "a", 0, 3, "", "job", None, 0, None, None, None, 1, 0, 0, 0)
    assert len(was) == len(COLUMNS)

    for at, value, names in (
        (2, 5, ["parent"]), (4, "x", ["name"]), (5, "other", ["name", "def"]), (6, 7, ["name", "def"]),
        (7, 2, ["status"]), (8, 1.5, ["progress"]), (10, 9, ["end"]), (14, 4, ["over"]),
    ):  # fmt: skip
        mask = difference(was, (*was[:at], value, *was[at + 1 :]))
        assert [name for bit, name in enumerate(WIRE) if mask >> bit & 1] == names
    assert difference(was, was) == 0
