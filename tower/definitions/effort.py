"""How much work a schema is. Pure. Nothing stops the checker, so what is too much must not reach it.

Eighteen schemas of two references each to the next, 1 KiB of text, take it seven
seconds, and a few more take it years (measured). What counts here is an upper
bound: each place in the parameters times each way that leads a schema to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from tower.wording import worded

Schema = Mapping[str, Any]

#: Ways to one place in the parameters; and references in a row. A person writes a handful.
MOST_WAYS, LONGEST_WAY = 1_000, 100
#: To judge the parameters of one run; a fraction of a second.
MOST_STEPS = 500_000
#: To say of all that is wrong where it stands, which costs far more than to see that something is.
MOST_TOLD = 10_000
#: To know the keys that nobody looked at, all is looked at again, at each level (measured: three times).
AGAIN = 4

_TABLE_ROWS_A_STEP = 16
_CHARACTERS_A_STEP = 2


class TooMuch(Exception):
    """The schema cannot be judged, or not in time: where, and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(why)
        self.path, self.why = path, why


@dataclass(slots=True, eq=False)
class Plan:
    """What one schema looks at, whatever it thinks of it."""

    path: str
    #: Others that look at the same place.
    same: list[Plan] = field(default_factory=list)
    #: Those that look at members, by name, at every one, at every one that has no name here, and at keys.
    named: dict[str, Plan] = field(default_factory=dict)
    each: list[Plan] = field(default_factory=list)
    rest: list[Plan] = field(default_factory=list)
    keys: list[Plan] = field(default_factory=list)
    #: Those that look at items: lists of one for each of the first, and those for every one.
    first: list[list[Plan | None]] = field(default_factory=list)
    items: list[Plan] = field(default_factory=list)
    times: int = 1
    #: Patterns for a text, for each key of an object; rows of tables that an object is held against.
    pattern: bool = False
    key_patterns: int = 0
    rows: int = 0
    #: Of these rows each may have an error of its own.
    demands: int = 0

    def inside(self) -> Iterator[Plan]:
        yield from (*self.named.values(), *self.each, *self.rest, *self.keys, *self.items)
        yield from (plan for plans in self.first for plan in plans if plan)


@dataclass(frozen=True, slots=True)
class Effort:
    #: At most; not counted further once they are too many.
    steps: int
    errors: int


# -- when it is defined


def judged(schema: Schema) -> Plan:
    """Its plan; refuses with ``TooMuch`` what takes too long whatever the parameters are."""
    plan = planned(schema)
    ways: dict[Plan, int] = {}
    reached, waiting = {plan}, [plan]
    while waiting:
        one = waiting.pop()
        _ways(one, ways, 0)
        fresh = {*one.same, *one.inside()} - reached
        reached |= fresh
        waiting += fresh
    return plan


def _ways(plan: Plan, known: dict[Plan, int], depth: int) -> int:
    """How often a place is looked at that is looked at by this one; 0 stands for one under way."""
    found = known.get(plan)
    if found == 0:
        raise TooMuch(plan.path, worded("leads to itself at one and the same place"))
    if found is not None:
        return found
    if depth > LONGEST_WAY:
        said = worded("leads through more than %(most)s others to one place", most=LONGEST_WAY)
        raise TooMuch(plan.path, said)
    known[plan] = 0
    found = 1 + plan.times * sum(_ways(other, known, depth + 1) for other in plan.same)
    if found > MOST_WAYS:
        raise TooMuch(plan.path, worded("has more than %(most)s ways to one place", most=MOST_WAYS))
    known[plan] = found
    return found


# -- when a run is started


def effort(plan: Plan, params: Any) -> Effort:
    """Of checking these parameters."""
    steps = errors = 0
    # Iterators, since one schema may lead to more places than there is memory for.
    waiting = [iter([(plan, params, 1)])]
    while waiting and steps <= MOST_STEPS:
        for one, value, weight in waiting[-1]:
            steps += weight * (1 + _work(one, value))
            errors += 1 + one.demands
            waiting.append(_next(one, value, weight * one.times))
            break
        else:
            waiting.pop()
    return Effort(steps, errors)


