from __future__ import annotations

from django.urls import URLPattern, path

from tower.definitions import api, pages

api_patterns: list[URLPattern] = [
    path("definitions/", api.Definitions.as_view(), name="definitions"),
    path("definitions/<str:id>/", api.Definition.as_view(), name="definition"),
]
page_patterns: list[URLPattern] = [
    path("definitions/", pages.definitions, name="definitions"),
    path("definitions/<str:id>/", pages.definition, name="definition"),
    path("definitions/<str:id>/versions/", pages.compared, name="definition-versions"),
    path("definitions/<str:id>/start/", pages.start, name="definition-start"),
]
