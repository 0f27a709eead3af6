"""A store that stops answering now and then: no stall grants anything anew, and what passed meanwhile is charged."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from redis import Redis

from gateway.limits.applicable import DELAY, Bucket
from gateway.limits.charges import Charges
from gateway.limits.limiter import Limiter
from gateway.limits.local import LocalBuckets
from gateway.limits.take import levels_of
from sluice.config import Rate
from sluice.store.client import Store, StoreAway
from tests.gateway.limits.test_limiter import bucket, verdicts
from tests.gateway.making import HOURLY, a_limit
from tests.gateway.store_link import Link, link_to
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis(store_url: str) -> Iterator[Redis]:
    with Redis.from_url(store_url) as client:
        yield client


@pytest.fixture
async def link(store_url: str) -> AsyncIterator[Link]:
    async with link_to(store_url) as link:
        yield link


@pytest.fixture
async def quick(link: Link) -> AsyncIterator[Limiter]:
    store = Store(link.url, timeout=0.25)
    yield Limiter(store)
    await store.close()


async def passing(limiter: Limiter, one: Bucket, until_when: float) -> int:
    passed = 0
    while time.monotonic() < until_when:
        passed += (await limiter.take([one])).verdict == "pass"
        await asyncio.sleep(0.005)
    return passed


@pytest.mark.slow
@pytest.mark.parametrize("gateways", [1, 3])
async def test_a_store_that_stalls_again_and_again_grants_no_new_burst(
    store_url: str, redis: Redis, gateways: int
) -> None:
    rate, burst, stalls = Rate(4, 1.0), 15, 5
    one = bucket(a_limit("stalled", rate=rate, burst=burst))
    async with AsyncExitStack() as stores:
        limiters = []
        for _ in range(gateways):
            store = Store(store_url, timeout=0.1)
            stores.push_async_callback(store.close)
            limiters.append(Limiter(store))
            limiters[-1].gateways = gateways
        begun = time.monotonic()
        asking = [asyncio.create_task(passing(limiter, one, begun + 4.0)) for limiter in limiters]
        for _ in range(stalls):
            await asyncio.sleep(0.35)
            await asyncio.to_thread(redis.client_pause, 400)
        passed = sum(await asyncio.gather(*asking))
        took = time.monotonic() - begun
    assert passed <= burst + took * 4 + gateways, "each gateway may round up by one request"
    # Of each gateway one request at a time is under way when the store stalls: it passes here, and takes there later.
    assert passed >= burst + 4.0 * 4 - gateways * stalls - 4


async def test_what_passed_without_the_store_is_charged_when_it_is_back(
    link: Link, quick: Limiter, store: Store
) -> None:
    one = bucket(a_limit("send", rate=HOURLY, burst=10))
    queued = bucket(a_limit("queued", rate=HOURLY, burst=2, over="queue"), mode=DELAY)
    assert await verdicts(quick, 2, one, queued) == ["pass"] * 2
    link.block()
    assert await verdicts(quick, 3, one, queued) == ["pass"] * 3
    link.mend()

    async def charged() -> bool:
        await quick.settle()
        level, debt = await levels_of(store, [one, queued])
        return level < 6 and debt < -2

    await until(charged, timeout=3, what="what passed to be charged, without a request")
    # The first of the three was asked of the store as well: it may have been taken when the store went on.
    level, debt = await levels_of(store, [one, queued])
    assert 4 - 0.1 <= level <= 5 + 0.1
    assert -4 - 0.1 <= debt <= -3 + 0.1
    await quick.settle()
    assert await levels_of(store, [one, queued]) == pytest.approx([level, debt], abs=0.01), "once"


async def test_a_request_that_finds_the_store_back_is_decided_after_the_charge(
    link: Link, quick: Limiter, store: Store
) -> None:
    one = bucket(a_limit("send", rate=HOURLY, burst=5))
    assert await verdicts(quick, 1, one) == ["pass"]
    link.block()
    assert await verdicts(quick, 6, one) == ["pass"] * 4 + ["reject"] * 2
    link.mend()
    await asyncio.sleep(0.3)
    for _ in range(3):
        assert await verdicts(quick, 1, one) == ["reject"]
        await asyncio.sleep(0.2)
    (level,) = await levels_of(store, [one])
    assert level <= 0.1


async def test_a_store_that_is_asked_whether_it_is_back_is_asked_for_no_tokens(
    link: Link, quick: Limiter, store: Store
) -> None:
    """What a stopped store was asked for it gives when it goes on, and nobody has it."""
    one = bucket(a_limit("send", rate=HOURLY, burst=100, when_store_away="allow"))
    await verdicts(quick, 1, one)
    link.block()
    for _ in range(5):
        await verdicts(quick, 5, one)
        await asyncio.sleep(0.3)
    link.mend()

    async def back() -> bool:
        return bool((await quick.take([one])).levels)

    await until(back, timeout=3, what="the store to decide again")
    (level,) = await levels_of(store, [one])
    assert level >= 100 - 1 - 1 - 1 - 0.1, "the first, the one under way when it stopped, and the last"


async def test_a_wait_told_without_the_store_is_kept(link: Link, quick: Limiter) -> None:
    one = bucket(a_limit("send", rate=Rate(10, 1.0), burst=3))
    await verdicts(quick, 3, one)
    link.block()
    for _ in range(3):
        refused = await quick.take([one])
        while refused.verdict == "pass":
            refused = await quick.take([one])
        await asyncio.sleep(refused.retry_after)
        assert (await quick.take([one])).verdict == "pass"


async def test_a_batch_whose_answer_was_lost_is_charged_once(store_url: str, store: Store, redis: Redis) -> None:
    one, local, impatient = (
        bucket(a_limit("send", rate=HOURLY, burst=9)),
        LocalBuckets(),
        Store(store_url, timeout=0.1),
    )
    local.take([one], time.monotonic())
    charges = Charges(impatient, local)
    redis.client_pause(300)
    for _ in range(2):
        with pytest.raises(StoreAway):
            await charges.send()
    assert charges.waiting

    async def charged() -> bool:
        with contextlib.suppress(StoreAway):
            await charges.send()
        return not charges.waiting

    await until(charged, timeout=3, what="the store to go on")
    assert await levels_of(store, [one]) == pytest.approx([8.0], abs=0.01)
    local.take([one], time.monotonic())
    await charges.send()
    assert await levels_of(store, [one]) == pytest.approx([7.0], abs=0.01), "the next batch is another one"
    await impatient.close()


async def test_a_charge_that_the_store_refuses_keeps_no_other_one_waiting(store: Store, heard: Heard) -> None:
    one, other, local = bucket(a_limit("send", burst=9)), bucket(a_limit("other", burst=9)), LocalBuckets()
    charges = Charges(store, local)
    await store.commands(("LPUSH", one.key, "is no bucket"))
    local.take([one], time.monotonic())
    await charges.send()
    local.take([other], time.monotonic())
    await charges.send()
    ((message, fields),) = heard.lines
    assert message == "limiter.charge_refused"
    assert "WRONGTYPE" in fields["reason"]
    assert await levels_of(store, [other]) == pytest.approx([8.0], abs=0.01)
