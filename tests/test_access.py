"""Who may come in: tokens, sessions, roles, and the one matrix (reliability.md, section 4 and B61-B63)."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import password_validators_help_texts
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, URLPattern, get_resolver, reverse

from tests.people import PASSWORD, a_person, bearing, signed_in_as, with_token
from tower.access import matrix, sessions, tokens
from tower.access.matrix import MATRIX, allowed, right_of
from tower.access.models import Token
from tower.access.principal import Principal, principal_of_user
from tower.access.roles import ROLES, up_to
from tower.access.tokens import SCOPES, SHAPE, make_token, principal_of_token, well_formed

pytestmark = pytest.mark.django_db

LIST = "/api/v1/definitions/"


def code(answer: Any) -> str:
    return str(answer.json()["error"]["code"])


# -- tokens


def test_a_token_has_the_shape_that_scanners_look_for_and_is_kept_as_a_digest() -> None:
    raw = make_token("ci", ["read", "ingest"], 30)

    row = Token.objects.get()
    assert SHAPE.fullmatch(raw) and well_formed(raw)
    assert raw not in str(row.__dict__) and raw[4:34] not in str(row.__dict__)
    assert (row.name, row.scopes, row.last_four) == ("ci", "read ingest", raw[-4:])
    assert row.expires_at and timedelta(days=29) < row.expires_at - datetime.now(UTC) <= timedelta(days=30)


@pytest.mark.parametrize("place", range(4, 40))
def test_b61_any_mistyped_character_is_seen_without_a_query(place: int) -> None:
    raw = make_token("ci", ["read"])
    wrong = raw[:place] + ("a" if raw[place] != "a" else "b") + raw[place + 1 :]

    with CaptureQueriesContext(connection) as queries:
        answer = with_token(wrong).get(LIST)

    assert (answer.status_code, code(answer), len(queries)) == (401, "invalid_token", 0)
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("raw", ["", "x", "ctw_", "ctw_" + "é" * 36, "ctw_" + "x" * 37, "ctw_" + "-" * 36])
def test_b61_what_is_no_token_is_refused(raw: str) -> None:
    assert principal_of_token(raw) is None


@pytest.mark.parametrize("change", [{"expires_at": "past"}, {"revoked_at": "past"}])
def test_b61_an_expired_or_revoked_token_ends_with_the_next_request(change: dict[str, str]) -> None:
    raw = make_token("ci", ["read"])
    assert with_token(raw).get(LIST).status_code == 200

    Token.objects.update(**{name: datetime.now(UTC) - timedelta(seconds=1) for name in change})
    answer = with_token(raw).get(LIST)

    assert (answer.status_code, code(answer)) == (401, "invalid_token")


def test_b61_an_unknown_but_well_formed_token_is_refused() -> None:
    raw = make_token("ci", ["read"])
    Token.objects.all().delete()

    assert code(with_token(raw).get(LIST)) == "invalid_token"


def test_b61_without_credentials_it_is_401_and_not_403() -> None:
    answer = Client().get(LIST)

    assert (answer.status_code, code(answer)) == (401, "not_authenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_token_is_read_from_the_header_only() -> None:
    raw = make_token("ci", ["read"])

    assert code(Client().get(f"{LIST}?token={raw}")) == "not_authenticated"
    assert code(Client(headers={"authorization": f"Token {raw}"}).get(LIST)) == "not_authenticated"
    assert Client(headers={"authorization": f"bearer {raw}"}).get(LIST).status_code == 200


def test_a_bad_token_is_not_rescued_by_a_cookie() -> None:
    client = signed_in_as("admin")
    assert client.get(LIST).status_code == 200

    answer = client.get(LIST, headers={"authorization": "Bearer ctw_" + "x" * 36})

    assert (answer.status_code, code(answer)) == (401, "invalid_token")


def test_the_bearer_beats_the_cookie() -> None:
    client = signed_in_as("admin")
    raw = make_token("reader", ["read"])

    answer = client.post(
        LIST, "{}", content_type="application/json", headers={"authorization": f"Bearer {raw}"}
    )

    assert (answer.status_code, code(answer)) == (403, "forbidden")


def test_the_use_of_a_token_is_noted_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make_token("ci", ["read"])

    def queries_of_a_use(now: datetime) -> int:
        monkeypatch.setattr(tokens, "_now", lambda: now)
        with CaptureQueriesContext(connection) as queries:
            assert principal_of_token(raw)
        return len(queries) - 1  # the one that found it

    assert principal_of_token(raw)
    assert Token.objects.get().last_used_at is not None
    start = datetime.now(UTC).replace(second=7, microsecond=5) + timedelta(hours=1)

    written = [queries_of_a_use(start + timedelta(seconds=s)) for s in (0, 1, 52, 53, 112)]

    assert written == [1, 0, 0, 1, 0]
    assert Token.objects.get().last_used_at == start.replace(second=0, microsecond=0) + timedelta(minutes=1)


def test_create_token_prints_it_as_the_last_word() -> None:
    out = StringIO()

    call_command("create_token", "acceptance", "--scopes", "read, ingest", "--days", "7", stdout=out)

    found = principal_of_token(out.getvalue().split()[-1])
    assert found and found.name == "acceptance" and found.scopes == {"read", "ingest"}


@pytest.mark.parametrize(
    "words",
    [["x", "--scopes", "write"], ["x", "--scopes", ""], ["x", "--days", "0"], ["", "--scopes", "read"]],
)
def test_create_token_refuses_what_is_none(words: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("create_token", *words)
    assert not Token.objects.exists()


# -- roles


def test_each_role_has_the_rights_of_those_before_it() -> None:
    held = [principal_of_user(a_person(role)).roles for role in ROLES]  # type: ignore[union-attr]

    assert held == [up_to(role) for role in ROLES]
    assert all(less < more for less, more in itertools.pairwise(held))


def test_a_superuser_counts_as_admin_and_who_has_no_role_has_no_right() -> None:
    root = User.objects.create_superuser("root", password=PASSWORD)

    assert principal_of_user(root).roles == up_to("admin")  # type: ignore[union-attr]
    assert principal_of_user(a_person("", "guest")).roles == frozenset()  # type: ignore[union-attr]


def test_a_deactivated_person_is_nobody() -> None:
    assert principal_of_user(a_person("admin", is_active=False)) is None


# -- the matrix


def patterns(found: Any = None, space: str = "") -> list[str]:
    """The full name of each URL pattern there is."""
    names = []
    for pattern in get_resolver().url_patterns if found is None else found:
        inside = ":".join(filter(None, [space, getattr(pattern, "namespace", None) or ""]))
        if isinstance(pattern, URLPattern):
            names.append(f"{space}:{pattern.name or 'unnamed'}" if space else pattern.name or "unnamed")
        else:
            names += patterns(pattern.url_patterns, inside)
    return names


def test_every_pattern_has_a_row_and_every_row_a_pattern() -> None:
    found = set(patterns())
    rows = {"admin:*" if name.startswith("admin:") else name for name in found}

    assert {name for name in rows if name not in MATRIX} == set()
    assert set(MATRIX) - rows == {"live"}  # the websockets, which no URL pattern of Django names


def test_a_name_without_a_row_is_refused_to_everybody() -> None:
    admin = Principal("x", True, frozenset(SCOPES), up_to("admin"), "x")

    assert right_of("forgotten", "GET") is None
    assert not allowed(admin, "forgotten") and not allowed(admin, "api:trace", "DELETE")


def test_the_admin_scope_includes_the_others_and_they_nothing() -> None:
    def token(*scopes: str) -> Principal:
        return Principal("x", True, frozenset(scopes), frozenset(), "x")

    for name, rows in MATRIX.items():
        for method, right in rows.items():
            if right.open or right.scopes is None:
                continue
            for scopes in itertools.chain.from_iterable(itertools.combinations(SCOPES, n) for n in range(5)):
                wanted = "admin" in scopes or bool(right.scopes & set(scopes))
                assert allowed(token(*scopes), name, "PATCH" if method == "*" else method) == wanted


ARGUMENTS = {"kind": "csv", "trace_id": "nobody", "task_id": "nobody", "id": "nobody"}


def address(name: str) -> str:
    for wanted in ([], ["trace_id"], ["task_id"], ["id"], ["kind"], ["trace_id", "task_id"]):
        with contextlib.suppress(NoReverseMatch):
            return reverse(name, kwargs={key: ARGUMENTS[key] for key in wanted})
    raise AssertionError(name)


def askers() -> list[tuple[str, Client, Principal | None]]:
    found: list[tuple[str, Client, Principal | None]] = [("nobody", Client(), None)]
    for role in ROLES:
        person = a_person(role)
        client = Client(raise_request_exception=False)
        client.force_login(person)
        found.append((role, client, principal_of_user(person)))
    for scopes in itertools.chain.from_iterable(itertools.combinations(SCOPES, n) for n in range(1, 5)):
        raw = make_token("+".join(scopes), scopes)
        found.append((f"token {scopes}", with_token(raw), principal_of_token(raw)))
    return found


def test_p15_who_is_let_in_is_whom_the_matrix_lets_in() -> None:
    names = [n for n in patterns() if not n.startswith("admin") and n not in {"login", "logout", "metrics"}]
    wrong = []

    for who, client, principal in askers():
        for name, method in itertools.product(names, ["GET", "POST", "DELETE"]):
            right = right_of(name, method)
            answer = client.generic(method, address(name), b"{}", content_type="application/json")
            sent_away = answer.status_code == 302 and re.match(r"/login/(\?next=.*)?$", answer["Location"])
            refused = answer.status_code in {401, 403} or bool(sent_away)
            refused = refused or (right is None and answer.status_code == 405)
            if refused == matrix.holds(principal, right):
                wrong.append((who, method, name, answer.status_code))

    assert wrong == []


@pytest.mark.parametrize("name", ["runs", "health", "definitions"])
def test_a_pages_decorator_says_what_its_row_says(name: str) -> None:
    view = get_resolver().resolve(reverse(name)).func

    assert getattr(view, "least_role", "viewer") == right_of(name, "GET").role  # type: ignore[union-attr]


def test_b62_a_refused_request_is_told_what_it_lacks() -> None:
    answer = bearing("read").post("/api/v1/events/", "[]", content_type="application/json")

    assert (answer.status_code, code(answer)) == (403, "forbidden")
    assert answer.json()["error"]["details"]["needs"] == {"scopes": ["ingest"], "role": "admin"}


# -- sessions


def sign_in(client: Client, name: str = "viewer", password: str = PASSWORD, **extra: Any) -> Any:
    return client.post("/login/", {"username": name, "password": password, **extra})


def test_the_cookie_of_a_session_is_out_of_reach_of_scripts_and_other_sites() -> None:
    a_person("viewer")
    client = Client()

    answer = sign_in(client)

    cookie = answer.cookies["tower_session"]
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert cookie["httponly"] and cookie["samesite"] == "Lax" and cookie["path"] == "/"
    assert int(cookie["max-age"]) == 12 * 3600


def test_a_sign_in_gives_the_session_a_new_id() -> None:
    a_person("viewer")
    client = Client()
    planted = client.session
    planted["planted"] = True
    planted.save()
    client.cookies["tower_session"] = planted.session_key or ""

    sign_in(client)

    assert client.session.session_key != planted.session_key
    assert not Session.objects.filter(session_key=planted.session_key).exists()


def test_a_visitor_comes_back_to_the_page_that_was_asked_for() -> None:
    a_person("viewer")
    client = Client()

    away = client.get("/health/?x=1")
    back = client.post(away["Location"], {"username": "viewer", "password": PASSWORD, "next": "/health/?x=1"})

    assert away["Location"] == "/login/?next=%2Fhealth%2F%3Fx%3D1"
    assert back["Location"] == "/health/?x=1"


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_nobody_is_led_to_another_site(target: str) -> None:
    a_person("viewer")

    assert sign_in(Client(), next=target)["Location"] == "/"


def test_the_admin_sites_sign_in_is_the_same_page() -> None:
    assert Client().get("/admin/login/?next=/admin/auth/")["Location"] == "/login/?next=/admin/auth/"
    assert Client().get("/admin/")["Location"] == "/login/?next=%2Fadmin%2F"


def test_signing_out_is_a_post() -> None:
    client = signed_in_as("viewer")

    assert client.get("/logout/").status_code == 405
    assert client.post("/logout/")["Location"] == "/login/"
    assert client.get("/health/")["Location"].startswith("/login/")


def test_a_session_ends_after_seven_days_whatever_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in_as("viewer")
    client.get("/health/")
    key, start = client.session.session_key, time.time()

    monkeypatch.setattr(time, "time", lambda: start + 7 * 86400 - 60)
    assert sessions.principal_of_session(key)
    monkeypatch.setattr(time, "time", lambda: start + 7 * 86400 + 60)

    assert sessions.principal_of_session(key) is None
    assert client.get("/health/")["Location"].startswith("/login/")
    assert code(client.get(LIST)) == "not_authenticated"


def test_a_session_that_is_used_is_renewed_but_not_written_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in_as("viewer")
    client.get("/health/")
    key = client.session.session_key
    before = Session.objects.get(session_key=key).expire_date
    assert "tower_session" not in client.get("/health/").cookies

    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + 700)
    answer = client.get("/health/")

    assert "tower_session" in answer.cookies
    assert Session.objects.get(session_key=key).expire_date > before


def test_a_session_ends_with_the_password_the_person_and_the_row() -> None:
    person = a_person("viewer")

    def new_password() -> None:
        person.set_password("another long password")
        person.save()

    def deactivated() -> None:
        User.objects.update(is_active=False)

    def dropped() -> None:
        Session.objects.all().delete()

    for end in (new_password, deactivated, dropped):
        User.objects.update(is_active=True)
        client = Client()
        client.force_login(User.objects.get())
        key = client.session.session_key
        assert sessions.principal_of_session(key)

        end()

        assert sessions.principal_of_session(key) is None
        assert client.get("/health/")["Location"].startswith("/login/")


# -- the admin site


def test_the_admin_site_is_for_editors_and_admins() -> None:
    statuses = [signed_in_as(role).get("/admin/").status_code for role in ROLES]

    assert statuses == [403, 403, 200, 200]


def test_editors_reach_definitions_and_admins_people_too() -> None:
    editor, admin = signed_in_as("editor"), signed_in_as("admin")
    for client in (editor, admin):
        confirm(client)

    assert [editor.get("/admin/definitions/taskdefinition/").status_code] == [200]
    assert (
        editor.get("/admin/auth/user/").status_code == editor.get("/admin/access/token/").status_code == 403
    )
    assert admin.get("/admin/auth/user/").status_code == admin.get("/admin/access/token/").status_code == 200
    assert admin.get("/admin/definitions/taskdefinition/").status_code == 200


def confirm(client: Client) -> Any:
    return client.post("/login/again/", {"password": PASSWORD, "next": "/admin/"})


def test_the_password_is_asked_again_before_rights_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in_as("admin")
    asked = client.get("/admin/auth/user/")
    assert asked["Location"] == "/login/again/?next=%2Fadmin%2Fauth%2Fuser%2F"

    wrong = client.post(asked["Location"], {"password": "wrong"})
    right = client.post(asked["Location"], {"password": PASSWORD})

    assert wrong.status_code == 200 and b"not your password" in wrong.content
    assert right["Location"] == "/admin/auth/user/"
    assert client.get("/admin/auth/user/").status_code == 200
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + 1000)
    assert client.get("/admin/auth/user/").status_code == 302


def test_a_token_made_in_the_admin_site_is_shown_once() -> None:
    client = signed_in_as("admin")
    confirm(client)

    made = client.post("/admin/access/token/add/", {"name": "ci", "wanted": ["read", "ingest"], "days": 30})

    raw = re.search(r"ctw_[0-9A-Za-z]{36}", made.content.decode())
    assert raw and "no-store" in made["Cache-Control"]
    found = principal_of_token(raw[0])
    assert found and found.scopes == {"read", "ingest"}
    row = Token.objects.get()
    for page in ("/admin/access/token/", f"/admin/access/token/{row.pk}/change/", "/admin/"):
        assert raw[0] not in client.get(page).content.decode()


def test_a_token_is_revoked_not_deleted() -> None:
    client = signed_in_as("admin")
    confirm(client)
    raw = make_token("ci", ["read"])
    row = Token.objects.get()

    client.post("/admin/access/token/", {"action": "revoke", "_selected_action": [row.pk]})

    assert principal_of_token(raw) is None
    assert client.post(f"/admin/access/token/{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert Token.objects.exists()


def test_an_admin_cannot_make_itself_or_take_over_a_superuser() -> None:
    root = User.objects.create_superuser("root", password=PASSWORD)
    client = signed_in_as("admin")
    confirm(client)
    me = User.objects.get(username="admin")

    client.post(
        f"/admin/auth/user/{me.pk}/change/", {"username": "admin", "is_active": "on", "is_superuser": "on"}
    )

    assert not User.objects.get(pk=me.pk).is_superuser
    new = {
        "password1": "another long password",
        "password2": "another long password",
        "usable_password": "true",
    }
    assert client.post(f"/admin/auth/user/{root.pk}/password/", new).status_code == 403
    assert client.post(f"/admin/auth/user/{root.pk}/change/", {"username": "x"}).status_code == 403


def test_a_new_person_has_a_password_of_12_to_128_characters() -> None:
    client = signed_in_as("admin")
    confirm(client)
    for password in ("short", "x" * 129, "password1234"):
        client.post(
            "/admin/auth/user/add/", {"username": "new", "password1": password, "password2": password}
        )
        assert not User.objects.filter(username="new").exists()

    client.post("/admin/auth/user/add/", {"username": "new", "password1": PASSWORD, "password2": PASSWORD})

    assert User.objects.get(username="new").check_password(PASSWORD)


def test_each_rule_of_a_new_password_is_said_once() -> None:
    said = password_validators_help_texts()

    assert all(said) and len(set(said)) == len(said) == 4


def test_the_tokens_alphabet_has_no_sign_that_a_double_click_stops_at() -> None:
    assert re.fullmatch(r"[0-9A-Za-z]{62}", tokens._BASE62) and len(set(tokens._BASE62)) == 62


# -- one's own password


def new_password(
    client: Client, old: str = PASSWORD, new: str = "another long password", **where: Any
) -> Any:
    body = {"old_password": old, "new_password1": new, "new_password2": new}
    return client.post("/password/", body, **where)


@pytest.mark.parametrize("role", ROLES)
def test_anybody_changes_their_password_and_their_other_sessions_end(role: str) -> None:
    here, elsewhere = signed_in_as(role), Client()
    elsewhere.force_login(User.objects.get(username=role))

    answer = new_password(here)

    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert here.get("/health/").status_code == 200
    assert elsewhere.get("/health/").status_code == 302
    assert User.objects.get(username=role).check_password("another long password")


def test_the_old_password_is_not_found_by_trying() -> None:
    client = signed_in_as("viewer")

    statuses = [new_password(client, old=f"wrong {n}").status_code for n in range(6)]

    assert statuses == [200] * 5 + [429]
    assert new_password(client).status_code == 429
    assert sign_in(Client()).status_code == 429


@pytest.mark.parametrize(
    "new",
    [
        "short", "x" * 129, "password1234", "aaaaaaaaaaaa", "abcabcabcabc", "123456789012", "CommandTower1!",
        "sunshinesunshine", "Sunshine2026!", "viewer-viewer-1", "admin12345678",
    ],
)  # fmt: skip
def test_a_weak_password_is_not_taken_for_a_better_one(new: str) -> None:
    answer = new_password(signed_in_as("viewer"), new=new)

    assert answer.status_code == 200 and 'class="err"' in answer.content.decode()
    assert User.objects.get(username="viewer").check_password(PASSWORD)


def test_the_admin_sites_form_for_it_is_the_same_page() -> None:
    answer = signed_in_as("editor").get("/admin/password_change/")

    assert (answer.status_code, answer["Location"]) == (302, "/password/")


# -- what is told of it


def test_signing_in_and_out_and_what_is_refused_is_told(caplog: pytest.LogCaptureFixture) -> None:
    a_person("viewer")
    client = Client()

    sign_in(client, password="wrong")
    sign_in(client, name="my-secret-password", password="viewer")
    sign_in(client)
    client.post("/logout/")

    told = [(r.msg, getattr(r, "user", ""), getattr(r, "code", "")) for r in caplog.records]
    assert told == [
        ("password_refused", "viewer", "wrong"),
        ("password_refused", "", "wrong"),
        ("signed_in", "viewer", ""),
        ("signed_out", "viewer", ""),
    ]


def test_tokens_that_are_made_and_revoked_are_told(caplog: pytest.LogCaptureFixture) -> None:
    admin = Client()
    a_person("admin")
    sign_in(admin, name="admin")

    admin.post("/admin/access/token/add/", {"name": "nightly", "wanted": ["read"], "days": "30"})
    pk = Token.objects.get(name="nightly").pk
    admin.post("/admin/access/token/", {"action": "revoke", "_selected_action": [pk]})

    told = [(r.msg, getattr(r, "user", ""), getattr(r, "token_name", "")) for r in caplog.records]
    assert told[1:] == [("token_made", "admin", "nightly"), ("token_revoked", "admin", "nightly")]
    assert "ctw_" not in caplog.text


@pytest.mark.parametrize(
    "new", [PASSWORD, "83472938472930", "tower bridge at dawn", "ÄÖÜ straße 9!", "x" * 8 + "yzabc"]
)
def test_a_good_password_of_whatever_characters_is_taken(new: str) -> None:
    assert new_password(signed_in_as("viewer"), new=new).status_code == 302


def test_the_password_asked_again_gives_the_session_a_new_id() -> None:
    client = signed_in_as("admin")
    before = client.session.session_key

    assert client.post("/login/again/", {"password": PASSWORD}).status_code == 302

    assert client.session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()
