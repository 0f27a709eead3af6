"""Snapshots of real browsers, while they write and after they were closed, open again with all that they had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sessions.profiles import snapshot as snapshots, zips
from sessions.profiles.browsers import Unfit, browser_at
from sessions.profiles.contents import InStore, Manifests
from sessions.profiles.generations import Generations
from sessions.profiles.in_use import InUse, use_of
from sessions.profiles.portable import backend_of
from sessions.profiles.restoring import restore
from sessions.profiles.saving import Saved
from sessions.profiles.snapshot import snapshot
from sessions.profiles.vault import Restored, Vault
from sluice.store.client import Store
from tests.browser.running import (
    BY_REMOTE_AUTH,
    FOLDER_STORE,
    PHONE,
    WHOLE,
    chromium,
    client,
    executable,
    flushed,
    found,
    make,
)
from tests.sessions.profiles.making import SECRET
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SQLITE = ("--enable-features=IdbSqliteOnDiskRollout,IdbSqliteBackingStore",)
BUSY = 5.0
"""Seconds for which a browser may stand still here: other tests take the processors meanwhile."""


@pytest.fixture
def vault(store: Store) -> Vault:
    return Vault(Generations(store), Manifests(store), InStore(store), (SECRET,))


async def save(vault: Vault, source: Path, session: str = "s1") -> Saved:
    fence = (await vault.generations.claim(session)).fence
    saved = await snapshots.save(vault, session, fence, source, product="Chromium", limit=BUSY)
    assert isinstance(saved, Saved)
    return saved


async def restored(vault: Vault, target: Path, session: str = "s1") -> Path:
    assert isinstance(await restore(vault, session, target, await browser_at(executable())), Restored)
    return target


@pytest.mark.parametrize("flags", [(), SQLITE], ids=["leveldb", "sqlite"])
async def test_each_snapshot_of_a_page_that_writes_opens_with_all_it_had(
    vault: Vault, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    profile = await make(tmp_path / "profile", size=2, flags=flags)
    assert backend_of(profile) == ("sqlite" if flags else "leveldb")
    async with chromium(profile, flags) as browser:
        await browser.login("keepWriting")
        for number in range(3):
            with_more = await browser.login("rounds")
            while await browser.login("rounds") < with_more + 2:
                pass
            await save(vault, profile)
            target = await restored(vault, tmp_path / f"target{number}")
            assert await found(target, flags) == WHOLE
        before = await browser.login("rounds")
        while await browser.login("rounds") <= before:
            pass  # it goes on
    assert await found(profile, flags) == WHOLE


async def test_a_browser_goes_on_when_who_takes_a_snapshot_is_killed(tmp_path: Path) -> None:
    profile = await make(tmp_path / "profile")
    async with chromium(profile) as browser:
        await browser.login("keepWriting")
        for wait in (0.0, 0.01, 0.05):
            taking = subprocess.Popen(
                [sys.executable, "-c", TAKE, str(profile)], stdout=subprocess.PIPE, text=True, env=os.environ
            )
            assert taking.stdout is not None
            assert taking.stdout.readline() == "paused\n"
            time.sleep(wait)
            taking.kill()
            taking.communicate()
            before = await browser.login("rounds")
            while await browser.login("rounds") <= before:
                pass
        with snapshot(profile, limit=BUSY) as taken:
            assert taken.paused > 0
            shutil.copytree(taken.folder, tmp_path / "target")
    assert await found(tmp_path / "target") == WHOLE


TAKE = """
import sys, time
from pathlib import Path
from sessions.profiles import snapshot as snapshots
snapshots._copy = lambda *_: (print("paused", flush=True), time.sleep(600))
with snapshots.snapshot(Path(sys.argv[1]), limit=600):
    pass
"""


async def test_a_browser_that_was_killed_leaves_a_login_that_is_saved(vault: Vault, tmp_path: Path) -> None:
    profile = await make(tmp_path / "profile")
    async with chromium(profile) as browser:
        await browser.login("keepWriting")
        await browser.kill()
    await until(lambda: use_of(profile).state == "left_over", timeout=60)
    await save(vault, profile)
    assert await found(await restored(vault, tmp_path / "target")) == WHOLE


async def test_no_profile_is_replaced_under_its_browser(vault: Vault, tmp_path: Path) -> None:
    profile = await make(tmp_path / "profile")
    await save(vault, profile)
    async with chromium(profile):
        with pytest.raises(InUse, match=" runs on it: stop it first$"):
            await restored(vault, profile)
    await restored(vault, profile)
    assert await found(profile) == WHOLE


async def test_a_login_of_local_auth_goes_through_the_vault(vault: Vault, tmp_path: Path) -> None:
    async with client(tmp_path / "one", "LocalAuth", clientId="s1") as worker:
        await worker.event("ready")
        await worker.login("fill", PHONE)
    await save(vault, tmp_path / "one/session-s1")
    shutil.rmtree(tmp_path / "one")
    assert await found(await restored(vault, tmp_path / "chromium")) == WHOLE
    await restored(vault, tmp_path / "two/session-s1")
    async with client(tmp_path / "two", "LocalAuth", clientId="s1") as worker:
        await worker.event("ready")
        assert not worker.had("qr")
        assert await worker.login("found") == WHOLE


async def test_a_login_of_remote_auth_goes_through_the_vault(vault: Vault, tmp_path: Path) -> None:
    for folder in ("data", "kept", "other", "export"):
        (tmp_path / folder).mkdir()

    def store(data: str, kept: str) -> tuple[str, str, dict[str, str]]:
        return FOLDER_STORE, "FolderStore", {"folder": str(tmp_path / kept), "dataPath": str(tmp_path / data)}

    async with client(tmp_path / "data", "RemoteAuth", store=store("data", "kept"), clientId="s1") as worker:
        await worker.event("ready")
        await worker.login("fill", PHONE)
        await flushed(tmp_path / "data/RemoteAuth-s1")
        await worker.ask("save")
    zips.extract(tmp_path / "kept/RemoteAuth-s1.zip", tmp_path / "imported")
    await save(vault, tmp_path / "imported")
    target = await restored(vault, tmp_path / "target")
    zips.write(target, tmp_path / "export/RemoteAuth-s1.zip")
    assert await found(target) == BY_REMOTE_AUTH
    async with client(tmp_path / "other", "RemoteAuth", store=store("other", "export"), clientId="s1") as worker:
        await worker.event("ready")
        assert not worker.had("qr")
        assert await worker.login("found") == BY_REMOTE_AUTH


async def test_the_vault_keeps_a_login_that_a_browser_of_the_other_backend_has_deleted(
    vault: Vault, tmp_path: Path
) -> None:
    profile = await make(tmp_path / "profile", flags=SQLITE)
    await save(vault, profile)
    deleted = await found(profile)
    assert deleted["databases"] is False
    async with chromium(profile) as browser:
        await browser.login("fill", PHONE)
    with pytest.raises(Unfit, match="^the profile kept its IndexedDB in sqlite, and now in leveldb: "):
        await save(vault, profile)
    assert await found(await restored(vault, tmp_path / "target"), SQLITE) == WHOLE
