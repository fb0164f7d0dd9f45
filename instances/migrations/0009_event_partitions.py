"""The event log in partitions, on PostgreSQL (``instances.partitions``). What is there becomes the first.

A live tower goes on: the one long step, which reads the table, takes a lock that
nobody else wants, and the swap of names is short.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, transaction

TABLE = "instances_event"
INDEXES = {"event_of_task": "task, position", "event_of_trace": "trace, position"}
#: Of a tower that runs: so many runs may begin between the first step and the last.
MEANWHILE = 1_000_000
FIRST = 2_000


def part(apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:

        def asked(sql: str) -> Any:
            cursor.execute(sql)
            return cursor.fetchone()

        if asked(f"SELECT relkind FROM pg_class WHERE oid = '{TABLE}'::regclass")[0] == "p":
            return
        newest = asked("SELECT last_value FROM instances_trace_number_seq")[0]
        filled = asked(f"SELECT EXISTS (SELECT 1 FROM {TABLE})")[0]
        high = newest + (MEANWHILE if filled else FIRST)
        first = f"{TABLE}_0_{high}"
        # The first step of one that was cut off is done again.
        cursor.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT IF EXISTS event_range")
        cursor.execute(
            f"ALTER TABLE {TABLE} ADD CONSTRAINT event_range CHECK (trace >= 0 AND trace < {high}) NOT VALID"
        )
        cursor.execute(f"ALTER TABLE {TABLE} VALIDATE CONSTRAINT event_range")
        with transaction.atomic(using=connection.alias):
            key = asked(
                f"SELECT conname FROM pg_constraint WHERE conrelid = '{TABLE}'::regclass AND contype = 'p'"
            )[0]
            cursor.execute(f"ALTER TABLE {TABLE} RENAME TO {first}")
            cursor.execute(f"ALTER TABLE {first} RENAME CONSTRAINT {key} TO {first}_pkey")
            for name in INDEXES:
                cursor.execute(f"ALTER INDEX {name} RENAME TO {first}_{name}")
            cursor.execute(
                f"CREATE TABLE {TABLE} (LIKE {first} INCLUDING DEFAULTS INCLUDING STORAGE)"
                " PARTITION BY RANGE (trace)"
            )
            cursor.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {key} PRIMARY KEY (trace, event_id)")
            for name, columns in INDEXES.items():
                cursor.execute(f"CREATE INDEX {name} ON {TABLE} ({columns})")
            cursor.execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {first} FOR VALUES FROM (0) TO ({high})")
            cursor.execute(f"ALTER TABLE {first} DROP CONSTRAINT event_range")
            cursor.execute(f"CREATE TABLE {TABLE}_rest PARTITION OF {TABLE} DEFAULT")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("instances", "0008_runs_list")]
    operations = [migrations.RunPython(part, migrations.RunPython.noop)]
