"""Broken, hostile and odd events and registrations, by the numbers of the table of bad input.

Each refused item leaves every row as it was; the others of its batch are applied.
"""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from django.test import Client

from instances.models import Event, TaskBody, TaskInstance, TaskSaid, Trace
from tower.access.tokens import make_token

pytestmark = pytest.mark.django_db(transaction=True)
serial = itertools.count(1)


class Api:
    """An actor's client with a token of scope ``ingest``."""

    def __init__(self) -> None:
        token = make_token("actor", ["ingest", "read"])
        self.client = Client(headers={"Authorization": f"Bearer {token}"})

    def raw(self, path: str, body: bytes) -> tuple[int, Any]:
        answer = self.client.post(f"/api/v1/{path}/", body, content_type="application/json")
        return answer.status_code, json.loads(answer.content)

    def events(self, *items: Any) -> tuple[int, Any]:
        return self.raw("events", json.dumps(list(items)).encode())

    def tasks(self, *items: Any) -> tuple[int, Any]:
        return self.raw("tasks", json.dumps(list(items)).encode())


@pytest.fixture
def api() -> Api:
    api = Api()
    family = [task(id="r", parent_id=None, split_count=2), task(id="a"), task(id="b")]
    assert api.tasks(*family)[0] == 201
    return api


def event(**changes: Any) -> dict[str, Any]:
    body = {
        "event_id": f"e{next(serial)}",
        "trace_id": "T",
        "task_id": "a",
        "event_type": "PROGRESS",
        "payload": {},
        "timestamp_ms": int(time.time() * 1000),
    }
    return {key: value for key, value in {**body, **changes}.items() if value is not ABSENT}


def task(**changes: Any) -> dict[str, Any]:
    body = {
        "id": f"t{next(serial)}",
        "trace_id": "T",
        "parent_id": "r",
        "job_id": "j",
        "actor_type": "EXECUTION",
    }
    return {key: value for key, value in {**body, **changes}.items() if value is not ABSENT}


ABSENT = object()


def rows() -> list[Any]:
    """Everything that an item could have changed."""
    tables = (Trace, TaskInstance, TaskBody, TaskSaid, Event)
    return [list(table._base_manager.order_by("pk").values()) for table in tables]


def refused(answer: tuple[int, Any]) -> tuple[str, str]:
    """(code, field) of the one item that was refused alone."""
    status, body = answer
    assert status == 400, body
    assert body["error"] == body["rejected"][0]["error"]
    error = body["rejected"][0]["error"]
    return error["code"], error["details"].get("field", "")


EVENTS: list[tuple[str, dict[str, Any], str, str]] = [
    *[(f"b20_no_{f}", {f: ABSENT}, "missing_field", f) for f in ("event_id", "trace_id", "task_id")],
    *[(f"b20_no_{f}", {f: ABSENT}, "missing_field", f) for f in ("event_type", "timestamp_ms")],
    *[
        (f"b22_id_{i}", {"task_id": bad}, "invalid_id", "task_id")
        for i, bad in enumerate(("", "x" * 65, 5, "a b", "a/b", "a%2fb", "é", "..", "-a", "_a", ":a", "a\n"))
    ],
    ("b23_the_id_global_action_is_reserved", {"task_id": "global_action"}, "reserved_id", "task_id"),
    ("b23_also_for_a_trace", {"trace_id": "global_action"}, "reserved_id", "trace_id"),
    *[
        (f"b26_type_{i}", {"event_type": bad}, "unknown_enum", "event_type")
        for i, bad in enumerate(("started", "DONE", ""))
    ],
    *[
        (f"b27_time_{i}", {"timestamp_ms": bad}, "timestamp_out_of_range", "timestamp_ms")
        for i, bad in enumerate((-1, 253402300800000, 2**63, 2**70))
    ],
    *[
        (f"b28_time_{i}", {"timestamp_ms": bad}, "invalid_type", "timestamp_ms")
        for i, bad in enumerate(("5", True, 1.5, None))
    ],
    *[
        (f"b36_payload_{i}", {"payload": bad}, "invalid_type", "payload")
        for i, bad in enumerate(json.loads('[[], "x", null, 5]'))
    ],
    *[
        (f"b38_attempt_{i}", {"payload": {"attempt": bad}}, "attempt_out_of_range", "payload.attempt")
        for i, bad in enumerate((0, 1.5, "2", 1001, 2**70))
    ],
    *[
        (f"b38_plan_{i}", {"payload": {"split_count": bad}}, "number_out_of_range", "payload.split_count")
        for i, bad in enumerate((-1, 10**9))
    ],
    *[
        (f"b39_{f}_too_long", {"payload": {f: "é" * 2048 + "x"}}, "too_large", f"payload.{f}")
        for f in ("message", "error_msg", "output_ref")
    ],
    ("b39_message_5", {"payload": {"message": 5}}, "invalid_type", "payload.message"),
    ("b19_payload_too_large", {"payload": {"x": "y" * (64 << 10)}}, "too_large", "payload"),
    ("b16_nul", {"payload": {"message": "a\0b"}}, "invalid_string", "payload.message"),
]


