"""Balancing, draining and how many workers are wanted, on a real store with several processes that would do it."""

from __future__ import annotations

import asyncio

import pytest

from sessions.lifecycle.election import SCALER, Election
from sessions.lifecycle.policies import Rebalance
from sessions.lifecycle.scaler import BALANCE, DRAIN, Scaler, to_move
from sessions.registry import Registry, WorkerRow
from sluice.config import Rate
from sluice.store.client import Store
from tests.sessions.making import beat, named, owner, register, run
from tests.waiting import until

pytestmark = pytest.mark.anyio

QUIET = 0.2
FAST = Rebalance(Rate(1000, 1.0), QUIET)
SLOW = Rebalance(Rate(1, 3600.0), QUIET)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


def scaler(registry: Registry, store: Store, name: str = "one") -> Scaler:
    return Scaler(registry, Election(store, name, SCALER))


async def quiet(registry: Registry, worker: str) -> None:
    """Until all sessions there are."""

    async def all_are() -> bool:
        await registry.note_activity([], [])
        return all(one.idle >= QUIET for one in await registry.held_by(worker))

    await until(all_are)


async def counts(registry: Registry) -> dict[str, int]:
    return {one.worker: one.sessions for one in await registry.workers()}


async def seen(registry: Registry, worker: str) -> WorkerRow:
    return next(one for one in await registry.workers() if one.worker == worker)


class Workers:
    """Workers that stop what their beats do not name, as a membership does."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.running: dict[str, dict[str, int]] = {}

    async def beat(self) -> None:
        for _ in range(2):
            for row in await self._registry.workers():
                held = self.running.get(row.worker, {})
                self.running[row.worker] = dict(await beat(self._registry, row.worker, held))


async def test_a_worker_that_joins_gets_quiet_sessions_until_they_are_balanced(
    registry: Registry, store: Store
) -> None:
    await register(registry, "a", capacity=50)
    workers, one = Workers(registry), scaler(registry, store)
    await run(registry, "a", *named(10))
    await workers.beat()
    await one.run_once(FAST, 50)
    assert await counts(registry) == {"a": 10}, "there is nobody else"
    await register(registry, "b", capacity=50)
    for _ in range(12):
        await workers.beat()
        await quiet(registry, "a")
        await one.run_once(FAST, 50)
    await workers.beat()
    assert await counts(registry) == {"a": 6, "b": 4}
    histories = [(await registry.session(session)) for session in workers.running["b"]]
    assert all(row is not None and any(line.who == BALANCE for line in row.history) for row in histories)


async def test_busy_sessions_stay_however_full_their_worker_is(registry: Registry, store: Store) -> None:
    await register(registry, "a")
    await run(registry, "a", *named(6))
    await register(registry, "b")
    await quiet(registry, "a")
    await registry.note_activity([name for name in named(6) if name != "s003"], [])
    await scaler(registry, store).run_once(FAST, 10)
    assert [one.session for one in await registry.held_by("a") if one.leaving] == ["s003"]


async def test_without_the_policy_nothing_moves(registry: Registry, store: Store) -> None:
    await register(registry, "a")
    await run(registry, "a", *named(6))
    await register(registry, "b")
    await quiet(registry, "a")
    await scaler(registry, store).run_once(None, 10)
    assert not any(one.leaving for one in await registry.held_by("a"))


async def test_the_pace_holds_over_several_processes_and_a_change_of_the_leader(
    registry: Registry, store: Store
) -> None:
    await register(registry, "a", capacity=50)
    await run(registry, "a", *named(20))
    await register(registry, "b", capacity=50)
    await quiet(registry, "a")
    scalers = [scaler(registry, store, f"gateway-{i}") for i in range(3)]
    for one in scalers:
        await one.run_once(SLOW, 50)
    await store.commands(("DEL", "sl:{sessions}:scaler"))  # as if its lease had ended
    await asyncio.gather(*(one.run_once(SLOW, 50) for one in reversed(scalers)))
    assert sum(one.leaving for one in await registry.held_by("a")) == 1


async def test_a_worker_that_is_to_drain_becomes_empty_a_few_sessions_at_a_time(
    registry: Registry, store: Store
) -> None:
    await register(registry, "a")
    workers, one = Workers(registry), scaler(registry, store)
    await run(registry, "a", *named(5))
    await workers.beat()
    await register(registry, "b")
    await registry.drain("a")
    for left in (3, 1, 0):
        await quiet(registry, "a")
        await one.run_once(Rebalance(quiet=QUIET), 10)
        await workers.beat()
        assert (await seen(registry, "a")).sessions == left
    row = await registry.session("s000")
    assert row is not None
    assert row.worker == "b"
    assert any(line.who == DRAIN for line in row.history)


async def test_one_that_is_taken_back_keeps_the_rest(registry: Registry, store: Store) -> None:
    await register(registry, "a")
    workers, one = Workers(registry), scaler(registry, store)
    await run(registry, "a", *named(5))
    await workers.beat()
    await register(registry, "b")
    await registry.drain("a")
    await quiet(registry, "a")
    await one.run_once(Rebalance(quiet=QUIET), 10)
    await registry.take_back("a")
    for _ in range(3):
        await workers.beat()
        await quiet(registry, "a")
        await one.run_once(None, 10)
    assert (await seen(registry, "a")).sessions == 3


async def test_what_is_wanted_is_decided_once_for_all_processes(registry: Registry, store: Store) -> None:
    await register(registry, "a", capacity=10)
    await run(registry, "a", *named(9))
    await scaler(registry, store, "one").run_once(None, 25)
    await scaler(registry, store, "other").run_once(None, 25)
    known = (await registry.scaling()).decision
    assert known is not None
    assert (known.wanted.workers, known.demand.sessions, known.demand.per_worker) == (2, 9, 10.0)


async def test_creates_that_found_no_room_make_more_workers_wanted(registry: Registry, store: Store) -> None:
    await registry.note_activity([], named(30))
    await scaler(registry, store).run_once(None, 25)
    known = (await registry.scaling()).decision
    assert known is not None
    assert (known.wanted.workers, known.demand.unplaced) == (2, 30)


async def test_nothing_is_decided_where_there_are_no_workers_of_ours_and_none_is_wanted(
    registry: Registry, store: Store
) -> None:
    await scaler(registry, store).run_once(None, 25)
    assert (await registry.scaling()).decision is None


async def test_by_hand_as_many_go_as_balance_them(registry: Registry) -> None:
    await register(registry, "a", capacity=50)
    await run(registry, "a", *named(12))
    await register(registry, "b", capacity=50)
    await quiet(registry, "a")
    plan = [shift async for shift in to_move(registry, await registry.workers(), QUIET, 100)]
    assert len({shift.session for shift in plan}) == len(plan) == 5
    assert {await registry.shift(shift, "a person") for shift in plan} == {"moved"}
    assert (await owner(registry, "s000")).worker == "a", "until it has stopped there"
