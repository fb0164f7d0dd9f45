from __future__ import annotations

from django.urls import URLPattern, path

from controls import api, views

api_patterns: list[URLPattern] = [
    path("controls/", api.ControlsView.as_view(), name="controls"),
    path("controls/<str:id>/", api.ControlView.as_view(), name="control"),
]
page_patterns: list[URLPattern] = [
    path("runs/control/", views.chosen, name="chosen"),
    path("controls/", views.audit, name="audit"),
    path("controls/file/<str:kind>/", views.file, name="file"),
    path("controls/<str:id>/", views.record, name="record"),
    path("traces/<str:trace_id>/control/", views.issue, name="issue"),
    path("traces/<str:trace_id>/control/preview/", views.preview, name="preview"),
]
