"""With `promise: replica` a send is given to a worker only once a replica knows of it: two real servers."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.outbox.results import Handed, Results
from gateway.workers.target import Target
from relay.queue.errors import NotReplicated
from relay.queue.replicated import Replicated
from sluice.store.client import Store
from tests.store_pair import Pair, store_pair

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
W1 = Target("w1", "http://127.0.0.1:1", fence=7)


@pytest.fixture
async def pair(free_port: Callable[[], int]) -> AsyncIterator[Pair]:
    async with store_pair(free_port) as made:
        yield made


@pytest.fixture
async def primary(pair: Pair) -> AsyncIterator[Store]:
    store = Store(pair.primary_url, timeout=5.0)
    yield store
    await store.close()


async def test_who_takes_over_knows_that_a_send_was_given_to_a_worker(pair: Pair, primary: Store) -> None:
    noting = Replicated(primary, replicas=1, within=5.0)
    assert await Results(primary, "g1", noting).hand_over("evt_1", "s1", W1, "attempt-1") is None
    pair.primary.kill()
    promoted = Store(pair.replica_url, timeout=5.0)
    try:
        await promoted.commands(("REPLICAOF", "NO", "ONE"))
        again = await Results(promoted, "g2").hand_over("evt_1", "s1", W1, "attempt-2")
    finally:
        await promoted.close()
    assert isinstance(again, Handed)
    assert (again.gateway, again.worker) == ("g1", "w1")


async def test_without_a_replica_in_time_no_worker_is_asked_and_the_send_waits(pair: Pair, primary: Store) -> None:
    results = Results(primary, "g1", Replicated(primary, replicas=1, within=0.05))
    os.kill(pair.replica.pid, signal.SIGSTOP)
    try:
        with pytest.raises(NotReplicated, match="0 of 1 replicas had it in time"):
            await results.hand_over("evt_1", "s1", W1, "attempt-1")
        await results.put_off("evt_1", "s1", "attempt-1")
    finally:
        os.kill(pair.replica.pid, signal.SIGCONT)
    calm = Results(primary, "g1", Replicated(primary, replicas=1, within=5.0))
    assert await calm.hand_over("evt_1", "s1", W1, "attempt-2") is None
