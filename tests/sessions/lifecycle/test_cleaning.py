"""What is stale is ended, by one process at a time; what is connected never is, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from sessions.ending import Why
from sessions.lifecycle import cleaning
from sessions.lifecycle.cleaning import Cleaner, find, stale
from sessions.lifecycle.cleanings import NotClosed, Run, cleanings
from sessions.lifecycle.closing import Closing, Outcome
from sessions.lifecycle.election import Election
from sessions.lifecycle.policies import Cleanup
from sessions.profiles.contents import InStore
from sessions.profiles.errors import ContentsAway
from sessions.records import SessionRow
from sessions.registry import ObservedSession, Purging, Registry, Report, Reserved, Unknown, Worker
from sluice.store.client import Store
from tests.sessions.making import beat, keep, register, run
from tests.sessions.profiles.making import profile
from tests.sessions.profiles.saving import login, make, restored, save

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
AT_ONCE = Cleanup(qr_scanning=0.001, disconnected=0.001, failed=0.001)
STATES = ["created", "starting", "qr_scanning", "authenticated", "connected", "disconnected", "logged_out", "failed"]


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


@pytest.fixture
def cleaner(registry: Registry, store: Store) -> Cleaner:
    return Cleaner(registry, Election(store, "one"), recorded_none)


async def erased_none(session: str) -> None:
    raise AssertionError(f"the profile of {session} was erased")


async def recorded_none(action: str, what: Mapping[str, object]) -> None:
    pass


async def say(registry: Registry, worker: str, states: dict[str, str]) -> None:
    held = await registry.beat(worker, "1", {}, {})
    reports = {name: Report(held[name], state) for name, state in states.items()}
    await registry.beat(worker, "1", reports, {})
    await asyncio.sleep(0.01)  # longer than what is stale at once


async def ended(registry: Registry) -> dict[str, str]:
    return {row.session: row.ended for row in await registry.sessions() if row.ended}


def row(state: str, seconds: float, *, over: str = "") -> SessionRow:
    nobody = (None, None, None, None)
    return SessionRow("s", {}, None, state, None, NOW - seconds, *nobody, ended=over)


@pytest.mark.parametrize(
    ("state", "seconds", "why"),
    [
        ("qr_scanning", 1799, []),
        ("qr_scanning", 1801, ["qr_scanning for 30m"]),
        ("disconnected", 86_401, ["disconnected for 1d"]),
        ("failed", 90_000, ["failed for 1d"]),
        ("connected", 600_000, []),
        ("created", 600_000, []),
        ("connected", 700_000, ["orphaned for 8d"]),
        ("created", 700_000, ["orphaned for 8d"]),
    ],
)
def test_which_are_stale_by_default(state: str, seconds: float, why: list[str]) -> None:
    assert [one.why for one in stale([row(state, seconds)], Cleanup(), NOW)] == why
    assert list(stale([row(state, seconds, over="deleted")], Cleanup(), NOW)) == []


async def test_a_run_ends_what_is_stale_and_leaves_the_rest(registry: Registry, cleaner: Cleaner) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a", "b", "c", "d")
    await say(registry, "w1", {"a": "qr_scanning", "b": "connected", "c": "disconnected", "d": "failed"})
    await cleaner.run_once(AT_ONCE, Closing(registry, ()), erased_none)
    assert await ended(registry) == dict.fromkeys("acd", "deleted")
    assert (await beat(registry, "w1")).keys() == {"b"}
    assert {one.reason for one in await registry.notices()} == {"deleted"}


async def test_a_dry_run_ends_nothing_and_finds_the_same(registry: Registry, cleaner: Cleaner) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a", "b")
    await say(registry, "w1", {"a": "qr_scanning", "b": "connected"})
    would = [one.session async for one in find(registry, AT_ONCE, 10)]
    await cleaner.run_once(replace(AT_ONCE, dry_run=True), Closing(registry, ()), erased_none)
    assert await ended(registry) == {}
    assert would == ["a"]


async def test_a_run_is_capped(registry: Registry, cleaner: Cleaner) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a", "b", "c")
    await say(registry, "w1", dict.fromkeys("abc", "failed"))
    await cleaner.run_once(replace(AT_ONCE, at_once=2, every=0.001), Closing(registry, ()), erased_none)
    assert len(await ended(registry)) == 2
    await asyncio.sleep(0.01)
    await cleaner.run_once(replace(AT_ONCE, at_once=2), Closing(registry, ()), erased_none)
    assert len(await ended(registry)) == 3


async def test_one_process_cleans_at_a_time_each_so_often(registry: Registry, store: Store) -> None:
    one, two = Election(store, "one"), Election(store, "two")
    assert await one.win(60.0)
    assert not await two.win(60.0)
    assert await one.win(60.0)
    await two.done(0.001)
    assert not await two.win(60.0)
    await one.done(0.2)
    assert not await one.win(60.0)
    await asyncio.sleep(0.25)
    assert await two.win(60.0)


async def test_another_process_goes_on_where_one_was_killed(registry: Registry, store: Store, cleaner: Cleaner) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a")
    await say(registry, "w1", {"a": "failed"})
    assert await Election(store, "killed").win(0.2)
    await cleaner.run_once(AT_ONCE, Closing(registry, ()), erased_none)
    assert await ended(registry) == {}
    await asyncio.sleep(0.25)
    await cleaner.run_once(AT_ONCE, Closing(registry, ()), erased_none)
    assert await ended(registry) == {"a": "deleted"}


async def test_where_the_one_that_cleans_is_killed_in_the_middle_another_ends_the_rest_and_nothing_twice(
    registry: Registry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "_HELD", 0.3)
    await register(registry, "w1")
    await run(registry, "w1", *"abcde")
    await say(registry, "w1", dict.fromkeys("abcde", "failed"))
    asked: list[str] = []

    class KilledAtTheThird(Closing):
        async def end(self, session: str, why: Why, **how: Any) -> Outcome:
            asked.append(session)
            if len(asked) == 3:
                raise KeyboardInterrupt
            return await super().end(session, why, **how)

    first = Cleaner(registry, Election(store, "killed"), recorded_none)
    with pytest.raises(KeyboardInterrupt):
        await first.run_once(AT_ONCE, KilledAtTheThird(registry, ()), erased_none)
    assert len(await ended(registry)) == 2
    second = Cleaner(registry, Election(store, "two"), recorded_none)
    await second.run_once(AT_ONCE, Closing(registry, ()), erased_none)
    assert len(await ended(registry)) == 2, "the lease of the first one holds still"
    await asyncio.sleep(0.35)
    await second.run_once(AT_ONCE, Closing(registry, ()), erased_none)
    assert (await ended(registry)).keys() == set("abcde")
    assert len(await registry.notices()) == 5
    last = (await cleanings(store)).last
    assert last is not None
    assert (last.by, last.ended) == ("two", 3)


@pytest.mark.slow
async def test_what_is_restored_comes_back_with_its_profile_and_what_is_purged_has_none(
    registry: Registry, cleaner: Cleaner, store: Store, tmp_path: Path
) -> None:
    vault = make(store, InStore(store))
    await register(registry, "w1")
    await run(registry, "w1", "a", "b")
    for seed, session in enumerate("ab"):
        await save(vault, profile(tmp_path / session, size=1000, seed=seed), session)
    await say(registry, "w1", {"a": "failed", "b": "failed"})
    await cleaner.run_once(replace(AT_ONCE, every=0.001), Closing(registry, ()), vault.erase)
    assert (await ended(registry)).keys() == {"a", "b"}
    await beat(registry, "w1")
    assert await registry.restore("a")
    await keep(registry)
    assert (await beat(registry, "w1")).keys() == {"a"}
    await restored(vault, tmp_path / "restored", "a")
    assert login(tmp_path / "restored") == login(tmp_path / "a")
    await asyncio.sleep(0.01)
    await cleaner.run_once(replace(Cleanup(), purge=0.001), Closing(registry, ()), vault.erase)
    assert {row.session for row in await registry.sessions()} == {"a"}
    assert await vault.generations.of("b") is None
    assert await vault.generations.of("a") is not None


async def test_what_is_restored_comes_back_and_is_not_cleaned_at_once(registry: Registry, cleaner: Cleaner) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a")
    await say(registry, "w1", {"a": "failed"})
    await cleaner.run_once(replace(AT_ONCE, every=0.001), Closing(registry, ()), erased_none)
    await beat(registry, "w1")
    assert await registry.restore("a")
    await keep(registry)
    assert "a" in await beat(registry, "w1")
    await asyncio.sleep(0.01)
    await cleaner.run_once(replace(Cleanup(), every=0.001), Closing(registry, ()), erased_none)
    assert await ended(registry) == {}


async def test_what_is_ended_for_long_is_purged_with_its_profile(registry: Registry, cleaner: Cleaner) -> None:
    await registry.want({"a": {}, "b": {}})
    await registry.end("a", "deleted")
    await asyncio.sleep(0.01)
    erased: list[str] = []

    async def erase(session: str) -> None:
        assert not await registry.restore(session)
        assert isinstance(await registry.reserve(session, {}), Purging)
        erased.append(session)

    await cleaner.run_once(replace(AT_ONCE, purge=0.001), Closing(registry, ()), erase)
    assert erased == ["a"]
    assert {row.session for row in await registry.sessions()} == {"b"}


async def test_a_purge_that_was_broken_off_is_brought_to_its_end(registry: Registry, store: Store) -> None:
    await registry.want({"a": {}})
    await registry.end("a", "deleted")
    await asyncio.sleep(0.01)
    policy = replace(AT_ONCE, purge=0.001)

    async def killed(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Cleaner(registry, Election(store, "one"), recorded_none).run_once(policy, Closing(registry, ()), killed)
    erased: list[str] = []

    async def erase(session: str) -> None:
        erased.append(session)

    await Cleaner(registry, Election(store, "one"), recorded_none).run_once(policy, Closing(registry, ()), erase)
    assert erased == ["a"]
    assert await registry.session("a") is None


@pytest.mark.parametrize("error", [ContentsAway("the bucket does not answer"), OSError(5, "Input/output error")])
async def test_a_vault_that_is_away_ends_no_gateway_and_the_purge_goes_on_later(
    registry: Registry, cleaner: Cleaner, store: Store, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "_AGAIN", 0.1)
    await registry.want({"a": {}})
    await registry.end("a", "deleted")
    await asyncio.sleep(0.01)

    async def away(_: str) -> None:
        raise error

    policy = replace(AT_ONCE, purge=0.001)
    await cleaner.run_once(policy, Closing(registry, ()), away)
    assert await registry.session("a") is not None
    await asyncio.sleep(0.15)
    erased: list[str] = []

    async def erase(session: str) -> None:
        erased.append(session)

    await cleaner.run_once(policy, Closing(registry, ()), erase)
    assert erased == ["a"]
    assert await registry.session("a") is None


async def test_one_that_was_created_again_is_not_purged(registry: Registry, cleaner: Cleaner) -> None:
    await register(registry, "w1")
    await registry.want({"a": {}})
    await registry.end("a", "deleted")
    ((session, since),) = await registry.ended_for(0.0, 10)
    held = await registry.reserve("a", {})
    assert isinstance(held, Reserved)
    assert not await registry.purge(session, since, erased=False)
    await registry.confirm("a", held.fence)
    assert not await registry.purge(session, since, erased=False)


async def test_one_that_an_existing_worker_does_not_close_stays(registry: Registry, cleaner: Cleaner) -> None:
    await registry.observe(Worker("x", "1", "http://x:1", 5), {"a": ObservedSession("qr_scanning")})
    await asyncio.sleep(0.01)
    await cleaner.run_once(AT_ONCE, Closing(registry, ()), erased_none)
    assert await ended(registry) == {}
    assert await registry.owner_of("a") != Unknown()


async def test_a_worker_that_closes_nothing_keeps_no_other_session_from_being_ended(
    registry: Registry, cleaner: Cleaner
) -> None:
    seen = {name: ObservedSession("qr_scanning") for name in ("a", "b", "c")}
    await registry.observe(Worker("x", "1", "http://x:1", 5), seen)
    await register(registry, "w1")
    await run(registry, "w1", "d")
    await say(registry, "w1", {"d": "failed"})
    await cleaner.run_once(replace(AT_ONCE, at_once=1), Closing(registry, ()), erased_none)
    assert await ended(registry) == {"d": "deleted"}


async def test_what_nobody_has_run_or_asked_for_in_long_is_an_orphan_and_laravels_list_keeps_it(
    registry: Registry, cleaner: Cleaner
) -> None:
    policy = Cleanup(orphaned=0.05, every=0.001)
    await register(registry, "w1", capacity=1)
    await run(registry, "w1", "runs")
    await registry.want({"orphan": {}, "listed": {}})
    await asyncio.sleep(0.06)
    await registry.ask_for(["listed", "runs", "nobody"])
    await cleaner.run_once(policy, Closing(registry, ()), erased_none)
    assert await ended(registry) == {"orphan": "deleted"}


async def test_an_orphan_that_is_given_to_a_worker_at_the_last_moment_stays(registry: Registry) -> None:
    await registry.want({"a": {}})
    await asyncio.sleep(0.02)
    found = [one async for one in find(registry, Cleanup(orphaned=0.01), 10)]
    await register(registry, "w1")
    await keep(registry)
    assert [await cleaning.clean(Closing(registry, ()), one) for one in found] == ["changed"]
    assert await ended(registry) == {}


async def test_what_a_run_did_is_told_until_the_next_one(registry: Registry, store: Store) -> None:
    done: list[tuple[str, object]] = []

    async def record(action: str, what: Mapping[str, object]) -> None:
        done.append((action, what["session"]))

    cleaner = Cleaner(registry, Election(store, "one"), record)
    assert (await cleanings(store)).last is None
    await registry.want({"old": {}})
    await registry.end("old", "deleted")
    await registry.observe(Worker("x", "1", "http://x:1", 5), {"stuck": ObservedSession("qr_scanning")})
    await register(registry, "w1")
    await run(registry, "w1", "a", "b", "c")
    await say(registry, "w1", dict.fromkeys("abc", "failed"))
    await cleaner.run_once(replace(AT_ONCE, at_once=2, purge=0.001), Closing(registry, ()), None)
    seen = await cleanings(store)
    assert seen.last is not None
    assert seen.last.not_closed in ((), (NotClosed("stuck", "x"),)), "it may not have come to that"
    assert replace(seen.last, not_closed=()) == Run("one", ended=2, more=True, purged=1)
    assert seen.by == ""
    assert seen.at is not None
    assert seen.due is not None
    assert seen.due - seen.at == 3600.0
    assert done == [("purge_session", "old")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([*STATES, "clean", "list"])), max_size=25))
async def test_no_history_of_events_ends_a_session_that_is_connected(
    store: Store, steps: list[tuple[str, str]]
) -> None:
    await store.commands(("FLUSHDB",))
    registry = Registry(store, 60.0)
    cleaner = Cleaner(registry, Election(store, "one"), recorded_none)
    await register(registry, "w1")
    held = await run(registry, "w1", "a", "b", "c")
    said: dict[str, str] = {}
    for session, step in steps:
        if step == "clean":
            connected = {name for name, state in said.items() if state == "connected"} & held.keys()
            await cleaner.run_once(replace(AT_ONCE, every=0.001), Closing(registry, ()), erased_none)
            assert not connected & (await ended(registry)).keys()
        elif step != "list" and session in held:
            said[session] = step
        reports = {name: Report(held[name], said.get(name, "starting"), name) for name in held}
        held = await registry.beat("w1", "1", reports, {})
        await asyncio.sleep(0.002)
