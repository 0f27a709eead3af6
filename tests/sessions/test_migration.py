"""What an earlier version left in the store is taken over: nobody's sessions are lost by an upgrade."""

from __future__ import annotations

import asyncio

import pytest

from sessions.changes import Changes
from sessions.keeper import Keeper
from sessions.registry import LastOwner, Owner, OwnerAway, Registry, Unowned
from sluice.store.client import Store
from tests.sessions.making import beat, listed, register, worker

pytestmark = pytest.mark.anyio

LEASE = 1.0


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, LEASE)


def key(name: str) -> str:
    return f"sl:{{sessions}}:{name}"


async def fill(registry: Registry, store: Store, count: int = 0) -> None:
    """As the version before had it: one of a worker of ours, one of an existing worker, one that nobody has."""
    ends = await registry.time() + round(LEASE * 1000)
    own = '{"instance":"1","url":"http://a:1","capacity":9,"existing":false}'
    node = '{"instance":"observed","url":"http://node:1","capacity":9,"existing":true}'
    await store.commands(
        ("HSET", key("workers"), "a", own, "node:1", node),
        ("ZADD", key("beats"), ends, "a", ends, "node:1"),
        ("HSET", key("wanted"), "ours", '{"workspace_id":7}', "theirs", '{"workspace_id":"w"}', "nobodys", "{}"),
        ("HSET", key("states"), "ours", '1700000000000 ["connected","628"]', "theirs", '1700000000000 ["error",null]'),
        ("HSET", key("states"), "nobodys", '1700000000000 ["created",null]'),
        ("HSET", key("owners"), "ours", "1700000000001 a", "theirs", "1700000000002 node:1"),
        ("ZADD", key("leases"), ends, "ours", ends - 10**6, "nobodys"),
        ("ZADD", key("observed"), ends, "theirs"),
        ("ZADD", key("held"), 0, "a ours", 0, "node:1 theirs"),
        ("SET", key("fence"), 1700000000002),
        ("HSET", key("counts"), "connected", 1, "failed", 1, "created", 1),
    )
    for i in range(count):
        await store.commands(("HSET", key("wanted"), f"s{i}", "{}"), ("ZADD", key("leases"), 1, f"s{i}"))


async def take_over(registry: Registry) -> None:
    while await registry.migrate():
        pass


async def test_every_session_is_taken_over_with_what_was_known(registry: Registry, store: Store) -> None:
    await fill(registry, store)
    await take_over(registry)
    rows = {row.session: row for row in await registry.sessions()}
    assert rows.keys() == {"ours", "theirs", "nobodys"}
    ours, theirs = rows["ours"], rows["theirs"]
    assert (ours.workspace, ours.state, ours.phone, ours.last_owner, ours.existing) == (
        *("7", "connected", "628", "a"),
        False,
    )
    assert (theirs.workspace, theirs.state, theirs.last_owner, theirs.existing) == ("w", "failed", "node:1", True)
    seen = await registry.summary()
    assert (seen.total, seen.unowned, seen.states) == (3, 3, {"connected": 1, "failed": 1, "created": 1})
    (keys,) = await store.commands(("KEYS", "sl:{sessions}:*"))
    left = {one.decode().rpartition(":")[2] for one in keys}
    assert not left & {"wanted", "states", "owners", "leases", "observed", "workers", "beats", "held", "counts"}


async def test_what_a_worker_of_ours_may_still_run_is_granted_when_its_lease_has_ended(
    registry: Registry, store: Store
) -> None:
    await fill(registry, store)
    keeper = Keeper(registry, Changes(store))
    await registry.register(worker("b"))
    await keeper.run_once()
    assert (await beat(registry, "b")).keys() == {"nobodys"}
    await asyncio.sleep(LEASE)
    await register(registry, "b")
    await keeper.run_once()
    assert "ours" in await beat(registry, "b")


async def test_what_an_existing_worker_had_waits_for_it(registry: Registry, store: Store) -> None:
    await fill(registry, store)
    await take_over(registry)
    found = await registry.owner_of("theirs")
    assert isinstance(found, Unowned)
    assert found.last == LastOwner("node:1", "", existing=True, live=False)
    assert await registry.reserve("theirs", {}) == OwnerAway("node:1")
    await registry.observe(worker("node:1"), listed(["theirs"]))
    assert isinstance(await registry.owner_of("theirs"), Owner)


async def test_a_session_that_was_seen_before_it_was_taken_over_keeps_what_was_seen(
    registry: Registry, store: Store
) -> None:
    await fill(registry, store)
    await registry.observe(worker("node:1"), listed(["theirs"]))
    await take_over(registry)
    await take_over(registry)
    found = await registry.owner_of("theirs")
    assert isinstance(found, Owner)
    assert found.fence > 1700000000002


async def test_thousands_are_taken_over_by_several_at_once(registry: Registry, store: Store) -> None:
    await fill(registry, store, 2000)
    await asyncio.gather(*(take_over(registry) for _ in range(3)))
    assert len(await registry.sessions()) == 2003
    assert (await registry.summary()).total == 2003
