"""Several runs of the list at once: pause, resume, cancel; the question, the right, each result."""

from __future__ import annotations

import re

import pytest

from controls.models import ControlRecord
from tests.people import signed_in_as
from tests.test_controls_pages import listed, text
from tests.trees import a_tree

pytestmark = pytest.mark.django_db(transaction=True)

BATCH = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def operator():
    return signed_in_as("operator", "li.wei")


@pytest.fixture
def runs():
    return [
        a_tree("root:RUNNING(a:RUNNING b)", trace_id="one"),
        a_tree("root:RUNNING(a:SUCCESS)", trace_id="two"),
        a_tree("root:SUCCESS", trace_id="ended"),
    ]


def ask(client, action, *ids, **more):
    return client.post("/runs/control/", {"action": action, "run": ids, "id": BATCH, **more})


def outcomes(**where):
    rows = ControlRecord.objects.filter(**where).order_by("number")
    return [(row.trace_id, row.outcome) for row in rows]


def test_each_run_gets_a_control_of_its_own_and_the_audit_shows_them(runs, operator):
    answer = ask(operator, "PAUSE", "one", "two", "ended", "nowhere")

    assert (answer.status_code, answer["Location"]) == (303, f"/controls/?batch={BATCH}")
    assert outcomes() == [("one", "taken"), ("two", "taken"), ("ended", "already_ended")]
    page = operator.get(answer["Location"])
    said = text(page)
    assert "Asked of 2 runs." in said
    assert "1 run refused it." in said
    assert "1 run is gone." in said
    assert len(listed(page)) == 3
    assert len(listed(operator.get(answer["Location"]))) == 3
    assert "Refused: already ended" in text(operator.get(answer["Location"]))


def test_only_the_controls_of_this_form_are_shown(runs, operator):
    ask(operator, "PAUSE", "one")
    ask(operator, "PAUSE", "two", id="01ARZ3NDEKTSV4RRFFQ69G5FAW")

    page = operator.get(f"/controls/?batch={BATCH}")

    assert [line.record.trace_id for line in page.context["controls"]] == ["one"]
    assert "Chosen together" in text(page)


def test_sent_twice_it_acts_once(runs, operator):
    ask(operator, "PAUSE", "one", "two")
    ask(operator, "PAUSE", "one", "two")

    assert outcomes() == [("one", "taken"), ("two", "taken")]


def test_one_form_may_ask_for_another_thing_afterwards(runs, operator):
    ask(operator, "PAUSE", "one", "two")
    ask(operator, "RUN", "two")

    assert outcomes(action=0) == [("two", "taken")]


def test_a_cancel_asks_first_and_names_the_counts(runs, operator):
    answer = ask(operator, "CANCEL", "one", "two", "ended")

    said = text(answer)
    assert ControlRecord.objects.count() == 0
    assert "Cancel 3 runs?" in said
    assert "3 running tasks are asked to stop" in said
    assert "1 pending task ends at once" in said
    assert "2 finished tasks stay as they are" in said
    assert "Cancel 4 tasks" in said
    assert re.findall(r'name="run" value="([^"]+)"', answer.content.decode()) == ["one", "two", "ended"]


def test_an_answered_question_cancels(runs, operator):
    ask(operator, "CANCEL", "one", "two", confirmed="1", reason="enough")

    assert outcomes(action=2, reason="enough") == [("one", "taken"), ("two", "taken")]


def test_a_cancel_of_many_tasks_wants_a_reason_and_of_very_many_the_number_of_runs(operator):
    for id in ("one", "two"):
        a_tree("root:RUNNING(" + " ".join(f"k{n}" for n in range(520)) + ")", trace_id=id)

    first = ask(operator, "CANCEL", "one", "two", confirmed="1")
    second = ask(operator, "CANCEL", "one", "two", confirmed="1", reason="enough", confirm="1")
    assert "say why, for the audit" in text(first)
    assert "Type 2 to show that you mean these runs." in text(second)
    assert ControlRecord.objects.count() == 0

    ask(operator, "CANCEL", "one", "two", confirmed="1", reason="enough", confirm="2")
    assert outcomes() == [("one", "taken"), ("two", "taken")]


@pytest.mark.parametrize("ids", [[], [f"run-{n}" for n in range(101)]])
def test_none_or_too_many_lead_back_with_a_word(operator, ids):
    answer = ask(operator, "PAUSE", *ids)

    assert answer["Location"] == "/"
    assert "Choose 1 to 100 runs." in text(operator.get("/controls/"))


@pytest.mark.parametrize(("action", "id"), [("STOP", "one"), ("PAUSE", "no id!"), ("PAUSE", "global_action")])
def test_what_cannot_be_asked_is_refused(operator, action, id):
    assert ask(operator, action, id).status_code == 400
    assert ControlRecord.objects.count() == 0


def test_who_lacks_the_right_is_refused_and_remembered(runs):
    assert ask(signed_in_as("viewer", "eve"), "CANCEL", "one", "two", confirmed="1").status_code == 403

    assert outcomes(triggered_by="eve") == [("one", "forbidden"), ("two", "forbidden")]


def test_a_viewer_is_offered_no_control_but_may_compare(runs):
    page = signed_in_as("viewer").get("/").content.decode()

    assert 'formaction="/compare/"' in page
    assert "/runs/control/" not in page


def test_each_row_of_the_list_can_be_ticked_without_scripts(runs, operator):
    page = operator.get("/").content.decode()

    assert re.findall(r'name="run" value="(\w+)" form="chosen"', page) == ["ended", "two", "one"]
    assert page.count('formaction="/runs/control/"') == 3