@pytest.mark.parametrize(
    ("changes", "code", "field"), [row[1:] for row in EVENTS], ids=[row[0] for row in EVENTS]
)
def test_a_broken_event_is_refused_by_its_field_and_changes_nothing(
    api: Api, changes: dict[str, Any], code: str, field: str
) -> None:
    before = rows()

    answer = api.events(event(**changes))

    assert refused(answer) == (code, field)
    assert rows() == before


def test_b4_what_is_no_object_is_refused_beside_a_good_one(api: Api) -> None:
    status, body = api.events(None, [], 5, event())

    assert (status, body["accepted"]) == (207, 1)
    assert [(r["index"], r["error"]["code"]) for r in body["rejected"]] == [
        (i, "invalid_type") for i in range(3)
    ]


def test_b12_b13_b14_depth_and_numbers_are_the_items_own_fault(api: Api) -> None:
    good, frame = json.dumps(event()), json.dumps(event(payload={"v": "@"}))
    for text, code in [
        ("[" * 64 + "]" * 64, "too_deep"),
        ("NaN", "number_out_of_range"),
        ("-Infinity", "number_out_of_range"),
        ("1e400", "number_out_of_range"),
        (str(2**63), "number_out_of_range"),
        (r'"\ud800"', "invalid_string"),
    ]:
        body = "[" + frame.replace('"@"', text) + "," + good + "]"
        status, answer = api.raw("events", body.encode())

        assert status == 207, text
        assert answer["rejected"][0]["error"]["code"] == code


def test_b15_the_last_of_two_equal_keys_wins(api: Api) -> None:
    one = json.dumps(event(event_id="twice", payload={"v": "@"})).replace('"@"', '1, "v": 2')

    assert api.raw("events", one.encode())[0] == 200
    assert json.loads(Event.objects.get(event_id="twice").payload) == {"v": 2}


def test_b18_right_to_left_marks_and_emoji_are_kept_as_they_came(api: Api) -> None:
    said = "\u202eabc\u200b🗼"

    assert api.events(event(payload={"message": said}))[0] == 200
    assert TaskSaid.objects.get().message == said


def warnings(answer: tuple[int, Any]) -> list[tuple[str, str]]:
    status, body = answer
    assert status in (200, 201), body
    return [(warned["code"], warned["field"]) for warned in body.get("warnings", [])]


def test_b21_an_unknown_field_is_named_and_a_full_dto_is_taken(api: Api) -> None:
    assert warnings(api.events(event(paylod={}))) == [("unknown_field", "paylod")]
    assert warnings(api.events(event(parent_id="r", actor_type="EXECUTION", status="RUNNING"))) == []
    assert warnings(api.tasks(task(depth=7, node_path="/x/", holds=False, colour=1))) == [
        ("unknown_field", "colour")
    ]


def test_b24_ids_that_differ_in_case_are_two_things(api: Api) -> None:
    status, body = api.tasks(
        task(id="Ab", trace_id="cASE", parent_id=None),
        task(id="aB", trace_id="cASE", parent_id="Ab"),
        task(id="ab", trace_id="Case", parent_id=None),
    )

    assert status == 201, body
    assert Trace.objects.filter(id__in=["cASE", "Case"]).count() == 2


def test_b25_a_trace_id_may_be_64_long_with_colons(api: Api) -> None:
    assert api.tasks(task(trace_id="a:" + "b" * 62, parent_id=None))[0] == 201


