"""Reading runs and trees over REST."""

from __future__ import annotations

import orjson
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from instances import api_reads, finding, reads, rows
from instances.models import Event, TaskInstance, TraceLabel
from tests.trees import NOW_MS, a_tree
from tower.access.tokens import make_token
from tower.definitions.models import DefinitionVersion, TaskDefinition
from tower.schemas import KINDS, ActorType, ControlAction

pytestmark = pytest.mark.django_db(transaction=True)
RUN, PAUSE, CANCEL = ControlAction


@pytest.fixture
def get():
    token = make_token("reader", ["read"])

    def ask(path, status=200, **headers):
        url = path if path.startswith("http") else f"/api/v1/{path}"
        response = Client(headers={"Authorization": f"Bearer {token}"}).get(url, headers=headers)
        assert response.status_code == status, response.content
        return orjson.loads(response.content) if response.content else response

    return ask


def ids(body):
    return [node["id"] for node in body["nodes"]]


def an_event(tree, task, event_id, **fields):
    values = {
        "trace": tree.number, "event_id": event_id, "position": 0, "task": tree[task].key, "kind": 0,
        "timestamp_ms": NOW_MS, "received_ms": NOW_MS + 5,
    }  # fmt: skip
    return Event.objects.create(**values | fields)


# -- runs


def test_a_run_says_where_it_stands(get):
    tree = a_tree("root:RUNNING(a:SUCCESS b c:FAILED)", trace_id="run-a")
    tree.ask("b", PAUSE)
    TraceLabel.objects.create(trace=tree.trace, key="team", value="red")

    body = get("traces/run-a/")

    assert (body["trace_id"], body["status"], body["open"], body["total"]) == ("run-a", "RUNNING", 2, 4)
    assert body["counts"] == {
        "PENDING": 1, "RUNNING": 1, "SUCCESS": 1, "FAILED": 1, "CANCELLED": 0, "SKIPPED": 0,
    }  # fmt: skip
    assert (body["root_task_id"], body["seq"], body["labels"]) == ("root", 1, {"team": "red"})
    assert body["intents"] == [{"task_id": "b", "action": "PAUSE", "number": 1, "control_id": "c1"}]
    assert (body["created_at"], body["ended_at"]) == ("2024-12-19T00:24:50.000Z", None)


def test_a_trace_without_tasks_does_not_exist_for_readers(get):
    a_tree("", trace_id="empty")

    assert get("traces/empty/", 404)["error"]["code"] == "not_found"
    assert get("traces/")["results"] == []


@pytest.mark.parametrize(
    "path", ["traces/nobody/", "traces/nobody/tree/", "traces/nobody/snapshot/", "tasks/nobody/"]
)
def test_what_is_not_there_is_404(get, path):
    assert get(path, 404)["error"]["code"] == "not_found"


def test_runs_come_newest_first_and_in_pages(get):
    trees = [a_tree("root").id for _ in range(5)]

    first = get("traces/?limit=2")
    second = get(first["next"])
    last = get(second["next"])

    pages = [[run["trace_id"] for run in page["results"]] for page in (first, second, last)]
    assert pages == [trees[:2:-1], trees[2:0:-1], trees[:1]]
    assert (first["previous"], last["next"]) == (None, None)
    assert get(last["previous"])["results"] == second["results"]


def test_runs_are_filtered(get):
    a_tree("root:RUNNING", trace_id="old")
    red, other = a_tree("root:SUCCESS", trace_id="red"), a_tree("root:SUCCESS", trace_id="other")
    for tree, value in ((red, "red:dark"), (other, "blue")):
        TraceLabel.objects.create(trace=tree.trace, key="team", value=value)
    other._set_trace(job_id="second", created_ms=NOW_MS + 3_600_000)

    def found(query):
        return [run["trace_id"] for run in get(f"traces/?{query}")["results"]]

    assert found("status=SUCCESS") == ["other", "red"]
    assert found("job_id=second") == ["other"]
    assert found("label=team:red:dark") == ["red"]
    assert found("label=team:blue&label=team:red:dark") == []
    assert found("created_after=2024-12-19T01:00:00Z") == ["other"]
    assert found("created_before=2024-12-19T01:00:00Z") == ["red", "old"]
    assert found("status=SUCCESS&label=team:blue") == ["other"]


