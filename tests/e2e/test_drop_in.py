"""Two settings between an existing Laravel and an existing worker that knows nothing of Sluice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.http.server.serving import listening, serve
from sluice.http.signatures import sign
from sluice.process.loops import Stop
from tests.e2e.deployment import Deployment, deployment
from tests.e2e.receiver import receiving
from tests.waiting import until

pytestmark = pytest.mark.anyio


class NodeService:
    """An existing worker: its sessions in memory, its webhooks sent once, to LARAVEL_URL."""

    def __init__(self, port: int, laravel_url: str) -> None:
        self.port = port
        self.sessions: dict[str, str] = {"s1": "connected"}
        self.asked: list[str] = []
        self._laravel = f"{laravel_url}/api/whatsapp/webhooks/webjs"

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def index(self, _: Request) -> Response:
        rows = [{"session_id": name, "status": status} for name, status in self.sessions.items()]
        return JSONResponse({"success": True, "sessions": rows})

    async def create(self, request: Request) -> Response:
        name = (await request.json())["session_id"]
        self.sessions[name] = "qr_scanning"
        return JSONResponse({"success": True, "session_id": name, "status": "qr_scanning"})

    async def status(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.asked.append(f"{name}?{request.url.query}")
        if name not in self.sessions:
            return JSONResponse({"success": False}, 404)
        return JSONResponse({"session_id": name, "status": self.sessions[name], "by": self.port})

    async def delete(self, request: Request) -> Response:
        self.sessions.pop(request.path_params["name"], None)
        return JSONResponse({"success": True})

    async def says(self, deployed: Deployment, sequence: int) -> int:
        event = {"event": "message_received", "data": {"workspace_id": 1, "session_id": "s1", "sequence": sequence}}
        body = orjson.dumps(event)
        headers = sign(deployed.policies.signatures["workers"], body, time.time())
        async with httpx2.AsyncClient(trust_env=False) as client:
            return (await client.post(self._laravel, content=body, headers=headers)).status_code


@asynccontextmanager
async def node_service(port: int, laravel_url: str) -> AsyncIterator[NodeService]:
    node, stop = NodeService(port, laravel_url), Stop()
    app = Starlette(
        routes=[
            Route("/health", node.health),
            Route("/api/sessions", node.index, methods=["GET"]),
            Route("/api/sessions", node.create, methods=["POST"]),
            Route("/api/sessions/{name}/status", node.status),
            Route("/api/sessions/{name}", node.delete, methods=["DELETE"]),
        ]
    )
    serving = asyncio.create_task(serve(app, listening("127.0.0.1", port), stop))
    try:
        yield node
    finally:
        stop.request()
        await serving


@pytest.fixture
async def placed(
    short_folder: Path, free_port: Callable[[], int]
) -> AsyncIterator[tuple[Deployment, NodeService, NodeService, int]]:
    """Sluice between two existing workers and a Laravel."""
    gateway, laravel, one, two = (free_port() for _ in range(4))
    async with deployment(short_folder, (gateway, laravel)) as deployed:
        known = f"workers: [{{url: http://127.0.0.1:{one}}}, {{url: http://127.0.0.1:{two}}}], lease: 1s"
        deployed.file.write_text(deployed.file.read_text().replace("lease: 3s", known))
        async with node_service(one, deployed.gateway) as first, node_service(two, deployed.gateway) as second:
            second.sessions = {"s2": "connected"}
            await deployed.start_up()
            yield deployed, first, second, laravel
            await deployed.stop()


async def test_requests_reach_the_existing_worker_that_has_the_session_and_new_ones_are_placed(
    placed: tuple[Deployment, NodeService, NodeService, int],
) -> None:
    deployed, first, second, _ = placed
    async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=15) as client:

        async def both_known() -> bool:
            listed = (await client.get("/api/sessions")).json()
            return {row["session_id"] for row in listed["sessions"]} == {"s1", "s2"}

        await until(both_known)
        for name, node in (("s1", first), ("s2", second)):
            answer = await client.get(f"/api/sessions/{name}/status", params={"api_key": "k", "workspace_id": "1"})
            assert answer.json()["by"] == node.port
        assert first.asked == ["s1?api_key=k&workspace_id=1"], "asked once, the query as it came"

        for name in ("s3", "s4"):
            assert (await client.post("/api/sessions", json={"session_id": name})).status_code == 200
        assert len(first.sessions) == len(second.sessions) == 2, "placed on the least loaded"

        async def answers_for_all() -> bool:
            codes = [(await client.get(f"/api/sessions/{name}/status")).status_code for name in ("s3", "s4")]
            return codes == [200, 200]

        await until(answers_for_all)
        del first.sessions["s1"]
        restoring = await client.get("/api/sessions/s1/status")
        assert (restoring.status_code, restoring.json()["status"]) == (200, "connected"), "it may be restored yet"
        assert (await client.delete("/api/sessions/s1")).status_code == 200
        assert (await client.get("/api/sessions/s1/status")).status_code == 404


async def test_its_webhooks_wait_for_a_laravel_that_is_down_and_arrive_in_order(
    placed: tuple[Deployment, NodeService, NodeService, int],
) -> None:
    deployed, first, _, laravel_port = placed
    assert [await first.says(deployed, n) for n in range(5)] == [202] * 5
    async with receiving(laravel_port) as laravel:
        await until(lambda: len(laravel.taken()) == 5)
        assert [one.sequence for one in laravel.taken()] == list(range(5))
