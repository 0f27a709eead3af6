"""Workers with real browsers on the stand-in for WhatsApp Web, each a process of its own, as on machines of their own.

    async with deployment(folder, free_port, workers=2) as made:
        await made.paired("s1", "628111")               created by a gateway, scanned, connected
        await made.workers["w1"].kill()                 SIGKILL
        await made.runs("s1", "w2")                     connected there

A gateway, a relay, a store with a vault, and Laravel, which only writes down what it gets, stand around them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sessions.profiles.names import folder_of
from sessions.worker.browser.logins import FOLDER
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from tests.e2e.deployment import SECRETS, answers
from tests.nemesis.fleet import Process
from tests.sluice.store.store_servers import Server
from tests.waiting import until
from tests.whatsapp.server import WhatsApp, whatsapp

WITHIN = 180.0
"""Seconds for whatever a browser does, on a machine that does much else."""
VAULT_KEY = "the-vault-key-of-tests-0123456789"
POLICIES = """
version: 1
listen: 127.0.0.1:{gateway}
data: {data}
store: {{url: "{store}", promise: second}}
upstreams: {{laravel: {{url: "http://127.0.0.1:{laravel}"}}}}
signatures:
  workers: {{preset: blazz, secret: env:WHATSAPP_HMAC_SECRET}}
  laravel: {{preset: blazz, secret: env:WHATSAPP_HMAC_SECRET}}
