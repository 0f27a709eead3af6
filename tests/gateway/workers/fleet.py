"""Unmodified workers of the contract behind gateways whose policies name them, with the shipped routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import orjson

from sessions.registry import Owner, Registry, SessionRow
from sluice.store.client import Store
from tests.contract.running import ContractWorker, worker
from tests.contract.whatsapp import WhatsApp, whatsapp
from tests.gateway.running import Gate, Receiver, gateway
from tests.waiting import until

KEY = "k"
QUERY = {"api_key": KEY}
_SHIPPED = (Path(__file__).parents[3] / "policies.yaml").read_text().splitlines()
ROUTES = (
    "\n".join(line for line in _SHIPPED if "workers: " in line and line.startswith("  - {path:"))
    .replace("{", "{{")
    .replace("}", "}}")
)
POLICIES = f"""
version: 1
store: {{{{url: "{{store}}", promise: memory}}}}
upstreams:
  laravel: {{{{url: "{{laravel}}", connect: 1s, headers: {{headers}}, idle: 10s}}}}
routes:
{ROUTES}
  - {{{{path: /**, upstream: laravel}}}}
LIMITS
sessions: {{{{lease: LEASE, workers: [NAMED]}}}}
"""


@dataclass(slots=True)
class Fleet:
    gates: Sequence[Gate]
    workers: Sequence[ContractWorker]
    phones: WhatsApp
    registry: Registry

    @property
    def http(self) -> httpx2.AsyncClient:
        return self.gates[0].http

    async def create(self, session: str, workspace: int = 1, key: str = KEY, gate: int = 0) -> httpx2.Response:
        fields = {"session_id": session, "workspace_id": workspace, "account_id": 7, "api_key": key}
        return await self.gates[gate].http.post("/api/sessions", json=fields)

    async def status(self, session: str, key: str = KEY) -> httpx2.Response:
        return await self.http.get(f"/api/sessions/{session}/status", params={"api_key": key})

    async def delete(self, session: str) -> httpx2.Response:
        return await self.http.request("DELETE", f"/api/sessions/{session}", json={"workspace_id": 1, "api_key": KEY})

    async def owner(self, session: str) -> ContractWorker:
        found = await self.registry.owner_of(session)
        assert isinstance(found, Owner), found
        return next(one for one in self.workers if found.worker == f"127.0.0.1:{one.port}")

    async def row(self, session: str) -> SessionRow | None:
        return await self.registry.session(session)

    async def connected(self, session: str, phone: str) -> ContractWorker:
        """Created through the gateway, its code scanned, and listed as connected."""
        assert (await self.create(session)).status_code == 200
        owner = await self.owner(session)

        async def scanning() -> bool:
            return await owner.status(session) == "qr_scanning"

        await until(scanning)
        self.phones.scan(session, phone)

        async def listed() -> bool:
            row = await self.row(session)
            return row is not None and row.state == "connected" and row.phone == phone

        await until(listed, what=f"{session} to be listed as connected")
        return owner

    def browsers(self, session: str) -> int:
        """Those that were ever opened for it."""
        return len([one for one in self.phones.browsers.values() if one.session == session])


def accounts(*sessions: str) -> bytes:
    """What Laravel answers to accounts/active."""
    rows = [{"id": 7, "session_id": session, "workspace_id": 1} for session in sessions]
    body = orjson.dumps({"success": True, "sessions": rows, "count": len(rows)})
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@asynccontextmanager
async def fleet(
    folder: Path,
    store_url: str,
    laravel: Receiver,
    ports: Callable[[], int],
    *,
    workers: int = 1,
    gates: int = 1,
    scale: float = 0.01,
    lease: str = "2s",
    limits: str = "",
    sessions: str = "",
    arguments: Sequence[str] = ("--api-key", KEY),
    key: str = ", key: env:SECRET_KEY",
    gates_store: str = "",
) -> AsyncIterator[Fleet]:
    """Every worker is listed by the registry when it begins. They ask `laravel` directly for their accounts."""
    numbers = [ports() for _ in range(workers)]
    named = ", ".join(f"{{{{url: http://127.0.0.1:{port}{key}}}}}" for port in numbers)
    text = POLICIES.replace("NAMED", named).replace("LEASE", f"{lease}{sessions}").replace("LIMITS", limits)
    store = Store(store_url, timeout=2.0)
    registry = Registry(store, float(lease.removesuffix("s")))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        phones = await stack.enter_async_context(whatsapp())
        running = [
            await stack.enter_async_context(worker(port, laravel.url, folder, phones, *arguments, scale=scale))
            for port in numbers
        ]
        opened = []
        for at in range(gates):
            own = folder / f"gate-{at}"
            own.mkdir()
            opened.append(
                await stack.enter_async_context(gateway(own, gates_store or store_url, laravel.url, text=text))
            )

        async def live() -> bool:
            return len([row for row in await registry.workers() if row.beat_left > 0]) == workers

        await until(live, what="the workers to be seen")
        yield Fleet(opened, running, phones, registry)
