"""One phone, one connected session in a workspace, decided in the step in which a session becomes connected."""

from __future__ import annotations

import random

import pytest

from sessions.lifecycle.phones import Keep
from sessions.registry import (
    Changed,
    Ended,
    ObservedSession,
    Registry,
    Report,
    Reserved,
    StillRuns,
    Unknown,
    Worker,
)
from sluice.store.client import Store
from tests.sessions.making import keep, register

pytestmark = pytest.mark.anyio

PHONE = "491512345"
LONG = 60.0
EXISTING = Worker("x", "observed", "http://x:1", 10)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, LONG)


async def two(registry: Registry, *, workspaces: tuple[str, str] = ("1", "1")) -> dict[str, tuple[str, int]]:
    """Sessions a and b, each at a worker of its own: session → worker, fence."""
    await register(registry, "w1", "w2", capacity=1)
    for session, workspace in zip("ab", workspaces, strict=True):
        await registry.want({session: {"workspace_id": workspace}})
    await keep(registry)
    found = {}
    for name in ("w1", "w2"):
        for session, fence in (await registry.beat(name, "1", {}, {})).items():
            found[session] = (name, fence)
    assert found.keys() == {"a", "b"}
    return found


async def says(
    registry: Registry, held: dict[str, tuple[str, int]], session: str, state: str = "connected", phone: str = PHONE
) -> dict[str, int]:
    worker, fence = held[session]
    return await registry.beat(worker, "1", {session: Report(fence, state, phone)}, {})


@pytest.mark.parametrize(("rule", "stays", "yields"), [("newest", "b", "a"), ("oldest", "a", "b")])
async def test_of_two_sessions_of_a_phone_one_is_stopped_and_is_granted_to_nobody(
    registry: Registry, rule: Keep, stays: str, yields: str
) -> None:
    registry.keep = rule
    held = await two(registry)
    await says(registry, held, "a")
    await says(registry, held, "b", phone="+49 151 2345")
    assert await says(registry, held, stays) == {stays: held[stays][1]}
    assert await says(registry, held, yields) == {}
    worker = held[yields][0]
    assert await registry.beat(worker, "1", {}, {}) == {}
    await keep(registry)
    assert await registry.owner_of(yields) == Unknown()
    row = await registry.session(yields)
    assert row is not None
    assert (row.state, row.ended, row.reason, row.worker) == (
        "disconnected",
        "superseded",
        f"superseded by {stays}",
        None,
    )
    (notice,) = await registry.notices()
    assert (notice.session, notice.workspace, notice.reason) == (yields, "1", f"superseded by {stays}")
    assert await registry.notices([notice]) == []
    summary = await registry.summary()
    assert (summary.total, summary.ended, summary.unowned) == (1, 1, 0)


async def test_both_stay_where_that_is_allowed(registry: Registry) -> None:
    registry.keep = "allow"
    held = await two(registry)
    await says(registry, held, "a")
    assert await says(registry, held, "b") == {"b": held["b"][1]}
    assert await says(registry, held, "a") == {"a": held["a"][1]}
    assert await registry.notices() == []


async def test_another_workspace_or_phone_is_left_alone(registry: Registry) -> None:
    held = await two(registry, workspaces=("1", "2"))
    await says(registry, held, "a")
    await says(registry, held, "b")
    assert await says(registry, held, "a") == {"a": held["a"][1]}
    await says(registry, held, "a", state="disconnected")
    await says(registry, held, "a", phone="62811")
    assert await says(registry, held, "b") == {"b": held["b"][1]}


async def test_one_that_is_not_connected_any_more_does_not_yield(registry: Registry) -> None:
    held = await two(registry)
    await says(registry, held, "a")
    await says(registry, held, "a", state="disconnected")
    await says(registry, held, "b")
    assert await says(registry, held, "a", state="disconnected") == {"a": held["a"][1]}
    await says(registry, held, "a")
    assert await says(registry, held, "b") == {}


