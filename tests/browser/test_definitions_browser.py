"""Definitions in a real Chromium: starting runs with scripts on and off, the command, axe, narrow screens."""

from __future__ import annotations

import json
import re
import shlex

import pytest
from playwright.sync_api import expect

from tests.browser.axe import violations

SCHEMA = {
    "type": "object",
    "required": ["target", "year"],
    "properties": {
        "target": {"type": "string", "title": "Target", "description": "As in its filings"},
        "year": {"type": "integer", "title": "Fiscal year", "maximum": 2026},
        "strategies": {"type": "array", "items": {"enum": ["fundamental", "sentiment"]}},
        "depth": {"enum": ["quick", "deep"]},
        "dry": {"type": "boolean"},
        "sites": {"type": "array", "items": {"type": "string"}},
        "options": {"type": "object"},
    },
}
NESTED = {
    "type": "object",
    "properties": {
        "retry": {
            "type": "object",
            "title": "Retry policy",
            "description": "After a failure",
            "required": ["attempts"],
            "properties": {
                "attempts": {"type": "integer", "maximum": 9},
                "backoff": {"type": "object", "properties": {"kind": {"enum": ["linear", "double"]}}},
            },
        },
        "notify": {"type": "object", "properties": {"email": {"type": "string"}}},
    },
}
FORM, TEXT, OFF, JOINED = "browser-form", "browser-text", "browser-off", "browser-joined"
PAGES = {
    "list": "/definitions/",
    "form": f"/definitions/{FORM}/",
    "json": f"/definitions/{FORM}/?as=json",
    "off": f"/definitions/{OFF}/",
    "nested": "/definitions/browser-nested/",
    "versions": f"/definitions/{FORM}/versions/?from=1&to=2",
}


@pytest.fixture(scope="module", autouse=True)
def definitions(live_tower):
    def define(id, **more):
        body = {
            "id": id,
            "name": f"Browser {id}",
            "actor_type": "AGENT",
            "code_ref": "docker://x/y:1",
            **more,
        }
        assert live_tower.call("POST", "definitions/", body)[0] in {200, 201}

    define(
        FORM,
        params_schema=SCHEMA,
        default_params={"target": "Tesla", "year": 2024, "strategies": ["sentiment"]},
    )
    define(TEXT, default_params={"url": "https://example.org"})
    define(OFF, is_active=False)
    define("browser-nested", params_schema=NESTED)
    define(JOINED)
    live_tower.call("PATCH", f"definitions/{FORM}/", {"join": {"policy": "all"}, "timeout_sec": 60})


def params_of_the_run(page, tower):
    page.wait_for_url(re.compile(r"/traces/[0-9A-Z]{26}/$"))
    trace = page.url.split("/traces/")[1].strip("/")
    root = tower.call("GET", f"traces/{trace}/")[1]["root_task_id"]
    return tower.call("GET", f"tasks/{root}/?trace_id={trace}")[1]["input_params"]


@pytest.mark.parametrize("scripts", [True, False])
def test_the_prefilled_text_starts_a_run_and_leads_to_it(new_page, live_tower, scripts):
    page = new_page(java_script_enabled=scripts)
    page.goto(f"/definitions/{TEXT}/")

    page.click("form[data-start] button[type=submit]")

    assert params_of_the_run(page, live_tower) == {"url": "https://example.org"}


@pytest.mark.parametrize("scripts", [True, False])
def test_the_fields_start_a_run_with_what_was_filled_in(new_page, live_tower, scripts):
    page = new_page(java_script_enabled=scripts)
    page.goto(f"/definitions/{FORM}/")

    page.get_by_label("Target").fill("NVIDIA")
    page.get_by_label("Fiscal year").fill("2025")
    page.get_by_label("fundamental").check()
    page.locator("select[name='p:depth']").select_option(label="deep")
    page.get_by_label("dry").check()
    page.get_by_label("sites").fill("a\nb")
    page.get_by_label("options").fill('{"n": 1}')
    page.get_by_label("Target").press("Enter")

    assert params_of_the_run(page, live_tower) == {
        "target": "NVIDIA",
        "year": 2025,
        "strategies": ["fundamental", "sentiment"],
        "depth": "deep",
        "dry": True,
        "sites": ["a", "b"],
        "options": {"n": 1},
    }


@pytest.mark.parametrize("scripts", [True, False])
def test_a_group_of_fields_starts_a_run_with_an_object(new_page, live_tower, scripts):
    page = new_page(java_script_enabled=scripts)
    page.goto("/definitions/browser-nested/")
    group = page.get_by_role("group", name=re.compile("^Retry policy"))
    group.get_by_label("attempts").fill("12")
    group.get_by_role("group", name=re.compile("^backoff")).get_by_label("kind").select_option("double")

    page.click("form[data-start] button[type=submit]")
    expect(group.locator(".f.bad .err")).to_have_text("must be at most 9")
    group.get_by_label("attempts").fill("5")
    page.click("form[data-start] button[type=submit]")

    assert params_of_the_run(page, live_tower) == {"retry": {"attempts": 5, "backoff": {"kind": "double"}}}


