from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest

from sessions import registry as module
from sessions.registry import (
    Disputed,
    NoCapacity,
    ObservedSession,
    Owner,
    Registry,
    Report,
    Unknown,
    UnknownWorker,
    Unowned,
    Worker,
)
from sluice.store.client import Store
from tests.waiting import until

pytestmark = pytest.mark.anyio

LONG = 60.0
SHORT = 0.4


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, LONG)


@pytest.fixture
def hasty(store: Store) -> Registry:
    return Registry(store, SHORT)


def worker(name: str, *, instance: str = "1", capacity: int = 10) -> Worker:
    return Worker(name, instance, f"http://{name}:3000", capacity)


async def register(registry: Registry, *names: str, capacity: int = 10) -> None:
    for name in names:
        await registry.register(worker(name, capacity=capacity))


async def beat(
    registry: Registry, name: str, held: dict[str, int] | None = None, instance: str = "1"
) -> dict[str, int]:
    reports = {session: Report(fence, "connected") for session, fence in (held or {}).items()}
    return await registry.beat(name, instance, reports, {})


async def want(registry: Registry, *sessions: str) -> None:
    await registry.want({session: {} for session in sessions})


async def owner(registry: Registry, session: str) -> Owner:
    found = await registry.owner_of(session)
    assert isinstance(found, Owner), found
    return found


def is_orphan(registry: Registry, session: str) -> Callable[[], object]:
    async def orphan() -> bool:
        return await registry.owner_of(session) == Unowned()

    return orphan


def named(count: int) -> list[str]:
    return [f"s{i:03}" for i in range(count)]


# --- who has it


async def test_a_session_is_unknown_then_unowned_then_owned_then_unknown(registry: Registry) -> None:
    await register(registry, "a")
    assert await registry.owner_of("s") == Unknown()
    await want(registry, "s")
    assert await registry.owner_of("s") == Unowned()
    held = await beat(registry, "a")
    found = await owner(registry, "s")
    assert (found.worker, found.url, found.fence) == ("a", "http://a:3000", held["s"])
    assert LONG - 1 < found.lease_left <= LONG
    assert await registry.forget("s")
    assert await registry.owner_of("s") == Unknown()
    assert await beat(registry, "a", held) == {}


async def test_wanting_a_session_again_changes_nothing(registry: Registry) -> None:
    await register(registry, "a")
    assert await registry.want({"s": {"workspace_id": 7}}) == 1
    held = await beat(registry, "a")
    assert await registry.want({"s": {}}) == 0
    assert (await owner(registry, "s")).fence == held["s"]
    assert (await registry.sessions())[0].workspace == "7"


# --- fences


async def test_the_fence_grows_at_each_change_of_owner(registry: Registry) -> None:
    await want(registry, "s")
    fences = []
    for name in ("a", "b", "a", "c"):
        await register(registry, name)
        fences.append((await beat(registry, name))["s"])
        await registry.deregister(name, "1")
    assert fences == sorted(set(fences))


async def test_the_fence_does_not_go_back_when_a_session_is_forgotten_and_made_again(registry: Registry) -> None:
    await register(registry, "a")
    before = await registry.place("s", {})
    await registry.forget("s")
    after = await registry.place("s", {})
    assert isinstance(before, Owner)
    assert isinstance(after, Owner)
    assert after.fence > before.fence


async def test_the_fence_does_not_go_back_when_the_store_loses_everything(registry: Registry, store: Store) -> None:
    await register(registry, "a")
    before = await registry.place("s", {})
    await store.redis.flushall()
    await register(registry, "a")
    after = await registry.place("s", {})
    assert isinstance(before, Owner)
    assert isinstance(after, Owner)
    assert after.fence > before.fence


# --- beats


async def test_a_beat_answers_what_was_placed_since_the_last_one(registry: Registry) -> None:
    await register(registry, "a")
    placed = await registry.place("s", {})
    assert isinstance(placed, Owner)
    assert await beat(registry, "a") == {"s": placed.fence}


async def test_a_beat_stores_what_the_worker_says_of_its_sessions(registry: Registry) -> None:
    await register(registry, "a")
    await registry.place("s", {"workspace_id": "w1"})
    (before,) = await registry.sessions()
    assert (before.state, before.phone, before.worker) == ("created", None, "a")
    held = await beat(registry, "a")
    await registry.beat("a", "1", {"s": Report(held["s"], "connected", "628")}, {})
    (row,) = await registry.sessions()
    assert (row.workspace, row.state, row.phone, row.worker, row.fence) == ("w1", "connected", "628", "a", held["s"])
    assert row.url == "http://a:3000"
    assert row.lease_left is not None
    assert row.since >= before.since


