"""All settings, each with its reason. A strange value stops the start with one sentence."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tower import kafka, logs

BASE_DIR = Path(__file__).resolve().parent.parent


def env_int(name: str, default: int, *, least: int = 0) -> int:
    raw = os.environ.get(name, "")
    if raw == "":
        return default
    try:
        value = int(raw)
    except ValueError:
        sys.exit(f"{name} must be a whole number, not {raw!r}.")
    if value < least:
        sys.exit(f"{name} must be at least {least}, not {value}.")
    return value


def env_bool(name: str, *, default: bool = False) -> bool:
    raw = os.environ.get(name, "").lower()
    if raw not in {"", "0", "1", "true", "false", "yes", "no", "on", "off"}:
        sys.exit(f"{name} must be 0 or 1, not {raw!r}.")
    return raw in {"1", "true", "yes", "on"} if raw else default


TOWER_HOME = Path(os.environ.get("TOWER_HOME") or BASE_DIR / "var").absolute()
SECRETS_DIR = TOWER_HOME / "secrets"


def secret(name: str, *, length: int = 48) -> str:
    """Read a secret of this installation, or make it: 0700 folder, 0600 file, never logged."""
    path = SECRETS_DIR / name
    try:
        # The database beside it holds what people sign in with; `parents` alone would let everybody look.
        TOWER_HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
        SECRETS_DIR.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    except OSError as error:
        sys.exit(f"TOWER_HOME {TOWER_HOME} cannot be written: {error.strerror}.")
    value = secrets.token_urlsafe(length)
    with os.fdopen(fd, "w") as file:
        file.write(value)
    return value


SECRET_KEY = os.environ.get("SECRET_KEY") or secret("secret_key")
DEBUG = env_bool("DEBUG")
TOWER_BIND = os.environ.get("TOWER_BIND") or "127.0.0.1:8000"
ALLOWED_HOSTS = [h for h in os.environ.get("ALLOWED_HOSTS", "").split(",") if h] or [
    "127.0.0.1",
    "localhost",
    "[::1]",
]

TOWER_LOG = os.environ.get("TOWER_LOG") or "json"
if TOWER_LOG not in {"json", "text"}:
    sys.exit(f"TOWER_LOG must be json or text, not {TOWER_LOG!r}.")
LOGGING = logs.configuration(TOWER_LOG)

INSTALLED_APPS = [
    "tower",
    "tower.access.site_config.TowerAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "mptt",
    "tower.access",
    "tower.definitions",
    "instances",
    "controls",
]

MIDDLEWARE = [
    "tower.access_log.Routed",
    "tower.middleware.Frame",
    "tower.packing.Packed",
    "tower.static.ServedStatic",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "tower.language.Spoken",
    "tower.middleware.Common",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "tower.access_log.Routed",
    "tower.middleware.Access",
]

REST_FRAMEWORK = {
    "DEFAULT_SCHEMA_CLASS": "tower.openapi.TowerSchema",
    "URL_FORMAT_OVERRIDE": None,  # ?format= is an unknown parameter like any other
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Command Tower",
    "DESCRIPTION": "Register trees of tasks, report what becomes of them, read them, control them.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": ["tower.openapi.complete"],
}

ROOT_URLCONF = "tower.urls"
ASGI_APPLICATION = "tower.asgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "tower.access.pages.who",
            ],
            "libraries": {
                "marks": "tower.marks",
                "access": "tower.access.pages",
                "question": "controls.question",
            },
        },
    },
]


def database(url: str) -> dict[str, Any]:
    """``DATABASES["default"]`` from a URL: a libpq URI, or empty for SQLite under TOWER_HOME."""
    if not url:
        return sqlite(TOWER_HOME / "tower.sqlite3")
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlite(Path(unquote(parts.path)))
    if parts.scheme not in {"postgres", "postgresql"}:
        sys.exit(f"DATABASE_URL must begin with postgresql:// or sqlite://, not {parts.scheme!r}.")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    return {
        "ENGINE": "tower.postgres",
        "NAME": unquote(parts.path.lstrip("/")) or "postgres",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": query.pop("host", None) or unquote(parts.hostname or ""),
        "PORT": query.pop("port", None) or str(parts.port or ""),
        # Under ASGI each request has a thread of its own; without the pool each would open a connection.
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **query,
            # The statements of the hot path are planned once a connection and not each time (measured: of
            # one report a request PostgreSQL takes 0.36 ms instead of 0.60). Django's own bind in the client.
            "prepare_threshold": 5,
            "pool": {
                "min_size": 1,
                "max_size": env_int("TOWER_DB_POOL", 16, least=2),
                "timeout": 5,
                # It tries again after 1, 2, 4 s: given up soon, the next request begins at once.
                "reconnect_timeout": 2,
            },
            "options": "-c lock_timeout=5000 -c statement_timeout=30000"
            " -c idle_in_transaction_session_timeout=60000",
        },
    }


def sqlite(path: Path) -> dict[str, Any]:
    import sqlite3

    # The WAL-reset bug (3.7.0-3.51.2) corrupts a file that two processes checkpoint at once.
    fixed = sqlite3.sqlite_version_info >= (3, 51, 3)
    journal = "WAL" if fixed else "TRUNCATE"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        # 0: a connection of a request's thread is closed with it.
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            "timeout": 5,
            # A deferred transaction that reads first gets SQLITE_BUSY at its write without waiting.
            "transaction_mode": "IMMEDIATE",
            "init_command": (
                f"PRAGMA journal_mode={journal};"
                f"PRAGMA synchronous={TOWER_SQLITE_SYNC};"
                "PRAGMA foreign_keys=ON;"
                "PRAGMA mmap_size=0;"
                "PRAGMA journal_size_limit=67108864;"
                "PRAGMA wal_autocheckpoint=20000;"
            ),
        },
    }


# NORMAL may lose the last commits at a power cut
TOWER_SQLITE_SYNC = os.environ.get("TOWER_SQLITE_SYNC") or "FULL"
if TOWER_SQLITE_SYNC not in {"FULL", "NORMAL", "EXTRA"}:
    sys.exit(f"TOWER_SQLITE_SYNC must be FULL, NORMAL or EXTRA, not {TOWER_SQLITE_SYNC!r}.")
DATABASES = {"default": database(os.environ.get("DATABASE_URL", ""))}

REDIS_URL = os.environ.get("REDIS_URL", "")  # empty: the embedded Valkey that `up` starts

TOWER_EVENTS_URL = os.environ.get("TOWER_EVENTS_URL", "")  # the queue of reports; empty: the Redis above
if kafka.is_kafka(TOWER_EVENTS_URL):
    try:
        kafka.address(TOWER_EVENTS_URL)
    except kafka.BadAddress as bad:
        sys.exit(f"TOWER_EVENTS_URL cannot be used: {bad}.")

# a power cut loses a second of the stream
TOWER_VALKEY_FSYNC = os.environ.get("TOWER_VALKEY_FSYNC") or "everysec"
if TOWER_VALKEY_FSYNC not in {"everysec", "always"}:
    sys.exit(f"TOWER_VALKEY_FSYNC must be everysec or always, not {TOWER_VALKEY_FSYNC!r}.")
# the Redis above, found when first used
CHANNEL_LAYERS = {"default": {"BACKEND": "tower.channel_layer.ChannelLayer"}}
#: Origins besides the request's own from which a browser may open a live socket, separated by commas.
TOWER_ORIGINS = [o.strip().rstrip("/") for o in os.environ.get("TOWER_ORIGINS", "").split(",") if o.strip()]

AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "tower.access.passwords.NotGuessed"},
    {"NAME": "tower.access.passwords.NotTooLong"},
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.ScryptPasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
LOGIN_URL = "/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/login/"

TOWER_HTTPS = env_bool("TOWER_HTTPS")  # the browser speaks HTTPS, to us or to a proxy of ours
# so many of our own stand in front; their headers count
TOWER_TRUSTED_PROXIES = env_int("TOWER_TRUSTED_PROXIES", 0)
SESSION_COOKIE_NAME = "__Host-tower_session" if TOWER_HTTPS else "tower_session"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = TOWER_HTTPS
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600  # from the last use; tower.access.sessions ends it after 7 days
CSRF_FAILURE_VIEW = "tower.error_pages.csrf_failed"
# The reader of bodies has the limit of its own; Django's would answer with an HTML page.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * env_int("TOWER_MAX_BODY_BYTES", 16 << 20, least=1024)
FILE_UPLOAD_MAX_MEMORY_SIZE = DATA_UPLOAD_MAX_MEMORY_SIZE

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
LANGUAGE_COOKIE_NAME = "language"  # what the switch in the bar keeps; else the browser's preference
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = ["tower.formats"]

STATIC_URL = "static/"
STATIC_ROOT = TOWER_HOME / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "tower.static.HashedFiles"},
}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- limits (reliability.md section 3); each by the environment variable of its name

TOWER_MAX_BATCH = env_int("TOWER_MAX_BATCH", 10_000, least=1)
TOWER_MAX_BODY_BYTES = env_int("TOWER_MAX_BODY_BYTES", 16 << 20, least=1024)
TOWER_REQUEST_TIMEOUT = env_int("TOWER_REQUEST_TIMEOUT", 30, least=1)  # seconds to receive a request in
TOWER_MAX_PAYLOAD_BYTES = env_int("TOWER_MAX_PAYLOAD_BYTES", 64 << 10, least=64)
TOWER_MAX_PARAMS_BYTES = env_int("TOWER_MAX_PARAMS_BYTES", 256 << 10, least=64)
TOWER_MAX_JSON_DEPTH = env_int("TOWER_MAX_JSON_DEPTH", 64, least=4)
TOWER_MAX_TEXT_BYTES = env_int("TOWER_MAX_TEXT_BYTES", 4 << 10, least=64)
TOWER_MAX_DEPTH = env_int("TOWER_MAX_DEPTH", 1_000, least=1)
TOWER_MAX_TRACE_NODES = env_int("TOWER_MAX_TRACE_NODES", 1_000_000, least=1)
TOWER_MAX_ATTEMPT = env_int("TOWER_MAX_ATTEMPT", 1_000, least=1)
TOWER_PAGE_SIZE = env_int("TOWER_PAGE_SIZE", 50, least=1)
TOWER_PAGE_SIZE_MAX = env_int("TOWER_PAGE_SIZE_MAX", 500, least=1)
TOWER_TREE_LIMIT = env_int("TOWER_TREE_LIMIT", 10_000, least=1)
TOWER_EVENT_BATCH = env_int("TOWER_EVENT_BATCH", 2_000, least=1)  # one transaction stays short
# a control waits for one of these at most
TOWER_REGISTER_BATCH = env_int("TOWER_REGISTER_BATCH", 1_000, least=1)
# entries of a queue that lags in one transaction
TOWER_QUEUE_BATCH = env_int("TOWER_QUEUE_BATCH", 5_000, least=1)
# consumers that `up` runs: while the database works for one, another folds; SQLite has one writer
_server = not str(DATABASES["default"]["ENGINE"]).endswith("sqlite3")
TOWER_CONSUMERS = env_int("TOWER_CONSUMERS", 2 if _server else 1, least=1)
# a process beside each web process that reads large bodies of reports; on one core it would be in the way
TOWER_READER = env_bool("TOWER_READER", default=(os.cpu_count() or 1) > 1)
# an entry that was handed out more often has killed its consumers
TOWER_MAX_DELIVERIES = env_int("TOWER_MAX_DELIVERIES", 5, least=3)
# so long reports for a pruned run are refused, and do not begin it anew
TOWER_TOMBSTONE_DAYS = env_int("TOWER_TOMBSTONE_DAYS", 90, least=1)
# requests waiting in a process; more: 429
TOWER_INGEST_INFLIGHT = env_int("TOWER_INGEST_INFLIGHT", 64, least=1)
# of one token, so that who floods slows down itself
TOWER_INGEST_PER_TOKEN = env_int("TOWER_INGEST_PER_TOKEN", max(1, TOWER_INGEST_INFLIGHT // 2), least=1)
TOWER_RATE_READ = env_int("TOWER_RATE_READ", 1_000, least=1)  # a second and principal, twice that at once
# the same for what changes something by hand
TOWER_RATE_CONTROL = env_int("TOWER_RATE_CONTROL", 200, least=1)
TOWER_SWEEP_SEC = env_int("TOWER_SWEEP_SEC", 1, least=1)
TOWER_WS_MAX_MESSAGE_IN = env_int("TOWER_WS_MAX_MESSAGE_IN", 64 << 10, least=1024)
TOWER_WS_MAX_MESSAGE_OUT = env_int("TOWER_WS_MAX_MESSAGE_OUT", 1 << 20, least=1024)
TOWER_WS_PER_USER = env_int("TOWER_WS_PER_USER", 20, least=1)
TOWER_WS_PER_PROCESS = env_int("TOWER_WS_PER_PROCESS", 2_000, least=1)
