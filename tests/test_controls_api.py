"""``/api/v1/controls/``: asking, refusals, the audit list."""

from __future__ import annotations

import pytest

from controls.models import ControlRecord
from instances.models import IntentLedger
from tests.people import bearing, signed_in_as
from tests.trees import a_tree

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/api/v1/controls/"


@pytest.fixture
def tree():
    return a_tree("root:RUNNING(a:RUNNING b)", trace_id="T")


@pytest.fixture
def operator():
    return bearing("control", "read", name="ci")


def post(client, **body):
    answer = client.post(URL, {"trace_id": "T", **body}, content_type="application/json")
    return answer.status_code, answer.json()


def code(answer):
    return answer[0], answer[1]["error"]["code"]


def ids(answer):
    return [control["id"] for control in answer.json()["results"]]


def test_a_control_is_answered_with_all_that_the_audit_knows(tree, operator):
    status, control = post(operator, id="c1", action="PAUSE", task_id="a", reason="rate limit")

    assert status == 201
    assert control.pop("created_at").endswith("Z")
    assert control.pop("delivered_at").endswith("Z")
    assert control == {
        "id": "c1",
        "trace_id": "T",
        "task_id": "a",
        "action": "PAUSE",
        "triggered_by": "ci",
        "on_behalf_of": None,
        "reason": "rate limit",
        "affected": {"pending": 0, "running": 1},
        "delivered": True,
        "outcome": "taken",
        "number": 1,
    }
    assert operator.get(f"{URL}c1/").json()["id"] == "c1"


def test_redis_away_the_answer_says_that_it_waits(tree, operator, valkey):
    valkey.stop()

    status, control = post(operator, action="CANCEL")

    assert (status, control["delivered"], control["delivered_at"]) == (201, False, None)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"trace_id": "nobody", "action": "PAUSE"}, (404, "not_found")),
        ({"task_id": "nobody", "action": "PAUSE"}, (404, "not_found")),
        ({"action": "STOP"}, (400, "unknown_enum")),
        ({"action": "pause"}, (400, "unknown_enum")),
        ({"action": None}, (400, "unknown_enum")),
        ({}, (400, "missing_field")),
        ({"trace_id": "a b", "action": "PAUSE"}, (400, "invalid_id")),
        ({"trace_id": 5, "action": "PAUSE"}, (400, "invalid_id")),
        ({"id": "", "action": "PAUSE"}, (400, "invalid_id")),
        ({"id": "x" * 65, "action": "PAUSE"}, (400, "invalid_id")),
        ({"id": "global_action", "action": "PAUSE"}, (400, "reserved_id")),
        ({"task_id": "global_action", "action": "PAUSE"}, (400, "reserved_id")),
        ({"action": "PAUSE", "reason": "é" * 2049}, (400, "too_large")),
        ({"action": "PAUSE", "reason": 5}, (400, "invalid_type")),
        ({"action": "PAUSE", "reason": "a\0b"}, (400, "invalid_string")),
        ({"action": "PAUSE", "triggered_by": "x" * 201}, (400, "too_large")),
        ({"action": "PAUSE", "triggered_by": ["x"]}, (400, "invalid_type")),
    ],
)
def test_b52_what_cannot_be_read_or_found_changes_nothing(tree, operator, body, expected):
    assert code(post(operator, **body)) == expected
    assert not ControlRecord.objects.exists()


def test_b52_a_body_without_a_trace_names_the_field(tree, operator):
    answer = operator.post(URL, {"action": "PAUSE"}, content_type="application/json").json()

    assert answer["error"]["code"] == "missing_field"
    assert answer["error"]["details"]["field"] == "trace_id"


def test_b52_an_unknown_action_is_told_which_there_are(tree, operator):
    _, answer = post(operator, action="STOP")

    assert answer["error"]["details"] == {"field": "action", "allowed": ["RUN", "PAUSE", "CANCEL"]}


def test_b53_nothing_open_is_a_conflict_that_the_audit_keeps(operator):
    a_tree("root:SUCCESS", trace_id="T")

    assert code(post(operator, action="CANCEL")) == (409, "already_ended")
    assert code(post(operator, action="PAUSE")) == (409, "already_ended")
    assert [c["outcome"] for c in operator.get(URL).json()["results"]] == 2 * ["already_ended"]


