"""What an event costs in the store: round trips, bytes, and claims beside a large backlog."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from relay.process import EndpointRelay
from relay.queue.queue import Settlement
from relaying.site import Site, site
from sluice.store.client import Store

_BATCH = 16
_POLLS = 2000


@dataclass(frozen=True, slots=True)
class Cost:
    round_trips: float
    """For each delivered event, where sixteen are delivered at a time."""
    bytes: float
    """For each event of 512 bytes that waits."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Milliseconds to settle sixteen and to lease sixteen, beside so many that wait."""

    waiting: int
    p50: float
    p99: float


def cost(folder: Path, events: int) -> Cost:
    with site(folder, concurrency=_BATCH) as there:
        before = there.server.used_memory()
        there.fill(events, size=512)
        each = (there.server.used_memory() - before) / events
        return Cost(asyncio.run(_round_trips(there, events)), each)


async def _round_trips(there: Site, events: int) -> float:
    store = Store(there.server.url, timeout=5.0)
    relay = EndpointRelay(store, there.policies.relay.endpoints["laravel"], there.policies)
    running = asyncio.create_task(relay.run())
    while (await asyncio.to_thread(there.receiver.counts)).received < events:
        await asyncio.sleep(0.05)
    relay.stop.request()
    await running
    trips = store.trips
    await store.close()
    return trips / events


def claims(folder: Path, waiting: int, sessions: int) -> Claims:
    with site(folder) as there:
        there.fill(waiting, sessions=sessions, size=128)
        return asyncio.run(_claims(there, waiting))


async def _claims(there: Site, waiting: int) -> Claims:
    """As many wait all the time: what is leased is put back, to be due at once."""
    store = Store(there.server.url, timeout=10.0)
    queue = there.queue(store)
    settled: list[Settlement] = []
    times: list[float] = []
    for _ in range(_POLLS):
        queue.look_everywhere()
        began = time.perf_counter()
        polled = await queue.poll(settled, _BATCH)
        times.append((time.perf_counter() - began) * 1000)
        settled = [Settlement(delivery, "return") for delivery in polled.leased]
        assert len(settled) == _BATCH
    await queue.poll(settled, 0)
    await store.close()
    return Claims(waiting, median(times), sorted(times)[int(len(times) * 0.99)])
