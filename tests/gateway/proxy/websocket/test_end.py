"""How WebSockets end, and which are given up."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode
from websockets.utils import accept_key

from tests.gateway.proxy.websocket.reverb import ASKED, Logged, Reverb, closed, frame, gate_to, linger, to
from tests.gateway.running import Gate, values
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server(without="hypercorn")]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4009, 4999])
async def test_the_clients_close_is_the_upstreams(gate: Gate, reverb: Reverb, code: int) -> None:
    async with to(gate) as client:
        await client.send("last")
        assert await client.recv() == "last"
        await client.close(code, "größe")
    assert await closed(reverb.connections[0]) == (code, "größe")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 3000, 4009, 4999])
async def test_the_upstreams_close_is_the_clients(gate: Gate, reverb: Reverb, code: int) -> None:
    async def close(connection: ServerConnection) -> None:
        for number in range(50):
            await connection.send(str(number))
        await connection.close(code, "größe")

    reverb.handle = close
    async with to(gate) as client:
        assert [await client.recv() for _ in range(50)] == [str(number) for number in range(50)]
        assert await closed(client) == (code, "größe")


async def test_a_close_without_a_code_stays_one(gate: Gate, reverb: Reverb) -> None:
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        client.send(frame(Opcode.CLOSE, b""))
        assert await client.rest() == b"\x88\x00"
    assert (await closed(reverb.connections[0]))[0] == 1005

    async def close(connection: ServerConnection) -> None:
        async with connection.send_context():
            connection.protocol.send_close()

    reverb.handle = close
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        assert await client.exactly(2) == b"\x88\x00"


async def test_a_client_that_vanishes_is_told_upstream_at_once_and_never_as_1000(
    gate: Gate, reverb: Reverb, keep_history: Logged
) -> None:
    reverb.handle = linger
    async with to(gate) as client:
        await until(lambda: reverb.connections)
        client.transport.abort()
        async with asyncio.timeout(2):
            assert (await closed(reverb.connections[0]))[0] == 1001
    await until(keep_history)
    assert (keep_history()[0]["code"], keep_history()[0]["ended_by"]) == (1006, "client")


async def test_an_upstream_that_vanishes_is_1011_for_the_client_at_once(
    gate: Gate, reverb: Reverb, keep_history: Logged
) -> None:
    async def vanish(connection: ServerConnection) -> None:
        await connection.send("last")
        await connection.recv()
        connection.transport.abort()

    reverb.handle = vanish
    async with to(gate) as client:
        await client.send("go")
        assert await client.recv() == "last"
        async with asyncio.timeout(2):
            assert await closed(client) == (1011, "the upstream broke off")
    await until(keep_history)
    assert (keep_history()[0]["code"], keep_history()[0]["ended_by"]) == (1006, "upstream")


async def test_an_upstream_that_closes_and_stays_does_not_keep_the_client(tmp_path: Path, store_url: str) -> None:
    """The library would wait for it to close its socket."""

    async def play(call: Call) -> None:
        accept = accept_key(values(await call.head(), b"sec-websocket-key")[0].decode()).encode()
        call.say(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ", accept)
        call.say(b"\r\n\r\n\x88\x02\x0f\xa1")
        await asyncio.Event().wait()

    async with gate_to(play, tmp_path, store_url) as gate, to(gate) as client:
        async with asyncio.timeout(2):
            assert await closed(client) == (4001, "")


async def test_frames_that_break_the_protocol_are_1002_for_who_sent_them(gate: Gate, reverb: Reverb) -> None:
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        client.send(b"\x83\x80\0\0\0\0")
        assert (await client.rest())[2:4] == (1002).to_bytes(2)
    assert (await closed(reverb.connections[0]))[0] == 1002

    async def unmasked_nonsense(connection: ServerConnection) -> None:
        connection.transport.write(b"\x83\x00")
        await connection.wait_closed()

    reverb.handle = unmasked_nonsense
    async with to(gate) as other:
        assert await closed(other) == (1011, "the upstream broke off")
    assert (await closed(reverb.connections[1]))[0] == 1002


async def test_what_an_upstream_floods_with_does_not_delay_the_clients_close(gate: Gate, reverb: Reverb) -> None:
    async def flood(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(b"x" * 10_000)

    reverb.handle = flood
    async with to(gate) as client:
        await client.recv()
        closing = asyncio.create_task(client.close(4001, "enough"))
        async with asyncio.timeout(3):
            assert await closed(reverb.connections[0]) == (4001, "enough")
        client.transport.abort()
        await closing


@pytest.mark.usefixtures("quick")
async def test_a_quiet_connection_stays_while_both_sides_answer_pings(gate: Gate, reverb: Reverb) -> None:
    async with to(gate) as client:
        await asyncio.sleep(1.5)
        await client.send("still there")
        assert await client.recv() == "still there"


@pytest.mark.usefixtures("quick")
async def test_an_upstream_that_answers_no_ping_is_given_up(gate: Gate, reverb: Reverb) -> None:
    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    reverb.handle = deaf
    async with to(gate) as client:
        async with asyncio.timeout(3):
            assert await closed(client) == (1011, "the upstream broke off")
        reverb.connections[0].transport.abort()


@pytest.mark.usefixtures("quick")
async def test_a_client_that_answers_no_ping_is_given_up(gate: Gate, reverb: Reverb) -> None:
    reverb.handle = linger
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        await until(lambda: reverb.connections)
        async with asyncio.timeout(3):
            assert (await closed(reverb.connections[0]))[0] in (1001, 1011)


@pytest.mark.usefixtures("impatient")
async def test_an_upstream_that_takes_nothing_is_given_up_after_idle(gate: Gate, reverb: Reverb) -> None:

    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    reverb.handle = deaf
    async with to(gate) as client:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await client.send(b"x" * 1_000_000)
        assert await closed(client) == (1011, "the upstream takes no messages")
        reverb.connections[0].transport.abort()


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_takes_nothing_is_given_up_after_idle(gate: Gate, reverb: Reverb) -> None:

    async def flood(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(b"x" * 1_000_000)

    reverb.handle = flood
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        assert await closed(reverb.connections[0]) == (1001, "the client takes no messages")
