from __future__ import annotations

from django.urls import URLPattern, path

from controls import api

api_patterns: list[URLPattern] = [
    path("controls/", api.ControlsView.as_view(), name="controls"),
    path("controls/<str:id>/", api.ControlView.as_view(), name="control"),
]
page_patterns: list[URLPattern] = []
