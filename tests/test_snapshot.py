"""The snapshot of a tree, and that an old one with what was published is a fresh one."""

from __future__ import annotations

import asyncio
import gzip
import io
import itertools
import random
from contextlib import asynccontextmanager

import orjson
import pytest
from django.core.management import call_command
from django.test import Client
from hypothesis import HealthCheck, given, settings, strategies

from instances import feed as feeds
from instances import ingest, live, live_reads, snapshot
from instances.feed import Feed, Heard
from instances.hub import Named
from instances.live import rows_message
from instances.live_reads import Standing, in_database
from tests.screens import Screen, fresh_snapshot, tasks_of, until
from tests.trees import NOW_MS, a_tree
from tower.access.tokens import make_token
from tower.definitions.models import DefinitionVersion, TaskDefinition
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)
RUN, PAUSE, CANCEL = ControlAction


@pytest.fixture
def get():
    client = Client(headers={"Authorization": f"Bearer {make_token('reader', ['read'])}"})
    return lambda tree, **headers: client.get(f"/api/v1/traces/{tree.id}/snapshot/", headers=headers)


# -- what it is


@pytest.mark.parametrize("name", ['a "quoted" \\ name', "行 ☃ 𝄞", "line\nbreak\ttab", "<&'>", "%s {}"])
def test_names_and_numbers_cross_as_they_are(get, name):
    tree = a_tree("root:RUNNING(a b)", name=name)
    tree.change("a", progress=100 / 3)
    tree.change("b", progress=0.1)

    found = get(tree).json()

    assert found["names"] == [name]
    assert found["cols"]["progress"] == [None, 100 / 3, 0.1]


def test_a_snapshot_is_the_tree_in_columns(get):
    definition = TaskDefinition.objects.create(
        id="job", name="x", actor_type="AGENT", code_ref="x", version=1
    )
    version = DefinitionVersion.objects.create(
        definition=definition, number=3, name="Report", actor_type="AGENT", code_ref="x"
    )
    tree = a_tree("root:RUNNING(a:SUCCESS b)", version=version.pk)
    tree.grow("a", "c", name="mine", job_id="other")
    tree.grow(None, "lost", registered=False, job_id="", name="")
    tree.change("a", reported_status=3, planned=5, attempt=2)
    tree.change("b", holds=True, progress=12.5)
    tree.ask("a", PAUSE)
    tree.ask("", RUN)

    body = get(tree).json()

    assert (body["v"], body["seq"], body["t0"], body["root"], body["control"]) == (1, 5, NOW_MS, 0, 2)
    assert body["intents"] == [[1, 1, 1], [-1, 0, 2]]
    tasks = tasks_of(body)
    assert body["cols"]["n"] == [0, 1, 2, 3, 4]
    assert tasks[0] == {
        "id": "root", "parent": -1, "kind": 3, "name": "Report", "status": 1, "progress": None, "start": 0,
        "end": None, "attempt": 1, "split": 2, "done": 1, "over": 0, "def": ("job", 3),
    }  # fmt: skip
    assert (tasks[1]["start"], tasks[1]["end"], tasks[1]["split"], tasks[1]["over"]) == (1, 1_001, 5, 2 | 16)
    assert (tasks[2]["progress"], tasks[2]["over"]) == (12.5, 1)
    assert (tasks[3]["parent"], tasks[3]["name"], tasks[3]["def"]) == (1, "mine", ("other", None))
    assert (tasks[4]["parent"], tasks[4]["name"], tasks[4]["over"], tasks[4]["def"]) == (-1, "", 4 | 8, None)


