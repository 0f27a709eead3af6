"""Large bodies of strangers neither stop the event loop nor stay."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import tracemalloc
from pathlib import Path

import pytest

from gateway.large_bodies import beside
from sluice.http.signatures import refusal
from tests.gateway.running import POLICIES, Gate, Receiver, gateway, problem
from tests.pulse import pulse

pytestmark = pytest.mark.anyio

MIB = 2**20


def signed_by_nobody(size: int) -> dict[str, str]:
    return {"X-HMAC-Signature": "0" * 64, "X-Timestamp": f"{time.time():.0f}", "Content-Length": str(size)}


async def test_the_signature_of_a_large_body_is_checked_beside_the_event_loop(
    tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    text = POLICIES.replace("secret: env:SECRET", f"secrets: [{', '.join(['env:SECRET', 'env:SECRET_KEY'] * 8)}]")
    async with gateway(tmp_path, store_url, laravel.url, text=text.replace("body: 1KiB", "body: 32MiB")) as gate:
        body = b"x" * (32 * MIB)
        headers = signed_by_nobody(len(body))
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        began = time.thread_time()
        assert refusal(gate.policies.signatures["workers"], pairs, body, time.time())
        takes = time.thread_time() - began
        async with pulse() as loop:
            assert (await gate.http.post("/hooks/message", content=body, headers=headers)).status_code == 401
        assert loop.longest < takes / 2


async def test_one_thread_looks_into_large_bodies_and_goes_last() -> None:
    at_once = most = 0

    def look() -> tuple[int, int]:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.01)
        at_once -= 1
        number = threading.get_native_id()
        return number, os.getpriority(os.PRIO_PROCESS, number)

    found = set(await asyncio.gather(*(beside(look) for _ in range(5))))
    assert (len(found), most) == (1, 1)
    ((number, nice),) = found
    assert number != threading.get_native_id()
    assert nice > os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_what_goes_wrong_beside_the_loop_is_raised() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await beside(fail)


async def test_a_body_that_is_refused_does_not_outlive_its_request(
    tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    """Also before somebody collects what holds itself: with large bodies there is little to collect, and much in it."""
    text = POLICIES.replace("body: 1KiB", "body: 8MiB")
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
        await refused(gate)
        tracemalloc.start()
        gc.disable()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(10):
                await refused(gate)
            assert tracemalloc.get_traced_memory()[0] - before < 10 * MIB
        finally:
            gc.enable()
            tracemalloc.stop()


async def refused(gate: Gate) -> None:
    answer = await gate.http.post("/hooks/message", content=b"x" * (4 * MIB), headers=signed_by_nobody(4 * MIB))
    assert problem(answer)[0] == 401