def test_two_versions_are_compared_by_choice(page):
    page.goto(f"/definitions/{FORM}/")

    page.get_by_role("link", name="Compare two").click()

    expect(page.locator("h1")).to_have_text("From version 1 to version 2")
    timeout = page.locator(".card", has=page.get_by_role("heading", name="timeout, seconds"))
    expect(timeout.locator("tr.gone")).to_contain_text("300")
    expect(timeout.locator("tr.come")).to_contain_text("60")
    page.get_by_label("From version").select_option("2")
    expect(page.get_by_text("These two say the same")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_an_error_stands_beside_its_field_and_the_rest_stays(new_page, scripts):
    page = new_page(java_script_enabled=scripts)
    page.goto(f"/definitions/{FORM}/")
    page.get_by_label("Target").fill("NVIDIA")
    page.get_by_label("Fiscal year").fill("20244")

    page.click("form[data-start] button[type=submit]")

    expect(page.get_by_label("Fiscal year")).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".f.bad .err")).to_have_text("must be at most 2026")
    expect(page.get_by_label("Target")).to_have_value("NVIDIA")
    if scripts:
        expect(page.locator("[data-problems]")).to_be_focused()


def test_the_other_way_of_writing_keeps_what_was_filled_in(page):
    page.goto(f"/definitions/{FORM}/")
    page.get_by_label("Target").fill("NVIDIA")

    page.click("[data-mode=json]")

    text = page.locator("textarea[name=params]")
    expect(text).to_have_value(re.compile('"target": "NVIDIA"'))
    text.fill(text.input_value().replace("NVIDIA", "Rivian"))

    page.click("[data-mode=form]")

    expect(page.get_by_label("Target")).to_have_value("Rivian")


def test_without_scripts_the_other_way_of_writing_is_a_link(new_page):
    page = new_page(java_script_enabled=False)
    page.goto(f"/definitions/{FORM}/")

    page.click("[data-mode=json]")

    expect(page.locator("textarea[name=params]")).to_have_value(re.compile('"target": "Tesla"'))


def test_the_command_goes_to_the_clipboard_and_starts_the_same_run(new_page, live_tower):
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"/definitions/{FORM}/")
    page.get_by_label("Target").fill("O'Reilly")

    page.click("[data-curl]")

    expect(page.locator("[data-curl]")).to_contain_text("Copied")
    words = shlex.split(page.evaluate("navigator.clipboard.readText()").replace("\\\n", " "))
    assert words[3] == f"{live_tower.url}/api/v1/traces/"
    body = json.loads(words[words.index("-d") + 1])
    assert body["input_params"]["target"] == "O'Reilly"
    assert live_tower.call("POST", "traces/", body)[0] == 201
    assert page.url.endswith(f"/definitions/{FORM}/")


def test_where_the_form_is_wrong_the_command_button_says_so(page):
    page.goto(f"/definitions/{FORM}/")
    page.get_by_label("Fiscal year").fill("soon")

    page.click("[data-curl]")

    expect(page.locator(".f.bad .err")).to_have_text("must be a whole number")


def test_without_scripts_the_command_stands_on_the_page(new_page):
    page = new_page(java_script_enabled=False)
    page.goto(f"/definitions/{TEXT}/")

    page.click("[data-curl]")

    expect(page.locator("#curl")).to_contain_text('"url": "https://example.org"')


def test_a_definition_that_is_off_says_why_and_has_no_form(page):
    page.goto(f"/definitions/{OFF}/")

    expect(page.locator("form[data-start]")).to_have_count(0)
    expect(page.get_by_text("no run can be started")).to_be_visible()


def test_a_filter_of_the_list_acts_at_once(page):
    page.goto("/definitions/?q=browser-")
    expect(page.locator(f"[data-definition='{FORM}']")).to_be_visible()

    page.select_option("select[name=active]", "no")

    expect(page.locator("[data-definition]")).to_have_count(1)
    expect(page.locator(f"[data-definition='{OFF}']")).to_be_visible()


def test_the_form_with_errors_is_accessible_too(page):
    page.goto(f"/definitions/{FORM}/")
    page.get_by_label("Fiscal year").fill("soon")
    page.click("form[data-start] button[type=submit]")
    expect(page.locator("[data-problems]")).to_be_visible()

    assert violations(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_a_narrow_screen(new_page, name):
    page = new_page(viewport={"width": 360, "height": 740})
    page.goto(PAGES[name])

    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_admin_form_works_under_the_policy_and_shows_the_line_of_an_error(page):
    page.goto(f"/admin/definitions/taskdefinition/{TEXT}/change/")
    page.fill("textarea[name=default_params]", '{"a": 1,\n "b": }')

    page.click("input[name=_continue] >> nth=0")

    expect(page.locator(".field-default_params .errorlist")).to_contain_text("line 2, column 7")
    expect(page.locator("textarea[name=default_params]")).to_have_value('{"a": 1,\n "b": }')


def test_a_join_is_written_without_json_and_its_error_stands_at_its_field(page, live_tower):
    page.goto(f"/admin/definitions/taskdefinition/{JOINED}/change/")
    page.get_by_label("Policy").select_option("at_least")
    page.get_by_label("Percent").fill("120")
    page.locator("[name=_save]").first.click()
    expect(page.locator(".field-join_percent .errorlist")).to_contain_text("at most 100")
    expect(page.get_by_label("Policy")).to_have_value("at_least")

    page.get_by_label("Percent").fill("90")
    page.get_by_label("Early").check()
    page.locator("[name=_save]").first.click()

    expect(page.locator(".messagelist")).to_contain_text("Version 2")
    _, said = live_tower.call("GET", f"definitions/{JOINED}/")
    assert said["join"] == {"policy": "at_least", "percent": 90, "early": True}


@pytest.mark.parametrize("width", [360, 1280])
def test_the_list_in_the_admin_site_fits_and_shows_the_way_back(new_page, width):
    page = new_page(viewport={"width": width, "height": 740})
    page.goto("/admin/definitions/taskdefinition/")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut = "e => e.getBoundingClientRect().bottom > e.closest('#header').getBoundingClientRect().bottom"
    assert not page.locator(".tower-nav").evaluate(cut)
