"""A worker joins, and sessions go to it: real processes, with requests all the while."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from sessions.registry import Registry
from sluice.process.addresses import store_url
from sluice.store.client import Store
from tests.e2e.deployment import deployment
from tests.e2e.receiver import receiving
from tests.e2e.scaling import LEASE
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

NAMES = [f"webjs_1_{number}_a" for number in range(8)]
BUSY = NAMES[:5]


async def ask(client: httpx2.AsyncClient, sessions: list[str], seen: Counter[int]) -> None:
    while True:
        for session in sessions:
            answer = await client.get(f"/api/sessions/{session}/status")
            seen[answer.status_code] += 1
        await asyncio.sleep(0.2)


async def test_quiet_sessions_go_to_a_worker_that_joins_and_busy_ones_stay(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    ports = (free_port(), free_port())
    async with receiving(ports[1]), deployment(short_folder, ports) as sluice:
        text = sluice.file.read_text()
        sluice.file.write_text(
            text.replace("verify: workers}", "verify: workers, rebalance: {moves: 60/minute, quiet: 3s}}")
        )
        await sluice.start_up("--workers", "1")
        store = Store(store_url(sluice.policies), timeout=5.0)
        registry, seen = Registry(store, LEASE), Counter[int]()

        async def at(worker: str) -> set[str]:
            return {row.session for row in await registry.sessions() if row.worker == worker}

        async def all_are_there() -> bool:
            return len(await at("demo-1")) == len(NAMES)

        await registry.want({name: {} for name in NAMES})
        await until(all_are_there, timeout=30, what=sluice.said)
        async with httpx2.AsyncClient(base_url=sluice.gateway, trust_env=False, timeout=30) as client:
            asking = asyncio.create_task(ask(client, BUSY, seen))
            try:
                await sluice.start_worker("late")

                async def it_has_some() -> bool:
                    return len(await at("late")) == 3

                await until(it_has_some, timeout=60, what=sluice.said)
                assert await at("late") == set(NAMES) - set(BUSY)
                assert not asking.done()
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        await store.close()
    assert seen.keys() == {200}
