"""Sessions of a worker of ours that run and are not well: found and told once, restarted, and told when it is over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from sessions.registry import Registry
from sluice.process.addresses import store_url
from sluice.store.client import Store
from tests.e2e.deployment import Deployment, deployment
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SILENT, FLAPPING, STUCK, WELL = "silent_1", "flapping_1", "stuck_1", "silent_2"
WATCH = "{silent: 3s, flapping: 3/15 seconds, qr_scanning: 3s, restart: [silent, flapping, qr_scanning]}"
KINDS = {SILENT: "silent", FLAPPING: "flapping", STUCK: "qr_scanning"}
FOUND_WITHIN = 40.0  # seconds, on a busy machine; each is due after 3 to 6


@contextlib.asynccontextmanager
async def watched(folder: Path, ports: tuple[int, int]) -> AsyncIterator[tuple[Deployment, Registry]]:
    async with deployment(folder, ports) as sluice:
        text = sluice.file.read_text()
        sluice.file.write_text(text.replace("verify: workers}", f"verify: workers, watch: {WATCH}}}"))
        await sluice.start_laravel(60)
        await sluice.start_up()
        await sluice.module("tests.e2e.unwell_worker", "--name", "w1", "--gateway", sluice.gateway)
        store = Store(store_url(sluice.policies), timeout=5.0)
        try:
            yield sluice, Registry(store, 3.0)
        finally:
            await store.close()


async def told(sluice: Deployment) -> dict[str, list[str]]:
    """What Laravel got of their faults, by session and in order."""
    found: dict[str, list[str]] = {}
    for one in await sluice.arrived():
        if one["event"] in ("session_unhealthy", "session_recovered"):
            found.setdefault(one["session"], []).append(one["event"])
    return found


async def restarts_in_the_audit_log(sluice: Deployment) -> list[dict[str, Any]]:
    code, out, err = await sluice.run("audit", "--action", "restart_session", "--json")
    assert code == 0, err
    lines: list[dict[str, Any]] = orjson.loads(out)["lines"]
    return lines


async def test_one_that_is_silent_one_that_flaps_and_one_that_is_stuck_are_each_found_restarted_and_told_once(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    async with watched(short_folder, (free_port(), free_port())) as (sluice, registry):
        began = time.monotonic()
        await registry.want({session: {"workspace_id": 1} for session in (*KINDS, WELL)})

        async def run() -> bool:
            return {row.session for row in await registry.sessions() if row.worker == "w1"} == {*KINDS, WELL}

        await until(run, timeout=60, what=sluice.said)

        async def ready() -> bool:
            arrived = {one["session"] for one in await sluice.arrived() if one["event"] == "session_ready"}
            return {SILENT, WELL} <= arrived

        await until(ready, timeout=60, what=sluice.said)
        async with httpx2.AsyncClient(base_url=sluice.gateway, trust_env=False, timeout=30) as client:
            message = {"session_id": SILENT, "recipient_phone": "4912345", "message": "hello", "type": "text"}
            sent = await client.post("/api/messages/send", json=message)
            assert sent.status_code == 200, sent.text

        async def all_found() -> bool:
            return (await told(sluice)).keys() == KINDS.keys()

        await until(all_found, timeout=FOUND_WITHIN, what=sluice.said)

        async def all_over() -> bool:
            events = await told(sluice)
            return all(events[session][-1] == "session_recovered" for session in KINDS)

        await until(all_over, timeout=90, what=sluice.said)
        print(f"all were found, restarted and well after {time.monotonic() - began:.0f} s")
        assert await told(sluice) == {session: ["session_unhealthy", "session_recovered"] for session in KINDS}
        assert not [row for row in await registry.sessions() if row.fault is not None or row.state != "connected"]

        lines = await restarts_in_the_audit_log(sluice)
        assert sorted(line["request"]["session"] for line in lines) == sorted(KINDS), "once each"
        assert {(line["who"], line["request"]["worker"], line["request"]["outcome"]) for line in lines} == {
            ("watch", "w1", "restarted")
        }