def test_a_snapshot_is_sent_once_until_something_changes(get):
    tree = a_tree("root(a)")
    first = get(tree)
    tag = first["ETag"]

    assert tag == f'"{first.json()["epoch"]}.1.0"'
    assert get(tree, if_none_match=tag).status_code == 304
    assert get(tree, if_none_match=f'"x", {tag}').status_code == 304
    tree.ask("", PAUSE)
    assert get(tree, if_none_match=tag).status_code == 200
    tag = get(tree)["ETag"]
    tree.change("a", progress=1.0)
    assert get(tree, if_none_match=tag).status_code == 200
    tag = get(tree)["ETag"]
    snapshot.new_epoch()
    assert get(tree, if_none_match=tag).status_code == 200


def test_a_snapshot_is_compressed_where_that_is_understood(get):
    tree = a_tree("root(a)")

    zipped = get(tree, accept_encoding="gzip, br")

    assert zipped["Content-Encoding"] == "gzip"
    assert orjson.loads(gzip.decompress(zipped.content)) == get(tree).json()
    assert "Content-Encoding" not in get(tree)


def test_the_epoch_stays_until_a_backup_is_restored():
    first = snapshot.epoch()

    assert snapshot.epoch() == first
    call_command("new_epoch", stdout=io.StringIO())
    assert snapshot.epoch() != first


# -- old + published = fresh


class NoHub:
    """A feed alone: nobody tells it anything but the test."""

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
async def a_feed(tree):
    feed = Feed(NoHub(), tree.number)
    await feed.started
    try:
        yield feed
    finally:
        await feed.stop()


def change_of(tree, draw, step):
    """One random batch; its TraceChange."""
    ids = [node.id for node in tree.nodes()]
    match draw.choice(["grow", "grow", "change", "change", "change", "move", "ask", "flicker"]):
        case "grow":
            return tree.grow(
                draw.choice([*ids, None]), " ".join(f"t{step}x{i}" for i in range(draw.randint(1, 3)))
            )
        case "move":
            # Always below the root: no rings.
            return tree.change(draw.choice(ids[1:] or ids), depth=1, name=f"moved {step}", attempt=step + 1)
        case "ask":
            tree.ask(draw.choice([*ids, ""]), draw.choice([RUN, PAUSE, CANCEL]))
            return tree.change(draw.choice(ids), attempt=step + 2)
        case "flicker":
            return tree.change(draw.choice(ids), holds=draw.random() < 0.5)
    fields = {
        "status": draw.randrange(6),
        "progress": draw.choice([None, 12.5, 100.0]),
        "finished_ms": draw.choice([None, NOW_MS + step]),
        "planned": draw.randrange(4),
        "reported_status": draw.choice([None, 2]),
    }
    return tree.change(draw.sample(ids, draw.randint(1, len(ids))), **fields)


def disturb(draw, changes):
    """What a channel layer may do to messages: lose, repeat and swap them."""
    kept = [change for change in changes for _ in range(draw.choice([0, 1, 1, 1, 2]))]
    for _ in range(draw.randint(0, 3)):
        if len(kept) > 1:
            at = draw.randrange(len(kept) - 1)
            kept[at], kept[at + 1] = kept[at + 1], kept[at]
    return kept


def hear(feed, change):
    message = rows_message(change)
    assert message
    feed.heard(Heard(message["before"], message["seq"], message["at"], message["rows"], message["new"]))


