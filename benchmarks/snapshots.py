"""Snapshots of Chromium's profile while its page writes all the time: how many open again with all they had, and for
how long the browser stood still.

    .venv/bin/python benchmarks/snapshots.py
    .venv/bin/python benchmarks/snapshots.py --rounds 3 --sizes 1

The page writes 400 rows of 4 KiB in each transaction, without a pause. Each copy is packed, sealed, unpacked and
opened in another Chromium, which looks for four databases, a Blob, a key that cannot be exported and what it encrypted,
all rows of one transaction, localStorage and a cookie. Ways of copying:

    paused    the browser stands still meanwhile (sessions/profiles/snapshot.py)
    running   its files one after the other, as RemoteAuth does (which keeps no cookies)
    closed    the browser is closed first

Ends with 1 if a copy of the first or the last way misses anything. About 4 minutes on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from measured import Figure, tell

from sessions.profiles.errors import ProfileError
from sessions.profiles.manifest import Origin
from sessions.profiles.packing import Packing, Unpacking
from sessions.profiles.pausing import TooSlow
from sessions.profiles.portable import TREES, portable_files
from sessions.profiles.sealing import Seals
from sessions.profiles.snapshot import snapshot
from tests.browser.running import WHOLE, chromium, found, make

_SECRET = b"a secret of thirty-two bytes, or so"


@dataclass
class Way:
    name: str
    size: int
    """MiB that the page had before it wrote more."""
    rounds: int = 0
    whole: int = 0
    paused: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    """Seconds with packing and sealing."""
    wrong: list[str] = field(default_factory=list)

    def figures(self) -> Iterator[Figure]:
        all_of = None if self.name == "running" else self.whole == self.rounds
        about = f"{self.name}, {self.size} MiB"
        yield Figure(
            f"{about}: opened with all", f"{self.whole} of {self.rounds}", "", "" if all_of is None else "all", all_of
        )
        if self.paused:
            yield Figure(f"{about}: the browser stood still, median", statistics.median(self.paused) * 1000, "ms")

    def row(self) -> str:
        paused = f"{_ms(statistics.median(self.paused))} | {_ms(max(self.paused))}" if self.paused else "| "
        taken = f"{_ms(statistics.median(self.taken))}" if self.taken else ""
        return f"| {self.name} | {self.size} | {self.whole} of {self.rounds} | {paused} | {taken} |"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 20, 100], metavar="MIB")
    chosen = parser.parse_args()
    print(f"load average before it {os.getloadavg()[0]:.2f}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        ways = asyncio.run(_all(Path(folder), chosen.sizes, chosen.rounds))
    print("| way | MiB | opened with all | still, ms: median | most | snapshot, packed and sealed, ms |")
    print("|---|---:|---:|---:|---:|---:|")
    for way in ways:
        print(way.row())
    for way in ways:
        for wrong in way.wrong:
            print(f"{way.name}, {way.size} MiB: {wrong}", file=sys.stderr)
    tell(figure for way in ways for figure in way.figures())
    return int(any(way.whole < way.rounds for way in ways if way.name != "running"))


async def _all(folder: Path, sizes: Sequence[int], rounds: int) -> list[Way]:
    ways = []
    for size in sizes:
        profile = await make(folder / f"profile{size}", size=size)
        paused, running, closed = (Way(name, size) for name in ("paused", "running", "closed"))
        async with chromium(profile) as browser:
            await browser.login("keepWriting")
            for _ in range(rounds):
                await asyncio.sleep(0.3)
                await _round(paused, profile, folder / "target")
            for _ in range(rounds if size == sizes[len(sizes) // 2] else 0):
                await asyncio.sleep(0.3)
                await _round(running, profile, folder / "target")
        await _round(closed, profile, folder / "target")
        ways += [way for way in (paused, running, closed) if way.rounds]
        shutil.rmtree(profile)
    return ways


async def _round(way: Way, profile: Path, target: Path) -> None:
    way.rounds += 1
    try:
        await asyncio.to_thread(_copied if way.name == "running" else _snapshot, way, profile, target)
        told = await found(target)
        wanted = {**WHOLE, "cookies": False} if way.name == "running" else WHOLE
        wrong = {name: what for name, what in told.items() if what != wanted[name]}
        way.whole += not wrong
        if wrong:
            way.wrong.append(str(wrong))
    except (ProfileError, OSError, shutil.Error) as error:
        way.wrong.append(f"{type(error).__name__}: {str(error)[:200]}")
    shutil.rmtree(target, ignore_errors=True)


def _snapshot(way: Way, profile: Path, target: Path) -> None:
    while True:
        began = time.monotonic()
        try:
            with snapshot(profile) as taken:
                if taken.paused:
                    way.paused.append(taken.paused)
                _carry(taken.folder, target, way, began)
            return
        except TooSlow as error:
            way.wrong.append(f"tried again: {error}")


def _copied(way: Way, profile: Path, target: Path) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=target.parent) as staging:
        for tree in TREES:
            shutil.copytree(profile / tree, Path(staging) / tree)
        _carry(Path(staging), target, way, began)


def _carry(source: Path, target: Path, way: Way, began: float) -> None:
    """Packed, sealed, and unpacked."""
    seals = Seals((_SECRET,), "s1")
    packing = Packing(source, portable_files(source), seals, 1, {})
    chunks = {chunk.name: chunk.sealed for chunk in packing}
    way.taken.append(time.monotonic() - began)
    manifest = packing.manifest(time.time(), Origin())
    with Unpacking(manifest, seals, target) as unpacking:
        for chunk in manifest.chunks:
            unpacking.write(chunks[chunk.name])
        unpacking.replace()


if __name__ == "__main__":
    sys.exit(main())
