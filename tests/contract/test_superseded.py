"""A session_ready that is replayed after a newer one of its phone, at a Laravel that acts as the contract says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.policies import edits
from relay import process as relay_process
from relay.queue.dead_letters import DeadLetters
from relay.queue.queue import Settlement
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.contract.running import SECRET, laravel
from tests.gateway.ingest.shipped import SHIPPED, Shipped
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.mark.parametrize(
    ("supersedes", "rows"),
    [(True, {"old": "qr_scanning", "new": "connected"}), (False, {"old": "connected", "new": "failed"})],
    ids=["as shipped", "without supersede"],
)
async def test_it_does_not_take_the_newer_row_away(
    tmp_path: Path, store: Store, store_url: str, free_port: Callable[[], int], supersedes: bool, rows: dict[str, str]
) -> None:
    port, file, stop = free_port(), tmp_path / "policies.yaml", Stop()
    text = SHIPPED.read_text().replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}")
    file.write_text(text if supersedes else re.sub(r"\n *supersede: .*\n.*\n", "\n", text))
    shipped = Shipped(store, file, SECRET)
    dead = DeadLetters(store, "laravel")

    async def ready(session: str) -> None:
        await shipped.accept("session_ready", session, phone_number="49151", status="connected")
        await asyncio.sleep(0.002)

    async def is_empty() -> bool:
        counts = await shipped.queue.counts()
        return counts.waiting + counts.leased == 0

    await ready("old")
    (old,) = await shipped.leased()
    await shipped.leased([Settlement(old, "dead", "answered 422")])
    async with laravel(port, ["http://127.0.0.1:1"], tmp_path) as app:
        for session in ("old", "new"):
            await app.add(session, 1)
        relay = asyncio.create_task(relay_process.run(edits.live(shipped.policies), store_url, stop))
        try:
            await ready("new")
            await until(is_empty)
            assert (await app.account("new"))["status"] == "connected"
            assert await dead.replay([letter async for letter in dead.all()]) == 1
            await until(is_empty)
        finally:
            stop.request()
            await relay
        assert {session: row["status"] for session, row in (await app.accounts()).items()} == rows
