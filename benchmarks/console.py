"""What looking costs: a scrape of the metrics, and the console with as much in the store as it has to bear.

Bars: a scrape with 10,000 sessions takes at most 3 ms of CPU, of gateway and store together. With 100,000 sessions and
1,000,000 events the page can be used at most 200 ms after navigation, a viewer costs the gateway at most 2 % of a
core, and three viewers raise the proxy's p99 by at most 10 %. Slices with and without viewers take turns, so that a
change of the machine's speed falls on both; what counts is the median of the rounds. Needs a Chromium. Exits with 1
where a bar is missed; --short takes at most five minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from looking import filling, pages
from measured import Figure, tell
from playwright.async_api import Browser
from proxy.processes import cpu_seconds, free_port

from gateway.policies import load
from sluice.console.page import libraries
from sluice.http import client as http1
from tests.e2e.deployment import SECRETS, Deployment, deployment
from tests.sluice.console.page.looking import chromium, looked

CONSOLES = 3
TOKEN = SECRETS["SLUICE_CONSOLE_TOKEN"]
SCRAPE_MS, OPEN_MS, VIEWER_PERCENT, P99_RATIO = 3.0, 200.0, 2.0, 1.10
_RATE = 200.0  # requests a second
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + b"x" * 64


@dataclass(slots=True)
class Latencies:
    """In seconds, from the moment each request was due."""

    quiet: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    """Of each round: the p99 with consoles by that without."""


@dataclass(frozen=True, slots=True)
class Size:
    scraped: int
    sessions: int
    events: int
    openings: int
    viewings: int
    """Slices with a viewer, between slices without; each as long as the page's slowest habit, the history's."""
    viewed: float
    """Seconds of such a slice."""
    rounds: int
    """Of the proxy's latencies."""
    seconds: float
    """Of a slice of those."""


WHOLE = Size(10_000, 100_000, 1_000_000, 15, 12, 10.0, 24, 10.0)
SHORT = Size(10_000, 100_000, 1_000_000, 7, 3, 10.0, 8, 5.0)
QUICK = Size(200, 400, 1000, 1, 1, 1.0, 1, 1.0)


@dataclass(frozen=True, slots=True)
class Found:
    scrape: float
    """Milliseconds of CPU."""
    first: list[float]
    again: list[float]
    views: dict[str, list[float]]
    """Milliseconds, as those above."""
    shares: list[float]
    """Of a core of the gateway, of each round."""
    latencies: Latencies


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


async def _watch(url: str) -> None:
    """Reads the live stream, as an open page does. Its browser is left out, as it runs on another machine."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = f"GET /_sluice/live HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(head.encode())
        assert b" 200 " in await reader.readline()
        while await reader.read(65536):
            pass
    finally:
        writer.close()


@asynccontextmanager
async def _consoles(url: str) -> AsyncIterator[None]:
    watching = [asyncio.create_task(_watch(url)) for _ in range(CONSOLES)]
    try:
        yield
        assert not any(task.done() for task in watching), "a live stream has ended"
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def _compare(url: str, rounds: int, seconds: float) -> Latencies:
    client, found = _Client(url), Latencies()
    await _load(client, min(seconds, 3.0))
    for number in range(rounds):
        if number % 2:
            watched = await _load_beside_consoles(client, url, seconds)
            quiet = await _load(client, seconds)
        else:
            quiet = await _load(client, seconds)
            watched = await _load_beside_consoles(client, url, seconds)
        found.quiet += quiet
        found.watched += watched
        found.ratios.append(p99(watched) / p99(quiet))
    await client.close()
    return found


async def _load_beside_consoles(client: _Client, url: str, seconds: float) -> list[float]:
    async with _consoles(url):
        return await _load(client, seconds)


async def _cost_of(work: Callable[[], Awaitable[object]], pids: Sequence[int], times: int) -> float:
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


async def _shares_of_a_viewer(browser: Browser, url: str, gateway: int, size: Size) -> list[float]:
    """Of a core, of the gateway's: with a person at the page, beside nobody right before and right after."""
    shares, before = [], await _used_alone(gateway, size.viewed)
    for _ in range(size.viewings):
        watched = await _used_watched(browser, url, gateway, size.viewed)
        after = await _used_alone(gateway, size.viewed)
        shares.append((watched - (before + after) / 2) / size.viewed)
        before = after
    return shares


