"""Logins that whatsapp-web.js itself has made, in a real Chromium, are moved and written back, and open again whole."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from sessions.profiles.contents import InStore, Manifests
from sessions.profiles.exporting import export
from sessions.profiles.generations import Generations
from sessions.profiles.migration import Migration, Report, scratch
from sessions.profiles.migration_plan import Stage
from sessions.profiles.taking import difference
from sessions.profiles.vault import Restored, Vault
from sluice.store.client import Store
from tests.browser.running import BY_REMOTE_AUTH, FOLDER_STORE, PHONE, WHOLE, client, flushed, found
from tests.sessions.profiles.making import SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def vault(store: Store) -> Vault:
    return Vault(Generations(store), Manifests(store), InStore(store), [SECRET])


async def migrate(vault: Vault, store: Store, path: Path, data: Path) -> Report:
    with scratch(data) as folder:
        migration = Migration(vault, store, socket.gethostname(), folder)
        planned = await migration.plan(path, Stage())
        return await migration.run(planned, Stage(), lambda done, total, session: None)


async def test_a_login_of_local_auth_goes_into_the_vault_and_back(vault: Vault, store: Store, tmp_path: Path) -> None:
    source, data = tmp_path / "auth", tmp_path / "data"
    async with client(source, "LocalAuth", clientId="s1") as worker:
        await worker.event("ready")
        await worker.login("fill", PHONE)
        (waiting,) = (await migrate(vault, store, source, data)).logins
        assert (waiting.state, waiting.detail.partition(" runs on it")[0].partition(" ")[0]) == ("waiting", "process")
    (moved,) = (await migrate(vault, store, source, data)).logins
    assert (moved.session, moved.state, moved.backend) == ("s1", "moved", "leveldb")
    assert moved.browser.startswith("1")
    assert isinstance(await vault.restore("s1", tmp_path / "restored"), Restored)
    assert difference(source / "session-s1", tmp_path / "restored") is None
    assert await found(tmp_path / "restored") == WHOLE

    await export(vault, "s1", "local-auth", tmp_path / "back")
    assert difference(source / "session-s1", tmp_path / "back/session-s1") is None
    async with client(tmp_path / "back", "LocalAuth", clientId="s1") as worker:
        await worker.event("ready")
        assert not worker.had("qr")
        assert await worker.login("found") == WHOLE


async def test_a_login_of_remote_auth_goes_into_the_vault_and_back(vault: Vault, store: Store, tmp_path: Path) -> None:
    auth, kept, back = (tmp_path / name for name in ("auth", "kept", "back"))
    auth.mkdir()
    kept.mkdir()
    options = {"folder": str(kept), "dataPath": str(auth)}
    async with client(auth, "RemoteAuth", store=(FOLDER_STORE, "FolderStore", options), clientId="s1") as worker:
        await worker.event("ready")
        await worker.login("fill", PHONE)
        await flushed(auth / "RemoteAuth-s1")
        await worker.ask("save")
        (moved,) = (await migrate(vault, store, kept, tmp_path / "data")).logins
    assert (moved.session, moved.form, moved.state) == ("s1", "remote_auth_zip", "moved"), "while its browser runs"
    assert isinstance(await vault.restore("s1", tmp_path / "restored"), Restored)
    assert await found(tmp_path / "restored") == BY_REMOTE_AUTH

    await export(vault, "s1", "remote-auth", back)
    shutil.rmtree(auth)
    auth.mkdir()
    options["folder"] = str(back)
    async with client(auth, "RemoteAuth", store=(FOLDER_STORE, "FolderStore", options), clientId="s1") as worker:
        await worker.event("ready")
        assert not worker.had("qr")
        assert await worker.login("found") == BY_REMOTE_AUTH


async def test_the_folder_of_remote_auth_has_more_than_its_zip(vault: Vault, store: Store, tmp_path: Path) -> None:
    auth, kept = tmp_path / "auth", tmp_path / "kept"
    auth.mkdir()
    kept.mkdir()
    options = {"folder": str(kept), "dataPath": str(auth)}
    async with client(auth, "RemoteAuth", store=(FOLDER_STORE, "FolderStore", options), clientId="s1") as worker:
        await worker.event("ready")
        await worker.login("fill", PHONE)
    (moved,) = (await migrate(vault, store, auth, tmp_path / "data")).logins
    assert (moved.session, moved.form, moved.state) == ("s1", "remote_auth", "moved")
    assert isinstance(await vault.restore("s1", tmp_path / "restored"), Restored)
    assert await found(tmp_path / "restored") == WHOLE
