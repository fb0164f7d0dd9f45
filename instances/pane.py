"""What the pane of one task says beyond its row: attempts, joins, and why its status stands. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from django.db.models import Count, Exists, OuterRef, QuerySet
from django.db.models.functions import Length
from django.utils.translation import gettext as _

from instances import attempts, sentences, waiting
from instances.accounts import account
from instances.aggregation import Tally
from instances.collected import Context, context_in
from instances.lifecycle import RUNNING, AttemptSummary
from instances.models import Collected, Deadline, FrozenResult, TaskBody, TaskInstance, TaskSaid
from instances.node import AGGREGATORS, Node
from instances.pieces import Sentence, as_json
from instances.sentences import Named
from instances.waiting import By, Waiting
from instances.work import Work, source_of
from tower.definitions import rules
from tower.marks import BAR_ORDER, count
from tower.schemas import STATUSES

#: Tasks that a sentence names; the others are counted.
NAMED: Final = 5
#: Results of an aggregator on one page.
RESULTS: Final = 50


@dataclass(frozen=True, slots=True)
class AttemptLine:
    number: int
    status: str
    text: str
    notes: list[Sentence]
    started_ms: int | None
    finished_ms: int | None
    reports: str

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "status": self.status,
            "text": self.text,
            "notes": as_json(self.notes),
            "started_ms": self.started_ms,
            "finished_ms": self.finished_ms,
            "reports": self.reports,
        }


@dataclass(frozen=True, slots=True)
class JoinTab:
    """``after``: the task id that the next page of results follows; empty where this is the last."""

    say: list[Sentence]
    counts: list[tuple[str, int]]
    facts: list[tuple[str, str]]
    context: Context | None
    after: str

    def as_json(self) -> dict[str, Any]:
        return {
            "say": as_json(self.say),
            "counts": self.counts,
            "facts": self.facts,
            "results": None if self.context is None else self.context.results,
            "after": self.after,
        }


@dataclass(frozen=True, slots=True)
class Pane:
    """``alike``: who else failed with the same code. ``parameters``: how many letters of JSON they are."""

    say: list[Sentence]
    attempts: list[AttemptLine]
    left_out: int
    join: JoinTab | None
    alike: list[Sentence]
    parameters: int

    def as_json(self) -> dict[str, Any]:
        return {
            "say": as_json(self.say),
            "attempts": [line.as_json() for line in self.attempts],
            "left_out": self.left_out,
            "join": None if self.join is None else self.join.as_json(),
            "alike": as_json(self.alike),
            "parameters": self.parameters,
        }


def pane_of(tree: int, n: int, *, said: TaskSaid | None = None, after: str = "") -> Pane | None:
    """None where there is no such task. ``after`` is of the results that an aggregator collects."""
    key = tree << 32 | n
    work = Work(0)
    work.look_at(tree)
    work.load_keys([key])
    node = work.nodes.get(key)
    if node is None:
        return None
    if node.kind in AGGREGATORS or (work.traces[tree].branches and not node.ended):
        work.load_above([node])
    known = said or TaskSaid.objects.filter(task=key).first() or TaskSaid(task=key)
    join = _join(work, node, after)
    found = attempts.Attempts([]) if attempts.uneventful(node) else attempts.attempts(node)
    return Pane(
        say=[*_account(work, node, known), *(join.say[:1] if join else [])],
        attempts=[_line(one) for one in reversed(found.shown)],
        left_out=found.left_out,
        join=join,
        alike=sentences.alike(_alike(node, known)),
        parameters=TaskBody.objects.filter(task=key).values_list(Length("input_params"), flat=True).first()
        or 0,
    )


def _alike(node: Node, said: TaskSaid) -> Named:
    if not said.error_code:
        return sentences.NOBODY
    low = node.tree << 32
    others = (
        TaskSaid.objects.filter(error_code=said.error_code, task__gte=low, task__lt=low + (1 << 32))
        .exclude(task=node.key)
        .order_by("task")
    )
    first = list(others.values_list("task", flat=True)[:NAMED])
    if not first:
        return sentences.NOBODY
    tasks = TaskInstance.objects.filter(key__in=first).order_by("key").values_list("id", "name")
    return Named([(id, name or id) for id, name in tasks], others.count() - len(first))


def _line(one: AttemptSummary) -> AttemptLine:
    return AttemptLine(
        one.attempt,
        STATUSES[one.status].value,
        sentences.attempt(one),
        sentences.attempt_notes(one),
        one.started_ms,
        one.finished_ms,
        sentences.reports(one.reports),
    )


def _account(work: Work, node: Node, said: TaskSaid) -> list[Sentence]:
    facts = account(
        status=node.status,
        reported=node.reported_status,
        own=node.own,
        killed_ms=node.killed_ms,
        unacknowledged=bool(said.error_code),
        timed_out=node.timed_out,
        cap=node.cap,
        by_children=work.ends_by_children(node),
    )
    if facts is None:
        return []
    limit = None if node.version is None else rules.version(node.version).timeout_sec
    grace = work.grace_ms(node) // 1000
    return [sentences.account(facts, timeout_sec=limit, grace_sec=grace, join=work.join_of(node))]


# -- joins


def _join(work: Work, node: Node, after: str) -> JoinTab | None:
    if node.kind in AGGREGATORS:
        return _collected(work, node, after)
    standing = work.standing_of(node) if _may_cover(work, node) else None
    facts = None if standing is None else waiting.of_children(standing, status=node.status)
    if facts is None:
        return None
    say = sentences.waiting(facts, names=_names(node, facts, _below(node, facts)))
    return JoinTab(say, _counts(facts), _facts(facts), None, "")


def _may_cover(work: Work, node: Node) -> bool:
    """A leaf waits for nobody; for others what is asked above has to be at hand."""
    if node.childless and not node.planned:
        return False
    work.load_above([node])
    return True


def _collected(work: Work, node: Node, after: str) -> JoinTab | None:
    gathering = work.gathering_of(node)
    if gathering is None or not (gathering.tally.total or gathering.expected or node.named):
        return None
    facts = waiting.of_collected(gathering, work.standing_of(node), frozen=node.frozen is not None)
    if node.frozen is not None:
        facts = replace(facts, tally=_frozen(node), need=None)
    context = context_in(work, node, after=after, limit=RESULTS + 1)
    quiet = Deadline.objects.filter(task=node.key, kind=Deadline.QUIET) if facts.quiet else None
    say = sentences.waiting(
        facts,
        names=_names(node, facts, _sources(node)),
        missing=_unheard(node, facts),
        quiet_ms=quiet.values_list("due_ms", flat=True).first() if quiet is not None else None,
        ready=node.frozen,
        late=context.late,
    )
    more = len(context.results) > RESULTS
    del context.results[RESULTS:]
    return JoinTab(
        say,
        _counts(facts),
        [*_facts(facts), (_("Received"), count(context.received)), (_("Late"), count(context.late))],
        context,
        context.results[-1]["task_id"] if more else "",
    )


def _frozen(node: Node) -> Tally:
    """What stood when it became ready; what came later is not among it."""
    tally = Tally()
    kept = FrozenResult.objects.filter(aggregator=node.key).order_by().values_list("status")
    for status, number in kept.annotate(Count("status")):
        tally.by_status[status] = number
    return tally


def _counts(facts: Waiting) -> list[tuple[str, int]]:
    tally = facts.tally.by_status
    return [(s.value, tally[STATUSES.index(s)]) for s in BAR_ORDER if tally[STATUSES.index(s)]]


def _facts(facts: Waiting) -> list[tuple[str, str]]:
    found = [(_("Policy"), sentences.policy(facts.join))] if facts.by is not By.ACTOR else []
    if facts.need is not None and facts.by is not By.ACTOR:
        found.append((_("Needs"), count(facts.need)))
    return [*found, (_("Expected"), count(facts.of)), (_("Not here yet"), count(facts.missing))]


Tasks = QuerySet[TaskInstance]


def _below(node: Node, facts: Waiting) -> Tasks:
    below: Tasks = TaskInstance.objects.filter(parent_id=node.key)
    return below.filter(kind=1) if facts.by is By.AGGREGATORS else below.exclude(kind=1)


def _sources(node: Node) -> Tasks:
    """The tasks that an aggregator collects."""
    source: Mapping[str, Any] = {
        "children": {"parent_id": node.key},
        "siblings": {"parent_id": node.parent},
        "named": {
            "tree_id": node.tree,
            "id__in": Collected.objects.filter(aggregator=node.key).values("task_id"),
        },
    }
    name = source_of(node)
    found: Tasks = TaskInstance.objects.filter(**source[name])
    return found if name == "named" else found.exclude(kind=1)


def _names(node: Node, facts: Waiting, tasks: Tasks) -> Named:
    still_open = facts.tally.still_open
    if facts.over or not still_open or facts.by is By.ACTOR:
        return sentences.NOBODY
    # The range of the trace: PostgreSQL may walk the primary key for the order, and then no other trace's.
    low = node.tree << 32
    of_the_trace = tasks.filter(status__lte=RUNNING, key__gte=low, key__lt=low + (1 << 32))
    found = of_the_trace.order_by("key").values_list("id", "name")[:NAMED]
    named = [(id, name or id) for id, name in found]
    return Named(named, max(0, still_open - len(named)))


def _unheard(node: Node, facts: Waiting) -> Named:
    if node.named is None or not facts.missing:
        return sentences.NOBODY
    known = TaskInstance.objects.filter(tree_id=node.tree, id=OuterRef("task_id"))
    ids = Collected.objects.filter(~Exists(known), aggregator=node.key).order_by("task_id")
    named = [(id, id) for id in ids.values_list("task_id", flat=True)[:NAMED]]
    return Named(named, max(0, facts.missing - len(named)))
