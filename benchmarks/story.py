"""Eight unmodified workers and 50 accounts, killed and started again at random: `python benchmarks/story.py`.

No session may run twice, no row may be marked disconnected while its session is connected or being restored, and every
webhook that a worker emitted, with its own retries, has one row. Exits with 1 if anything of it is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from tests.contract.story import Course, story
from tests.ports import free_ports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0, help="of kills")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--scale", type=float, default=0.1, help="of what browsers take; 1 is 7 to 9 s a session")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    course = Course(chosen.seconds, chosen.seed, chosen.workers, chosen.accounts, chosen.scale)
    temporary = tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True)
    with temporary as folder, free_ports() as free_port:
        verdict = asyncio.run(story(Path(folder), free_port, course))
    print(verdict)
    about = (Figure(name, str(value)) for name, value in verdict.figures.items())
    tell((*about, *(Figure.none_of(name, len(broken)) for name, broken in verdict.promises.items())))
    return int(not verdict.kept)


if __name__ == "__main__":
    sys.exit(main())
