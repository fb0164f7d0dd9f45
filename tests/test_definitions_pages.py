"""The pages of definitions, and the start of a run from them; scripts on and off."""

from __future__ import annotations

import html
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from ulid import ULID

from instances.glance import Durations
from instances.models import TaskBody, TaskInstance, TaskSaid, Trace, TraceLabel
from tests.people import signed_in_as
from tower.definitions import edit, history, parameters, versions, words
from tower.definitions.models import DefinitionVersion, TaskDefinition
from tower.schemas import STATUSES

BODY = {"id": "crawl", "name": "Crawl the web", "actor_type": "AGENT", "code_ref": "docker://x/y:1"}
SCHEMA = {
    "type": "object",
    "required": ["target", "year"],
    "$defs": {"mode": {"enum": ["fast", "deep"]}},
    "properties": {
        "target": {"type": "string", "title": "Target", "description": "As in its filings"},
        "year": {"type": "integer", "title": "Fiscal year", "maximum": 2026},
        "ratio": {"type": "number"},
        "dry": {"type": "boolean"},
        "mode": {"$ref": "#/$defs/mode"},
        "strategies": {"type": "array", "items": {"enum": ["fundamental", "sentiment", "technical"]}},
        "sites": {"type": "array", "items": {"type": "string"}},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "deep": {"type": "object"},
    },
}
DEFAULTS = {"target": "Tesla", "year": 2024, "strategies": ["sentiment"], "sites": ["a", "b"], "note": None}


def person(role: str) -> Client:
    return signed_in_as(role, f"one-{role}")


def the(pattern: str, text: str) -> str:
    """What of the text stands between the brackets of the pattern, or all that it finds."""
    found = re.search(pattern, text, re.S)
    assert found, f"{pattern} is not in {text}"
    return found[found.lastindex or 0]


def defined(**more: Any) -> TaskDefinition:
    return edit.create({**BODY, **more}, by="anna").definition


def page_of(client: Client, path: str = "/definitions/crawl/") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def started(answer: Any) -> Trace:
    assert answer.status_code == 302, answer.content.decode()
    return Trace.objects.get(id=the(r"^/traces/([0-9A-Z]{26})/$", answer["Location"]))


def params_of(trace: Trace) -> Any:
    return TaskBody.objects.get(task=TaskInstance._base_manager.get(tree_id=trace.number).key).input_params


def a_run(
    status: str = "SUCCESS", *, id: str = "", job: str = "crawl", at_ms: int = 1_734_567_890_000
) -> Trace:
    return Trace.objects.create(
        id=id or str(ULID()),
        job_id=job,
        status=[s.value for s in STATUSES].index(status),
        created_ms=at_ms,
        updated_ms=at_ms,
        started_ms=at_ms,
        finished_ms=at_ms + 61_000,
    )


# -- the list


@pytest.mark.django_db
def test_a_newcomer_is_told_what_to_do_next():
    text = page_of(person("editor"), "/definitions/")

    assert "No definitions yet" in text
    assert "curl -X POST http://testserver/api/v1/definitions/" in text
    assert "/admin/definitions/taskdefinition/add/" in text


@pytest.mark.django_db
def test_who_may_not_write_definitions_is_told_whom_to_ask():
    text = page_of(person("viewer"), "/definitions/")

    assert "ask an admin" in text
    assert "/admin/definitions/" not in text


@pytest.mark.django_db
def test_the_list_names_version_state_runs_and_the_last_one(django_assert_max_num_queries):
    defined()
    edit.change("crawl", {"timeout_sec": 5}, by="anna")
    defined(id="idle", name="Idle", is_active=False)
    a_run("FAILED", id="first")
    a_run("SUCCESS", id="second")
    client = person("viewer")

    with django_assert_max_num_queries(12):
        text = page_of(client, "/definitions/")

    crawl, idle = (the(rf'data-definition="{id}".*?\n</div>', text) for id in ("crawl", "idle"))
    assert "Crawl the web" in crawl and "v2" in crawl and "/traces/second/" in crawl and ">2<" in crawl
    assert 'data-status="SUCCESS"' in crawl and "first" not in crawl
    assert "no run yet" in idle and "switched off" in idle


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("q=WEB", ["crawl"]),
        ("q=idl", ["idle"]),
        ("q=%25", []),
        ("actor_type=EXECUTION", ["idle"]),
        ("active=yes", ["crawl"]),
        ("active=no", ["idle"]),
    ],
)
def test_the_list_is_filtered_by_text_kind_and_state(query, ids):
    defined()
    defined(id="idle", name="Idle", is_active=False, actor_type="EXECUTION")

    text = page_of(person("viewer"), f"/definitions/?{query}")

    assert re.findall(r'data-definition="(\w+)"', text) == ids