def _work(plan: Plan, value: Any) -> int:
    """Of one schema at one place, beside the schemas in it."""
    if isinstance(value, str):
        return len(value) // _CHARACTERS_A_STEP if plan.pattern else 0
    if not isinstance(value, dict):
        return 0
    read = sum(1 + len(key) // _CHARACTERS_A_STEP for key in value) if plan.key_patterns else 0
    return plan.rows // _TABLE_ROWS_A_STEP + plan.key_patterns * read


def _next(plan: Plan, value: Any, weight: int) -> Iterator[tuple[Plan, Any, int]]:
    for other in plan.same:
        yield other, value, weight
    if isinstance(value, dict):
        for key, inner in value.items():
            if (known := plan.named.get(key)) is not None:
                yield known, inner, weight
            for other in plan.each if known else (*plan.each, *plan.rest):
                yield other, inner, weight
            for other in plan.keys:
                yield other, key, weight
    elif isinstance(value, list):
        for others in plan.first:
            for first, inner in zip(others, value, strict=False):
                if first is not None:
                    yield first, inner, weight
        for other in plan.items:
            for inner in value:
                yield other, inner, weight


# -- reading a schema

_SAME_ONE = ("not", "if", "then", "else")
_SAME_LIST = ("allOf", "anyOf", "oneOf")
_SAME_NAMED = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_REST = ("additionalProperties", "unevaluatedProperties")
_FIRST = ("prefixItems", "items")
_ITEMS = ("items", "additionalItems", "unevaluatedItems", "contains")
_DEMANDS = ("required", "dependentRequired", "dependencies")
_TABLES = ("properties", "dependentSchemas", *_DEMANDS)


def planned(schema: Schema) -> Plan:
    """Refuses with ``TooMuch`` references that could lead elsewhere for the checker than for us."""
    return _Reader(schema).plan


class _Reader:
    def __init__(self, root: Schema) -> None:
        self.root = root
        self.names_itself = "id" if "draft-04" in str(root.get("$schema", "")) else "$id"
        self.plans: dict[int, Plan] = {}
        self.waiting: list[tuple[Schema, Plan]] = []
        self.plan = self._of(root, "")
        while self.waiting:
            self._fill(*self.waiting.pop())

    def _of(self, schema: Schema, path: str) -> Plan:
        """One for each place in the text, to be filled later: they may go round in a ring."""
        if (known := self.plans.get(id(schema))) is None:
            known = self.plans[id(schema)] = Plan(path)
            self.waiting.append((schema, known))
        return known

    def _fill(self, schema: Schema, plan: Plan) -> None:
        at = plan.path
        if schema is not self.root and isinstance(schema.get(self.names_itself), str):
            raise TooMuch(at, worded("a schema inside may not have an id of its own"))
        plan.same += self._ones(schema, _SAME_ONE, at)
        for key in _SAME_LIST:
            plan.same += [one for one in self._list(schema, key, at) if one]
        for key in _SAME_NAMED:
            plan.same += self._table(schema, key, at).values()
        for key in _REFERENCES:
            if isinstance(reference := schema.get(key), str):
                plan.same += self._led_to(reference, f"{at}/{key}")
        plan.named = self._table(schema, "properties", at)
        plan.each += self._table(schema, "patternProperties", at).values()
        plan.rest += self._ones(schema, _REST, at)
        plan.keys += self._ones(schema, ("propertyNames",), at)
        plan.first += [self._list(schema, key, at) for key in _FIRST]
        plan.items += self._ones(schema, _ITEMS, at)
        plan.times = AGAIN if "unevaluatedProperties" in schema or "unevaluatedItems" in schema else 1
        plan.pattern = "pattern" in schema
        plan.key_patterns = len(plan.each)
        plan.rows = sum(_length(schema.get(key)) for key in _TABLES)
        plan.demands = sum(_length(schema.get(key)) for key in _DEMANDS)

    def _ones(self, schema: Schema, keys: tuple[str, ...], at: str) -> list[Plan]:
        return [self._of(one, f"{at}/{key}") for key in keys if isinstance(one := schema.get(key), dict)]

    def _list(self, schema: Schema, key: str, at: str) -> list[Plan | None]:
        found = schema.get(key)
        return [
            self._of(one, f"{at}/{key}/{n}") if isinstance(one, dict) else None
            for n, one in enumerate(found if isinstance(found, list) else ())
        ]

    def _table(self, schema: Schema, key: str, at: str) -> dict[str, Plan]:
        found = schema.get(key)
        return {
            name: self._of(one, f"{at}/{key}/{name}")
            for name, one in (found if isinstance(found, dict) else {}).items()
            if isinstance(one, dict)
        }

    def _led_to(self, reference: str, at: str) -> list[Plan]:
        if not reference.startswith("#"):
            said = worded("a reference must begin with #, and so lead to a place in this schema")
            raise TooMuch(at, said)
        name = unquote(reference[1:])
        if name[:1] in {"", "/"}:
            return [self._of(one, name) for one in _pointed(name, self.root)]
        # Which one of those that bear the name counts is decided while checking.
        return [self._of(one, reference) for one in self.anchored.get(name, ())]

    @cached_property
    def anchored(self) -> Mapping[str, list[Schema]]:
        found: dict[str, list[Schema]] = {}
        for one in _objects(self.root):
            for name in (one.get("$anchor"), one.get("$dynamicAnchor")):
                if isinstance(name, str):
                    found.setdefault(name, []).append(one)
        return found


def _length(table: Any) -> int:
    return len(table) if isinstance(table, dict | list) else 0


def _pointed(pointer: str, here: Any) -> Iterator[Schema]:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(here, list):
            here = here[int(key)] if key.isdecimal() and int(key) < len(here) else None
        else:
            here = here.get(key) if isinstance(here, dict) else None
    if isinstance(here, dict):
        yield here


def _objects(here: Any) -> Iterator[Schema]:
    if isinstance(here, dict):
        yield here
        here = list(here.values())
    if isinstance(here, list):
        for inner in here:
            yield from _objects(inner)
