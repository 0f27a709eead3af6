"""One connection, shared by all: what comes back is the caller's own, whatever happens to the store."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluice.store.client import Store, StoreAway, StoreRefused
from sluice.store.protocol.wire import MAX_CALLS
from tests.sluice.store.store_servers import Server
from tests.waiting import until

pytestmark = pytest.mark.anyio

LATE = 0.15
"""Seconds by which a busy machine may make a timeout late."""


@pytest.fixture(scope="module", params=[("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    backend: tuple[str, dict[str, bool]] = request.param
    return backend


@pytest.fixture
def server(short_folder: Path, free_port: Callable[[], int]) -> Iterator[Server]:
    server = Server(short_folder, free_port())
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def opened(url: str, timeout: float = 5.0) -> AsyncIterator[Store]:
    store = Store(url, timeout=timeout)
    try:
        yield store
    finally:
        await store.close()


async def echo(store: Store, text: bytes) -> bool:
    """False when the store is away; fails when the reply is somebody else's."""
    try:
        (reply,) = await store.commands(("ECHO", text))
    except StoreAway:
        return False
    assert reply == text
    return True


async def test_a_thousand_callers_with_cancels_in_between_get_their_own_replies(store_url: str) -> None:
    async with opened(store_url) as store:
        dice = random.Random(1)
        for turn in range(5):
            asked = [asyncio.create_task(echo(store, b"%d-%d" % (turn, i))) for i in range(1000)]
            for task in asked:
                if dice.random() < 0.3:
                    asyncio.get_running_loop().call_later(dice.random() * 0.01, task.cancel)
            answered = await asyncio.gather(*asked, return_exceptions=True)
            assert all(answer is True or isinstance(answer, asyncio.CancelledError) for answer in answered)
            assert await echo(store, b"after")


async def test_calls_reach_the_store_in_the_order_in_which_they_were_made(store_url: str) -> None:
    async with opened(store_url) as store:
        await asyncio.gather(*(store.commands(("RPUSH", "l", i)) for i in range(1000)))
        (found,) = await store.commands(("LRANGE", "l", 0, -1))
        assert found == [b"%d" % i for i in range(1000)]


async def test_a_reply_that_comes_in_many_pieces_is_put_together(store_url: str) -> None:
    async with opened(store_url) as store:
        large = random.Random(1).randbytes(5_000_000)
        await store.commands(("SET", "large", large))
        replies = await asyncio.gather(*(store.commands(("GET", "large"), ("ECHO", i)) for i in range(4)))
        assert all(reply == [large, b"%d" % i] for i, reply in enumerate(replies))


async def test_what_cannot_be_sent_harms_nobody_else(store_url: str) -> None:
    async with opened(store_url) as store:
        with pytest.raises(UnicodeEncodeError):
            await store.commands(("SET", "k", "v"), ("ECHO", "\ud800"))
        assert await store.commands(("GET", "k")) == [None]


async def test_there_is_an_end_to_how_much_may_be_under_way(server: Server) -> None:
    async with opened(server.url, timeout=2.0) as store:
        await store.ping()
        server.freeze()
        asked = [asyncio.create_task(store.commands(("ECHO", i))) for i in range(MAX_CALLS)]
        await asyncio.sleep(0)
        with pytest.raises(StoreAway, match="^too much is under way to the store$"):
            await store.ping()
        server.thaw()
        await asyncio.gather(*asked)
        await store.ping()


async def test_a_silent_store_holds_every_caller_for_the_timeout_and_no_longer(server: Server) -> None:
    async with opened(server.url, timeout=0.3) as store:
        await store.ping()
        server.freeze()
        started = time.monotonic()
        with pytest.raises(StoreAway, match=r"^the store did not answer within 0\.3 s$"):
            await store.ping()
        assert 0.3 <= time.monotonic() - started < 0.3 + LATE
        started = time.monotonic()
        with pytest.raises(StoreAway):  # a new connection, which the frozen store's kernel still accepts
            await store.ping()
        assert time.monotonic() - started < 0.3 + LATE


async def test_a_frozen_store_that_thaws_gives_nobody_the_reply_of_another(server: Server) -> None:
    async with opened(server.url, timeout=0.05) as store:
        answered: list[bool] = []

        async def caller(name: int) -> None:
            for i in range(60):
                started = time.monotonic()
                answered.append(await echo(store, b"%d-%d" % (name, i)))
                assert time.monotonic() - started < 0.05 + LATE
                await asyncio.sleep(0.005)

        callers = [asyncio.create_task(caller(name)) for name in range(20)]
        for _ in range(4):
            await asyncio.sleep(0.03)
            server.freeze()
            await asyncio.sleep(0.1)
            server.thaw()
        await asyncio.gather(*callers)
        assert set(answered) == {True, False}
        await until(lambda: echo(store, b"back"))


