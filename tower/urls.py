"""Where everything is. Each pattern needs its row in ``tower.access.matrix``."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

import controls.urls
import instances.urls
import tower.definitions.urls
from tower import docs, health, pages
from tower.access import views as access

api_patterns: list[URLPattern] = [
    *tower.definitions.urls.api_patterns,
    *instances.urls.api_patterns,
    *controls.urls.api_patterns,
    path("schema/", docs.Schema.as_view(), name="schema"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path(
        "api/",
        include(([path("v1/", include(api_patterns)), path("docs/", docs.docs, name="docs")], "api")),
    ),
    path("", include((controls.urls.page_patterns, "controls"))),
    *instances.urls.page_patterns,
    *tower.definitions.urls.page_patterns,
    path("theme/", pages.theme, name="theme"),
    path("language/", pages.language, name="language"),
    path("health/", pages.health_page, name="health"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.expose, name="metrics"),
    path("login/", access.SignIn.as_view(), name="login"),
    path("login/again/", access.PasswordAgain.as_view(), name="password-again"),
    path("password/", access.OwnPassword.as_view(), name="password"),
    path("logout/", access.SignOut.as_view(), name="logout"),
    # The admin site's own sign-in knows no limits.
    path("admin/login/", access.to_sign_in, name="admin-login"),
    path("admin/logout/", access.SignOut.as_view(), name="admin-logout"),
    path("admin/password_change/", access.to_own_password, name="admin-password"),
    path("admin/", admin.site.urls),
]

handler400 = "tower.error_pages.bad_request"
handler403 = "tower.error_pages.forbidden"
handler404 = "tower.error_pages.not_found"
handler500 = "tower.error_pages.failed"
