"""SIGKILL of whatsapp-web.js workers at random moments, each on a disk that is lost with it: is the login always back?

    .venv/bin/python benchmarks/remoteauth_kills.py --kills 50

Unmodified whatsapp-web.js with RemoteAuth and the store of examples/node-remoteauth, Chromium, a gateway with a vault.
Once a first snapshot exists, each worker starts on an empty disk, has to be logged in with all that RemoteAuth keeps
(databases, the Blob, what only its key opens, localStorage), and saves over and over while its page writes; at a random
moment it is killed with its browser. Some are killed while they start. Exits with 1 at the first
start that shows a code. 50 kills take about 10 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from sluice.store import embedded
from tests.e2e.remoteauth.running import WITH_VAULT, Kills, killed
from tests.gateway.running import gateway, receiver

_SHOWN = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            kept = asyncio.run(_run(Path(folder), chosen.kills, chosen.seed))
        except AssertionError as error:
            print(error)
            return 1
    print(
        f"{chosen.kills} kills in {time.monotonic() - began:.0f} s: {kept.early} at a start, {kept.saving} while saving"
    )
    print(f"{kept.restored} of {kept.restored} starts on an empty disk were logged in, with everything")
    print(f"{kept.saves} saves, {len(kept.refused)} without a new generation")
    tell(
        (
            Figure("kills while saving", kept.saving),
            Figure("kills while starting", kept.early),
            Figure("starts on an empty disk, logged in with everything", kept.restored, wanted="all", met=True),
            Figure("saves", kept.saves),
            Figure("saves without a new generation", len(kept.refused)),
        )
    )
    for what, times in Counter(one[:_SHOWN] for one in kept.refused).most_common(10):
        print(f"  {times}: {what}")
    return 0


async def _run(folder: Path, kills: int, seed: int) -> Kills:
    data = folder / "store"
    data.mkdir()
    embedded.make_folders(data)
    with subprocess.Popen(embedded.command(data, "second"), stdout=subprocess.DEVNULL) as store:
        try:
            await embedded.answering(embedded.url(data), 10.0)
            async with receiver() as laravel, gateway(folder, embedded.url(data), laravel.url, text=WITH_VAULT) as gate:
                return await killed(gate.url, folder, kills, seed)
        finally:
            store.terminate()


if __name__ == "__main__":
    sys.exit(main())
