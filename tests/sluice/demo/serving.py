"""Real HTTP servers for the demo's tests, on ports of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from sluice.config import Secret, Signature
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop

SIGNATURE = Signature("workers", "blazz", Secret(b"my-secret-key"), tolerance=300)


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The application behind a real server, as its address."""
    listener = listening("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stop = Stop()
    serving = asyncio.create_task(serve(app, listener, stop))
    try:
        yield address
    finally:
        stop.request()
        await serving
