"""The four roles as groups, and what editors and admins may do in the admin site."""

from __future__ import annotations

from typing import Any

from django.db import migrations

ROLES = ("viewer", "operator", "editor", "admin")
#: App and model: the actions in the admin site, for a role and those above it.
PERMISSIONS = {
    "editor": {
        ("definitions", "taskdefinition"): ("add", "change", "view"),
        ("definitions", "definitionversion"): ("view",),
    },
    "admin": {
        ("auth", "user"): ("add", "change", "delete", "view"),
        ("auth", "group"): ("view",),
        ("access", "token"): ("add", "change", "view"),
        ("instances", "trace"): ("view",),
        ("instances", "taskinstance"): ("view",),
        ("controls", "controlrecord"): ("view",),
    },
}


def make(apps: Any, schema_editor: Any) -> None:
    group = apps.get_model("auth", "Group")
    for role in ROLES:
        group.objects.get_or_create(name=role)
    for least, models in PERMISSIONS.items():
        for role in ROLES[ROLES.index(least) :]:
            found = group.objects.get(name=role)
            for (app, model), actions in models.items():
                found.permissions.add(*(_permission(apps, app, model, action) for action in actions))


def _permission(apps: Any, app: str, model: str, action: str) -> Any:
    # Django makes permissions only after all migrations; one that is there already stays.
    kind, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label=app, model=model)
    name = f"Can {action} {apps.get_model(app, model)._meta.verbose_name}"
    return apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=kind, codename=f"{action}_{model}", defaults={"name": name}
    )[0]


class Migration(migrations.Migration):
    dependencies = [
        ("access", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("definitions", "0001_initial"),
        ("instances", "0001_initial"),
        ("controls", "0001_initial"),
    ]
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
