"""One action for all runs that a filter leaves: fixed when asked, done by the sweeper, stopped, audited."""

from __future__ import annotations

import re

import pytest

from controls import bulk, issue, sweep
from controls.models import Bulk, BulkItem, ControlRecord
from instances.models import Trace
from tests.people import signed_in_as
from tests.test_controls_pages import text
from tests.trees import a_tree
from tower.schemas import ControlAction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator():
    return signed_in_as("operator", "li.wei")


@pytest.fixture
def runs():
    return [a_tree("root:RUNNING(a b:SUCCESS)", trace_id=f"run-{n}") for n in range(60)]


def choose(client, action="PAUSE", query="", **more):
    """From the list; the page of the action."""
    answer = client.post("/runs/control/", {"action": action, "all": "1", "query": query, **more})
    assert answer.status_code == 303
    return answer["Location"]


def begin(client, url, **more):
    return client.post(f"{url}do/", {"do": "start", **more})


def done(client, url):
    assert begin(client, url).status_code == 303
    while sweep.ask_of_many():
        pass
    return Bulk.objects.get(id=url.split("/")[-2])


def outcomes(found):
    return [i.outcome for i in BulkItem.objects.filter(bulk=found).order_by("-trace")]


def test_all_that_match_on_all_pages_and_have_not_ended_are_chosen(runs, operator):
    Trace.objects.filter(number__lte=runs[9].number).update(job_id="other")
    a_tree("root:SUCCESS", trace_id="over").end()

    url = choose(operator, query="job_id=job")

    assert Bulk.objects.get().total == 50
    page = operator.get(url)
    said = text(page)
    assert "Pause 50 runs?" in said
    assert "50 running tasks in them now" in said
    assert "50 pending tasks in them now" in said
    assert "of all that matched job" in said
    assert ControlRecord.objects.count() == 0
    assert not sweep.ask_of_many()
    assert ControlRecord.objects.count() == 0


def test_the_list_counts_them_for_the_one_who_ticks(runs, operator):
    runs[0].end()

    assert operator.get("/runs/matching/?job_id=job").json() == {"n": 59, "most": 10_000}
    assert operator.get("/runs/matching/?job_id=none").json()["n"] == 0
    assert operator.get("/runs/matching/?cursor=x").status_code == 400


def test_each_run_gets_a_control_of_its_own_in_the_audit(runs, operator):
    url = choose(operator, "CANCEL")
    begin(operator, url, reason="too late")
    while sweep.ask_of_many():
        pass

    found = Bulk.objects.get()
    records = ControlRecord.objects.filter(action=2, reason="too late", triggered_by="li.wei")
    assert records.count() == 60
    assert set(outcomes(found)) == {"taken"}
    assert found.ended_ms is not None
    audit = operator.get(f"/controls/?batch={found.id}")
    assert len(audit.context["controls"]) == 50
    assert audit.context["older"]


def test_what_begins_or_stops_matching_later_changes_nothing(runs, operator):
    url = choose(operator, query="job_id=job")
    Trace.objects.filter(number=runs[0].number).update(job_id="other")
    a_tree("root:RUNNING", trace_id="later")

    done(operator, url)

    asked = set(ControlRecord.objects.values_list("trace_id", flat=True))
    assert "run-0" in asked
    assert "later" not in asked


def test_each_result_is_listed_in_pages_and_by_outcome(runs, operator):
    url = choose(operator)
    runs[3].change(["root", "a"], status=2)
    Trace.objects.filter(number=runs[4].number).delete()

    found = done(operator, url)

    assert sorted(set(outcomes(found))) == ["already_ended", "gone", "taken"]
    page = operator.get(url)
    assert len(page.context["lines"]) == 50
    assert len(operator.get(page.context["older"]).context["lines"]) == 10
    refused = operator.get(f"{url}?outcome=already_ended")
    [line] = refused.context["lines"]
    assert (line.trace_id, line.word) == ("run-3", "Refused: already ended")
    assert operator.get(line.control_url).status_code == 200
    assert "The run is gone" in text(operator.get(f"{url}?outcome=gone"))
    assert operator.get(f"{url}state/").json() == {"ended": True, "done": 60, "total": 60}


def test_a_stop_leaves_the_rest_unasked_and_says_where(runs, operator):
    url = choose(operator)
    begin(operator, url)
    assert sweep.ask_of_many()

    signed_in_as("operator", "eve").post(f"{url}do/", {"do": "stop"})
    assert not sweep.ask_of_many()

    found = Bulk.objects.get()
    assert outcomes(found).count("taken") == bulk.STEP
    assert ControlRecord.objects.count() == bulk.STEP
    said = text(operator.get(url))
    assert "25 of 60 asked" in said
    assert "Stopped by eve" in said
    assert len(operator.get(f"{url}?outcome=waiting").context["lines"]) == 35
    assert "Not asked 35" in said
    begin(operator, url)
    assert not sweep.ask_of_many()


def test_a_stop_is_obeyed_in_the_middle_of_a_step(runs, operator, monkeypatch):
    url = choose(operator)
    begin(operator, url)
    real, asked = issue.issue, []

    def stops_after_three(*args, **more):
        asked.append(args[0])
        if len(asked) == 3:
            operator.post(f"{url}do/", {"do": "stop"})
        return real(*args, **more)

    monkeypatch.setattr(issue, "issue", stops_after_three)
    sweep.ask_of_many()

    assert ControlRecord.objects.count() == 3
    assert outcomes(Bulk.objects.get()).count("taken") == 3