@pytest.mark.django_db
def test_a_long_list_has_pages(settings):
    settings.TOWER_PAGE_SIZE = 2
    for n in range(5):
        defined(id=f"j{n}")
    client, seen, path = person("viewer"), [], "/definitions/"

    while path:
        text = page_of(client, path)
        seen.append(re.findall(r'data-definition="(\w+)"', text))
        following = re.search(r'rel="next" href="([^"]+)"', text)
        path = following[1].replace("&amp;", "&") if following else ""

    assert seen == [["j0", "j1"], ["j2", "j3"], ["j4"]]


# -- one definition


@pytest.mark.django_db
def test_a_definition_is_readable():
    defined(
        params_schema=SCHEMA,
        join={"policy": "at_least", "percent": 80, "early": True},
        description="Two\nlines",
    )
    text = page_of(person("viewer"))

    for said in (
        "Crawl the web",
        "docker://x/y:1",
        "5 min an attempt",
        "30 s",
        "80 % must succeed",
        "whole number",
    ):
        assert said in text
    assert "≤ 2026" in text and "fast, deep" in text and "As in its filings" in text


@pytest.mark.django_db
def test_versions_say_who_changed_what():
    defined()
    edit.change("crawl", {"timeout_sec": 60, "name": "Crawler"}, by="bob")

    newest, oldest = versions.newest(TaskDefinition.objects.get())

    assert [(c.label, c.before, c.after) for c in newest.changes] == [
        ("name", "Crawl the web", "Crawler"),
        ("timeout, seconds", "300", "60"),
    ]
    assert oldest.changes == ()
    text = page_of(person("viewer"))
    assert "bob" in text and "anna" in text and "Crawler" in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("language", "written"), [("en", "5 Mar 2026 14:07"), ("zh-hans", "2026年3月5日 14:07")]
)
def test_without_scripts_a_date_is_written_as_its_language_writes_it(language, written):
    defined()
    edit.change("crawl", {"timeout_sec": 60}, by="bob")
    DefinitionVersion.objects.update(created_at=datetime(2026, 3, 5, 14, 7, tzinfo=UTC))
    client = person("admin")
    client.cookies["language"] = language

    assert written in page_of(client)
    assert written in page_of(client, "/definitions/crawl/versions/")


@pytest.mark.django_db
def test_any_two_versions_are_compared_line_by_line():
    schema = {"properties": {f"p{n}": {"type": "string"} for n in range(9)}}
    defined(params_schema=schema)
    edit.change("crawl", {"timeout_sec": 60}, by="bob")
    schema["properties"]["p8"] = {"type": "integer"}
    edit.change("crawl", {"params_schema": schema, "timeout_sec": 300}, by="bob")

    pair = versions.pair(TaskDefinition.objects.get(), 1, 3)

    assert pair is not None and [change.label for change in pair.changes] == ["parameter schema"]
    lines = pair.changes[0].lines
    assert [(line.kind, line.text.strip()) for line in lines if line.kind in {"gone", "come"}] == [
        ("gone", '"type": "string"'),
        ("come", '"type": "integer"'),
    ]
    before = len(pair.changes[0].before.splitlines())
    assert sum(line.count or line.kind in {"same", "gone"} for line in lines) == before
    text = page_of(person("viewer"), "/definitions/crawl/versions/?from=1&to=3")
    assert "From version 1 to version 3" in text and text.count('<tr class="gone">') == 1
    assert "From version 2 to version 3" in page_of(person("operator"), "/definitions/crawl/versions/")


