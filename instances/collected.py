"""Reads what an aggregator has collected: its AggregationContext (contract, section 3.10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from instances import rows
from instances.node import AGGREGATORS, Node
from instances.work import Work, source_of
from tower.errors import NotFound
from tower.reading import invalid_query
from tower.schemas import STATUSES


@dataclass(frozen=True, slots=True)
class Context:
    """``results`` is one page: the frozen ones in their order, then those that came late."""

    expected: int
    received: int
    late: int
    is_ready: bool
    updated_ms: int
    results: list[dict[str, Any]]


def context_of(tree: int, key: int, *, after: str, limit: int) -> Context:
    """What one aggregator collects, as it stands; ``after`` is the task id of the page before."""
    work = Work(0)
    work.look_at(tree)
    work.load_keys([key])
    node = work.nodes[key]
    if node.kind not in AGGREGATORS:
        raise NotFound(f"{node.id} collects nothing: it is no aggregator.", code="not_an_aggregator")
    work.load_above([node])
    return context_in(work, node, after=after, limit=limit)


def context_in(work: Work, node: Node, *, after: str, limit: int) -> Context:
    """The same of an aggregator that is loaded, with all above it."""
    gathering = work.gathering_of(node)
    frozen = node.frozen is not None
    kept, late = rows.count_results(node.key, source_of(node))
    ended = gathering.tally.ended if gathering is not None else 0
    return Context(
        expected=gathering.expected if gathering is not None else 0,
        received=kept if frozen else ended,
        late=late if frozen else 0,
        is_ready=frozen,
        updated_ms=node.frozen.at_ms if node.frozen is not None else node.updated_ms,
        results=_page(node, frozen, after, limit),
    )


def _page(node: Node, frozen: bool, after: str, limit: int) -> list[dict[str, Any]]:
    """Kept results by their position, then the rest by ``n``; before it is ready all are of the rest."""
    position: int | None = 0
    n = -1
    if after:
        found = rows.place_of_result(node.tree, node.key, after)
        if found is None:
            raise invalid_query("after", f"There is no task {after} in this trace.")
        position, n = found
    kept = rows.kept_results(node.key, position, limit) if position is not None else []
    left = limit - len(kept)
    rest = rows.other_results(node.key, source_of(node), n, left) if left else []
    return [_result(*row, late=False) for row in kept] + [_result(*row, late=frozen) for row in rest]


def _result(id: str, status: int, output_ref: str | None, *, late: bool) -> dict[str, Any]:
    return {"task_id": id, "status": STATUSES[status].value, "output_ref": output_ref, "late": late}