routes:
  - path: /api/whatsapp/webhooks/*
    methods: [POST]
    verify: workers
    event: {{json: /event}}
    session: {{json: /data/session_id}}
    relay: laravel
  - {{path: /api/sessions, methods: [GET], workers: list}}
  - {{path: /api/sessions, methods: [POST], session: {{json: /session_id}}, workers: place}}
  - {{path: "/api/sessions/{{session}}/**", workers: owner}}
  - {{path: /api/messages/send, methods: [POST], session: {{json: /session_id}}, event: message_send, workers: owner}}
  - {{path: /**, upstream: laravel}}
limits:
  - {{id: send, event: message_send, per: [session], rate: 6000/minute, burst: 1000, over: queue, unknown: repeat}}
relay:
  endpoints:
    laravel: {{url: "http://127.0.0.1:{laravel}", sign: laravel, rate: 60000/minute}}
sessions:
  lease: {lease:g}s
  per_worker: {per_worker}
  verify: workers
  vault: {{key: env:SLUICE_VAULT_KEY, every: {every}s}}
  browser: {{path: "{browser}", start_at_once: {start_at_once}}}
console: {{token: env:SLUICE_CONSOLE_TOKEN}}
"""


@dataclass(frozen=True, slots=True)
class Webhook:
    at: float
    session: str
    event: str
    data: dict[str, Any]


class Deployment:
    """`machines`: each worker has a data folder of its own; else they share one, as processes of one machine do."""

    def __init__(
        self,
        folder: Path,
        free_port: Callable[[], int],
        server: WhatsApp,
        *,
        workers: Sequence[str],
        lease: float,
        machines: bool,
        every: int,
        start_at_once: int,
        per_worker: int,
    ) -> None:
        self.whatsapp = server
        self.webhooks: list[Webhook] = []
        self.phones: dict[str, str] = {}
        self.laravel_port = free_port()
        gateway = free_port()
        self.gateway_url = f"http://127.0.0.1:{gateway}"
        self.store = Server(folder, free_port(), "--appendonly", "yes", "--appendfsync", "everysec")
        self._folder = folder
        self._files: dict[str, str] = {}
        about = {"gateway": gateway, "laravel": self.laravel_port, "store": self.store.url, "browser": server.browser}
        more = {"lease": lease, "every": every, "start_at_once": start_at_once, "per_worker": per_worker}
        self.data: dict[str, Path] = {}
        for name in ("gateway", *workers):
            data = folder / (f"data-{name}" if machines or name == "gateway" else "data")
            file = folder / f"policies-{name}.yaml"
            file.write_text(POLICIES.format(data=data, **about, **more))
            self.data[name], self._files[name] = data, str(file)
        self.gateway = self._process("gateway", "sluice", "gateway", "--policies", self._files["gateway"])
        self.relay = self._process("relay", "sluice", "relay", "--policies", self._files["gateway"])
        self._first = frozenset(workers)
        self.workers = {name: self._worker(name, name) for name in workers}
        self.client = httpx2.AsyncClient(base_url=self.gateway_url, trust_env=False, timeout=WITHIN)

    async def start_beside(self, name: str, other: str) -> None:
        """A worker with the disk of another one."""
        self.workers[name], self.data[name] = self._worker(name, other), self.data[other]
        await self.start_worker(name)

    def _worker(self, name: str, disk: str) -> Process:
        about = ("--driver", "browser", "--name", name, "--policies", self._files[disk])
        return self._process(name, "sluice", "worker", *about)

    def _process(self, name: str, *command: str) -> Process:
        return Process(name, self._folder / f"{name}.log", *command)

    async def start(self) -> None:
        self.store.start()
        for process in (self.gateway, self.relay):
            await process.start(SLUICE_VAULT_KEY=VAULT_KEY)
        url = f"{self.gateway_url}/_sluice/readyz"
        await until(lambda: answers(url), timeout=WITHIN, what=lambda: f"the gateway; it said:\n{self.gateway.said()}")
        for name in self.workers:
            await self.start_worker(name)

    async def start_worker(self, name: str) -> None:
        await self.workers[name].start(SLUICE_VAULT_KEY=VAULT_KEY)
        await until(
            lambda: self._beats(name), timeout=WITHIN, what=lambda: f"{name}; it said:\n{self.workers[name].said()}"
        )

    async def clear(self) -> None:
        """As it was started: with these workers, and without a session or one who scans."""
        self.store.thaw()
        for name in self.workers.keys() - self._first:
            await self.workers[name].terminate()
            del self.workers[name]
        for name, worker in self.workers.items():
            worker.thaw()
            if not worker.alive:
                await self.start_worker(name)
        for session in [*self.phones]:
            await self.end(session)
        self.whatsapp.nobody_scans()
        self.whatsapp.connections.clear()

    async def end(self, session: str) -> None:
        """As a person does it."""

        async def ended() -> bool:
            return (await self.client.request("DELETE", f"/api/sessions/{session}", json={})).is_success

        await until(ended, timeout=WITHIN, what=lambda: f"{session} to end; {self._said()}")
        del self.phones[session]

    async def stop(self) -> None:
        processes = (*self.workers.values(), self.relay, self.gateway)
        for process in processes:
            process.thaw()
        for process in processes:
            await process.terminate()
        self.store.kill()
        await self.client.aclose()

    def profile(self, session: str, worker: str) -> Path:
        return self.data[worker] / FOLDER / folder_of(session)

    async def status(self) -> dict[str, Any]:
        """As `sluice status` has it."""
        headers = {"Authorization": f"Bearer {SECRETS['SLUICE_CONSOLE_TOKEN']}"}
        told: dict[str, Any] = (await self.client.get("/_sluice/api/status", headers=headers)).json()
        return told

    async def shown(self, session: str) -> dict[str, Any]:
        """As `sluice sessions show` has it."""
        headers = {"Authorization": f"Bearer {SECRETS['SLUICE_CONSOLE_TOKEN']}"}
        told: dict[str, Any] = (await self.client.get(f"/_sluice/api/sessions/{session}", headers=headers)).json()
        return told

    async def create(self, session: str, phone: str) -> None:
        """A session that shows its code."""
        self.phones[session] = phone
        fields = {"session_id": session, "workspace_id": 1, "account_id": 1, "api_key": "k"}
        answer = await self.client.post("/api/sessions", json=fields)
        assert answer.status_code == 200, answer.text

    async def paired(self, session: str, phone: str) -> None:
        await self.create(session, phone)
        await self.whatsapp.scan(phone)
        await until(
            lambda: self.heard(session, "session_ready"), timeout=WITHIN, what=lambda: f"{session} to be connected"
        )

    async def send(self, session: str, to: str, body: str, **headers: str) -> httpx2.Response:
        fields = {"session_id": session, "workspace_id": 1, "recipient_phone": to, "message": body, "api_key": "k"}
        return await self.client.post("/api/messages/send", json={**fields, "type": "text"}, headers=headers)

    def heard(self, session: str, event: str) -> list[Webhook]:
        return [webhook for webhook in self.webhooks if webhook.session == session and webhook.event == event]

    async def owner(self, session: str) -> tuple[str | None, int | None, str]:
        """Worker, fence and state."""
        shown = await self.shown(session)
        return shown.get("worker"), shown.get("fence"), str(shown.get("state"))

    async def runs(self, session: str, worker: str, *, since: float = 0.0) -> int:
        """The fence, once that worker's browser is connected, with a connection that began after `since`."""

        async def there() -> bool:
            began = self.whatsapp.connected_since(self.phones[session])
            return began is not None and began > since and (await self.owner(session))[::2] == (worker, "connected")

        await until(there, timeout=WITHIN, what=lambda: f"{session} at {worker}; {self._said()}")
        fence = (await self.owner(session))[1]
        assert fence is not None
        return fence

    def _said(self) -> str:
        return "\n".join(f"{name} said:\n{worker.said()}" for name, worker in self.workers.items())

    async def _beats(self, name: str) -> bool:
        return any(row["worker"] == name and not row["lost"] for row in (await self.status())["workers"])

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        told = orjson.loads(await request.body())
        self.webhooks.append(Webhook(time.monotonic(), told["data"]["session_id"], told["event"], told["data"]))
        return JSONResponse({"status": "received"})


@asynccontextmanager
async def deployment(
    folder: Path,
    free_port: Callable[[], int],
    *,
    workers: Sequence[str] = ("w1", "w2"),
    lease: float = 6.0,
    machines: bool = True,
    every: int = 60,
    start_at_once: int = 2,
    per_worker: int = 25,
) -> AsyncIterator[Deployment]:
    """Started."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(whatsapp(folder))
        made = Deployment(
            *(folder, free_port, server),
            workers=workers,
            lease=lease,
            machines=machines,
            every=every,
            start_at_once=start_at_once,
            per_worker=per_worker,
        )
        stop = Stop()
        laravel = listening("127.0.0.1", made.laravel_port)
        serving = asyncio.create_task(serve(made.app(), laravel, stop))
        stack.push_async_callback(lambda: serving)
        stack.callback(stop.request)
        stack.push_async_callback(made.stop)
        await made.start()
        yield made