@pytest.mark.django_db
def test_the_older_version_may_be_the_second(monkeypatch):
    monkeypatch.setattr(versions, "MOST_LINES", 0)
    defined(name="old")
    edit.change("crawl", {"name": "new"}, by="bob")

    pair = versions.pair(TaskDefinition.objects.get(), 2, 1)

    assert pair is not None
    assert [(line.kind, line.text) for line in pair.changes[0].lines] == [("gone", "new"), ("come", "old")]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "status"), [("from=1&to=9", 404), ("from=0&to=1", 400), ("from=x", 400), ("other=1", 400)]
)
def test_versions_that_are_not_there_are_told_so(query, status):
    defined()

    assert person("viewer").get(f"/definitions/crawl/versions/?{query}").status_code == status


@pytest.mark.django_db
def test_an_unknown_definition_is_a_page_of_its_own():
    assert person("viewer").get("/definitions/nobody/").status_code == 404


@pytest.mark.django_db
def test_b71_markup_in_a_definition_is_text():
    evil = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
    defined(
        name=evil,
        description=evil,
        code_ref=evil,
        default_params={evil: evil},
        params_schema={
            "title": evil,
            "properties": {evil: {"title": evil, "description": evil, "enum": [evil]}},
        },
    )

    client = person("operator")

    for path in ("/definitions/", "/definitions/crawl/", "/definitions/crawl/?as=json"):
        text = page_of(client, path)
        assert "<img" not in text and "<script>alert" not in text


@pytest.mark.django_db
def test_fourteen_days_count_what_ended():
    definition = defined()
    now = 1_734_567_890_000
    day = history.DAY_MS
    for status, ago in (("SUCCESS", 0), ("SUCCESS", 1), ("FAILED", 1), ("RUNNING", 0), ("SUCCESS", 20)):
        a_run(status, at_ms=now - ago * day)
    a_run(job="other", at_ms=now)

    found = history.fortnight(definition, now)

    assert found is not None
    assert [(d.runs, d.failed) for d in found.days[-2:]] == [(2, 1), (2, 0)]
    assert sum(d.runs for d in found.days) == 4
    assert (found.runs, found.ended, found.succeeded, found.cut) == (4, 3, 2, False)
    assert found.durations == Durations(61_000, 61_000, 3)


@pytest.mark.django_db
def test_of_very_many_runs_the_newest_are_judged_and_the_card_says_so(monkeypatch):
    monkeypatch.setattr(history, "MOST_JUDGED", 3)
    defined()
    now = time.time_ns() // 1_000_000
    for status in ("FAILED", "SUCCESS", "SUCCESS", "SUCCESS"):
        a_run(status, at_ms=now)

    found = history.fortnight(TaskDefinition.objects.get())

    assert found is not None and (found.runs, found.share, found.cut) == (3, 100.0, True)
    assert "The newest 3 runs" in page_of(person("viewer"))


@pytest.mark.django_db
def test_the_last_failures_say_what_their_roots_said():
    defined()
    for n in range(history.FAILURES + 1):
        run = a_run("FAILED", id=f"run-{n}")
        Trace.objects.filter(pk=run.pk).update(root_n=0)
        TaskSaid.objects.create(task=run.pk << 32, error_code="HTTP_503", error_msg=f"no {n} <b>")
    a_run("SUCCESS")
    a_run("FAILED", job="other")

    found = history.failures(TaskDefinition.objects.get())
    text = page_of(person("viewer"))

    assert [run.id for run in found] == ["run-5", "run-4", "run-3", "run-2", "run-1"]
    assert "HTTP_503: no 5 &lt;b&gt;" in text
    assert 'href="/?job_id=crawl&amp;status=FAILED"' in text


@pytest.mark.django_db
def test_the_list_counts_runs_so_far_and_says_how_long_they_take(monkeypatch):
    monkeypatch.setattr(history, "MOST_COUNTED", 2)
    defined()
    edit.create({**BODY, "id": "idle"}, by="anna")
    for _n in range(4):
        a_run()
    newest = a_run("FAILED")

    found = history.runs_of(list(TaskDefinition.objects.all()))

    assert set(found) == {"crawl"}
    assert (found["crawl"].count, found["crawl"].durations) == (3, Durations(61_000, 61_000, 4))
    assert found["crawl"].last is not None and found["crawl"].last.id == newest.id
    assert re.search(r'class="many num" role="cell">2\+<', page_of(person("viewer"), "/definitions/"))


@pytest.mark.django_db
def test_without_runs_there_is_no_figure():
    assert history.fortnight(defined()) is None


# -- who may start