def test_q_is_a_prefix_of_id_or_name_letter_for_letter(get):
    a_tree("root", trace_id="run1")
    a_tree("root", trace_id="RUN1")
    a_tree("root", trace_id="a_b")
    a_tree("root", trace_id="aXb")._set_trace(name="réport 100%")

    def found(q):
        return [run["trace_id"] for run in get(f"traces/?q={q}")["results"]]

    assert found("run") == ["run1"]
    assert found("RUN1") == ["RUN1"]
    assert found("a_") == ["a_b"]
    assert found("réport 100%25") == ["aXb"]
    assert found("ré") == ["aXb"]
    assert found("A run") == ["a_b", "RUN1", "run1"]


@pytest.mark.parametrize("q", ["%25", "_", "'", "(a%2B)%2B%24", "\U0010ffff", "\ud7ff"])
def test_b60_q_is_never_a_pattern(get, q):
    a_tree("root")

    assert get(f"traces/?q={q}")["results"] == []


def test_b60_a_long_q_is_refused(get):
    assert get(f"traces/?q={'x' * 201}", 400)["error"]["details"]["field"] == "q"


def test_the_end_of_a_prefix_is_the_next_text_of_no_such_beginning():
    assert finding.beyond("ab") == "ac"
    assert finding.beyond("a\ud7ff") == "a\ue000"
    assert finding.beyond("a\U0010ffff") == "b"
    assert finding.beyond("\U0010ffff") > "\U0010ffff\U0010ffff"[:1]


def test_b60_a_list_query_ends_in_time(get, monkeypatch):
    a_tree("root")
    monkeypatch.setattr(api_reads, "LIST_SECONDS", 0.05)
    monkeypatch.setattr(
        reads, "_EXISTS",
        "(WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 100000000)"
        " SELECT MAX(x) FROM n) > 0",
    )  # fmt: skip

    assert get("traces/", 503)["error"]["code"] == "query_timeout"

    monkeypatch.undo()
    assert len(get("traces/")["results"]) == 1


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "nonsense=1", "created_after=0000-01-01", "status=DONE", "label=x"],
)
def test_b58_a_broken_query_of_the_list_is_named(get, query):
    error = get(f"traces/?{query}", 400)["error"]

    assert (error["code"], error["details"]["field"]) == ("invalid_query", query.partition("=")[0])


def test_b58_a_cursor_is_of_one_query_and_whole(get):
    for _ in range(3):
        a_tree("root")
    link = get("traces/?limit=1")["next"]

    assert get(link + "&q=run", 400)["error"]["code"] == "invalid_cursor"
    assert get(link[:-1], 400)["error"]["code"] == "invalid_cursor"
    assert get("traces/?cursor=abc", 400)["error"]["code"] == "invalid_cursor"


# -- the tree


def test_a_tree_comes_in_pre_order_with_siblings_by_registration(get):
    tree = a_tree("root(a(c) b)")
    tree.grow("a", "d")
    tree.grow("root", "e(f)")

    body = get(f"traces/{tree.id}/tree/")

    assert ids(body) == ["root", "a", "c", "d", "b", "e", "f"]
    assert (body["trace_id"], body["seq"], body["total"]) == (tree.id, 3, 7)


def test_what_hangs_nowhere_comes_last(get):
    tree = a_tree("lost(below)", registered=False)
    tree.grow(None, "root(a)")

    body = get(f"traces/{tree.id}/tree/")

    assert ids(body) == ["root", "a", "lost", "below"]
    paths = {node["id"]: (node["node_path"], node["depth"]) for node in body["nodes"]}
    assert paths == {
        "root": (f"/{tree.id}/", 0),
        "a": (f"/{tree.id}/a/", 1),
        "lost": (f"/{tree.id}/lost/", 1),
        "below": (f"/{tree.id}/lost/below/", 2),
    }
    assert [node["attached"] for node in body["nodes"]] == [True, True, False, False]


