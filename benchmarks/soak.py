"""A steady load with faults for a long time: `python benchmarks/soak.py --minutes 30`. Does anything grow?

A whole deployment on the embedded store, of which the gateway and the relay live through all of it. Meanwhile workers
are killed, sessions come and go, clients break off, the store stops for a second, and the receiver is bad to some
sessions and at times to all. The webhooks are sent as the existing workers send them.

Exits with 1 if an event was lost, came out of order or was repeated under another id; if the memory of the gateway, of
the relay or of the store's data in the last third is more than 5 % beside that of the third before; if one of them has
more descriptors open in its quietest moment; or if a key without an expiry is left in the store that has no owner, or
whose family (STAYS in tests/e2e/soak.py) may not stay when nothing waits and nobody has a session.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from tests.e2e.account import Account, Sent
from tests.e2e.soak import WATCHED, Soaked, soak
from tests.ports import free_ports

_FILES = 2  # a connection that is opened anew at that moment


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--sessions", type=int, default=16, help="that are well; each has some six events a second")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    folder = tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True)
    with folder as path, free_ports() as free_port:
        ports = (free_port(), free_port())
        run = soak(Path(path), ports, seconds=60 * chosen.minutes, load_of=chosen.sessions, seed=chosen.seed)
        soaked = asyncio.run(run)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(sample) for sample in soaked.samples]))
    print(soaked.account)
    print(f"faults {soaked.faults}; keys that may not stay: {soaked.left or 'none'}")
    figures = list(_figures(soaked))
    tell(figures)
    for one in figures:
        print(one.line())
    return int(any(one.met is False for one in figures))


def _figures(soaked: Soaked) -> Iterator[Figure]:
    account = soaked.account
    yield Figure("events emitted", len(account.emitted))
    yield Figure.none_of("events lost, out of order, or repeated under another id", len(_wrong(account)))
    yield Figure("events that waited at the end of the load", soaked.samples[-1].waiting)
    for name in WATCHED:
        yield Figure(f"memory of the {name} at the end", soaked.samples[-1].memory[name] / 2**20, "MiB")
        yield Figure.at_most(
            f"by which it moved in the last third: {name}", 100 * abs(soaked.memory_moved(name)), 5, "%"
        )
        yield Figure.at_most(f"descriptors more than before, at its quietest: {name}", soaked.files_grew(name), _FILES)
    yield Figure.none_of("keys in the store that may not stay", sum(soaked.left.values()))


def _wrong(account: Account) -> list[Sent]:
    return [*account.lost(), *account.out_of_order(), *account.unexplained()]


if __name__ == "__main__":
    sys.exit(main())