async def play(tree, draw, monkeypatch):
    monkeypatch.setattr(feeds, "TICKS", (1, 2, 5, 10))
    monkeypatch.setattr(live_reads, "FEW_ROWS", draw.choice([1, 1_000]))
    async with a_feed(tree) as feed:
        screens = [await Screen(feed, lambda: draw.random() < 0.2).open()]
        for step in range(draw.randint(1, 6)):
            burst = [
                await in_database(change_of, tree, draw, step * 10 + i) for i in range(draw.randint(1, 4))
            ]
            for change in disturb(draw, burst):
                hear(feed, change)
                if draw.random() < 0.3:
                    await asyncio.sleep(0)
            if draw.random() < 0.4:
                screens.append(await Screen(feed, lambda: draw.random() < 0.2).open())
            if draw.random() < 0.3:
                feed.asked()
        feed.asked()
        fresh = await in_database(fresh_snapshot, tree.number)
        # The pulse of the next second.
        feed.stands(Standing(fresh["seq"], False, fresh["control"]))
        reached = (fresh["seq"], fresh["control"])
        await until(lambda: (feed.sent, feed.control) == reached, "the feed has all")
        for screen in screens:
            screen.loses = lambda: False
            await until(lambda: screen.idle, "the screen is at rest")  # noqa: B023
            await screen.hear(feed.beat())
            await until(lambda: (screen.seq, screen.control) == reached and screen.idle, "the screen has all")  # noqa: B023
            assert screen.tasks == tasks_of(fresh)
            assert sorted(screen.intents) == sorted(fresh["intents"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.integers(min_value=0, max_value=2**32))
def test_an_old_snapshot_and_what_was_published_is_a_fresh_one(transactional_db, monkeypatch, seed):
    tree = a_tree("root:RUNNING(a b)")

    asyncio.run(play(tree, random.Random(seed), monkeypatch))


# -- the same through the real doors


_runs = itertools.count(1)


def report(draw, trace_id, i, ids):
    kind = draw.choice(["STARTED", "PROGRESS", "PROGRESS", "COMPLETED", "FAILED"])
    payload = {"progress": draw.randrange(101), "paused": draw.random() < 0.3, "message": f"m{i}"}
    if draw.random() < 0.2:
        payload |= {"split_count": draw.randrange(1, 6)}
    event = {"event_id": f"e{i}", "trace_id": trace_id, "task_id": draw.choice(ids), "event_type": kind}
    hint = {"parent_id": draw.choice(ids)} if draw.random() < 0.2 else {}
    return event | hint | {"timestamp_ms": NOW_MS + draw.randrange(1_000), "payload": payload}


def registration(draw, trace_id, i, ids):
    id = draw.choice([f"t{i}", *ids])
    parent = None if id == "root" else draw.choice([known for known in ids if known != id] or ["root"])
    body = {"id": id, "trace_id": trace_id, "parent_id": parent}
    return body | {"job_id": "job", "actor_type": "EXECUTION"}


def through_the_doors(draw, trace_id, steps):
    """Batches of registrations and reports, one after the other."""
    ids = ["root", *(f"t{i}" for i in range(6))]
    for step in range(steps):
        i = step * 100
        if draw.random() < 0.4:
            ingest.register([registration(draw, trace_id, i + k, ids) for k in range(draw.randint(1, 4))])
        else:
            ingest.ingest([report(draw, trace_id, i + k, ids) for k in range(draw.randint(1, 5))])


async def watch_the_doors(draw, monkeypatch):
    published = []
    monkeypatch.setattr(live, "publish", lambda changes: published.extend(changes))
    monkeypatch.setattr(live, "watched", lambda number: True)
    monkeypatch.setattr(feeds, "TICKS", (1, 2, 5, 10))
    trace_id = f"doors-{next(_runs)}"
    root = {"id": "root", "trace_id": trace_id, "parent_id": None, "job_id": "job", "actor_type": "AGENT"}
    await in_database(ingest.register, [root])
    number = published[0].number
    feed = Feed(NoHub(), number)
    await feed.started
    screen = await Screen(feed).open()
    published.clear()
    # No hole may be filled: what is on the screen has to come from what was published.
    monkeypatch.setattr(feeds, "read_since", None)

    await in_database(through_the_doors, draw, trace_id, draw.randint(1, 8))
    for change in published:
        hear(feed, change)
    fresh = await in_database(fresh_snapshot, number)
    await until(lambda: screen.seq == fresh["seq"], "the screen has all")
    await feed.stop()
    return screen.tasks, tasks_of(fresh)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.integers(min_value=0, max_value=2**32))
def test_what_the_doors_publish_is_what_they_wrote(transactional_db, monkeypatch, seed):
    shown, written = asyncio.run(watch_the_doors(random.Random(seed), monkeypatch))

    assert shown == written
