"""Messages through the whole gateway: real servers on both sides, raw sockets where the bytes matter."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from tests.gateway.proxy.websocket.reverb import ASKED, MIB, Reverb, closed, frame, to
from tests.gateway.running import Gate
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server(without="hypercorn")]


@pytest.mark.parametrize("message", ["", "hello", "größe 🌊", b"", b"\0\xff", b"x" * 70_000])
async def test_text_stays_text_and_binary_binary(gate: Gate, message: str | bytes) -> None:
    async with to(gate) as client:
        await client.send(message)
        assert await client.recv() == message


async def test_messages_keep_their_order(gate: Gate) -> None:
    async with to(gate) as client:
        for number in range(2000):
            await client.send(str(number) if number % 2 else b"%d" % number)
        for number in range(2000):
            assert await client.recv() == (str(number) if number % 2 else b"%d" % number)


async def test_fragmented_messages_arrive_whole(gate: Gate, reverb: Reverb) -> None:
    async def pieces(connection: ServerConnection) -> None:
        assert await connection.recv() == "one two three"
        await connection.send([b"four", b"", b" five"])

    reverb.handle = pieces
    sent = (
        *(frame(Opcode.TEXT, b"one ", fin=False), frame(Opcode.CONT, b"two", fin=False), frame(Opcode.PING, b"?")),
        frame(Opcode.CONT, b" three"),
    )
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        client.send(*sent)
        assert await client.exactly(3) == b"\x8a\x01?", "the ping is answered here"
        assert await client.exactly(11) == b"\x82\x09four five"


async def test_messages_of_16_mib_pass_both_ways(gate: Gate) -> None:
    message = os.urandom(MIB) * 16
    async with to(gate) as client:
        await client.send(message)
        assert await client.recv() == message


async def test_a_larger_message_from_the_client_is_1009(gate: Gate, reverb: Reverb) -> None:
    async with to(gate) as client:
        with contextlib.suppress(ConnectionClosed):
            await client.send(b"x" * (16 * MIB + 1))
        assert (await closed(client))[0] == 1009
        assert (await closed(reverb.connections[0]))[0] == 1009


async def test_a_larger_message_from_the_upstream_is_1009_there_and_1011_here(gate: Gate, reverb: Reverb) -> None:
    async def large(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await connection.send(b"x" * (16 * MIB + 1))
        await connection.wait_closed()

    reverb.handle = large
    async with to(gate) as client:
        assert await closed(client) == (1011, "the upstream broke off")
        assert (await closed(reverb.connections[0]))[0] == 1009


async def test_a_client_with_compression_is_spoken_to_with_it(gate: Gate, reverb: Reverb) -> None:
    async with to(gate, compression="deflate") as client:
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        await client.send("x" * 100_000)
        assert await client.recv() == "x" * 100_000
    assert reverb.connections[0].protocol.extensions == []


async def test_a_slow_client_stops_a_fast_upstream(gate: Gate, reverb: Reverb) -> None:
    sent = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal sent
        for number in range(400):
            await connection.send(number.to_bytes(2) + b"x" * 100_000)
            sent += 1

    reverb.handle = flood
    async with to(gate, max_queue=1) as client:
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 350, "sockets hold a few MiB; the rest must wait"
        for number in range(400):
            assert (await client.recv())[:2] == number.to_bytes(2)


async def test_a_slow_upstream_stops_a_fast_client(gate: Gate, reverb: Reverb) -> None:
    go = asyncio.Event()
    received = 0

    async def slow(connection: ServerConnection) -> None:
        nonlocal received
        connection.transport.pause_reading()
        await go.wait()
        connection.transport.resume_reading()
        async for message in connection:
            assert message[:2] == received.to_bytes(2)
            received += 1

    reverb.handle = slow
    async with to(gate) as client:
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for number in range(400):
                await client.send(number.to_bytes(2) + b"x" * 100_000)
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 350
        go.set()
        await flooding
        await until(lambda: received == 400)
