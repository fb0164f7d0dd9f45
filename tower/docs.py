"""The OpenAPI document, and the page that shows it from our own files."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator

from tower.access.pages import page
from tower.api import TowerView, answer


class Schema(TowerView):
    """``/api/v1/schema/``"""

    def get(self, request: Any) -> HttpResponse:
        return answer(document())


def document() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


@page("viewer")
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "api_docs.html")
