"""Definitions in the admin site: every save through the one door, errors at their fields."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from tower.definitions import edit
from tower.definitions.models import DefinitionVersion, TaskDefinition

BODY = {"id": "crawl", "name": "Crawl the web", "actor_type": "AGENT", "code_ref": "docker://x/y:1"}
LIST = "/admin/definitions/taskdefinition/"
ADD, CHANGE = f"{LIST}add/", f"{LIST}crawl/change/"

pytestmark = pytest.mark.django_db


def person(role: str) -> Client:
    user = User.objects.create_user(f"one-{role}", password="x", is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def editor():
    return person("editor")


def form(**said: Any) -> dict[str, Any]:
    """What a browser sends of the form; ``seen_version`` and the inline of versions where there is one."""
    body = {
        **BODY,
        "description": "",
        "default_params": "",
        "params_schema": "",
        "join_policy": "",
        "join_count": "",
        "join_percent": "",
        "timeout_sec": "300",
        "max_retries": "3",
        "cancel_grace_sec": "30",
        "is_active": "on",
        "versions-TOTAL_FORMS": "0",
        "versions-INITIAL_FORMS": "0",
        **said,
    }
    return {name: value for name, value in body.items() if value is not None}


def errors_of(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 200
    return {name: list(errors) for name, errors in answer.context["adminform"].form.errors.items()}


def test_a_definition_is_written_with_its_first_version(editor):
    answer = editor.post(
        ADD,
        form(
            default_params='{"url": "https://example.org"}',
            params_schema='{"type": "object"}',
            join_policy="at_least",
            join_count="2",
        ),
    )

    assert answer.status_code == 302
    definition, version = TaskDefinition.objects.get(), DefinitionVersion.objects.get()
    assert (definition.version, version.number, version.created_by) == (1, 1, "one-editor")
    assert definition.default_params == {"url": "https://example.org"}
    assert version.params_schema == {"type": "object"}
    assert version.join == {"policy": "at_least", "count": 2}


def test_a_change_makes_a_version_by_who_made_it(editor):
    edit.create(BODY, by="anna")

    answer = editor.post(CHANGE, form(id=None, timeout_sec="60", seen_version="1"))

    assert answer.status_code == 302
    assert TaskDefinition.objects.get().version == 2
    last = DefinitionVersion.objects.get(number=2)
    assert (last.timeout_sec, last.created_by) == (60, "one-editor")
    assert DefinitionVersion.objects.get(number=1).timeout_sec == 300


def test_saving_without_a_change_makes_no_version(editor):
    edit.create({**BODY, "params_schema": {"type": "object"}, "default_params": {"a": 1.5}}, by="anna")
    shown = editor.get(CHANGE).context["adminform"].form

    sent = {name: shown[name].value() for name in shown.fields if shown[name].value() is not None}
    answer = editor.post(CHANGE, form(**{**sent, "id": None}))

    assert answer.status_code == 302
    assert DefinitionVersion.objects.count() == 1


def test_switching_off_in_the_form_makes_no_version(editor):
    edit.create(BODY, by="anna")

    editor.post(CHANGE, form(id=None, is_active=None, seen_version="1"))

    definition = TaskDefinition.objects.get()
    assert (definition.is_active, definition.version, DefinitionVersion.objects.count()) == (False, 1, 1)


@pytest.mark.parametrize(
    ("said", "field", "error"),
    [
        ({"default_params": '{"a": 1,\n  "b": }'}, "default_params", "line 2, column 8"),
        ({"default_params": "[]"}, "default_params", "must be an object"),
        ({"default_params": '{"a": 1e400}'}, "default_params", "Not a finite number"),
        ({"params_schema": '{"type": "nonsense"}'}, "params_schema", "/type"),
        ({"params_schema": '{"$ref": "http://127.0.0.1:1/x"}'}, "params_schema", "nothing is fetched"),
        ({"params_schema": "{"}, "params_schema", "line 1, column 2"),
        ({"join_policy": "most"}, "join_policy", "Select a valid choice"),
        ({"join_policy": "at_least"}, "join_count", "needs a count or a percent"),
        ({"join_policy": "at_least", "join_count": "0"}, "join_count", "of at least 1"),
        ({"join_policy": "at_least", "join_count": "1.5"}, "join_count", "Enter a whole number"),
        ({"join_policy": "at_least", "join_percent": "101"}, "join_percent", "at most 100"),
        ({"join_policy": "at_least", "join_percent": "many"}, "join_percent", "Enter a number"),
        (
            {"join_policy": "at_most_failed", "join_count": "1", "join_percent": "5"},
            "join_percent",
            "exclude each other",
        ),
        ({"join_policy": "any", "join_count": "2"}, "join_count", "counts nothing"),
        ({"join_count": "2"}, "join_policy", "Choose a policy"),
        ({"join_early": "on"}, "join_policy", "Choose a policy"),
        ({"timeout_sec": "2592001"}, "timeout_sec", "from 0 to 2592000"),
        ({"max_retries": "101"}, "max_retries", "from 0 to 100"),
        ({"id": "a b"}, "id", "begin with a letter or digit"),
        ({"id": "global_action"}, "id", "reserved"),
        ({"name": ""}, "name", "required"),
        ({"actor_type": "WORKER"}, "actor_type", "not one of the available choices"),
        ({"code_ref": "x" * 4097}, "code_ref", "4096 bytes"),
    ],
)
def test_b51_an_error_stands_at_its_field_and_nothing_is_saved(editor, said, field, error):
    answer = editor.post(ADD, form(**said))

    assert error in errors_of(answer)[field][0]
    assert not TaskDefinition.objects.exists()


def test_what_was_typed_wrong_stays_as_it_was_typed(editor):
    answer = editor.post(ADD, form(default_params='{"a": 1,, }', name="Other"))

    text = answer.content.decode()
    assert "{&quot;a&quot;: 1,, }" in text and 'value="Other"' in text


def test_json_is_shown_in_lines_and_in_the_codes_own_letters(editor):
    edit.create({**BODY, "default_params": {"名": ["a"]}, "join": {"policy": "all"}}, by="anna")

    text = editor.get(CHANGE).content.decode()

    area = re.search(r'<textarea[^>]*name="default_params"[^>]*>(.*?)</textarea>', text, re.S)
    assert area and "data-json" in area[0] and "mono" in area[0]
    assert "\n  &quot;名&quot;: [" in area[1]


def test_a_second_definition_of_an_id_is_refused_at_the_id(editor):
    edit.create(BODY, by="anna")

    assert "already exists" in errors_of(editor.post(ADD, form(name="Other")))["id"][0]


def test_nobody_writes_over_a_change_unseen(editor):
    edit.create(BODY, by="anna")
    edit.change("crawl", {"timeout_sec": 5}, by="bob")

    answer = editor.post(CHANGE, form(id=None, seen_version="1", name="Other"))

    assert "Somebody saved version 2" in errors_of(answer)["__all__"][0]
    assert TaskDefinition.objects.get().name == "Crawl the web"


def test_the_id_is_fixed_once_it_is_there(editor):
    edit.create(BODY, by="anna")

    editor.post(CHANGE, form(id="other", name="Other", seen_version="1"))

    assert list(TaskDefinition.objects.values_list("id", "name")) == [("crawl", "Other")]


def test_versions_are_shown_and_cannot_be_changed(editor):
    edit.create(BODY, by="anna")
    edit.change("crawl", {"timeout_sec": 5}, by="bob")

    text = editor.get(CHANGE).content.decode()
    editor.post(
        CHANGE,
        form(
            id=None,
            seen_version="2",
            timeout_sec="5",
            **{
                "versions-TOTAL_FORMS": "1",
                "versions-INITIAL_FORMS": "1",
                "versions-0-id": DefinitionVersion.objects.get(number=1).pk,
                "versions-0-definition": "crawl",
                "versions-0-name": "Rewritten",
                "versions-0-DELETE": "on",
            },
        ),
    )

    assert "bob" in text and "anna" in text and "timeout, seconds" in text
    assert list(DefinitionVersion.objects.values_list("name", flat=True)) == ["Crawl the web"] * 2


def test_the_action_switches_off_and_on_and_says_how_many(editor):
    for id in ("a", "b", "c"):
        edit.create({**BODY, "id": id}, by="anna")
    edit.change("c", {"is_active": False}, by="anna")

    def act(action):
        sent = {"action": action, "_selected_action": ["b", "c"]}
        return editor.post(LIST, sent, follow=True).content.decode()

    assert "1 definition was switched off." in act("deactivate")
    assert set(TaskDefinition.objects.filter(is_active=True).values_list("id", flat=True)) == {"a"}
    assert "2 definitions were switched on." in act("activate")
    assert TaskDefinition.objects.filter(is_active=True).count() == 3
    assert DefinitionVersion.objects.count() == 3


def test_b51_nothing_is_deleted_here(editor):
    edit.create(BODY, by="anna")

    assert editor.post(f"{LIST}crawl/delete/", {"post": "yes"}).status_code == 403
    editor.post(LIST, {"action": "delete_selected", "_selected_action": ["crawl"], "post": "yes"})
    assert "delete_selected" not in editor.get(LIST).content.decode()
    assert TaskDefinition.objects.exists()


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("q=web", ["crawl"]),
        ("q=docker", ["crawl", "idle"]),
        ("is_active__exact=0", ["idle"]),
        ("actor_type__exact=EXECUTION", ["idle"]),
    ],
)
def test_the_list_is_searched_and_filtered(editor, query, ids):
    edit.create(BODY, by="anna")
    edit.create(
        {**BODY, "id": "idle", "name": "Idle", "is_active": False, "actor_type": "EXECUTION"}, by="anna"
    )

    found = editor.get(f"{LIST}?{query}").context["cl"].result_list

    assert [one.pk for one in found] == ids


def test_list_and_form_lead_to_the_start_of_a_run(editor):
    edit.create(BODY, by="anna")

    assert '<a href="/definitions/crawl/">start a run</a>' in editor.get(LIST).content.decode()
    assert '<a href="/definitions/crawl/">Start a run</a>' in editor.get(CHANGE).content.decode()


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_who_is_no_editor_does_not_get_in(role):
    edit.create(BODY, by="anna")
    client = person(role)

    for path in (LIST, ADD, CHANGE):
        assert client.get(path).status_code in {302, 403}
    client.post(CHANGE, form(id=None, name="Other", seen_version="1"))
    assert TaskDefinition.objects.get().name == "Crawl the web"


def test_b71_markup_in_a_definition_is_text_in_the_admin_too(editor):
    evil = '"><img src=x onerror=alert(1)>'
    edit.create({**BODY, "name": evil, "default_params": {evil: evil}}, by=evil)
    edit.change("crawl", {"code_ref": evil}, by=evil)

    for path in (LIST, CHANGE):
        assert "<img src=x" not in editor.get(path).content.decode()


def test_the_admin_says_what_it_sends_as_json(editor):
    editor.post(ADD, form(default_params=json.dumps({"a": [1, {"b": None}]})))

    assert TaskDefinition.objects.get().default_params == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    ("typed", "join"),
    [
        ({}, None),
        ({"join_policy": "any"}, {"policy": "any"}),
        ({"join_policy": "all", "join_early": "on"}, {"policy": "all", "early": True}),
        ({"join_policy": "all_done"}, {"policy": "all_done"}),
        ({"join_policy": "at_least", "join_percent": "90"}, {"policy": "at_least", "percent": 90}),
        ({"join_policy": "at_least", "join_percent": "33.3"}, {"policy": "at_least", "percent": 33.3}),
        ({"join_policy": "at_most_failed", "join_count": "4"}, {"policy": "at_most_failed", "count": 4}),
    ],
)
def test_a_join_is_put_together_from_its_fields(editor, typed, join):
    assert editor.post(ADD, form(**typed)).status_code == 302

    assert DefinitionVersion.objects.get().join == join


@pytest.mark.parametrize(
    "join",
    [
        None,
        {"policy": "all", "early": True},
        {"policy": "at_least", "percent": 90},
        {"policy": "at_most_failed", "count": 4},
    ],
)
def test_a_join_that_the_api_wrote_stands_in_the_fields_and_saving_it_makes_no_version(editor, join):
    edit.create({**BODY, "join": join}, by="anna")
    shown = editor.get(CHANGE).context["adminform"].form

    values = {name: shown[name].value() for name in shown.fields}
    sent = {name: "on" if value is True else value for name, value in values.items() if value}
    answer = editor.post(CHANGE, form(**{**sent, "id": None, "default_params": "", "params_schema": ""}))

    assert answer.status_code == 302, errors_of(answer)
    assert DefinitionVersion.objects.count() == 1
    assert values["join_policy"] == ((join or {}).get("policy"))