def test_b28_a_whole_number_written_with_a_point_is_taken(api: Api) -> None:
    assert api.events(event(timestamp_ms=float(int(time.time()) * 1000)))[0] == 200


def test_b29_a_clock_that_is_a_day_off_is_taken_and_named(api: Api) -> None:
    assert warnings(api.events(event(timestamp_ms=0))) == [("clock_skew", "timestamp_ms")]
    assert Event.objects.get().warnings == '[["clock_skew","timestamp_ms"]]'


def test_b30_an_event_needs_no_actor_type(api: Api) -> None:
    assert warnings(api.events(event(), event(task_id="unheard"))) == []
    assert TaskInstance.objects.get(id="unheard").kind == 3


def test_b31_what_a_report_says_against_the_registration_is_named(api: Api) -> None:
    assert warnings(api.events(event(parent_id="b"))) == [("differs", "parent_id")]
    assert warnings(api.events(event(actor_type="AGENT"))) == [("differs", "actor_type")]
    assert TaskInstance.objects.get(id="a").parent.id == "r"


def test_b32_a_hint_that_would_close_a_ring_is_ignored(api: Api) -> None:
    first = event(task_id="p", parent_id="q")
    second = event(task_id="q", parent_id="p", event_type="STARTED")
    own = event(task_id="p", parent_id="p")

    assert warnings(api.events(first)) == []
    assert warnings(api.events(second)) == [("cycle", "parent_id")]
    assert warnings(api.events(own)) == [("cycle", "parent_id")]
    assert TaskInstance.objects.get(id="q").status == 1


def test_b33_the_same_ids_under_another_trace_are_other_things(api: Api) -> None:
    assert api.tasks(task(id="a", trace_id="T2", parent_id=None))[0] == 201
    assert api.events(event(event_id="same"), event(event_id="same", trace_id="T2"))[1]["accepted"] == 2


def test_b34_a_repeat_is_a_duplicate_also_within_one_batch(api: Api) -> None:
    one = event(event_type="STARTED")

    assert api.events(one, one)[1] | {"commands": {}} == {
        "accepted": 1, "duplicates": 1, "rejected": [], "commands": {},
    }  # fmt: skip
    before = rows()
    assert api.events(one)[1]["duplicates"] == 1
    assert rows() == before


def test_b35_a_repeat_with_other_content_is_named_and_the_first_stands(api: Api) -> None:
    one = event(payload={"message": "first"})
    api.events(one)

    assert warnings(api.events({**one, "payload": {"message": "second"}})) == [("event_conflict", "event_id")]
    assert warnings(api.events({**one, "task_id": "b"})) == [("event_conflict", "event_id")]
    assert TaskSaid.objects.get().message == "first"


@pytest.mark.parametrize("said", [{"progress": 150}, {"progress": -1}, {"progress": "half"}, {"paused": 1}])
def test_b37_what_only_adorns_is_ignored_and_named(api: Api, said: dict[str, Any]) -> None:
    (name,) = said
    assert warnings(api.events(event(event_type="STARTED", payload=said))) == [
        ("payload_ignored", f"payload.{name}")
    ]
    assert TaskInstance.objects.get(id="a").status == 1


TASKS: list[tuple[str, dict[str, Any], str, str]] = [
    ("b41_its_own_parent", {"id": "x", "parent_id": "x"}, "cycle", "parent_id"),
    ("b42_other_parent", {"id": "a", "parent_id": "b"}, "parent_conflict", "parent_id"),
    ("b42_other_actor_type", {"id": "a", "actor_type": "AGENT"}, "conflict", "actor_type"),
    ("b42_other_job", {"id": "a", "job_id": "other"}, "conflict", "job_id"),
    ("b42_a_status", {"status": "RUNNING"}, "status_needs_event", "status"),
    ("b43_a_second_root", {"parent_id": None}, "second_root", "parent_id"),
    ("b44_unknown_job_without_actor_type", {"actor_type": ABSENT}, "missing_field", "actor_type"),
    ("b48_plan_too_small", {"split_count": -1}, "number_out_of_range", "split_count"),
    ("b48_plan_too_large", {"split_count": 10**9}, "number_out_of_range", "split_count"),
    ("b48_plan_in_words", {"split_count": "3"}, "invalid_type", "split_count"),
    ("b48_17_labels", {"labels": {f"k{i}": "v" for i in range(17)}}, "invalid_labels", "labels"),
    ("b48_a_label_that_is_no_text", {"labels": {"k": 1}}, "invalid_labels", "labels"),
    ("b19_parameters_too_large", {"input_params": {"x": "y" * (256 << 10)}}, "too_large", "input_params"),
]