def test_a_parent_may_have_been_registered_after_its_child(get):
    tree = a_tree("root(a b)")
    TaskInstance._base_manager.filter(key=tree["a"].key).update(parent_id=tree["b"].key)

    body = get(f"traces/{tree.id}/tree/")

    assert ids(body) == ["root", "b", "a"]
    assert body["nodes"][2]["node_path"] == f"/{tree.id}/b/a/"


def test_a_task_carries_the_dto_and_what_was_added(get):
    definition = TaskDefinition.objects.create(
        id="job", name="Now", actor_type="AGENT", code_ref="x", version=2
    )
    pinned = DefinitionVersion.objects.create(
        definition=definition, number=1, name="As it was", actor_type="AGENT", code_ref="x"
    )
    tree = a_tree("root:RUNNING(a:SUCCESS)", version=pinned.pk)
    tree.change("root", planned=3, progress=40.0, holds=True, attempt=2, reported_status=2)
    tree.say("root", message="half", output_ref="s3://x", error_code="E", error_msg="broke", worker="w1")
    tree.describe("root", input_params={"year": 2024}, labels={"team": "red"}, collects=["a"])

    root, child = get(f"traces/{tree.id}/tree/")["nodes"]

    assert set(root) == set(reads.FIELDS)
    assert root | {
        "id": "root", "trace_id": tree.id, "parent_id": None, "job_id": "job", "actor_type": "EXECUTION",
        "status": "RUNNING", "split_count": 3, "completed_children": 1, "input_params": {"year": 2024},
        "output_ref": "s3://x", "error_code": "E", "error_msg": "broke",
        "started_at": "2024-12-19T00:24:50.000Z", "finished_at": None, "name": "As it was",
        "labels": {"team": "red"}, "collects": ["a"],
        "reported_status": "SUCCESS", "attempt": 2, "progress": 40.0, "message": "half", "worker": "w1",
        "registered": True, "attached": True, "asked": "RUN", "holds": True, "job_version": 1, "n": 0,
        "rev": 2,
    } == root  # fmt: skip
    assert (child["parent_id"], child["input_params"], child["message"], child["rev"]) == (
        "root",
        {},
        None,
        1,
    )
    assert child["finished_at"] == "2024-12-19T00:24:51.001Z"


def test_what_is_asked_of_a_task_is_the_strongest_on_its_path(get):
    tree = a_tree("root(a(b) c)")
    tree.grow(None, "lost", registered=False)
    tree.ask("a", PAUSE)

    def asked():
        return {node["id"]: node["asked"] for node in get(f"traces/{tree.id}/tree/")["nodes"]}

    assert asked() == {"root": "RUN", "a": "PAUSE", "b": "PAUSE", "c": "RUN", "lost": "RUN"}
    tree.ask("", PAUSE)
    tree.ask("b", CANCEL)
    tree.ask("a", RUN)
    assert asked() == {"root": "PAUSE", "a": "PAUSE", "b": "CANCEL", "c": "PAUSE", "lost": "PAUSE"}


def test_a_branch_to_a_depth(get):
    tree = a_tree("root(a(b(c) d) e)")
    path = f"traces/{tree.id}/tree/"

    assert ids(get(f"{path}?root=a")) == ["a", "b", "c", "d"]
    assert ids(get(f"{path}?root=a&depth=1")) == ["a", "b", "d"]
    assert ids(get(f"{path}?depth=0")) == ["root"]
    assert get(f"{path}?root=a&depth=1")["total"] == 3
    assert get(f"{path}?root=a")["nodes"][1]["node_path"] == f"/{tree.id}/a/b/"
    assert get(f"{path}?root=nobody", 404)["error"]["code"] == "not_found"


