"""Two sessions of one phone become connected at the same time, at two workers, through two gateways, with random
delays, while a gateway or a worker is killed: exactly one stays, and Laravel's table has exactly one connected row,
which is that one's.

    .venv/bin/python benchmarks/one_phone.py --runs 100 --seed 1

Exits with 1 at the first run that leaves none or two. Four phones at a time share a kill. 100 runs take about three
minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from sessions.lifecycle.phones import Keep
from tests.e2e.one_phone.running import Outcome, racing
from tests.ports import free_ports

_AT_ONCE = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--keep", choices=("newest", "oldest", "allow"), default="newest")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    began, done = time.monotonic(), list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            asyncio.run(_run(Path(folder), chosen.runs, random.Random(chosen.seed), chosen.keep, done))
        except AssertionError as error:
            print(f"run {len(done) + 1}: {error}")
            return 1
    killed = Counter(one.killed for one in done)
    slowest = max(one.seconds for one in done)
    print(f"{len(done)} runs in {time.monotonic() - began:.0f} s, the slowest {slowest:.1f} s: each left exactly one")
    tell(
        (
            Figure(
                "runs that left exactly one connected session and row", len(done), wanted=f"{chosen.runs}", met=True
            ),
            Figure("slowest run", slowest, "s"),
            *(Figure(f"runs in which a {name} was killed", times) for name, times in sorted(killed.items())),
        )
    )
    print("killed: " + ", ".join(f"{name} {times}" for name, times in sorted(killed.items())))
    print(f"the first one of the two stayed {sum(one.stays.startswith('a') for one in done)} times")
    return 0


async def _run(folder: Path, runs: int, chance: random.Random, keep: Keep, done: list[Outcome]) -> None:
    with free_ports() as free_port:
        async with racing(folder, free_port, keep) as race:
            for first in range(0, runs, _AT_ONCE):
                done += await race.run(range(first, min(first + _AT_ONCE, runs)), chance)


if __name__ == "__main__":
    sys.exit(main())
