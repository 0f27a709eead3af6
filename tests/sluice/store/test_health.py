from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluice.process.disk import disk_of
from sluice.store import embedded
from sluice.store.client import Store, StoreRefused
from sluice.store.health import health_in, health_of
from tests.waiting import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(folder: Path, *more: str) -> AsyncIterator[Store]:
    embedded.make_folders(folder)
    process = subprocess.Popen([*embedded.command(folder, "always"), *more], stdout=subprocess.DEVNULL)
    await embedded.answering(embedded.url(folder), 10.0)
    store = Store(embedded.url(folder), timeout=5.0)
    try:
        yield store
    finally:
        await store.close()
        process.kill()
        process.wait()


@pytest.fixture
def small_disk(short_folder: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", short_folder], check=True)
    yield short_folder
    subprocess.run(["umount", "-l", short_folder], check=True)


async def test_a_store_says_what_it_is_and_how_full(short_folder: Path) -> None:
    async with running(short_folder, "--maxmemory", "64mb") as store:
        health = await health_of(store)
    name, _, version = health.version.partition(" ")
    assert name in ("valkey", "redis")
    assert version[0].isdecimal()
    assert (health.max_memory, health.appends, health.failing) == (64 * 1024**2, True, "")
    assert 0 < health.memory < health.max_memory
    assert health.pid > 0
    assert 0 <= health.up < 60


async def test_a_store_that_was_told_to_keep_nothing_says_so(short_folder: Path) -> None:
    async with running(short_folder) as store:
        await store.commands(("CONFIG", "SET", "appendonly", "no"))
        assert (await health_of(store)).appends is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
async def test_a_full_disk_shows_before_and_after(small_disk: Path) -> None:
    async with running(small_disk) as store:
        (small_disk / "filling").write_bytes(b"x" * 12 * 1024**2)
        disk = disk_of(small_disk)
        assert disk is not None
        assert disk.total == 16 * 1024**2
        assert 0 < disk.free < 5 * 1024**2

        async def cannot_write() -> bool:
            try:
                await store.commands(("SET", str(time.monotonic()), b"x" * 1024**2))
            except StoreRefused:
                return True
            return False

        # Where an append fails under `always` the server gives up: so this one may miss some.
        await store.commands(("CONFIG", "SET", "appendfsync", "everysec"))
        await until(cannot_write, timeout=20, what="the store to refuse a write")
        assert (await health_of(store)).failing == "its append-only file"


def test_what_a_store_does_not_say_counts_as_well() -> None:
    health = health_in("# Server\r\nredis_version:6.0.16\r\nuptime_in_seconds:many\r\n")
    assert (health.version, health.up, health.appends, health.failing) == ("redis 6.0.16", 0, True, "")


def test_everything_that_failed_is_named() -> None:
    info = "aof_last_write_status:err\r\naof_last_bgrewrite_status:err\r\nrdb_last_bgsave_status:ok\r\n"
    assert health_in(info).failing == "its append-only file and the rewrite of its append-only file"


def test_a_folder_that_is_not_there_has_no_disk(tmp_path: Path) -> None:
    assert disk_of(tmp_path / "nowhere") is None
