"""A whole Sluice between a contract Laravel and contract workers, with the shipped policies.

Gateway and relay run in the test's process on the test's store, Laravel and workers in their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import yaml

from gateway import process as gateway_process
from gateway.policies import Policies, edits, load
from relay import process as relay_process
from sluice.console import http as console
from sluice.http.server import serving
from sluice.http.server.draining import take_again
from sluice.process.loops import Stop
from tests.contract.running import SECRET, ContractLaravel, ContractWorker, laravel, log_in, worker
from tests.contract.whatsapp import WhatsApp, whatsapp
from tests.ports import port_of
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
KEY = "the-node-key"
TOKEN = "the-console-token"
ENVIRONMENT = {"WHATSAPP_HMAC_SECRET": SECRET, "SLUICE_CONSOLE_TOKEN": TOKEN, "NODE_KEY": KEY}


class Sluice:
    """Gateway and relay."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._listening = serving.listening("127.0.0.1", port_of(policies))
        """Kept while a gateway is started again, as `sluice up` does: connections wait meanwhile."""
        self._stops: dict[str, tuple[Stop, asyncio.Task[None]]] = {}

    async def start(self) -> None:
        relaying, policies = Stop(), self._policies
        relay = asyncio.create_task(relay_process.run(edits.live(policies), policies.store.url, relaying))
        self._stops["relay"] = relaying, relay
        self.start_gateway()

    def start_gateway(self) -> None:
        stop, bound = Stop(), self._listening.dup()
        take_again(bound)
        running = asyncio.create_task(gateway_process.run(self._policies, bound, stop, console.routes))
        self._stops["gateway"] = stop, running

    async def restart_gateway(self) -> None:
        """As at a deployment: what it has in hand is finished."""
        await self._stop("gateway")
        self.start_gateway()

    async def stop(self) -> None:
        for name in list(self._stops):
            await self._stop(name)
        self._listening.close()

    async def _stop(self, name: str) -> None:
        stop, running = self._stops.pop(name)
        stop.request()
        await running


