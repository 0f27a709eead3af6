"""Every request reaches the worker that owns its session, also after that worker is gone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from sluice.demo import traffic
from tests.e2e.deployment import Deployment, deployment
from tests.waiting import until

pytestmark = pytest.mark.anyio

SESSIONS = traffic.names(50)
LEASE = 3.0


@pytest.fixture
async def deployed(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Deployment]:
    async with deployment(short_folder, (free_port(), free_port())) as deployed:
        await deployed.start_laravel(60)
        await deployed.start_up()
        yield deployed


async def create(client: httpx2.AsyncClient, session: str) -> str:
    """Creates a session as Laravel does; the worker that answered."""
    body = {"session_id": session, "workspace_id": traffic.workspace(session), "account_id": 1, "api_key": "k"}
    answer = await client.post("/api/sessions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-demo-worker"]


async def workers(deployed: Deployment) -> dict[str, bool]:
    return {row["worker"]: row["lost"] for row in (await deployed.status())["workers"]}


async def test_each_session_is_answered_by_its_owner_and_by_another_when_that_one_is_killed(
    deployed: Deployment,
) -> None:
    first = await deployed.start_worker("w1")
    await deployed.start_worker("w2")

    async def both() -> bool:
        return set(await workers(deployed)) == {"w1", "w2"}

    await until(both, timeout=60, what="two workers to register")
    async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=15) as client:
        created = {session: await create(client, session) for session in SESSIONS}
        share = list(created.values()).count("w1")
        assert share == 25, "placed on the least loaded"
        for session, worker in created.items():
            answer = await client.get(f"/api/sessions/{session}/status")
            assert (answer.status_code, answer.headers["x-demo-worker"]) == (200, worker)
            assert answer.json()["session_id"] == session

        first.kill()
        killed = time.monotonic()
        waiting = {session for session, worker in created.items() if worker == "w1"}

        async def all_answer() -> bool:
            for session in sorted(waiting):
                answer = await client.get(f"/api/sessions/{session}/status")
                assert answer.status_code == 200, "while it is handed over, what was last known is answered"
                if answer.headers.get("x-demo-worker") == "w2":
                    waiting.discard(session)
            return not waiting

        await until(all_answer, timeout=20, what="w2 to take over")
        took = time.monotonic() - killed
        print(f"25 sessions of a killed worker answer from another after {took:.1f}s (lease {LEASE:g}s)")
        assert took <= LEASE + 8  # on a machine that runs other tests beside this one


async def test_a_worker_that_is_stopped_hands_over_at_once(deployed: Deployment) -> None:
    first = await deployed.start_worker("w1")

    async def registered(name: str) -> bool:
        return name in await workers(deployed)

    await until(lambda: registered("w1"), timeout=60)
    async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=15) as client:
        await create(client, SESSIONS[0])
        await deployed.start_worker("w2")
        await until(lambda: registered("w2"), timeout=60)
        first.terminate()
        stopped = time.monotonic()

        async def answered_by_w2() -> bool:
            answer = await client.get(f"/api/sessions/{SESSIONS[0]}/status")
            return answer.status_code == 200 and answer.headers.get("x-demo-worker") == "w2"

        await until(answered_by_w2)
        assert time.monotonic() - stopped < LEASE


async def test_a_session_that_is_deleted_is_gone(deployed: Deployment) -> None:
    await deployed.start_worker("w1")

    async def registered() -> bool:
        return "w1" in await workers(deployed)

    await until(registered, timeout=60)
    async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=15) as client:
        await create(client, SESSIONS[0])
        listed = (await client.get("/api/sessions")).json()
        assert [row["session_id"] for row in listed["sessions"]] == [SESSIONS[0]]
        assert (await client.delete(f"/api/sessions/{SESSIONS[0]}")).status_code == 200

        async def forgotten() -> bool:
            return (await client.get(f"/api/sessions/{SESSIONS[0]}/status")).status_code == 404

        await until(forgotten)
