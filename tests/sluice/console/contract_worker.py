"""A worker with the contract's API on a real port. Its sessions show a code that changes until a test scans it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sessions.registry import Registry, Report
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from tests.pictures import grey


@dataclass
class Session:
    status: str = "qr_scanning"
    phone: str | None = None
    workspace: Any = None
    codes: int = 0
    """How many codes were shown."""


@dataclass
class ContractWorker:
    """`ours`: it answers also the calls that the contract does not have, and keeps no code with the metadata."""

    key: str | None = None
    ours: bool = False
    url: str = ""
    sessions: dict[str, Session] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, Any], str | None]] = field(default_factory=list)
    """Method, path, body without its key, and fence of each request but the polls."""
    refuses: tuple[int, Any] | None = None
    """What it answers to each request but the polls."""

    def scan(self, session: str, phone: str) -> None:
        """A person has scanned the code that it shows."""
        self.sessions[session].status, self.sessions[session].phone = "connected", phone

    async def beat(self, registry: Registry, worker: str, held: dict[str, int]) -> dict[str, int]:
        """What it runs, as one of ours says it."""
        reports = {
            name: Report(fence, one.status, one.phone) for name, fence in held.items() if (one := self.sessions[name])
        }
        return await registry.beat(worker, "1", reports, {})

    def app(self) -> Starlette:
        one = "/api/sessions/{session}"
        routes = [
            Route("/health", self._health),
            Route("/api/sessions", self._list),
            Route("/api/sessions", self._create, methods=["POST"]),
            Route(f"{one}/metadata", self._metadata),
            Route(f"{one}/reconnect", self._reconnect, methods=["POST"]),
            Route(one, self._delete, methods=["DELETE"]),
        ]
        if self.ours:
            routes += [
                Route(f"{one}/qr", self._qr),
                Route(f"{one}/pairing-code", self._pair, methods=["POST"]),
                Route(f"{one}/logout", self._delete, methods=["POST"]),
            ]
        return Starlette(routes=routes, exception_handlers={404: _no_such_path})

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "healthy", "uptime": 1000.0})

    async def _list(self, request: Request) -> Response:
        listed = [
            {"session_id": name, "workspace_id": one.workspace, "status": one.status, "phone_number": one.phone}
            for name, one in self.sessions.items()
        ]
        return self._refusal(request.query_params.get("api_key")) or JSONResponse({"success": True, "sessions": listed})

    async def _create(self, request: Request) -> Response:
        body, refusal = await self._body(request)
        if refusal is None:
            self.sessions[body["session_id"]] = Session(workspace=body.get("workspace_id"))
        return refusal or JSONResponse({"success": True, "session_id": body["session_id"], "status": "qr_scanning"})

    async def _metadata(self, request: Request) -> Response:
        one = self._of(request)
        refusal = self._refusal(request.query_params.get("api_key"))
        if refusal is not None or one is None:
            return refusal or _unknown()
        code = {} if self.ours else {"qrCode": _next_code(one)}
        return JSONResponse({"success": True, "metadata": {"status": one.status, "phoneNumber": one.phone, **code}})

    async def _qr(self, request: Request) -> Response:
        one = self._of(request)
        return _unknown() if one is None else JSONResponse({"success": True, "qr_code": _next_code(one)})

    async def _pair(self, request: Request) -> Response:
        _, refusal = await self._body(request)
        return refusal or JSONResponse({"success": True, "code": "ABCD-1234"})

    async def _reconnect(self, request: Request) -> Response:
        _, refusal = await self._body(request)
        return refusal or JSONResponse({"success": True})

    async def _delete(self, request: Request) -> Response:
        _, refusal = await self._body(request)
        if refusal is None:
            self.sessions.pop(request.path_params["session"], None)
        return refusal or JSONResponse({"success": True})

    async def _body(self, request: Request) -> tuple[dict[str, Any], Response | None]:
        body = await request.json() if await request.body() else {}
        key = body.pop("api_key", None)
        self.asked.append((request.method, request.url.path, body, request.headers.get("x-sluice-fence")))
        if self.refuses is not None:
            return body, JSONResponse(self.refuses[1], self.refuses[0])
        return body, self._refusal(key)

    def _of(self, request: Request) -> Session | None:
        return self.sessions.get(request.path_params["session"])

    def _refusal(self, key: str | None) -> Response | None:
        return None if key == self.key else JSONResponse({"error": "Invalid API key"}, 401)


@asynccontextmanager
async def serving(worker: ContractWorker) -> AsyncIterator[ContractWorker]:
    bound, stop = listening("127.0.0.1", 0), Stop()
    worker.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    task = asyncio.create_task(serve(worker.app(), bound, stop))
    try:
        yield worker
    finally:
        stop.request()
        await task


def picture(shade: int) -> str:
    """A grey picture of 8 by 8."""
    return grey(8, bytes([shade]) * 64)


def _next_code(one: Session) -> str:
    """It stays with the metadata when it was scanned, as in the existing service."""
    if one.status == "qr_scanning":
        one.codes += 1
    return picture(one.codes % 256)


def _unknown() -> Response:
    return JSONResponse({"error": "Session not found"}, 404)


async def _no_such_path(request: Request, _: Exception) -> Response:
    return JSONResponse({"error": "Endpoint not found", "path": request.url.path, "method": request.method}, 404)
