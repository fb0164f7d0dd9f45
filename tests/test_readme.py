"""What the README tells people to paste works when it is pasted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def pasted(live_tower):
    """The answers to all blocks, pasted one after the other into one shell."""
    script = "".join(BLOCKS).replace("http://127.0.0.1:8000", live_tower.url)
    script = script.replace(".venv/bin/python", sys.executable)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**live_tower.environment, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_no_command_of_the_readme_is_refused(pasted):
    assert len(pasted) == sum(block.count("\ncall ") + block.startswith("call ") for block in BLOCKS)
    assert [answer for answer in pasted if "error" in answer or answer.get("rejected")] == []


def test_the_answers_are_those_that_the_readme_speaks_of(pasted, live_tower):
    registered, reported, paused, command, held, resumed, finished, summary = pasted

    assert [node["created"] for node in registered["results"]] == [True, True, True]
    assert reported["accepted"] == 2
    assert paused["action"] == "PAUSE"
    assert command == {"action": "PAUSE", "control_id": paused["id"]}
    assert held["commands"] == {"hello-fetch": "PAUSE"}
    assert resumed["action"] == "RUN"
    assert finished["commands"] == {}
    assert (summary["status"], summary["open"]) == ("SUCCESS", 0)
    assert live_tower.get("tasks/hello-root/?trace_id=hello")[1]["name"] == "My first run"


def test_pictures_of_the_readme_are_there():
    pictures = re.findall(r'src(?:set)?="([^"]+)"', README)

    assert len(pictures) == 2  # light and dark
    for picture in pictures:
        data = (ROOT / picture).read_bytes()
        assert data.startswith(b"\x89PNG"), picture
        assert len(data) < 400_000, "a picture of a README loads at once"
