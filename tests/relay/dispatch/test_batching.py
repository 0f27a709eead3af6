"""Several events in one POST. How they are sent and answered is in test_sender.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.circuit import Circuit
from relay.deliver.outcome import Delivered, Failed, Outcome
from relay.dispatch.loop import Dispatcher
from relay.policies import Batch, CircuitPolicy, Retry
from relay.queue.codec import Delivery
from relay.queue.queue import Queue
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.waiting import until

pytestmark = pytest.mark.anyio

CIRCUIT = CircuitPolicy(window=30, minimum=1000, ratio=0.5, open=0.05, cap=0.2, probes=1)
RETRY = Retry(attempts=5, base=0.01, cap=0.05)


class Box:
    """Takes batches; a body that is in `failing` fails the first time."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.failing: set[bytes] = set()
        self.failing_together: set[bytes] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    async def post(self, delivery: Delivery, begin_by: float) -> Outcome:
        raise NotImplementedError

    async def post_batch(self, deliveries: list[Delivery], begin_by: float) -> list[Outcome]:  # type: ignore[override]
        bodies = [delivery.body for delivery in deliveries]
        self.batches.append(bodies)
        await self.gate.wait()
        if self.failing_together & set(bodies):
            self.failing_together -= set(bodies)
            return [Failed("answered 500", None, 500)] * len(deliveries)
        outcomes: list[Outcome] = []
        for body in bodies:
            outcomes.append(Failed("answered 500", None, 500) if body in self.failing else Delivered(200))
            self.failing.discard(body)
        return outcomes

    @property
    def bodies(self) -> list[bytes]:
        return [body for batch in self.batches for body in batch]


@asynccontextmanager
async def running(store: Store, box: Box, batch: Batch, concurrency: int = 4) -> AsyncIterator[Queue]:
    def queue_of() -> Queue:
        return Queue(store, "laravel", lease=5.0, max_bytes=10**7, max_events=10**5, max_per_stream=batch.max)

    circuit = Circuit(store, "laravel", CIRCUIT, None, probe_lease=1.0)
    stop = Stop()
    dispatcher = Dispatcher(queue_of(), circuit, box, retry=RETRY, concurrency=concurrency, batch=batch)
    loop = asyncio.create_task(dispatcher.run(stop))
    try:
        yield queue_of()
    finally:
        box.gate.set()
        stop.request()
        await loop


async def delivered(queue: Queue, count: int) -> None:
    async def all_are() -> bool:
        return (await queue.counts()).delivered == count

    await until(all_are)


async def test_a_session_goes_in_order_in_one_batch_and_sessions_share_it(store: Store) -> None:
    box = Box()
    async with running(store, box, Batch(max=100, wait=0.7)) as queue:
        for i in range(10):
            await accept(queue, event("a", b"a%d" % i))
            await accept(queue, event("b", b"b%d" % i))
        await delivered(queue, 20)
    assert len(box.batches) == 1
    for session in (b"a", b"b"):
        assert [body for body in box.bodies if body[:1] == session] == [b"%b%d" % (session, i) for i in range(10)]


async def test_a_batch_is_never_larger_than_its_most_and_a_backlog_does_not_wait(store: Store) -> None:
    box = Box()
    async with running(store, box, Batch(max=10, wait=0.3)) as queue:
        await asyncio.gather(*(accept(queue, event("s", b"%d" % i)) for i in range(95)))
        started = time.monotonic()
        await delivered(queue, 95)
    assert time.monotonic() - started < 9 * 0.3
    assert max(map(len, box.batches)) == 10
    assert box.bodies == [b"%d" % i for i in range(95)]


async def test_nobody_waits_longer_than_the_wait(store: Store) -> None:
    box = Box()
    async with running(store, box, Batch(max=100, wait=0.1)) as queue:
        await accept(queue, event())
        started = time.monotonic()
        await delivered(queue, 1)
    assert time.monotonic() - started < 1.5
    assert len(box.batches) == 1


async def test_a_batch_that_failed_comes_again_in_order(store: Store) -> None:
    box = Box()
    box.failing_together = {b"2"}
    async with running(store, box, Batch(max=100, wait=0.7)) as queue:
        for i in range(5):
            await accept(queue, event("s", b"%d" % i))
        await delivered(queue, 5)
        assert (await queue.counts()).retried == 5
    assert box.bodies == [b"%d" % i for i in range(5)] * 2


async def test_only_what_failed_of_a_batch_comes_again(store: Store) -> None:
    box = Box()
    box.failing = {b"2"}
    async with running(store, box, Batch(max=100, wait=0.7)) as queue:
        for i in range(5):
            await accept(queue, event("s", b"%d" % i))
        await delivered(queue, 5)
    assert box.batches == [[b"0", b"1", b"2", b"3", b"4"], [b"2"]]


async def test_a_session_is_in_one_batch_at_a_time(store: Store) -> None:
    box = Box()
    box.gate.clear()
    async with running(store, box, Batch(max=2, wait=0.05)) as queue:
        for i in range(6):
            await accept(queue, event("s", b"s%d" % i))
        await accept(queue, event("other", b"other"))
        await until(lambda: len(box.batches) == 2)
        await asyncio.sleep(0.3)  # what is shown is that no more goes out
        assert sorted(map(len, box.batches)) == [1, 2]
        box.gate.set()
        await delivered(queue, 7)
    assert [body for body in box.bodies if body != b"other"] == [b"s%d" % i for i in range(6)]


async def test_what_may_have_ended_a_process_goes_alone(store: Store) -> None:
    box = Box()
    queue = Queue(store, "laravel", lease=0.05, max_bytes=10**7, max_events=10**5, max_per_stream=100)
    for session in ("a", "b"):
        for i in range(3):
            await accept(queue, event(session, b"%b%d" % (session.encode(), i)))
    queue.look_everywhere()
    assert len((await queue.poll([], 400)).leased) == 6
    await asyncio.sleep(0.1)
    async with running(store, box, Batch(max=100, wait=0.05), concurrency=1):
        await delivered(queue, 6)
    assert [b"a0"] in box.batches
    assert [b"b0"] in box.batches
    for session in (b"a", b"b"):
        assert [body for body in box.bodies if body[:1] == session] == [b"%b%d" % (session, i) for i in range(3)]