async def _used_watched(browser: Browser, url: str, gateway: int, seconds: float) -> float:
    async with looked(browser, url, token=TOKEN) as it:
        await it.page.wait_for_selector("#verdict")
        await asyncio.sleep(min(1.0, seconds))  # what opening it has cost is over
        return await _used(gateway, seconds)


async def _used_alone(gateway: int, seconds: float) -> float:
    await asyncio.sleep(min(1.0, seconds))
    return await _used(gateway, seconds)


async def _used(pid: int, seconds: float) -> float:
    before = cpu_seconds(pid)
    await asyncio.sleep(seconds)
    return cpu_seconds(pid) - before


def _pids(deployed: Deployment) -> tuple[int, int]:
    """Of the gateway and the store."""
    found = {}
    for pid in deployed.family()[1:]:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"\0gateway\0" in line:
            found["gateway"] = pid
        elif b"valkey" in line or b"redis" in line:
            found["store"] = pid
    return found["gateway"], found["store"]


def _with_room(deployed: Deployment) -> None:
    """For all those events."""
    text = deployed.file.read_text().replace(
        "  lanes:", f"  backlog: {{events: {filling.BACKLOG}, bytes: 8GiB}}\n  lanes:"
    )
    deployed.file.write_text(text)
    deployed.policies = load(deployed.file, environment=SECRETS)


async def measure(folder: Path, size: Size) -> Found:
    await asyncio.to_thread(libraries.install)
    ports = (free_port(), free_port())
    upstream = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", ports[1])
    async with upstream, deployment(folder, ports) as deployed:
        _with_room(deployed)
        await deployed.start_up()
        await deployed.run("circuit", "hold", "laravel", "open", "--why", "benchmark")
        await filling.sessions(deployed, size.scraped)
        url, pids, client = deployed.gateway, _pids(deployed), _Client(deployed.gateway)
        await _load(client, 1.0)
        scrape = await _cost_of(lambda: client.get(b"/_sluice/metrics"), pids, 200)
        await client.close()
        await filling.sessions(deployed, size.sessions)
        await filling.events(deployed, size.events, dead=size.events // 50)
        async with chromium() as browser:
            first, again = await pages.opened(browser, url, size.openings)
            views = await pages.views(browser, url, size.openings)
            shares = await _shares_of_a_viewer(browser, url, pids[0], size)
        return Found(scrape, first, again, views, shares, await _compare(url, size.rounds, size.seconds))


def _figures(found: Found, size: Size) -> Iterator[Figure]:
    yield Figure.at_most(f"a scrape with {size.scraped:,} sessions, CPU", found.scrape, SCRAPE_MS, "ms")
    opened = {"the page for the first time": found.first, "the page again": found.again, **found.views}
    for name, times in opened.items():
        yield Figure.at_most(f"{name}, at worst {max(times):.0f} ms", statistics.median(times), OPEN_MS, "ms")
    shares = [100 * share for share in found.shares]
    what = f"a viewer, of a core of the gateway, rounds {min(shares):.2f} to {max(shares):.2f} %"
    yield Figure.at_most(what, statistics.median(shares), VIEWER_PERCENT, "%")
    quiet, watched, ratios = found.latencies.quiet, found.latencies.watched, found.latencies.ratios
    yield Figure("p99 of the proxy without viewers", p99(quiet) * 1000, "ms")
    yield Figure(f"p99 of the proxy with {CONSOLES} viewers", p99(watched) * 1000, "ms")
    what = f"median of the rounds' ratios, rounds {min(ratios):.2f} to {max(ratios):.2f}"
    yield Figure.at_most(what, statistics.median(ratios), P99_RATIO)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--short", action="store_true", help="fewer and shorter rounds, at most five minutes")
    how.add_argument("--quick", action="store_true", help="all of it in small; its numbers say nothing")
    chosen = parser.parse_args()
    size = QUICK if chosen.quick else SHORT if chosen.short else WHOLE
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        figures = list(_figures(asyncio.run(measure(Path(folder), size)), size))
    print(f"load average {os.getloadavg()[0]:.1f}; {size.sessions:,} sessions and {size.events:,} events")
    for one in figures:
        print(one.line())
    tell(figures)
    return int(any(one.met is False for one in figures))


if __name__ == "__main__":
    sys.exit(main())