@pytest.mark.django_db
def test_a_visitor_is_sent_to_sign_in_and_back():
    defined()

    answer = Client().get("/definitions/crawl/")

    assert answer.status_code == 302
    assert answer["Location"] == "/login/?next=%2Fdefinitions%2Fcrawl%2F"


@pytest.mark.django_db
def test_a_viewer_sees_no_form_and_is_told_why():
    defined()
    client = person("viewer")

    text = page_of(client)

    assert "data-start" not in text and "role operator" in text
    assert client.post("/definitions/crawl/start/", {"params": "{}"}).status_code == 403


@pytest.mark.django_db
def test_an_inactive_definition_says_why_it_cannot_be_started():
    defined(is_active=False)

    text = page_of(person("operator"))

    assert "data-start" not in text and "switched off, so no run can be started" in text


@pytest.mark.django_db(transaction=True)
def test_b44_a_definition_that_was_switched_off_meanwhile_starts_nothing():
    defined()
    edit.change("crawl", {"is_active": False}, by="x")

    answer = person("operator").post("/definitions/crawl/start/", {"params": "{}"})

    assert answer.status_code == 200
    assert "no run can be started" in answer.content.decode()
    assert not Trace.objects.exists()


@pytest.mark.django_db
def test_b63_a_start_without_the_csrf_token_is_refused():
    defined()
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root", password="x"))

    assert client.post("/definitions/crawl/start/", {"params": "{}"}).status_code == 403
    assert not Trace.objects.exists()


# -- starting with one JSON text


@pytest.mark.django_db(transaction=True)
def test_the_prefilled_parameters_start_a_run():
    defined(default_params={"url": "https://example.org"})
    client = person("operator")
    shown = the(r'<textarea[^>]*name="params"[^>]*>(.*?)</textarea>', page_of(client))

    trace = started(client.post("/definitions/crawl/start/", {"params": unescaped(shown)}))

    assert params_of(trace) == {"url": "https://example.org"}
    assert (trace.job_id, trace.started_by) == ("crawl", "one-operator")


def unescaped(text: str) -> str:
    import html

    return html.unescape(text)


@pytest.mark.django_db(transaction=True)
def test_labels_come_with_the_run():
    defined()

    trace = started(
        person("operator").post("/definitions/crawl/start/", {"params": "", "labels": "team:research, a:b:c"})
    )

    assert dict(TraceLabel.objects.filter(trace=trace).values_list("key", "value")) == {
        "team": "research",
        "a": "b:c",
    }


@pytest.mark.django_db(transaction=True)
def test_pressed_twice_it_leads_to_the_one_run_and_an_old_form_to_a_new_one():
    defined()
    client, id = person("operator"), str(ULID())

    first = started(client.post("/definitions/crawl/start/", {"params": "{}", "trace_id": id}))
    again = started(client.post("/definitions/crawl/start/", {"params": "{}", "trace_id": id}))
    other = started(client.post("/definitions/crawl/start/", {"params": '{"a": 1}', "trace_id": id}))

    assert first.id == again.id == id
    assert other.id != id and params_of(other) == {"a": 1}
    assert Trace.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"a": 1,\n "b": }', "line 2, column 7"),
        ("[1]", "must be an object"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1e400}', "Not a finite number"),
        ('{"a": "\\ud800"}', "half a character"),
        ('{"a": ' + "9" * 5000 + "}", "too many digits"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_a_text_that_is_no_json_says_where_and_stays(text, error):
    defined()

    answer = person("operator").post("/definitions/crawl/start/", {"params": text, "labels": "a:b"})

    said = unescaped(answer.content.decode())
    assert answer.status_code == 200 and error in said
    assert text in said and 'value="a:b"' in said
    assert not Trace.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "labels", ["nocolon", ":x", "k" * 65 + ":v", ", ".join(f"k{n}:v" for n in range(17))]
)
def test_b48_labels_out_of_form_are_an_error_at_their_field(labels):
    defined()

    text = (
        person("operator")
        .post("/definitions/crawl/start/", {"params": "{}", "labels": labels})
        .content.decode()
    )

    assert re.search(r'<input id="labels"[^>]*aria-invalid="true"', text)
    assert not Trace.objects.exists()


# -- starting with fields


def field(text: str, name: str) -> str:
    return the(rf'<(?:input|select|textarea)[^>]*name="p:{name}"[^>]*>', text)


