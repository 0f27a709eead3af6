"""WebSockets and event streams of sessions: they lead to the owner, and end when another worker gets the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from sessions.registry import Owner, Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import Gate, Receiver, gateway, receiver
from tests.gateway.store_link import link_to
from tests.sessions.making import place
from tests.sluice.http.client.upstream import Call

pytestmark = pytest.mark.anyio


class SocketWorker:
    """A worker that speaks WebSocket: it says its name and the fence, then echoes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.server: Server
        self.gives_up = 0
        """So many handshakes it answers with 421."""
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def answer(self, connection: ServerConnection, _: Request) -> Response | None:
        self.asked += 1
        if self.gives_up:
            self.gives_up -= 1
            return connection.respond(421, "")
        return None

    async def serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.send(f"{self.name} {connection.request.headers['X-Sluice-Fence']}")
        async for message in connection:
            await connection.send(message)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 600.0)


@pytest.fixture
async def workers() -> AsyncIterator[tuple[SocketWorker, SocketWorker]]:
    async with AsyncExitStack() as stack:
        made = SocketWorker("a"), SocketWorker("b")
        for one in made:
            serving = serve(one.serve, "127.0.0.1", 0, process_request=one.answer)
            one.server = await stack.enter_async_context(serving)
        yield made


async def placed(registry: Registry, session: str) -> Owner:
    owner = await place(registry, session, {})
    assert isinstance(owner, Owner)
    return owner


def to(gate: Gate, session: str) -> connect:
    return connect(f"ws://127.0.0.1:{gate.port}/api/sessions/{session}/live", proxy=None)


async def test_a_websocket_leads_to_the_owner_with_its_fence(
    gate: Gate, registry: Registry, workers: tuple[SocketWorker, SocketWorker]
) -> None:
    await registry.register(Worker("a", "1", workers[0].url, 5))
    owner = await placed(registry, "s1")
    await registry.register(Worker("b", "1", workers[1].url, 5))
    async with to(gate, "s1") as client:
        assert await client.recv() == f"a {owner.fence}"
        await client.send("hello")
        assert await client.recv() == "hello"


async def test_421_of_a_handshake_makes_the_gateway_look_again(
    gate: Gate, registry: Registry, workers: tuple[SocketWorker, SocketWorker]
) -> None:
    a, _ = workers
    await registry.register(Worker("a", "1", a.url, 5))
    owner = await placed(registry, "s1")
    a.gives_up = 2
    async with to(gate, "s1") as client:
        assert await client.recv() == f"a {owner.fence}"
    assert a.asked == 3


async def test_a_websocket_is_closed_when_another_worker_gets_the_session(
    gate: Gate, registry: Registry, workers: tuple[SocketWorker, SocketWorker]
) -> None:
    a, b = workers
    await registry.register(Worker("a", "1", a.url, 5))
    await placed(registry, "s1")
    async with to(gate, "s1") as client:
        assert str(await client.recv()).startswith("a ")
        await registry.register(Worker("b", "1", b.url, 5))
        await registry.deregister("a", "1")
        async with asyncio.timeout(5):
            await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1012, "another worker has the session")
    async with to(gate, "s1") as again:
        assert str(await again.recv()).startswith("b "), "held until the keeper has found the next owner"


@pytest.mark.slow
async def test_a_change_that_was_missed_while_the_store_was_away_closes_the_websocket_too(
    tmp_path: Path,
    store_url: str,
    laravel: Receiver,
    registry: Registry,
    workers: tuple[SocketWorker, SocketWorker],
) -> None:
    a, b = workers
    await registry.register(Worker("a", "1", a.url, 5))
    await placed(registry, "s1")
    async with link_to(store_url) as link, gateway(tmp_path, link.url, laravel.url) as gate, to(gate, "s1") as client:
        assert str(await client.recv()).startswith("a ")
        link.block()
        await registry.register(Worker("b", "1", b.url, 5))
        await registry.deregister("a", "1")
        await placed(registry, "s1")
        await asyncio.sleep(4)
        link.mend()
        async with asyncio.timeout(60):
            await client.wait_closed()
        assert client.close_code == 1012


async def test_a_handshake_is_held_while_nobody_has_the_session(
    gate: Gate, registry: Registry, workers: tuple[SocketWorker, SocketWorker]
) -> None:
    await registry.want({"s1": {}})
    opening = asyncio.create_task(to(gate, "s1").__aenter__())
    await asyncio.sleep(0.3)
    await registry.register(Worker("a", "1", workers[0].url, 5))
    async with asyncio.timeout(60):
        client = await opening
        assert str(await client.recv()).startswith("a ")
        await client.close()


async def test_a_worker_may_deny_a_handshake(
    gate: Gate, registry: Registry, workers: tuple[SocketWorker, SocketWorker]
) -> None:
    async with receiver() as denying:
        denying.response = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!"
        await registry.register(Worker("d", "1", denying.url, 5))
        await placed(registry, "s1")
        with pytest.raises(InvalidStatus) as denied:
            await to(gate, "s1").__aenter__()
        assert denied.value.response.status_code == 403


async def test_an_event_stream_ends_when_another_worker_gets_the_session(gate: Gate, registry: Registry) -> None:
    async def streaming(call: Call) -> None:
        await call.head()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        call.say(head + b"9\r\ndata: 1\n\n\r\n")
        await asyncio.sleep(60)

    async with receiver() as a, receiver() as b:
        a.play = streaming
        await registry.register(Worker("a", "1", a.url, 5))
        await placed(registry, "s1")
        async with gate.raw(b"GET /api/sessions/s1/events HTTP/1.1\r\nHost: a\r\n\r\n") as client:
            assert b"text/event-stream" in await client.head()
            await registry.register(Worker("b", "1", b.url, 5))
            await registry.deregister("a", "1")
            assert b"data: 1" in await client.rest(), "and then the gateway closes"
        assert (await gate.http.get("/api/sessions/s1/events")).status_code == 200
        assert len(b.heads) == 1


async def test_other_answers_are_finished_by_the_former_owner(gate: Gate, registry: Registry) -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await go_on.wait()
        call.say(b"cd")

    async with receiver() as a, receiver() as b:
        a.play = slow
        await registry.register(Worker("a", "1", a.url, 5))
        await placed(registry, "s1")
        async with gate.raw(b"GET /api/sessions/s1/file HTTP/1.1\r\nHost: a\r\n\r\n") as client:
            await client.head()
            await registry.register(Worker("b", "1", b.url, 5))
            await registry.deregister("a", "1")
            await asyncio.sleep(0.3)
            go_on.set()
            assert await client.exactly(4) == b"abcd"