async def test_an_existing_worker_is_not_told_and_its_session_is_marked_as_long_as_both_are_connected(
    registry: Registry,
) -> None:
    both = {name: ObservedSession("connected", PHONE, {"workspace_id": 1}) for name in "ab"}
    await registry.observe(EXISTING, {"a": both["a"]})
    await registry.observe(EXISTING, both)
    (rival,) = await registry.rivals()
    assert (rival.session, rival.stays, rival.worker, rival.workspace) == ("a", "b", "x", "1")
    row = await registry.session("a")
    assert row is not None
    assert (row.rival, row.ended, row.state) == ("b", "", "connected")
    assert await registry.end("a", "superseded", stays="b") == StillRuns("x")
    await registry.observe(EXISTING, {**both, "b": ObservedSession("disconnected", PHONE)})
    assert await registry.rivals() == []
    row = await registry.session("a")
    assert row is not None
    assert row.rival == ""


async def test_an_existing_worker_that_has_closed_a_session_is_asked_for_it_no_more_until_it_runs_it_again(
    registry: Registry,
) -> None:
    seen = {"a": ObservedSession("connected", PHONE)}
    began = await registry.time()
    await registry.observe(EXISTING, seen)
    assert await registry.end("a", "superseded", stays="b", closed=True) == Ended("x", stops_first=False)
    await registry.observe(EXISTING, seen, began)  # a list of before
    assert await registry.owner_of("a") == Unknown()
    await registry.observe(EXISTING, seen, await registry.time() + 1)
    row = await registry.session("a")
    assert row is not None
    assert (row.ended, row.worker, row.state) == ("", "x", "connected")


@pytest.mark.parametrize(("listed", "over"), [(False, "deleted"), (True, "")])
async def test_what_was_to_be_closed_is_ended_once_its_worker_lists_it_no_more_whoever_was_killed_in_between(
    registry: Registry, listed: bool, over: str
) -> None:
    seen = {"a": ObservedSession("qr_scanning"), "b": ObservedSession("connected")}
    await registry.observe(EXISTING, seen)
    assert await registry.end("a", "deleted", by="cleanup", state="qr_scanning") == StillRuns("x")
    after = seen if listed else {"b": seen["b"]}
    await registry.observe(EXISTING, after, await registry.time() + 1)
    row = await registry.session("a")
    assert row is not None
    assert (row.ended, row.missing_since) == (over, None)
    assert [(one.session, one.by) for one in await registry.notices()] == ([] if listed else [("a", "cleanup")])


async def test_what_has_changed_since_it_was_to_be_closed_is_missing_and_not_ended(registry: Registry) -> None:
    await registry.observe(EXISTING, {"a": ObservedSession("qr_scanning")})
    await registry.end("a", "deleted")
    await registry.observe(EXISTING, {"a": ObservedSession("connected")})
    await registry.observe(EXISTING, {}, await registry.time() + 1)
    row = await registry.session("a")
    assert row is not None
    assert (row.ended, row.missing_since is not None) == ("", True)


async def test_only_what_is_as_it_was_is_ended(registry: Registry) -> None:
    held = await two(registry)
    await says(registry, held, "a", state="qr_scanning", phone="")
    row = await registry.session("a")
    assert row is not None
    await says(registry, held, "a")
    assert await registry.end("a", "deleted", state="qr_scanning", since=row.since) == Changed()
    assert await registry.end("nobody", "deleted") == Unknown()
    assert await registry.end("a", "deleted", state="connected") == Ended(held["a"][0], stops_first=True)
    assert await registry.end("a", "deleted") == Ended(held["a"][0], stops_first=True)


async def test_one_that_is_just_being_created_is_not_ended(registry: Registry) -> None:
    await register(registry, "w1")
    assert isinstance(await registry.reserve("new", {}), Reserved)
    assert await registry.end("new", "deleted") == Unknown()


async def test_an_ended_session_is_granted_again_when_it_is_restored(registry: Registry) -> None:
    held = await two(registry)
    await registry.end("a", "deleted")
    await registry.beat(held["a"][0], "1", {}, {})
    await keep(registry)
    assert await registry.owner_of("a") == Unknown()
    assert await registry.restore("a")
    assert not await registry.restore("a")
    await keep(registry)
    again = await registry.beat(held["a"][0], "1", {}, {})
    assert again["a"] > held["a"][1]
    assert await registry.notices() == []


