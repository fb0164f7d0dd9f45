"""Two runs side by side: what is matched, what differs and by how much, and the page of it."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from instances import comparing
from instances.models import TaskInstance
from tests.people import a_person, signed_in_as
from tests.trees import NOW_MS, a_tree

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def nothing_kept():
    comparing.forget()


@pytest.fixture
def viewer():
    return signed_in_as("viewer")


def named(tree, **names):
    for id, name in names.items():
        tree.change(id, name=name)
    return tree


def two(a, b):
    """Trees whose tasks are called as their ids without the number: ``f1`` and ``f2`` are of one name."""
    trees = a_tree(a, trace_id="A"), a_tree(b, trace_id="B")
    for tree in trees:
        named(tree, **{node.id: node.id.rstrip("0123456789") for node in tree.nodes()})
    return trees


def seconds(tree, **spent):
    for id, took in spent.items():
        tree.change(id, started_ms=NOW_MS, finished_ms=NOW_MS + round(took * 1000))


def shown(client, kind, query="a=A&b=B"):
    """(path with name, number) of each difference."""
    answer = client.get(f"/compare/?{query}&show={kind}")
    assert answer.status_code == 200
    return [("/".join([*one.path, one.name]), one.by) for one in answer.context["shown"]]


def test_a_task_of_another_status_is_found_by_its_path(viewer):
    two("root:SUCCESS(a:SUCCESS(c1:SUCCESS) b:SUCCESS(c2:SUCCESS))",
        "root:SUCCESS(b:SUCCESS(c1:FAILED) a:SUCCESS(c2:SUCCESS))")  # fmt: skip

    assert shown(viewer, "status") == [("root/b/c", 1)]
    assert shown(viewer, "only_a") == shown(viewer, "only_b") == []


def test_roots_match_whatever_they_are_called(viewer):
    two("x:SUCCESS(c:SUCCESS)", "y:FAILED(c:SUCCESS)")

    assert shown(viewer, "status") == [("x", 1)]


def test_of_a_branch_in_one_run_only_its_top_is_named_with_how_many_are_in_it(viewer):
    two(
        "root:SUCCESS(a:SUCCESS(b:SUCCESS(c:SUCCESS d:SUCCESS)) e:SUCCESS)",
        "root:SUCCESS(e:SUCCESS f:SUCCESS)",
    )

    assert shown(viewer, "only_a") == [("root/a", 4)]
    assert shown(viewer, "only_b") == [("root/f", 1)]


def test_siblings_of_one_name_are_one_entry_and_so_are_their_children(viewer):
    two("root:SUCCESS(f1:SUCCESS(x1:SUCCESS) f2:SUCCESS(x2:SUCCESS) f3:SUCCESS)",
        "root:SUCCESS(f7:SUCCESS(x7:FAILED) f8:FAILED f9:SUCCESS)")  # fmt: skip

    assert sorted(shown(viewer, "status")) == [("root/f", 1), ("root/f/x", 2)]
    [entry] = [one for one in viewer.get("/compare/?a=A&b=B").context["shown"] if one.name == "f"]
    assert (entry.a.named, entry.b.named) == ({"SUCCESS": 3}, {"SUCCESS": 2, "FAILED": 1})


def test_durations_are_in_the_order_of_how_far_they_are_apart(viewer):
    a, b = two(
        "root(a:SUCCESS b:SUCCESS c:SUCCESS d:SUCCESS)", "root(a:SUCCESS b:SUCCESS c:SUCCESS d:SUCCESS)"
    )
    seconds(a, a=10, b=10, c=100, d=10)
    seconds(b, a=15, b=2, c=104, d=10.9)

    assert shown(viewer, "time") == [("root/b", -8_000), ("root/a", 5_000)]


def test_what_has_not_ended_has_no_duration_to_compare(viewer):
    a, b = two("root(a1:SUCCESS a2:RUNNING b:RUNNING)", "root(a1:SUCCESS a2:SUCCESS b:SUCCESS)")
    seconds(a, a1=1)
    seconds(b, a1=20, a2=20, b=20)

    assert shown(viewer, "time") == []


def test_a_parent_that_came_after_its_child_is_on_the_path_too(viewer):
    a, _b = two("root:SUCCESS(p:SUCCESS c:SUCCESS)", "root:SUCCESS(p:SUCCESS(c:FAILED))")
    TaskInstance._base_manager.filter(key=a["p"].key).update(parent=a["c"].key)
    TaskInstance._base_manager.filter(key=a["c"].key).update(parent=a["root"].key)

    assert shown(viewer, "only_a") == [("root/c", 2)]
    assert shown(viewer, "only_b") == [("root/p", 2)]


def test_the_page_begins_with_the_first_kind_of_which_there_is_something(viewer):
    two("root:SUCCESS", "root:SUCCESS(a:SUCCESS)")

    assert viewer.get("/compare/?a=A&b=B").context["show"] == "only_b"
    assert "Nothing differs here" in viewer.get("/compare/?a=A&b=A").content.decode()


def test_differences_are_paged(viewer, settings):
    settings.TOWER_PAGE_SIZE = 2
    two("root:SUCCESS", "root:SUCCESS(a:SUCCESS b:SUCCESS c:SUCCESS)")

    first = viewer.get("/compare/?a=A&b=B&show=only_b")
    second = viewer.get(first.context["behind"])

    assert [one.name for one in first.context["shown"]] == ["a", "b"]
    assert [one.name for one in second.context["shown"]] == ["c"]
    assert [one.name for one in viewer.get(second.context["before"]).context["shown"]] == ["a", "b"]


def test_a_difference_leads_to_the_task_in_each_run(viewer):
    two("root:SUCCESS(a:SUCCESS)", "root:SUCCESS(a:FAILED)")

    links = re.findall(
        r'href="(/traces/[AB]/\?node=[^"]*)"', viewer.get("/compare/?a=A&b=B").content.decode()
    )

    assert links == ["/traces/A/?node=a", "/traces/B/?node=a"]


def test_parameters_are_compared_without_regard_to_their_order(viewer):
    a, b = two("root:SUCCESS", "root:SUCCESS")
    a.describe("root", input_params={"year": 2024, "deep": True})
    b.describe("root", input_params={"deep": True, "year": 2025})

    page = viewer.get("/compare/?a=A&b=B").content.decode()
    b.describe("root", input_params={"deep": True, "year": 2024})
    same = viewer.get("/compare/?a=A&b=B").content.decode()

    assert re.findall(r'<tr class="(gone|come)">.*?<td>\s*([^<]+)</td></tr>', page) == [
        ("gone", "&quot;year&quot;: 2024"),
        ("come", "&quot;year&quot;: 2025"),
    ]
    assert "Both had the same parameters." in same


def test_what_has_changed_since_is_compared_anew(viewer):
    a, _b = two("root:SUCCESS(a:SUCCESS)", "root:SUCCESS(a:SUCCESS)")
    assert shown(viewer, "status") == []

    a.change("a", status=3)

    assert shown(viewer, "status") == [("root/a", 1)]


def test_the_statements_do_not_grow_with_the_trees(viewer, django_assert_max_num_queries):
    wide = " ".join(f"{letter}:SUCCESS" for letter in "abcdefghijklmnopqrstuvwxy")
    two(f"root:SUCCESS({wide})", f"root:SUCCESS({wide.replace('SUCCESS', 'FAILED')})")

    with django_assert_max_num_queries(14):
        viewer.get("/compare/?a=A&b=B")


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 200), ("a=A", 200), ("a=A&b=nowhere", 404), ("a=A&b=%00", 400), ("a=A&b=A&show=all", 400)],
)
def test_what_cannot_be_compared_is_said(viewer, query, status):
    a_tree("root:SUCCESS", trace_id="A")

    assert viewer.get(f"/compare/?{query}").status_code == status


# -- from the list of runs


def test_of_two_ticked_runs_the_older_is_a(viewer):
    for id in ("old", "new"):
        a_tree("root:SUCCESS", trace_id=id)
    ticked = re.findall(r'name="run" value="([^"]+)"', viewer.get("/").content.decode())[:2]

    answer = viewer.post("/compare/", {"run": ticked})

    assert (answer.status_code, answer["Location"]) == (303, "/compare/?a=old&b=new")


@pytest.mark.parametrize("ids", [[], ["A"], ["A", "B", "C"], ["A", "\0"]])
def test_another_number_than_two_leads_back_with_a_word(viewer, ids):
    came = {"Referer": "http://testserver/?q=x"}

    answer = viewer.post("/compare/", {"run": ids}, headers=came)

    assert answer["Location"] == "/?q=x"
    assert "Choose two runs" in viewer.get("/").content.decode()


@pytest.mark.parametrize("came", ["", "http://evil.org/?q=x", "http://testserver/traces/A/?q=x", "//"])
def test_the_way_back_leads_nowhere_else(viewer, came):
    assert viewer.post("/compare/", {}, headers={"Referer": came})["Location"] == "/"


def test_choosing_needs_the_token_of_the_form():
    client = Client(enforce_csrf_checks=True)
    client.force_login(a_person("viewer"))

    assert client.post("/compare/", {"run": ["A", "B"]}).status_code == 403
