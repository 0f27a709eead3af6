"""Leases end at the moment they end, and orphans get a worker at once, whoever of the gateways looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from sessions.changes import Changes
from sessions.keeper import Keeper
from sessions.placement import AT_ONCE
from sessions.registry import Owner, Registry, Unowned, Worker
from sluice.observe import metrics
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.sessions.making import beat, named, register, want
from tests.waiting import until

pytestmark = pytest.mark.anyio

LEASE = 1.0
GRACE = 1.5  # so long the machine may stall under the other tests


@asynccontextmanager
async def keeping(registry: Registry, store: Store) -> AsyncIterator[None]:
    stop, changes = Stop(), Changes(store)
    loops = [asyncio.create_task(one.run(stop)) for one in (changes, Keeper(registry, changes))]
    yield
    stop.request()
    await asyncio.gather(*loops)


def owned_by(registry: Registry, session: str, worker: str) -> Callable[[], object]:
    async def owned() -> bool:
        found = await registry.owner_of(session)
        return isinstance(found, Owner) and found.worker == worker

    return owned


async def test_the_sessions_of_a_lost_worker_have_another_right_after_its_lease(store: Store) -> None:
    registry, long = Registry(store, LEASE), Registry(store, 60.0)
    await register(registry, "a")
    async with keeping(registry, store):
        await want(registry, *named(5))
        for session in named(5):
            await until(owned_by(registry, session, "a"))
        await register(long, "b")
        last = time.monotonic()
        held = await beat(registry, "a")
        for session in named(5):
            await until(owned_by(registry, session, "b"))
        took = time.monotonic() - last
    assert LEASE - 0.05 <= took <= LEASE + GRACE
    after = await beat(long, "b")
    assert all(after[session] > fence for session, fence in held.items())


async def test_for_how_long_nobody_had_a_session_is_counted_but_not_for_those_that_nobody_ever_had(
    store: Store,
) -> None:
    registry, long = Registry(store, LEASE), Registry(store, 60.0)
    began, had_waited = _failovers()
    await register(registry, "a")
    async with keeping(registry, store):
        await want(registry, *named(3))
        await until(owned_by(registry, named(3)[-1], "a"))
        assert _failovers() == (began, had_waited)
        await until(lambda: _is_lost(registry), timeout=30)
        await register(long, "b")
        for session in named(3):
            await until(owned_by(registry, session, "b"), timeout=30)
    ended, waited = _failovers()
    assert ended - began == 3
    assert 0 < waited - had_waited < 60


async def _is_lost(registry: Registry) -> bool:
    return isinstance(await registry.owner_of(named(1)[0]), Unowned)


def _failovers() -> tuple[float, float]:
    """How many, and their seconds."""
    metrics.flush()
    parts = [f"sluice_session_failover_seconds_{part}" for part in ("count", "sum")]
    many, seconds = (REGISTRY.get_sample_value(part) or 0.0 for part in parts)
    return many, seconds


async def test_an_orphan_is_granted_at_once_and_not_with_the_next_look(store: Store) -> None:
    """The best of some: how fast this machine is now, is not what is tested."""
    registry = Registry(store, 600.0)
    await register(registry, "a", capacity=100)
    best = 10.0
    async with keeping(registry, store):
        for session in named(8):
            began = time.monotonic()
            await want(registry, session)
            await until(owned_by(registry, session, "a"))
            best = min(best, time.monotonic() - began)
    assert best < 0.2


async def test_orphans_that_nobody_can_take_are_granted_when_somebody_has_room(store: Store) -> None:
    registry = Registry(store, 600.0)
    async with keeping(registry, store):
        await want(registry, "s")
        await asyncio.sleep(0.1)
        await register(registry, "a")
        await until(owned_by(registry, "s", "a"))


async def test_starts_after_a_mass_failure_are_spread_over_rounds(store: Store) -> None:
    registry = Registry(store, 600.0)
    await register(registry, "a", "b", capacity=100)
    await want(registry, *named(60))
    keeper = Keeper(registry, Changes(store))
    for round_ in range(1, 4):
        assert await keeper.run_once() < 1.0, "the next round comes soon"
        assert [row.sessions for row in await registry.workers()] == [AT_ONCE * round_] * 2


async def test_several_keepers_do_not_disturb_each_other(store: Store) -> None:
    registry = Registry(store, 600.0)
    await register(registry, "a", "b", "c", capacity=30)
    async with AsyncExitStack() as keepers:
        for _ in range(3):
            await keepers.enter_async_context(keeping(registry, store))
        await want(registry, *named(80))

        async def all_granted() -> bool:
            return (await registry.summary()).unowned == 0

        await until(all_granted)
    rows = await registry.workers()
    assert sum(row.sessions for row in rows) == 80
    assert max(row.sessions for row in rows) <= 30


async def test_while_the_store_is_away_it_goes_on_trying(store: Store) -> None:
    away = Store("unix:///nonexistent/store.sock", timeout=0.2)
    async with keeping(Registry(away, LEASE), away):
        await until(lambda: away.trips >= 2)
    await away.close()


async def test_a_lapse_of_many_is_done_in_pieces(store: Store) -> None:
    registry = Registry(store, 600.0)
    await registry.register(Worker("a", "1", "http://a:1", 500))
    await want(registry, *named(230))
    while await registry.place_orphans():
        pass
    await store.commands(("ZADD", "sl:{sessions}:live", 1, "a"))
    assert (await registry.lapse(100)).moved == 100
    await Keeper(registry, Changes(store)).run_once()
    assert (await registry.summary()).unowned == 230