def test_a_tree_in_pages(get):
    tree = a_tree("root(a(b(c) d) e)")
    path = f"traces/{tree.id}/tree/?limit=2"

    first = get(path)
    second = get(f"{path}&after={ids(first)[-1]}")
    last = get(f"{path}&after={ids(second)[-1]}")

    assert [ids(page) for page in (first, second, last)] == [["root", "a"], ["b", "c"], ["d", "e"]]
    assert {page["total"] for page in (first, second, last)} == {6}
    assert second["nodes"][1]["node_path"] == f"/{tree.id}/a/b/c/"
    assert ids(get(f"{path}&after=e")) == []


def test_only_the_fields_that_are_asked_for(get):
    tree = a_tree("root(a)")

    nodes = get(f"traces/{tree.id}/tree/?fields=status,node_path")["nodes"]

    assert nodes[1] == {"id": "a", "status": "PENDING", "node_path": f"/{tree.id}/a/"}
    assert get(f"traces/{tree.id}/tree/?fields=nonsense", 400)["error"]["details"]["field"] == "fields"


def test_a_task_gives_only_the_fields_that_are_asked_for(get):
    tree = a_tree("root:RUNNING")

    body = get(f"tasks/root/?trace_id={tree.id}&fields=status,input_params")

    assert body == {"id": "root", "status": "RUNNING", "input_params": {}}
    error = get(f"tasks/root/?trace_id={tree.id}&fields=nonsense", 400)["error"]
    assert error["details"]["field"] == "fields"


def test_b46_a_page_of_a_tree_ends_at_16_mib(get, monkeypatch):
    monkeypatch.setattr(api_reads, "MOST_BYTES", 20_000)
    monkeypatch.setattr(api_reads, "FIRST_ROWS", 3)
    tree = a_tree("root(" + " ".join(f"t{i}" for i in range(60)) + ")")
    for i in range(0, 60, 7):
        tree.describe(f"t{i}", input_params={"text": "x" * 5_000})

    seen: list[str] = []
    after, pages = "", 0
    while len(seen) < 61:
        body = get(f"traces/{tree.id}/tree/{after}")
        assert len(orjson.dumps(body["nodes"])) <= 20_000
        assert body["nodes"]
        seen += ids(body)
        after, pages = f"?after={seen[-1]}", pages + 1

    assert seen == ["root", *(f"t{i}" for i in range(60))]
    assert pages > 3


def test_b46_one_task_larger_than_a_page_is_a_page(get, monkeypatch):
    monkeypatch.setattr(api_reads, "MOST_BYTES", 100)
    tree = a_tree("root(a)")

    assert ids(get(f"traces/{tree.id}/tree/")) == ["root"]


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "depth=-1", "nonsense=1"])
def test_b58_a_broken_query_of_a_tree_is_named(get, query):
    tree = a_tree("root")

    error = get(f"traces/{tree.id}/tree/?{query}", 400)["error"]

    assert (error["code"], error["details"]["field"]) == ("invalid_query", query.partition("=")[0])


def test_b58_too_high_a_limit_is_cut(get):
    assert ids(get(f"traces/{a_tree('root').id}/tree/?limit=1000000")) == ["root"]


def test_b59_after_an_unknown_task_is_refused(get):
    assert get(f"traces/{a_tree('root').id}/tree/?after=nobody", 400)["error"]["code"] == "invalid_query"


def test_a_tree_costs_the_same_statements_whatever_its_size(get, monkeypatch):
    ran = []

    def run(sql, params=(), **how):
        ran.append(sql)
        return rows.run(sql, params, **how)

    monkeypatch.setattr(reads, "run", run)

    def statements(tree):
        ran.clear()
        with CaptureQueriesContext(connection) as orm:
            assert len(get(f"traces/{tree.id}/tree/")["nodes"]) == tree.trace.next_n
        return len(ran), len(orm)

    small = a_tree("root(a)")
    large = a_tree("root(" + " ".join(f"a{i}(b{i})" for i in range(100)) + ")")
    get("traces/")  # notes the use of the token, once a minute
    assert statements(small) == statements(large)
    assert sum(statements(large)) <= 12


# -- changes


