"""A WebSocket that is over is freed at once on the upstream's side, too, and not by the garbage collector."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from gateway.proxy.websocket.connection import Connection, Handshake
from sluice.http.websocket.intake import Intake
from sluice.http.websocket.memory import Held
from tests.gateway.proxy.websocket.reverb import Reverb, to
from tests.gateway.running import Gate
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("how", ["closed", "aborted", "wrong"])
async def test_of_a_websocket_nothing_is_left_to_be_collected(gate: Gate, reverb: Reverb, how: str) -> None:
    gc.collect()
    gc.disable()
    before = _kept()
    try:
        for _ in range(3):
            async with to(gate, close_timeout=0.1) as client:
                await client.send("last")
                assert await client.recv() == "last"
                if how == "aborted":
                    client.transport.abort()
                elif how == "wrong":
                    client.transport.write(b"\xff\xff\xff\xff")
        await until(
            lambda: not _kept() - before, timeout=20, what=lambda: f"nothing to be left; there is {_kept() - before}"
        )
    finally:
        gc.enable()


def _kept() -> Counter[str]:
    ours = (Connection, Handshake, Intake, Held)
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in ours)