@pytest.mark.parametrize(
    ("changes", "code", "field"), [row[1:] for row in TASKS], ids=[row[0] for row in TASKS]
)
def test_a_broken_registration_is_refused_by_its_field_and_changes_nothing(
    api: Api, changes: dict[str, Any], code: str, field: str
) -> None:
    before = rows()

    answer = api.tasks(task(**changes))

    assert refused(answer) == (code, field)
    assert rows() == before


def test_b41_of_a_ring_in_one_batch_the_one_that_would_close_it_is_refused(api: Api) -> None:
    status, body = api.tasks(
        task(id="x", trace_id="R", parent_id="y"), task(id="y", trace_id="R", parent_id="x")
    )

    assert status == 207
    assert [(r["id"], r["error"]["code"]) for r in body["rejected"]] == [("y", "cycle")]
    assert [r["id"] for r in body["results"]] == ["x"]


def test_b41_a_ring_with_stored_rows_is_refused(api: Api) -> None:
    api.tasks(task(id="c", parent_id="late"), task(id="d", parent_id="c"))

    assert refused(api.tasks(task(id="late", parent_id="d"))) == ("cycle", "parent_id")


def test_b44_an_unknown_job_is_taken_with_an_actor_type(api: Api) -> None:
    assert api.tasks(task(job_id="nobody", actor_type="AGENT"))[0] == 201


def test_b45_b46_a_chain_may_be_1000_deep_and_not_one_deeper(api: Api) -> None:
    def name(i: int) -> str:
        return f"c{i}".ljust(64, "x")

    chain = [task(id=name(i), trace_id="C", parent_id=name(i - 1) if i else None) for i in range(1001)]

    status, body = api.tasks(*chain[::-1])

    assert status == 201, str(body)[:300]
    assert _depths("C") == list(range(1001))
    assert refused(api.tasks(task(id="deep", trace_id="C", parent_id=name(1000)))) == (
        "path_too_deep",
        "parent_id",
    )


def _depths(trace_id: str) -> list[int]:
    number = Trace.objects.get(id=trace_id).number
    return sorted(TaskInstance.objects.filter(tree_id=number).values_list("depth", flat=True))


def test_b45_an_unattached_top_counts_as_depth_0(api: Api) -> None:
    chain = [task(id=f"u{i}", trace_id="U", parent_id=f"u{i - 1}") for i in range(1, 1001)]

    assert api.tasks(*chain[::-1])[0] == 201
    assert refused(api.tasks(task(id="over", trace_id="U", parent_id="u1000")))[0] == "path_too_deep"


def test_b45_a_tree_has_at_most_so_many_tasks(api: Api, settings: Any) -> None:
    settings.TOWER_MAX_TRACE_NODES = 4

    assert api.tasks(task())[0] == 201
    assert refused(api.tasks(task()))[0] == "tree_too_large"
    assert refused(api.events(event(task_id="unheard")))[0] == "tree_too_large"


def test_b46_leaves_below_a_deep_chain_take_less_than_a_kibibyte_each(api: Api) -> None:
    def name(i: int) -> str:
        return f"d{i}".ljust(64, "x")

    chain = [task(id=name(i), trace_id="D", parent_id=name(i - 1) if i else None) for i in range(1000)]
    leaves = [task(id=f"leaf{i}", trace_id="D", parent_id=name(999)) for i in range(2000)]

    status, body = api.tasks(*leaves, *chain)

    assert status == 201
    assert len(body["results"]) == 3000
    leaf = TaskInstance.objects.filter(id="leaf7").values().get()
    assert sum(len(str(value)) for value in leaf.values()) < 1024
    assert leaf["depth"] == 1000


def test_b47_derived_fields_are_computed_whatever_is_sent(api: Api) -> None:
    status, body = api.tasks(task(id="a", node_path="/x/", depth=7, completed_children=3))

    (result,) = body["results"]
    assert status == 201
    assert (result["created"], result["node_path"], result["depth"]) == (False, "/T/a/", 1)
