"""The registry of sessions: what each command costs the store, and how much memory a session takes.

    .venv/bin/python benchmarks/registry.py > table.md
    .venv/bin/python benchmarks/registry.py --sessions 1000,10000

For 1,000, 10,000 and 100,000 sessions, a hundred on each worker: the store's own time for each command (SLOWLOG), its
median and its longest; the memory of a session beside its history; what a scrape of the metrics costs; and how many
round trips a gateway needs for requests to sessions whose owner it knows (by the store's commandstats: none).

A store of its own, embedded as `sluice up` has it. A bar that is missed makes the exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from measured import Figure, tell

from gateway.workers.owners import Owners
from sessions import overview, registry as registry_module, upkeep
from sessions.registry import ObservedSession, Owner, Registry, Report, Reserved, Worker
from sluice.store import embedded
from sluice.store.client import Script, Store

LEASE = 3600.0
EACH = 100
"""Sessions of a worker."""
MOST_US = 5000
"""The median of no command may be longer; the longest may have waited for a core that others had."""
MOST_BYTES = 600
"""Of a session, beside its history."""
_TIMES = 40
_FEW = 6
_CONNECTED = ObservedSession("connected", "628", {"workspace_id": 7})
_HISTORY = "sl:{sessions}:history"


@dataclass
class Found:
    """At one number of sessions. Times in microseconds by the store's clock: the median and the longest."""

    sessions: int
    times: dict[str, tuple[float, int]] = field(default_factory=dict)
    bytes_each: float = 0.0
    history_each: float = 0.0
    scrape_us: float = 0.0
    trips_when_known: int = -1
    lookups: int = 0

    def missed(self) -> list[str]:
        """The bars."""
        slow = [f"{name}: {median:.0f} us" for name, (median, _) in self.times.items() if median > MOST_US]
        large = [f"{self.bytes_each:.0f} bytes a session"] if self.bytes_each > MOST_BYTES else []
        asked = [f"{self.trips_when_known} round trips for known owners"] if self.trips_when_known else []
        return [f"at {self.sessions:,} sessions {one}" for one in (*slow, *large, *asked)]


