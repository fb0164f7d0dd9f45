"""The demo fleet: simulated actors on a real tower, over its public doors alone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import jsonschema_rs
import pytest
import redis as redis_client

from tests import servers
from tests.servers import until
from tower.definitions.models import DefinitionVersion, TaskDefinition
from tower.demo.commands import Commands
from tower.demo.definitions import DEFINITIONS, RUNS
from tower.demo.plans import plan, some_params
from tower.demo.rest import Answer
from tower.schemas import ControlAction

ROOT = Path(__file__).resolve().parent.parent
#: Fast, but slow enough that a run is still going when it is paused.
SPEED = "6"


# -- plans


@pytest.mark.parametrize("body", DEFINITIONS, ids=lambda body: body["id"])
def test_every_definition_has_a_plan_whose_parts_are_defined(body):
    work = plan(body["id"], "a", body.get("default_params", {}))

    assert work is not None
    assert {part.job_id for part in work} <= {other["id"] for other in DEFINITIONS}


def test_the_plan_of_a_trace_is_the_same_again():
    defaults = RUNS[0]["default_params"]

    assert plan(RUNS[0]["id"], "a", defaults) == plan(RUNS[0]["id"], "a", defaults)
    assert plan(RUNS[0]["id"], "a", defaults) != plan(RUNS[0]["id"], "b", defaults)


@pytest.mark.parametrize("pages", [10, 41, 500, 2000])
def test_a_crawl_has_as_many_tasks_as_was_asked(pages):
    crawl = plan("web_crawl", "a", {"site": "docs.example.org", "pages": pages})

    assert crawl is not None
    assert sum(1 for _ in crawl) == pages


@pytest.mark.django_db
def test_the_definitions_pass_their_door_and_an_edit_of_them_stays():
    from tower.definitions import edit
    from tower.first_start import install_demo

    install_demo()
    edit.change("web_crawl", {"name": "Our crawl"}, by="li.wei")
    install_demo()

    assert TaskDefinition.objects.count() == len(DEFINITIONS)
    assert TaskDefinition.objects.get(pk="web_crawl").name == "Our crawl"
    assert DefinitionVersion.objects.filter(definition="web_crawl").count() == 2


def test_actors_know_nothing_of_the_towers_inside():
    told = "import sys, tower.demo.fleet; print(*{m.split('.')[0] for m in sys.modules})"

    loaded = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert {"django", "instances", "controls", "rest_framework"} & set(loaded.stdout.split()) == set()


# -- what is asked


class AnsweringRest:
    """A tower that answers ``command/`` with what a test says; it counts how often it is asked."""

    def __init__(self, action: str | None) -> None:
        self.action, self.asked = action, 0

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        self.asked += 1
        return Answer(0, None) if self.action is None else Answer(200, {"action": self.action})


def found(valkey: servers.Valkey, rest: AnsweringRest, *, known: str | None = None) -> ControlAction:
    from redis.asyncio import Redis

    async def ask() -> ControlAction:
        client = Redis.from_url(valkey.url, decode_responses=True, socket_connect_timeout=0.5)
        commands = Commands("T", client, rest)  # type: ignore[arg-type]
        if known:
            commands.told("leaf", ControlAction(known))
        try:
            return await commands.of(("root", "mid", "leaf"))
        finally:
            await client.aclose()

    return asyncio.run(ask())


@pytest.fixture
def store(valkey):
    client = redis_client.Redis.from_url(valkey.url, decode_responses=True)
    client.set("cmd:tower:epoch", "1")
    return client


@pytest.mark.parametrize(
    ("stands", "expected"),
    [
        ({}, "RUN"),
        ({"global_action": "PAUSE"}, "PAUSE"),
        ({"global_action": "PAUSE", "mid": "RUN"}, "PAUSE"),
        ({"root": "RUN", "mid": "CANCEL", "leaf": "PAUSE"}, "CANCEL"),
        ({"another": "CANCEL", "#mid": "7"}, "RUN"),
    ],
)
def test_the_strongest_command_on_the_path_wins_and_redis_is_enough(valkey, store, stands, expected):
    rest = AnsweringRest("CANCEL")
    if stands:
        store.hset("cmd:instance:T", mapping=stands)

    assert found(valkey, rest) == expected
    assert rest.asked == 0


def test_an_actor_that_starts_while_the_sentinel_is_missing_asks_rest(valkey, store):
    store.flushall()

    assert found(valkey, AnsweringRest("PAUSE")) == "PAUSE"


@pytest.mark.parametrize(("answer", "expected"), [(None, "PAUSE"), ("PAUSE", "PAUSE"), ("RUN", "RUN")])
def test_an_actor_that_knew_a_command_and_finds_none_keeps_it_and_asks(valkey, store, answer, expected):
    rest = AnsweringRest(answer)

    assert found(valkey, rest, known="PAUSE") == expected
    assert rest.asked == 1


def test_without_redis_an_actor_asks_rest(valkey):
    valkey.stop()

    assert found(valkey, AnsweringRest("CANCEL")) == "CANCEL"


# -- at work


class Fleet:
    """``manage.py demo_fleet`` beside a tower; it starts no runs by itself."""

    def __init__(self, tower: servers.Tower) -> None:
        tower.manage("demo_definitions")
        self._environment = {
            **tower.environment,
            "TOWER_URL": tower.url,
            "TOWER_DEMO_TOKEN": tower.manage("create_token", "fleet", "--scopes", "ingest,read").split()[-1],
            "REDIS_URL": redis_url(tower),
        }
        self.start()

    def start(self) -> None:
        words = [sys.executable, "manage.py", "demo_fleet", "--keep", "0", "--speed", SPEED]
        self._process = subprocess.Popen(words, cwd=ROOT, env=self._environment)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(20) == 0


@pytest.fixture(scope="module")
def crew(live_tower) -> Iterator[Fleet]:
    fleet = Fleet(live_tower)
    yield fleet
    fleet.stop()


@pytest.fixture
def fleet(live_tower: servers.Tower, crew: Fleet) -> servers.Tower:
    """The shared tower, with a fleet at work."""
    return live_tower


def redis_url(tower: servers.Tower) -> str:
    return (tower.home / "secrets" / "redis_url").read_text().strip()


def started(tower: servers.Tower, job_id: str, trace_id: str, **params: Any) -> str:
    status, body = tower.post("traces/", {"job_id": job_id, "trace_id": trace_id, "input_params": params})
    assert status == 201, body
    return trace_id


def summary(tower: servers.Tower, trace_id: str) -> dict[str, Any]:
    status, body = tower.get(f"traces/{trace_id}/")
    assert status == 200, body
    found: dict[str, Any] = body
    return found


def running(tower: servers.Tower, trace_id: str) -> list[dict[str, Any]]:
    nodes = tower.get(f"traces/{trace_id}/tree/")[1]["nodes"]
    return [node for node in nodes if node["status"] == "RUNNING"]


def control(tower: servers.Tower, trace_id: str, action: str, task_id: str | None = None) -> None:
    status, body = tower.post("controls/", {"trace_id": trace_id, "task_id": task_id, "action": action})
    assert status == 201, body


def growing(tower: servers.Tower, trace_id: str) -> None:
    """Several actors are at work on it."""
    until(lambda: len(running(tower, trace_id)) >= 5, f"{trace_id} is worked on")


def held(tower: servers.Tower, trace_id: str, clock: str) -> int:
    """All that run hold, and no report of them is on its way any more; the ``seq`` of that moment."""

    def all_hold() -> bool:
        return all(node["holds"] for node in running(tower, trace_id))

    def quiet() -> int | None:
        until(all_hold, f"all actors of {trace_id} hold")
        seq = summary(tower, trace_id)["seq"]
        moved_on(tower, clock, 5)
        return seq if all_hold() and summary(tower, trace_id)["seq"] == seq else None

    return int(until(quiet, f"{trace_id} is quiet"))


def moved_on(tower: servers.Tower, trace_id: str, reports: int = 10) -> None:
    """Another run serves as the clock: as many of its batches have been stored since."""
    since = summary(tower, trace_id)["seq"]
    until(lambda: summary(tower, trace_id)["seq"] >= since + reports, f"{trace_id} goes on")


def test_a_run_that_somebody_starts_is_taken_up_and_worked_on_to_its_end(fleet):
    trace = started(fleet, "rnaseq_workflow", "demo-whole", samples=2)

    until(lambda: summary(fleet, trace)["status"] not in ("PENDING", "RUNNING"), "the run ends", seconds=90)
    until(lambda: summary(fleet, trace)["open"] == 0, "with all its tasks")


def test_a_part_that_somebody_starts_by_itself_is_taken_up_too(fleet):
    trace = started(fleet, "backtest", "demo-part")

    until(lambda: summary(fleet, trace)["status"] == "SUCCESS", "the part ends", seconds=60)


def test_actors_hold_under_a_pause_and_go_on_after_it(fleet):
    trace = started(fleet, "multi_strategy_financial_analysis", "demo-pause")
    clock = started(fleet, "web_crawl", "demo-clock", pages=400)
    growing(fleet, trace)

    control(fleet, trace, "PAUSE")
    still = held(fleet, trace, clock)
    moved_on(fleet, clock)

    assert summary(fleet, trace)["seq"] == still

    control(fleet, trace, "RUN")
    until(lambda: not any(node["holds"] for node in running(fleet, trace)), "nobody holds any more")
    moved_on(fleet, trace)


def test_a_paused_branch_holds_while_the_others_go_on(fleet):
    trace = started(fleet, "multi_strategy_financial_analysis", "demo-branch")
    growing(fleet, trace)
    branch = next(
        node["id"] for node in fleet.get(f"traces/{trace}/tree/")[1]["nodes"] if node["name"] == "technical"
    )

    control(fleet, trace, "PAUSE", branch)
    until(lambda: fleet.get(f"tasks/{branch}/?trace_id={trace}")[1]["holds"], "the branch holds")
    moved_on(fleet, trace)

    below = fleet.get(f"traces/{trace}/tree/?root={branch}")[1]["nodes"]
    assert all(node["holds"] for node in below if node["status"] == "RUNNING")
    control(fleet, trace, "RUN", branch)


def test_actors_stop_under_a_cancel_and_say_so_themselves(fleet):
    trace = started(fleet, "multi_strategy_financial_analysis", "demo-cancel")
    growing(fleet, trace)

    control(fleet, trace, "CANCEL")
    until(lambda: summary(fleet, trace)["open"] == 0, "nothing is open any more")

    nodes = fleet.get(f"traces/{trace}/tree/")[1]["nodes"]
    assert summary(fleet, trace)["status"] == "CANCELLED"
    assert not [node for node in nodes if node.get("error_code") == "CANCEL_UNACKNOWLEDGED"]


def test_f6_no_actor_takes_a_step_when_redis_loses_a_pause(fleet):
    trace = started(fleet, "multi_strategy_financial_analysis", "demo-flush")
    clock = started(fleet, "web_crawl", "demo-flush-clock", pages=400)
    growing(fleet, trace)
    control(fleet, trace, "PAUSE")
    still = held(fleet, trace, clock)

    store = redis_client.Redis.from_url(redis_url(fleet), decode_responses=True)
    store.flushall()
    moved_on(fleet, clock, reports=30)
    until(lambda: store.hget(f"cmd:instance:{trace}", "global_action") == "PAUSE", "the command is restored")

    assert summary(fleet, trace)["seq"] == still
    control(fleet, trace, "CANCEL")


def test_a_fleet_that_starts_again_goes_on_with_the_runs_of_the_last_one(fleet, crew):
    trace = started(fleet, "multi_strategy_financial_analysis", "demo-again", strategies=["technical"])
    until(lambda: len(running(fleet, trace)) >= 3, "somebody works on it")

    crew.kill()
    crew.start()

    until(lambda: summary(fleet, trace)["status"] == "SUCCESS", "the run ends", seconds=90)
    until(lambda: summary(fleet, trace)["open"] == 0, "with all its tasks")


def test_up_with_demo_has_live_trees_by_itself_from_a_token_that_may_not_command(a_tower):
    tower = a_tower("--demo").start()

    def live() -> set[str]:
        rows = tower.get("traces/?status=RUNNING")[1]["results"]
        return {row["job_id"] for row in rows}

    until(lambda: live() >= {body["id"] for body in RUNS}, "each kind of run is live", seconds=60)

    tower.token = (tower.home / "secrets" / "demo_token").read_text().strip()
    assert tower.get("traces/")[0] == 200
    assert tower.post("controls/", {"trace_id": "x", "action": "CANCEL"})[0] == 403
    assert tower.post("definitions/", {"id": "x"})[0] == 403


def test_some_params_pass_the_schema_of_their_definition():
    for body in RUNS:
        for seed in range(20):
            params = {**body["default_params"], **some_params(body["id"], Random(seed))}
            jsonschema_rs.validate(body["params_schema"], params)
