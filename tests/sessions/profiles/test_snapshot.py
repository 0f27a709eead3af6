"""Copies of profiles of which all files are of one moment. With real browsers: test_snapshot_of_browsers."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from sessions.profiles import snapshot as snapshots, space
from sessions.profiles.browsers import Browser, Unfit
from sessions.profiles.contents import InStore, Manifests
from sessions.profiles.generations import Generations
from sessions.profiles.in_use import InUse
from sessions.profiles.packing import ChangedMeanwhile
from sessions.profiles.restoring import restore
from sessions.profiles.saving import Saved
from sessions.profiles.snapshot import TooYoung, snapshot
from sessions.profiles.space import LowSpace
from sessions.profiles.vault import NothingKept, Restored, Vault
from sluice.store.client import Store
from tests.sessions.profiles.making import BLOBS, LEVELDB, SECRET, contents, profile
from tests.sessions.profiles.test_vault import login

pytestmark = pytest.mark.anyio


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = profile(tmp_path / "source")
    (made / "Last Version").write_text("156.0.8078.79")
    for file in made.rglob("*"):
        os.utime(file, (time.time() - 20,) * 2)
    return made


@pytest.fixture
def vault(store: Store) -> Vault:
    return Vault(Generations(store), Manifests(store), InStore(store), (SECRET,))


def take(source: Path, logged_in: float | None = None) -> None:
    with snapshot(source, logged_in=logged_in):
        pass


def test_a_profile_on_which_no_browser_runs_is_copied(source: Path) -> None:
    before = contents(source)
    with snapshot(source, product="Chromium") as taken:
        assert contents(taken.folder) == login(source)
        assert (taken.origin.browser, taken.origin.backend) == ("Chromium 156.0.8078.79", "leveldb")
        assert (taken.origin.host, taken.paused) == (socket.gethostname(), 0.0)
        for name in (f"{LEVELDB}/000005.ldb", f"{BLOBS}/1/00/1"):
            assert (taken.folder / name).samefile(source / name), "what nobody writes to again is not copied"
        for name in (f"{LEVELDB}/000003.log", f"{LEVELDB}/MANIFEST-000001", "Default/Cookies"):
            assert not (taken.folder / name).samefile(source / name)
    assert contents(source) == before
    assert list(source.parent.iterdir()) == [source]


def test_what_may_not_be_finished_is_copied(source: Path) -> None:
    growing = source / LEVELDB / "000009.ldb"
    growing.write_bytes(b"half of a table")
    with snapshot(source) as taken:
        before = contents(taken.folder)
        with growing.open("ab") as file:
            file.write(b", and the other half")
        assert contents(taken.folder) == before


def test_it_is_copied_where_there_are_no_hard_links(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with snapshot(source) as taken:
        assert contents(taken.folder) == login(source)


def test_what_a_crash_has_left_is_removed(source: Path) -> None:
    left = source.with_name("source.sluice-snapshot")
    profile(left, seed=2)
    with snapshot(source) as taken:
        assert contents(taken.folder) == login(source)
    assert not left.exists()


def test_one_at_a_time(source: Path) -> None:
    with snapshot(source) as taken:
        with pytest.raises(InUse, match=f"^another snapshot of {source} is being made$"), snapshot(source):
            pass
        assert contents(taken.folder) == login(source)


def test_a_lock_of_another_machine_is_respected(source: Path) -> None:
    (source / "SingletonLock").symlink_to("another-17")
    message = "it was locked on another: stop the browser there, or remove SingletonLock if none runs"
    with pytest.raises(InUse, match=message), snapshot(source):
        pass


def test_a_login_that_is_not_on_the_disk_yet_waits(source: Path) -> None:
    (source / "SingletonLock").symlink_to(f"{socket.gethostname()}-{os.getpid()}")
    message = "^somebody logged in 20 s ago, and the browser writes all of it within 60 s: wait [0-9]+ s, or stop "
    with pytest.raises(TooYoung, match=message) as young:
        take(source, logged_in=time.time() - 20)
    assert 35 < young.value.wait <= 40


def test_a_login_whose_browser_was_closed_properly_does_not_wait(source: Path) -> None:
    with snapshot(source, logged_in=time.time() - 1) as taken:
        assert contents(taken.folder) == login(source)


def test_a_login_whose_browser_was_killed_too_early_is_told(source: Path) -> None:
    (source / "SingletonLock").symlink_to(f"{socket.gethostname()}-{ended()}")
    with pytest.raises(TooYoung, match="was killed [0-9]+ s after the login, and had not written all of it: start the"):
        take(source, logged_in=time.time() - 25)
    with snapshot(source, logged_in=time.time() - 90) as taken:
        assert contents(taken.folder) == login(source)


def ended() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_browser_that_starts_meanwhile_is_seen(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = snapshots._copy

    def slowly(*args: object) -> object:
        (source / "SingletonLock").symlink_to(f"{socket.gethostname()}-{os.getpid()}")
        return copy(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshots, "_copy", slowly)
    with pytest.raises(ChangedMeanwhile, match="^a browser started on "), snapshot(source):
        pass


def test_a_full_disk_is_told_before_anything_is_written(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = os.statvfs(source)
    monkeypatch.setattr(space, "_SHARE", 1)
    monkeypatch.setattr(space, "_MOST", free.f_bavail * free.f_frsize + 2**40)
    with pytest.raises(LowSpace, match=" have to stay free: below that browsers delete logins. Free some space there$"):
        take(source)
    assert list(source.parent.iterdir()) == [source]


async def test_a_snapshot_is_saved_and_restored(vault: Vault, source: Path, tmp_path: Path) -> None:
    assert isinstance(await save(vault, source), Saved)
    found = await restore(vault, "s1", tmp_path / "target", Browser("Chromium", "156.0.8078.108", "leveldb"))
    assert isinstance(found, Restored)
    assert contents(tmp_path / "target") == login(source)


async def test_no_browser_gets_a_profile_that_it_would_drop(vault: Vault, tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    runs = Browser("Chromium", "149.0.1.2")
    assert await restore(vault, "s1", tmp_path / "target", runs) == NothingKept(deleted=False)
    for version in ("149.0.1.2", "156.0.8078.79"):
        (source / "Last Version").write_text(version)
        await save(vault, source)
    with pytest.raises(
        Unfit, match="^the profile was written by Chromium 156.0.8078.79, and Chromium 149.0.1.2 is older"
    ):
        await restore(vault, "s1", tmp_path / "target", runs)
    assert not (tmp_path / "target").exists()


async def test_no_profile_is_replaced_while_a_browser_runs_on_it(vault: Vault, tmp_path: Path) -> None:
    target = profile(tmp_path / "target", seed=2)
    await save(vault, profile(tmp_path / "source"))
    before = contents(target)
    (target / "SingletonLock").symlink_to(f"{socket.gethostname()}-{os.getpid()}")
    with pytest.raises(InUse, match=f"^{target} cannot be replaced: process {os.getpid()} runs on it: stop it first$"):
        await vault.restore("s1", target)
    assert contents(target) == before
    (target / "SingletonLock").unlink()
    (target / "SingletonLock").symlink_to("another-17")
    with pytest.raises(InUse, match="cannot be replaced: it was locked on another: stop the browser there"):
        await vault.restore("s1", target)
    (target / "SingletonLock").unlink()
    (target / "SingletonLock").symlink_to(f"{socket.gethostname()}-{ended()}")
    assert isinstance(await vault.restore("s1", target), Restored)
    assert not (target / "SingletonLock").is_symlink()


async def test_nothing_is_restored_onto_a_full_disk(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = profile(tmp_path / "target", seed=2)
    await save(vault, profile(tmp_path / "source"))
    before = contents(target)
    monkeypatch.setattr(space, "_SHARE", 1)
    monkeypatch.setattr(space, "_MOST", 2**60)
    with pytest.raises(LowSpace):
        await vault.restore("s1", target)
    assert contents(target) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("target")) == ["target"]


async def test_a_login_that_a_browser_has_replaced_by_an_empty_one_is_not_saved(vault: Vault, source: Path) -> None:
    await save(vault, source)
    (source / LEVELDB).rename(source / "Default/IndexedDB/https_web.whatsapp.com_0")
    with pytest.raises(
        Unfit, match="^the profile kept its IndexedDB in leveldb, and now in sqlite: a browser with other"
    ):
        await save(vault, source)
    known = await vault.generations.of("s1")
    assert known is not None
    assert [one.number for one in known.generations] == [1]
    assert isinstance(await save(vault, source, logged_in=time.time() - 100), Saved), "somebody has logged in again"


async def save(vault: Vault, source: Path, logged_in: float | None = None) -> object:
    fence = (await vault.generations.claim("s1")).fence
    return await snapshots.save(vault, "s1", fence, source, logged_in=logged_in, product="Chromium")
