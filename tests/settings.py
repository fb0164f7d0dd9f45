"""The product's settings on a throw-away home. The one switch is DATABASE_URL: without it, SQLite."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_home = tempfile.mkdtemp(prefix="tower-tests-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ["TOWER_HOME"] = _home

from tests import servers  # noqa: E402

os.environ["REDIS_URL"] = f"redis://127.0.0.1:{servers.free_port()}/0"

from tower.settings import *  # noqa: E402, F403
from tower.settings import DATABASES, TOWER_HOME  # noqa: E402

# A file: the writer's thread must see the same database, and that of memory has other locks.
if "sqlite" in DATABASES["default"]["ENGINE"]:
    DATABASES["default"]["TEST"] = {"NAME": str(TOWER_HOME / "test.sqlite3")}

# Scrypt takes 50 ms on purpose; here each test signs somebody in.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# Its own tests begin one; each other that sends a large body would, too.
TOWER_READER = False

(TOWER_HOME / "staticfiles").mkdir()  # WhiteNoise warns without it
# Pages name their static files without the manifest, which `up` makes.
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
