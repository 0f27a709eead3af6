"""A create: a place is held while the worker decides, and nothing is placed before it has accepted."""

from __future__ import annotations

import asyncio

import pytest

from sessions import registry as module
from sessions.registry import (
    LastOwner,
    NoCapacity,
    Owner,
    OwnerAway,
    Registered,
    Registry,
    Report,
    Reserved,
    Unknown,
    Unowned,
)
from sluice.store.client import Store
from tests.sessions.making import beat, keep, listed, named, owner, register, reserved, run, want, worker
from tests.waiting import until

pytestmark = pytest.mark.anyio

SHORT = 1.0  # so long the machine may stall under the other tests
NODE = worker("node:3001", url="http://node:3001")
OTHER = worker("node:3002", url="http://node:3002")


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


@pytest.fixture
def hasty(store: Store) -> Registry:
    return Registry(store, SHORT)


async def test_a_place_becomes_ownership_when_the_worker_has_accepted(registry: Registry) -> None:
    await register(registry, "a")
    held = await reserved(registry, "s", {"workspace_id": 7})
    assert (held.worker, held.url, held.existing) == ("a", "http://a:3000", False)
    assert await registry.confirm("s", held.fence)
    assert (await owner(registry, "s")).fence == held.fence
    assert await registry.confirm("s", held.fence), "safe to say twice"
    assert not await registry.confirm("s", held.fence + 1)
    assert not await registry.cancel("s", held.fence), "too late"
    assert (await registry.sessions())[0].workspace == "7"
    assert isinstance(await registry.reserve("s", {}), Owner)


async def test_a_place_that_is_only_held_is_no_load_and_nobodys_session(registry: Registry) -> None:
    await register(registry, "a")
    await reserved(registry, "s")
    assert await registry.owner_of("s") == Unowned(None, "created", None, "a")
    assert await registry.sessions() == []
    seen = await registry.summary()
    assert (seen.total, seen.unowned, seen.states) == (0, 0, {})
    assert [(row.sessions, row.reserved) for row in seen.workers] == [(0, 1)]
    assert await beat(registry, "a") == {}, "it is not told to run it"


async def test_a_refused_create_is_as_if_nothing_had_been(registry: Registry) -> None:
    await register(registry, "a", capacity=1)
    held = await reserved(registry, "s")
    assert await registry.cancel("s", held.fence)
    assert await registry.owner_of("s") == Unknown()
    assert not await registry.confirm("s", held.fence)
    assert not await registry.cancel("s", held.fence)
    await keep(registry)
    assert await beat(registry, "a") == {}
    assert isinstance(await registry.reserve("t", {}), Reserved), "its place is free"


async def test_strangers_whose_creates_are_refused_do_not_fill_the_fleet(registry: Registry) -> None:
    await register(registry, "a", capacity=3)
    for i in range(50):
        held = await reserved(registry, f"stranger-{i}")
        await registry.cancel(f"stranger-{i}", held.fence)
    assert isinstance(await registry.reserve("s", {}), Reserved)