def test_b54_refusals_by_state_say_why(tree, operator):
    assert code(post(operator, action="RUN")) == (409, "not_paused_here")
    post(operator, action="PAUSE")
    status, refused = post(operator, action="RUN", task_id="a")
    assert (status, refused["error"]["details"]) == (409, {"held_by": "global_action"})
    assert post(operator, action="CANCEL")[0] == 201
    assert post(operator, action="CANCEL")[0] == 201
    assert code(post(operator, action="PAUSE")) == (409, "cancelled")
    assert code(post(operator, action="RUN")) == (409, "cancelled")


def test_b55_the_same_id_again_is_200_and_with_another_body_409(tree, operator):
    first = post(operator, id="c1", action="PAUSE")
    again = post(operator, id="c1", action="PAUSE")

    assert (first[0], again[0]) == (201, 200)
    assert again[1] == first[1]
    assert code(post(operator, id="c1", action="CANCEL")) == (409, "conflict")
    assert IntentLedger.objects.get().last_number == 1


def test_b56_who_is_named_in_the_body_is_only_on_whose_behalf_and_no_time_is_taken_from_it(tree, operator):
    status, control = post(
        operator, action="PAUSE", triggered_by="user_1", created_at="2001-01-01T00:00:00Z", paylod=1
    )

    assert status == 201
    assert (control["triggered_by"], control["on_behalf_of"]) == ("ci", "user_1")
    assert not control["created_at"].startswith("2001")


def test_b57_over_rest_a_reason_is_optional(operator):
    a_tree("root:RUNNING(" + " ".join(f"k{i}" for i in range(101)) + ")", trace_id="T")

    assert post(operator, action="CANCEL")[0] == 201


def test_b62_a_control_without_the_right_to_it_is_refused_and_audited(tree):
    reader, viewer = bearing("read", name="eyes"), signed_in_as("viewer")

    for client in (reader, viewer):
        status, answer = post(client, action="CANCEL", reason="let me")
        assert (status, answer["error"]["code"]) == (403, "forbidden")

    rows = ControlRecord.objects.order_by("number").values_list("outcome", "triggered_by", "reason")
    assert [row[0] for row in rows] == ["forbidden", "forbidden"]
    assert rows[0][1:] == ("eyes", "let me")
    assert not IntentLedger.objects.filter(last_number__gt=0).exists()


def test_b62_what_could_not_even_be_read_is_refused_without_a_row(tree):
    answer = bearing("read").post(URL, b"{", content_type="application/json")

    assert answer.status_code == 403
    assert not ControlRecord.objects.exists()


def test_the_audit_lists_newest_first_refusals_included(tree, operator):
    for id, action in [("c1", "PAUSE"), ("c2", "RUN"), ("c3", "RUN"), ("c4", "CANCEL")]:
        post(operator, id=id, action=action)

    assert ids(operator.get(URL)) == ["c4", "c3", "c2", "c1"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("trace_id=T", ["c3", "c2", "c1"]),
        ("trace_id=t", []),
        ("action=RUN", ["c3", "c2"]),
        ("outcome=not_paused_here", ["c3"]),
        ("outcome=taken&action=RUN", ["c2"]),
        ("triggered_by=ci", ["o", "c3", "c2", "c1"]),
        ("triggered_by=somebody", []),
    ],
)
def test_the_audit_is_filtered(tree, operator, query, found):
    for id, action in [("c1", "PAUSE"), ("c2", "RUN"), ("c3", "RUN")]:
        post(operator, id=id, action=action)
    a_tree("root:RUNNING", trace_id="other")
    post(operator, id="o", action="PAUSE", trace_id="other")

    assert ids(operator.get(f"{URL}?{query}")) == found


def test_the_audit_is_paged(tree, operator):
    for n in range(5):
        post(operator, id=f"c{n}", action="PAUSE")

    first = operator.get(f"{URL}?limit=2")
    second = operator.get(first.json()["next"])
    back = operator.get(second.json()["previous"])

    assert (ids(first), ids(second), ids(back)) == (["c4", "c3"], ["c2", "c1"], ["c4", "c3"])


@pytest.mark.parametrize(
    "query", ["limit=0", "action=STOP", "outcome=no", "nonsense=1", f"trace_id={'x' * 65}"]
)
def test_b58_a_broken_query_names_its_parameter(tree, operator, query):
    answer = operator.get(f"{URL}?{query}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_query")
    assert answer.json()["error"]["details"]["field"] == query.split("=")[0]


def test_an_unknown_control_is_not_found(operator):
    assert operator.get(f"{URL}nobody/").status_code == 404
