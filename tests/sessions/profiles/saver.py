"""A process that saves a profile again and again, changed each time, until it is killed.

    python -m tests.sessions.profiles.saver STORE PLACE FOLDER

PLACE: `store`, `file:PATH`, or the JSON of a bucket. It says a line for each save that counts.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

from sessions.profiles.policies import Bucket, Folder, Place
from sessions.profiles.vault import Saved
from sluice.store.client import Store
from tests.sessions.profiles.making import LEVELDB
from tests.sessions.profiles.places import contents_in
from tests.sessions.profiles.saving import ORIGIN, make


def place_of(text: str) -> Place:
    if text == "store":
        return "store"
    return Folder(Path(text.removeprefix("file:"))) if text.startswith("file:") else Bucket(**json.loads(text))


async def main(url: str, place: str, folder: Path) -> None:
    store = Store(url, timeout=30.0)
    vault = make(store, contents_in(place_of(place), store))
    fence = (await vault.generations.claim("s1")).fence
    for number in range(10**6):
        (folder / LEVELDB / "000005.ldb").write_bytes(random.Random(number % 5).randbytes(3_000_000))
        if isinstance(await vault.save("s1", fence, folder, ORIGIN), Saved):
            print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
