"""The OpenAPI document, and the page that shows it from our own files."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator

from tower.access.pages import page
from tower.api import TowerView, answer


class Schema(TowerView):
    """``/api/v1/schema/``"""

    def get(self, request: Any) -> HttpResponse:
        with _one_at_a_time:
            kept = _kept()
        return answer(kept)


#: The generator keeps its state in its classes: of two at once one failed.
_one_at_a_time = threading.Lock()


@cache
def _kept() -> dict[str, Any]:
    return document()


def document() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return found


@page("viewer")
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "api_docs.html")
