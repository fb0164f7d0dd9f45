"""The buttons of a run, the question before a cancel, and the page of the audit; all without scripts."""

from __future__ import annotations

import re

import pytest

from controls.models import ControlRecord
from instances.models import IntentLedger
from tests.people import signed_in_as
from tests.trees import a_tree

pytestmark = pytest.mark.django_db(transaction=True)

ISSUE = "/traces/T/control/"


@pytest.fixture
def tree():
    return a_tree("root:RUNNING(a:RUNNING(b c:SUCCESS) d)", trace_id="T")


@pytest.fixture
def operator():
    return signed_in_as("operator", "li.wei")


def a_wide_tree(kids):
    return a_tree("root:RUNNING(" + " ".join(f"k{i}" for i in range(kids)) + ")", trace_id="T")


def press(client, action, task_id="", **more):
    return client.post(ISSUE, {"action": action, "task_id": task_id, **more})


def said(answer):
    return [str(message) for message in answer.context["messages"]]


def text(answer):
    """What a reader sees, in one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", answer.content.decode()).split())


# -- the buttons


@pytest.mark.parametrize("action", ["PAUSE", "RUN"])
def test_pause_and_run_act_at_once_and_lead_back_to_the_run(tree, operator, action):
    if action == "RUN":
        press(operator, "PAUSE", "a")

    answer = press(operator, action, "a")

    assert (answer.status_code, answer["Location"]) == (303, "/traces/T/?node=a")
    record = ControlRecord.objects.order_by("-number")[0]
    assert (record.action, record.task_id, record.triggered_by) == (
        ["RUN", "PAUSE"].index(action),
        "a",
        "li.wei",
    )


def test_what_was_asked_is_said_on_the_run(tree, operator):
    answer = operator.post(ISSUE, {"action": "PAUSE", "task_id": ""}, follow=True)

    assert said(answer) == ["Pause asked of 4 tasks."]


def test_redis_away_is_said_on_the_run(tree, operator, valkey):
    valkey.stop()

    answer = operator.post(ISSUE, {"action": "PAUSE", "task_id": "b"}, follow=True)

    assert said(answer) == ["Pause asked of 1 task.", "Redis is away: actors hear of it when it is back."]


def test_a_refusal_is_said_on_the_run_and_names_who_holds(tree, operator):
    press(operator, "PAUSE", "a")

    answer = operator.post(ISSUE, {"action": "RUN", "task_id": "b"}, follow=True)

    assert said(answer)[-1] == "No pause was put here; that of a holds it."


def test_a_form_that_is_sent_twice_acts_once(tree, operator):
    for _ in range(2):
        press(operator, "PAUSE", id="form-1")

    assert list(ControlRecord.objects.values_list("id", flat=True)) == ["form-1"]


def test_a_script_gets_json(tree, operator):
    taken = operator.post(ISSUE, {"action": "PAUSE"}, headers={"accept": "application/json"})
    refused = operator.post(ISSUE, {"action": "RUN", "task_id": "a"}, headers={"accept": "application/json"})

    assert (taken.status_code, taken.json()["ok"], taken.json()["control"]["action"]) == (200, True, "PAUSE")
    assert (refused.status_code, refused.json()["ok"]) == (409, False)
    assert refused.json()["error"]["details"] == {"held_by": "global_action"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/traces/nobody/control/", {"action": "PAUSE"}, 404),
        ("/traces/nobody/control/", {"action": "CANCEL", "confirmed": "1"}, 404),
        (ISSUE, {"action": "PAUSE", "task_id": "nobody"}, 404),
        (ISSUE, {"action": "STOP"}, 400),
        (ISSUE, {}, 400),
        (ISSUE, {"action": "PAUSE", "task_id": "a b"}, 400),
        (ISSUE, {"action": "PAUSE", "task_id": "x" * 65}, 400),
    ],
)
def test_b52_a_form_that_makes_no_sense_changes_nothing(tree, operator, path, body, status):
    assert operator.post(path, body).status_code == status
    assert not ControlRecord.objects.exists()


def test_b62_a_viewer_may_not_ask_and_the_try_is_kept(tree):
    answer = press(signed_in_as("viewer"), "PAUSE", "a")

    assert answer.status_code == 403
    record = ControlRecord.objects.get()
    assert (record.outcome, record.triggered_by, record.task_id) == ("forbidden", "viewer", "a")


def test_b63_a_form_without_a_csrf_token_is_refused(tree):
    answer = press(signed_in_as("operator", csrf=True), "PAUSE")

    assert answer.status_code == 403
    assert not ControlRecord.objects.filter(outcome="taken").exists()


def test_a_visitor_is_sent_to_sign_in(tree, client):
    assert press(client, "PAUSE")["Location"].startswith("/login/")


# -- the question


def test_a_cancel_leads_to_a_question_that_a_reload_does_not_answer(tree, operator):
    answer = press(operator, "CANCEL", "a")

    assert (answer.status_code, answer["Location"]) == (303, "/traces/T/control/?task_id=a")
    assert not ControlRecord.objects.exists()


def test_the_question_counts_what_the_cancel_would_touch(tree, operator):
    tree.change("b", kind=0)
    tree.grow("a", "e")

    page = text(operator.get(f"{ISSUE}?task_id=a"))

    assert "Cancel job and everything below it?" in page
    assert "1 running task is asked to stop" in page
    assert "2 pending tasks end at once 1 AGENT, 1 EXECUTION" in page
    assert "1 finished task stays as it is" in page
    assert "Cancel 3 tasks" in page
    assert "Keep running" in page


def test_the_question_has_the_hooks_that_the_contract_names(tree, operator):
    page = operator.get(ISSUE).content.decode()

    assert page.count("data-confirm") == 1
    assert re.search(r'<textarea[^>]* name="reason"', page)
    assert 'name="confirm"' not in page
    assert 'href="/traces/T/"' in page


def test_a_cancel_that_was_confirmed_is_asked_once(tree, operator):
    page = operator.get(f"{ISSUE}?task_id=a")
    form = {"confirmed": "1", "id": page.context["id"], "reason": "  wrong\r\nbucket "}

    for _ in range(2):
        answer = press(operator, "CANCEL", "a", **form)

    assert (answer.status_code, answer["Location"]) == (303, "/traces/T/?node=a")
    record = ControlRecord.objects.get()
    assert (record.action, record.task_id, record.reason) == (2, "a", "wrong\nbucket")


def test_b57_a_cancel_of_more_than_a_hundred_tasks_wants_a_reason_at_its_field(operator):
    a_wide_tree(101)

    answer = press(operator, "CANCEL", confirmed="1", reason="  ")

    assert answer.status_code == 200
    assert re.search(r'aria-describedby="reason-error"', answer.content.decode())
    assert "More than 100 tasks: say why" in text(answer)
    assert not ControlRecord.objects.exists()


def test_b57_up_to_a_hundred_tasks_need_no_reason(operator):
    a_wide_tree(99)

    assert press(operator, "CANCEL", confirmed="1").status_code == 303


@pytest.mark.parametrize(
    ("typed", "status"),
    [("", 200), ("wrong", 200), ("run-1234", 303), ("a-long-r", 303), (" a-long-run-1234 ", 303)],
)
def test_a_cancel_of_more_than_a_thousand_tasks_wants_the_short_id(operator, typed, status):
    a_tree("root:RUNNING(" + " ".join(f"k{i}" for i in range(1000)) + ")", trace_id="a-long-run-1234")
    url = "/traces/a-long-run-1234/control/"
    assert "run-1234" in text(operator.get(url))

    answer = operator.post(url, {"action": "CANCEL", "confirmed": "1", "reason": "why", "confirm": typed})

    assert answer.status_code == status
    assert ControlRecord.objects.exists() == (status == 303)
    if status == 200:
        assert 'aria-describedby="confirm-error confirm-help"' in answer.content.decode()


def test_a_reason_that_is_too_long_is_refused_at_its_field_and_kept_in_it(tree, operator):
    answer = press(operator, "CANCEL", confirmed="1", reason="é" * 2049)

    assert answer.status_code == 200
    assert "At most 4096 bytes" in text(answer)
    assert "é" * 2049 in answer.content.decode()


def test_b71_markup_in_names_and_reasons_is_text(tree, operator):
    tree.change("a", name="<script>alert(1)</script>")

    page = operator.get(f"{ISSUE}?task_id=a").content.decode()
    press(operator, "CANCEL", "a", confirmed="1", reason='"><img onerror=x>')
    audit = operator.get("/controls/").content.decode()

    assert "<script>alert" not in page + audit
    assert "<img onerror" not in audit
    assert "&lt;script&gt;alert(1)" in page


def test_the_preview_counts_the_same_for_a_script(tree, operator):
    assert operator.get(f"{ISSUE}preview/?task_id=a").json() == {
        "trace_id": "T",
        "task_id": "a",
        "name": "job",
        "open": 2,
        "ended": 1,
        "parts": [
            {"status": "PENDING", "actor_type": "EXECUTION", "count": 1},
            {"status": "RUNNING", "actor_type": "EXECUTION", "count": 1},
            {"status": "SUCCESS", "actor_type": "EXECUTION", "count": 1},
        ],
        "needs_reason": False,
        "confirm": None,
    }


# -- the audit


def listed(answer):
    return [line.record.id for line in answer.context["controls"]]


@pytest.fixture
def history(tree, operator):
    press(operator, "PAUSE", "a", id="c1", reason="rate limit")
    press(operator, "RUN", "b", id="c2")
    press(operator, "RUN", "a", id="c3")
    a_tree("root:RUNNING", trace_id="other")
    chen = signed_in_as("operator", "chen.y")
    chen.post("/traces/other/control/", {"action": "CANCEL", "confirmed": "1", "id": "c4"})


def test_the_audit_shows_who_asked_for_what_and_what_became_of_it(history, operator):
    answer = operator.get("/controls/")
    page = text(answer)

    assert listed(answer) == ["c4", "c3", "c2", "c1"]
    assert re.search(r"chen\.y Cancel whole run · A run 1 running, 0 pending after \d+ ms Accepted", page)
    assert "li.wei Resume job in A run — Refused: not paused here held by a" in page
    assert "rate limit" in page
    assert 'href="/traces/T/?node=a"' in answer.content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("action=RUN", ["c3", "c2"]),
        ("outcome=not_paused_here", ["c2"]),
        ("q=chen.y", ["c4"]),
        ("q=oth", ["c4"]),
        ("q=a", ["c3", "c1"]),
        ("q=A", []),
        ("q=%25", []),
        ("since=1h", ["c4", "c3", "c2", "c1"]),
        ("action=RUN&q=a", ["c3"]),
        ("waiting=1", []),
    ],
)
def test_the_audit_is_filtered_by_its_address(history, operator, query, found):
    assert listed(operator.get(f"/controls/?{query}")) == found


def test_what_waits_for_redis_is_counted_on_top(tree, operator, valkey):
    valkey.stop()
    press(operator, "PAUSE", id="c1")

    answer = operator.get("/controls/?waiting=1")

    assert listed(answer) == ["c1"]
    assert "Not delivered 1" in text(answer)
    assert "not yet" in text(answer)


def test_the_audit_is_paged_by_links(tree, operator):
    for n in range(5):
        press(operator, "PAUSE", id=f"c{n}")

    first = operator.get("/controls/?limit=2")
    second = operator.get(first.context["older"])
    back = operator.get(second.context["newer"])

    assert [listed(page) for page in (first, second, back)] == [["c4", "c3"], ["c2", "c1"], ["c4", "c3"]]
    assert 'rel="next"' in first.content.decode()


def test_an_empty_audit_tells_a_newcomer_what_to_do(operator):
    page = text(operator.get("/controls/"))

    assert "Nobody has asked for anything yet" in page
    assert "curl -X POST http://testserver/api/v1/controls/" in page


def test_filters_without_a_match_can_be_taken_away(history, operator):
    page = operator.get("/controls/?q=nobody").content.decode()

    assert "No control matches" in page
    assert 'href="/controls/"' in page


def test_a_viewer_reads_the_audit_and_a_visitor_does_not(history, client):
    assert signed_in_as("viewer").get("/controls/").status_code == 200
    assert client.get("/controls/")["Location"] == "/login/?next=%2Fcontrols%2F"


def test_a_page_of_controls_costs_few_queries(tree, operator, django_assert_max_num_queries):
    for n in range(30):
        press(operator, "PAUSE", ("a", "b", "root")[n % 3])

    with django_assert_max_num_queries(12):
        operator.get("/controls/")
    assert IntentLedger.objects.get().last_number == 30
