"""Workers with real browsers are killed at random moments, 50 times, under numbered traffic in both directions.

Two workers run on the stand-in for WhatsApp Web (tests/whatsapp), behind a real gateway, relay and store with a vault;
always one of them is killed, with SIGKILL, and started again once its sessions are connected at the other one. 500
messages are sent, and 500 come in, meanwhile. `--machines`: each worker has its own disk, and logins move by the vault.

Exits with 1 if a session asked for a code, if a fence fell, if a message was lost, doubled or out of order in its
session, or if two browsers of one login were connected at a time. With `--machines` what came in right before a kill
may be lost with that machine, as WhatsApp had been told that it was received (docs/browser-workers.md); it is listed.

50 kills take about 10 minutes on a quiet machine.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from tests.failover.kills import kills
from tests.ports import free_ports


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--messages", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--machines", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp") as folder, free_ports() as free_port:
        about = {"kills": chosen.kills, "messages": chosen.messages, "sessions": chosen.sessions}
        made = kills(Path(folder), free_port, **about, machines=chosen.machines, seed=chosen.seed)
        outcome = asyncio.run(made)
    print(f"{outcome.kills} kills in {time.monotonic() - began:.0f} s: {outcome.adopted} sessions adopted, logged in")
    print(f"{outcome.sends} sent ({outcome.repeated} once more under their id), {outcome.incoming} came in")
    took = sorted(outcome.took)
    print(f"from a kill to connected: median {statistics.median(took):.1f} s, longest {took[-1]:.1f} s (lease 6 s)")
    tell(
        (
            Figure("kills", outcome.kills),
            Figure("sessions adopted, logged in", outcome.adopted),
            Figure("messages sent", outcome.sends),
            Figure("messages that came in", outcome.incoming),
            Figure("from a kill to connected, median (lease 6 s)", statistics.median(took), "s"),
            Figure("from a kill to connected, longest", took[-1], "s"),
            Figure.none_of("lost, doubled, out of order, or run twice", len(outcome.wrong)),
        )
    )
    for sentence in outcome.wrong:
        print(f"wrong: {sentence}")
    return int(bool(outcome.wrong))


if __name__ == "__main__":
    sys.exit(main())
