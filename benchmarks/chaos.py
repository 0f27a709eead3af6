"""Kills relay, gateway and store processes at random under load: `python benchmarks/chaos.py --kills 30`.

With `--failovers 6` instead: the store fails over under load so many times, with `promise: replica`.

Exits with 1 if anything accepted was lost, came out of order, or was repeated under another id.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.chaos import chaos
from tests.e2e.failover import failover


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--failovers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if chosen.failovers:
            account = asyncio.run(failover(Path(folder), _free_port, failovers=chosen.failovers, seed=chosen.seed))
        else:
            ports = (_free_port(), _free_port())
            account = asyncio.run(chaos(Path(folder), ports, kills=chosen.kills, seed=chosen.seed))
    print(account)
    return 1 if account.lost() or account.out_of_order() or account.unexplained() else 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
