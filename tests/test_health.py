"""/healthz, /readyz and /metrics: what they say, to whom, and how soon."""

from __future__ import annotations

import re
import threading
import time

import pytest
from django.contrib.auth.models import Group, User
from django.db import DatabaseError, connection
from prometheus_client.parser import text_string_to_metric_families

from controls.models import Beat
from instances import pump
from instances.models import Intent, Trace
from instances.sources import DeadLetter, Entry
from instances.sources.streams import STREAM, queue
from tests import servers
from tower import health, metrics, redis, upgrade
from tower.access.tokens import make_token

pytestmark = pytest.mark.django_db(transaction=True)


def now_ms():
    return time.time_ns() // 1_000_000


def checks(client):
    return client.get("/readyz").json()["checks"]


def an_undelivered_intent(age_ms):
    return Intent.objects.create(
        trace=1,
        target="",
        action=1,
        number=2,
        control_id="c",
        created_ms=now_ms() - age_ms,
        delivered_number=1,
    )


@pytest.fixture(autouse=True)
def sweeper():
    return Beat.objects.create(role="sweeper", at_ms=now_ms())


def test_healthz_touches_nothing(client, django_assert_num_queries, valkey):
    valkey.stop()

    with django_assert_num_queries(0):
        answer = client.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer["Cache-Control"] == "no-store"


def test_readyz_says_exactly_this(client):
    answer = client.get("/readyz")

    body = answer.json()
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert list(body) == ["status", "degraded", "warnings", "version", "checks"]
    assert (body["status"], body["degraded"]) == ("ready", [])
    keys = {name: set(check) for name, check in body["checks"].items()}
    assert keys == {
        "database": {"ok", "engine", "latency_ms", "pending_migrations"},
        "redis": {"ok", "latency_ms"},
        "consumer": {"ok", "lag", "oldest_s", "pending", "dead", "consumers"},
        "commands": {"ok", "undelivered"},
        "sweeper": {"ok", "age_s"},
        "disk": {"ok", "free_bytes"},
    }
    assert body["checks"]["database"]["engine"] == connection.vendor
    assert body["checks"]["database"]["pending_migrations"] == 0


def test_readyz_is_unready_only_without_the_database(client, monkeypatch):
    def fails():
        raise DatabaseError("host db.internal is away")

    monkeypatch.setitem(health.PROBES, "database", health.on_own_connection(fails))

    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (503, "unready")
    assert b"db.internal" not in answer.content


def test_readyz_is_unready_before_a_migration(client, monkeypatch):
    known = upgrade.known_migrations()
    monkeypatch.setattr(upgrade, "known_migrations", lambda: known | {("instances", "9999_later")})

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["checks"]["database"]["pending_migrations"] == 1


def test_a_newer_schema_is_no_reason_to_be_unready(client, monkeypatch):
    known = upgrade.known_migrations()
    monkeypatch.setattr(upgrade, "known_migrations", lambda: known - {max(known)})

    assert client.get("/readyz").status_code == 200


def test_f7_without_redis_it_is_ready_and_says_so(client, valkey):
    valkey.stop()

    answer = client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["degraded"] == ["redis", "consumer"]


def test_a_redis_that_hangs_costs_a_second_at_most(client, valkey):
    valkey.freeze()
    start = time.monotonic()

    answer = client.get("/readyz")

    # The probe's own limit, not a measurement: without it the answer would take as long as the hanging.
    assert time.monotonic() - start < 3
    assert answer.json()["degraded"] == ["redis", "consumer"]


def test_a_probe_that_hangs_is_not_waited_for(client, monkeypatch):
    release = threading.Event()
    monkeypatch.setitem(health.PROBES, "disk", lambda: (release.wait(60), ({"ok": True}, []))[1])

    answer = client.get("/readyz")
    release.set()

    assert answer.json()["degraded"] == ["disk"]


