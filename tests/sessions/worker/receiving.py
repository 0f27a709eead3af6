"""A gateway that takes a worker's webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.sluice.demo.serving import served


@dataclass
class Receiver:
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Accepted ones, in their order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of all that came."""
    answers: list[int] = field(default_factory=list)
    """To the next ones; 200 after them."""

    def of(self, event: str) -> list[dict[str, Any]]:
        return [data for name, data in self.events if name == event]

    def statuses(self, message: str) -> list[str]:
        updates = self.of("message_status_updated")
        return [update["status"] for update in updates if update["message_id"] == message]


@asynccontextmanager
async def received() -> AsyncIterator[tuple[Receiver, str]]:
    """And its address."""
    receiver = Receiver()

    async def webhook(request: Request) -> Response:
        body = orjson.loads(await request.body())
        receiver.headers.append(dict(request.headers))
        status = receiver.answers.pop(0) if receiver.answers else 200
        if status == 200:
            receiver.events.append((body["event"], body["data"]))
        return Response(status_code=status)

    app = Starlette(routes=[Route("/api/whatsapp/webhooks/webjs", webhook, methods=["POST"])])
    async with served(app) as address:
        yield receiver, address
