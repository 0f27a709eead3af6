"""Sessions that go from one worker of ours to another, workers that drain, and what was decided of their number."""

from __future__ import annotations

import asyncio

import pytest

from sessions.rebalancing import Held, Shift
from sessions.registry import Owner, Registry, Unowned
from sessions.scaling import Demand, Wanted
from sessions.shifting import PERSON, Decision
from sluice.store.client import Store
from tests.sessions.making import beat, keep, owner, place, register, run, want
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


async def shift_of(registry: Registry, session: str, to: str, *, idle: float = 0.0) -> Shift:
    found = await owner(registry, session)
    return Shift(session, "connected", found.fence, found.worker, to, idle)


async def held(registry: Registry, worker: str, session: str) -> Held:
    return next(one for one in await registry.held_by(worker) if one.session == session)


async def idle(registry: Registry, session: str, seconds: float) -> bool:
    await registry.note_activity([], [])
    return (await held(registry, "a", session)).idle >= seconds


async def test_a_session_goes_when_its_worker_has_stopped_it(registry: Registry) -> None:
    await register(registry, "a")
    fences = await run(registry, "a", "s")
    await register(registry, "b")
    assert await registry.shift(await shift_of(registry, "s", "b"), "rebalancing") == "moved"
    assert (await owner(registry, "s")).worker == "a", "it is answered there until it has stopped"
    assert (await held(registry, "a", "s")).leaving
    assert await beat(registry, "a", fences) == {}
    await beat(registry, "a")
    found = await owner(registry, "s")
    assert (found.worker, found.fence > fences["s"]) == ("b", True)


async def test_what_is_not_as_it_was_looked_at_stays(registry: Registry) -> None:
    await register(registry, "a")
    fences = await run(registry, "a", "s")
    await register(registry, "b")
    sound = await shift_of(registry, "s", "b")
    other_fence = Shift("s", "connected", sound.fence - 1, "a", "b", 0.0)
    other_state = Shift("s", "disconnected", sound.fence, "a", "b", 0.0)
    unknown = Shift("x", "connected", sound.fence, "a", "b", 0.0)
    for shift in (other_fence, other_state, unknown):
        assert await registry.shift(shift, "rebalancing") == "changed"
    await registry.move("s", "b", PERSON)
    assert await registry.shift(sound, "rebalancing") == "changed", "a person was faster"
    assert fences


async def test_what_became_busy_after_the_look_stays(registry: Registry) -> None:
    await register(registry, "a")
    await run(registry, "a", "s", "t")
    await register(registry, "b")
    await registry.note_activity([], [])
    await until(lambda: idle(registry, "s", 0.3))
    await registry.note_activity(["s"], [])
    assert await registry.shift(await shift_of(registry, "s", "b", idle=0.3), "rebalancing") == "changed"
    assert await registry.shift(await shift_of(registry, "t", "b", idle=0.3), "rebalancing") == "moved"


async def test_as_long_as_nobody_tells_what_is_busy_everything_may_be(registry: Registry) -> None:
    await register(registry, "a")
    await run(registry, "a", "s")
    await register(registry, "b")
    assert (await held(registry, "a", "s")).idle == 0.0
    assert await registry.shift(await shift_of(registry, "s", "b", idle=0.1), "rebalancing") == "changed"
    await registry.note_activity([], [])
    await until(lambda: idle(registry, "s", 0.1))
    await registry.note_activity([], [], complete=False)
    assert (await held(registry, "a", "s")).idle < 0.1, "there were more than could be named"


async def test_strange_names_are_not_kept(registry: Registry, store: Store) -> None:
    await registry.note_activity(["nobody knows this"], [f"refused-{i}" for i in range(1500)])
    active, unplaced = await store.commands(("ZCARD", "sl:{sessions}:active"), ("ZCARD", "sl:{sessions}:unplaced"))
    assert (active, unplaced) == (0, 1000)


