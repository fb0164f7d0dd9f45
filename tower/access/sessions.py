"""How long a sign-in lasts: 12 hours without a request, 7 days at most, whatever was done in them."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, logout
from django.utils.crypto import constant_time_compare

from tower.access.principal import Principal, principal_of_user

#: Seconds from sign-in after which nothing keeps a session alive.
LONGEST = 7 * 24 * 3600
#: A session is written at most this often only to say that it was used.
NOTED_EVERY = 600
#: For how long a password that was asked again counts.
CONFIRMED_FOR = 900
BORN, SEEN, CONFIRMED = "born", "seen", "confirmed"


def begin(request: Any) -> None:
    """Start the clocks of a session at its sign-in."""
    now = int(time.time())
    request.session.update({BORN: now, SEEN: now, CONFIRMED: now})


def age(request: Any) -> None:
    """End the session that is too old, and note that the other one was used."""
    if settings.SESSION_COOKIE_NAME not in request.COOKIES or not request.user.is_authenticated:
        return
    now, session = int(time.time()), request.session
    born = session.get(BORN)
    if born is not None and now - born > LONGEST:
        logout(request)
    elif born is None or now - session.get(SEEN, born) > NOTED_EVERY:
        session.update({BORN: born or now, SEEN: now})


def confirm(request: Any) -> None:
    """Note that the password was given just now, under a new id: the old one may be known to others."""
    request.session.cycle_key()
    request.session[CONFIRMED] = int(time.time())


def confirmed(request: Any) -> bool:
    return time.time() - float(request.session.get(CONFIRMED, 0)) <= CONFIRMED_FOR


def principal_of_session(session_key: str | None) -> Principal | None:
    """Who a session belongs to now; None where it ended, for whatever reason.

    For sockets, which outlive the request that opened them; one or two queries.
    """
    if not session_key:
        return None
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    born = session.get(BORN)
    if SESSION_KEY not in session or session.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
        return None
    if born is not None and time.time() - born > LONGEST:
        return None
    users = get_user_model()
    try:
        user = users._default_manager.get(pk=users._meta.pk.to_python(session[SESSION_KEY]))
    except users.DoesNotExist:
        return None
    # A changed password ends all other sessions of its owner.
    if not constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()):
        return None
    return principal_of_user(user)