def test_a_sweeper_that_stopped_is_named(client, sweeper):
    Beat.objects.filter(role="sweeper").update(at_ms=now_ms() - 16_000)

    body = client.get("/readyz").json()

    assert body["degraded"] == ["sweeper"]
    assert body["checks"]["sweeper"]["age_s"] >= 16


def test_a_sweeper_that_was_never_there_is_named(client):
    Beat.objects.all().delete()

    assert client.get("/readyz").json()["degraded"] == ["sweeper"]


def test_commands_that_wait_too_long_are_named(client):
    an_undelivered_intent(age_ms=11_000)

    body = client.get("/readyz").json()

    assert body["degraded"] == ["commands"]
    assert body["checks"]["commands"]["undelivered"] == 1


def test_commands_that_just_came_are_counted_but_fine(client):
    an_undelivered_intent(age_ms=-60_000)

    assert checks(client)["commands"] == {"ok": True, "undelivered": 1}


def test_a_disk_that_fills_is_named(client, monkeypatch):
    monkeypatch.setattr(health, "FREE_BYTES", 1 << 62)

    assert client.get("/readyz").json()["degraded"] == ["disk"]


def test_what_is_unsafe_is_warned_of(client, settings, monkeypatch):
    settings.DEBUG = True
    monkeypatch.setattr(health, "FIXED_SQLITE", (99, 0, 0))

    warnings = set(client.get("/readyz").json()["warnings"])

    # The suite's Valkey keeps nothing.
    assert {"debug", "redis_persistence"} <= warnings
    assert ("sqlite_version" in warnings) is (connection.vendor == "sqlite")


def test_a_redis_that_evicts_is_warned_of(client, valkey):
    redis.client().config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "redis_eviction" in client.get("/readyz").json()["warnings"]
    finally:
        redis.client().config_set("maxmemory-policy", "noeviction")


def test_the_settings_make_the_database_safe(client):
    assert not {"sqlite_synchronous", "sqlite_version", "pg_synchronous_commit"} & set(
        client.get("/readyz").json()["warnings"]
    )


def an_entry(age_ms=0, event="{}"):
    return redis.events().xadd(STREAM, {"event": event}, id=f"{now_ms() - age_ms}-0")


def test_an_empty_queue_that_nobody_reads_is_no_reason_to_be_degraded(client):
    assert checks(client)["consumer"] == {
        "ok": True, "lag": 0, "oldest_s": 0.0, "pending": 0, "dead": 0, "consumers": 0,
    }  # fmt: skip


def test_reports_that_wait_are_counted_and_too_old_ones_named(client):
    an_entry(age_ms=31_000)
    an_entry()

    body = client.get("/readyz").json()

    assert body["degraded"] == ["consumer"]
    assert body["checks"]["consumer"]["lag"] == 2
    assert body["checks"]["consumer"]["oldest_s"] >= 31


def test_what_a_consumer_has_in_hand_is_counted_apart(client):
    an_entry(age_ms=31_000)
    reader = queue()
    reader.read(10)  # makes the group
    assert len(reader.read(10)) == 1
    an_entry()

    found = checks(client)["consumer"]

    assert (found["lag"], found["pending"], found["consumers"], found["ok"]) == (1, 1, 1, False)


def test_dead_letters_are_counted(client):
    reader = queue()
    reader.bury([DeadLetter(Entry("1-0", b"x", 1), "why", "invalid_json")])

    assert checks(client)["consumer"]["dead"] == 1


def test_consumers_that_stopped_are_named_until_they_go_on(client):
    pump.pause(seen=200, dead=200)
    assert client.get("/readyz").json()["degraded"] == ["consumer"]

    assert pump.resume()

    assert client.get("/readyz").json()["degraded"] == []


# -- metrics


def scrape(client, **headers):
    answer = client.get("/metrics", **headers)
    assert answer.status_code == 200, answer.content
    return {family.name: family for family in text_string_to_metric_families(answer.content.decode())}