@dataclass(slots=True)
class Fleet:
    """Worker n (from 0) has workspaces 0, N, 2N, …: as Laravel divides, by workspace modulo the number of workers."""

    url: str
    file: Path
    policies: Policies
    http: httpx2.AsyncClient
    app: ContractLaravel
    workers: list[ContractWorker]
    phones: WhatsApp
    folder: Path
    sluice: Sluice
    keyed: bool

    def profiles(self, number: int) -> Path:
        return self.folder / f"profiles-{self.workers[number].port}"

    async def know(self, number: int, session: str, phone: str, *, workspace: int | None = None) -> None:
        """An account that was connected before: its row in Laravel, its login on the disk of this worker."""
        of = number if workspace is None else workspace
        await self.app.add(session, of, status="connected", phone_number=phone)
        log_in(self.profiles(number), session, of, phone)

    async def begin(self, number: int, session: str, phone: str) -> None:
        """The same, and this worker is made to start it, past the gateway."""
        await self.know(number, session, phone)
        fields = {"session_id": session, "workspace_id": number, "account_id": 1, "api_key": KEY}
        answer = await self.workers[number].ask("POST", "/api/sessions", json=fields)
        assert answer.status_code == 200, answer.text

    async def start_all(self) -> None:
        """Together."""
        await asyncio.gather(*(one.start() for one in self.workers))

    async def restored(self, *numbers: int) -> None:
        """These workers (all of them) have started what they were told to start."""

        async def all_of_them() -> bool:
            states = [await self.workers[number].state() for number in numbers or range(len(self.workers))]
            return not any(state["restoring"] for state in states)

        await until(all_of_them, timeout=60, what="the workers to restore their sessions")

    async def connected(self, session: str) -> None:
        """At Laravel, and as the gateway lists and tells it."""

        async def everywhere() -> bool:
            if (await self.app.account(session))["status"] != "connected":
                return False
            rows = (await self.ask("GET", "/api/sessions")).json()["sessions"]
            listed = {row["session_id"] for row in rows if row["status"] == "connected"}
            said = await self.ask("GET", f"/api/sessions/{session}/status")
            return session in listed and said.status_code == 200 and said.json()["status"] == "connected"

        await until(everywhere, timeout=20, what=f"{session} to be connected")

    async def ask(self, method: str, path: str, **fields: Any) -> httpx2.Response:
        """As Laravel asks: the key, where there is one, in the query of a GET, else in the body."""
        fields = {**({"api_key": KEY} if self.keyed else {}), **fields}
        how: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        return await self.http.request(method, path, **how)

    @asynccontextmanager
    async def another_gateway(self) -> AsyncIterator[Fleet]:
        """The same fleet through a second gateway."""
        bound, stop = serving.listening("127.0.0.1", 0), Stop()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        running = asyncio.create_task(gateway_process.run(self.policies, bound, stop, console.routes))
        try:
            async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=90.0) as http:
                yield replace(self, url=url, http=http)
        finally:
            stop.request()
            await running

    async def status(self) -> dict[str, Any]:
        """As `sluice status` has it."""
        answer = await self.http.get("/_sluice/api/status", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told


def shipped(
    store_url: str, gateway: int, laravel_port: int, workers: Sequence[Mapping[str, Any]], **sessions: Any
) -> dict[str, Any]:
    """policies.yaml as it is shipped, but for addresses and the lease. `sessions`: more of its section."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "policies.yaml").read_text())
    read["listen"] = f"127.0.0.1:{gateway}"
    read["store"] = {"url": store_url, "promise": "memory"}
    read["upstreams"]["laravel"]["url"] = f"http://127.0.0.1:{laravel_port}"
    read["relay"]["endpoints"]["laravel"]["url"] = f"http://127.0.0.1:{laravel_port}"
    read["sessions"] |= {"lease": "3s", "workers": list(workers), **sessions}
    return read


@asynccontextmanager
async def fleet(
    folder: Path,
    store_url: str,
    free_port: Callable[[], int],
    *,
    workers: int = 2,
    start: bool = True,
    keyed: bool = True,
    prefixes: bool = True,
    advertised: bool = True,
    edit: Callable[[dict[str, Any]], object] = lambda policies: None,
    arguments: Sequence[str] = (),
    **sessions: Any,
) -> AsyncIterator[Fleet]:
    """Without `start` the workers are not started yet. `edit` changes the policies; `arguments` are each worker's."""
    gateway, laravel_port, ports = free_port(), free_port(), [free_port() for _ in range(workers)]
    url = f"http://127.0.0.1:{gateway}"
    known = [_known(number, port, keyed=keyed, prefixes=prefixes) for number, port in enumerate(ports)]
    sessions |= {"advertise": url} if advertised else {}
    written = shipped(store_url, gateway, laravel_port, known, **sessions)
    edit(written)
    file = folder / "policies.yaml"
    file.write_text(yaml.safe_dump(written))
    policies = load(file, environment=ENVIRONMENT)
    key = ("--api-key", KEY) if keyed else ()
    async with AsyncExitStack() as stack:
        phones = await stack.enter_async_context(whatsapp())
        app = await stack.enter_async_context(laravel(laravel_port, [url] * workers, folder, *key))
        sluice = Sluice(policies)
        await sluice.start()
        stack.push_async_callback(sluice.stop)
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, trust_env=False, timeout=90.0))
        made = Fleet(url, file, policies, http, app, [], phones, folder, sluice, keyed)
        for number, port in enumerate(ports):
            base = f"{url}/w/w{number}" if prefixes else url
            given = (*key, "--name", f"w{number}", *arguments)
            one = worker(port, base, folder, phones, *given, start=start)
            made.workers.append(await stack.enter_async_context(one))
        yield made


def _known(number: int, port: int, *, keyed: bool, prefixes: bool) -> dict[str, Any]:
    known: dict[str, Any] = {"name": f"w{number}", "url": f"http://127.0.0.1:{port}"}
    key = {"key": "env:NODE_KEY"} if keyed else {}
    return {**known, **key, **({"prefix": f"/w/w{number}"} if prefixes else {})}
