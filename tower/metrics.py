"""Everything that is counted, in one place; import the object and feed it. No ids in labels.

Under `up` all processes of a machine count into one folder (PROMETHEUS_MULTIPROC_DIR),
and any web process answers for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

#: Apart from the library's own, so that a test or a reload never meets what a library registered.
REGISTRY = CollectorRegistry()

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def counter(name: str, help: str, *labels: str) -> Counter:
    return Counter(name, help, labels, registry=REGISTRY)


def histogram(name: str, help: str, *labels: str, buckets: tuple[float, ...] = FAST) -> Histogram:
    return Histogram(name, help, labels, registry=REGISTRY, buckets=buckets)


def gauge(name: str, help: str, *labels: str) -> Gauge:
    """Summed over the live processes."""
    return Gauge(name, help, labels, registry=REGISTRY, multiprocess_mode="livesum")


EVENTS = counter("tower_events_total", "Reports by what became of them", "source", "verdict")
INGEST_SECONDS = histogram("tower_ingest_batch_seconds", "One transaction of reports")
INGEST_EVENTS = histogram("tower_ingest_batch_events", "Reports in one transaction", buckets=SIZES)
FOLD_LAG_SECONDS = histogram(
    "tower_fold_lag_seconds",
    "From an actor's timestamp to the receipt of its report",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 3600),
)
REGISTRATIONS = counter("tower_registrations_total", "Registrations by result", "result")
QUEUE_LOST = counter("tower_queue_lost_total", "Entries of the queue that went unread")
DEAD_LETTERS = counter("tower_dead_letters_total", "Entries of the queue that could not be taken", "code")
CONTROLS = counter("tower_controls_total", "Controls asked, by result", "action", "result")
CONTROL_DELIVERY_SECONDS = histogram("tower_control_delivery_seconds", "From a control's commit to Redis")
CONTROL_EFFECT_SECONDS = histogram("tower_control_effect_seconds", "From a CANCEL to the end of its sweep")
SWEEP_SECONDS = histogram("tower_sweep_seconds", "One round of a deed of the sweeper", "deed")
DEAF_SECONDS = counter("tower_deaf_seconds_total", "Time that no clock counts, since nobody listened")
NUMBERING_SECONDS = histogram("tower_numbering_seconds", "Numbering one tree at rest")
WS_CONNECTIONS = gauge("tower_ws_connections", "Open websockets")
WS_DROPPED = counter("tower_ws_dropped_total", "Messages or sockets that were given up", "reason")
WS_RESETS = counter("tower_ws_resets_total", "Browsers told to load a tree anew")
LIVE_DELAY_SECONDS = histogram("tower_live_delay_seconds", "From a commit to the frame that shows it")
HTTP_REQUESTS = counter("tower_http_requests_total", "Requests answered", "route", "method", "status")
HTTP_SECONDS = histogram("tower_http_request_seconds", "From a request to the end of its answer", "route")
REJECTED = counter("tower_rejected_total", "Refused requests and items by code", "code")
DB_RETRIES = counter("tower_db_retries_total", "Batches repeated after a database's refusal", "sqlstate")
AUTH_FAILURES = counter("tower_auth_failures_total", "Refused credentials", "kind")


class Stored(Collector):
    """What the database knows, read when somebody asks."""

    def collect(self) -> Iterable[Metric]:
        from django.db import connection
        from django.db.models import Count, F, Sum

        import tower
        from controls.models import Beat
        from instances.models import Intent, QueuePause, Trace
        from tower.schemas import STATUSES

        build = GaugeMetricFamily("tower_build_info", "Version and database", labels=["version", "database"])
        build.add_metric([tower.__version__, connection.vendor], 1)
        yield build
        traces = GaugeMetricFamily("tower_traces", "Runs by status", labels=["status"])
        for status, count in Trace.objects.values_list("status").annotate(count=Count("*")):
            traces.add_metric([STATUSES[status].value], count)
        yield traces
        running = Trace.objects.filter(ended_ms=None).aggregate(total=Sum("running"))["total"] or 0
        yield GaugeMetricFamily("tower_tasks_running", "Tasks that run in runs not ended", value=running)
        undelivered = Intent.objects.filter(delivered_number__lt=F("number")).count()
        yield GaugeMetricFamily(
            "tower_commands_undelivered", "Controls that Redis does not know yet", value=undelivered
        )
        paused = QueuePause.objects.filter(resumed_ms=None).exists()
        yield GaugeMetricFamily(
            "tower_consumer_paused", "1 while consumers wait for consume --resume", value=paused
        )
        for beat in Beat.objects.filter(role="sweeper"):
            yield GaugeMetricFamily(
                "tower_sweep_last_timestamp_seconds",
                "The sweeper's last sign of life",
                value=beat.at_ms / 1000,
            )


class Queued(Collector):
    """What waits in the queue; nothing while that is away."""

    def collect(self) -> Iterable[Metric]:
        from instances.sources import SourceAway, queue

        try:
            waits = queue().standing()
        except SourceAway:
            return
        yield GaugeMetricFamily("tower_queue_lag_entries", "Entries nobody was handed yet", value=waits.lag)
        oldest = waits.oldest_ms / 1000
        yield GaugeMetricFamily(
            "tower_queue_oldest_seconds", "Age of the oldest entry not committed", value=oldest
        )
        yield GaugeMetricFamily(
            "tower_queue_pending_entries", "Entries handed out and not committed", value=waits.pending
        )


def total(metric: MetricWrapperBase) -> float:
    """What the processes of this machine have counted under all labels."""
    families = multiprocess.MultiProcessCollector(None).collect() if folder() else metric.collect()  # type: ignore[no-untyped-call]
    return sum(
        sample.value
        for family in families
        if family.name == metric._name
        for sample in family.samples
        if not sample.name.endswith("_created")
    )


def folder() -> str:
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")


def exposition() -> bytes:
    """The Prometheus text of this machine's processes and of the database."""
    stored = CollectorRegistry()
    stored.register(Stored())
    stored.register(Queued())
    counted = REGISTRY
    if folder():
        counted = CollectorRegistry()
        multiprocess.MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
    return generate_latest(counted) + generate_latest(stored)


def empty_folder(path: Path) -> None:
    """For the start of a process tree: the counts of the last one belong to processes that are gone."""
    path.mkdir(parents=True, exist_ok=True)
    for file in path.glob("*.db"):
        file.unlink()
