"""Sessions become four times as many and as few again under `sluice up --workers 2..8`.

Real processes and sockets; each session is sent a message every few seconds. Takes under five minutes. Exits with 1 if
the workers did not follow within a minute, changed their direction more than once in a phase, a session had no owner
for longer than requests are held, or a request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from tests.e2e.scaling import Scaling, Size, scaling
from tests.ports import free_ports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    size = Size(low=11, high=44, per_worker=8)
    temporary = tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True)
    with temporary as folder, free_ports() as free_port:
        ports = (free_port(), free_port())
        work = scaling(Path(folder), ports, size, phases=chosen.phases, seconds=chosen.seconds, seed=chosen.seed)
        seen = asyncio.run(work)
    print(seen)
    faults = seen.faults()
    print("\n".join(faults) or "all as it should be")
    tell((*_figures(seen), Figure.none_of("what is not as it should be", len(faults))))
    return int(bool(faults))


def _figures(seen: Scaling) -> Iterator[Figure]:
    for number, phase in enumerate(seen.phases, 1):
        if phase.followed_after is not None:
            yield Figure.at_most(
                f"workers followed {phase.sessions} sessions, phase {number}", phase.followed_after, 60, "s"
            )
    yield Figure("requests", seen.requests)
    yield Figure.none_of("requests that failed", seen.failed.total())
    yield Figure("slowest request", seen.slowest, "s")


if __name__ == "__main__":
    sys.exit(main())