async def test_since_tells_when_the_state_changed_not_when_it_was_last_reported(registry: Registry) -> None:
    await register(registry, "a")
    await want(registry, "s")
    held = await beat(registry, "a")
    await beat(registry, "a", held)
    (first,) = await registry.sessions()
    await asyncio.sleep(0.005)
    await beat(registry, "a", held)
    assert (await registry.sessions())[0].since == first.since


async def test_a_beat_under_an_old_fence_neither_renews_nor_stores(registry: Registry) -> None:
    await register(registry, "a")
    await want(registry, "s")
    held = await beat(registry, "a")
    before = (await owner(registry, "s")).lease_left
    await asyncio.sleep(0.01)
    assert await beat(registry, "a", {"s": held["s"] - 1}) == {}
    assert (await owner(registry, "s")).lease_left < before
    assert (await registry.sessions())[0].state == "created"


async def test_the_late_beat_of_a_former_owner_takes_nothing_from_the_new_one(hasty: Registry) -> None:
    await register(hasty, "a", "b")
    await want(hasty, "s")
    old = await beat(hasty, "a")
    await until(is_orphan(hasty, "s"))
    await register(hasty, "b")
    new = await beat(hasty, "b")
    await register(hasty, "a")
    assert await beat(hasty, "a", old) == {}
    found = await owner(hasty, "s")
    assert (found.worker, found.fence) == ("b", new["s"])


async def test_a_session_ended_by_a_person_is_forgotten_only_under_its_own_fence(registry: Registry) -> None:
    await register(registry, "a")
    await want(registry, "s")
    held = await beat(registry, "a")
    assert await registry.beat("a", "1", {}, {"s": held["s"] - 1}) == held
    assert await registry.beat("a", "1", {}, {"s": held["s"]}) == {}
    assert await registry.owner_of("s") == Unknown()
    assert await registry.beat("a", "1", {}, {"s": held["s"]}) == {}


@pytest.mark.parametrize("instance", ["1", "2"])
async def test_a_worker_that_never_registered_is_unknown(registry: Registry, instance: str) -> None:
    with pytest.raises(UnknownWorker):
        await beat(registry, "a", instance=instance)


async def test_a_beat_of_another_instance_is_refused(registry: Registry) -> None:
    await register(registry, "a")
    with pytest.raises(UnknownWorker):
        await beat(registry, "a", instance="2")


async def test_a_worker_whose_beat_lapsed_must_register_again(hasty: Registry) -> None:
    await register(hasty, "a")
    await want(hasty, "s")
    await beat(hasty, "a")
    await until(is_orphan(hasty, "s"))
    with pytest.raises(UnknownWorker):
        await beat(hasty, "a")
    assert [row.beat_left for row in await hasty.workers()] == [0.0]


# --- adoption


async def test_orphans_are_shared_fairly(registry: Registry) -> None:
    await register(registry, "a", "b", "c")
    await want(registry, *named(31))
    held = [await beat(registry, name) for name in ("a", "b", "c")]
    assert sorted(len(mine) for mine in held) == [10, 10, 10]
    assert len(set().union(*held)) == 30


async def test_a_full_worker_adopts_nothing(registry: Registry) -> None:
    await register(registry, "a", capacity=2)
    await want(registry, *named(5))
    held = await beat(registry, "a")
    assert len(held) == 2
    assert await beat(registry, "a", held) == held


async def test_workers_that_adopt_at_the_same_moment_never_get_the_same_session(registry: Registry) -> None:
    names = [f"w{i}" for i in range(8)]
    await register(registry, *names, capacity=100)
    await want(registry, *named(200))
    held = await asyncio.gather(*(beat(registry, name) for name in names * 3))
    owners: dict[str, set[int]] = {}
    for mine in held:
        for session, fence in mine.items():
            owners.setdefault(session, set()).add(fence)
    assert len(owners) == 200
    assert all(len(fences) == 1 for fences in owners.values())
    assert len({fence for fences in owners.values() for fence in fences}) == 200


async def test_the_sessions_of_a_dead_worker_are_adopted_by_the_others_in_fair_shares(hasty: Registry) -> None:
    await register(hasty, "dead")
    await want(hasty, *named(9))
    before = await beat(hasty, "dead")
    assert len(before) == 9
    await register(hasty, "b", "c")
    held: dict[str, dict[str, int]] = {"b": {}, "c": {}}

    async def all_adopted() -> bool:
        for name in held:
            held[name] = await beat(hasty, name, held[name])
        return sum(map(len, held.values())) == 9

    await until(all_adopted, timeout=SHORT * 5)
    assert sorted(map(len, held.values())) == [4, 5]
    assert not held["b"].keys() & held["c"].keys()
    assert all(mine[session] > before[session] for mine in held.values() for session in mine)


