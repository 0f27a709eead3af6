"""Fences never go backwards, whatever the store has lost, nor ahead of the clock; and all of it on a cluster."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sessions.changes import Change, Changes, Everything
from sessions.registry import Registry
from sluice.process.loops import Stop
from sluice.store.client import Store, StoreAway, StoreRefused
from tests.sessions.making import beat, keep, listed, named, owner, register, reserved, want, worker
from tests.sluice.store.store_servers import Server
from tests.sluice.store.test_cluster import servers
from tests.waiting import until

__all__ = ["servers"]
pytestmark = pytest.mark.anyio

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")


class Durable:
    """A store with an append-only file, which can be put back to an earlier one."""

    def __init__(self, folder: Path, port: int) -> None:
        self._data, self._kept = folder / "data", folder / "kept"
        self._data.mkdir()
        self.server = Server(self._data, port, *AOF)

    def keep(self) -> None:
        """What is on the disk now is what a crash will leave."""
        shutil.copytree(self._data / "appendonlydir", self._kept)

    def crash(self) -> None:
        self.server.kill()
        shutil.rmtree(self._data / "appendonlydir")
        shutil.move(self._kept, self._data / "appendonlydir")
        self.server.start()


@pytest.fixture
def durable(short_folder: Path, free_port: Callable[[], int]) -> Iterator[Durable]:
    durable = Durable(short_folder, free_port())
    durable.server.start()
    yield durable
    durable.server.kill()


@pytest.fixture
async def durable_store(durable: Durable) -> AsyncIterator[Store]:
    store = Store(durable.server.url, timeout=5.0)
    yield store
    await store.close()


@pytest.mark.slow
async def test_after_the_store_has_lost_what_was_last_written_greater_fences_are_given(
    durable: Durable, durable_store: Store
) -> None:
    registry = Registry(durable_store, 60.0)
    await registry.register(worker("a", capacity=2000))
    await want(registry, "before")
    await keep(registry)
    await until(lambda: durable.server.tell("INFO", "persistence")["aof_pending_bio_fsync"] == 0)
    durable.keep()
    await want(registry, *named(300))
    await keep(registry)
    given = await beat(registry, "a")
    assert len(given) == 301
    durable.crash()
    await until(_answers(durable_store))
    assert (await registry.summary()).total == 1, "the rest is lost"
    await want(registry, *named(300))
    await keep(registry)
    again = await beat(registry, "a")
    assert len(again) == 301
    lost = set(given) - {"before"}
    assert max(given[session] for session in lost) < min(again[session] for session in lost)
    assert again["before"] == given["before"]
    assert (await reserved(registry, "new")).fence > max(given.values())


def _answers(store: Store) -> Callable[[], object]:
    async def answers() -> bool:
        try:
            await store.ping()
        except (StoreAway, StoreRefused):
            return False
        return True

    return answers


async def test_fences_never_run_ahead_of_the_clock(store: Store) -> None:
    """Or a store that has lost its last second would give them once more."""
    registry = Registry(store, 60.0)
    await registry.register(worker("a", capacity=3000))
    await want(registry, *named(1000))
    for _ in range(20):
        await registry.place_orphans()
        (stated, _) = await store.commands(("GET", "sl:{sessions}:fence"), ("PING",))
        (seconds, micros), *_ = await store.commands(("TIME",))
        assert int(stated) <= int(seconds) * 10**6 + int(micros)
    await registry.observe(worker("node", capacity=3000), listed(f"n{i}" for i in range(500)))
    (stated, (seconds, micros)) = await store.commands(("GET", "sl:{sessions}:fence"), ("TIME",))
    assert int(stated) <= int(seconds) * 10**6 + int(micros)
    assert int(stated) > time.time() * 10**6 - 3600 * 10**6


async def test_a_store_that_is_full_ends_no_lease_and_takes_no_new_session(
    durable: Durable, durable_store: Store
) -> None:
    registry = Registry(durable_store, 60.0)
    await register(registry, "a")
    await want(registry, "s")
    place = await reserved(registry, "held")
    refused = await reserved(registry, "refused")
    durable.server.tell("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreRefused):
        await want(registry, "t")
    with pytest.raises(StoreRefused):
        await registry.reserve("t", {})
    await keep(registry)
    assert await registry.confirm("held", place.fence)
    assert await registry.cancel("refused", refused.fence)
    held = await beat(registry, "a")
    assert held.keys() == {"s", "held"}
    assert await beat(registry, "a", held) == held
    await registry.observe(worker("node"), listed(["u"]))
    assert (await registry.summary()).total == 3
    assert await registry.forget("s")


@pytest.mark.slow
async def test_all_of_it_runs_on_a_cluster(servers: list[Server]) -> None:
    on_cluster = Store(f"redis+cluster://127.0.0.1:{servers[0].port},127.0.0.1:{servers[1].port}", timeout=5.0)
    registry, changes, stop = Registry(on_cluster, 60.0), Changes(on_cluster), Stop()
    told: list[Change | Everything] = []
    changes.subscribe(told.append)
    reading = asyncio.create_task(changes.run(stop))
    await until(lambda: told)
    assert not await registry.migrate()
    await register(registry, "a")
    await want(registry, "s", "t")
    await keep(registry)
    held = await beat(registry, "a")
    assert held.keys() == {"s", "t"}
    assert await beat(registry, "a", held) == held
    place = await reserved(registry, "u")
    await registry.confirm("u", place.fence)
    place = await reserved(registry, "v")
    await registry.cancel("v", place.fence)
    await registry.observe(worker("node"), listed(["w"]))
    await register(registry, "b")
    await registry.move("s", "b")
    await beat(registry, "a", {"t": held["t"]})
    assert (await owner(registry, "s")).worker == "b"
    await registry.release("t")
    await registry.forget("u")
    await registry.deregister("b", "1")
    assert {row.session for row in await registry.sessions()} == {"s", "t", "w"}
    assert (await registry.summary()).total == 3
    assert await registry.session("w") is not None
    await until(lambda: any(isinstance(one, Change) and one.session == "s" and one.before == "b" for one in told))
    stop.request()
    await reading
    await on_cluster.close()
