from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from tests.relay.dispatch.running import Receiver


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    app, bound, stop = Receiver(), listening("127.0.0.1", 0), Stop()
    serving = asyncio.create_task(serve(app, bound, stop))
    yield app, f"http://127.0.0.1:{bound.getsockname()[1]}/base"
    app.gate.set()
    stop.request()
    await serving
