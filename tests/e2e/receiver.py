"""A small real Laravel that a test holds in its hand: it refuses, waits or is down as it is told, and remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop


@dataclass(frozen=True, slots=True)
class Got:
    """A webhook that came, and how it was answered."""

    id: str
    session: str
    sequence: int
    """0: it has none, as those of a worker of the contract."""
    status: int


class Receiver:
    def __init__(self) -> None:
        self.got: list[Got] = []
        self.refuses: set[str] = set()
        """Sessions whose events are answered 422."""
        self.down = False
        """Everything is answered 503, and shall be sent again."""
        self.status = 200
        """What is answered otherwise."""
        self.waiting = 0
        """Requests that are held back by `lets_go`."""
        self.lets_go = asyncio.Event()
        self.lets_go.set()

    def taken(self) -> list[Got]:
        return [one for one in self.got if one.status == 200]

    async def answer(self, request: Request) -> Response:
        data = orjson.loads(await request.body())["data"]
        self.waiting += 1
        await self.lets_go.wait()
        self.waiting -= 1
        status = 503 if self.down else 422 if data["session_id"] in self.refuses else self.status
        self.got.append(Got(request.headers["webhook-id"], data["session_id"], data.get("sequence", 0), status))
        return JSONResponse(
            {"message": "The session is unknown." if status == 422 else "ok"},
            status_code=status,
            headers={"retry-after": "0"} if status == 503 else None,
        )


@asynccontextmanager
async def receiving(port: int) -> AsyncIterator[Receiver]:
    receiver, stop = Receiver(), Stop()
    app = Starlette(routes=[Route("/{path:path}", receiver.answer, methods=["POST"])])
    serving = asyncio.create_task(serve(app, listening("127.0.0.1", port), stop))
    try:
        yield receiver
    finally:
        receiver.lets_go.set()
        stop.request()
        await serving