async def test_a_session_that_its_former_owner_cannot_stop_goes_to_another(hasty: Registry) -> None:
    await register(hasty, "a")
    await want(hasty, "s")
    stuck = await beat(hasty, "a")
    await until(is_orphan(hasty, "s"))
    await register(hasty, "a", "b")
    assert await beat(hasty, "b") == {}, "it is the turn of a"

    async def adopted_by_b() -> bool:
        assert await beat(hasty, "a", stuck) == {}
        return bool(await beat(hasty, "b"))

    await until(adopted_by_b, timeout=SHORT * 5)


async def test_a_worker_that_registers_as_a_new_process_frees_what_the_old_one_held(registry: Registry) -> None:
    await register(registry, "a")
    await want(registry, "s")
    old = await beat(registry, "a")
    await registry.register(worker("a", instance="2"))
    assert await registry.owner_of("s") == Unowned()
    new = await beat(registry, "a", instance="2")
    assert new["s"] > old["s"]


async def test_a_worker_that_registers_twice_as_the_same_process_keeps_what_it_holds(registry: Registry) -> None:
    await register(registry, "a")
    await want(registry, "s")
    held = await beat(registry, "a")
    await register(registry, "a")
    assert await beat(registry, "a", held) == held


async def test_a_worker_that_leaves_frees_its_sessions_at_once(registry: Registry) -> None:
    await register(registry, "a", "b")
    await want(registry, *named(4))
    await beat(registry, "a")
    assert await registry.deregister("a", "1")
    assert [row.worker for row in await registry.workers()] == ["b"]
    assert len(await beat(registry, "b")) == 4
    assert not await registry.deregister("a", "1")
    assert len(await beat(registry, "b")) == 4


async def test_another_instance_cannot_leave_for_a_worker(registry: Registry) -> None:
    await register(registry, "a")
    assert not await registry.deregister("a", "2")
    assert len(await registry.workers()) == 1


async def test_names_that_begin_alike_do_not_share_sessions(registry: Registry) -> None:
    await register(registry, "w", "w1", "w-1", "w.1")
    await want(registry, *named(8))
    for name in ("w", "w1", "w-1", "w.1"):
        assert len(await beat(registry, name)) == 2
    assert await registry.deregister("w", "1")
    assert [row.sessions for row in await registry.workers()] == [2, 2, 2]


# --- placing


async def test_a_new_session_is_placed_on_the_least_loaded_worker(registry: Registry) -> None:
    await register(registry, "a", "b", "c")
    for session in named(9):
        assert isinstance(await registry.place(session, {}), Owner)
    assert [row.sessions for row in await registry.workers()] == [3, 3, 3]


async def test_placing_an_owned_session_answers_its_owner(registry: Registry) -> None:
    await register(registry, "a")
    first = await registry.place("s", {})
    await register(registry, "b")
    again = await registry.place("s", {})
    assert isinstance(first, Owner)
    assert isinstance(again, Owner)
    assert (again.worker, again.fence) == (first.worker, first.fence)


async def test_there_is_no_capacity_without_workers_or_when_all_are_full(registry: Registry) -> None:
    assert await registry.place("s0", {}) == NoCapacity(0)
    await register(registry, "a", "b", capacity=1)
    assert isinstance(await registry.place("s1", {}), Owner)
    assert isinstance(await registry.place("s2", {}), Owner)
    assert await registry.place("s3", {}) == NoCapacity(2)
    assert await registry.owner_of("s3") == Unknown()


async def test_many_placing_the_same_session_get_the_same_owner(registry: Registry) -> None:
    await register(registry, "a", "b", "c")
    placed = await asyncio.gather(*(registry.place("s", {}) for _ in range(20)))
    assert len({(found.worker, found.fence) for found in placed if isinstance(found, Owner)}) == 1
    assert sum(row.sessions for row in await registry.workers()) == 1


async def test_many_placing_at_once_never_fill_a_worker_beyond_its_capacity(registry: Registry) -> None:
    await register(registry, "a", "b", capacity=5)
    await asyncio.gather(*(registry.place(session, {}) for session in named(30)))
    assert all(row.sessions <= 5 for row in await registry.workers())


async def test_placing_an_orphan_keeps_what_is_known_about_it(registry: Registry) -> None:
    await registry.want({"s": {"workspace_id": "w"}})
    await register(registry, "a")
    assert isinstance(await registry.place("s", {}), Owner)
    assert (await registry.sessions())[0].workspace == "w"


async def test_a_worker_that_lapsed_is_not_placed_on(hasty: Registry) -> None:
    await register(hasty, "a")

    async def lapsed() -> bool:
        return all(row.beat_left == 0.0 for row in await hasty.workers())

    await until(lapsed)
    assert await hasty.place("s", {}) == NoCapacity(0)