FILLED = {
    "as": "form",
    "p:target": "NVIDIA",
    "p:year": "2025",
    "p:ratio": "0.5",
    "p:dry": "true",
    "p:mode": '"deep"',
    "p:strategies": ['"fundamental"', '"technical"'],
    "p:sites": "x\r\ny\r\n",
    "p:note": "",
    "p:deep": '{"a": [1]}',
}


@pytest.mark.django_db
def test_fields_are_made_from_the_schema_and_filled_with_the_defaults():
    defined(params_schema=SCHEMA, default_params=DEFAULTS)

    text = page_of(person("operator"))

    assert 'value="Tesla"' in field(text, "target") and 'aria-required="true"' in field(text, "target")
    assert 'value="2024"' in field(text, "year") and 'inputmode="numeric"' in field(text, "year")
    assert 'type="checkbox"' in field(text, "dry")
    assert re.search(r'value="&quot;sentiment&quot;" checked', text)
    assert "Fiscal year" in text and "As in its filings" in text
    assert "<select" in field(text, "mode") and "<textarea" in field(text, "sites")


@pytest.mark.django_db(transaction=True)
def test_the_form_as_it_comes_starts_a_run_with_the_defaults():
    defined(params_schema=SCHEMA, default_params=DEFAULTS)
    client = person("operator")
    sent = {
        "as": "form",
        "p:target": "Tesla",
        "p:year": "2024",
        "p:strategies": '"sentiment"',
        "p:sites": "a\r\nb",
    }

    trace = started(client.post("/definitions/crawl/start/", sent))

    assert params_of(trace) == DEFAULTS


@pytest.mark.django_db(transaction=True)
def test_each_kind_of_field_gives_its_kind_of_value():
    defined(params_schema=SCHEMA, default_params=DEFAULTS)

    trace = started(person("operator").post("/definitions/crawl/start/", FILLED))

    assert params_of(trace) == {
        "target": "NVIDIA",
        "year": 2025,
        "ratio": 0.5,
        "dry": True,
        "mode": "deep",
        "strategies": ["fundamental", "technical"],
        "sites": ["x", "y"],
        "note": None,
        "deep": {"a": [1]},
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("said", "name", "error"),
    [
        ({"p:year": "20244"}, "year", "must be at most 2026"),
        ({"p:year": "soon"}, "year", "must be a whole number"),
        ({"p:year": ""}, "year", "may not be empty"),
        ({"p:ratio": "half"}, "ratio", "must be a number"),
        ({"p:deep": "[1]"}, "deep", "must be an object"),
        ({"p:deep": "{"}, "deep", "line 1, column 2"),
    ],
)
def test_b49_an_error_stands_beside_its_field_and_what_was_typed_stays(said, name, error):
    defined(params_schema=SCHEMA, default_params=DEFAULTS)

    text = person("operator").post("/definitions/crawl/start/", {**FILLED, **said}).content.decode()

    wrong = the(rf'name="p:{name}".*?</div></div>', text)
    assert error in wrong and 'aria-invalid="true"' in field(text, name)
    assert error in the(r"data-problems.*?</div>", text)
    assert 'value="NVIDIA"' in field(text, "target")
    assert not Trace.objects.exists()


NESTED = {
    "type": "object",
    "required": ["retry"],
    "properties": {
        "retry": {
            "type": "object",
            "title": "Retry policy",
            "required": ["attempts"],
            "properties": {
                "attempts": {"type": "integer", "maximum": 9, "default": 3},
                "backoff": {
                    "type": "object",
                    "properties": {"first_s": {"type": "number"}, "kind": {"enum": ["linear", "double"]}},
                },
            },
        },
        "notify": {
            "type": "object",
            "properties": {"email": {"type": "string"}, "always": {"type": "boolean"}},
        },
    },
}


