"""The page of one run as the server draws it: hooks, sums, places without scripts, who sees buttons."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.db.models import F

from instances import outline, textsearch, views
from instances.models import TaskInstance
from instances.views import link_of
from tests.people import signed_in_as
from tests.trees import NOW_MS, a_tree
from tower.schemas import ControlAction

STATIC = Path(__file__).resolve().parents[1] / "static"
pytestmark = pytest.mark.django_db(transaction=True)


class Elements(HTMLParser):
    """All start tags outside of templates, as (tag, attributes)."""

    def __init__(self, html):
        super().__init__()
        self.found, self.inside = [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.inside += tag == "template"
        if not self.inside:
            self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self.inside -= tag == "template"

    def of(self, **wanted):
        return [a for _, a in self.found if all(a.get(k.replace("_", "-")) == v for k, v in wanted.items())]


def text_of(html):
    """What a reader reads: no tags, spaces as one."""
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html)).split())


def rows(html):
    return [a for a in Elements(html).of(role="row") if "data-task-id" in a]


def ids(html):
    return [a["data-task-id"] for a in rows(html)]


def buttons(html, target):
    """The actions that a form offers, in its order."""
    found, form = [], False
    for tag, a in Elements(html).found:
        if tag == "form":
            form = a.get("data-for") == target and "data-control" in a
        elif form and tag == "button" and a.get("name") == "action" and "hidden" not in a:
            found.append(a["value"])
    return found


@pytest.fixture
def operator():
    return signed_in_as("operator")


def page(client, tree, **query):
    answer = client.get(f"/traces/{tree.id}/", query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_visitor_is_sent_to_sign_in_and_back(client):
    tree = a_tree("root")

    answer = client.get(f"/traces/{tree.id}/?node=root")

    assert answer.status_code == 302
    assert answer["Location"] == f"/login/?next=%2Ftraces%2F{tree.id}%2F%3Fnode%3Droot"


def test_an_unknown_run_is_not_found(operator):
    a_tree("", trace_id="not-yet")

    assert operator.get("/traces/nowhere/").status_code == 404
    assert operator.get("/traces/not-yet/").status_code == 404


def test_the_grid_and_its_rows_carry_the_hooks(operator):
    tree = a_tree("root:RUNNING(a:SUCCESS b:RUNNING(c:FAILED))")
    tree.change("b", holds=True)

    html = page(operator, tree)

    (grid,) = Elements(html).of(role="treegrid")
    assert grid["data-seq"] == str(tree.seq) and grid["data-live"] == "off"
    assert ids(html) == ["root", "a", "b", "c"]
    root, a, b, c = rows(html)
    assert (root["data-status"], root["data-asked"], root["data-holds"]) == ("RUNNING", "RUN", "false")
    assert (b["data-holds"], c["data-status"]) == ("true", "FAILED")
    assert [r["aria-level"] for r in (root, a, b, c)] == ["1", "2", "2", "3"]
    assert (b["aria-posinset"], b["aria-setsize"], b["aria-expanded"]) == ("2", "2", "true")
    assert "aria-expanded" not in a


def test_a_run_took_as_long_as_its_root_even_where_a_task_is_still_open(operator):
    going = a_tree("root:RUNNING(a:PENDING)")
    ended = a_tree("root:FAILED(a:PENDING)")
    ended.change("root", finished_ms=NOW_MS + 65_000)

    assert "running for" in page(operator, going)
    assert re.search(r">took <b class=\"num\">1:05<", page(operator, ended))


def test_sums_are_those_of_all_below(operator):
    tree = a_tree("root:RUNNING(a:SUCCESS b:RUNNING(c:FAILED d))")
    tree.change("root", planned=5)

    html = page(operator, tree)

    assert "2/7" in html  # a and c ended, of four below and three planned
    assert re.search(r"data-total>5<", html) and re.search(r"data-planned>, <b class=\"num\">3<", html)


def test_a_run_without_any_end_says_what_it_counts(operator):
    tree = a_tree("root:SUCCESS")

    assert "data-planned hidden" in page(operator, tree)
    assert re.search(r"\b1 task\b", text_of(page(operator, tree)))


def test_another_run_to_compare_with_is_one_link_away(operator):
    tree = a_tree("root")

    (link,) = Elements(page(operator, tree)).of(href=f"/compare/?a={tree.id}")

    assert f'value="{tree.id}"' in operator.get(link["href"]).content.decode()


def test_the_runs_next_to_it_are_known(operator):
    older, here, newer = a_tree("root"), a_tree("root"), a_tree("root")
    a_tree("")

    (part,) = Elements(page(operator, here)).of(data_trace=here.id)

    assert (part["data-newer"], part["data-older"]) == (f"/traces/{newer.id}/", f"/traces/{older.id}/")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("error:429", ["b"]),
        ("error:SLOW", ["b"]),
        ("error:%", []),
        ("error:_", ["b"]),
        ('message:"half way"', ["a"]),
        ("worker:pool message:half", ["a"]),
        ("worker:pool error:429", []),
        ("label:team", ["a", "c"]),
        ("label:team=Research", ["a"]),
        ("label:team=res", []),
        ("label:res", ["a"]),
        ("label:te%", []),
        ('label:"a b=1"', ["c"]),
        ("nothing:here", []),
        ("", []),
        ("error:\0", []),
    ],
)
def test_texts_and_labels_are_searched_in_the_tower(operator, asked, found):
    tree = a_tree("root:RUNNING(a:RUNNING b:FAILED c)")
    other = a_tree("x:FAILED")
    for each, id in ((tree, "b"), (other, "x")):
        each.say(id, error_code="HTTP_429", error_msg="too slow")
    tree.say("a", message="half way", worker="pool-2")
    tree.describe("a", labels={"team": "research"})
    tree.describe("c", labels={"team": "ops", "a b": "1"})

    answer = operator.get(f"/traces/{tree.id}/find/", {"q": asked}).json()

    assert answer == {"found": [tree[id].n for id in found], "more": False}


def test_a_search_names_so_many_and_says_that_there_are_more(operator, monkeypatch):
    tree = a_tree("root:RUNNING(a b c)")
    for id in "abc":
        tree.say(id, message="x")
    for module in (views, textsearch):
        monkeypatch.setattr(module, "MOST_FOUND", 2)

    answer = operator.get(f"/traces/{tree.id}/find/", {"q": "message:x"}).json()

    assert answer == {"found": [1, 2], "more": True}


def test_a_search_in_no_run_is_not_found(operator):
    assert operator.get("/traces/nowhere/find/", {"q": "error:x"}).status_code == 404


def test_a_command_shows_where_it_was_put_and_reaches_all_below(operator):
    tree = a_tree("root:RUNNING(a:RUNNING(b:RUNNING) c:RUNNING)")
    tree.change(["a", "b", "c"], reported_status=1)
    tree.change("b", holds=True)
    tree.ask("a", ControlAction.PAUSE)

    html = page(operator, tree)

    assert {r["data-task-id"]: r["data-asked"] for r in rows(html)} == {
        "root": "RUN", "a": "PAUSE", "b": "PAUSE", "c": "RUN",
    }  # fmt: skip
    assert "Pausing job" in html and "1 of 2 hold" in html


def test_a_pause_is_called_paused_once_all_that_can_hold_do(operator):
    # Nobody reports for a: only its child keeps it running.
    tree = a_tree("root:RUNNING(a:RUNNING(b:RUNNING))")
    tree.change(["root", "b"], reported_status=1)
    tree.ask("a", ControlAction.PAUSE)
    assert "Pausing job" in page(operator, tree)

    tree.change("b", holds=True)

    assert "Paused job" in page(operator, tree) and "1 of 1 hold" in page(operator, tree)


@pytest.mark.parametrize(
    ("asked", "whole", "of_a"),
    [
        ([], ["PAUSE", "CANCEL"], ["PAUSE", "CANCEL"]),
        ([("a", "PAUSE")], ["PAUSE", "CANCEL"], ["RUN", "PAUSE", "CANCEL"]),
        ([("", "PAUSE")], ["RUN", "PAUSE", "CANCEL"], ["PAUSE", "CANCEL"]),
        ([("a", "PAUSE"), ("a", "RUN")], ["PAUSE", "CANCEL"], ["PAUSE", "CANCEL"]),
        ([("a", "CANCEL")], ["PAUSE", "CANCEL"], ["CANCEL"]),
        ([("", "CANCEL")], ["CANCEL"], ["CANCEL"]),
    ],
)
def test_buttons_are_offered_where_the_state_takes_them(operator, asked, whole, of_a):
    tree = a_tree("root:RUNNING(a:RUNNING)")
    for target, action in asked:
        tree.ask(target, ControlAction(action))

    html = page(operator, tree, node="a")

    assert buttons(html, "") == whole
    assert buttons(html, "a") == of_a


def test_nothing_is_offered_where_nothing_is_open(operator):
    tree = a_tree("root:RUNNING(a:SUCCESS b:SUCCESS(c:RUNNING))")

    assert buttons(page(operator, tree, node="a"), "a") == []
    assert buttons(page(operator, tree, node="b"), "b") == ["PAUSE", "CANCEL"]


def test_the_buttons_are_forms_that_work_without_scripts(operator):
    tree = a_tree("root:RUNNING")

    (form,) = Elements(page(operator, tree)).of(data_for="")

    assert (form["method"], form["action"]) == ("post", f"/traces/{tree.id}/control/")


def test_a_viewer_sees_no_buttons():
    tree = a_tree("root:RUNNING(a:RUNNING)")

    html = page(signed_in_as("viewer"), tree, node="a")

    assert "data-control" not in html.replace("data-controls", "")
    assert "data-ask" not in html.replace("data-asked", "")


def test_a_large_tree_opens_its_root_and_the_way_to_the_chosen_task(operator):
    tree = a_tree("root:RUNNING(a(b(c)) d)")
    tree.grow("d", " ".join(f"x{n}" for n in range(outline.SMALL)))

    assert ids(page(operator, tree)) == ["root", "a", "d"]
    assert ids(page(operator, tree, node="b")) == ["root", "a", "b", "c", "d"]


def test_pages_of_rows_lead_through_a_long_list(operator):
    tree = a_tree("root")
    tree.grow("root", " ".join(f"x{n}" for n in range(outline.PAGE + 10)))
    TaskInstance._base_manager.filter(tree_id=tree.number).update(name=F("id"))

    first, second = page(operator, tree), page(operator, tree, **{"from": outline.PAGE})

    assert len(ids(first)) == outline.PAGE
    assert ids(second) == [f"x{n}" for n in range(outline.PAGE - 1, outline.PAGE + 10)]
    assert f'from={outline.PAGE}">More rows' in first and "More rows" not in second


def test_a_tree_too_large_to_be_read_whole_shows_the_same_rows(operator, monkeypatch):
    tree = a_tree("root:RUNNING(a:RUNNING(b c:FAILED) d:RUNNING)")
    tree.grow("d", " ".join(f"x{n}" for n in range(outline.SMALL)))
    whole = page(operator, tree, node="c")
    monkeypatch.setattr(outline, "WHOLE", 100)

    partly = page(operator, tree, node="c")

    kept = ("data-task-id", "data-status", "aria-level", "aria-posinset", "aria-setsize", "aria-expanded")
    assert [[r.get(k) for k in kept] for r in rows(partly)] == [[r.get(k) for k in kept] for r in rows(whole)]


def test_siblings_of_one_name_are_one_row_whether_a_tree_is_read_whole_or_not(operator, monkeypatch):
    tree = a_tree("root:RUNNING(a:RUNNING(first) d:RUNNING)")
    tree.grow("a", " ".join(f"x{n}:SUCCESS" for n in range(outline.MANY)), name="fetch_page")
    tree.grow("a", "late:FAILED", name="fetch_page")
    whole = page(operator, tree, node="a")
    monkeypatch.setattr(outline, "WHOLE", 100)

    partly = page(operator, tree, node="a")

    for html in (whole, partly):
        (group,) = [r for r in Elements(html).of(role="row") if "data-group" in r]
        assert (group["data-group"], group["data-status"]) == ("fetch_page", "FAILED")
        assert (group["aria-level"], group["aria-posinset"], group["aria-setsize"]) == ("3", "2", "2")
        assert group["aria-expanded"] == "false" and "data-task-id" not in group
        assert ids(html) == ["root", "a", "first", "d"]
        assert "× 201" in text_of(html) and "201/201" in text_of(html)
        assert 'href="?node=x0"' in html


def test_reading_a_page_costs_few_queries_however_many_tasks(operator, django_assert_max_num_queries):
    tree = a_tree("root:RUNNING(a:RUNNING(b c:FAILED))")
    tree.grow("a", " ".join(f"x{n}:RUNNING" for n in range(150)))

    with django_assert_max_num_queries(12):
        page(operator, tree, node="c")


def test_unattached_tasks_and_placeholders_come_last_and_say_so(operator):
    tree = a_tree("root:RUNNING(a)")
    tree.grow(None, "loose:RUNNING(below)", registered=False)

    html = page(operator, tree, node="loose")

    assert ids(html) == ["root", "a", "loose", "below"]
    assert "No report has named its parent yet." in html
    assert "It has not been registered" in html


def test_rows_are_found_by_name_id_and_status_with_all_above_them(operator):
    tree = a_tree("root:RUNNING(a:RUNNING(needle:FAILED x) b)")

    assert ids(page(operator, tree, q="NEED")) == ["root", "a", "needle"]
    assert ids(page(operator, tree, status="FAILED")) == ["root", "a", "needle"]
    assert "No task matches." in page(operator, tree, q="nowhere")


@pytest.mark.parametrize("whole", [5_000, 2])
def test_without_scripts_the_search_knows_the_same_keys(operator, monkeypatch, whole):
    tree = a_tree("root:RUNNING(a:RUNNING(needle:FAILED x) b)")
    tree.say("needle", error_code="HTTP_429")
    tree.describe("b", labels={"team": "ops"})
    monkeypatch.setattr(outline, "WHOLE", whole)

    def found(q):
        return [id for id in ids(page(operator, tree, q=q)) if whole == 2 or id not in {"root", "a"}]

    assert found("error:429") == ["needle"]
    assert found("status:fail") == ["needle"]
    assert found("label:team=ops id:B") == ["b"]
    assert found("label:team=ops status:failed") == []


@pytest.mark.parametrize(
    "query",
    [
        {"status": "NO"},
        {"from": "-1"},
        {"from": "9" * 40},
        {"from": "²"},
        {"node": "\0"},
        {"q": "%_\0"},
        {"tab": "x"},
    ],
)
def test_a_strange_address_shows_the_page_all_the_same(operator, query):
    assert operator.get(f"/traces/{a_tree('root').id}/", query).status_code == 200


def test_the_chosen_task_shows_what_is_known_of_it(operator):
    tree = a_tree("root:RUNNING(a:FAILED)")
    tree.describe("a", input_params={"target": "Tesla"}, labels={"team": "research"})
    tree.say("a", message="half way", worker="pool-2", error_code="HTTP_429", error_msg="slow down")
    tree.change("a", reported_status=2)

    html = page(operator, tree, node="a", tab="error")

    for text in (
        "&quot;target&quot;: &quot;Tesla&quot;",
        "research",
        "half way",
        "pool-2",
        "HTTP_429",
        "slow down",
    ):
        assert text in html
    assert "The actor says SUCCESS; the tower shows FAILED." in text_of(html)
    (tab,) = Elements(html).of(data_tab="error")
    assert tab["aria-selected"] == "true"


def test_b71_markup_in_any_text_is_text(operator):
    evil = '"><img src=x onerror=alert(1)>'
    tree = a_tree("root:RUNNING", name=evil)
    tree.say("root", message=evil, worker=evil, error_code=evil, error_msg=evil, output_ref=evil)
    tree.describe("root", input_params={evil: evil}, labels={"x": evil})

    assert "<img" not in page(operator, tree, node="root")


@pytest.mark.parametrize(
    ("ref", "link"),
    [
        ("https://example.org/a?b=c", True),
        ("HTTP://example.org/", True),
        ("s3://bucket/key", False),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        (" java\nscript:alert(1)", False),
        ("java\tscript:alert(1)", False),
        ("//host/path", False),
        ("https:", False),
        ("http://[bad", False),
        ("http://[::1]:8000/x", True),
        ("https://google.com@evil.example/", False),
        ("https://evil.example\\@google.com/", False),
        ("https://xn--\u0430pple.com/", False),
        ("", False),
        (None, False),
    ],
)
def test_b72_an_output_is_a_link_only_where_it_is_http(ref, link):
    assert bool(link_of(ref)) is link


@pytest.mark.parametrize(
    ("cookie", "sizes"),
    [
        ("420x0", ("420", None)),
        ("0x300", (None, "300")),
        ("1000x9999", ("1000", "9999")),
        ("", (None, None)),
        ("420", (None, None)),
        ('"><svg onload=1>x1', (None, None)),
        ("99999x1", (None, None)),
    ],
)
def test_the_pane_has_the_size_that_its_reader_gave_it(operator, cookie, sizes):
    tree = a_tree("root")
    operator.cookies["pane"] = cookie

    (ruler,) = [a for _, a in Elements(page(operator, tree, node="root")).found if "data-ruler" in a]

    assert (ruler.get("width"), ruler.get("height")) == sizes


def test_large_parameters_are_drawn_only_where_they_are_asked_for(operator):
    tree = a_tree("root")
    tree.describe("root", input_params={"needle": "x" * 20_000})

    short, whole = page(operator, tree, node="root"), page(operator, tree, node="root", whole="")

    assert "x" * 20_000 not in short and "20,018 characters of JSON." in short
    assert "x" * 20_000 in whole


def test_an_error_names_the_others_with_its_code(operator):
    tree = a_tree("root:RUNNING(" + " ".join(f"k{n}:FAILED" for n in range(8)) + " z:FAILED)")
    for n in range(8):
        tree.say(f"k{n}", error_code="HTTP_429")
    tree.say("z", error_code="OTHER")
    a_tree("far:FAILED").say("far", error_code="OTHER")

    said = operator.get(f"/traces/{tree.id}/tasks/k0/").json()["alike"]
    alone = operator.get(f"/traces/{tree.id}/tasks/z/").json()["alike"]

    assert [piece["task_id"] for piece in said[0] if "task_id" in piece] == ["k1", "k2", "k3", "k4", "k5"]
    assert "".join(piece["text"] for piece in said[0]).endswith(" and 2 more.")
    assert alone == []


def test_no_style_and_no_script_stand_in_the_page(operator):
    tree = a_tree("root:RUNNING(a:SUCCESS)")

    elements = Elements(page(operator, tree, node="a")).found

    assert not [a for _, a in elements if "style" in a or any(name.startswith("on") for name in a)]
    assert all("src" in a or a.get("type") == "application/json" for tag, a in elements if tag == "script")


def test_icons_of_rows_are_those_of_the_sprite():
    here = (STATIC.parent / "templates/instances/_symbols.html").read_text()
    sprite = (STATIC / "icons.svg").read_text()

    symbols = re.findall(r"<symbol .*?</symbol>", here, re.DOTALL)

    assert len(symbols) == 13
    assert all(symbol in sprite for symbol in symbols)


def test_page_and_scripts_agree_on_their_numbers():
    order, rows_js, waterfall = (
        (STATIC / f"tree/{name}.js").read_text() for name in ("order", "rows", "waterfall")
    )

    assert f"SMALL = {outline.SMALL};" in order
    assert f"MANY = {outline.MANY};" in (STATIC / "tree/groups.js").read_text()
    assert f"INDENT = {outline.INDENT}, DEEPEST = {outline.DEEPEST};" in rows_js
    steps = re.search(r"STEPS = \[(.*?)\]", waterfall)
    assert steps and [int(s) * 1000 for s in steps[1].split(",")] == list(outline.STEPS)


@pytest.mark.parametrize("whole", [5_000, 2])
def test_without_scripts_a_list_has_all_that_match_in_order_of_their_start(operator, monkeypatch, whole):
    tree = a_tree("root:RUNNING(late:RUNNING(early:FAILED) waits)")
    tree.change("late", started_ms=(tree["root"].started_ms or 0) + 9_000, name="later")
    monkeypatch.setattr(outline, "WHOLE", whole)

    html = page(operator, tree, view="flat")

    assert ids(html) == ["root", "early", "late", "waits"]
    (grid,) = Elements(html).of(role="grid")
    assert grid["data-view"] == "flat"
    assert not [r for r in rows(html) if {"aria-level", "aria-posinset", "aria-expanded"} & set(r)]
    assert "in later" in text_of(html)
    assert ids(page(operator, tree, view="flat", q="ear")) == ["early"]


@pytest.mark.parametrize("whole", [5_000, 2])
def test_without_scripts_failures_are_those_without_a_failed_child(operator, monkeypatch, whole):
    tree = a_tree("root:FAILED(a:FAILED(b:FAILED c:SUCCESS(d:FAILED)) e:SUCCESS)")
    monkeypatch.setattr(outline, "WHOLE", whole)

    assert ids(page(operator, tree, view="failures")) == ["b", "d"]
    assert "Nothing has failed." in page(operator, a_tree("root:RUNNING"), view="failures")


def test_error_codes_are_told_of_the_tasks_that_are_named(operator):
    tree = a_tree("root:RUNNING(a:FAILED b:FAILED c:FAILED)")
    other = a_tree("x:FAILED(y:FAILED)")
    tree.say("a", error_code="HTTP_429", error_msg="slow down")
    tree.say("c", error_code="HTTP_429", error_msg="too many")
    other.say("y", error_code="OTHER")

    answer = operator.get(f"/traces/{tree.id}/errors/", {"n": "1,2,3,77"}).json()

    assert answer == {"codes": [["HTTP_429", "slow down"], ["", ""]], "of": [0, 1, 0, 1]}


@pytest.mark.parametrize("n", ["", "x", "1,,2", "-1", "²", "1" * 10, ",".join(["1"] * 501)])
def test_error_codes_of_what_is_no_task_are_refused(operator, n):
    tree = a_tree("root")

    assert operator.get(f"/traces/{tree.id}/errors/", {"n": n}).status_code == 400
    assert operator.get("/traces/nowhere/errors/", {"n": "1"}).status_code == 404