async def test_only_what_a_person_has_placed_lately_is_marked_so(registry: Registry) -> None:
    await register(registry, "a")
    await run(registry, "a", "s", "t")
    await register(registry, "b")
    await registry.move("s", "b", PERSON)
    assert [(one.session, one.by_person) for one in await registry.held_by("a")] == [("s", True), ("t", False)]


async def test_the_pace_of_moves_is_kept_whoever_makes_them(registry: Registry, store: Store) -> None:
    await register(registry, "a")
    await run(registry, "a", "s", "t", "u")
    await register(registry, "b")
    another = Registry(store, 60.0)
    first, second = [await shift_of(registry, session, "b") for session in ("s", "t")]
    found = await asyncio.gather(registry.shift(first, "x", 60.0), another.shift(second, "x", 60.0))
    assert sorted(found) == ["moved", "too soon"]
    assert await registry.shift(await shift_of(registry, "u", "b"), "drain") == "moved", "a drain has no pace"


async def test_a_worker_that_is_full_or_drains_gets_none(registry: Registry) -> None:
    await register(registry, "a")
    await run(registry, "a", "s")
    await register(registry, "b", capacity=0)
    assert await registry.shift(await shift_of(registry, "s", "b"), "x") == "full"
    assert await registry.shift(await shift_of(registry, "s", "nobody"), "x") == "full"
    await register(registry, "c")
    await registry.drain("c")
    assert await registry.shift(await shift_of(registry, "s", "c"), "x") == "full"


async def test_a_worker_that_is_to_drain_gets_no_more_and_keeps_what_it_has(registry: Registry) -> None:
    await register(registry, "a")
    await run(registry, "a", "s")
    assert await registry.drain("a")
    await want(registry, "t")
    await keep(registry)
    assert isinstance(await registry.owner_of("t"), Unowned)
    assert (await owner(registry, "s")).worker == "a"
    (seen,) = await registry.workers()
    assert seen.drains is not None
    assert not seen.draining, "it does not know of it"
    assert await registry.take_back("a")
    await keep(registry)
    assert (await owner(registry, "t")).worker == "a"
    assert not await registry.drain("nobody")


async def test_a_worker_that_is_started_again_within_its_lease_is_to_drain_still(registry: Registry) -> None:
    await register(registry, "a")
    await registry.drain("a")
    await register(registry, "a")
    (seen,) = await registry.workers()
    assert seen.drains is not None
    found = await registry.workers()
    await registry.deregister("a", "1")
    await register(registry, "a")
    (seen,) = await registry.workers()
    assert seen.drains is None, "it had left"
    assert found


async def test_a_decision_is_written_once_and_read_by_all(registry: Registry) -> None:
    seen = await registry.scaling()
    assert (seen.at, seen.decision) == (0, None)
    one = Decision(Wanted(3, None, 12.5), Demand(20, 2, 1, 10.0, 2, False))
    other = Decision(Wanted(4, 99.25, 13.5), Demand(30, 2, 1, 10.0, 2, True))
    assert await registry.decide(seen, one)
    assert not await registry.decide(seen, other), "somebody else was faster"
    seen = await registry.scaling()
    assert seen.decision == one
    assert await registry.decide(seen, other)
    assert (await registry.scaling()).decision == other


async def test_a_create_that_found_no_room_counts_until_it_has_a_place(registry: Registry) -> None:
    await registry.note_activity([], ["s", "t"])
    assert (await registry.scaling()).unplaced == 2
    await register(registry, "a")
    assert isinstance(await place(registry, "s"), Owner)
    assert (await registry.scaling()).unplaced == 1
    await registry.forget("s")
    assert (await registry.scaling()).unplaced == 1, "it had found room"


async def test_it_is_known_for_a_while_that_somebody_starts_workers(registry: Registry) -> None:
    assert not (await registry.scaling()).grows
    await registry.will_grow("up", 60.0, 3, 60.0)
    assert (await registry.scaling()).grows
    assert (await registry.scaling()).most == 3
    await registry.will_grow("up", 0.0, 3, 0.0)
    assert (await registry.scaling()).most is None
    assert not (await registry.scaling()).grows
