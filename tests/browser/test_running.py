"""The browsers of these tests show what they say: a whole login is found whole, and what is missing is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sessions.profiles.portable import backend_of
from tests.browser.running import BY_REMOTE_AUTH, FOLDER_STORE, PHONE, WHOLE, chromium, client, flushed, found, make

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LEVELDB = "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb"
BLOBS = "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.blob"


async def test_a_login_is_made_and_found(tmp_path: Path) -> None:
    profile = await make(tmp_path / "profile")
    assert backend_of(profile) == "leveldb"
    assert sum(path.stat().st_size for path in (profile / BLOBS).rglob("*") if path.is_file()) >= 700_000
    assert await found(profile) == WHOLE


async def test_what_is_missing_is_told(tmp_path: Path) -> None:
    profile = await make(tmp_path / "profile")
    shutil.rmtree(profile / BLOBS)
    (profile / "Default/Cookies").unlink()
    told = await found(profile)
    assert told["databases"] is True
    assert told["cookies"] is False
    assert "NotReadableError" in told["blob"] or "could not be" in told["blob"], told
    shutil.rmtree(profile / LEVELDB)
    told = await found(profile)
    assert (told["databases"], told["registered"], told["local_storage"]) == (False, False, True)


async def test_a_page_writes_meanwhile(tmp_path: Path) -> None:
    profile = await make(tmp_path / "profile")
    async with chromium(profile) as browser:
        before = await browser.login("rounds")
        await browser.login("keepWriting")
        while await browser.login("rounds") < before + 5:
            pass
    assert await found(profile) == WHOLE


async def test_the_client_of_whatsapp_web_js_logs_in_and_is_logged_in_again(tmp_path: Path) -> None:
    async with client(tmp_path, "LocalAuth", clientId="s1") as worker:
        await worker.event("ready")
        assert worker.had("qr")
        await worker.login("fill", PHONE)
    assert await found(tmp_path / "session-s1") == WHOLE
    async with client(tmp_path, "LocalAuth", clientId="s1") as worker:
        await worker.event("ready")
        assert not worker.had("qr")
        assert await worker.login("found") == WHOLE


async def test_remote_auth_restores_from_its_store(tmp_path: Path) -> None:
    data, kept = tmp_path / "data", tmp_path / "kept"
    data.mkdir()
    kept.mkdir()
    store = (FOLDER_STORE, "FolderStore", {"folder": str(kept), "dataPath": str(data)})
    async with client(data, "RemoteAuth", store=store, clientId="s1") as worker:
        await worker.event("ready")
        await worker.login("fill", PHONE)
        await flushed(data / "RemoteAuth-s1")
        await worker.ask("save")
        assert worker.had("remote_session_saved")
    shutil.rmtree(data)
    data.mkdir()
    async with client(data, "RemoteAuth", store=store, clientId="s1") as worker:
        await worker.event("ready")
        assert not worker.had("qr")
        assert await worker.login("found") == BY_REMOTE_AUTH
