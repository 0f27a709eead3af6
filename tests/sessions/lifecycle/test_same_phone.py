"""What else has had a phone is looked at as soon as a session is connected with it, or is created that has had it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sessions.lifecycle import same_phone
from sessions.lifecycle.closing import Closing
from sessions.lifecycle.phones import Keep
from sessions.lifecycle.policies import Cleanup
from sessions.lifecycle.same_phone import Useless, useless
from sessions.records import SessionRow
from sessions.registry import ObservedSession, Registry, Report, Worker
from sluice.store.client import Store
from tests.sessions.making import register, reserved, run

pytestmark = pytest.mark.anyio

NOW, PHONE = 1_800_000_000.0, "491"
OLD = Worker("x", "observed", "http://x:1", 10)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


def row(state: str, seconds: float = 0.0, *, over: str = "") -> SessionRow:
    of_worker = ("w1", "http://w1:1", 1, 60.0)
    return SessionRow("s", {}, None, state, PHONE, NOW - seconds, *of_worker, ended=over)


@pytest.mark.parametrize(
    ("state", "seconds", "connected", "found"),
    [
        ("disconnected", 1, "b", Useless("superseded", "disconnected; b is connected with its phone")),
        ("failed", 1, "b", Useless("superseded", "failed; b is connected with its phone")),
        ("disconnected", 1, "", None),
        ("disconnected", 90_000, "", Useless("deleted", "disconnected for 1d")),
        ("qr_scanning", 60, "b", None),
        ("qr_scanning", 2000, "b", Useless("deleted", "qr_scanning for 33m")),
        ("starting", 60, "b", None),
        ("connected", 10**6, "b", None),
        ("disconnected", 90_000, "s", None),
    ],
)
def test_which_are_of_no_use(state: str, seconds: float, connected: str, found: Useless | None) -> None:
    assert useless(row(state, seconds), connected, Cleanup(), NOW) == found
    assert useless(row(state, seconds, over="deleted"), connected, Cleanup(), NOW) is None


async def look(registry: Registry, policy: Cleanup | None, keep: Keep = "newest", *, enforce: bool = False) -> set[str]:
    """Those that are ended then."""
    await same_phone.run_once(registry, Closing(registry, ()), policy, keep, enforce=enforce)
    return {one.session for one in await registry.sessions() if one.ended}


async def says(registry: Registry, held: dict[str, int], states: dict[str, str]) -> None:
    reports = {
        name: Report(held[name], state, PHONE if state == "connected" else None) for name, state in states.items()
    }
    await registry.beat("w1", "1", reports, {})


async def three(registry: Registry) -> dict[str, int]:
    """Of one phone: a stands at its code, b has lost its connection."""
    await register(registry, "w1")
    held = await run(registry, "w1", "a", "b", "c")
    for name in "ab":
        await says(registry, held, {"a": "disconnected", "b": "disconnected"} | {name: "connected"})
    await says(registry, held, {"a": "qr_scanning", "b": "disconnected", "c": "authenticated"})
    return held


@pytest.mark.parametrize(("keep", "over"), [("newest", {"b"}), ("oldest", {"b"}), ("allow", set())])
async def test_one_that_becomes_connected_ends_those_of_its_phone_that_have_lost_their_connection(
    registry: Registry, keep: Keep, over: set[str]
) -> None:
    registry.keep = keep
    held = await three(registry)
    assert await look(registry, Cleanup(), keep) == set()
    await says(registry, held, {"a": "qr_scanning", "b": "disconnected", "c": "connected"})
    assert await look(registry, Cleanup(), keep) == over
    if over:
        found = await registry.session("b")
        assert found is not None
        assert (found.ended, found.reason) == ("superseded", "superseded by c")
    assert await registry.phones_in_use() == [], "it was looked at"


async def test_one_that_is_stale_at_its_code_goes_then_too(registry: Registry) -> None:
    held = await three(registry)
    await says(registry, held, {"a": "qr_scanning", "b": "disconnected", "c": "connected"})
    await asyncio.sleep(0.01)
    assert await look(registry, replace(Cleanup(), qr_scanning=0.001)) == {"a", "b"}


async def test_without_a_policy_or_as_a_dry_run_nothing_is_ended(registry: Registry) -> None:
    held = await three(registry)
    await says(registry, held, {"a": "qr_scanning", "b": "disconnected", "c": "connected"})
    assert await look(registry, replace(Cleanup(), dry_run=True)) == set()
    await says(registry, held, {"a": "qr_scanning", "b": "disconnected", "c": "disconnected"})
    await says(registry, held, {"a": "qr_scanning", "b": "disconnected", "c": "connected"})
    assert await look(registry, None) == set()
    assert await registry.phones_in_use() == []


async def test_a_create_of_one_that_has_had_a_phone_has_the_stale_ones_looked_at(registry: Registry) -> None:
    held = await three(registry)
    await look(registry, None)
    await registry.end("b", "deleted")
    await says(registry, held, {"a": "qr_scanning", "c": "authenticated"})
    await registry.beat("w1", "1", {name: Report(held[name], "qr_scanning") for name in "ac"}, {})
    assert await registry.phones_in_use() == []
    await reserved(registry, "b")
    await asyncio.sleep(0.01)
    assert await look(registry, Cleanup(qr_scanning=0.001)) == {"a", "b"}, "b is ended until its worker has accepted"


@pytest.mark.parametrize("enforce", [False, True])
async def test_an_existing_worker_is_asked_to_close_what_is_not_stale_by_itself_only_with_enforce(
    registry: Registry, enforce: bool
) -> None:
    both = {"a": ObservedSession("connected", PHONE), "b": ObservedSession("qr_scanning")}
    await registry.observe(OLD, both)
    await registry.observe(OLD, {"a": ObservedSession("disconnected", PHONE), "b": ObservedSession("connected", PHONE)})
    asked: list[str] = []

    class Asked(Closing):
        async def _closed(self, name: str, session: str) -> bool:
            asked.append(session)
            return True

    await same_phone.run_once(registry, Asked(registry, ()), Cleanup(), "newest", enforce=enforce)
    assert asked == (["a"] if enforce else [])


async def test_who_is_killed_while_he_looks_is_followed_by_another(registry: Registry) -> None:
    held = await three(registry)
    await says(registry, held, {"a": "qr_scanning", "b": "disconnected", "c": "connected"})
    (claimed,) = await registry.phones_in_use(claim=0.05)
    assert (claimed.connected, set(claimed.idle)) == ("c", {"a", "b"})
    assert await registry.phones_in_use() == []
    await asyncio.sleep(0.06)
    assert await look(registry, Cleanup()) == {"b"}
