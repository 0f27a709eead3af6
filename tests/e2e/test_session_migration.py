"""A fleet with LocalAuth goes over to the vault, session by session, and one goes back: no code is shown, and nobody
else is away meanwhile. With the unmodified whatsapp-web.js, real browsers, a gateway, and the commands of a person."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.browser.running import PHONE, WHOLE, Client, client
from tests.e2e.remoteauth.running import WITH_VAULT, is_logged_in, worker
from tests.gateway.running import SECRET, Gate, Receiver, gateway, receiver
from tests.sluice.cli.command import sluice

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEYS = {"SECRET": SECRET, "SECRET_KEY": "k", "VAULT_KEY": "k" * 32}


@pytest.fixture
async def laravel() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def gate(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    async with gateway(tmp_path, store_url, laravel.url, text=WITH_VAULT) as opened:
        yield opened


async def ask(tmp_path: Path, *arguments: object) -> Any:
    """The report of `sluice sessions`."""
    policies = tmp_path / "policies.yaml"
    ran = await asyncio.to_thread(
        lambda: sluice("sessions", *arguments, "--policies", policies, "--json", secrets=KEYS)
    )
    assert ran.out, ran
    return orjson.loads(ran.out)


def states(report: Any) -> dict[str, str]:
    return {one["session"]: one["state"] for one in report["logins"]}


async def log_in(started: Client) -> None:
    await started.event("ready")
    await started.login("fill", PHONE)


async def test_a_fleet_goes_over_session_by_session_and_one_goes_back(gate: Gate, tmp_path: Path) -> None:
    auth = tmp_path / "auth"
    async with client(auth, "LocalAuth", clientId="s1") as one:
        await log_in(one)
    async with client(auth, "LocalAuth", clientId="s2") as two:
        await log_in(two)
        report = await ask(tmp_path, "migrate", auth, "--all", "--yes")
        assert states(report) == {"s1": "moved", "s2": "waiting"}
        async with worker(gate.url, tmp_path / "new") as one:
            await one.event("ready")
            assert not one.had("qr")
            assert await is_logged_in(one)
            assert await two.login("found") == WHOLE, "s2 runs on"
            await one.ask("save")
            assert not one.had("problem"), one.events
    assert states(await ask(tmp_path, "migrate", auth, "--batch", "1", "--yes")) == {"s2": "moved", "s1": "kept"}
    async with worker(gate.url, tmp_path / "new", "s2") as two:
        assert await is_logged_in(two)
    undone = await ask(tmp_path, "migrate", auth, "--undo", "--all", "--yes")
    assert states(undone) == {"s1": "left", "s2": "left"}

    done = await ask(tmp_path, "export", "s1", "--as", "local-auth", tmp_path / "back")
    assert (done["exported"], done["generation"]) == (True, 2)
    async with client(tmp_path / "back", "LocalAuth", clientId="s1") as one:
        assert await is_logged_in(one)
