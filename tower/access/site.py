"""The admin site, for editors and admins: by role, not by Django's flag of staff."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from tower.access.roles import role_at_least


class TowerAdminSite(AdminSite):
    site_header = site_title = _("Command Tower")
    index_title = _("Administration")
    # Four entries need no bar of their own; it took the width that the lists need.
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        return role_at_least(request.user, "editor")
