"""Which language an answer speaks: a page that of its reader, the API always English."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers

from tower.error_pages import API
from tower.wording import Worded

#: A page for people, under the API's address.
DOCS = "/api/docs/"


def translated(text: str) -> str:
    """What a pure module said, in the language of the answer."""
    if not isinstance(text, Worded):
        return text
    # Where they are made, docs/language.py finds the sentences.
    if text.many:
        pattern = translation.ngettext(text.one, text.many, text.number)
    else:
        pattern = translation.gettext(text.one)
    return pattern % {name: translated(value) for name, value in text.values.items()}


class Spoken:
    """The reader's choice (a cookie), else what the browser prefers, for as long as the answer is made.

    Django's own middleware leaves the language set in its thread, for whatever runs there next.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(API) and request.path != DOCS:
            with translation.override(settings.LANGUAGE_CODE):
                return self.get_response(request)
        spoken = translation.get_language_from_request(request)
        with translation.override(spoken):
            answer = self.get_response(request)
        answer.headers.setdefault("Content-Language", spoken)
        patch_vary_headers(answer, ["Accept-Language", "Cookie"])
        return answer
