"""The jars of a real broker, pinned: ``python -m tests.sources.jars`` fetches them into ``.tools``.

By Maven, from the repository that it knows; each file is then held against its sum in ``jars.sha256``.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "4.3.1"
HERE = Path(__file__).parent
FOLDER = HERE.parent.parent / ".tools" / f"kafka-{VERSION}"
SUMS = HERE / "jars.sha256"

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tower</groupId><artifactId>broker</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""


def expected() -> dict[str, str]:
    """Sum by file."""
    rows = (line.split() for line in SUMS.read_text().splitlines())
    return {name: digest for digest, name in rows}


def missing() -> str:
    """Why no real broker can be started here; empty where it can."""
    if shutil.which("java") is None or shutil.which("keytool") is None:
        return "no Java is installed"
    if any(not (FOLDER / name).is_file() for name in expected()):
        return "its jars are not here: python -m tests.sources.jars"
    return ""


def sums(folder: Path) -> dict[str, str]:
    return {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}


def fetch() -> None:
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "pom.xml").write_text(POM)
        lib = Path(home) / "lib"
        words = [
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={lib}",
        ]
        subprocess.run(["mvn", *words], cwd=home, check=True, timeout=300)
        if sums(lib) != expected():
            sys.exit("What was fetched is not what tests/sources/jars.sha256 names; nothing was kept.")
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.parent.mkdir(exist_ok=True)
        shutil.move(lib, FOLDER)


if __name__ == "__main__":
    if missing():
        fetch()
    print(missing() or f"The jars of Kafka {VERSION} are in {FOLDER}.")
