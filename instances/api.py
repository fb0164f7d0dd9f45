"""REST: registering, reporting, starting a run. Each view reads, calls one door, answers."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse

from instances import ingest
from instances.ingest import IngestReport, Registered, RegisterReport
from instances.intake import MOST_WARNINGS, run_request
from tower import reading
from tower.access import limits
from tower.api import TowerView, answer
from tower.errors import Refusal, Warned
from tower.schemas import STATUSES

#: Beyond this, paths are left out of an answer: 10,000 leaves below 1,000 levels would be 650 MB.
MOST_PATH_BYTES = 16 << 20


class ReportEvents(TowerView):
    def post(self, request: HttpRequest) -> HttpResponse:
        who = self.principal(request).key
        with limits.in_flight.one(who):
            return reported(ingest.reports_in(reading.read_batch(request)).stored(who))


class RegisterTasks(TowerView):
    def post(self, request: HttpRequest) -> HttpResponse:
        who = self.principal(request).key
        with limits.in_flight.one(who):
            return registered(ingest.registrations_in(reading.read_batch(request)).stored(who))


class StartRun(TowerView):
    def post(self, request: HttpRequest) -> HttpResponse:
        asked = run_request(reading.one(reading.parse(reading.read_body(request))))
        principal = self.principal(request)
        with limits.in_flight.one(principal.key):
            started = ingest.start_run(**asked, started_by=principal.name)
        told = {
            "trace_id": started.trace_id,
            "root_task_id": started.root_task_id,
            "created": started.created,
        }
        return answer(told, 201 if started.created else 200)


def reported(report: IngestReport) -> HttpResponse:
    body: dict[str, Any] = {
        "accepted": report.accepted,
        "duplicates": report.duplicates,
        "rejected": _rejected(report.rejected, "event_id"),
        "commands": report.commands,
    }
    return _mixed(body, report, done=report.accepted + report.duplicates)


def registered(report: RegisterReport) -> HttpResponse:
    body: dict[str, Any] = {
        "results": _results(report.results),
        "rejected": _rejected(report.rejected, "id"),
    }
    return _mixed(body, report, done=len(report.results), created=201)


def _mixed(
    body: dict[str, Any], report: IngestReport | RegisterReport, *, done: int, created: int = 200
) -> HttpResponse:
    """207 where some are refused, 400 where all are for what they say, 503 where nothing was stored."""
    if report.warnings:
        body["warnings"] = [warned.as_json() for warned in _by_index(report.warnings)]
    rejected = sorted(report.rejected, key=lambda entry: entry[0])
    if not rejected:
        return answer(body, created)
    if done:
        return answer(body, 207)
    body["error"] = rejected[0][2].as_json()
    return answer(body, 400)


def _by_index(warnings: list[Warned]) -> list[Warned]:
    return sorted(warnings, key=lambda warned: warned.index)[:MOST_WARNINGS]


def _rejected(rejected: list[tuple[int, Any, Refusal]], name: str) -> list[dict[str, Any]]:
    return [
        {"index": index, name: id, "error": refusal.as_json()}
        for index, id, refusal in sorted(rejected, key=lambda entry: entry[0])
    ]


def _results(results: list[Registered]) -> list[dict[str, Any]]:
    left, shown = MOST_PATH_BYTES, []
    for one in sorted(results, key=lambda result: result.index):
        path = node_path(one.trace_id, one.path, rooted=one.depth == len(one.path) - 1)
        left -= len(path)
        shown.append(
            {
                "id": one.id,
                "trace_id": one.trace_id,
                "status": STATUSES[one.status].value,
                "node_path": path if left >= 0 else None,
                "depth": one.depth,
                "created": one.created,
                "command": one.command,
            }
        )
    return shown


def node_path(trace_id: str, path: tuple[str, ...] | list[str], *, rooted: bool) -> str:
    """``/<trace id>/`` for a root, then one id a level; a top without a parent keeps its own id."""
    below = path[1:] if rooted else path
    return "/".join(["", trace_id, *below, ""])