@pytest.mark.django_db
def test_an_object_of_known_members_is_a_group_of_fields():
    defined(params_schema=NESTED)

    text = page_of(person("operator"))

    group = the(r'<fieldset class="group" id="p0">.*?<legend>(.*?)</legend>', text)
    assert "Retry policy" in group and "required" in group
    assert 'value="3"' in field(text, "retry/attempts")
    assert "<select" in field(text, "retry/backoff/kind")
    assert 'id="p0-1-0"' in field(text, "retry/backoff/first_s")
    assert text.count("<fieldset") == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("said", "params"),
    [
        ({"p:retry/attempts": "5"}, {"retry": {"attempts": 5}}),
        (
            {"p:retry/attempts": "5", "p:retry/backoff/kind": '"double"', "p:notify/always": "true"},
            {"retry": {"attempts": 5, "backoff": {"kind": "double"}}, "notify": {"always": True}},
        ),
    ],
)
def test_a_group_is_an_object_of_what_was_filled_in_or_is_left_out(said, params):
    defined(params_schema=NESTED)

    trace = started(person("operator").post("/definitions/crawl/start/", {"as": "form", **said}))

    assert params_of(trace) == params


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("said", "name", "error"),
    [
        ({"p:retry/attempts": "20"}, "retry/attempts", "must be at most 9"),
        ({"p:retry/attempts": ""}, "retry/attempts", "is required"),
        ({"p:retry/attempts": "1", "p:retry/backoff/first_s": "soon"}, "retry/backoff/first_s", "a number"),
    ],
)
def test_b49_an_error_in_a_group_stands_beside_the_innermost_field(said, name, error):
    defined(params_schema=NESTED)

    text = person("operator").post("/definitions/crawl/start/", {"as": "form", **said}).content.decode()

    assert 'aria-invalid="true"' in field(text, name)
    assert error in the(rf'name="p:{name}".*?</div></div>', text)
    assert "Retry policy › " in the(r"data-problems.*?</div>", text)
    assert not Trace.objects.exists()


@pytest.mark.django_db
def test_a_group_survives_the_switch_to_json_and_back():
    defined(params_schema=NESTED)
    client = person("operator")
    sent = {"as": "form", "p:retry/attempts": "7", "p:notify/email": "a@b"}

    text = client.post("/definitions/crawl/start/", {**sent, "mode": "json"}).content.decode()
    written = html.unescape(the(r'<textarea[^>]*name="params"[^>]*>(.*?)</textarea>', text))
    back = client.post("/definitions/crawl/start/", {"as": "json", "params": written, "mode": "form"})

    assert json.loads(written) == {"retry": {"attempts": 7}, "notify": {"email": "a@b"}}
    assert 'value="7"' in field(back.content.decode(), "retry/attempts")
    assert 'value="a@b"' in field(back.content.decode(), "notify/email")


def test_an_object_with_a_member_that_has_no_field_stays_a_text():
    (retry, _) = parameters.fields(NESTED, {"retry": {"attempts": 1, "more": 2}})

    assert retry.kind == "json" and '"more": 2' in retry.text


def test_names_with_slashes_are_told_from_groups():
    schema = {
        "properties": {
            "a": {"type": "object", "properties": {"b": {"type": "string"}, "b/c": {"type": "string"}}},
            "a/b": {"type": "string"},
        }
    }
    (group, slash) = parameters.fields(schema, {})

    keys = [slash.key, *(inner.key for inner in group.fields)]

    assert len(set(keys)) == 3


def test_a_schema_that_leads_to_itself_ends_in_a_text():
    schema = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {f"child{n}": {"$ref": "#/$defs/node"} for n in range(40)},
            }
        },
        "properties": {"root": {"$ref": "#/$defs/node"}},
    }

    def count(fields):
        return sum(1 + count(field.fields) for field in fields)

    assert count(parameters.fields(schema, {})) <= 1 + parameters.MOST_INNER


@pytest.mark.django_db
def test_a_missing_required_parameter_is_told_at_its_field():
    defined(params_schema=SCHEMA)

    text = person("operator").post("/definitions/crawl/start/", {"as": "form"}).content.decode()

    assert 'aria-invalid="true"' in field(text, "target") and "is required" in text


