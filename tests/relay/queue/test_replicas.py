"""What a 202 is worth when the store has a replica: two real servers, and the first one's death."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.ingest.hold import Hold
from relay.queue.errors import NotReplicated
from relay.queue.inbox import Inbox
from relay.queue.queue import Queue
from sluice.http.bodies import BodyBudget
from sluice.store.client import Store, StoreAway
from tests.relay.making import event
from tests.store_pair import Pair, store_pair
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def pair(free_port: Callable[[], int]) -> AsyncIterator[Pair]:
    async with store_pair(free_port) as made:
        yield made


@pytest.fixture
async def primary(pair: Pair) -> AsyncIterator[Store]:
    store = Store(pair.primary_url, timeout=2.0)
    yield store
    await store.close()


def queue_of(store: Store) -> Queue:
    return Queue(store, "laravel", lease=5.0, max_bytes=10**8, max_events=10**5)


async def test_it_says_how_many_replicas_have_it(primary: Store) -> None:
    inbox, queue = Inbox(primary, replicas=1, replicas_within=5.0), queue_of(primary)
    assert (await inbox.accept(event(), [queue.destination])).replicas == 1
    assert (await Inbox(primary).accept(event(), [queue.destination])).replicas == 0


async def test_without_a_replica_in_time_it_is_not_accepted_and_a_repeat_is_stored_once(
    pair: Pair, primary: Store
) -> None:
    inbox, queue = Inbox(primary, replicas=1, replicas_within=0.05), queue_of(primary)
    given = event()
    os.kill(pair.replica.pid, signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(NotReplicated, match="0 of 1 replicas had it in time"):
            await inbox.accept(given, [queue.destination])
        assert time.monotonic() - started < 4.5
    finally:
        os.kill(pair.replica.pid, signal.SIGCONT)

    async def accepted() -> bool:
        try:
            return (await inbox.accept(given, [queue.destination])).repeat
        except StoreAway:
            return False

    await until(accepted)
    assert (await queue.counts()).waiting == 1


async def test_a_short_pause_of_the_replica_is_waited_for(pair: Pair, primary: Store) -> None:
    hold = Hold(Inbox(primary, replicas=1, replicas_within=0.05), BodyBudget(10**6))
    os.kill(pair.replica.pid, signal.SIGSTOP)
    accepting = asyncio.create_task(hold.accept(event(), [queue_of(primary).destination]))
    await asyncio.sleep(0.5)
    os.kill(pair.replica.pid, signal.SIGCONT)
    assert (await accepting).replicas == 1


async def test_scripts_that_the_server_forgets_do_not_weaken_the_promise(pair: Pair, primary: Store) -> None:
    inbox, queue = Inbox(primary, replicas=1, replicas_within=0.05), queue_of(primary)
    os.kill(pair.replica.pid, signal.SIGSTOP)
    try:
        await primary.redis.script_flush()
        with pytest.raises(NotReplicated):
            await inbox.accept(event(), [queue.destination])
    finally:
        os.kill(pair.replica.pid, signal.SIGCONT)


async def test_nothing_accepted_is_lost_when_the_replica_takes_over_after_a_partition(
    pair: Pair, primary: Store
) -> None:
    """The replica is cut off under load; what is answered meanwhile must be on it when it is promoted."""
    inbox, queue = Inbox(primary, replicas=1, replicas_within=0.05), queue_of(primary)
    accepted: list[str] = []
    refused = 0
    stop = asyncio.Event()

    async def produce(session: str) -> None:
        nonlocal refused
        while not stop.is_set():
            given = event(session)
            try:
                await inbox.accept(given, [queue.destination])
            except StoreAway:
                refused += 1
                await asyncio.sleep(0.01)
            else:
                accepted.append(given.id)

    producers = [asyncio.create_task(produce(f"s{i}")) for i in range(16)]
    await until(lambda: len(accepted) > 300)
    os.kill(pair.replica.pid, signal.SIGSTOP)
    await until(lambda: refused > 0)
    pair.primary.kill()
    os.kill(pair.replica.pid, signal.SIGCONT)
    stop.set()
    await asyncio.gather(*producers)
    promoted = Store(pair.replica_url, timeout=2.0)

    async def promoted_now() -> bool:
        await promoted.commands(("REPLICAOF", "NO", "ONE"))
        return True

    await until(promoted_now)
    held: set[str] = set()
    for partition in range(4):
        (ids,) = await promoted.commands(("HKEYS", f"sl:{{{partition:02d}}}:events"))
        held |= {identity.decode() for identity in ids}
    await promoted.close()
    assert set(accepted) <= held
