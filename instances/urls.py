from __future__ import annotations

from django.urls import URLPattern, path

from instances import api, api_reads, comparing, dead_letter_views, log_page, palette, run_views, runs, views

api_patterns: list[URLPattern] = [
    path("traces/", api_reads.TracesView.as_view(), name="traces"),
    path("traces/<str:trace_id>/", api_reads.TraceView.as_view(), name="trace"),
    path("traces/<str:trace_id>/tree/", api_reads.TreeView.as_view(), name="tree"),
    path("traces/<str:trace_id>/changes/", api_reads.ChangesView.as_view(), name="changes"),
    path("traces/<str:trace_id>/snapshot/", api_reads.SnapshotView.as_view(), name="snapshot"),
    path("traces/<str:trace_id>/events/", api_reads.TraceEventsView.as_view(), name="trace-events"),
    path("tasks/", api.RegisterTasks.as_view(), name="tasks"),
    path("events/", api.ReportEvents.as_view(), name="events"),
    path("tasks/<str:task_id>/", api_reads.TaskView.as_view(), name="task"),
    path("tasks/<str:task_id>/command/", api_reads.CommandView.as_view(), name="command"),
    path("tasks/<str:task_id>/aggregation/", api_reads.AggregationView.as_view(), name="aggregation"),
    path("tasks/<str:task_id>/events/", api_reads.TaskEventsView.as_view(), name="task-events"),
]
page_patterns: list[URLPattern] = [
    path("", runs.runs, name="runs"),
    path("runs/new/", runs.new, name="runs-new"),
    path("runs/beside/", runs.beside, name="runs-beside"),
    path("runs/matching/", runs.matching, name="runs-matching"),
    path("runs/views/", run_views.save, name="run-views"),
    path("runs/views/<str:id>/", run_views.change, name="run-view"),
    path("compare/", comparing.compare, name="compare"),
    path("search/", palette.search, name="search"),
    path("search/hits/", palette.hits, name="search-hits"),
    path("dead-letters/", dead_letter_views.letters, name="dead-letters"),
    path("dead-letters/<str:id>/", dead_letter_views.letter, name="dead-letter"),
    path("traces/<str:trace_id>/", views.trace, name="trace"),
    path("traces/<str:trace_id>/events/", log_page.log, name="trace-log"),
    path("traces/<str:trace_id>/find/", views.find, name="trace-find"),
    path("traces/<str:trace_id>/errors/", views.errors, name="trace-errors"),
    path("traces/<str:trace_id>/tasks/<str:task_id>/", views.task, name="trace-task"),
]