def test_changes_are_the_tasks_behind_a_seq(get):
    tree = a_tree("root(a b(c))")
    tree.change("c", progress=10.0)
    tree.ask("b", PAUSE)

    body = get(f"traces/{tree.id}/changes/?since=1")

    assert (body["seq"], ids(body), "more" in body) == (2, ["c"], False)
    assert (body["nodes"][0]["node_path"], body["nodes"][0]["asked"]) == (f"/{tree.id}/b/c/", "PAUSE")
    assert body["intents"][0]["number"] == 1
    assert ids(get(f"traces/{tree.id}/changes/?since=2")) == []
    assert sorted(ids(get(f"traces/{tree.id}/changes/"))) == ["a", "b", "c", "root"]


def test_b59_a_since_above_seq_resets(get):
    tree = a_tree("root")

    assert get(f"traces/{tree.id}/changes/?since=99999999")["reset"] is True
    assert "reset" not in get(f"traces/{tree.id}/changes/?since=1")


def test_b59_too_many_changes_come_in_whole_revisions(get, settings):
    settings.TOWER_TREE_LIMIT = 3
    tree = a_tree("root")
    tree.grow("root", "a b")
    tree.grow("root", "c")
    tree.change(["c", "a"], progress=1.0)

    def walk(since):
        body = get(f"traces/{tree.id}/changes/?since={since}")
        return body["seq"], sorted(ids(body)), body.get("more", False)

    # Of seq 2 only b is as it was left; root is of 3, a and c are of 4.
    assert walk(1) == (3, ["b", "root"], True)
    assert walk(3) == (4, ["a", "c"], False)


def test_b59_a_single_revision_above_the_limit_resets(get, settings):
    settings.TOWER_TREE_LIMIT = 2
    tree = a_tree("root(a b c)")

    assert get(f"traces/{tree.id}/changes/?since=0") == {"trace_id": tree.id, "seq": 1, "reset": True}


def test_changes_end_at_16_mib_between_two_revisions(get, monkeypatch):
    tree = a_tree("root")
    for i in range(10):
        tree.grow("root", f"t{i}")
        tree.describe(f"t{i}", input_params={"text": "x" * 5_000})
    monkeypatch.setattr(api_reads, "MOST_BYTES", 20_000)

    since, seen = 0, []
    while True:
        body = get(f"traces/{tree.id}/changes/?since={since}")
        seen += ids(body)
        assert body["seq"] > since
        since = body["seq"]
        if not body.get("more"):
            break

    assert sorted(seen) == sorted(["root", *(f"t{i}" for i in range(10))])
    assert since == tree.seq


# -- one task


def test_a_task_by_its_id(get):
    tree = a_tree("root(only(leaf))")
    tree.ask("only", PAUSE)

    node = get(f"traces/{tree.id}/tree/?root=leaf")["nodes"][0]
    assert get("tasks/leaf/") == node | {"attempts": [], "attempts_left_out": 0}
    assert get("tasks/leaf/")["asked"] == "PAUSE"


def test_b33_an_id_in_several_traces_is_ambiguous(get):
    first, second = a_tree("root(a)"), a_tree("top(a)")

    for path in ("tasks/a/", "tasks/a/command/", "tasks/a/events/"):
        assert get(path, 409)["error"]["code"] == "ambiguous_task"
    assert get(f"tasks/a/?trace_id={second.id}")["parent_id"] == "top"
    assert get(f"tasks/a/?trace_id={first.id}")["parent_id"] == "root"
    assert get(f"tasks/root/?trace_id={second.id}", 404)["error"]["code"] == "not_found"


def test_b24_ids_that_differ_in_case_are_two_tasks(get):
    a_tree("root(task TASK)")

    assert get("tasks/TASK/")["id"] == "TASK"
    assert get("tasks/Task/", 404)


@pytest.mark.parametrize("id", ["a%00b", "%20", "a%0A", "..%2F", "x" * 65])
def test_b16_what_cannot_be_an_id_is_not_found(get, id):
    a_tree("root(a)")

    assert get(f"tasks/{id}/", 404)["error"]["code"] == "not_found"
    assert get(f"traces/{id}/", 404)["error"]["code"] == "not_found"


