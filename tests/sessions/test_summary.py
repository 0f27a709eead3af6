"""How the sessions stand in numbers, kept by the scripts that change them."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter

import pytest

from sessions.registry import ObservedSession, Owner, Registry, Report, UnknownWorker, Worker
from sluice.store.client import Store

pytestmark = pytest.mark.anyio

COUNTS = "sl:{sessions}:counts"
STATES = ("qr_scanning", "connected", "disconnected", "failed")


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


async def run_sessions(registry: Registry, states: dict[str, str], name: str = "a") -> dict[str, int]:
    await registry.register(Worker(name, "1", f"http://{name}:3000", 100_000))
    await registry.want({session: {} for session in states})
    held = await registry.beat(name, "1", {}, {})
    await registry.beat(name, "1", {session: Report(held[session], state) for session, state in states.items()}, {})
    return held


async def observe_sessions(registry: Registry, count: int) -> set[str]:
    names = {f"s{i:05}" for i in range(count)}
    await registry.observe(
        Worker("old", "observed", "http://old:3000", count), {name: ObservedSession("connected") for name in names}
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


async def test_the_words_of_a_worker_do_not_become_names_without_a_bound(registry: Registry) -> None:
    await run_sessions(registry, {f"s{i}": f"state-{i}" for i in range(500)} | {"t": 'con"nected] 1'})
    seen = await registry.summary()
    assert seen.states == {"other": 501}
    assert seen.connected == 0


async def test_a_session_that_nobody_runs_is_not_connected(registry: Registry) -> None:
    await run_sessions(registry, {"s1": "connected", "s2": "failed", "s3": "connected"})
    await registry.deregister("a", "1")
    seen = await registry.summary()
    assert (seen.connected, seen.unowned, seen.states) == (0, 3, {"connected": 2, "failed": 1})


async def test_workers_are_told_with_what_they_hold(registry: Registry) -> None:
    await run_sessions(registry, {"s1": "connected", "s2": "connected"}, "b")
    await registry.observe(Worker("a", "observed", "http://a:3000", 5), {"t": ObservedSession("connected")})
    first, second = (await registry.summary()).workers
    assert (first.worker, first.sessions, first.existing, first.capacity) == ("a", 1, True, 5)
    assert (second.worker, second.sessions, second.existing, second.url) == ("b", 2, False, "http://b:3000")


async def test_counts_that_do_not_add_up_are_counted_anew(registry: Registry, store: Store) -> None:
    await run_sessions(registry, {"s1": "connected", "s2": "failed"})
    for damage in (("DEL", COUNTS), ("HSET", COUNTS, "connected", "-7"), ("HSET", COUNTS, "gone", "3")):
        await store.commands(damage)
        assert (await registry.summary()).states == {"connected": 1, "failed": 1}


async def test_a_recount_puts_right_what_adds_up_by_chance(registry: Registry, store: Store) -> None:
    await run_sessions(registry, {"s1": "connected", "s2": "failed"})
    await store.commands(("HSET", COUNTS, "connected", "2", "failed", "0"))
    assert (await registry.summary(recount=True)).states == {"connected": 1, "failed": 1}


async def test_whatever_happens_the_counts_are_those_of_the_sessions(registry: Registry) -> None:
    chance = random.Random(16)
    names = [f"s{i}" for i in range(12)]
    for _ in range(200):
        name, worker = chance.choice(names), chance.choice(("a", "b"))
        match chance.randrange(6):
            case 0:
                await registry.want({name: {}})
            case 1:
                await registry.forget(name)
            case 2:
                await registry.register(Worker(worker, str(chance.randrange(2)), f"http://{worker}:1", 6))
            case 3:
                await registry.deregister(worker, str(chance.randrange(2)))
            case 4:
                owner = await registry.owner_of(name)
                if isinstance(owner, Owner) and owner.worker in ("a", "b"):
                    for instance in ("0", "1"):
                        reported = {name: Report(owner.fence, chance.choice(STATES))}
                        with contextlib.suppress(UnknownWorker):
                            await registry.beat(owner.worker, instance, reported, {})
            case _:
                seen = {one: ObservedSession(chance.choice(STATES)) for one in chance.sample(names, 3)}
                await registry.observe(Worker("old", "observed", "http://old:1", 9), seen)
        rows = await registry.sessions()
        summary = await registry.summary()
        assert summary.states == dict(Counter(row.state for row in rows))
        assert summary.total == len(rows)
        assert summary.unowned == sum(row.worker is None for row in rows)
        assert summary.connected == sum(row.state == "connected" and row.worker is not None for row in rows)


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
