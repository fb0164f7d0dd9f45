"""Saved views of the list of runs: names that a person gave to its filters, for that person alone."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from instances.models import SavedView
from tower.access.pages import page
from tower.paging import PAGED

#: Tabs of one person; more would be a list of their own.
MOST = 20
LONGEST_NAME, LONGEST_QUERY = 60, 2_000
#: The plain list, spelled so that it does not lead to the first view again.
PLAIN = "segment="


def of(request: HttpRequest) -> QuerySet[SavedView]:
    """Those of who asks."""
    return SavedView.objects.filter(owner_id=request.user.pk).order_by("name")


def canonical(asked: QueryDict) -> str:
    """The filters of an address in one spelling, so that two that say the same are equal."""
    pairs = [
        (name, value) for name, values in asked.lists() if name not in PAGED for value in values if value
    ]
    return urlencode(sorted(pairs)) or PLAIN


@page("viewer")
@require_POST
def save(request: HttpRequest) -> HttpResponse:
    """Give the filters of a page a name; the same name again takes the new filters."""
    name = " ".join(request.POST.get("name", "").split())
    query = canonical(QueryDict(request.POST.get("query", "")[: LONGEST_QUERY + 1]))
    if not name or "\0" in name or len(name) > LONGEST_NAME or len(query) > LONGEST_QUERY:
        messages.error(request, _("A view needs a name of at most 60 characters."))
    elif not _keep(request, name, query):
        messages.error(request, _("You have 20 views. Delete one to save another."))
    else:
        messages.success(request, _("Saved as %(name)s.") % {"name": name})
    return HttpResponseRedirect(f"/?{query}")


@transaction.atomic
def _keep(request: HttpRequest, name: str, query: str) -> bool:
    mine = of(request)
    if not mine.filter(name=name).exists() and mine.count() >= MOST:
        return False
    view, _made = SavedView.objects.update_or_create(
        owner_id=request.user.pk, name=name, defaults={"query": query}
    )
    if request.POST.get("first"):
        _put_first(mine, [view.pk])
    return True


@page("viewer")
@require_POST
def change(request: HttpRequest, id: str) -> HttpResponse:
    """Delete a view of one's own, or open the list with it from now on, or no longer."""
    mine = of(request)
    view = get_object_or_404(mine, pk=int(id) if id.isdecimal() else 0)
    deed = request.POST.get("do", "")
    if deed == "delete":
        view.delete()
        messages.success(request, _("%(name)s is deleted.") % {"name": view.name})
        return HttpResponseRedirect(f"/?{PLAIN}")
    if deed in {"first", "not_first"}:
        with transaction.atomic():
            _put_first(mine, [view.pk] if deed == "first" else [])
    return HttpResponseRedirect(f"/?{view.query}")


def _put_first(mine: QuerySet[SavedView], ids: Sequence[int]) -> None:
    mine.filter(first=True).exclude(pk__in=ids).update(first=False)
    mine.filter(pk__in=ids).update(first=True)
