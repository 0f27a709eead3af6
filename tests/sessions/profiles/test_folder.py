"""A folder as they are: full, read-only, with what a crash has left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions.profiles.errors import ContentsAway, ContentsFull
from sessions.profiles.folder import InFolder
from sessions.profiles.names import folder_of
from sessions.profiles.vault import Restored
from sluice.store.client import Store
from tests.sessions.profiles.making import contents, profile
from tests.sessions.profiles.saving import login, make, save

pytestmark = pytest.mark.anyio

NAME = "0" * 32
FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from sessions.profiles.errors import ContentsFull
from sessions.profiles.folder import InFolder

async def main():
    place = InFolder(Path(sys.argv[1]))
    await place.put("s1", 1, "a" * 32, b"fits")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        await place.put("s1", 1, "b" * 32, b"x" * 5000)
    except ContentsFull as error:
        print(error)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
asyncio.run(main())
"""


def test_a_disk_that_takes_no_more_is_told_and_what_was_written_half_is_gone(tmp_path: Path) -> None:
    """In a process of its own whose files may not grow."""
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    cure = "make room there, or have `sluice vault prune` do it"
    assert said == f"the vault in {tmp_path} cannot be written: File too large: {cure}\n"
    assert [path.name for path in (tmp_path / "s1" / "1").iterdir()] == ["a" * 32]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk; the test above needs none")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_loses_nothing(store: Store, small_disk: Path, tmp_path: Path) -> None:
    vault, source = make(store, InFolder(small_disk)), profile(tmp_path / "source", size=500_000)
    await save(vault, source)
    with pytest.raises(ContentsFull, match="No space left on device: make room there"):
        await save(vault, profile(tmp_path / "large", size=4 * 2**20, seed=2))
    assert len({of for of, _ in await InFolder(small_disk).lying("s1")}) == 1, "what it wrote is taken back"
    assert isinstance(await vault.restore("s1", tmp_path / "target"), Restored)
    assert contents(tmp_path / "target") == login(source)


async def test_a_folder_that_is_read_only_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    try:
        subprocess.run(["mount", "--bind", "-o", "ro", tmp_path / "vault", tmp_path / "vault"], check=True)
    except subprocess.CalledProcessError:
        pytest.skip("only root can mount a folder read-only")
    try:
        with pytest.raises(ContentsAway, match="cannot be written: Read-only file system$"):
            await InFolder(tmp_path / "vault").put("s1", 1, NAME, b"sealed")
    finally:
        subprocess.run(["umount", str(tmp_path / "vault")], check=True)


async def test_files_and_their_folders_reach_the_disk_before_a_chunk_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    really = os.fsync

    def fsync(number: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{number}"))
        really(number)

    monkeypatch.setattr(os, "fsync", fsync)
    await InFolder(tmp_path).put("s1", 1, NAME, b"sealed")
    assert synced[:2] == [str(tmp_path), str(tmp_path / "s1")]
    assert synced[2].startswith(str(tmp_path / "s1" / "1" / f".{NAME}."))
    assert synced[3] == str(tmp_path / "s1" / "1")


async def test_only_its_user_may_read_what_lies_there(tmp_path: Path) -> None:
    await InFolder(tmp_path).put("s1", 1, NAME, b"sealed")
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.is_dir()} == {"0o700"}
    assert {oct(path.stat().st_mode & 0o777) for path in tmp_path.rglob("*") if path.is_file()} == {"0o600"}


async def test_what_a_killed_writer_left_half_is_swept(store: Store, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    place = InFolder(tmp_path / "vault")
    vault = make(store, place)
    fence = (await vault.generations.claim("s1")).fence
    begun = await vault.generations.begin("s1", fence)
    half = tmp_path / "vault" / "s1" / str(begun) / f".{NAME}.0a1b2c3d"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    await save(vault, profile(tmp_path / "source", size=10), fence=fence)
    assert not half.parent.exists()


def test_each_session_has_a_folder_of_its_own_whatever_its_name() -> None:
    names = ["a", "A", "a.b", "..", ".", "a/b", "a%2Fb", "ä" * 100, "ä" * 101, "x" * 5000, "x" * 5001, "a:b", " "]
    folders = [folder_of(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(len(folder) <= 200 and "/" not in folder and not folder.startswith(".") for folder in folders)


async def test_whoever_is_cancelled_waits_until_its_thread_has_ended(tmp_path: Path) -> None:
    place, written = InFolder(tmp_path), tmp_path / "s1" / "1" / NAME
    putting = asyncio.create_task(place.put("s1", 1, NAME, b"x" * 10**6))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    there = written.exists()
    await asyncio.sleep(0.1)
    assert written.exists() == there, "nothing goes on behind its back"
