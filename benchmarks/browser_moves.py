"""A session with a real browser is given up properly, and opens at another worker: how long is it nobody's?

One session, on the stand-in for WhatsApp Web (tests/whatsapp), between two workers with disks of their own and a vault.
`--moves` times its worker gets SIGTERM, saves the login, and the other one restores it (tests/failover/moves.py).

Exits with 1 if the median from its release to the start of its next browser is above a second, or if the session was
connected twice at a time or asked for a code. A move takes about 20 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from tests.failover.moves import moves
from tests.ports import free_ports

_STAGES = {
    "stopping": "from SIGTERM to its release",
    "granted": "from its release to its grant to the other worker",
    "opened": "from its release to its next browser",
    "connected": "from its release to connected",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=10)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp") as folder, free_ports() as free_port:
        found = asyncio.run(moves(Path(folder), free_port, count=chosen.moves))
    figures = [Figure("moves", len(found))]
    for field, what in _STAGES.items():
        took = sorted(getattr(one, field) for one in found)
        median = round(statistics.median(took), 2)
        named = f"{what}, median; longest {took[-1]:.2f} s"
        figures.append(Figure.at_most(named, median, 1, "s") if field == "opened" else Figure(named, median, "s"))
    for figure in figures:
        print(figure.line())
    return tell(figures)


if __name__ == "__main__":
    sys.exit(main())
