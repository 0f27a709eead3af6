"""Laravel, as far as a nemesis needs it: it takes every webhook, writes down what arrived, and lists the accounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from tests.nemesis.history import History


@asynccontextmanager
async def receiving(port: int, history: History, accounts: Mapping[str, int]) -> AsyncIterator[None]:
    """`accounts`: session → workspace, of the existing workers; they start what they are told of these."""

    async def webhook(request: Request) -> Response:
        told = orjson.loads(await request.body())
        data = told["data"]
        about = {name: data.get(name) for name in ("fence", "worker")}
        message = data["message"] if isinstance(data.get("message"), dict) else {}
        event = message.get("id") or request.headers["webhook-id"]
        about |= {
            "type": told["event"],
            "message": message.get("id", data.get("message_id")),
            "text": message.get("body"),
        }
        history.note("delivered", session=data["session_id"], event=event, **about)
        return JSONResponse({"status": "received"})

    async def active(_: Request) -> Response:
        rows = [
            {"id": number, "session_id": session, "workspace_id": workspace, "status": "connected"}
            | {"phone_number": None, "provider_type": "webjs"}
            for number, (session, workspace) in enumerate(accounts.items(), 1)
        ]
        return JSONResponse({"success": True, "sessions": rows, "count": len(rows)})

    app = Starlette(
        routes=[
            Route("/api/whatsapp/accounts/active", active),
            Route("/{path:path}", webhook, methods=["POST"]),
        ]
    )
    stop = Stop()
    serving = asyncio.create_task(serve(app, listening("127.0.0.1", port), stop))
    try:
        yield
    finally:
        stop.request()
        await serving
