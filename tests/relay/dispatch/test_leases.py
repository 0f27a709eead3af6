"""Leases that are short, and extended while an attempt is under way."""

from __future__ import annotations

import asyncio
import time

import pytest

from relay.circuit import Circuit
from relay.deliver.outcome import Delivered, Outcome
from relay.dispatch.attempts import Sends
from relay.dispatch.leases import Leases
from relay.dispatch.loop import Dispatcher
from relay.policies import CircuitPolicy, Retry
from relay.queue.codec import Delivery
from relay.queue.dead_letters import DeadLetters
from relay.queue.queue import Queue, Settlement
from sluice.process.boottime import boottime
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.heard import Heard
from tests.relay.making import accept, event
from tests.waiting import until

pytestmark = pytest.mark.anyio

CIRCUIT = CircuitPolicy(window=30, minimum=1000, ratio=0.5, open=0.05, cap=0.2, probes=1)
RETRY = Retry(attempts=3, base=0.01, cap=0.05)


class Slow:
    """A receiver that takes as long as the test wants."""

    def __init__(self) -> None:
        self.posted: list[bytes] = []
        self.gate = asyncio.Event()

    async def post(self, delivery: Delivery, begin_by: float) -> Outcome:
        self.posted.append(delivery.body)
        await self.gate.wait()
        return Delivered(200)

    async def post_batch(self, deliveries: object, begin_by: float) -> list[Outcome]:
        raise NotImplementedError


def queue_of(store: Store, lease: float) -> Queue:
    return Queue(store, "laravel", lease=lease, max_bytes=10**6, max_events=100)


def dispatcher_of(store: Store, sender: Sends, lease: float) -> Dispatcher:
    circuit = Circuit(store, "laravel", CIRCUIT, None, probe_lease=1.0)
    return Dispatcher(queue_of(store, lease), circuit, sender, retry=RETRY, concurrency=4)


async def lease(queue: Queue, settled: list[Settlement] | None = None) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll(settled or [], 100)).leased


async def test_an_attempt_that_takes_many_leases_is_not_repeated(store: Store) -> None:
    sender, stop = Slow(), Stop()
    one, other = dispatcher_of(store, sender, 0.3), dispatcher_of(store, sender, 0.3)
    queue = queue_of(store, 0.3)
    await accept(queue, event(body=b"long"))
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run(stop))
        group.create_task(other.run(stop))
        await until(lambda: sender.posted)
        await asyncio.sleep(1.2)  # what is shown is that nothing is repeated in four leases
        sender.gate.set()

        async def delivered() -> bool:
            return (await queue.counts()).delivered == 1

        await until(delivered)
        stop.request()
    assert sender.posted == [b"long"]


async def test_the_deliveries_of_a_killed_relay_come_back_when_their_leases_end(store: Store) -> None:
    sender = Slow()
    killed = asyncio.create_task(dispatcher_of(store, sender, 0.3).run(Stop()))
    queue = queue_of(store, 0.3)
    await accept(queue, event(body=b"x"))
    await until(lambda: sender.posted)
    killed.cancel()
    came_back: list[Delivery] = []

    async def again() -> bool:
        came_back.extend(await lease(queue))
        return bool(came_back)

    started = asyncio.get_running_loop().time()
    await until(again)
    assert asyncio.get_running_loop().time() - started < 1.0
    assert (came_back[0].body, came_back[0].attempt, came_back[0].crash_count) == (b"x", 1, 1)


async def test_only_the_holder_extends(store: Store) -> None:
    queue = queue_of(store, 0.1)
    await accept(queue, event())
    (late,) = await lease(queue)
    now: list[Delivery] = []

    async def again() -> bool:
        now.extend(await lease(queue))
        return bool(now)

    await until(again)
    assert await queue.extend([late]) == [late]
    assert await queue.extend(now) == []
    await queue.poll([Settlement(now[0], "delivered")], 0)
    assert await queue.extend(now) == now


async def test_a_holder_that_was_only_late_does_not_count_as_one_that_died(store: Store) -> None:
    queue = queue_of(store, 0.05)
    await accept(queue, event())
    holder = await lease(queue)
    for _ in range(6):
        following: list[Delivery] = []

        async def again(into: list[Delivery] = following) -> bool:
            into.extend(await lease(queue))
            return bool(into)

        await until(again)
        assert (await queue.poll([Settlement(holder[0], "delivered")], 0)).refused == holder
        holder = following
    assert (await queue.counts()).dead == 0


async def test_a_lease_that_was_lost_is_logged(store: Store, heard: Heard) -> None:
    sender, stop = Slow(), Stop()
    queue = queue_of(store, 0.3)
    await accept(queue, event(body=b"x"))
    running = asyncio.create_task(dispatcher_of(store, sender, 0.3).run(stop))
    await until(lambda: sender.posted)
    for partition in range(4):
        await store.redis.delete(f"sl:{{{partition:02d}}}:laravel:leases")
    await until(lambda: "delivery.lease_lost" in heard.messages())
    sender.gate.set()
    stop.request()
    await running


async def test_what_was_lost_and_leased_again_by_the_same_process_ends_twice_and_settles_once(store: Store) -> None:
    """A store that was away for longer than a lease: the attempt goes on, and so does another one of the same event."""
    sender, stop = Slow(), Stop()
    queue = queue_of(store, 60.0)
    await accept(queue, event(body=b"x"))
    dispatcher = dispatcher_of(store, sender, 60.0)
    running = asyncio.create_task(dispatcher.run(stop))
    await until(lambda: len(sender.posted) == 1)
    for partition in range(4):
        key = f"sl:{{{partition:02d}}}:laravel:normal"
        for stream in await store.redis.zrange(key, 0, -1):
            await store.redis.zadd(key, {stream: 0})
    await until(lambda: len(sender.posted) == 2)
    sender.gate.set()

    async def delivered() -> bool:
        return (await queue.counts()).delivered == 1

    await until(delivered)
    stop.request()
    await running
    counts = await queue.counts()
    assert (counts.delivered, counts.waiting, counts.leased) == (1, 0, 0)


