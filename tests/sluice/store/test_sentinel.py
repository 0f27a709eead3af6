"""A store whose master is named by sentinels, and changes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sluice.store.client import Store, StoreAway
from tests.sluice.store.store_servers import Server
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


class Deployment:
    """A master, a replica of it, and a sentinel that decides alone."""

    def __init__(self, folder: Path, free_port: Callable[[], int]) -> None:
        for name in ("one", "two", "watch"):
            (folder / name).mkdir()
        soon = ("--repl-diskless-sync-delay", "0")
        self.one = Server(folder / "one", free_port(), *soon, password="s3cret")
        replica = ("--replicaof", "127.0.0.1", str(self.one.port))
        self.two = Server(folder / "two", free_port(), *soon, *replica, password="s3cret")
        settings = folder / "watch" / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor mymaster 127.0.0.1 {self.one.port} 1\n"
            "sentinel auth-pass mymaster s3cret\n"
            "sentinel down-after-milliseconds mymaster 500\n"
            "sentinel failover-timeout mymaster 3000\n"
        )
        self.sentinel = Server(folder / "watch", free_port(), settings=settings)
        self.parts = (self.one, self.two, self.sentinel)
        self.url = f"redis+sentinel://:s3cret@127.0.0.1:1,127.0.0.1:{self.sentinel.port}/mymaster/0"

    def start(self) -> None:
        for part in self.parts:
            part.start()
        deadline = time.monotonic() + 20
        while self.sentinel.tell("INFO", "sentinel")["master0"]["slaves"] != 1:
            assert time.monotonic() < deadline, "the sentinel found no replica"
            time.sleep(0.05)

    def stop(self) -> None:
        for part in self.parts:
            part.kill()


@pytest.fixture
def deployment(short_folder: Path, free_port: Callable[[], int]) -> Iterator[Deployment]:
    deployment = Deployment(short_folder, free_port)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()


@pytest.fixture
async def store(deployment: Deployment) -> AsyncIterator[Store]:
    store = Store(deployment.url, timeout=1.0)
    yield store
    await store.close()


async def test_the_master_is_found_although_a_sentinel_is_gone(store: Store, deployment: Deployment) -> None:
    await store.commands(("SET", "k", "v"))
    assert (await store.commands(("CONFIG", "GET", "port"))) == [[b"port", b"%d" % deployment.one.port]]


async def test_a_dead_master_is_followed_to_the_new_one_without_a_person(store: Store, deployment: Deployment) -> None:
    await store.commands(("SET", "k", "before"), ("WAIT", 1, 2000))
    deployment.one.kill()

    async def writes() -> bool:
        try:
            await store.commands(("SET", "l", "after"))
        except StoreAway:
            return False
        return True

    await until(writes, timeout=20, what="the replica to be promoted")
    assert await store.commands(("GET", "k"), ("CONFIG", "GET", "port")) == [
        b"before",
        [b"port", b"%d" % deployment.two.port],
    ]


async def test_a_master_that_is_named_and_is_none_is_not_used(store: Store, deployment: Deployment) -> None:
    await store.ping()
    deployment.sentinel.freeze()  # so that it cannot set right what we do now
    deployment.one.tell("REPLICAOF", "127.0.0.1", deployment.two.port)
    with pytest.raises(StoreAway, match="^the master has become a replica$"):
        await store.commands(("SET", "k", "v"))
    deployment.sentinel.thaw()
    with pytest.raises(StoreAway, match="is not the master any more$"):
        await store.ping()


async def test_an_unknown_name_is_told(deployment: Deployment) -> None:
    store = Store(deployment.url.replace("mymaster", "theirs"), timeout=1.0)
    with pytest.raises(StoreAway) as refused:
        await store.ping()
    assert "no sentinel knows theirs: " in str(refused.value)
    await store.close()


async def test_channels_are_heard_on_the_master(store: Store) -> None:
    ear = store.redis.pubsub(ignore_subscribe_messages=True)
    await ear.subscribe("news")

    async def heard() -> bool:
        await store.commands(("PUBLISH", "news", "x"))
        message = await ear.get_message(timeout=0.1)
        return message is not None and message["data"] == b"x"

    await until(heard)
    await ear.aclose()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://127.0.0.1:26379", "names no master"),
        ("redis+sentinel:///mymaster", "names no host"),
        ("redis+cluster://127.0.0.1:1,,127.0.0.1:2", "names no host"),
    ],
)
async def test_a_url_that_says_too_little_is_refused(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        Store(url, timeout=1.0)
