"""Refreshes what other people made and we serve: ``python docs/vendor.py`` (needs npm and the network).

Reads ``static/vendor/vendor.json``, fetches each package at its version, checks npm's
integrity, copies the named files into ``static/vendor/<name>-<version>/`` and writes
their checksums back. A change of version there is all that an update needs, beside the
paths in ``static/css/tokens.css`` and ``templates/base.html``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).resolve().parent.parent / "static" / "vendor"
LIST = VENDOR / "vendor.json"


def sha(algorithm: str, content: bytes) -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"


def fetch(package: dict[str, Any], folder: Path) -> tarfile.TarFile:
    """The package as the registry has it, refused if its content differs from the recorded integrity."""
    name = f"{package['package']}@{package['version']}"
    subprocess.run(["npm", "pack", name, "--silent", "--pack-destination", str(folder)], check=True)
    (archive,) = folder.glob("*.tgz")
    found = sha("sha512", archive.read_bytes())
    if package.get("integrity", found) != found:
        raise SystemExit(f"{name}: the registry's content has {found}, recorded is {package['integrity']}")
    package["integrity"] = found
    return tarfile.open(archive)


def refresh(name: str, package: dict[str, Any]) -> None:
    target = VENDOR / f"{name}-{package['version']}"
    with tempfile.TemporaryDirectory() as folder, fetch(package, Path(folder)) as archive:
        for old in VENDOR.glob(f"{name}-[0-9]*"):
            shutil.rmtree(old)
        target.mkdir()
        for inside in package["from"]:
            member = archive.extractfile(f"package/{inside}")
            assert member, f"{name} has no {inside}"
            (target / Path(inside).name).write_bytes(member.read())
    package["files"] = {path.name: sha("sha384", path.read_bytes()) for path in sorted(target.iterdir())}


def main() -> None:
    packages = json.loads(LIST.read_text())
    for name, package in packages.items():
        refresh(name, package)
    LIST.write_text(json.dumps(packages, indent=2) + "\n")


if __name__ == "__main__":
    main()
