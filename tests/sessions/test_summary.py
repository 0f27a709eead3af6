"""How the sessions stand in numbers, kept by the scripts that change them; and what is told of one."""

from __future__ import annotations

import time

import pytest

from sessions.registry import ObservedSession, Registry, Report, Worker
from sluice.store.client import Store
from tests.sessions.making import keep

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


async def run_sessions(registry: Registry, states: dict[str, str], name: str = "a") -> dict[str, int]:
    await registry.register(Worker(name, "1", f"http://{name}:3000", 100_000))
    await registry.want({session: {} for session in states})
    await keep(registry)
    held = await registry.beat(name, "1", {}, {})
    await registry.beat(name, "1", {session: Report(held[session], state) for session, state in states.items()}, {})
    return held


async def observe_sessions(registry: Registry, count: int) -> set[str]:
    names = {f"s{i:05}" for i in range(count)}
    await registry.observe(
        Worker("old", "observed", "http://old:3000", count),
        {name: ObservedSession("connected", about={"workspace_id": int(name[1:]) % 5}) for name in names},
    )
    return names


async def test_states_that_nobody_has_any_more_are_forgotten(registry: Registry) -> None:
    held = await run_sessions(registry, {"s1": "qr_scanning", "s2": "qr_scanning", "s3": "connected"})
    assert (await registry.summary()).states == {"qr_scanning": 2, "connected": 1}
    await registry.beat("a", "1", {session: Report(fence, "connected") for session, fence in held.items()}, {})
    assert (await registry.summary()).states == {"connected": 3}
    await registry.forget("s1")
    await registry.forget("s1")
    seen = await registry.summary()
    assert (seen.states, seen.total, seen.connected, seen.unowned) == ({"connected": 2}, 2, 2, 0)


async def test_the_words_of_a_worker_do_not_become_states(registry: Registry) -> None:
    await run_sessions(registry, {f"s{i}": f"state-{i}" for i in range(50)} | {"t": "error"})
    seen = await registry.summary()
    assert seen.states == {"created": 50, "failed": 1}
    row = await registry.session("s7")
    assert row is not None
    assert row.reason == "reported as state-7"
    row = await registry.session("t")
    assert row is not None
    assert (row.state, row.reason) == ("failed", "error")


async def test_a_report_that_cannot_follow_is_noted_and_counted_once_and_not_applied(registry: Registry) -> None:
    held = await run_sessions(registry, {"s": "logged_out"})
    for _ in range(3):
        await registry.beat("a", "1", {"s": Report(held["s"], "disconnected")}, {})
    row = await registry.session("s")
    assert row is not None
    assert row.state == "logged_out"
    assert [line.what for line in row.history][-1] == "refused logged_out > disconnected"
    assert (await registry.summary()).impossible == 1


async def test_a_session_that_nobody_runs_is_not_connected(registry: Registry) -> None:
    await run_sessions(registry, {"s1": "connected", "s2": "failed", "s3": "connected"})
    await registry.deregister("a", "1")
    seen = await registry.summary()
    assert (seen.connected, seen.unowned, seen.states) == (0, 3, {"connected": 2, "failed": 1})


async def test_workers_are_told_with_what_they_hold(registry: Registry) -> None:
    await run_sessions(registry, {"s1": "connected", "s2": "connected"}, "b")
    await registry.beat("b", "1", {}, {}, load={"memory": 0.5, "cpu": 0.25})
    await registry.observe(Worker("a", "observed", "http://a:3000", 5), {"t": ObservedSession("connected")})
    first, second = (await registry.summary()).workers
    assert (first.worker, first.sessions, first.existing, first.capacity) == ("a", 1, True, 5)
    assert (second.worker, second.sessions, second.existing, second.url) == ("b", 2, False, "http://b:3000")
    assert (second.memory, second.cpu, second.draining) == (0.5, 0.25, False)


async def test_the_last_twenty_changes_of_a_session_are_told(registry: Registry) -> None:
    held = await run_sessions(registry, {"s": "connected"})
    row = await registry.session("s")
    assert row is not None
    assert [(line.what, line.who) for line in row.history] == [
        ("wanted", "gateway"),
        ("granted to a", "keeper"),
        ("created > connected", "a"),
    ]
    for i in range(30):
        state = "disconnected" if i % 2 == 0 else "connected"
        await registry.beat("a", "1", {"s": Report(held["s"], state, reason=f"line\t{i}\nx")}, {})
    row = await registry.session("s")
    assert row is not None
    assert len(row.history) == 20
    assert row.history[-1].what == "disconnected > connected: line 29 x"
    assert all(one.at <= other.at for one, other in zip(row.history, row.history[1:], strict=False))
    assert (await registry.page("", 10)).rows[0].history == ()


async def test_pages_have_every_session_and_one_is_found_by_name(registry: Registry) -> None:
    names = await observe_sessions(registry, 2500)
    found, go_on, pages = set[str](), "", 0
    while pages == 0 or go_on:
        page = await registry.page(go_on, 1000)
        found |= {row.session for row in page.rows}
        go_on, pages = page.go_on, pages + 1
        assert len(page.rows) < 1500
    assert (found, pages > 1) == (names, True)
    row = await registry.session("s00007")
    assert row is not None
    assert (row.session, row.worker, row.state) == ("s00007", "old", "connected")
    assert await registry.session("nobody") is None


async def test_pages_of_a_workspace_have_its_sessions_alone(registry: Registry) -> None:
    names = await observe_sessions(registry, 2500)
    found, go_on = set[str](), "begin"
    while go_on:
        page = await registry.page("" if go_on == "begin" else go_on, 1000, workspace="3")
        found |= {row.session for row in page.rows}
        go_on = page.go_on
    assert found == {name for name in names if int(name[1:]) % 5 == 3}
    assert (await registry.page("", 1000, workspace="nobody")).rows == ()


@pytest.mark.slow
async def test_a_summary_costs_no_more_with_ten_thousand_sessions(registry: Registry) -> None:
    async def cost() -> float:
        """Seconds, the best of some."""
        best = 1.0
        for _ in range(30):
            began = time.perf_counter()
            await registry.summary()
            best = min(best, time.perf_counter() - began)
        return best

    await run_sessions(registry, {"first": "connected"})
    one = await cost()
    await observe_sessions(registry, 10_000)
    assert await cost() < one * 3 + 0.001