async def test_one_that_is_restored_while_it_is_being_stopped_is_stopped_first(registry: Registry) -> None:
    held = await two(registry)
    await says(registry, held, "a")
    await registry.end("a", "deleted")
    assert await registry.restore("a")
    assert await says(registry, held, "a") == {}
    await registry.beat(held["a"][0], "1", {}, {})
    await keep(registry)
    assert (await registry.beat(held["a"][0], "1", {}, {}))["a"] > held["a"][1]


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_create_of_an_ended_session_brings_it_back_once_its_worker_has_accepted(
    registry: Registry, accepted: bool
) -> None:
    held = await two(registry)
    await registry.end("a", "deleted")
    await registry.beat(held["a"][0], "1", {}, {})
    place = await registry.reserve("a", {"workspace_id": "1"})
    assert isinstance(place, Reserved)
    await (registry.confirm if accepted else registry.cancel)("a", place.fence)
    row = await registry.session("a")
    assert row is not None
    assert row.ended == ("" if accepted else "deleted")
    assert len(await registry.notices()) == (0 if accepted else 1)


async def test_whatever_two_workers_say_in_whatever_order_one_of_them_is_left(registry: Registry) -> None:
    chance = random.Random(7)
    held = await two(registry)
    runs = set(held)
    for _ in range(60):
        session = chance.choice("ab")
        if session not in runs:
            continue
        answer = await says(registry, held, session, chance.choice(["connected", "disconnected"]))
        if session not in answer:
            runs.discard(session)
            await registry.beat(held[session][0], "1", {}, {})
        rows = [row for row in await registry.sessions() if row.state == "connected" and not row.ended]
        assert len(rows) <= 1
    assert len(runs) == 1


# --- before Laravel hears of it


async def test_the_one_that_stays_is_announced_last_whatever_comes_first(registry: Registry) -> None:
    held = await two(registry)
    first = await registry.ready("a", PHONE, fence=held["a"][1])
    second = await registry.ready("b", PHONE, fence=held["b"][1])
    assert first is not None
    assert second is not None
    assert (first.yields, second.yields) == ("", "")
    assert second.order > first.order, "so that it supersedes the other one, though that may be stored later"
    late = await registry.ready("a", PHONE, fence=held["a"][1])
    assert late is not None
    assert late.yields == "superseded by b"
    row = await registry.session("b")
    assert row is not None
    assert (row.state, row.phone) == ("connected", PHONE)


async def test_with_oldest_the_later_one_is_not_announced(registry: Registry) -> None:
    registry.keep = "oldest"
    held = await two(registry)
    await registry.ready("a", PHONE, fence=held["a"][1])
    found = await registry.ready("b", PHONE, fence=held["b"][1])
    assert found is not None
    assert found.yields == "superseded by a"


async def test_where_both_may_stay_one_that_has_lost_its_row_at_laravel_is_not_announced_again(
    registry: Registry,
) -> None:
    registry.keep = "allow"
    held = await two(registry)

    async def ready(session: str) -> str:
        found = await registry.ready(session, PHONE, fence=held[session][1])
        assert found is not None
        return found.yields

    assert (await ready("a"), await ready("b")) == ("", ""), "Laravel removes the row of a, and b has the phone"
    assert (await ready("a"), await ready("b")) == ("b", "")
    await says(registry, held, "b", state="disconnected")
    assert await ready("a") == ""


async def test_nobody_can_say_of_a_session_that_is_not_the_senders(registry: Registry) -> None:
    held = await two(registry)
    assert await registry.ready("a", PHONE, fence=held["a"][1] - 1) is None
    assert await registry.ready("a", PHONE, worker="x") is None
    assert await registry.ready("nobody", PHONE, fence=1) is None
    place = await registry.reserve("new", {})
    assert not isinstance(place, Reserved) or await registry.ready("new", PHONE, fence=place.fence) is None


async def test_a_session_of_an_existing_worker_that_is_to_yield_is_not_announced_again(registry: Registry) -> None:
    await registry.observe(EXISTING, {name: ObservedSession("authenticated", "", {"workspace_id": 1}) for name in "ab"})
    for name in "ab":
        await registry.ready(name, PHONE, worker="x")
    again = await registry.ready("a", PHONE, worker="x")
    assert again is not None
    assert again.yields == "b"
    (rival,) = await registry.rivals()
    assert (rival.session, rival.stays) == ("a", "b")


async def test_a_session_that_was_just_closed_for_another_is_not_announced_by_a_late_webhook(
    registry: Registry,
) -> None:
    await registry.observe(EXISTING, {"a": ObservedSession("connected", PHONE)})
    await registry.end("a", "superseded", stays="b", closed=True)
    late = await registry.ready("a", PHONE, worker="x")
    assert late is not None
    assert late.yields == "superseded by b"
