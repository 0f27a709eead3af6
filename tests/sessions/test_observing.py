"""What existing workers list: the truth, but never a deletion."""

from __future__ import annotations

import asyncio

import pytest

from sessions.registry import Disputed, Observation, ObservedSession, Owner, Registry, Unknown, Unowned
from sluice.store.client import Store
from tests.sessions.making import beat, keep, listed, owner, register, run, worker
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


async def later(registry: Registry) -> int:
    """A moment after all that was."""
    before = await registry.time()
    while await registry.time() == before:
        await asyncio.sleep(0.001)
    return await registry.time()


async def test_what_an_existing_worker_lists_is_its_own(registry: Registry) -> None:
    await registry.observe(NODE, {"s": ObservedSession("connected", "628", {"workspace_id": "7"})})
    first = await owner(registry, "s")
    assert (first.worker, first.existing) == ("node:3001", True)
    assert await registry.observe(NODE, listed(["s"])) == Observation((), ())
    assert (await owner(registry, "s")).fence == first.fence
    (row,) = await registry.sessions()
    assert (row.workspace, row.state, row.phone) == ("7", "connected", "628")
    assert (await registry.workers())[0].existing


async def test_a_shorter_list_is_not_a_deletion(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s", "t"]))
    before = await owner(registry, "s")
    began = await later(registry)
    assert await registry.observe(NODE, listed(["t"]), began) == Observation((), ("s",))
    after = await owner(registry, "s")
    assert (after.worker, after.fence) == ("node:3001", before.fence)
    assert after.missing_since is not None
    assert after.missing_since >= began / 1000
    row = await registry.session("s")
    assert row is not None
    assert row.missing_since == after.missing_since
    assert await registry.observe(NODE, {}, await later(registry)) == Observation((), ("s", "t"))
    assert await registry.observe(NODE, listed(["s", "t"])) == Observation((), ())
    assert (await owner(registry, "s")).missing_since is None
    assert (await owner(registry, "s")).fence == before.fence


async def test_what_a_worker_says_by_itself_counts_for_its_own_sessions_only(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s"]))
    assert not await registry.hear("node:3002", "s", "connected", "628")
    assert not await registry.hear("node:3001", "another", "connected", "628")
    assert await registry.hear("node:3001", "s", "connected", "628")
    row = await registry.session("s")
    assert row is not None
    assert (row.state, row.phone) == ("connected", "628")
    assert await registry.session("another") is None


async def test_a_login_that_its_worker_restores_stays_connected_unless_it_needs_a_new_code(registry: Registry) -> None:
    await registry.observe(NODE, {"s": ObservedSession("connected", "628")})
    for state in ("qr_scanning", "authenticated", "qr_scanning"):
        await registry.observe(NODE, listed(["s"], state))
        row = await registry.session("s")
        assert row is not None
        assert (row.state, row.phone) == ("connected", "628")
    assert await registry.hear("node:3001", "s", "qr_scanning", None)
    await registry.observe(NODE, listed(["s"], "qr_scanning"))
    row = await registry.session("s")
    assert row is not None
    assert row.state == "qr_scanning"


async def test_a_login_is_restored_also_after_the_lease_of_its_worker_has_ended(hasty: Registry) -> None:
    await hasty.observe(NODE, {"s": ObservedSession("connected", "628")})

    async def lost() -> bool:
        await hasty.lapse()
        return isinstance(await hasty.owner_of("s"), Unowned)

    await until(lost)
    await hasty.observe(NODE, listed(["s"], "qr_scanning"))
    row = await hasty.session("s")
    assert row is not None
    assert (row.worker, row.state, row.phone) == ("node:3001", "connected", "628")


async def test_one_that_is_connected_elsewhere_does_not_wait_for_a_login_that_is_restored(registry: Registry) -> None:
    await registry.observe(NODE, {"s": ObservedSession("connected", "628")})
    await registry.observe(NODE, listed(["s"], "qr_scanning"))
    await registry.observe(OTHER, {"s": ObservedSession("connected", "628")})
    assert (await owner(registry, "s")).worker == "node:3002"


async def test_a_session_that_was_accepted_while_the_list_was_on_its_way_is_not_missing(registry: Registry) -> None:
    await registry.observe(NODE, {})
    began = await registry.time()
    held = await registry.reserve("s", {})
    await registry.confirm("s", held.fence)  # type: ignore[union-attr]
    assert await registry.observe(NODE, {}, began) == Observation((), ())
    assert (await owner(registry, "s")).missing_since is None


async def test_a_list_that_was_asked_for_before_a_session_was_forgotten_does_not_bring_it_back(
    registry: Registry,
) -> None:
    await registry.observe(NODE, listed(["s"]))
    began = await registry.time()
    await registry.forget("s")
    await registry.observe(NODE, listed(["s"]), began)
    assert await registry.owner_of("s") == Unknown()
    await registry.observe(NODE, listed(["s"]), await later(registry))
    assert isinstance(await registry.owner_of("s"), Owner)


async def test_in_a_dispute_the_connected_one_gets_the_session(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s"], "qr_scanning"))
    before = await owner(registry, "s")
    assert await registry.observe(OTHER, listed(["s"], "qr_scanning")) == Observation((Disputed("s", "node:3001"),), ())
    assert (await owner(registry, "s")).worker == "node:3001"
    assert await registry.observe(OTHER, listed(["s"])) == Observation((), ())
    after = await owner(registry, "s")
    assert (after.worker, after.fence > before.fence) == ("node:3002", True)
    assert await registry.observe(NODE, listed(["s"])) == Observation((Disputed("s", "node:3002"),), ())
    assert (await owner(registry, "s")).fence == after.fence, "two that are connected do not take turns"


async def test_a_session_that_its_owner_does_not_list_goes_to_the_one_that_does(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s"]))
    await registry.observe(NODE, {}, await later(registry))
    assert await registry.observe(OTHER, listed(["s"], "disconnected")) == Observation((), ())
    assert (await owner(registry, "s")).worker == "node:3002"
    assert await registry.observe(NODE, {}, await later(registry)) == Observation((), ())


async def test_a_worker_of_ours_keeps_what_an_existing_one_lists_too(registry: Registry) -> None:
    await register(registry, "a")
    held = await run(registry, "a", "s")
    assert await registry.observe(NODE, listed(["s"])) == Observation((Disputed("s", "a"),), ())
    assert await beat(registry, "a", held) == held


async def test_the_sessions_of_a_silent_existing_worker_wait_for_it(hasty: Registry) -> None:
    await hasty.observe(NODE, listed(["s"]))
    before = await owner(hasty, "s")

    async def lost() -> bool:
        return isinstance(await hasty.owner_of("s"), Unowned)

    await until(lost)
    await register(hasty, "a")
    await keep(hasty)
    assert await beat(hasty, "a") == {}
    (row,) = [row for row in await hasty.workers() if row.existing]
    assert (row.sessions, row.waiting, row.beat_left) == (0, 1, 0.0)
    await hasty.observe(NODE, listed(["s"]))
    after = await owner(hasty, "s")
    assert (after.worker, after.fence > before.fence) == ("node:3001", True)


async def test_what_waits_for_a_worker_that_answers_again_and_does_not_list_it_still_waits(hasty: Registry) -> None:
    await hasty.observe(NODE, listed(["s"]))
    await asyncio.sleep(SHORT + 0.05)
    await hasty.lapse()
    await hasty.observe(NODE, {})
    found = await hasty.owner_of("s")
    assert isinstance(found, Unowned)
    assert found.last is not None
    assert (found.last.worker, found.last.live) == ("node:3001", True)


async def test_a_list_says_what_was_not_known_of_a_session(registry: Registry) -> None:
    await registry.observe(NODE, listed(["s"]))
    await registry.observe(NODE, {"s": ObservedSession("connected", "628", {"workspace_id": 7})})
    await registry.observe(NODE, {"s": ObservedSession("connected", "628", {"workspace_id": 8})})
    (row,) = (await registry.page("", 10, workspace="7")).rows
    assert (row.workspace, row.about) == ("7", {"workspace_id": 7})
