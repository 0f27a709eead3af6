"""A worker whose sessions run in real Chromium on the stand-in for WhatsApp Web, its API, and Laravel behind it.

async with bench(folder, store) as bench:
    await bench.pair("s1", "628111")           a session that its phone has scanned
    await bench.post("/api/messages/send", …)  the status and the body
    await bench.laravel.event("message_sent")  what was sent there, signed
    await bench.restart()                      the worker stops properly, and another one takes its place
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sessions.policies import SessionsPolicy
from sessions.profiles.names import folder_of
from sessions.worker.api import WorkerApi
from sessions.worker.browser import wa_js
from sessions.worker.browser.login import BrowserLogin
from sessions.worker.browser.logins import FOLDER, browser_logins
from sessions.worker.outgoing import PATH, Outgoing
from sessions.worker.policies import BrowserPolicy
from sessions.worker.worker import Worker
from sluice.config import Secret, Signature
from sluice.http.signatures import refusal
from sluice.process import npm
from sluice.store.client import Store
from tests.sluice.demo.serving import served
from tests.waiting import until
from tests.whatsapp.server import WhatsApp, whatsapp

SIGNATURE = Signature("webhooks", "blazz", Secret(b"my-secret-key"), 300.0)
WITHIN = 120.0
"""Seconds for whatever a browser does, on a machine that does much else."""
Event = tuple[str, dict[str, Any]]


class Laravel:
    """Takes webhooks, and checks that they are signed."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.headers: list[Mapping[str, str]] = []
        self.refused: list[str] = []
        self.files: dict[str, bytes] = {}
        self.away = False
        """It answers 503 to all of them."""

    def of(self, session: str, *names: str, after: int = 0) -> list[Event]:
        """The events of a session, of these names if any are given, in their order."""
        return [
            (name, data)
            for name, data in self.events[after:]
            if data["session_id"] == session and (not names or name in names)
        ]

    async def event(self, session: str, name: str, *, after: int = 0, **where: object) -> dict[str, Any]:
        """The first one of this name and with these values, which may be yet to come."""

        def found() -> dict[str, Any] | None:
            fitting = (data for _, data in self.of(session, name, after=after))
            return next((data for data in fitting if all(data.get(key) == value for key, value in where.items())), None)

        await until(found, timeout=WITHIN, what=lambda: f"{name} {where} among {self.of(session, after=after)}")
        data = found()
        assert data is not None
        return data

    def app(self) -> Starlette:
        return Starlette(routes=[Route(PATH, self._take, methods=["POST"]), Route("/files/{name}", self._file)])

    async def _file(self, request: Request) -> Response:
        """What a message may name as its media."""
        name = request.path_params["name"]
        content = self.files.get(name)
        return Response(content) if content is not None else Response(status_code=404)

    async def _take(self, request: Request) -> Response:
        body = await request.body()
        if self.away:
            return Response(status_code=503)
        refused = refusal(SIGNATURE, request.headers.raw, body, time.time())
        if refused is not None:
            self.refused.append(refused)
            return Response(status_code=401)
        told = orjson.loads(body)
        self.events.append((told["event"], told["data"]))
        self.headers.append(dict(request.headers))
        return JSONResponse({"status": "queued"})


@dataclass
class Bench:
    whatsapp: WhatsApp
    laravel: Laravel
    data: Path
    policy: SessionsPolicy
    store: Store
    gateway: str
    fences: dict[str, int] = field(default_factory=dict)
    """What its membership holds."""
    worker: Worker = field(init=False)
    _http: httpx2.AsyncClient = field(init=False)
    _runs: AsyncExitStack = field(init=False)

    async def begin(self) -> None:
        self._runs = AsyncExitStack()
        make = await self._runs.enter_async_context(browser_logins(self.policy, self.data, self.store))
        self.worker = Worker("w1", Outgoing(self.gateway, SIGNATURE, "http://127.0.0.1:3000"), make)
        self.worker.fence_of = self.fences.get
        self.worker.on_gone = lambda session, _: self.fences.pop(session, None)
        self._runs.push_async_callback(self.worker.close)
        transport = httpx2.ASGITransport(app=WorkerApi(self.worker).app())
        client = httpx2.AsyncClient(transport=transport, base_url="http://worker", timeout=WITHIN)
        self._http = await self._runs.enter_async_context(client)

    async def end(self) -> None:
        await self._runs.aclose()

    async def restart(self) -> None:
        """Another process with the same folder and the same sessions, under the next fence."""
        await self.end()
        await self.begin()
        for session in list(self.fences):
            self.fences[session] += 1
            await self.worker.start(session, self.fences[session])

    def login(self, session: str) -> BrowserLogin:
        login = self.worker.login(session)
        assert isinstance(login, BrowserLogin)
        return login

    def profile(self, session: str) -> Path:
        return self.data / FOLDER / folder_of(session)

    async def stands(self, session: str, state: str) -> None:
        def told() -> str:
            login = self.worker.login(session)
            return f"{session} to be {state}: " + (f"{login.state}, {login.reason}" if login is not None else "gone")

        def there() -> bool:
            login = self.worker.login(session)
            return login is not None and login.state == state

        await until(there, timeout=WITHIN, what=told)

    async def evaluate(self, session: str, script: str) -> Any:
        """What its page answers."""
        page = self.login(session)._attendant.page
        assert page is not None
        return await page._browser.page.evaluate(script)

    async def start(self, session: str) -> None:
        """As its membership does."""
        self.fences[session] = 1
        await self.worker.start(session, 1)

    async def forget(self, session: str) -> None:
        """It ends here, and nothing of it is left."""
        self.fences.pop(session, None)
        await self.worker.stop(session)
        await asyncio.to_thread(shutil.rmtree, self.profile(session), ignore_errors=True)

    async def code(self, session: str) -> str:
        """That it shows."""
        await until(lambda: self.login(session).code, timeout=WITHIN, what=f"a code of {session}")
        return str(self.login(session).code)

    async def pair(self, session: str, phone: str) -> None:
        """Until its phone is connected with it."""
        await self.start(session)
        await self.whatsapp.scan(phone, await self.code(session))
        await self.stands(session, "connected")
        await self.online(phone)

    async def online(self, phone: str) -> None:
        await until(lambda: self.whatsapp.is_connected(phone), timeout=WITHIN, what=f"a device of {phone}")

    async def post(self, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        return _answer(await self._http.post(path, json=body, headers=headers))

    async def put(self, path: str, body: object) -> tuple[int, Any]:
        return _answer(await self._http.put(path, json=body))

    async def delete(self, path: str) -> tuple[int, Any]:
        return _answer(await self._http.request("DELETE", path, json={"workspace_id": 1}))

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return _answer(await self._http.get(path, headers=headers))


def _answer(answer: httpx2.Response) -> tuple[int, Any]:
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer.status_code, answer.json() if is_json else answer.content


@asynccontextmanager
async def bench(folder: Path, store: Store) -> AsyncIterator[Bench]:
    """Each session that is started there runs in a browser of its own."""
    data, laravel = folder / "data", Laravel()
    await asyncio.to_thread(npm.install, (wa_js.PACKAGE,), wa_js.FOLDER)
    async with whatsapp(folder) as server, served(laravel.app()) as gateway:
        policy = SessionsPolicy(browser=BrowserPolicy(path=server.browser))
        made = Bench(server, laravel, data, policy, store, gateway)
        await made.begin()
        try:
            yield made
        finally:
            await made.end()
