"""A worker that stood still for longer than its lease does nothing for sessions that are another's by now."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from sluice.demo import traffic
from tests.e2e.deployment import deployment
from tests.waiting import until

pytestmark = pytest.mark.anyio

SESSIONS = traffic.names(4)


async def test_after_a_pause_longer_than_the_lease_it_neither_answers_nor_speaks(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    async with deployment(short_folder, (free_port(), free_port())) as deployed:
        await deployed.start_laravel(60)
        await deployed.start_up()
        paused = await deployed.start_worker("w1")

        async def workers() -> dict[str, str]:
            return {row["worker"]: row["url"] for row in (await deployed.status())["workers"] if not row["lost"]}

        async def there(name: str) -> bool:
            return name in await workers()

        async def ready(session: str) -> int:
            return sum(
                one["event"] == "session_ready" and one["session"] == session for one in await deployed.arrived()
            )

        await until(lambda: there("w1"), timeout=60, what="w1 to register")
        async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=15) as client:
            for session in SESSIONS:
                assert (await client.post("/api/sessions", json={"session_id": session})).status_code == 200
            url = (await workers())["w1"]
            fences = [await fence_of(deployed.gateway, session) for session in SESSIONS]
            await deployed.start_worker("w2")
            await until(lambda: there("w2"), timeout=60, what="w2 to register")
            os.kill(paused.pid, signal.SIGSTOP)
            try:

                async def taken_over() -> bool:
                    return all([await is_at(client, "w2", session) for session in SESSIONS])

                await until(taken_over, timeout=60, what="w2 to take over")
            finally:
                os.kill(paused.pid, signal.SIGCONT)
            async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=15) as direct:
                for session, fence in zip(SESSIONS, fences, strict=True):
                    answer = await direct.get(f"/api/sessions/{session}/status", headers={"X-Sluice-Fence": str(fence)})
                    assert answer.status_code == 421, answer.text
            await until(lambda: there("w1"), timeout=60, what="w1 to come back")
            for session in SESSIONS:
                assert (await client.get(f"/api/sessions/{session}/status")).headers["x-demo-worker"] == "w2"
                assert await ready(session) == 2, "once at each of them"


async def is_at(client: httpx2.AsyncClient, worker: str, session: str) -> bool:
    """One that asks a worker that stands still gets no answer."""
    try:
        answer = await client.get(f"/api/sessions/{session}/status", timeout=2)
    except httpx2.ReadTimeout:
        return False
    return answer.headers.get("x-demo-worker") == worker


async def fence_of(gateway: str, session: str) -> int:
    headers = {"Authorization": "Bearer the-console-token"}
    async with httpx2.AsyncClient(base_url=gateway, trust_env=False, headers=headers) as http:
        row = (await http.get(f"/_sluice/api/sessions/{session}")).json()
    return int(row["fence"])
