"""What befalls the store under load: nothing is lost, nothing overtakes, nobody has to help, nothing spins."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.circuit import Circuit
from relay.deliver.outcome import Delivered, Outcome
from relay.dispatch.loop import Dispatcher
from relay.policies import CircuitPolicy, Retry
from relay.queue.codec import Delivery
from relay.queue.errors import BacklogFull
from relay.queue.queue import Queue
from sluice.process.loops import Stop
from sluice.store import embedded
from sluice.store.client import Store, StoreAway, StoreRefused
from tests.relay.making import accept, event
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CIRCUIT = CircuitPolicy(window=30, minimum=1000, ratio=0.5, open=0.05, cap=0.2, probes=1)
RETRY = Retry(attempts=100, base=0.01, cap=0.05)
LEASE = 1.0


class Server:
    """A store of the test's own, as `sluice up` runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        embedded.make_folders(folder)
        self.url = embedded.url(folder)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(embedded.command(self.folder, "second"), stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


class Taker:
    """Takes everything, and notes it in its order."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def post(self, delivery: Delivery, begin_by: float) -> Outcome:
        await asyncio.sleep(0.001)
        self.bodies.append(delivery.body)
        return Delivered(200)

    async def post_batch(self, deliveries: object, begin_by: float) -> list[Outcome]:
        raise NotImplementedError

    def in_order(self, session: bytes) -> bool:
        """Repeats do not count: an event may be sent again by whoever did not hear the answer."""
        numbers = [int(body.split(b" ")[1]) for body in dict.fromkeys(self.bodies) if body.startswith(session + b" ")]
        return numbers == sorted(numbers)


@pytest.fixture
def server(short_folder: Path) -> Iterator[Server]:
    server = Server(short_folder)
    yield server
    server.signal(signal.SIGCONT)
    server.kill()


@pytest.fixture
async def store(server: Server) -> AsyncIterator[Store]:
    await embedded.answering(server.url, 10.0)
    store = Store(server.url, timeout=0.5)
    yield store
    await store.close()


def queue_of(store: Store) -> Queue:
    return Queue(store, "laravel", lease=LEASE, max_bytes=10**9, max_events=10**6)


@asynccontextmanager
async def running(store: Store, taker: Taker) -> AsyncIterator[Dispatcher]:
    circuit = Circuit(store, "laravel", CIRCUIT, None, probe_lease=1.0)
    dispatcher = Dispatcher(queue_of(store), circuit, taker, retry=RETRY, concurrency=16)
    stop = Stop()
    loop = asyncio.create_task(dispatcher.run(stop))
    yield dispatcher
    stop.request()
    await loop


async def produce(queue: Queue, session: str, events: int) -> list[bytes]:
    """In order; what is not accepted is given again, as a client does. What was accepted."""
    accepted = []
    for i in range(events):
        given = event(session, b"%b %d" % (session.encode(), i), dedupe_window=600.0)
        while True:
            try:
                await accept(queue, given)
                break
            except (StoreAway, StoreRefused, BacklogFull):
                await asyncio.sleep(0.02)
        accepted.append(given.body)
    return accepted


async def all_delivered(taker: Taker, producers: list[asyncio.Task[list[bytes]]]) -> None:
    accepted = [body for bodies in await asyncio.gather(*producers) for body in bodies]
    await until(lambda: set(taker.bodies) >= set(accepted), timeout=20, what="everything accepted to be delivered")
    for i in range(len(producers)):
        assert taker.in_order(b"s%d" % i)


async def test_scripts_flushed_again_and_again_under_load(store: Store) -> None:
    taker = Taker()
    async with running(store, taker):
        producers = [asyncio.create_task(produce(queue_of(store), f"s{i}", 60)) for i in range(8)]
        for _ in range(50):
            await store.redis.script_flush()
            await asyncio.sleep(0.01)
        await all_delivered(taker, producers)
    assert len(taker.bodies) == 8 * 60, "and nothing is repeated"


async def test_a_store_that_is_killed_and_started_again(server: Server, store: Store) -> None:
    taker = Taker()
    async with running(store, taker):
        producers = [asyncio.create_task(produce(queue_of(store), f"s{i}", 150)) for i in range(8)]
        for _ in range(3):
            await asyncio.sleep(0.2)
            server.kill()
            server.start()
            await embedded.answering(server.url, 10.0)
        await all_delivered(taker, producers)


async def test_a_store_that_freezes_and_comes_back(server: Server, store: Store) -> None:
    taker = Taker()
    async with running(store, taker) as dispatcher:
        producers = [asyncio.create_task(produce(queue_of(store), f"s{i}", 150)) for i in range(8)]
        await asyncio.sleep(0.1)
        server.signal(signal.SIGSTOP)
        before = time.process_time()
        await asyncio.sleep(2.0)  # what is shown is that little is done in this time
        assert time.process_time() - before < 0.5
        assert dispatcher.seconds_stuck > 0.9
        server.signal(signal.SIGCONT)
        await all_delivered(taker, producers)
        assert dispatcher.seconds_stuck < 1.0


async def test_a_full_store_refuses_what_comes_and_delivers_what_waits(store: Store) -> None:
    """`maxmemory` with `noeviction`: nothing is accepted falsely, and the backlog empties."""
    taker, queue = Taker(), queue_of(store)
    accepted = [asyncio.create_task(produce(queue, f"s{i}", 40)) for i in range(4)]
    await asyncio.gather(*accepted)
    await store.redis.config_set("maxmemory", "1mb")
    with pytest.raises(StoreRefused):
        await accept(queue, event("s9", b"s9 0"))
    async with running(store, taker):
        await all_delivered(taker, accepted)
        await until(lambda: len(taker.bodies) == 160)
        await store.redis.config_set("maxmemory", "0")
        await accept(queue, event("s9", b"s9 1"))
        await until(lambda: b"s9 1" in taker.bodies)
    assert b"s9 0" not in taker.bodies


async def test_a_store_that_is_emptied_does_not_wedge(store: Store) -> None:
    taker, queue = Taker(), queue_of(store)
    async with running(store, taker):
        await accept(queue, event("s0", b"s0 0"))
        await until(lambda: taker.bodies == [b"s0 0"])
        await store.redis.flushall()
        await accept(queue, event("s0", b"s0 1"))
        await until(lambda: taker.bodies[-1] == b"s0 1")


async def test_content_that_somebody_took_out_of_the_store_stands_in_nobodys_way(store: Store) -> None:
    taker, queue = Taker(), queue_of(store)
    for i in range(5):
        await accept(queue, event(None if i % 2 else "s0", b"s0 %d" % i, coalesce_key="k" if i > 3 else ""))
    for partition in range(4):
        await store.redis.delete(f"sl:{{{partition:02d}}}:events")
    await accept(queue, event("s0", b"s0 9", coalesce_key="k"))
    async with running(store, taker):
        await until(lambda: taker.bodies == [b"s0 9"])

        async def settled() -> bool:
            counts = await queue.counts()
            return (counts.lost, counts.waiting, counts.leased, counts.delivered) == (5, 0, 0, 1)

        await until(settled)
        for i in range(16):
            await accept(queue, event(f"s{i}", b"s%d 0" % i))
        await until(lambda: len(taker.bodies) == 17)

        async def nothing_is_left() -> bool:
            return (await queue.counts()).bytes == 0

        await until(nothing_is_left)
