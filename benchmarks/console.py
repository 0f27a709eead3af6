"""What looking costs: a scrape of the metrics with 10,000 sessions, and open consoles beside the proxy's traffic.

Bars: a scrape takes at most 3 ms of CPU, of gateway and store together; three open consoles with 20,000 sessions raise
the proxy's p99 by at most 10 %. Slices with and without consoles take turns, so that a change of the machine's speed
falls on both. Ends within five minutes; exits with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from proxy.processes import cpu_seconds, free_port

from sessions.registry import ObservedSession, Registry, Worker
from sluice.http import client as http1
from sluice.process.addresses import store_url
from sluice.store.client import Store
from tests.e2e.deployment import SECRETS, Deployment, deployment

CONSOLES = 3
SCRAPE_MS, P99_RATIO = 3.0, 1.10
_RATE = 200.0  # requests a second
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + b"x" * 64


@dataclass(slots=True)
class Latencies:
    """In seconds, from the moment each request was due."""

    quiet: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    """Of each round: the p99 with consoles by that without."""


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


class _Upstream(asyncio.Protocol):
    """Answers every head at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(_ANSWER * data.count(b"\r\n\r\n"))


class _Client:
    def __init__(self, url: str) -> None:
        self._pool = http1.Pool(http1.Origin.of(url), connect=5.0, limit=64, wait=30.0)
        self._host = (b"Host", self._pool.origin.authority)

    async def get(self, path: bytes, *more: tuple[bytes, bytes]) -> bytes:
        code, _, body = await http1.exchange(
            self._pool, b"GET", path, [self._host, *more], b"", timeout=30.0, most=8 * 1024 * 1024
        )
        assert code == 200, (path, code, body[:200])
        return body

    async def close(self) -> None:
        await self._pool.close()


async def _load(client: _Client, seconds: float) -> list[float]:
    """An open loop: a request that is late counts from when it was due."""
    began, latencies = time.perf_counter() + 0.05, list[float]()

    async def one(due: float) -> None:
        await client.get(b"/anything")
        latencies.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as group:
        for i in range(int(seconds * _RATE)):
            due = began + i / _RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    return latencies


async def _watch(client: _Client) -> None:
    """As an open page does."""
    token = b"Bearer " + SECRETS["SLUICE_CONSOLE_TOKEN"].encode()
    while True:
        await client.get(b"/_sluice/api/status", (b"Authorization", token))
        await asyncio.sleep(1.0)


@asynccontextmanager
async def _consoles(url: str) -> AsyncIterator[None]:
    clients = [_Client(url) for _ in range(CONSOLES)]
    watching = [asyncio.create_task(_watch(client)) for client in clients]
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await asyncio.gather(*(client.close() for client in clients))


async def _compare(url: str, rounds: int, seconds: float) -> Latencies:
    client, found = _Client(url), Latencies()
    await _load(client, min(seconds, 3.0))
    for _ in range(rounds):
        quiet = await _load(client, seconds)
        async with _consoles(url):
            watched = await _load(client, seconds)
        found.quiet += quiet
        found.watched += watched
        found.ratios.append(p99(watched) / p99(quiet))
    await client.close()
    return found


async def _cost_of(work: Callable[[], Awaitable[object]], pids: list[int], times: int) -> float:
    """Milliseconds of CPU of these processes for each, beside what they use when nobody asks."""
    idle_for = 2.0
    before = sum(map(cpu_seconds, pids))
    await asyncio.sleep(idle_for)
    idle = (sum(map(cpu_seconds, pids)) - before) / idle_for
    before, began = sum(map(cpu_seconds, pids)), time.perf_counter()
    for _ in range(times):
        await work()
    used, took = sum(map(cpu_seconds, pids)) - before, time.perf_counter() - began
    return (used - idle * took) / times * 1000


async def _run_sessions(deployed: Deployment, count: int) -> None:
    store = Store(store_url(deployed.policies), timeout=30.0)
    names = {f"session-{i:05}": ObservedSession("connected", f"62{i:09}") for i in range(count)}
    await Registry(store, 3600.0).observe(Worker("benchmark", "1", "http://127.0.0.1:9", count), names)
    await store.close()


def _pids(deployed: Deployment) -> list[int]:
    """Of the gateway and the store."""
    found = []
    for pid in deployed.family()[1:]:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"valkey" in line or b"redis" in line or b"\0gateway\0" in line:
            found.append(pid)
    assert len(found) == 2, found
    return found


async def measure(folder: Path, *, scraped: int, shown: int, rounds: int, seconds: float) -> tuple[float, Latencies]:
    """Milliseconds of CPU for a scrape with `scraped` sessions, and latencies with `shown` sessions."""
    ports = (free_port(), free_port())
    upstream = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", ports[1])
    async with upstream, deployment(folder, ports) as deployed:
        await deployed.start_up()
        await _run_sessions(deployed, scraped)
        client = _Client(deployed.gateway)
        await _load(client, 1.0)
        scrape = await _cost_of(lambda: client.get(b"/_sluice/metrics"), _pids(deployed), 200)
        await client.close()
        await _run_sessions(deployed, shown)
        return scrape, await _compare(deployed.gateway, rounds, seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=12.0, help="of a slice")
    parser.add_argument("--quick", action="store_true", help="all of it in small; its numbers say nothing")
    chosen = parser.parse_args()
    sizes = (200, 400, 1, 1.0) if chosen.quick else (10_000, 20_000, chosen.rounds, chosen.seconds)
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        scrape, found = asyncio.run(
            measure(Path(folder), scraped=sizes[0], shown=sizes[1], rounds=sizes[2], seconds=sizes[3])
        )
    ratio = statistics.median(found.ratios)
    print(f"load average {os.getloadavg()[0]:.1f}")
    print(f"a scrape with {sizes[0]:,} sessions: {scrape:.2f} ms of CPU (at most {SCRAPE_MS:g})")
    print(
        f"p99 of the proxy with {CONSOLES} consoles and {sizes[1]:,} sessions: {p99(found.watched) * 1000:.2f} ms, "
        f"without {p99(found.quiet) * 1000:.2f} ms; median of the rounds' ratios {ratio:.2f} (at most {P99_RATIO:g})"
    )
    return 0 if scrape <= SCRAPE_MS and ratio <= P99_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
