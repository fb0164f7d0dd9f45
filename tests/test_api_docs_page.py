"""The API's document in a browser, under the policy of the page."""

from __future__ import annotations

from typing import Any

from tower import docs


def test_the_page_draws_the_document_under_the_policy(page: Any) -> None:
    page.goto("/api/docs/")

    page.locator(".opblock").first.wait_for()
    assert page.locator(".opblock").count() == sum(len(x) for x in docs.document()["paths"].values())
    page.locator("#operations-definitions-get-definitions button.opblock-summary-control").click()
    page.locator(".try-out__btn").click()
    page.locator("button.execute").click()
    page.locator(".live-responses-table .response-col_status", has_text="200").wait_for()


def test_it_follows_the_theme_of_the_pages(page: Any) -> None:
    page.goto("/api/docs/")
    page.locator("pre.version").first.wait_for()

    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.locator("html.dark-mode").wait_for()
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#api-docs')).backgroundColor")
        != "rgb(255, 255, 255)"
    )
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.locator("html:not(.dark-mode)").wait_for()
