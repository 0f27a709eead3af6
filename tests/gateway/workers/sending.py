"""A worker of the contract as it is, and gateways in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.running import ContractWorker, log_in, worker
from tests.gateway.running import Gate, start
from tests.waiting import until

POLICIES = """
version: 1
listen: 127.0.0.1:{port}
data: data
store: {{{{url: "{{store}}", promise: memory, timeout: 5s}}}}
routes:
  - {{{{path: /api/messages/*, methods: [POST], session: {{{{json: /session_id}}}}, event: message_send, workers: owner,
     headers: 45s}}}}
  - {{{{path: "/api/sessions/{{{{session}}}}/**", workers: owner, headers: 60s}}}}
limits: [{limits}]
sessions: {{{{lease: 3s, workers: [{{{{name: w1, url: "{url}"}}}}]{sessions}}}}}
{more}
"""
SEND = "/api/messages/send"
BULK = "/api/messages/bulk-send"


@dataclass
class Place:
    """One worker that runs the sessions s1 and s2, and gateways in front of it."""

    worker: ContractWorker
    store: str
    folder: Path
    stack: AsyncExitStack
    stops: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def text(self, port: int = 0, limits: str = "", sessions: str = "", more: str = "") -> str:
        return POLICIES.format(url=self.worker.url, port=port or 1, limits=limits, sessions=sessions, more=more)

    async def gateway(self, **text: str) -> Gate:
        folder = self.folder / f"gateway-{len(self.stops)}"
        folder.mkdir()
        gate, task = start(folder, self.store, "http://127.0.0.1:1", text=self.text(**text))

        async def stop() -> None:
            gate.stop.request()
            await task
            await gate.http.aclose()

        self.stops.append(stop)
        self.stack.push_async_callback(stop)
        await until(lambda: knows(gate), what="the gateway knows the session")
        return gate

    async def sent(self, message: str = "hello") -> int:
        return sum(one["message"] == message for one in (await self.worker.state())["sent"])


async def knows(gate: Gate) -> bool:
    return bool((await gate.http.get("/api/sessions/s1/status")).status_code == 200)


@asynccontextmanager
async def at_work(store: str, folder: Path, port: int, *arguments: str) -> AsyncIterator[Place]:
    for session, phone in (("s1", "491511"), ("s2", "491522")):
        log_in(folder / f"profiles-{port}", session, 1, phone)
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(worker(port, "http://127.0.0.1:1", folder, None, *arguments))
        for session in ("s1", "s2"):
            await one.ask("POST", "/api/sessions", json={"session_id": session, "workspace_id": 1, "account_id": "a"})
        await until(lambda: connected(one))
        yield Place(one, store, folder, stack)


async def connected(one: ContractWorker) -> bool:
    return [await one.status(session) for session in ("s1", "s2")] == ["connected", "connected"]


def a_send(message: str = "hello", session: str = "s1", to: str = "4915112345678") -> dict[str, str]:
    return {"session_id": session, "recipient_phone": to, "message": message}


async def hang_up(gate: Gate, body: dict[str, Any], *, after: float = 0.3, path: str = SEND) -> None:
    """Laravel's timeout."""
    with pytest.raises(httpx2.TimeoutException):
        await gate.http.post(path, json=body, timeout=after)
