"""Static files under hashed names, so that a browser keeps them for ever and never mixes two versions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

STAMP = ".stamp"


class HashedFiles(ManifestStaticFilesStorage):
    """Rewrites module imports as well as CSS: in our own modules only, the vendored bundles are megabytes."""

    support_js_module_import_aggregation = True
    #: A name follows those of all that its module imports, and such chains are longer than five passes.
    max_post_process_passes = 20

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        patterns: dict[str, Any] = self._patterns  # type: ignore[attr-defined]  # not in the stubs
        rules = patterns.pop("*.js")
        patterns |= {"js/*.js": rules, "tree/*.js": rules}


class ServedStatic(WhiteNoiseMiddleware):
    """WhiteNoise answers with a blocking iterator; Django under ASGI warns and reads it whole anyway."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        body = b""
        if found.file is not None:
            with found.file:
                body = found.file.read()
        answer = HttpResponse(body, status=int(found.status))
        del answer["content-type"]
        for key, value in found.headers:
            answer[key] = value
        return answer


def collect() -> bool:
    """Collect into STATIC_ROOT unless what stands there was made from the same files; whether it did."""
    stamp = Path(settings.STATIC_ROOT) / STAMP
    found = fingerprint()
    if stamp.is_file() and stamp.read_text() == found:
        return False
    call_command("collectstatic", interactive=False, verbosity=0)
    stamp.write_text(found)
    return True


def fingerprint() -> str:
    files = [
        (path, stat.st_mtime_ns, stat.st_size)
        for finder in get_finders()
        for path, storage in finder.list([])
        for stat in [Path(storage.path(path)).stat()]
    ]
    return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()