def test_metrics_can_be_parsed_and_name_what_there_is(client):
    families = scrape(client)

    assert {
        "tower_events",
        "tower_ingest_batch_seconds",
        "tower_registrations",
        "tower_controls",
        "tower_sweep_seconds",
        "tower_traces",
        "tower_tasks_running",
        "tower_commands_undelivered",
        "tower_sweep_last_timestamp_seconds",
        "tower_ws_connections",
        "tower_http_requests",
        "tower_http_request_seconds",
        "tower_rejected",
        "tower_auth_failures",
        "tower_build_info",
        "tower_queue_lag_entries",
        "tower_queue_oldest_seconds",
        "tower_queue_pending_entries",
        "tower_queue_lost",
        "tower_dead_letters",
        "tower_consumer_paused",
    } <= families.keys()
    assert families["tower_build_info"].samples[0].labels["database"] == connection.vendor


def test_metrics_are_told_without_the_queue_while_redis_is_away(client, valkey):
    valkey.stop()

    families = scrape(client)

    assert "tower_traces" in families
    assert "tower_queue_lag_entries" not in families


def test_metrics_say_that_the_consumers_stopped(client):
    pump.pause(seen=200, dead=200)

    assert scrape(client)["tower_consumer_paused"].samples[0].value == 1


def test_runs_add_no_series(client):
    def series():
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in scrape(client).values()
            for sample in family.samples
        }

    Trace.objects.create(id="first", created_ms=1, updated_ms=1)
    before = series()
    Trace.objects.bulk_create(Trace(id=f"t{i}", created_ms=1, updated_ms=1) for i in range(10_000))

    assert series() == before


def test_metrics_count_runs_by_status(client):
    Trace.objects.create(id="a", status=1, running=3, created_ms=1, updated_ms=1)
    Trace.objects.create(id="b", status=2, ended_ms=5, created_ms=1, updated_ms=1)

    families = scrape(client)

    assert {sample.labels["status"]: sample.value for sample in families["tower_traces"].samples} == {
        "RUNNING": 1,
        "SUCCESS": 1,
    }
    assert families["tower_tasks_running"].samples[0].value == 3


def test_a_program_on_this_machine_may_scrape(client):
    assert client.get("/metrics", REMOTE_ADDR="127.0.0.1").status_code == 200


@pytest.mark.parametrize(
    "came",
    [{"REMOTE_ADDR": "10.0.0.7"}, {"HTTP_X_FORWARDED_FOR": "10.0.0.7"}, {"HTTP_FORWARDED": "for=10.0.0.7"}],
)
def test_a_program_elsewhere_needs_a_token_that_reads(client, came):
    assert client.get("/metrics", **came).status_code == 401
    for scope, status in (("ingest", 403), ("read", 200)):
        token = make_token(scope, [scope])
        assert client.get("/metrics", HTTP_AUTHORIZATION=f"Bearer {token}", **came).status_code == status


def test_a_wrong_token_is_refused_even_from_this_machine(client):
    assert client.get("/metrics", HTTP_AUTHORIZATION="Bearer nonsense").status_code == 401


def test_a_viewer_may_scrape_from_anywhere_and_a_stranger_not(client):
    user = User.objects.create_user("v", password="a long password")
    client.force_login(user)
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7").status_code == 403

    user.groups.add(Group.objects.get(name="viewer"))

    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7").status_code == 200


def test_no_label_holds_an_id():
    allowed = {
        "source", "verdict", "result", "action", "deed", "reason", "route", "method", "status", "code",
        "sqlstate", "kind",
    }  # fmt: skip
    for metric in vars(metrics).values():
        assert set(getattr(metric, "_labelnames", ())) <= allowed


def test_a_route_is_a_name_and_not_a_path(live_tower):
    live_tower.get("traces/no-such-trace/")

    # A request is counted when it is over, which its answer may be a little before.
    def counted():
        text = live_tower.call("GET", "/metrics", Accept="*/*")[1]
        return re.search(r'tower_http_requests_total\{.*route="api:trace".*\}', text) and text

    assert "no-such-trace" not in servers.until(counted, "the request is counted")
