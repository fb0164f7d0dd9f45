"""Registering 100 children must cost the same in a large tree as in a small one (target: 1.3 at most).

python -m bench.register [--large 100000] [--small 1000] [--rounds 25] [--postgres]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Iterator

from bench.record import keep
from tests.servers import Tower, postgres

TARGET = 1.3
AT_ONCE = 5_000
PROBE = 100


def grow(tower: Tower, trace: str, size: int) -> None:
    """A tree that is as wide as it is deep: each batch hangs below some of the batch before."""
    root = f"{trace}-root"
    register(tower, [{"id": root, "trace_id": trace, "job_id": "j", "actor_type": "AGENT"}])
    parents, made = [root], 1
    while made < size:
        count = min(AT_ONCE, size - made)
        batch = [child(trace, f"{trace}-{made + k}", parents[k % len(parents)]) for k in range(count)]
        register(tower, batch)
        parents = [node["id"] for node in batch[:50]]
        made += count


def child(trace: str, task: str, parent: str) -> dict[str, str]:
    return {
        "id": task,
        "trace_id": trace,
        "parent_id": parent,
        "job_id": "j",
        "actor_type": "EXECUTION",
    }


def register(tower: Tower, batch: list[dict[str, str]]) -> None:
    status, body = tower.post("tasks/", batch)
    assert status == 201, (status, str(body)[:300])


def probe(tower: Tower, trace: str, ordinal: int) -> float:
    batch = [child(trace, f"{trace}-p{ordinal}-{k}", f"{trace}-{k + 1}") for k in range(PROBE)]
    start = time.perf_counter()
    register(tower, batch)
    return time.perf_counter() - start


def measure(tower: Tower, *, large: int, small: int, rounds: int) -> dict[str, float]:
    sizes = {"large": large, "small": small}
    start = time.perf_counter()
    for trace, size in sizes.items():
        grow(tower, trace, size)
    grown = time.perf_counter() - start
    spent: dict[str, list[float]] = {trace: [] for trace in sizes}
    for ordinal in range(rounds):
        # Each first every other time: what comes second finds things warm.
        for trace in sorted(sizes, reverse=bool(ordinal % 2)):
            spent[trace].append(probe(tower, trace, ordinal))
    medians = {trace: statistics.median(values[1:]) for trace, values in spent.items()}
    return {
        "large_nodes": large,
        "small_nodes": small,
        "large_ms": round(medians["large"] * 1e3, 1),
        "small_ms": round(medians["small"] * 1e3, 1),
        "ratio": round(medians["large"] / medians["small"], 2),
        "grown_per_second": round((large + small) / grown),
    }


@contextlib.contextmanager
def database(on_postgres: bool) -> Iterator[str]:
    if not on_postgres:
        yield ""
        return
    with postgres() as url:
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--small", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--postgres", action="store_true")
    chosen = parser.parse_args()
    engine = "postgresql" if chosen.postgres else "sqlite"
    with database(chosen.postgres) as url, Tower(DATABASE_URL=url) as tower:
        figures = measure(tower, large=chosen.large, small=chosen.small, rounds=chosen.rounds)
    print(
        f"register {PROBE} children on {engine}: {figures['large_nodes']:,} nodes cost {figures['ratio']} x "
        f"{figures['small_nodes']:,} nodes ({figures['large_ms']} and {figures['small_ms']} ms; "
        f"target {TARGET}); grown at {figures['grown_per_second']:,} tasks/s"
    )
    keep(f"register-{engine}", {"engine": engine, "target_ratio": TARGET, **figures})


if __name__ == "__main__":
    main()
