"""Kills relay, gateway and store processes at random under load: `python benchmarks/chaos.py --kills 30`.

Meanwhile the clock of the store steps by ten minutes, and the receiver answers some sessions with 404, 419 and 429
or lets them hang, and the webhooks are sent as the existing workers send them.

`--unkilled 60` instead: the same load for so many seconds without kills: with a receiver that is good to all, with one
that is bad to some but for 429, and with that too. What do the healthy sessions feel of the others?

`--failovers 6` instead: the store fails over under load so many times, with `promise: replica`.

Exits with 1 if anything was lost, came out of order or was repeated under another id, or if healthy sessions wait more
than twice as long for others (the 99th percentile).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.account import Account
from tests.e2e.bad_receiver import HEALTHY
from tests.e2e.chaos import BAD, THROTTLED, chaos, unkilled
from tests.e2e.failover import failover
from tests.ports import free_ports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--failovers", type=int, default=0)
    parser.add_argument("--unkilled", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    if chosen.unkilled:
        return _compare(chosen.unkilled)
    with _folder() as folder, free_ports() as free_port:
        if chosen.failovers:
            account = asyncio.run(failover(Path(folder), free_port, failovers=chosen.failovers, seed=chosen.seed))
        else:
            account = asyncio.run(chaos(Path(folder), (free_port(), free_port()), kills=chosen.kills, seed=chosen.seed))
    print(account)
    return _failed(account)


def _compare(seconds: float) -> int:
    """One after the other, for each a deployment of its own."""
    accounts = []
    for name, bad in (("quiet", ()), ("404, 419 and hanging", BAD), ("429 too", BAD + THROTTLED)):
        with _folder() as folder, free_ports() as free_port:
            account = asyncio.run(unkilled(Path(folder), (free_port(), free_port()), seconds=seconds, bad=bad))
        p50, p99 = (1000 * account.latency(HEALTHY, percentile) for percentile in (50, 99))
        print(f"{name}: healthy sessions p50 {p50:.1f} ms, p99 {p99:.1f} ms; {account}", flush=True)
        accounts.append(account)
    quiet, beside, paused = (account.latency(HEALTHY, 99) for account in accounts)
    print(f"p99 beside quiet: {beside / quiet:.2f}, at most 2 wanted; {paused / quiet:.2f} where 429 pauses everybody")
    return int(beside > 2 * quiet or any(_failed(account) or account.given_up for account in accounts))


def _failed(account: Account) -> int:
    return int(bool(account.lost() or account.out_of_order() or account.unexplained()))


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True)


if __name__ == "__main__":
    sys.exit(main())
