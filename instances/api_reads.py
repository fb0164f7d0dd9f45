"""GET of traces and tasks. A view finds, shapes, answers; statements stand in ``reads`` and ``snapshot``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import orjson
from django.conf import settings
from django.http import HttpResponse

from instances import attempts, eventlog, reads, snapshot
from instances.api import StartRun
from instances.collected import context_of
from instances.finding import SORTS, Condition, Sort, begins_with, find, has, labelled, made
from instances.intents import command
from instances.lifecycle import AttemptSummary, Origin
from instances.reads import Head, Places, Row, at_one_moment
from tower.api import TowerView, answer
from tower.errors import NotFound, TowerError
from tower.paging import PAGED, page
from tower.reading import Query, invalid_query
from tower.schemas import ACTIONS, STATUSES, ControlAction

#: No list query may take longer.
LIST_SECONDS = 2.0
#: A page of a tree ends here, or at its limit.
MOST_BYTES = 16 << 20
#: Rows fetched before it is known how large they are; one may have 256 KiB of parameters.
FIRST_ROWS = 256
#: Tasks written by one call: one for each makes and shrinks a buffer, and all at once leave the cache.
AT_ONCE = 64


# -- the list of runs

FILTERS = PAGED | {"status", "job_id", "label", "q", "created_after", "created_before"}


class TracesView(StartRun):
    def get(self, request: Any) -> HttpResponse:
        query = Query(request, allowed=FILTERS)
        return answer(page_of_runs(request, query, filters(query)))


def page_of_runs(
    request: Any, query: Query, conditions: Sequence[Condition], sort: Sort = SORTS[""]
) -> dict[str, Any]:
    """Summaries in the order of ``sort``; the page of all runs shows the same."""

    def after(position: Any, limit: int) -> list[Head]:
        return reads.heads_in_order(find(conditions, sort, position, limit))

    def before(position: Any, limit: int) -> list[Head]:
        return reads.heads_in_order(find(conditions, sort.turned, position, limit)[::-1])

    with at_one_moment(LIST_SECONDS):
        body = page(request, query, after, sort.position, "traces", rows_before=before)
        body["results"] = reads.summaries(body["results"])
    return body


def filters(query: Query) -> list[Condition]:
    found: list[Condition] = []
    if status := query.choice("status", STATUSES):
        found.append(has("status", STATUSES.index(status)))
    if job_id := query.text("job_id", 64):
        found.append(has("job_id", job_id))
    for label in query.texts("label", 321):
        key, colon, value = label.partition(":")
        if not colon:
            raise invalid_query("label", "A label is given as key:value")
        found.append(labelled(key, value))
    if prefix := query.text("q", 200):
        found.append(begins_with(prefix))
    for name, sign in (("created_after", ">="), ("created_before", "<")):
        if when := query.when(name):
            found.append(made(sign, round(when.timestamp() * 1_000)))
    return found


# -- one trace


class TraceView(TowerView):
    def get(self, request: Any, trace_id: str) -> HttpResponse:
        Query(request, allowed=())
        with at_one_moment():
            return answer(reads.summaries([reads.head(trace_id)])[0])


class TreeView(TowerView):
    def get(self, request: Any, trace_id: str) -> HttpResponse:
        query = Query(request, allowed={"root", "depth", "after", "limit", "fields"})
        limit = query.integer("limit", settings.TOWER_TREE_LIMIT, 1, settings.TOWER_TREE_LIMIT)
        fields = fields_of(query)
        with at_one_moment():
            head = reads.head(trace_id)
            intents = reads.asked_of(head.number)
            parent = reads.skeleton(head)
            order = part_of(query, head, parent)
            start = start_of(query, head, order)
            places = Places(head.id, head.root_n, intents, parent, {})
            nodes = tree_nodes(head, places, order[start : start + limit], fields)
        return in_pieces(
            {"trace_id": head.id, "seq": head.seq, "total": len(order), "intents": intents.as_json()}, nodes
        )


def part_of(query: Query, head: Head, parent: dict[int, int | None]) -> list[int]:
    """The tasks that the query names, in pre-order."""
    order = reads.pre_order(parent, head.root_n)
    base = 0
    if root := query.text("root", 64):
        n = reads.n_of(head.number, root)
        if n is None:
            raise NotFound("There is no such task in this trace.", task_id=root)
        at, base = next((at, depth) for at, (other, depth) in enumerate(order) if other == n)
        order = [order[at], *takewhile(lambda place: place[1] > base, order[at + 1 :])]
    deepest = query.integer("depth", -1, 0, 1 << 31)
    return [n for n, depth in order if deepest < 0 or depth - base <= deepest]


def start_of(query: Query, head: Head, order: Sequence[int]) -> int:
    after = query.text("after", 64)
    if not after:
        return 0
    n = reads.n_of(head.number, after)
    if n is None or n not in set(order):
        raise invalid_query("after", "There is no such task here")
    return order.index(n) + 1


def fields_of(query: Query) -> frozenset[str] | None:
    asked = query.text("fields", 1_000)
    if not asked:
        return None
    fields = frozenset(asked.split(","))
    if unknown := sorted(fields - set(reads.FIELDS)):
        raise invalid_query("fields", f"There is no field {unknown[0]}", allowed=list(reads.FIELDS))
    # The id leads to the next page.
    return fields | {"id"}


def tree_nodes(head: Head, places: Places, page: Sequence[int], fields: frozenset[str] | None) -> list[bytes]:
    """Tasks as JSON, some to a piece, until they are too many bytes; at least one."""
    pieces: list[bytes] = []
    size = taken = 0
    while taken < len(page) and size < MOST_BYTES:
        part = page[taken : taken + rows_that_fit(taken, size)]
        # Most of a tree is read faster by its range than key by key.
        most = 2 * len(part) > head.total
        rows = {
            row[0]: row for row in (reads.all_details(head) if most else reads.details(head.number, part))
        }
        places.ids.update((n, row[1]) for n, row in rows.items())
        learn_ids(head, places, part)
        versions = reads.versions_in(rows.values())
        for few in (part[at : at + AT_ONCE] for at in range(0, len(part), AT_ONCE)):
            nodes = [reads.task_json(rows[n], places, versions) for n in few]
            if fields is not None:
                nodes = [{name: node[name] for name in fields} for node in nodes]
            piece = orjson.dumps(nodes)[1:-1]
            size += len(piece) + 1
            if size > MOST_BYTES:
                return pieces + nodes_that_fit(nodes, MOST_BYTES - size + len(piece) + 1, not pieces)
            pieces.append(piece)
        taken += len(part)
    return pieces


def nodes_that_fit(nodes: Sequence[dict[str, Any]], room: int, at_least_one: bool) -> list[bytes]:
    pieces: list[bytes] = []
    for node in nodes:
        piece = orjson.dumps(node)
        room -= len(piece) + 1
        if room < 0 and (pieces or not at_least_one):
            break
        pieces.append(piece)
    return pieces


def rows_that_fit(taken: int, size: int) -> int:
    return FIRST_ROWS if not taken else max(FIRST_ROWS, (MOST_BYTES - size) * taken // size)


def learn_ids(head: Head, places: Places, part: Sequence[int]) -> None:
    """The ids of all above a part of the tree, without which no path can be written."""
    unknown: set[int] = set()
    for n in part:
        up = places.parent[n]
        while up is not None and up not in places.ids and up not in unknown:
            unknown.add(up)
            up = places.parent[up]
    if unknown:
        places.ids.update(reads.ids_of(head.number, unknown))


def in_pieces(rest: dict[str, Any], nodes: Sequence[bytes]) -> HttpResponse:
    """``rest`` with ``nodes``, which are JSON already."""
    # Each join copies all of it: one is enough.
    first, last = orjson.dumps(rest)[:-1] + b',"nodes":[', b"]}"
    if nodes:
        nodes = [first + nodes[0], *nodes[1:]]
        nodes[-1] += last
    else:
        nodes = [first + last]
    return HttpResponse(b",".join(nodes), content_type="application/json")


class ChangesView(TowerView):
    def get(self, request: Any, trace_id: str) -> HttpResponse:
        query = Query(request, allowed={"since"})
        since = query.integer("since", 0, 0, (1 << 63) - 1, cut=False)
        limit = settings.TOWER_TREE_LIMIT
        with at_one_moment():
            head = reads.head(trace_id)
            intents = reads.asked_of(head.number)
            rows = reads.details_since(head, since, limit + 1)
            parent, ids = reads.with_all_above(head.number, [row[0] for row in rows])
            places = Places(head.id, head.root_n, intents, parent, ids)
            whole, seq = whole_revisions(rows, limit, head.seq)
            nodes, seq = revisions_that_fit(whole, places, seq)
        rest: dict[str, Any] = {"trace_id": head.id, "seq": seq, "intents": intents.as_json()}
        if since > head.seq or (rows and not nodes):
            return answer({"trace_id": head.id, "seq": head.seq, "reset": True})
        if seq < head.seq:
            rest["more"] = True
        return in_pieces(rest, nodes)


def whole_revisions(rows: list[Row], limit: int, seq: int) -> tuple[list[Row], int]:
    """Rows in order of ``rev`` cut at the limit between two of them, and the ``seq`` that they reach."""
    if len(rows) <= limit:
        return rows, seq
    cut = revision(rows[limit])
    kept = [row for row in rows if revision(row) < cut]
    return kept, revision(kept[-1]) if kept else seq


def revisions_that_fit(rows: list[Row], places: Places, seq: int) -> tuple[list[bytes], int]:
    """The same for the bytes of the answer."""
    versions = reads.versions_in(rows)
    pieces: list[bytes] = []
    size = 0
    for at, row in enumerate(rows):
        pieces.append(orjson.dumps(reads.task_json(row, places, versions)))
        size += len(pieces[-1]) + 1
        if size > MOST_BYTES:
            kept = [row for row in rows[:at] if revision(row) < revision(rows[at])]
            return pieces[: len(kept)], revision(kept[-1]) if kept else seq
    return pieces, seq


def revision(row: Row) -> int:
    return int(row[19])


class SnapshotView(TowerView):
    """Columns for the browser (``docs/live.md``); 304 where nothing has changed."""

    def get(self, request: Any, trace_id: str) -> HttpResponse:
        Query(request, allowed=())
        epoch = snapshot.epoch()
        with at_one_moment():
            head = reads.head(trace_id)
            tag = snapshot.tag(epoch, head)
            if tag in [known.strip() for known in request.META.get("HTTP_IF_NONE_MATCH", "").split(",")]:
                return tagged(HttpResponse(status=304), tag)
            intents = reads.asked_of(head.number)
            found = snapshot.columns(head)
        body = snapshot.snapshot(head, intents, epoch, found)
        zipped = "gzip" in request.META.get("HTTP_ACCEPT_ENCODING", "")
        response = HttpResponse(
            snapshot.compressed(body) if zipped else body, content_type="application/json"
        )
        if zipped:
            response["Content-Encoding"] = "gzip"
        return tagged(response, tag)


def tagged(response: HttpResponse, tag: str) -> HttpResponse:
    response["ETag"] = tag
    response["Cache-Control"] = "private, no-cache"
    response["Vary"] = "Accept-Encoding, Authorization, Cookie"
    return response


# -- one task


def the_task(query: Query, task_id: str) -> tuple[Head, int]:
    trace_id = query.text("trace_id", 64)
    found = reads.where_is(task_id, trace_id or None)
    if not found:
        raise NotFound("There is no such task.", task_id=task_id)
    if len(found) > 1:
        raise TowerError(
            "Several traces have a task of this id; name one with ?trace_id=.",
            code="ambiguous_task",
            http_status=409,
            task_id=task_id,
        )
    return found[0]


class TaskView(TowerView):
    def get(self, request: Any, task_id: str) -> HttpResponse:
        query = Query(request, allowed={"trace_id", "fields"})
        fields = fields_of(query)
        with at_one_moment():
            head, n = the_task(query, task_id)
            parent, ids = reads.with_all_above(head.number, [n])
            places = Places(head.id, head.root_n, reads.asked_of(head.number), parent, ids)
            rows = reads.details(head.number, [n])
            did = attempts_json(head.number, n) if fields is None else {}
        task = reads.task_json(rows[0], places, reads.versions_in(rows))
        return answer(task | did if fields is None else {name: task[name] for name in task if name in fields})


def attempts_json(number: int, n: int) -> dict[str, Any]:
    node = attempts.node_of(number, n)
    found = attempts.attempts(node) if node is not None else attempts.Attempts([])
    return {"attempts": [attempt_json(one) for one in found.shown], "attempts_left_out": found.left_out}


def attempt_json(one: AttemptSummary) -> dict[str, Any]:
    return {
        "attempt": one.attempt,
        "status": STATUSES[one.status],
        "started_at": reads.iso(one.started_ms),
        "finished_at": reads.iso(one.finished_ms),
        "ending": one.ending,
        "origin": (Origin.TOWER if one.by_tower else Origin.ACTOR).name.lower() if one.ending else None,
        "reported_status": None if one.reported_status is None else STATUSES[one.reported_status],
        "timed_out_at": reads.iso(one.timed_out_ms),
        "worker": one.worker,
        "output_ref": one.output_ref,
        "error_code": one.error_code,
        "error_msg": one.error_msg,
        "reports": one.reports,
        "counted": one.counted,
    }


class CommandView(TowerView):
    def get(self, request: Any, task_id: str) -> HttpResponse:
        query = Query(request, allowed={"trace_id"})
        with at_one_moment():
            head, n = the_task(query, task_id)
            _, ids = reads.with_all_above(head.number, [n])
            intents = reads.asked_of(head.number)
        # In force for a task are those of all ids above it; their order on the path says nothing.
        found = command(ids.values(), intents.at)
        return answer(
            {
                "action": ACTIONS[found.action] if found else ControlAction.RUN,
                "control_id": found.control_id if found else None,
            }
        )


class AggregationView(TowerView):
    def get(self, request: Any, task_id: str) -> HttpResponse:
        query = Query(request, allowed={"trace_id", "after", "limit"})
        limit = query.integer("limit", settings.TOWER_PAGE_SIZE_MAX, 1, settings.TOWER_PAGE_SIZE_MAX)
        with at_one_moment(LIST_SECONDS):
            head, n = the_task(query, task_id)
            context = context_of(
                head.number, head.number << 32 | n, after=query.text("after", 64), limit=limit
            )
        return answer(
            {
                "aggregator_task_id": task_id,
                "expected_children": context.expected,
                "received_children": context.received,
                "late_children": context.late,
                "child_results": context.results,
                "is_ready": context.is_ready,
                "updated_at": reads.iso(context.updated_ms),
            }
        )


# -- the event log


class TraceEventsView(TowerView):
    def get(self, request: Any, trace_id: str) -> HttpResponse:
        query = Query(request, allowed=eventlog.FILTERS | {"task_id"})
        with at_one_moment(LIST_SECONDS):
            head = reads.head(trace_id)
            task = task_of(query, head)
            return answer(events(request, query, head, task))


class TaskEventsView(TowerView):
    def get(self, request: Any, task_id: str) -> HttpResponse:
        query = Query(request, allowed=eventlog.FILTERS | {"trace_id"})
        with at_one_moment(LIST_SECONDS):
            head, n = the_task(query, task_id)
            return answer(events(request, query, head, head.number << 32 | n))


def events(request: Any, query: Query, head: Head, task: int | None) -> dict[str, Any]:
    return eventlog.log_page(request, query, head, task=task, show=lambda entry: entry.as_json(head.id))


def task_of(query: Query, head: Head) -> int | None:
    """The task that a query names; -1, which no task has, where the trace has none of this id."""
    task_id = query.text("task_id", 64)
    if not task_id:
        return None
    n = reads.n_of(head.number, task_id)
    return -1 if n is None else head.number << 32 | n
