"""On one server, a cluster and behind a sentinel, with the rights that docs/store.md describes and nothing more."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sluice.backup import writing
from sluice.backup.file import BackupError
from sluice.backup.groups import LEFT_OUT
from sluice.store import layout
from sluice.store.client import Store
from tests.ports import free_ports
from tests.sluice.backup.backing_up import back_up, lying, restore
from tests.sluice.backup.test_backup import USES, is_changed
from tests.sluice.store.store_deployments import PASSWORD, Servers, cluster, redis, single, valkey, watched
from tests.sluice.store.store_servers import Server
from tests.store_user import CLUSTER, MASTER, REPLICA, RESTORE, SENTINELS, backup_rights, rights
from tests.test_store_rights import Seen

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DEPLOYMENTS = {
    "one valkey": (single, lambda _: valkey(), ()),
    "cluster of valkey": (cluster, lambda _: valkey(), (CLUSTER,)),
    "sentinel and redis over TLS": (watched, redis, (MASTER,)),
}


@pytest.fixture(params=DEPLOYMENTS)
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    make, program, of_kind = DEPLOYMENTS[request.param]
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="sluice-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        port = stack.enter_context(free_ports())
        servers = stack.enter_context(make(folder, port, program(folder), "--appendonly", "yes"))
        servers.allow(rights() + rights(*of_kind, REPLICA, RESTORE), rights(SENTINELS))
        of_backup = backup_rights() + (rights(*of_kind) if of_kind else [])
        for server in servers.all:
            server.tell("ACL", "SETUSER", "backup", "reset", "on", f">{PASSWORD}", *of_backup)
        if servers.sentinel is not None:
            of_sentinel = rights(SENTINELS)
            servers.sentinel.tell("ACL", "SETUSER", "backup", "reset", "on", f">{PASSWORD}", *of_sentinel)
        yield servers


@pytest.fixture
async def store(servers: Servers) -> AsyncIterator[Store]:
    store = Store(servers.url, timeout=20.0)
    yield store
    await store.close()


@pytest.fixture
async def looking(servers: Servers) -> AsyncIterator[Store]:
    """As a user who may do all."""
    store = Store(servers.url.replace("sluice:p%40ss%20word@", "", 1), timeout=20.0)
    yield store
    await store.close()


async def emptied(servers: Servers, store: Store) -> None:
    for server in servers.all:
        if server.tell("INFO", "replication")["role"] == "master":
            server.tell("FLUSHALL")
    assert await names(store) == set()


async def names(store: Store) -> set[str]:
    return set(await lying(store))


async def test_it_is_read_and_brought_back_with_the_rights_of_the_documentation(
    servers: Servers, store: Store, looking: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SETTLED", 0.1)
    await layout.check(servers.url)
    for use in USES:
        await use(Seen(store, set()))
    reader = Store(servers.url.replace("sluice:", "backup:", 1), timeout=20.0)
    _, trailer = await back_up(reader, tmp_path / "backup")
    await reader.close()
    before = {name async for name in _kept(looking)}
    await emptied(servers, looking)
    restored = await restore(store, tmp_path / "backup")
    assert restored.keys == sum(trailer.keys.values())
    after = await names(looking)
    assert {name for name in before - after if not is_changed(name)} == set()
    assert servers.denied() == []


async def _kept(store: Store) -> AsyncIterator[str]:
    """What has no end, or one that is far away."""
    (times,) = await store.commands(("TIME",))
    for name, found in (await lying(store)).items():
        if name not in LEFT_OUT and (found.expires < 0 or found.expires > (int(times[0]) + 300) * 1000):
            yield name


async def test_what_was_read_from_a_cluster_is_brought_into_one_server(
    tmp_path: Path, short_folder: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SETTLED", 0.1)
    (short_folder / "cluster").mkdir()
    (short_folder / "one").mkdir()
    with cluster(short_folder / "cluster", free_port, valkey(), replicas=0) as servers:
        servers.allow(["~*", "&*", "+@all"], ())
        store = Store(servers.url, timeout=20.0)
        for use in USES:
            await use(Seen(store, set()))
        await back_up(store, tmp_path / "backup")
        before = {name async for name in _kept(store)}
        await store.close()
    one = Server(short_folder / "one", free_port())
    one.start()
    try:
        store = Store(one.url, timeout=20.0)
        await restore(store, tmp_path / "backup")
        assert {name for name in before - await names(store) if not is_changed(name)} == set()
        await store.close()
    finally:
        one.kill()


@pytest.mark.parametrize("back", [False, True], ids=["redis to valkey", "valkey to redis"])
async def test_another_product_reads_it_or_says_that_it_cannot(
    back: bool, tmp_path: Path, short_folder: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SETTLED", 0.1)
    programs = [redis(), valkey()]
    version = subprocess.run([programs[0].path, "--version"], capture_output=True, text=True, check=True).stdout
    if back and " v=7.0." not in version:
        pytest.skip(f"it may read what valkey writes: {version}")
    with ExitStack() as stack:
        folders = [short_folder / "from", short_folder / "to"]
        stores = list[Store]()
        for folder, program in zip(folders, reversed(programs) if back else programs, strict=True):
            folder.mkdir()
            servers = stack.enter_context(single(folder, free_port, program))
            servers.allow(["~*", "&*", "+@all"], ())
            stores.append(Store(servers.url, timeout=20.0))
        for use in USES:
            await use(Seen(stores[0], set()))
        await back_up(stores[0], tmp_path / "backup")
        if back:
            with pytest.raises(BackupError) as refused:
                await restore(stores[1], tmp_path / "backup")
            begin, end = "the store is redis 7.0.", "then run the same command again: it begins anew"
            assert str(refused.value).startswith(begin)
            assert str(refused.value).endswith(end)
            assert ", which cannot read what valkey " in str(refused.value)
        else:
            before = {name async for name in _kept(stores[0])}
            await restore(stores[1], tmp_path / "backup")
            assert {name for name in before - await names(stores[1]) if not is_changed(name)} == set()
        for store in stores:
            await store.close()