@pytest.mark.django_db
def test_the_other_way_of_writing_keeps_what_was_filled_in():
    defined(params_schema=SCHEMA, default_params={**DEFAULTS, "extra": [1]})
    client = person("operator")
    others = {"others": '{"extra": [2]}'}

    as_json = client.post("/definitions/crawl/start/", {**FILLED, **others, "mode": "json"}).content.decode()
    text = unescaped(the(r'name="params"[^>]*>(.*?)</textarea>', as_json))
    as_form = client.post(
        "/definitions/crawl/start/", {"as": "json", "params": text, "mode": "form"}
    ).content.decode()

    assert 'value="NVIDIA"' in field(as_form, "target")
    assert '"extra": [\n    2\n  ]' in unescaped(as_form)
    assert not Trace.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_keys_that_the_schema_does_not_name_are_not_lost():
    defined(params_schema=SCHEMA, default_params=DEFAULTS)

    trace = started(
        person("operator").post("/definitions/crawl/start/", {**FILLED, "others": '{"extra": [2]}'})
    )

    assert params_of(trace)["extra"] == [2]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "a\nb"),
        ({"type": "string"}, 5),
        ({"type": "integer"}, "five"),
        ({"enum": [1, 2]}, 3),
        ({"type": "array", "items": {"type": "string"}}, ["a\nb"]),
        ({"type": "array", "items": {"enum": ["a"]}}, ["a", "b"]),
        ({"type": "boolean"}, None),
        ({"type": ["integer", "null"]}, None),
        ({"type": ["boolean", "null"]}, None),
        ({"type": ["boolean", "null"]}, False),
        ({"enum": ["a", None]}, None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 7),
        ({"$ref": "#"}, {"a": 1}),
        (True, [1]),
        ({"type": "string"}, ""),
        ({"type": "array", "items": {"type": "string"}}, []),
        ({"type": "number"}, 1.5e300),
    ],
)
def test_a_value_that_its_field_cannot_carry_comes_back_all_the_same(schema, value):
    prepared = parameters.fields({"properties": {"x": schema}}, {"x": value})

    filled = parameters.fill(prepared, as_sent(prepared))

    assert filled.sound and filled.params == {"x": value}


def as_sent(fields):
    """What a browser sends of fields that nobody touched."""
    from django.http import QueryDict

    sent = QueryDict(mutable=True)
    for one in fields:
        if one.kind == parameters.Kind.YES_NO:
            sent.setlist(one.key, ["true"] if one.checked else [])
        elif one.options:
            chosen = [option.value for option in one.options if option.chosen]
            sent.setlist(one.key, chosen or ([""] if one.kind == parameters.Kind.ONE_OF else []))
        else:
            sent[one.key] = one.text.replace("\n", "\r\n")
        if not sent.getlist(one.key):
            sent.pop(one.key, None)
    return sent


# -- as a command


@pytest.mark.django_db
def test_the_form_can_be_had_as_a_command_that_a_shell_takes():
    import json
    import shlex

    defined(params_schema=SCHEMA, default_params=DEFAULTS)
    sent = {**FILLED, "p:target": "it's $HOME `x` \\", "labels": "a:b", "show": "curl"}

    answer = person("operator").post("/definitions/crawl/start/", sent, headers={"accept": "text/plain"})

    assert answer["Content-Type"].startswith("text/plain")
    said = shlex.split(answer.content.decode().replace("\\\n", " "))
    assert said[:4] == ["curl", "-X", "POST", "http://testserver/api/v1/traces/"]
    body = json.loads(said[said.index("-d") + 1])
    assert body["job_id"] == "crawl" and body["labels"] == {"a": "b"}
    assert body["input_params"]["target"] == "it's $HOME `x` \\"
    assert not Trace.objects.exists()


@pytest.mark.django_db
def test_without_scripts_the_command_stands_on_the_page():
    defined(default_params={"url": "x"})

    text = (
        person("operator")
        .post("/definitions/crawl/start/", {"params": '{"url": "y"}', "show": "curl"})
        .content.decode()
    )

    assert '"url": "y"' in unescaped(the(r'<pre id="curl"[^>]*>(.*?)</pre>', text))
    assert not Trace.objects.exists()


def test_a_schema_that_leads_to_itself_ends():
    endless = {
        "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}},
        "properties": {"x": {"$ref": "#/$defs/a"}},
    }

    assert [one.kind for one in parameters.fields(endless, {})] == [parameters.Kind.JSON]


def test_the_bounds_of_a_parameter_count_in_the_singular_too():
    schema = {
        "properties": {
            "a": {"type": "string", "minLength": 1, "maxLength": 80},
            "b": {"type": "array", "minItems": 1.0, "maxItems": 2},
        }
    }

    assert [one.facts for one in words.parameters(schema)] == [
        ("at least 1 character", "at most 80 characters"),
        ("at least 1.0 item", "at most 2 items"),
    ]
