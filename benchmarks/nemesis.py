"""Three gateways, two of our own workers, two existing ones, 60 sessions, and faults at random: `--faults 300`.

Workers are frozen for longer than a lease, killed, doubled under their id, list slowly, or refuse the key; gateways,
relay and store are killed or frozen, and the store's clock steps. Everything is written down as it happens, and judged
afterwards (tests/nemesis/checker.py). The order of the faults comes from `--seed`.

Exits with 1 if a fence fell, if two acted under one, if a login ran twice, if a session of an own worker had no answer
for more than a lease and two seconds, if an accepted event was not delivered, or if a status was no 2xx.
`--browsers 2`: so many workers with real browsers (Chromium on the stand-in for WhatsApp Web) are among the others.
Then it is wrong as well if two browsers of one session run at a time, or two of one phone are connected.
`--rolling` instead: every worker and gateway is restarted once, one after the other.
`--kills 20` instead: an own worker is killed so many times; how long until another one answers?

300 faults take about 10 minutes, 60 of them less than 3.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from tests.nemesis.fleet import LEASE
from tests.nemesis.rolling import rolling
from tests.nemesis.run import LONGEST_GAP, Outcome, nemesis
from tests.nemesis.taking_over import taking_over
from tests.ports import free_ports

FreePort = Callable[[], int]
_SHOWN = 40
_TAKEN_OVER_WITHIN = 1.5  # seconds after the end of the lease


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--keep", type=Path, help="folder for logs and histories, which must not exist")
    parser.add_argument("--browsers", type=int, default=0)
    parser.add_argument("--rolling", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    if chosen.keep:
        chosen.keep.mkdir()
        return _run(chosen.keep, chosen)
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        return _run(Path(folder), chosen)


def _run(folder: Path, chosen: argparse.Namespace) -> int:
    with free_ports() as free_port:
        if chosen.kills:
            return _kill(folder, free_port, chosen.kills)
        return _roll(folder, free_port) if chosen.rolling else _nemesis(folder, free_port, chosen)


def _kill(folder: Path, free_port: FreePort, kills: int) -> int:
    took = asyncio.run(taking_over(folder, free_port, kills=kills))
    p50, p99 = (statistics.quantiles(took, n=100)[percentile - 1] for percentile in (50, 99))
    allowed = LEASE + _TAKEN_OVER_WITHIN
    print(f"{len(took)} sessions of {kills} killed workers: p50 {p50:.2f} s, p99 {p99:.2f} s, {allowed:g} s allowed")
    return int(p99 > allowed)


def _roll(folder: Path, free_port: FreePort) -> int:
    outcome = asyncio.run(rolling(folder, free_port, longest_gap=LONGEST_GAP))
    print(f"all restarted in {outcome.seconds:.0f} s; history: {dict(outcome.verdict.counts)}")
    print(f"longest request {outcome.longest:.2f} s, longest gap {outcome.verdict.longest_gap:.2f} s")
    wrong = (*outcome.verdict.wrong, *outcome.failed)
    _print(wrong)
    return int(bool(wrong))


def _nemesis(folder: Path, free_port: FreePort, chosen: argparse.Namespace) -> int:
    sessions = {"own": 8, "existing": 8} if chosen.browsers else {}
    about = {"faults": chosen.faults, "seed": chosen.seed, "browsers": chosen.browsers, **sessions}
    outcome = asyncio.run(nemesis(folder, free_port, **about))
    print(f"{outcome.faults.total()} faults in {outcome.seconds:.0f} s: {dict(outcome.faults)}")
    print(f"history: {dict(outcome.verdict.counts)}")
    print(f"longest gap {outcome.verdict.longest_gap:.2f} s, {LONGEST_GAP:g} s allowed")
    _print(outcome.verdict.wrong)
    tell(_figures(outcome))
    return int(bool(outcome.verdict.wrong))


def _figures(outcome: Outcome) -> Iterator[Figure]:
    yield Figure("faults", outcome.faults.total())
    for name, count in outcome.verdict.counts.items():
        yield Figure(name, count)
    yield Figure.none_of("what the history says is wrong", len(outcome.verdict.wrong))
    yield Figure.at_most("longest gap of an own worker's session", outcome.verdict.longest_gap, LONGEST_GAP, "s")


def _print(wrong: Sequence[str]) -> None:
    for sentence in wrong[:_SHOWN]:
        print(f"wrong: {sentence}")
    print(f"{len(wrong)} wrong")


if __name__ == "__main__":
    sys.exit(main())