async def test_a_store_that_is_killed_and_started_again_is_found_again(server: Server) -> None:
    async with opened(server.url, timeout=1.0) as store:
        await store.ping()
        server.freeze()
        asked = [asyncio.create_task(store.ping()) for _ in range(3)]
        await asyncio.sleep(0.01)
        server.kill()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(answer, StoreAway) for answer in answers)
        with pytest.raises(StoreAway, match="^no connection to .*sock: "):
            await store.ping()
        server.start()
        await store.ping()


async def test_an_idle_connection_that_the_store_closed_costs_no_call(server: Server) -> None:
    async with opened(server.url) as store:
        await store.ping()
        server.tell("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.05)
        await store.ping()


async def test_a_server_that_became_a_replica_is_left(server: Server) -> None:
    async with opened(server.url) as store:
        await store.ping()
        server.tell("REPLICAOF", "127.0.0.1", server.port)
        with pytest.raises(StoreRefused, match="READONLY"):
            await store.commands(("SET", "k", "v"))
        server.tell("REPLICAOF", "NO", "ONE")
        await store.commands(("SET", "k", "v"))


async def test_closing_ends_the_calls_under_way_and_leaves_nothing_behind(server: Server) -> None:
    before = asyncio.all_tasks()
    store = Store(server.url, timeout=30.0)
    await store.ping()
    server.freeze()
    asked = [asyncio.create_task(store.ping()) for _ in range(3)]
    await asyncio.sleep(0.01)
    started = time.monotonic()
    await store.close()
    assert time.monotonic() - started < LATE
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["the connection to the store was closed"] * 3
    with pytest.raises(StoreAway, match="was closed"):
        await store.ping()
    await store.close()
    assert asyncio.all_tasks() == before


async def test_closing_while_it_connects_leaves_nothing_behind(server: Server) -> None:
    before = asyncio.all_tasks()
    for turns in range(6):
        store = Store(f"redis://127.0.0.1:{server.port}/1", timeout=30.0)
        asked = asyncio.create_task(store.ping())
        for _ in range(turns):
            await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(asked, return_exceptions=True)
        assert asyncio.all_tasks() == before


async def test_it_logs_in_and_selects_before_anything_else(server: Server) -> None:
    server.tell("ACL", "SETUSER", "sluice", "on", ">p@ss word", "~*", "&*", "+@all")
    url = f"redis://sluice:p%40ss%20word@127.0.0.1:{server.port}/3?client_name=gate"
    async with opened(url) as store:
        who, _, name = await store.commands(("ACL", "WHOAMI"), ("SET", "k", "v"), ("CLIENT", "GETNAME"))
        assert (who, name) == (b"sluice", b"gate")
    assert server.tell("DBSIZE") == 0  # that is database 0


async def test_a_wrong_password_is_told_and_not_shown(server: Server) -> None:
    server.tell("ACL", "SETUSER", "sluice", "on", ">right", "~*", "+@all")
    async with opened(f"redis://sluice:s3cret@127.0.0.1:{server.port}/0") as store:
        with pytest.raises(StoreAway) as refused:
            await store.ping()
    assert str(refused.value) == (
        f"127.0.0.1:{server.port} refused AUTH: WRONGPASS invalid username-password pair or user is disabled: "
        "correct user and password in store.url"
    )


async def test_what_is_no_store_is_told() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(web, "127.0.0.1", 0) as server:
        store = Store(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=5.0)
        with pytest.raises(StoreAway, match="does not speak the protocol of Redis"):
            await store.ping()
        await store.close()


async def test_a_store_behind_tls_is_reached_and_a_stranger_is_not_trusted(server: Server) -> None:
    folder = server.socket.parent
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    async with behind_tls(server, folder) as port:
        url = f"rediss://127.0.0.1:{port}/0"
        async with opened(f"{url}?ssl_ca_certs={folder}/cert.pem") as store:
            assert await echo(store, bytes(100_000))
        async with opened(url) as store:
            with pytest.raises(
                StoreAway,
                match="its certificate is not trusted: self-signed certificate; name its authority in store.url",
            ):
                await store.ping()


@asynccontextmanager
async def behind_tls(server: Server, folder: Path) -> AsyncIterator[int]:
    """A port in front of the store that ends TLS, as a load balancer does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        store = await asyncio.open_unix_connection(str(server.socket))
        await asyncio.gather(pump(reader, store[1]), pump(store[0], writer))

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context) as front:
        yield front.sockets[0].getsockname()[1]
