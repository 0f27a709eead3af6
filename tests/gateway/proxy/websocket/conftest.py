"""A gateway in front of a WebSocket server."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
from websockets.asyncio.server import serve
from websockets.typing import Subprotocol

from gateway.proxy.websocket import times
from tests.gateway import running as making
from tests.gateway.proxy.websocket.reverb import Logged, Reverb
from tests.gateway.running import Gate, start
from tests.heard import Heard


@pytest.fixture
async def reverb() -> AsyncIterator[Reverb]:
    made = Reverb()
    async with serve(
        made.serve,
        "127.0.0.1",
        0,
        process_request=lambda connection, request: made.answer(connection, request),
        select_subprotocol=lambda connection, offered: Subprotocol("v2") if "v2" in offered else None,
        max_size=None,
        ping_interval=None,
    ) as made.server:
        yield made


@pytest.fixture
async def gate(
    tmp_path: Path, store_url: str, reverb: Reverb, stopping: list[asyncio.Task[None]]
) -> AsyncIterator[Gate]:
    gate, task = start(tmp_path, store_url, reverb.url)
    stopping.append(task)
    async with gate.http:
        yield gate
    gate.stop.request()


@pytest.fixture
def keep_history(heard: Heard) -> Logged:
    """The log lines of WebSockets that have ended."""
    return lambda: [fields for message, fields in heard.lines if message == "websocket"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every time is short, but for the policy's own `idle` (10 s)."""
    monkeypatch.setattr(times, "PING_EVERY", 0.2)
    monkeypatch.setattr(times, "PING_WITHIN", 0.2)
    monkeypatch.setattr(times, "CLOSED_WITHIN", 0.5)
    quick = functools.partial(uvicorn.Config, ws_ping_interval=0.2, ws_ping_timeout=0.2)
    monkeypatch.setattr("sluice.http.server.serving.uvicorn.Config", quick)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """`idle` is half a second, and closing takes no longer."""
    monkeypatch.setattr(making, "POLICIES", making.POLICIES.replace("idle: 10s", "idle: 500ms"))
    monkeypatch.setattr(times, "IDLE_AT_LEAST", 0.5)
    monkeypatch.setattr(times, "CLOSED_WITHIN", 0.3)
