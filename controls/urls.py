from __future__ import annotations

from django.urls import URLPattern, path

from controls import api, bulk_views, views

api_patterns: list[URLPattern] = [
    path("controls/", api.ControlsView.as_view(), name="controls"),
    path("controls/<str:id>/", api.ControlView.as_view(), name="control"),
]
page_patterns: list[URLPattern] = [
    path("runs/control/", views.chosen, name="chosen"),
    path("runs/actions/", bulk_views.bulks, name="bulks"),
    path("runs/actions/<str:id>/", bulk_views.bulk, name="bulk"),
    path("runs/actions/<str:id>/state/", bulk_views.state, name="bulk-state"),
    path("runs/actions/<str:id>/do/", bulk_views.do, name="bulk-do"),
    path("controls/", views.audit, name="audit"),
    path("controls/file/<str:kind>/", views.file, name="file"),
    path("controls/<str:id>/", views.record, name="record"),
    path("traces/<str:trace_id>/control/", views.issue, name="issue"),
    path("traces/<str:trace_id>/control/preview/", views.preview, name="preview"),
]