def test_the_command_is_the_newest_control_of_the_strongest_action(get):
    tree = a_tree("root(a(b))")

    def command():
        return get("tasks/b/command/")

    assert command() == {"action": "RUN", "control_id": None}
    tree.ask("a", PAUSE)
    assert command() == {"action": "PAUSE", "control_id": "c1"}
    tree.ask("", PAUSE)
    assert command() == {"action": "PAUSE", "control_id": "c2"}
    tree.ask("root", CANCEL)
    tree.ask("", RUN)
    assert command() == {"action": "CANCEL", "control_id": "c3"}
    assert get("tasks/root/command/") == {"action": "CANCEL", "control_id": "c3"}


def test_an_actor_without_the_right_to_read_may_ask_for_its_command():
    a_tree("root(b)")
    client = Client(headers={"Authorization": f"Bearer {make_token('actor', ['ingest'])}"})

    assert client.get("/api/v1/tasks/b/command/").status_code == 200
    assert client.get("/api/v1/tasks/b/").status_code == 403


# -- the event log


def test_events_come_in_order_of_receipt_with_origin_and_verdict(get):
    tree = a_tree("root(a)")
    an_event(tree, "a", "late", position=9, verdict=2, kind=2, actor_type=KINDS.index(ActorType.AGENT))
    an_event(tree, "root", "forced", position=2, origin=1, kind=3, payload='{"error_code":"TIMEOUT"}')
    an_event(
        tree, "a", "first", position=1, payload='{"attempt":2,"note":"ä"}', parent_id="root",
        warnings='[{"code":"differs","field":"parent_id"}]',
    )  # fmt: skip

    events = get(f"traces/{tree.id}/events/")["results"]

    assert [event["event_id"] for event in events] == ["first", "forced", "late"]
    assert events[0] == {
        "event_id": "first", "trace_id": tree.id, "task_id": "a", "parent_id": "root", "actor_type": None,
        "event_type": "STARTED", "payload": {"attempt": 2, "note": "ä"}, "timestamp_ms": NOW_MS,
        "received_at": "2024-12-19T00:24:50.005Z", "origin": "actor", "verdict": "applied",
        "warnings": [{"code": "differs", "field": "parent_id"}], "attempt": 2,
        "skew_ms": -5, "reason": None,
    }  # fmt: skip
    assert (events[1]["origin"], events[1]["event_type"], events[1]["attempt"]) == ("tower", "FAILED", 1)
    assert events[1]["reason"] == {
        "code": "timed_out", "message": "no ending was heard within the time limit", "at": None,
    }  # fmt: skip
    assert (events[2]["verdict"], events[2]["actor_type"]) == ("late", "AGENT")
    assert [e["event_id"] for e in get("tasks/a/events/")["results"]] == ["first", "late"]


def test_the_event_log_is_walked_in_pages_both_ways(get):
    tree = a_tree("root")
    for i in range(5):
        an_event(tree, "root", f"e{i}", position=i + 1)

    first = get(f"traces/{tree.id}/events/?limit=2")
    an_event(tree, "root", "later", position=6)
    second = get(first["next"])
    last = get(second["next"])

    pages = [[e["event_id"] for e in page["results"]] for page in (first, second, last)]
    assert pages == [["e0", "e1"], ["e2", "e3"], ["e4", "later"]]
    assert last["next"] is None
    assert get(last["previous"])["results"] == second["results"]


def test_a_reader_sees_one_moment(get, monkeypatch):
    tree = a_tree("root")
    skeleton = reads.skeleton

    def and_meanwhile(head):
        found = skeleton(head)
        # Another connection commits between two statements of the answer.
        from threading import Thread

        def grow():
            try:
                tree.grow("root", "late")
            finally:
                connection.close()

        other = Thread(target=grow)
        other.start()
        other.join()
        return found

    monkeypatch.setattr(reads, "skeleton", and_meanwhile)
    body = get(f"traces/{tree.id}/tree/")

    assert (body["seq"], ids(body), body["nodes"][0]["split_count"]) == (1, ["root"], 0)
    monkeypatch.undo()
    assert get(f"traces/{tree.id}/tree/")["seq"] == 2
