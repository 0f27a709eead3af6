"""A store whose clock is stepped by ten minutes, and what relay, sessions and limits do then: nobody waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.limits.applicable import Limits, Subject
from gateway.limits.decide import Decision
from gateway.limits.limiter import Limiter
from relay.circuit import Circuit, Report
from relay.policies import CircuitPolicy, Retry
from relay.queue.codec import Delivery
from relay.queue.layout import PARTITIONS, any_key
from relay.queue.queue import Queue, Settlement
from relay.queue.waiting import Waiting
from sessions.registry import Owner, Registry, Worker
from sluice.config import Rate
from sluice.store import clock
from sluice.store.client import Store
from tests.gateway.making import a_client, a_limit
from tests.heard import Heard
from tests.relay.dispatch.running import Relay, running
from tests.relay.making import accept, event
from tests.relay.receiver import OK, receiver
from tests.sluice.store.store_servers import Server
from tests.stepping_clock import SteppingClock
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

BACK, FORWARD = -600.0, 600.0
LEASE = 1.0
GRACE = 3.0  # seconds over what is due by which it has happened, on a machine that is busy


@pytest.fixture
def stepping(short_folder: Path) -> SteppingClock:
    return SteppingClock(short_folder)


@pytest.fixture
async def store(short_folder: Path, free_port: Callable[[], int], stepping: SteppingClock) -> AsyncIterator[Store]:
    """One with the stepping clock, looked at once a second as each process does it."""
    server = Server(short_folder, free_port(), clock=stepping)
    server.start()
    store = Store(server.url, timeout=5.0)
    slots = [*(any_key(p) for p in range(PARTITIONS)), "{laravel}", "{sessions}", "{l}"]
    watching = asyncio.create_task(watch(clock.Watch(store, lambda: slots)))
    yield store
    watching.cancel()
    await store.close()
    server.kill()


async def watch(watch: clock.Watch) -> None:
    while True:
        await watch.run_once()
        await asyncio.sleep(clock.EVERY)


@pytest.fixture
def queue(store: Store) -> Queue:
    return Queue(store, "laravel", lease=LEASE, max_bytes=10**6, max_events=100)


async def leased(queue: Queue) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll([], 10)).leased


@pytest.mark.parametrize("step", [BACK, FORWARD])
async def test_what_a_dead_relay_had_leased_goes_to_another_when_the_lease_ends(
    queue: Queue, stepping: SteppingClock, step: float
) -> None:
    await accept(queue, event())
    assert len(await leased(queue)) == 1
    stepping.step(step)
    began = time.monotonic()

    async def comes_again() -> bool:
        return len(await leased(queue)) == 1

    await until(comes_again, timeout=LEASE + GRACE)
    assert step > 0 or time.monotonic() - began > LEASE - 0.5, "a step back ends no lease"


async def test_a_retry_is_due_when_its_time_has_passed(queue: Queue, stepping: SteppingClock) -> None:
    await accept(queue, event())
    (delivery,) = await leased(queue)
    await queue.poll([Settlement(delivery, "retry", 500, "500 1 answered 500")], 0)
    stepping.step(BACK)

    async def is_due() -> bool:
        return len(await leased(queue)) == 1

    await until(is_due, timeout=0.5 + GRACE)


async def test_the_age_of_what_waits_is_told_by_the_time_that_it_waited(
    queue: Queue, store: Store, stepping: SteppingClock
) -> None:
    await accept(queue, event())
    stepping.step(BACK)
    await asyncio.sleep(1.5)
    assert 1.0 < (await queue.counts()).oldest_due < 1.5 + GRACE
    assert 1.0 < max(await clock.times(store, [any_key(p) for p in range(PARTITIONS)])) - time.time() + 1.5 < 2 + GRACE


async def test_what_waits_is_listed_with_the_time_that_is_left(
    queue: Queue, store: Store, stepping: SteppingClock
) -> None:
    await accept(queue, event(delay=60.0))
    stepping.step(BACK)
    waiting = Waiting(store, "laravel")
    ((one,),) = [await waiting.read(page) async for page in waiting.places(None, None, 10)]
    assert one.due_in == pytest.approx(60, abs=GRACE)


async def test_an_open_circuit_lets_a_probe_through_when_its_time_is_over(
    store: Store, stepping: SteppingClock
) -> None:
    policy = CircuitPolicy(window=30, minimum=1, ratio=0.5, open=0.5, cap=0.5, probes=1)
    circuit = Circuit(store, "laravel", policy, None, probe_lease=1.0)
    generation = (await circuit.admit(1)).generation
    await circuit.admit(0, [(generation, Report(failures=10, why="answered 500"))])
    stepping.step(BACK)
    assert (await circuit.view()).retry_after <= 0.6

    async def a_probe() -> bool:
        return (await circuit.admit(1)).permits == 1

    await until(a_probe, timeout=0.5 + GRACE)


@pytest.mark.parametrize("status", [422, 500])
async def test_who_got_through_before_an_outage_does_not_count_after_it_when_the_clock_is_set_forward(
    store: Store, stepping: SteppingClock, status: int
) -> None:
    async with receiver() as laravel:
        relay = Relay(store, laravel.url, retry=Retry(attempts=2, base=0.4, cap=0.4))
        async with running(relay):
            await relay.accept(b"before")
            await until(lambda: relay.settled(1), what="the first to be delivered")
            laravel.answer = lambda _: (status, b"not now")
            await relay.accept(b"meanwhile")

            async def has_failed() -> bool:
                return len(laravel.got) == 2 and (await relay.queue.counts()).leased == 0

            await until(has_failed, what="its first failure to be settled")
            stepping.step(FORWARD)
            await until(lambda: len(laravel.got) >= 5, what="attempts after the step")
            assert (await relay.queue.counts()).dead == 0, "nobody got through since it failed first"
            laravel.answer = lambda got: (status, b"no") if got.body == b"meanwhile" else OK
            for number in range(20):
                await relay.accept(b"after", f"s{number}")
            await until(lambda: relay.settled(22), what="all to have their end")
            assert (await relay.queue.counts()).dead == 1


async def test_a_session_of_a_lost_worker_is_adopted_when_the_lease_ends(store: Store, stepping: SteppingClock) -> None:
    registry = Registry(store, LEASE)
    await registry.register(Worker("lost", "1", "http://lost:3000", 10))
    await registry.want({"s": {}})
    await registry.place_orphans()
    before = (await registry.beat("lost", "1", {}, {}))["s"]
    stepping.step(BACK)
    await registry.register(Worker("other", "1", "http://other:3000", 10))

    async def is_adopted() -> bool:
        await registry.lapse()
        await registry.place_orphans()
        return "s" in await registry.beat("other", "1", {}, {})

    began = time.monotonic()
    await until(is_adopted, timeout=LEASE + GRACE)
    assert time.monotonic() - began > LEASE - 0.5
    owner = await registry.owner_of("s")
    assert isinstance(owner, Owner)
    assert (owner.worker, owner.fence > before) == ("other", True)


async def test_a_step_forward_leaves_a_session_where_it_is_until_what_was_left_of_the_lease_is_over(
    store: Store, stepping: SteppingClock
) -> None:
    registry = Registry(store, LEASE)
    await registry.register(Worker("one", "1", "http://one:3000", 10))
    await registry.want({"s": {}})
    await registry.place_orphans()
    before = (await registry.beat("one", "1", {}, {}))["s"]
    stepping.step(FORWARD)
    began = time.monotonic()
    await registry.register(Worker("two", "1", "http://two:3000", 10))
    await registry.lapse()
    await registry.place_orphans()
    assert "s" not in await registry.beat("two", "1", {}, {}), "its worker may still run it"
    owner = await registry.owner_of("s")
    assert isinstance(owner, Owner)
    assert (owner.worker, owner.fence) == ("one", before)
    assert 0 < owner.lease_left <= LEASE + clock.EVERY, "what passed since the last look counts as leapt too"

    async def is_adopted() -> bool:
        await registry.lapse()
        await registry.place_orphans()
        return (await registry.beat("two", "1", {}, {})).get("s", 0) > before

    await until(is_adopted, timeout=LEASE + GRACE)
    assert time.monotonic() - began > LEASE - 0.5


async def test_a_worker_that_beats_on_keeps_its_sessions_through_steps_of_the_clock(
    store: Store, stepping: SteppingClock
) -> None:
    registry = Registry(store, LEASE)
    await registry.register(Worker("one", "1", "http://one:3000", 10))
    await registry.want({"s": {}})
    await registry.place_orphans()
    before = await registry.beat("one", "1", {}, {})
    for step in (FORWARD, BACK, FORWARD, FORWARD):
        stepping.step(step)
        assert await registry.beat("one", "1", {}, {}) == before
        await registry.lapse()
        assert await registry.place_orphans() == 0


async def take(limiter: Limiter, session: str, burst: int, seconds: float) -> Decision:
    limit = a_limit("send", rate=Rate(1, seconds), burst=burst, per=("session",))
    limiter.forget()  # what this process remembers goes by its own clock
    subject = Subject(a_client(), "send", session, relayed=False)
    return await limiter.take(Limits([limit], {}).buckets(subject))


async def test_who_is_refused_passes_after_the_wait_that_was_told(store: Store, stepping: SteppingClock) -> None:
    limiter = Limiter(store)
    assert (await take(limiter, "s", 1, 1.0)).verdict == "pass"
    refused = await take(limiter, "s", 1, 1.0)
    assert refused.verdict == "reject"
    stepping.step(BACK)
    await asyncio.sleep(refused.retry_after + 0.3)
    assert (await take(limiter, "s", 1, 1.0)).verdict == "pass"


async def test_a_clock_that_steps_to_and_fro_refills_no_bucket(store: Store, stepping: SteppingClock) -> None:
    limiter = Limiter(store)
    passed = 0
    for i in range(20):
        passed += (await take(limiter, "s", 3, 100.0)).verdict == "pass"
        await asyncio.sleep(0.11)
        stepping.step(BACK if i % 2 == 0 else FORWARD)
    assert passed == 3


async def test_a_jump_is_logged_counted_once_and_told(store: Store, stepping: SteppingClock, heard: Heard) -> None:
    other = clock.Watch(store, list)
    await other.run_once()
    await asyncio.sleep(clock.EVERY)
    stepping.step(BACK)

    async def jumped() -> bool:
        return await clock.last_jump(store) is not None

    await until(jumped, timeout=clock.EVERY + GRACE)
    await other.run_once()
    found = await clock.last_jump(store)
    assert found is not None
    assert found.seconds == pytest.approx(BACK, abs=1)
    assert found.offset == pytest.approx(-BACK, abs=2)
    assert found.ago < GRACE