def test_a_sweeper_that_died_in_a_step_asks_nothing_twice(runs, operator, monkeypatch):
    url = choose(operator)
    begin(operator, url)
    with monkeypatch.context() as patched:
        patched.setattr(bulk, "_note", lambda done: None)
        sweep.ask_of_many()
    assert ControlRecord.objects.count() == bulk.STEP

    while sweep.ask_of_many():
        pass

    assert ControlRecord.objects.count() == 60
    assert set(outcomes(Bulk.objects.get())) == {"taken"}


def test_an_error_in_one_action_holds_no_other_up_and_is_gone_on_with(runs, operator, monkeypatch):
    first, second = choose(operator), choose(operator, query="q=run-7")
    begin(operator, first)
    begin(operator, second)
    real = issue.issue

    def fails(trace_id, *args, **more):
        if trace_id == "run-55" and "held" not in more:
            raise RuntimeError("no")
        return real(trace_id, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(issue, "issue", fails)
        sweep.ask_of_many()

    at_first, at_second = Bulk.objects.order_by("number")
    assert outcomes(at_first).count("taken") == 4
    assert at_second.ended_ms is not None
    while sweep.ask_of_many():
        pass
    assert set(outcomes(at_first)) == {"taken"}


def test_a_control_id_that_somebody_took_before_is_said_and_not_waited_for(runs, operator):
    url = choose(operator, query="q=run-7")
    found = Bulk.objects.get()
    item = BulkItem.objects.get(bulk=found)
    taken = bulk.control_id(found, item)
    issue.issue("run-1", ControlAction.PAUSE, control_id=taken, triggered_by="eve")

    done(operator, url)

    assert outcomes(found) == ["conflict"]
    assert "another control has its id" in text(operator.get(url))


def test_very_many_open_tasks_want_the_number_of_runs_and_a_cancel_its_reason(operator):
    for n in range(2):
        a_tree("root:RUNNING(" + " ".join(f"k{i}" for i in range(520)) + ")", trace_id=f"wide-{n}")
    pause, cancel = choose(operator), choose(operator, "CANCEL")

    assert "Type 2 to show that you mean these runs." in text(begin(operator, pause, confirm="3"))
    said = text(begin(operator, cancel, confirm="2"))
    assert "say why, for the audit" in said
    assert not sweep.ask_of_many()
    assert ControlRecord.objects.count() == 0

    assert begin(operator, pause, confirm="2").status_code == 303
    assert begin(operator, cancel, confirm="2", reason="enough").status_code == 303
    while sweep.ask_of_many():
        pass
    assert ControlRecord.objects.count() == 4


def test_what_was_paused_together_is_resumed_together(runs, operator):
    found = done(operator, choose(operator))
    Trace.objects.filter(number=runs[0].number).update(job_id="other")

    url = operator.post(f"/runs/actions/{found.id}/do/", {"do": "resume"})["Location"]
    assert "Resume 60 runs?" in text(operator.get(url))
    again = done(operator, url)

    assert set(outcomes(again)) == {"taken"}
    assert ControlRecord.objects.filter(action=0, outcome="taken").count() == 60


@pytest.mark.parametrize(("query", "word"), [("q=nowhere", "No run that matches is still going."), ("", "")])
def test_none_or_too_many_lead_back_to_the_list_with_a_word(runs, operator, monkeypatch, query, word):
    monkeypatch.setattr(bulk, "MOST", 59)

    assert choose(operator, query=query) == "/"

    assert Bulk.objects.count() == 0
    assert (word or "More than 59 runs match.") in text(operator.get("/controls/"))


def test_what_cannot_be_asked_is_refused(runs, operator):
    for said in (
        {"action": "STOP"},
        {"action": "PAUSE", "query": "no_such=1"},
        {"action": "RUN", "query": "q=%00"},
    ):
        assert operator.post("/runs/control/", {"all": "1", **said}).status_code == 400
    assert operator.get("/runs/actions/nowhere/").status_code == 404
    assert operator.post("/runs/actions/nowhere/do/", {"do": "start"}).status_code == 404
    assert Bulk.objects.count() == 0


def test_a_viewer_may_look_and_nothing_else(runs, operator):
    url = choose(operator)
    viewer = signed_in_as("viewer", "eve")

    assert viewer.post("/runs/control/", {"action": "PAUSE", "all": "1"}).status_code == 403
    assert begin(viewer, url).status_code == 403
    assert "Not begun" in text(viewer.get(url))
    assert "<textarea" not in viewer.get(url).content.decode()
    assert Bulk.objects.get().started_ms is None


def test_only_who_chose_the_runs_may_begin(runs, operator):
    url = choose(operator)

    begin(signed_in_as("operator", "eve"), url)

    assert Bulk.objects.get().started_ms is None


def test_those_that_have_begun_are_listed_and_questions_are_forgotten(runs, operator):
    begun = done(operator, choose(operator, query="q=run-7"))
    choose(operator)
    Bulk.objects.filter(started_ms=None).update(created_ms=1)

    choose(operator)

    assert Bulk.objects.count() == 2
    page = operator.get("/runs/actions/")
    assert re.findall(r'href="/runs/actions/(\w+)/"', page.content.decode()) == [begun.id]
    assert "done" in text(page)


def test_the_list_offers_all_pages_without_scripts_to_operators(runs, operator):
    assert 'name="all" value="1"' in operator.get("/").content.decode()
    assert 'name="all"' not in operator.get("/?q=run-7").content.decode()
    assert 'name="all"' not in signed_in_as("viewer").get("/").content.decode()
