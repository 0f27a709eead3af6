"""The unmodified whatsapp-web.js with RemoteAuth, the store of examples/node-remoteauth, and a gateway with a vault: a
login outlives its machine, and what each of them could get wrong does no harm."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessions.profiles import zips
from sessions.profiles.generations import Generations
from sessions.profiles.portable import TREES, portable_files
from sluice.store.client import Store
from tests.browser.running import BY_REMOTE_AUTH, WHOLE, Client, chromium, flushed, found
from tests.e2e.remoteauth.running import WITH_VAULT, is_logged_in, killed, log_in, strategy, unzipped, worker
from tests.gateway.running import Gate, Receiver, gateway, receiver
from tests.sessions.profiles.making import profile
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def laravel() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def gate(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    async with gateway(tmp_path, store_url, laravel.url, text=WITH_VAULT) as opened:
        yield opened


def problems(worker: Client) -> list[str]:
    return [f"{one['what']}: {one['reason']}" for one in worker.events if one["event"] == "problem"]


async def test_a_login_survives_its_machine(gate: Gate, store: Store, tmp_path: Path) -> None:
    lost, other = tmp_path / "lost", tmp_path / "not" / "there" / "yet"
    async with worker(gate.url, lost) as first:
        await log_in(first, lost / "RemoteAuth-s1")
        assert first.had("qr")
        await first.ask("save")  # RemoteAuth itself waits for 60 s before the first one
        assert first.had("remote_session_saved")
        assert problems(first) == []
        await first.kill()
    shutil.rmtree(lost)
    async with worker(gate.url, other) as second:
        assert await is_logged_in(second)
        assert problems(second) == []
    known = await Generations(store).of("s1")
    assert known is not None
    assert known.newest is not None
    assert re.fullmatch(r"[0-9.]+", known.newest.browser), "the product is not known"
    assert [path.name for path in other.iterdir()] == ["RemoteAuth-s1"]


async def test_what_a_closed_browser_has_written_is_saved_at_the_end(gate: Gate, tmp_path: Path) -> None:
    async with worker(gate.url, tmp_path / "a") as first:
        await log_in(first, tmp_path / "a" / "RemoteAuth-s1")
        await first.login("grow", 3)
        rounds = await first.login("rounds")
        await first.ask("destroy")
        await first.ask("save")
        assert problems(first) == []
    async with worker(gate.url, tmp_path / "b") as second:
        assert await is_logged_in(second)
        assert await second.login("rounds") == rounds


async def test_the_latest_start_has_the_login_and_an_older_one_can_neither_save_nor_delete_it(
    gate: Gate, tmp_path: Path
) -> None:
    async with worker(gate.url, tmp_path / "a") as first:
        await log_in(first, tmp_path / "a" / "RemoteAuth-s1")
        await first.ask("save")
        async with worker(gate.url, tmp_path / "b") as second:
            assert await is_logged_in(second)
            await first.ask("save")
            assert problems(first) == ["save: stale"]
            await first.ask("logout")
            assert set(problems(first)) == {"save: stale", "delete: stale"}
            await second.ask("save")
            assert problems(second) == []
    async with worker(gate.url, tmp_path / "c") as third:
        assert await is_logged_in(third)


async def test_a_logout_ends_the_login_and_can_be_taken_back(gate: Gate, store: Store, tmp_path: Path) -> None:
    data = tmp_path / "a"
    async with worker(gate.url, data) as first:
        await log_in(first, data / "RemoteAuth-s1")
        await first.ask("save")
        await first.ask("logout")
        (data / "RemoteAuth-s1").mkdir()
        await first.ask("save")  # of an interval that goes on: nobody is logged in there
        assert problems(first) == ["save: deleted"]
    async with worker(gate.url, tmp_path / "b") as second:
        await second.event("qr")
        await second.kill()
    assert await Generations(store).undelete("s1")
    async with worker(gate.url, tmp_path / "c") as third:
        assert await is_logged_in(third)


async def test_an_outage_never_looks_like_a_missing_login(
    tmp_path: Path, store_url: str, laravel: Receiver, gate: Gate
) -> None:
    data = tmp_path / "a"
    async with worker(gate.url, data) as running:
        await log_in(running, data / "RemoteAuth-s1")
        await running.ask("save")
        gate.stop.request()

        async def is_away() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            except OSError:
                return True
            writer.close()
            return False

        await until(is_away, timeout=30, what="the gateway to stop")
        events = len(running.events)
        await running.ask("reload")
        await running.event("ready", after=events)
        unknown = await running.event("problem", after=events)
        assert (unknown["what"], unknown["reason"]) == ("sessionExists", "unknown")
        await running.ask("save")
        assert problems(running) == ["sessionExists: unknown", "save: failed"]
        assert (await running.login("found"))["registered"] is True, "it runs on"
    async with worker(gate.url, data) as again:
        failed = await again.event("failed")
        assert f"POST {gate.url}/_sluice/vault/s1: connect ECONNREFUSED" in failed["what"]
    assert await found(data / "RemoteAuth-s1") == WHOLE, "its profile is as it was"
    async with gateway(tmp_path, store_url, laravel.url, text=WITH_VAULT) as back, worker(back.url, data) as again:
        assert await is_logged_in(again)


@pytest.mark.parametrize("version", ["1.34.4", "1.34.6"])
async def test_older_versions_of_remote_auth_save_and_restore(version: str, gate: Gate, tmp_path: Path) -> None:
    data, other, here = tmp_path / "a", tmp_path / "b", tmp_path / "here"
    here.mkdir()
    profile = data / "RemoteAuth-s1"
    async with strategy(version, gate.url, data, here) as auth, chromium(profile) as browser:
        await browser.login("fill", "628120000001")
        await flushed(profile)
        await auth.ask("save")
        assert [one["event"] for one in auth.events] == ["started", "remote_session_saved"], auth.events
    async with strategy(version, gate.url, other, here):
        pass
    assert await found(other / "RemoteAuth-s1") == BY_REMOTE_AUTH


async def test_remote_auth_has_unzipped_all_of_it_when_it_opens_the_browser(tmp_path: Path) -> None:
    """Its unzip library says that it has read the zip; without the last entry, files that it has yet to write would be
    missing, in every third start."""
    folder = profile(tmp_path / "source", size=100_000)
    zips.write(folder, tmp_path / "kept.zip")
    names = {file.name: file.size for file in portable_files(folder) if file.name.startswith(TREES)}
    assert await unzipped(tmp_path / "kept.zip", names, times=30, folder=tmp_path) == 30


async def test_a_login_survives_workers_that_are_killed_at_any_moment(gate: Gate, tmp_path: Path) -> None:
    """benchmarks/remoteauth_kills.py does it fifty times."""
    kept = await killed(gate.url, tmp_path, kills=5, seed=19)
    assert kept.early + kept.saving == 5
    assert kept.restored == kept.saving + 1
    assert kept.saves
