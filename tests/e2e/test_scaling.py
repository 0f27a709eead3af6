"""`sluice up --workers` with a range; benchmarks/scaling.py does it for longer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sessions.registry import Registry
from sluice.process.addresses import store_url
from sluice.store.client import Store
from tests.e2e.scaling import LEASE, SETTLED, Scaling, Sessions, Size, scaled, scaling
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def ports(free_port: Callable[[], int]) -> tuple[int, int]:
    return free_port(), free_port()


async def test_workers_follow_sessions_up_and_down_and_no_request_fails(
    short_folder: Path, ports: tuple[int, int]
) -> None:
    size = Size(low=1, high=4, per_worker=2, workers="1..3")
    seen = await scaling(short_folder, ports, size, phases=2, seconds=60.0, seed=1, hurry=True)
    assert [(one.sessions, one.staying[-1]) for one in seen.phases] == [(4, 3), (1, 1)]
    assert seen.faults() == []


async def test_nothing_is_lost_where_it_is_killed_while_a_worker_drains(
    short_folder: Path, ports: tuple[int, int]
) -> None:
    size, seen = Size(low=2, high=4, per_worker=2, workers="1..3"), Scaling()
    async with scaled(short_folder, ports, size) as (sluice, registry):
        sessions = Sessions(sluice.gateway, seen, 1)
        try:
            await sessions.grow_to(4)
            assert not seen.failed
            assert sluice.up is not None
            drained = next(one.worker for one in await registry.workers() if one.sessions)
            assert await registry.drain(drained)
            os.kill(sluice.up.pid, signal.SIGKILL)
            await sluice.up.wait()
            await asyncio.sleep(LEASE)  # its children find out, and end
            await sluice.start_up("--workers", size.workers)
            again = Store(store_url(sluice.policies), timeout=5.0)
            after = Registry(again, LEASE)

            async def all_are_owned() -> bool:
                rows = await after.sessions()
                return len(rows) == 4 and all(row.worker and row.state == "connected" for row in rows)

            await until(all_are_owned, timeout=60, what=sluice.said)
            rows = [one for one in await after.workers() if one.beat_left > 0 and one.sessions]
            assert all(one.drains is None for one in rows), "the new ones have nothing to drain for"
            await again.close()
        finally:
            await sessions.close()
    assert "drains" not in sluice.said() or "stopped" in sluice.said()


async def test_a_worker_that_is_killed_while_it_drains_is_stopped_and_its_sessions_go_on(
    short_folder: Path, ports: tuple[int, int]
) -> None:
    size, seen = Size(low=1, high=4, per_worker=2, workers="1..3"), Scaling()
    async with scaled(short_folder, ports, size) as (sluice, registry):
        sessions = Sessions(sluice.gateway, seen, 1)
        try:
            await sessions.grow_to(4)
            assert not seen.failed
            await until(lambda: "demo-3 is started" in sluice.said(), timeout=30, what=sluice.said)
            await asyncio.sleep(SETTLED)
            await sessions.shrink_to(1)
            await until(lambda: " drains (" in sluice.said(), timeout=60, what=sluice.said)
            name = sluice.said().partition(" drains (")[0].rpartition(" ")[2]
            await sluice.kill_child(f"--name {name} ")

            async def one_is_left() -> bool:
                rows = [one for one in await registry.workers() if one.beat_left > 0]
                return [(one.drains, one.sessions) for one in rows] == [(None, 1)]

            await until(one_is_left, timeout=90, what=sluice.said)
        finally:
            await sessions.close()
    assert [what for what in seen.failed if "send" not in what] == [], seen.failed
