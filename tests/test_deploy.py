"""The files of a deployment: their syntax, the commands and the settings that they name."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.test_docs import READ, SOURCE
from tower import settings

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "deploy"
UNITS = sorted([*FOLDER.glob("*.service"), *FOLDER.glob("*.timer")])
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
READ_HERE = set(READ.findall(SOURCE))
#: Roles, by the command that is each.
ROLES = {"web", "sweep", "consume"}


def name(path: Path) -> str:
    return path.name


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """Sections → names → values, in order; a name may stand several times."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if head := re.fullmatch(r"\[(\w+)\]", line):
            section = head[1]
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals and section, line
            found.setdefault(section, {}).setdefault(key, []).append(value)
    return found


def command_of(words: list[str]) -> str:
    """The command of ours that a command line runs, options and all, as Django reads it."""
    at = words.index("manage.py") + 1
    parsed = subprocess.run(
        [sys.executable, "manage.py", words[at], "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert parsed.returncode == 0, parsed.stderr
    for word in words[at + 1 :]:
        assert not word.startswith("--") or word in parsed.stdout, word
    return words[at]


# -- compose


def ours() -> dict[str, dict[str, Any]]:
    return {key: one for key, one in COMPOSE["services"].items() if one["image"] == "command-tower"}


def test_compose_runs_every_role_with_commands_that_exist():
    commands = {key: one["command"] for key, one in ours().items()}

    assert {command_of(["manage.py", *command]) for command in commands.values()} == ROLES | {"migrate"}
    assert COMPOSE["services"]["web"]["ports"][0].startswith("127.0.0.1:")


@pytest.mark.parametrize("service", ours())
def test_compose_names_only_settings_that_are_read_and_no_secret(service):
    environment = ours()[service]["environment"]

    assert environment.keys() - READ_HERE == set()
    for secret in ("SECRET_KEY", "DATABASE_URL"):
        assert ":?}" in environment[secret], "it has to be given, not guessed"


def test_compose_refers_to_services_and_volumes_that_it_has():
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]

    for one in services.values():
        assert set(one.get("depends_on", {})) <= services.keys()
        for other, wanted in one.get("depends_on", {}).items():
            healthy = wanted["condition"] == "service_healthy"
            assert not healthy or "healthcheck" in services[other]
        assert {volume.partition(":")[0] for volume in one.get("volumes", [])} <= set(volumes)
    urls = ours()["web"]["environment"]
    assert "@postgres/" in urls["DATABASE_URL"] and "//valkey:" in urls["REDIS_URL"]


def test_compose_keeps_what_nobody_has_read_yet():
    words = COMPOSE["services"]["valkey"]["command"]

    assert words[words.index("--appendonly") + 1] == "yes"
    assert words[words.index("--maxmemory-policy") + 1] == "noeviction"
    assert "valkey:/data" in COMPOSE["services"]["valkey"]["volumes"]


def test_compose_turns_off_nothing_that_promises_a_commit():
    options = " ".join(COMPOSE["services"]["postgres"]["command"])

    assert not re.search(r"fsync|synchronous_commit|full_page_writes", options)


def test_the_image_has_all_that_the_program_needs():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}

    assert {"manage.py", "tower", "instances", "controls", "templates", "static", "locale"} <= copied
    assert all((ROOT / one).exists() for one in copied)
    version = re.findall(r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
    assert f"uv=={version}" in "\n".join(lines)
    assert any(line.startswith("USER ") for line in lines)


# -- systemd


@pytest.mark.parametrize("path", UNITS, ids=name)
def test_a_unit_runs_a_command_that_exists(path):
    service = unit(path).get("Service", {})

    for line in service.get("ExecStart", []):
        words = line.replace("%i", "8000").split()
        assert words[0] == "/srv/tower/.venv/bin/python"
        assert command_of(words) in ROLES | {"migrate", "prune"}
        assert service["EnvironmentFile"] == ["/etc/tower/tower.env"]


def test_there_is_a_unit_for_every_role():
    commands = [line for path in UNITS for line in unit(path).get("Service", {}).get("ExecStart", [])]

    assert {line.split()[2] for line in commands} >= ROLES


def test_a_unit_is_given_the_time_that_a_process_takes_to_leave():
    from tower import leaving, server

    for path in UNITS:
        for line in unit(path).get("Service", {}).get("TimeoutStopSec", []):
            assert int(line) > max(leaving.LEAVE_SECONDS, server.LEAVE_SECONDS)


def test_units_refer_to_units_that_are_there():
    there = {path.name for path in UNITS}

    for path in UNITS:
        for key in ("Requires", "After"):
            for line in unit(path)["Unit"].get(key, []):
                assert {one for one in line.split() if one.startswith("tower")} <= there


def test_the_environment_file_names_only_settings_that_are_read_and_holds_no_secret():
    lines = (FOLDER / "tower.env").read_text().splitlines()
    said = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert said.keys() - READ_HERE == set()
    assert said["SECRET_KEY"] == ""
    assert settings.database(said["DATABASE_URL"])["HOST"] == "/run/postgresql"


def test_systemd_itself_finds_nothing_wrong(tmp_path, recwarn):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("NOT RUN: this machine has no systemd-analyze; the other tests read the units")
    for path in [*UNITS, FOLDER / "tower.env"]:
        text = path.read_text().replace("/srv/tower/.venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(re.sub(r"(?m)^(User|Group)=.*\n", "", text))

    files = [str(tmp_path / path.name.replace("@.", "@1.")) for path in UNITS]
    for path in UNITS:
        if "@." in path.name:
            (tmp_path / path.name.replace("@.", "@1.")).write_text((tmp_path / path.name).read_text())
    done = subprocess.run([verify, "verify", "--man=no", *files], capture_output=True, text=True)

    ours = [line for line in done.stderr.splitlines() if "tower" in line]
    assert ours == [], done.stderr


def test_all_commands_are_known_to_django():
    assert ROLES | {"prune", "migrate", "createsuperuser"} <= get_commands().keys()
