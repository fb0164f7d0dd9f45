from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class TowerAdminConfig(AdminConfig):
    default_site = "tower.access.site.TowerAdminSite"