class Fleet:
    """Sessions on workers of ours, a hundred each, in a store that was empty."""

    def __init__(self, store: Store, sessions: int) -> None:
        self.store = store
        self.registry = Registry(store, LEASE)
        self.workers = [f"worker-{i:04}" for i in range(sessions // EACH)]
        self.names = [f"webjs_{i % 997}_{1700000000 + i}_abcdefgh"[:40] for i in range(sessions)]
        self.held: dict[str, dict[str, int]] = {}

    async def fill(self) -> None:
        for worker in self.workers:
            await self.registry.register(Worker(worker, "1", f"http://10.0.0.1:{worker[-4:]}", EACH + 20))
        for i in range(0, len(self.names), EACH):
            await self.registry.want({name: self.about(name) for name in self.names[i : i + EACH]})
            while await self.registry.place_orphans():
                pass
        for worker in self.workers:
            await self.beat(worker)
            await self.beat(worker)

    def about(self, name: str) -> dict[str, object]:
        return {"workspace_id": name.split("_")[1]}

    async def beat(self, worker: str, state: str = "connected") -> None:
        held = self.held.get(worker, {})
        reports = {name: Report(fence, state, f"628{crc32(name.encode())}") for name, fence in held.items()}
        self.held[worker] = await self.registry.beat(worker, "1", reports, {})


async def measure(fleet: Fleet, found: Found) -> None:
    registry, names, workers = fleet.registry, fleet.names, fleet.workers
    step = max(1, len(names) // _TIMES)
    picked = names[::step][:_TIMES]

    async def times(name: str, *acts: Callable[[], Awaitable[object]]) -> None:
        """Of the calls of scripts that these acts make."""
        await fleet.store.commands(("SLOWLOG", "RESET"))
        for act in acts:
            await act()
        (log,) = await fleet.store.commands(("SLOWLOG", "GET", -1))
        took = [entry[2] for entry in log if entry[3][0].upper().startswith(b"EVAL")]
        found.times[name] = (statistics.median(took), max(took))

    await times("owner_of", *[lambda s=s: registry.owner_of(s) for s in picked])
    places: list[tuple[str, Reserved]] = []

    async def reserve(i: int) -> None:
        held = await registry.reserve(f"new-{i}", {"workspace_id": i})
        assert isinstance(held, Reserved)
        places.append((f"new-{i}", held))

    await times("reserve", *[lambda i=i: reserve(i) for i in range(_TIMES)])
    half = len(places) // 2
    await times("confirm", *[lambda p=p: registry.confirm(p[0], p[1].fence) for p in places[:half]])
    await times("cancel", *[lambda p=p: registry.cancel(p[0], p[1].fence) for p in places[half:]])
    await times("forget", *[lambda p=p: registry.forget(p[0]) for p in places[:half]])
    few = workers[:_TIMES]
    await times("beat of 100, nothing new", *[lambda w=w: fleet.beat(w) for w in few])
    await times("beat of 100, all of another state", *[lambda w=w: fleet.beat(w, "disconnected") for w in few])
    nodes = [Worker(f"10.0.0.9:{3001 + i}", "observed", f"http://10.0.0.9:{3001 + i}", 1000) for i in range(_FEW)]
    seen = [{f"seen-{i}-{n}": _CONNECTED for n in range(EACH)} for i in range(_FEW)]
    lists = list(zip(nodes, seen, strict=True))
    await times("list of 100, all new", *[lambda one=one: registry.observe(*one, 0) for one in lists])
    await times("list of 100, nothing new", *[lambda one=one: registry.observe(*one, 0) for one in lists * 8])
    now = await registry.time()
    await times("list that lacks 100", *[lambda n=n: registry.observe(n, {}, now + 1) for n in nodes])
    await times("lapse, nothing to end", *[lambda: registry.lapse() for _ in range(_TIMES)])
    last = workers[-_FEW:]
    await times("worker that leaves with 100", *[lambda w=w: registry.deregister(w, "1") for w in last])
    for worker in last:
        await registry.register(Worker(worker, "1", "http://10.0.0.1:9999", EACH + 20))
    await times("place_orphans", *[registry.place_orphans for _ in range(2 * _FEW)])
    await times("move", *[lambda s=s: registry.move(s, workers[0]) for s in picked])
    await times("session", *[lambda s=s: registry.session(s) for s in picked])
    await times("page of 1,000", *[lambda: registry.page("", 1000) for _ in range(5)])
    await times("page of 1,000, of a workspace", *[lambda: registry.page("", 1000, "7") for _ in range(5)])
    await times("summary", *[registry.summary for _ in range(_TIMES)])
    await measure_lapse(fleet, times)


async def measure_lapse(fleet: Fleet, times: Callable[..., Awaitable[None]]) -> None:
    """Workers whose leases are over by now."""
    over = [part for worker in fleet.workers[1 : 1 + _FEW // 2] for part in (1, worker)]
    await fleet.store.commands(("ZADD", "sl:{sessions}:live", *over))
    await times("lapse of 50", *[fleet.registry.lapse for _ in range(_FEW)])


async def memory(store: Store) -> int:
    (info,) = await store.commands(("INFO", "memory"))
    return int(dict(line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)["used_memory"])


async def commands(store: Store) -> int:
    """Those that the store has run, but for those that ask for it."""
    (info,) = await store.commands(("INFO", "commandstats"))
    lines = [line for line in info.decode().split("\r\n") if line.startswith("cmdstat_") and "cmdstat_info" not in line]
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)


async def warm(store: Store) -> None:
    """Loads every script, and has what does not depend on the number of sessions: a full stream of changes."""
    for module in (registry_module, overview, upkeep):
        for script in vars(module).values():
            if isinstance(script, Script):
                await store.commands(("SCRIPT", "LOAD", script.text))
    small = Registry(store, LEASE)
    for i in range(0, 1200, EACH):
        names = [f"warm-{i + n}" for n in range(EACH)]
        await small.want({name: {} for name in names})
        for name in names:
            await small.forget(name)


async def known_owners(fleet: Fleet, found: Found) -> None:
    owners, names = Owners(fleet.registry), fleet.names[:1000]
    for name in names:
        assert isinstance(await owners.find(name), Owner)
    before, trips = await commands(fleet.store), fleet.store.trips
    for _ in range(10):
        for name in names:
            await owners.find(name)
    found.lookups = 10 * len(names)
    found.trips_when_known = await commands(fleet.store) - before + fleet.store.trips - trips - 1


@contextlib.contextmanager
def a_store() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        embedded.make_folders(data)
        process = subprocess.Popen(embedded.command(data, "second"), stdout=subprocess.DEVNULL)
        try:
            yield embedded.url(data)
        finally:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    await embedded.answering(url, 10.0)
    store = Store(url, timeout=30.0)
    yield store
    await store.close()


async def run(sessions: int) -> Found:
    found = Found(sessions)
    with a_store() as url:
        async with opened(url) as store:
            await store.commands(
                ("CONFIG", "SET", "slowlog-log-slower-than", 0), ("CONFIG", "SET", "slowlog-max-len", 4000)
            )
            await warm(store)
            fleet = Fleet(store, sessions)
            await store.commands(("SLOWLOG", "RESET"))
            before = await memory(store)
            await fleet.fill()
            (history,) = await store.commands(("MEMORY", "USAGE", _HISTORY, "SAMPLES", 0))
            await store.commands(("SLOWLOG", "RESET"))
            found.bytes_each = (await memory(store) - before - history) / sessions
            found.history_each = history / sessions
            await known_owners(fleet, found)
            began, times = time.perf_counter(), 20
            for _ in range(times):
                await fleet.registry.summary()
            found.scrape_us = (time.perf_counter() - began) / times * 1e6
            await measure(fleet, found)
    return found


def table(all_found: list[Found]) -> Iterator[str]:
    yield (
        "| microseconds of the store: median, longest | " + " | ".join(f"{one.sessions:,}" for one in all_found) + " |"
    )
    yield "|---|" + "---:|" * len(all_found)
    for name in all_found[0].times:
        cells = (f"{one.times[name][0]:.0f}, {one.times[name][1]}" for one in all_found)
        yield f"| {name} | " + " | ".join(cells) + " |"
    rows: dict[str, Callable[[Found], str]] = {
        "bytes of a session beside its history": lambda one: f"{one.bytes_each:.0f}",
        "bytes of its history": lambda one: f"{one.history_each:.0f}",
        "a scrape, microseconds here": lambda one: f"{one.scrape_us:.0f}",
        "round trips for requests to known owners": lambda one: f"{one.trips_when_known} for {one.lookups:,}",
    }
    for name, cell in rows.items():
        yield f"| {name} | " + " | ".join(map(cell, all_found)) + " |"


def _figures(found: Found) -> Iterator[Figure]:
    """With the most sessions."""
    beside = f"at {found.sessions:,} sessions"
    for name, (middle, _) in found.times.items():
        yield Figure.at_most(f"{name}, of the store, {beside}", middle, MOST_US, "µs")
    yield Figure.at_most(f"a session beside its history, {beside}", found.bytes_each, MOST_BYTES, "bytes")
    yield Figure.none_of("round trips for requests to known owners", found.trips_when_known)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", default="1000,10000,100000", help="how many, separated by commas")
    options = parser.parse_args()
    sys.stdout.write(f"Load average before it {os.getloadavg()[0]:.1f}.\n\n")
    found = [asyncio.run(run(int(count))) for count in options.sessions.split(",")]
    sys.stdout.writelines(f"{line}\n" for line in table(found))
    missed = [bar for one in found for bar in one.missed()]
    sys.stdout.writelines(f"missed: {bar}\n" for bar in missed)
    tell(_figures(found[-1]))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
