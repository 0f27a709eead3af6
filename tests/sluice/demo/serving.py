"""Real HTTP servers for the demo's tests, on ports of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp

from sluice.config import Secret, Signature
from sluice.demo.laravel import Ledger
from sluice.demo.worker import DemoWorker
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


def sequences(ledger: Ledger, session: str) -> list[int]:
    """The session's messages and acknowledgements in the order of arrival, repeats included."""
    return [one.sequence for one in ledger.deliveries if one.session == session and one.sequence is not None]


def reports(worker: DemoWorker) -> dict[str, dict[str, Any]]:
    """What runs there: fence, state, and the phone number once connected."""
    return {one.session: {"fence": one.fence, "state": one.state, "phone": one.phone} for one in worker.logins()}