# --- existing workers

NODE = Worker("node:3001", "observed", "http://node:3001", 5)
OTHER = Worker("node:3002", "observed", "http://node:3002", 5)


def seen(sessions: Iterable[str]) -> dict[str, ObservedSession]:
    return {session: ObservedSession("connected", "628") for session in sessions}


async def test_what_an_existing_worker_lists_is_its_own(registry: Registry) -> None:
    await registry.observe(NODE, {"s": ObservedSession("connected", "628", {"workspace_id": "7"})})
    first = await owner(registry, "s")
    assert first.worker == "node:3001"
    assert await registry.observe(NODE, seen(["s"])) == []
    assert (await owner(registry, "s")).fence == first.fence
    (row,) = await registry.sessions()
    assert (row.workspace, row.state, row.phone) == ("7", "connected", "628")
    assert (await registry.workers())[0].existing


async def test_what_an_existing_worker_lists_no_longer_is_forgotten(registry: Registry) -> None:
    await registry.observe(NODE, seen(["s", "t"]))
    await registry.observe(NODE, seen(["t"]))
    assert await registry.owner_of("s") == Unknown()
    assert (await owner(registry, "t")).worker == "node:3001"


async def test_a_session_just_placed_on_an_existing_worker_survives_until_its_lease_ends(hasty: Registry) -> None:
    await hasty.observe(NODE, {})
    placed = await hasty.place("s", {})
    assert isinstance(placed, Owner)
    await hasty.observe(NODE, {})
    assert (await owner(hasty, "s")).fence == placed.fence

    async def forgotten() -> bool:
        await hasty.observe(NODE, {})
        return await hasty.owner_of("s") == Unknown()

    await until(forgotten, timeout=SHORT * 5)


async def test_the_one_with_the_live_lease_keeps_a_session_that_two_existing_workers_claim(registry: Registry) -> None:
    await registry.observe(NODE, seen(["s"]))
    assert await registry.observe(OTHER, seen(["s", "t"])) == [Disputed("s", "node:3001")]
    assert (await owner(registry, "s")).worker == "node:3001"
    assert (await owner(registry, "t")).worker == "node:3002"
    await registry.observe(NODE, {})
    assert await registry.observe(OTHER, seen(["s", "t"])) == []
    assert (await owner(registry, "s")).worker == "node:3002"


async def test_the_sessions_of_a_silent_existing_worker_wait_for_it(hasty: Registry) -> None:
    await hasty.observe(NODE, seen(["s"]))
    before = await owner(hasty, "s")
    await until(is_orphan(hasty, "s"))
    await register(hasty, "a")
    assert await beat(hasty, "a") == {}
    await hasty.observe(NODE, seen(["s"]))
    after = await owner(hasty, "s")
    assert after.worker == "node:3001"
    assert after.fence > before.fence


async def test_orphans_are_not_pushed_onto_an_existing_worker(registry: Registry) -> None:
    await registry.observe(NODE, {})
    await register(registry, "a")
    await want(registry, *named(4))
    assert len(await beat(registry, "a")) == 4


# --- running twice, and many


async def test_every_call_may_run_twice(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    once = Registry._run

    async def twice(self: Registry, *args: object) -> object:
        await once(self, *args)  # type: ignore[arg-type]
        return await once(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(module.Registry, "_run", twice)
    await register(registry, "a", "b")
    await want(registry, *named(4))
    held = {name: await beat(registry, name) for name in ("a", "b")}
    assert [len(mine) for mine in held.values()] == [2, 2]
    assert await beat(registry, "a", held["a"]) == held["a"]
    placed = await registry.place("p", {})
    assert isinstance(placed, Owner)
    assert (await owner(registry, "p")).fence == placed.fence
    await registry.observe(NODE, seen(["n"]))
    await registry.forget("n")
    await registry.deregister("a", "1")
    assert len(await registry.sessions()) == 5
    assert {row.worker: row.sessions for row in await registry.workers()}["node:3001"] == 0


async def test_thousands_of_sessions_are_listed_and_renewed(registry: Registry) -> None:
    await registry.register(worker("a", capacity=3000))
    await registry.want({session: {} for session in named(3000)})
    held: dict[str, int] = {}
    while len(held) < 3000:
        held = await beat(registry, "a", held)
    assert await beat(registry, "a", held) == held
    assert [row.session for row in await registry.sessions()] == sorted(named(3000))


async def test_a_worker_with_a_space_in_its_name_is_a_bug_of_the_caller(registry: Registry) -> None:
    with pytest.raises(ValueError, match="a worker's id"):
        await registry.register(worker("a b"))
