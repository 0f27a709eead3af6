"""What is wrong with sessions is noted once, restarted as the policies say, and noted once more when it is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from sessions.lifecycle.election import WATCHER, Election
from sessions.lifecycle.policies import KINDS, Watch
from sessions.lifecycle.restarting import Restarting
from sessions.lifecycle.watching import Watcher
from sessions.policies import ExistingWorker
from sessions.registry import Registry, Report
from sessions.signs import Telling
from sessions.watched import Restarted, Seen
from sluice.config.model import Rate
from sluice.store.client import Store
from tests.sessions.making import keep, listed, register, run, worker
from tests.waiting import until

pytestmark = pytest.mark.anyio

FAST = Watch(
    silent=0.02, flapping=Rate(3, 60.0), starting=0.02, qr_scanning=0.02, authenticated=0.02, disconnected=0.02
)
CURED = replace(FAST, restart=KINDS, restarts=Rate(2, 3600.0))


async def unrecorded(action: str, what: Mapping[str, object]) -> None:
    """No audit log."""


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


@pytest.fixture
def watcher(registry: Registry, store: Store) -> Watcher:
    return watching(registry, store, "one")


def watching(registry: Registry, store: Store, name: str) -> Watcher:
    return Watcher(registry, Election(store, name, WATCHER), lambda _: False, unrecorded)


async def look(watcher: Watcher, registry: Registry, policy: Watch = FAST) -> None:
    """Now, whenever it is due."""
    await registry._store.commands(("DEL", WATCHER))
    watcher._again = 0.0
    await watcher.run_once(policy, Restarting(registry, ()))
    await watcher.settled()


async def say(registry: Registry, state: str, *sessions: str, name: str = "w1") -> None:
    held = await registry.beat(name, "1", {}, {})
    await registry.beat(name, "1", {session: Report(held[session], state) for session in sessions}, {})
    await asyncio.sleep(0.03)  # longer than FAST gives it


async def told(registry: Registry) -> list[tuple[str, str, str]]:
    return [(one.what, one.session, one.kind) for one in await registry.untold()]


async def kinds(registry: Registry) -> dict[str, str]:
    return {row.session: row.fault.kind for row in await registry.sessions() if row.fault is not None}


async def test_one_that_is_stuck_is_noted_once_and_once_more_when_it_is_over(
    registry: Registry, watcher: Watcher, store: Store
) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a", "b")
    await say(registry, "qr_scanning", "a")
    other = watching(registry, store, "two")
    for _ in range(3):
        await look(watcher, registry)
        await look(other, registry)
    assert await kinds(registry) == {"a": "qr_scanning"}
    assert await told(registry) == [("unhealthy", "a", "qr_scanning")]
    assert (await registry.summary()).faults == {"qr_scanning": 1}
    await say(registry, "connected", "a")
    for _ in range(2):
        await look(watcher, registry)
        await look(other, registry)
    assert await kinds(registry) == {}
    assert await told(registry) == [("unhealthy", "a", "qr_scanning"), ("recovered", "a", "qr_scanning")]
    assert (await registry.summary()).faults == {}
    row = await registry.session("a")
    assert row is not None
    whats = [line.what for line in row.history if "well" in line.what]
    assert whats == [
        "not well (qr_scanning): it is qr_scanning for 0m",
        "well again (qr_scanning): it is connected, and does well",
    ]


async def test_another_kind_is_the_same_trouble_going_on(registry: Registry, watcher: Watcher) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a")
    await say(registry, "qr_scanning", "a")
    await look(watcher, registry)
    await say(registry, "authenticated", "a")
    await look(watcher, registry)
    assert await kinds(registry) == {"a": "authenticated"}
    assert await told(registry) == [("unhealthy", "a", "qr_scanning")]
    assert (await registry.summary()).faults == {"authenticated": 1}


async def test_one_that_loses_its_connection_again_and_again_is_flapping(registry: Registry, watcher: Watcher) -> None:
    """Also where each time it goes through all of its states, which are more than its history keeps."""
    await register(registry, "w1")
    await run(registry, "w1", "a")
    for _ in range(3):
        for state in ("disconnected", "starting", "qr_scanning", "authenticated", "connected"):
            await say(registry, state, "a")
            await look(
                watcher, registry, replace(FAST, starting=None, qr_scanning=None, authenticated=None, disconnected=None)
            )
    assert await kinds(registry) == {"a": "flapping"}


async def test_a_silent_one_is_found_and_is_over_when_an_event_comes(registry: Registry, watcher: Watcher) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a", "b")
    await asyncio.sleep(0.03)
    await registry.see([Seen("a", 0.02, 0.01, False), Seen("b", 0.02, None, False)])
    await asyncio.sleep(0.03)
    await look(watcher, registry)
    assert await kinds(registry) == {"a": "silent"}
    await look(watcher, registry)
    await registry.see([Seen("a", 0.0, None, False)])
    await look(watcher, registry)
    assert await kinds(registry) == {}
    assert await told(registry) == [("unhealthy", "a", "silent"), ("recovered", "a", "silent")]


async def test_its_worker_of_ours_restarts_it_under_a_new_fence(registry: Registry, watcher: Watcher) -> None:
    await register(registry, "w1")
    held = await run(registry, "w1", "a")
    await say(registry, "disconnected", "a")
    await look(watcher, registry, CURED)
    answer = await registry.beat("w1", "1", {"a": Report(held["a"], "disconnected")}, {})
    assert answer == {}, "it is told to stop it"
    again = await registry.beat("w1", "1", {}, {})
    assert again["a"] > held["a"]
    await registry.beat("w1", "1", {"a": Report(again["a"], "connected")}, {})
    await look(watcher, registry, CURED)
    assert await told(registry) == [("unhealthy", "a", "disconnected"), ("recovered", "a", "disconnected")]


async def test_restarts_are_bounded_whoever_asks_for_them(registry: Registry, store: Store) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a")
    watchers = [watching(registry, store, name) for name in ("one", "two")]
    for _ in range(4):
        await say(registry, "qr_scanning", "a")
        for each in watchers:
            await look(each, registry, CURED)
    row = await registry.session("a")
    assert row is not None
    assert len(row.signs.restarts) == 2
    assert [line.what for line in row.history].count("restarted at w1") == 2
    assert await told(registry) == [("unhealthy", "a", "qr_scanning")]


async def test_what_the_policies_do_not_name_is_not_restarted(registry: Registry, watcher: Watcher) -> None:
    await register(registry, "w1")
    held = await run(registry, "w1", "a")
    await say(registry, "qr_scanning", "a")
    await look(watcher, registry, replace(CURED, restart=("silent",)))
    assert await registry.beat("w1", "1", {}, {}) == {"a": held["a"]}


async def test_none_is_restarted_while_a_send_is_in_flight(registry: Registry, store: Store) -> None:
    await register(registry, "w1")
    held = await run(registry, "w1", "a", "b")
    await say(registry, "qr_scanning", "a", "b")
    await registry.see([Seen("a", None, None, True)])
    watcher = Watcher(registry, Election(store, "one", WATCHER), lambda session: session == "b", unrecorded)
    await look(watcher, registry, CURED)
    assert await registry.restart("a") == "sending"
    assert await registry.beat("w1", "1", {}, {}) == held


async def test_two_who_restart_one_at_once_restart_it_once(registry: Registry) -> None:
    await registry.observe(worker("old"), listed(["a"], "disconnected"))
    row = await registry.session("a")
    assert row is not None
    asked = await asyncio.gather(*(registry.restart("a", most=3, state=row.state, as_of=row.since) for _ in range(5)))
    assert Counter(map(str, asked)) == {"restarting": 4, str(Restarted("old", ask=True)): 1}
    await registry.restarted("a", "old has restarted it")
    assert await registry.restart("a", most=3) == Restarted("old", ask=True)


async def test_what_has_changed_or_has_no_worker_is_not_restarted(registry: Registry) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a")
    row = await registry.session("a")
    assert row is not None
    assert await registry.restart("a", state="starting", as_of=row.since) == "changed"
    assert await registry.restart("a", state=row.state, as_of=row.since - 1) == "changed"
    assert await registry.restart("nobody") == "unknown"
    await registry.want({"waits": {}})
    assert await registry.restart("waits") == "unowned"
    await registry.end("a", "deleted")
    assert await registry.restart("a") == "unowned"


async def test_a_session_that_moves_is_not_restarted(registry: Registry) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a")
    await registry.release("a")
    assert await registry.restart("a") == "unowned"


async def test_an_existing_worker_without_a_workspace_or_a_name_is_not_asked(registry: Registry) -> None:
    await registry.observe(worker("old"), listed(["a"], "disconnected"))
    row = await registry.session("a")
    assert row is not None
    assert (await Restarting(registry, ()).restart(row, "me")).outcome == "unnamed"
    named = ExistingWorker("http://old:3000", name="old")
    assert (await Restarting(registry, [named]).restart(row, "me")).outcome == "no_workspace"
    after = await registry.session("a")
    assert after is not None
    assert after.signs.restarts == ()


async def test_another_process_goes_on_where_one_was_killed(registry: Registry, store: Store, watcher: Watcher) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a")
    await say(registry, "qr_scanning", "a")
    assert await Election(store, "killed", WATCHER).win(0.3)
    await watcher.run_once(FAST, Restarting(registry, ()))
    assert await kinds(registry) == {}

    async def noted() -> bool:
        watcher._again = 0.0
        await watcher.run_once(FAST, Restarting(registry, ()))
        return await kinds(registry) == {"a": "qr_scanning"}

    await until(noted)
    assert await told(registry) == [("unhealthy", "a", "qr_scanning")]


async def test_one_that_is_ended_or_forgotten_is_not_unwell_any_more(registry: Registry, watcher: Watcher) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a", "b")
    await say(registry, "qr_scanning", "a", "b")
    await look(watcher, registry)
    assert (await registry.summary()).faults == {"qr_scanning": 2}
    await registry.end("a", "deleted")
    await registry.forget("b")
    await look(watcher, registry)
    assert (await registry.summary()).faults == {}
    assert set(await told(registry)) == {
        ("unhealthy", "a", "qr_scanning"),
        ("unhealthy", "b", "qr_scanning"),
        ("recovered", "a", "qr_scanning"),
    }


async def test_one_whose_worker_is_lost_stays_noted_until_it_runs_again(registry: Registry, watcher: Watcher) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a")
    await say(registry, "disconnected", "a")
    await look(watcher, registry)
    await registry.deregister("w1", "1")
    await look(watcher, registry)
    assert await kinds(registry) == {"a": "disconnected"}
    await register(registry, "w2")
    await keep(registry)
    await say(registry, "connected", "a", name="w2")
    await look(watcher, registry)
    assert await kinds(registry) == {}


async def test_a_telling_stays_until_it_was_given(registry: Registry, watcher: Watcher) -> None:
    await register(registry, "w1")
    await run(registry, "w1", "a\tb")
    await say(registry, "qr_scanning", "a\tb")
    await look(watcher, registry)
    first: list[Telling] = await registry.untold()
    assert [one.session for one in first] == ["a\tb"]
    assert await registry.untold(first) == []
    assert await registry.untold(first) == []
