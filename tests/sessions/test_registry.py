"""Who has a session: leases, fences, beats, moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sessions.registry import (
    LastOwner,
    Moved,
    NoSuchWorker,
    Owner,
    OwnerAway,
    Registered,
    Registry,
    Report,
    Reserved,
    StillRuns,
    Taken,
    Unknown,
    UnknownWorker,
    Unowned,
)
from sluice.store.client import Store
from tests.sessions.making import beat, keep, listed, named, owner, register, reserved, run, want, worker
from tests.waiting import until

pytestmark = pytest.mark.anyio

LONG = 60.0
SHORT = 1.0  # so long the machine may stall under the other tests
NODE = worker("node:3001", url="http://node:3001")


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, LONG)


@pytest.fixture
def hasty(store: Store) -> Registry:
    return Registry(store, SHORT)


def is_unowned(registry: Registry, session: str) -> Callable[[], object]:
    async def unowned() -> bool:
        return isinstance(await registry.owner_of(session), Unowned)

    return unowned


# --- who has it


async def test_a_session_is_unknown_then_unowned_then_owned_then_unknown(registry: Registry) -> None:
    await register(registry, "a")
    assert await registry.owner_of("s") == Unknown()
    await want(registry, "s")
    found = await registry.owner_of("s")
    assert isinstance(found, Unowned)
    assert (found.last, found.state) == (None, "created")
    assert found.lost_since is not None
    await keep(registry)
    held = await beat(registry, "a")
    has = await owner(registry, "s")
    assert (has.worker, has.url, has.fence, has.existing) == ("a", "http://a:3000", held["s"], False)
    assert LONG - 1 < has.lease_left <= LONG
    assert await registry.forget("s")
    assert await registry.owner_of("s") == Unknown()
    assert await beat(registry, "a", held) == {}


async def test_a_session_that_is_lost_says_whom_it_belonged_to(hasty: Registry) -> None:
    await register(hasty, "a")
    await run(hasty, "a", "s")
    await until(is_unowned(hasty, "s"))
    before = await hasty.owner_of("s")
    await hasty.lapse()
    after = await hasty.owner_of("s")
    assert isinstance(before, Unowned)
    assert before == after, "with and without a keeper that has noticed"
    assert (before.last, before.state) == (LastOwner("a", "http://a:3000", existing=False, live=False), "connected")


async def test_wanting_a_session_again_changes_nothing(registry: Registry) -> None:
    await register(registry, "a")
    assert await registry.want({"s": {"workspace_id": 7}}) == 1
    await keep(registry)
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
        await keep(registry)
        fences.append((await beat(registry, name))["s"])
        await registry.deregister(name, "1")
    assert fences == sorted(set(fences))


async def test_the_fence_does_not_go_back_when_a_session_is_forgotten_and_made_again(registry: Registry) -> None:
    await register(registry, "a")
    before = await reserved(registry, "s")
    await registry.forget("s")
    assert (await reserved(registry, "s")).fence > before.fence


async def test_the_fence_does_not_go_back_when_the_store_loses_everything(registry: Registry, store: Store) -> None:
    await register(registry, "a")
    before = await reserved(registry, "s")
    await store.redis.flushall()
    await register(registry, "a")
    assert (await reserved(registry, "s")).fence > before.fence


# --- beats


async def test_a_beat_answers_what_was_granted_since_the_last_one(registry: Registry) -> None:
    await register(registry, "a")
    await want(registry, "s")
    await keep(registry)
    assert await beat(registry, "a") == {"s": (await owner(registry, "s")).fence}


async def test_a_beat_stores_what_the_worker_says_of_its_sessions(registry: Registry) -> None:
    await register(registry, "a")
    await registry.want({"s": {"workspace_id": "w1"}})
    await keep(registry)
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
    held = await run(registry, "a", "s")
    (first,) = await registry.sessions()
    await asyncio.sleep(0.005)
    await beat(registry, "a", held)
    assert (await registry.sessions())[0].since == first.since


async def test_a_beat_renews_all_sessions_of_a_worker_reported_or_not(hasty: Registry) -> None:
    await register(hasty, "a")
    held = await run(hasty, "a", *named(5))
    ends = asyncio.get_running_loop().time() + 2 * SHORT
    while asyncio.get_running_loop().time() < ends:
        assert await beat(hasty, "a", held) == held
        await asyncio.sleep(SHORT / 8)
    assert (await owner(hasty, "s004")).fence == held["s004"]


async def test_a_beat_under_an_old_fence_is_neither_answered_nor_stored(registry: Registry) -> None:
    await register(registry, "a")
    await want(registry, "s")
    await keep(registry)
    held = await beat(registry, "a")
    assert await beat(registry, "a", {"s": held["s"] - 1}) == {}
    assert (await registry.sessions())[0].state == "created"


async def test_the_late_beat_of_a_former_owner_takes_nothing_from_the_new_one(hasty: Registry) -> None:
    await register(hasty, "a")
    old = await run(hasty, "a", "s")
    await until(is_unowned(hasty, "s"))
    await register(hasty, "b")
    await keep(hasty)
    new = await beat(hasty, "b")
    await register(hasty, "a")
    assert await beat(hasty, "a", old) == {}
    found = await owner(hasty, "s")
    assert (found.worker, found.fence) == ("b", new["s"])


async def test_a_session_ended_by_a_person_is_forgotten_only_under_its_own_fence(registry: Registry) -> None:
    await register(registry, "a")
    held = await run(registry, "a", "s")
    assert await registry.beat("a", "1", {}, {"s": held["s"] - 1}) == held
    assert await registry.beat("a", "1", {}, {"s": held["s"]}) == {}
    assert await registry.owner_of("s") == Unknown()
    assert await registry.beat("a", "1", {}, {"s": held["s"]}) == {}


async def test_a_session_that_was_forgotten_does_not_come_back_by_a_beat_of_before(hasty: Registry) -> None:
    await register(hasty, "a")
    held = await run(hasty, "a", "s")
    await hasty.forget("s")
    assert await beat(hasty, "a", held) == {}
    await asyncio.sleep(SHORT)
    await keep(hasty)
    assert await hasty.owner_of("s") == Unknown()
    assert await hasty.sessions() == []


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
    await run(hasty, "a", "s")
    await until(is_unowned(hasty, "s"))
    with pytest.raises(UnknownWorker):
        await beat(hasty, "a")
    assert [row.beat_left for row in await hasty.workers()] == [0.0]
    await hasty.lapse()
    with pytest.raises(UnknownWorker):
        await beat(hasty, "a")
    assert [row.beat_left for row in await hasty.workers()] == [0.0]


# --- two under one id


async def test_a_second_live_process_under_an_id_is_refused_until_the_first_has_left(registry: Registry) -> None:
    assert isinstance(await registry.register(worker("a", url="http://one:1")), Registered)
    held = await run(registry, "a", "s")
    refused = await registry.register(worker("a", instance="2", url="http://two:1"))
    assert isinstance(refused, Taken)
    assert (refused.url, LONG - 1 < refused.lease_left <= LONG) == ("http://one:1", True)
    assert await beat(registry, "a", held) == held
    await registry.deregister("a", "1")
    assert isinstance(await registry.register(worker("a", instance="2", url="http://two:1")), Registered)


async def test_a_second_process_gets_the_id_when_the_first_has_lapsed(hasty: Registry) -> None:
    await register(hasty, "a")

    async def registered() -> bool:
        return isinstance(await hasty.register(worker("a", instance="2", url="http://two:1")), Registered)

    await until(registered)


async def test_a_process_that_was_started_again_at_the_same_url_frees_what_the_old_one_held(registry: Registry) -> None:
    await register(registry, "a")
    old = await run(registry, "a", "s")
    assert isinstance(await registry.register(worker("a", instance="2")), Registered)
    assert isinstance(await registry.owner_of("s"), Unowned)
    await keep(registry)
    assert (await beat(registry, "a", instance="2"))["s"] > old["s"]
    with pytest.raises(UnknownWorker):
        await beat(registry, "a", old)


async def test_the_name_of_an_existing_worker_is_taken(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s"]))
    assert isinstance(await registry.register(worker("node:3001", instance="2")), Taken)
    assert isinstance(await registry.register(worker("node:3001", instance="observed")), Taken)
    assert (await owner(registry, "s")).existing


async def test_a_process_that_registers_again_keeps_its_sessions_under_new_fences(registry: Registry) -> None:
    """It has stopped them, and does not know any more which messages of their former runs had gone out."""
    await register(registry, "a")
    before = await run(registry, "a", "s", "leaves")
    place = await reserved(registry, "promised")
    await registry.end("leaves", "deleted")
    await register(registry, "a")
    after = await beat(registry, "a")
    assert after.keys() == {"s"}
    assert after["s"] > before["s"]
    assert await beat(registry, "a", {"s": before["s"]}) == {}, "whoever still runs it so stops it first"
    assert await beat(registry, "a", after) == after
    assert await registry.confirm("promised", place.fence), "its worker is being asked"


async def test_a_worker_that_leaves_frees_its_sessions_at_once(registry: Registry) -> None:
    await register(registry, "a")
    await run(registry, "a", *named(4))
    await register(registry, "b")
    assert await registry.deregister("a", "1")
    assert [row.worker for row in await registry.workers()] == ["b"]
    await keep(registry)
    assert len(await beat(registry, "b")) == 4
    assert not await registry.deregister("a", "1")
    assert len(await beat(registry, "b")) == 4


async def test_another_instance_cannot_leave_for_a_worker(registry: Registry) -> None:
    await register(registry, "a")
    assert not await registry.deregister("a", "2")
    assert len(await registry.workers()) == 1


async def test_names_that_begin_alike_do_not_share_sessions(registry: Registry) -> None:
    names = ("w", "w1", "w-1", "w.1")
    await register(registry, *names)
    await want(registry, *named(8))
    await keep(registry)
    held = [await beat(registry, name) for name in names]
    assert len(set().union(*held)) == sum(map(len, held)) == 8
    assert await registry.deregister("w", "1")
    assert [row.sessions for row in await registry.workers()] == [len(held[2]), len(held[3]), len(held[1])]


# --- orphans


async def test_orphans_are_shared_fairly_and_never_beyond_capacity(registry: Registry) -> None:
    await register(registry, "a", "b", "c")
    await want(registry, *named(31))
    await keep(registry)
    held = [await beat(registry, name) for name in ("a", "b", "c")]
    assert sorted(len(mine) for mine in held) == [10, 10, 10]
    assert len(set().union(*held)) == 30


async def test_gateways_that_grant_at_the_same_moment_never_grant_one_session_twice(registry: Registry) -> None:
    names = [f"w{i}" for i in range(8)]
    await register(registry, *names, capacity=100)
    await want(registry, *named(200))
    await asyncio.gather(*(keep(registry) for _ in range(5)))
    held = [await beat(registry, name) for name in names]
    fences = [fence for mine in held for fence in mine.values()]
    assert len(set().union(*held)) == sum(map(len, held)) == len(set(fences)) == 200


async def test_the_sessions_of_a_dead_worker_go_to_the_others_in_fair_shares(hasty: Registry) -> None:
    await register(hasty, "dead")
    before = await run(hasty, "dead", *named(9))
    await until(is_unowned(hasty, "s000"))
    await register(hasty, "b", "c")
    await keep(hasty)
    held = {name: await beat(hasty, name) for name in ("b", "c")}
    assert sorted(map(len, held.values())) == [4, 5]
    assert not held["b"].keys() & held["c"].keys()
    assert all(mine[session] > before[session] for mine in held.values() for session in mine)


async def test_a_session_that_its_former_owner_cannot_stop_goes_to_another(hasty: Registry) -> None:
    await register(hasty, "a")
    stuck = await run(hasty, "a", "s")
    await until(is_unowned(hasty, "s"))
    await register(hasty, "a")
    await keep(hasty)
    assert (await owner(hasty, "s")).worker == "a", "nobody else is there"

    async def went_to_b() -> bool:
        await register(hasty, "b")
        assert await beat(hasty, "a", stuck) == {}
        await keep(hasty)
        return bool(await beat(hasty, "b"))

    await until(went_to_b, timeout=SHORT * 10)


async def test_a_worker_that_drains_gets_nothing_new_and_gives_away_what_it_has_stopped(registry: Registry) -> None:
    await register(registry, "a")
    held = await run(registry, "a", "s1", "s2")
    await register(registry, "b")
    reports = {session: Report(fence, "connected") for session, fence in held.items()}
    assert await registry.beat("a", "1", reports, {}, draining=True) == held
    await want(registry, "s3")
    await keep(registry)
    assert (await owner(registry, "s3")).worker == "b"
    stopped = {"s1": held.pop("s1")}
    assert await registry.beat("a", "1", {"s2": reports["s2"]}, {}, stopped, draining=True) == held
    await keep(registry)
    assert (await owner(registry, "s1")).worker == "b"
    assert next(row.draining for row in await registry.workers() if row.worker == "a")


async def test_what_is_stopped_is_released_only_under_its_own_fence(registry: Registry) -> None:
    await register(registry, "a")
    held = await run(registry, "a", "s")
    assert await registry.beat("a", "1", {}, {}, {"s": held["s"] - 1}) == held


async def test_a_worker_may_say_with_each_beat_how_many_it_runs_and_what_it_dropped(registry: Registry) -> None:
    await register(registry, "a")
    for capacity, dropped, expected in ((1, 3, (1, 3)), (None, 0, (1, 0)), (7, 0, (7, 0))):
        await registry.beat("a", "1", {}, {}, capacity=capacity, dropped=dropped)
        (row,) = await registry.workers()
        assert (row.capacity, row.dropped) == expected


async def test_a_worker_whose_memory_has_shrunk_is_given_no_more_until_it_has_grown(registry: Registry) -> None:
    await register(registry, "a")
    await registry.beat("a", "1", {}, {}, capacity=1)
    await want(registry, "s1", "s2")
    await keep(registry)
    (held,) = [row for row in await registry.sessions() if row.worker == "a"]
    await registry.beat("a", "1", {held.session: Report(held.fence, "connected")}, {}, capacity=2)
    await keep(registry)
    assert [row.worker for row in await registry.sessions()] == ["a", "a"]


@pytest.mark.parametrize("load", [{"memory": 0.9}, {"cpu": 0.95}])
async def test_a_worker_that_is_short_of_memory_or_cpu_is_full_by_its_own_account(
    registry: Registry, load: dict[str, float]
) -> None:
    await register(registry, "a", "b")
    await registry.beat("a", "1", {}, {}, load=load)
    await want(registry, *named(4))
    await keep(registry)
    assert {(await owner(registry, session)).worker for session in named(4)} == {"b"}
    assert (await reserved(registry, "s9")).worker == "b"
    await registry.beat("a", "1", {}, {}, load=dict.fromkeys(load, 0.5))
    await want(registry, "s4")
    await keep(registry)
    assert (await owner(registry, "s4")).worker == "a"


# --- people


async def test_a_session_moves_to_another_worker_only_when_the_first_has_stopped_it(registry: Registry) -> None:
    await register(registry, "a")
    held = await run(registry, "a", "s")
    await register(registry, "b")
    assert await registry.move("s", "b", by="maria") == Moved("a", existing=False, stops_first=True)
    assert (await owner(registry, "s")).worker == "a"
    assert await beat(registry, "a", held) == {}, "it is told to stop it"
    await keep(registry)
    assert (await owner(registry, "s")).fence == held["s"], "and still runs it"
    assert await beat(registry, "a") == {}
    after = await owner(registry, "s")
    assert (after.worker, after.fence > held["s"]) == ("b", True)


async def test_a_session_that_moves_and_whose_worker_lapses_goes_where_it_was_sent(hasty: Registry) -> None:
    await register(hasty, "a")
    await run(hasty, "a", "s")
    await hasty.register(worker("b"))
    await hasty.move("s", "b")

    async def moved() -> bool:
        await register(hasty, "b", "c")
        await hasty.lapse()
        found = await hasty.owner_of("s")
        return isinstance(found, Owner) and found.worker == "b"

    await until(moved)


async def test_a_released_session_goes_to_anybody_when_its_worker_has_stopped_it(registry: Registry) -> None:
    await register(registry, "a")
    held = await run(registry, "a", "s")
    assert await registry.release("s") == Moved("a", existing=False, stops_first=True)
    assert await beat(registry, "a", held) == {}
    assert isinstance(await registry.owner_of("s"), Owner)
    assert await beat(registry, "a") == {}
    assert isinstance(await registry.owner_of("s"), Unowned)
    await keep(registry)
    assert (await owner(registry, "s")).fence > held["s"]


async def test_a_session_that_a_person_forgets_is_nobody_elses_until_its_worker_has_stopped_it(
    registry: Registry,
) -> None:
    await register(registry, "a")
    held = await run(registry, "a", "s")
    await register(registry, "b")
    assert await registry.forget("s", closed=False)
    assert await registry.owner_of("s") == Unknown()
    assert await registry.sessions() == []
    assert (await registry.summary()).total == 0
    assert await registry.reserve("s", {}) == OwnerAway("a")
    assert await beat(registry, "a", held) == {}
    assert await registry.reserve("s", {}) == OwnerAway("a")
    assert await beat(registry, "a") == {}
    assert isinstance(await registry.reserve("s", {}), Reserved)


async def test_a_session_that_a_person_forgets_is_free_when_its_worker_lapses(hasty: Registry) -> None:
    await register(hasty, "a")
    await run(hasty, "a", "s")
    await hasty.forget("s", closed=False)

    async def free() -> bool:
        await register(hasty, "b")
        return isinstance(await hasty.reserve("s", {}), Reserved)

    await until(free)


async def test_what_cannot_move_says_why(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s"]), 0)
    await want(registry, "t")
    assert await registry.move("nobody", "node:3001") == Unknown()
    assert await registry.release("nobody") == Unknown()
    assert await registry.move("t", "nowhere") == NoSuchWorker()
    assert await registry.move("s", "nowhere") == NoSuchWorker()
    await register(registry, "a")
    assert await registry.move("s", "a") == StillRuns("node:3001")
    assert await registry.release("s") == StillRuns("node:3001")
    held = await reserved(registry, "t")
    assert await registry.move("t", "a") == StillRuns(held.worker)


async def test_an_orphan_is_sent_to_an_existing_worker_and_waits_there_for_its_create(registry: Registry) -> None:
    await registry.observe(NODE, {})
    await want(registry, "t")
    assert await registry.move("t", "node:3001") == Moved("", existing=False, stops_first=False)
    await register(registry, "a")
    await keep(registry)
    assert isinstance(await registry.owner_of("t"), Unowned)
    assert (await reserved(registry, "t")).worker == "node:3001"


# --- many at once


async def test_thousands_of_sessions_are_granted_and_renewed(registry: Registry) -> None:
    await registry.register(worker("a", capacity=3000))
    await registry.want({session: {} for session in named(3000)})
    await keep(registry)
    held = await beat(registry, "a")
    assert len(held) == 3000
    assert await beat(registry, "a", held) == held
    assert [row.session for row in await registry.sessions()] == sorted(named(3000))


async def test_a_worker_with_a_space_in_its_name_is_a_bug_of_the_caller(registry: Registry) -> None:
    with pytest.raises(ValueError, match="a worker's id"):
        await registry.register(worker("a b"))