async def test_in_a_crash_loop_only_the_event_that_crashes_its_holders_becomes_a_dead_letter(store: Store) -> None:
    """Each holder leases all that waits and dies of one event; what was beside it must not be buried with it."""
    queue = queue_of(store, 0.1)
    poison = event("s0", b"poison")
    for given in (poison, *(event(f"s{i}", b"x") for i in range(1, 8))):
        await accept(queue, given)
    for crash_count in (0, 1):
        leased: list[Delivery] = []

        async def all_of_them(leased: list[Delivery] = leased) -> bool:
            leased += await lease(queue)
            return len(leased) == 8

        await until(all_of_them)
        assert {one.crash_count for one in leased} == {crash_count}

    stop, sender = Stop(), Lethal()
    dispatcher = dispatcher_of(store, sender, 0.1)
    running = asyncio.create_task(dispatcher.run(stop))
    await until(lambda: sender.died)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sender.max_suspects == 1

    last, sender = Stop(), Lethal()
    running = asyncio.create_task(dispatcher_of(store, sender, 0.3).run(last))

    await until(lambda: ended(queue), timeout=60.0)
    last.request()
    await running
    assert (await queue.counts()).delivered == 7
    (buried,) = [letter async for letter in DeadLetters(store, "laravel").all()]
    assert (buried.event.id, buried.reason) == (poison.id, "3 relay processes ended while they delivered it")


async def test_what_was_leased_beside_a_suspect_that_ends_its_holder_at_once_is_not_buried_with_it(
    store: Store,
) -> None:
    """Before anything of the poll that leased them all was settled."""
    queue = queue_of(store, 0.1)
    for given in (event("s0", b"poison"), *(event(f"s{i}", b"x") for i in range(1, 8))):
        await accept(queue, given)
    for _ in range(2):
        leased: list[Delivery] = []

        async def all_of_them(leased: list[Delivery] = leased) -> bool:
            leased += await lease(queue)
            return len(leased) == 8

        await until(all_of_them)

    sender = Lethal(at_once=True)
    sender.process = asyncio.create_task(dispatcher_of(store, sender, 0.1).run(Stop()))
    await asyncio.gather(sender.process, return_exceptions=True)
    assert sender.died

    stop = Stop()
    running = asyncio.create_task(dispatcher_of(store, Lethal(), 0.3).run(stop))
    await until(lambda: ended(queue), timeout=60.0)
    stop.request()
    await running
    counts = await queue.counts()
    assert (counts.dead, counts.delivered) == (1, 7)


async def ended(queue: Queue) -> bool:
    """Nothing is left of eight."""
    counts = await queue.counts()
    return counts.dead + counts.delivered == 8


class Lethal:
    """A receiver of which one event is the process's end."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.died = False
        self.process: asyncio.Task[None] | None = None
        """The relay, which ends with it."""
        self.suspects = self.max_suspects = 0
        self._takes = 0.0 if at_once else 0.01

    async def post(self, delivery: Delivery, begin_by: float) -> Outcome:
        suspect = delivery.crash_count >= 2
        self.suspects += suspect
        self.max_suspects = max(self.max_suspects, self.suspects)
        await asyncio.sleep(self._takes)
        if delivery.body == b"poison":
            self.died = True
            if self.process is not None:
                self.process.cancel()
            await asyncio.Event().wait()
        self.suspects -= suspect
        return Delivered(200)

    async def post_batch(self, deliveries: object, begin_by: float) -> list[Outcome]:
        raise NotImplementedError


class Blocking:
    """Its first POST blocks the whole process for longer than a lease, as a stopped one would be."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.tokens: list[bytes] = []

    async def post(self, delivery: Delivery, begin_by: float) -> Outcome:
        self.tokens.append(delivery.token)
        if len(self.tokens) == 1:
            time.sleep(self.seconds)
        return Delivered(200)

    async def post_batch(self, deliveries: object, begin_by: float) -> list[Outcome]:
        raise NotImplementedError


async def test_a_process_that_stood_still_begins_no_post_of_a_lease_that_is_over(store: Store) -> None:
    sender, stop, queue = Blocking(0.5), Stop(), queue_of(store, 0.3)
    for number in range(20):
        await accept(queue, event(f"s{number}"))
    async with asyncio.TaskGroup() as group:
        group.create_task(dispatcher_of(store, sender, 0.3).run(stop))

        async def all_delivered() -> bool:
            return (await queue.counts()).delivered == 20

        await until(all_delivered)
        stop.request()
    assert sender.tokens.count(sender.tokens[0]) == 1, "what came with it was leased again before it was sent"
    assert len(sender.tokens) >= 20


async def test_a_lease_that_is_extended_may_be_used_for_longer(store: Store) -> None:
    queue = queue_of(store, 0.4)
    await accept(queue, event())
    leases = Leases(queue)
    leased_at = boottime()
    leased = await lease(queue)
    leases.begin(leased, leased_at)
    assert leases.begin_by(leased) == pytest.approx(leased_at + 0.36)
    extending = asyncio.create_task(leases.extend_forever())
    await until(lambda: leases.begin_by(leased) > leased_at + 0.4)
    extending.cancel()
    leases.return_unsent(leased)
    assert leases.begin_by(leased) < boottime(), "it is held no more"
