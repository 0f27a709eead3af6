"""Sends that are stored and given to workers at a pace: 5,000 of 50 sessions, while everything around them is killed.

Two gateways, two workers of ours that take ids, two existing ones that know nothing of them, a relay and a store,
each a process of its own. Each session has a bucket of 30 in a minute, made faster by `--scale` (2: 60 in a minute).
Half of the callers are as Laravel's ServiceClient is, half repeat each send under an `Idempotency-Key`; they wait 0.1
s for an answer, so that most of them are told our id. Workers are killed four times and stopped once, a gateway and
the store are killed once, at moments and in an order of `--seed`.

Exits with 1 if a message went out twice or in another order than its session's callers had it sent, if a caller was
told 2xx and it was neither sent nor listed as unknown, if a caller was told 4xx, if a webhook calls a message
otherwise than its caller knows it, or if a bucket was exceeded: an exact one, by when the messages went out at the
workers, each of which may have been on its way since the one before it had left.
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

from tests.outbox.run import BURST, INTERVAL, outbox
from tests.ports import free_ports

_SHOWN = 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sends", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--scale", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--keep", type=Path, help="folder for logs and histories, which must not exist")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    if chosen.keep:
        chosen.keep.mkdir()
        return _run(chosen.keep, chosen)
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        return _run(Path(folder), chosen)


def _run(folder: Path, chosen: argparse.Namespace) -> int:
    about = {"sends": chosen.sends, "sessions": chosen.sessions, "scale": chosen.scale}
    with free_ports() as free_port:
        outcome = asyncio.run(outbox(folder, free_port, seed=chosen.seed, **about))
    verdict = outcome.verdict
    print(f"{outcome.seconds:.0f} s; faults: {dict(outcome.faults)}")
    print(f"a token each {INTERVAL / chosen.scale:g} s, {BURST} at once: nearest {verdict.early * 1000:.0f} ms early")
    for name, count in verdict.counts.items():
        print(f"{name:20} {count:6}")
    for line in verdict.wrong[:_SHOWN]:
        print(line)
    counts = (Figure(name, count) for name, count in verdict.counts.items())
    tell((*counts, Figure.none_of("what is wrong", len(verdict.wrong))))
    print(f"{len(verdict.wrong)} wrong" if verdict.wrong else "passed")
    return int(bool(verdict.wrong))


if __name__ == "__main__":
    sys.exit(main())
