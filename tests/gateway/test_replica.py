from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest

from gateway import asgi, process
from gateway.policies import load
from sluice.http.server.serving import listening
from sluice.process.loops import Stop

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

POLICIES = """
version: 1
store: {{url: "{store}", promise: {promise}}}
routes: [{{path: /hooks, event: message_received, relay: laravel}}]
relay: {{endpoints: {{laravel: {{url: "http://127.0.0.1:1"}}}}}}
"""


@pytest.mark.parametrize(("promise", "status"), [("second", 202), ("replica", 503)])
async def test_what_no_replica_has_is_not_accepted(tmp_path: Path, store_url: str, promise: str, status: int) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(POLICIES.format(store=store_url, promise=promise))
    stop, bound = Stop(), listening("127.0.0.1", 0)
    bound.listen()
    async with asyncio.TaskGroup() as group:
        group.create_task(process.run(load(path), bound, stop, asgi.no_console))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=10.0) as http:
            response = await http.post("/hooks", content=b"{}")
        stop.request()
    assert response.status_code == status
    assert response.json().get("promise") == (promise if status == 202 else None)