async def test_a_session_that_was_known_keeps_what_was_known_when_its_create_is_refused(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s"]))
    await registry.want({"t": {"workspace_id": "w"}})
    held = await reserved(registry, "t", {"workspace_id": "stranger"})
    await registry.cancel("t", held.fence)
    row = await registry.session("t")
    assert row is not None
    assert (row.workspace, row.worker) == ("w", None)
    await register(registry, "a")
    await keep(registry)
    assert (await owner(registry, "t")).worker == "a", "it is an orphan as before"


async def test_a_create_that_is_accepted_tells_what_is_known_of_the_session(registry: Registry) -> None:
    await registry.want({"s": {"workspace_id": "w"}})
    await register(registry, "a")
    first = await reserved(registry, "s", {})
    await registry.cancel("s", first.fence)
    assert (await registry.sessions())[0].workspace == "w"
    again = await reserved(registry, "s", {"workspace_id": "v"})
    await registry.confirm("s", again.fence)
    assert (await registry.sessions())[0].workspace == "v"


async def test_the_worker_that_accepted_confirms_when_the_gateway_was_killed_in_between(registry: Registry) -> None:
    await register(registry, "a")
    held = await reserved(registry, "s")
    assert await registry.beat("a", "1", {"s": Report(held.fence - 1, "starting")}, {}) == {}
    assert isinstance(await registry.owner_of("s"), Unowned)
    assert await registry.beat("a", "1", {"s": Report(held.fence, "starting")}, {}) == {"s": held.fence}
    assert (await owner(registry, "s")).fence == held.fence


async def test_the_list_of_an_existing_worker_confirms_too(registry: Registry) -> None:
    await registry.observe(NODE, {})
    held = await reserved(registry, "s", {"workspace_id": 7})
    await registry.observe(NODE, {})
    assert isinstance(await registry.owner_of("s"), Unowned)
    await registry.observe(NODE, listed(["s"]))
    assert (await owner(registry, "s")).fence == held.fence


async def test_a_place_that_nobody_confirms_is_free_after_its_time(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESERVED_FOR", 0.2)
    await register(registry, "a", capacity=1)
    held = await reserved(registry, "s")
    assert (await registry.lapse()).next_end_ms in range(201)

    async def free() -> bool:
        await registry.lapse()
        return await registry.owner_of("s") == Unknown()

    await until(free)
    assert not await registry.confirm("s", held.fence)
    assert (await registry.summary()).workers[0].reserved == 0


async def test_a_place_at_a_worker_that_died_is_held_at_another(hasty: Registry) -> None:
    await register(hasty, "a")
    first = await reserved(hasty, "s")

    async def elsewhere() -> bool:
        await register(hasty, "b")
        found = await hasty.reserve("s", {})
        return isinstance(found, Reserved) and found.worker == "b"

    await until(elsewhere)
    assert not await hasty.confirm("s", first.fence)


# --- several at once


async def test_two_creates_of_one_session_get_one_place(registry: Registry) -> None:
    await register(registry, "a", "b", "c")
    held = await asyncio.gather(*(registry.reserve("s", {}) for _ in range(20)))
    assert len({(one.worker, one.fence) for one in held if isinstance(one, Reserved)}) == 1
    assert sum(row.reserved for row in await registry.workers()) == 1


async def test_a_create_that_is_refused_leaves_the_place_to_another_of_the_same_session(registry: Registry) -> None:
    await register(registry, "a")
    first, second = await reserved(registry, "s"), await reserved(registry, "s")
    assert await registry.cancel("s", first.fence)
    assert await registry.confirm("s", second.fence)
    assert (await owner(registry, "s")).fence == second.fence


async def test_creates_at_once_are_spread_and_never_beyond_capacity(registry: Registry) -> None:
    await register(registry, "a", "b", capacity=5)
    found = await asyncio.gather(*(registry.reserve(session, {}) for session in named(30)))
    assert sum(isinstance(one, Reserved) for one in found) == 10
    assert [row.reserved for row in await registry.workers()] == [5, 5]
    assert {one for one in found if not isinstance(one, Reserved)} == {NoCapacity(2, 10)}


async def test_creates_at_once_do_not_all_go_to_the_worker_that_was_empty(registry: Registry) -> None:
    await register(registry, "a", "b", "c", capacity=100)
    for session in named(6):
        held = await reserved(registry, session)
        await registry.confirm(session, held.fence)
    await registry.deregister("a", "1")
    await keep(registry)
    await register(registry, "a", capacity=100)
    await asyncio.gather(*(registry.reserve(f"t{i}", {}) for i in range(30)))
    taken = [row.sessions + row.reserved for row in await registry.workers()]
    assert max(taken) - min(taken) <= 4, taken


async def test_a_new_session_goes_to_the_least_loaded_worker(registry: Registry) -> None:
    await register(registry, "a", "b", "c")
    for session in named(9):
        await registry.confirm(session, (await reserved(registry, session)).fence)
    assert [row.sessions for row in await registry.workers()] == [3, 3, 3]


async def test_the_sessions_of_a_workspace_are_spread(registry: Registry) -> None:
    await register(registry, "a", "b", "c", "d", capacity=100)
    places: dict[int, list[str]] = {}
    for i in range(24):
        held = await reserved(registry, f"s{i}", {"workspace_id": i // 4})
        places.setdefault(i // 4, []).append(held.worker)
    assert all(len(set(workers)) >= 3 for workers in places.values()), places


async def test_there_is_no_capacity_without_workers_or_when_all_are_full(registry: Registry) -> None:
    assert await registry.reserve("s0", {}) == NoCapacity(0)
    await register(registry, "a", "b", capacity=1)
    assert isinstance(await registry.reserve("s1", {}), Reserved)
    assert isinstance(await registry.reserve("s2", {}), Reserved)
    assert await registry.reserve("s3", {}) == NoCapacity(2, 2)
    assert await registry.owner_of("s3") == Unknown()


async def test_a_worker_that_lapsed_gets_nothing(hasty: Registry) -> None:
    await register(hasty, "a")

    async def lapsed() -> bool:
        return all(row.beat_left == 0.0 for row in await hasty.workers())

    await until(lapsed)
    assert await hasty.reserve("s", {}) == NoCapacity(0)


# --- where the login lies


async def test_a_session_whose_login_lies_on_an_existing_worker_goes_there_only(hasty: Registry) -> None:
    await hasty.observe(NODE, listed(["s"]))
    assert isinstance(await hasty.owner_of("s"), Owner)

    async def away() -> bool:
        await register(hasty, "a")
        return await hasty.reserve("s", {}) == OwnerAway("node:3001")

    await until(away)
    assert await hasty.owner_of("s") == Unowned(
        LastOwner("node:3001", "http://node:3001", existing=True, live=False),
        "connected",
        (await hasty.owner_of("s")).lost_since,  # type: ignore[union-attr]
    )
    await keep(hasty)
    assert isinstance(await hasty.owner_of("s"), Unowned), "no worker of ours gets it"
    assert isinstance(await hasty.reserve("s", {}, shared_profiles=True), Reserved)


async def test_it_goes_there_even_when_that_worker_is_full(registry: Registry) -> None:
    await registry.assign({"s": ("node:3001", {"workspace_id": 1})})
    assert await registry.reserve("s", {}) == OwnerAway("node:3001")
    await registry.observe(worker("node:3001", capacity=1), listed(["t"]))
    held = await reserved(registry, "s")
    assert (held.worker, held.existing) == ("node:3001", True)
    await registry.cancel("s", held.fence)
    found = await registry.owner_of("s")
    assert isinstance(found, Unowned)
    assert found.last is not None
    assert (found.last.worker, found.last.live) == ("node:3001", True)


async def test_the_first_division_leaves_alone_who_is_known(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s"]))
    assert await registry.assign({"s": ("node:3002", {}), "t": ("node:3002", {"workspace_id": 3})}) == 1
    assert (await owner(registry, "s")).worker == "node:3001"
    row = await registry.session("t")
    assert row is not None
    assert (row.last_owner, row.existing, row.workspace, row.worker) == ("node:3002", True, "3", None)


async def test_a_worker_of_ours_that_runs_a_session_keeps_it_from_a_create(registry: Registry) -> None:
    await register(registry, "a")
    await run(registry, "a", "s")
    found = await registry.reserve("s", {})
    assert isinstance(found, Owner)
    assert found.worker == "a"
    await want(registry, "t")


@pytest.mark.parametrize("then", ["confirm", "cancel", "nobody answers"])
async def test_a_session_that_is_forgotten_while_it_is_being_created_stays_forgotten(
    registry: Registry, store: Store, then: str
) -> None:
    await register(registry, "a")
    held = await reserved(registry, "s1")
    assert await registry.forget("s1", closed=False)
    if then == "confirm":
        assert not await registry.confirm("s1", held.fence)
    elif then == "cancel":
        await registry.cancel("s1", held.fence)
    else:
        await store.commands(("ZADD", "sl:{sessions}:reserved", "XX", 1, "s1"))
    await keep(registry)
    assert await registry.owner_of("s1") == Unknown()
    assert await beat(registry, "a") == {}
    assert await registry.sessions() == []


async def test_a_forgotten_place_is_nobody_elses_until_its_worker_begins_no_create_under_that_fence(
    registry: Registry,
) -> None:
    await register(registry, "a")
    held = await reserved(registry, "s")
    assert await registry.forget("s", closed=False), "its create may be on its way"
    await register(registry, "b")
    assert await registry.reserve("s", {}) == OwnerAway("a")
    told = await registry.beat("a", "1", {}, {})
    assert told.creates_above >= held.fence
    assert await registry.reserve("s", {}) == OwnerAway("a"), "it may not have had this answer"
    await registry.beat("a", "1", {}, {}, creates_above=told.creates_above)
    again = await reserved(registry, "s")
    assert again.fence > told.creates_above


async def test_a_forgotten_session_whose_late_create_was_begun_is_stopped_before_another_gets_it(
    registry: Registry,
) -> None:
    await register(registry, "a")
    held = await reserved(registry, "s")
    await registry.forget("s", closed=False)
    assert not await registry.confirm("s", held.fence)
    told = await registry.beat("a", "1", {"s": Report(held.fence, "starting")}, {})
    assert told == {}, "stop it"
    told = await registry.beat("a", "1", {"s": Report(held.fence, "starting")}, {}, creates_above=told.creates_above)
    assert await registry.reserve("s", {}) == OwnerAway("a"), "it has not stopped it yet"
    await registry.beat("a", "1", {}, {}, creates_above=told.creates_above)
    assert await registry.owner_of("s") == Unknown()
    await reserved(registry, "s")


async def test_a_refused_create_ends_a_forgotten_place_at_once(registry: Registry) -> None:
    await register(registry, "a")
    held = await reserved(registry, "s")
    await registry.forget("s", closed=False)
    assert await registry.cancel("s", held.fence)
    await reserved(registry, "s")


async def test_creates_for_the_places_of_a_worker_are_never_told_to_be_too_late(registry: Registry) -> None:
    await register(registry, "a")
    first, second = await reserved(registry, "s"), await reserved(registry, "t")
    assert (await registry.beat("a", "1", {}, {})).creates_above == first.fence - 1
    await registry.confirm("s", first.fence)
    assert (await registry.beat("a", "1", {}, {})).creates_above == second.fence - 1
    await registry.confirm("t", second.fence)
    assert (await registry.beat("a", "1", {}, {})).creates_above == second.fence


async def test_a_new_process_is_told_the_last_fence_of_what_was_sent_to_the_one_before(registry: Registry) -> None:
    await register(registry, "a")
    held = await reserved(registry, "s")
    assert await registry.register(worker("a", instance="2")) == Registered(held.fence)
    again = await reserved(registry, "s")
    assert again.fence > held.fence
    assert not await registry.confirm("s", held.fence)


async def test_where_profiles_are_shared_a_session_goes_where_it_was_last_while_that_worker_is_live(
    registry: Registry,
) -> None:
    await registry.observe(OTHER, {})
    await registry.assign({"s": ("node:3001", {})})
    await registry.observe(NODE, listed([str(number) for number in range(9)]))
    held = await registry.reserve("s", {}, shared_profiles=True)
    assert isinstance(held, Reserved)
    assert (held.worker, held.returns) == ("node:3001", True)


async def test_where_profiles_are_shared_a_create_waits_for_a_worker_that_was_just_told_what_to_start(
    registry: Registry,
) -> None:
    await registry.assign({"s": ("node:3001", {})})
    await registry.starts("node:3001")
    await registry.observe(OTHER, {})
    assert await registry.reserve("s", {}, shared_profiles=True) == OwnerAway("node:3001")


async def test_it_waits_for_two_leases_and_who_starts_then_is_not_told_of_the_session(hasty: Registry) -> None:
    await hasty.assign({"s": ("node:3001", {})})
    await hasty.starts("node:3001")

    async def not_seen_for_two_leases() -> bool:
        await hasty.observe(OTHER, {})
        return isinstance(await hasty.reserve("s", {}, shared_profiles=True), Reserved)

    await until(not_seen_for_two_leases)
    found = await hasty.owner_of("s")
    assert isinstance(found, Unowned)
    assert found.held_at == "node:3002"


async def test_a_place_at_a_worker_that_is_away_keeps_nobody_from_the_session(hasty: Registry) -> None:
    await hasty.observe(NODE, {})
    await reserved(hasty, "s")

    async def away() -> bool:
        found = await hasty.owner_of("s")
        return isinstance(found, Unowned) and found.held_at is None

    await until(away)
