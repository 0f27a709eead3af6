"""What one side may send, and that the others do not wait for it. Our own server enforces it."""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from sluice.http.websocket import memory
from sluice.observe import metrics
from tests.gateway import running
from tests.gateway.proxy.websocket.reverb import ASKED, KEY, Logged, Reverb, closed, frame, gate_to, linger, to
from tests.gateway.running import SECRET, Gate, gateway, values
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = pytest.mark.anyio

HEAD = b"GET /x HTTP/1.1\r\nHost: a\r\n"
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
PINGS = 100
"""What `clients.websocket.control` lets through at once."""
SLOW = 1.0
"""Seconds; a flood that is looked at as a whole takes several times as long."""


def cut(side: str, code: str) -> float:
    labels = {"side": side, "code": code}
    return metrics.registry().get_sample_value("sluice_websockets_cut_total", labels) or 0.0


def unmasked(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


@contextlib.asynccontextmanager
async def others(gate: Gate) -> AsyncIterator[list[float]]:
    """Requests of another client meanwhile, and how many seconds each of them took."""
    took: list[float] = []

    async def ask() -> None:
        while True:
            began = time.monotonic()
            await gate.http.get("/_sluice/healthz")
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.02)

    await gate.http.get("/_sluice/healthz")
    asking = asyncio.create_task(ask())
    try:
        yield took
        await until(lambda: took)
    finally:
        asking.cancel()


async def send_all(gate: Gate, sent: bytes, *more: bytes) -> tuple[bytes, bytes]:
    """Head of the answer, and what comes behind it, of a client that sends all of this and reads to the end."""
    async with gate.raw(HEAD, *more, ASKED, b"\r\n") as client:
        head = await client.head()
        client.send(sent)
        return head, await client.rest()


def closes(received: bytes) -> tuple[int, bytes]:
    """Code and reason of the close frame at the end."""
    at = received.rindex(b"\x88")
    return int.from_bytes(received[at + 2 : at + 4]), received[at + 4 :]


async def test_a_flood_of_pings_is_1008_and_delays_nobody(gate: Gate, reverb: Reverb, keep_history: Logged) -> None:
    reverb.handle = linger
    before = cut("client", "1008")
    async with others(gate) as took:
        _, received = await send_all(gate, frame(Opcode.PING, b"?") * 1_400_000)
    pong = unmasked(Opcode.PONG, b"?")
    assert received.startswith(pong * PINGS)
    assert received.count(pong) < 2 * PINGS
    assert closes(received) == (1008, b"more control frames than are taken here")
    assert (await closed(reverb.connections[0]))[0] == 1008
    assert max(took) < SLOW
    assert cut("client", "1008") == before + 1
    await until(keep_history)
    assert keep_history()[0]["code"] == 1008


@pytest.mark.parametrize("opcode", [Opcode.PONG, Opcode.CONT])
async def test_pongs_and_empty_fragments_count_like_pings(gate: Gate, reverb: Reverb, opcode: Opcode) -> None:
    reverb.handle = linger
    first = frame(Opcode.TEXT, b"", fin=False) if opcode is Opcode.CONT else b""
    _, received = await send_all(gate, first + frame(opcode, b"", fin=opcode is Opcode.PONG) * 100_000)
    assert closes(received)[0] == 1008


async def test_as_many_pings_as_are_allowed_are_all_answered(gate: Gate) -> None:
    async with gate.raw(HEAD, ASKED, b"\r\n") as client:
        await client.head()
        for number in range(PINGS):
            client.send(frame(Opcode.PING, b"%d" % number))
        for number in range(PINGS):
            pong = unmasked(Opcode.PONG, b"%d" % number)
            assert await client.exactly(len(pong)) == pong


async def test_a_flood_of_small_messages_delays_nobody_and_arrives(gate: Gate, reverb: Reverb) -> None:
    received = 0

    async def count(connection: ServerConnection) -> None:
        nonlocal received
        async for _ in connection:
            received += 1

    reverb.handle = count
    async with gate.raw(HEAD, ASKED, b"\r\n") as client:
        await client.head()
        async with others(gate) as took:
            client.send(frame(Opcode.BINARY, b"") * 8_000)
            await until(lambda: received == 8_000, timeout=60)
        assert max(took) < SLOW


async def test_a_message_in_very_many_fragments_arrives_whole(gate: Gate) -> None:
    fragments = frame(Opcode.CONT, b"x", fin=False) * 40_000
    async with gate.raw(HEAD, ASKED, b"\r\n") as client:
        await client.head()
        async with others(gate) as took:
            client.send(frame(Opcode.BINARY, b"a", fin=False), fragments, frame(Opcode.CONT, b"z"))
            whole = unmasked(Opcode.BINARY, b"a" + b"x" * 40_000 + b"z")
            assert await client.exactly(len(whole)) == whole
        assert max(took) < SLOW


async def test_an_edit_of_the_limits_counts_for_websockets_that_are_opened_then(
    tmp_path: Path, store_url: str, reverb: Reverb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("SECRET_KEY", "k")
    async with gateway(tmp_path, store_url, reverb.url) as gate, to(gate) as before:
        limits = "clients: {websocket: {message: 1KiB, control: 3/second}}"
        file = gate.policies.source
        edited = file.with_suffix(".new")
        edited.write_text(file.read_text().replace("\ntrust:", f"\n{limits}\ntrust:"))
        edited.replace(file)

        async def counts() -> bool:
            async with to(gate) as client:
                with contextlib.suppress(ConnectionClosed):
                    await client.send(b"x" * 1025)
                    await client.recv()
                return client.close_code == 1009

        await until(counts)
        _, received = await send_all(gate, frame(Opcode.PING, b"") * 4)
        assert received.count(unmasked(Opcode.PONG)) == 3
        assert closes(received)[0] == 1008

        async def large(connection: ServerConnection) -> None:
            with contextlib.suppress(ConnectionClosed):
                await connection.send(b"x" * 1025)
            await connection.wait_closed()

        reverb.handle = large
        async with to(gate) as client:
            assert (await closed(client))[0] == 1011
        assert (await closed(reverb.connections[-1]))[0] == 1009
        await before.send(b"x" * 1025)
        assert await before.recv() == b"x" * 1025


def bomb(size: int) -> bytes:
    """A compressed message of so many zeros."""
    deflate = zlib.compressobj(wbits=-12)
    data = (deflate.compress(bytes(size)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    made = bytearray(Frame(Opcode.BINARY, data).serialize(mask=True))
    made[0] |= 0x40
    return bytes(made)


async def test_a_compressed_message_that_becomes_too_large_is_1009(gate: Gate, reverb: Reverb) -> None:
    head, received = await send_all(gate, bomb(16 * 2**20 + 1), DEFLATE)
    assert b"permessage-deflate" in head
    assert closes(received)[0] == 1009
    assert (await closed(reverb.connections[0]))[0] == 1009


async def test_compressed_messages_that_become_large_delay_nobody(gate: Gate, reverb: Reverb) -> None:
    received = 0

    async def count(connection: ServerConnection) -> None:
        nonlocal received
        async for message in connection:
            assert len(message) == 8 * 2**20
            received += 1

    reverb.handle = count
    one = bomb(8 * 2**20)
    assert len(one) < 10_000
    async with gate.raw(HEAD, DEFLATE, ASKED, b"\r\n") as client:
        await client.head()
        async with others(gate) as took:
            client.send(one * 8)
            await until(lambda: received == 8, timeout=60)
        assert max(took) < SLOW


async def test_a_large_message_that_does_not_come_on_is_1013_while_others_wait(
    tmp_path: Path, store_url: str, reverb: Reverb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "FURTHER_WITHIN", 0.3)
    limits = "clients: {{websocket: {{memory: 1MiB}}}}"
    text = running.POLICIES.replace("\ntrust:", f"\n{limits}\ntrust:")
    async with gateway(tmp_path, store_url, reverb.url, text=text) as gate:
        async with gate.raw(HEAD, ASKED, b"\r\n") as half, to(gate) as client:
            await half.head()
            half.send(frame(Opcode.BINARY, b"x" * 2**20)[: 600 * 1024])
            await asyncio.sleep(0.1)
            await client.send(b"y" * 300_000)
            assert await client.recv() == b"y" * 300_000
            assert closes(await half.rest()) == (1013, b"too many large messages are held here right now")
        await until(lambda: cut("client", "1013"))


async def test_what_comes_after_a_close_frame_is_passed_over(gate: Gate, reverb: Reverb) -> None:
    _, received = await send_all(gate, frame(Opcode.CLOSE, b"") * 100_000)
    assert received == b"\x88\x00"
    assert (await closed(reverb.connections[0]))[0] == 1005


async def test_what_was_sent_before_the_client_vanished_arrives(gate: Gate, reverb: Reverb) -> None:
    heard: list[object] = []

    async def slow(connection: ServerConnection) -> None:
        await asyncio.sleep(0.3)
        with contextlib.suppress(ConnectionClosed):
            while True:
                heard.append(await connection.recv())

    reverb.handle = slow
    sent = b"".join(frame(Opcode.TEXT, b"%d" % number) for number in range(2000))
    async with gate.raw(HEAD, ASKED, b"\r\n", sent, frame(Opcode.CLOSE, (4001).to_bytes(2))) as client:
        await client.head()
    assert await closed(reverb.connections[0]) == (4001, "")
    assert heard == [str(number) for number in range(2000)]


# --- from the upstream's side


async def test_a_flood_of_pings_from_the_upstream_is_1008_there_and_1011_here(gate: Gate, reverb: Reverb) -> None:
    async def flood(connection: ServerConnection) -> None:
        connection.transport.write(unmasked(Opcode.PING) * 1_000_000)
        await connection.wait_closed()

    reverb.handle = flood
    before = cut("upstream", "1008")
    async with others(gate) as took, to(gate) as client:
        assert await closed(client) == (1011, "the upstream sent too many control frames")
    assert max(took) < SLOW
    assert cut("upstream", "1008") == before + 1


async def test_a_flood_of_small_messages_from_the_upstream_delays_nobody_and_arrives(
    gate: Gate, reverb: Reverb
) -> None:
    async def flood(connection: ServerConnection) -> None:
        connection.transport.write(unmasked(Opcode.BINARY) * 8_000 + unmasked(Opcode.TEXT, b"last"))
        await connection.close(4002)

    reverb.handle = flood
    async with others(gate) as took, to(gate) as client:
        received = [message async for message in client_messages(client)]
    assert received == [b""] * 8_000 + ["last"]
    assert max(took) < SLOW


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
async def test_a_message_of_the_upstream_in_very_many_fragments_arrives_whole(
    gate: Gate, reverb: Reverb, opcode: Opcode
) -> None:
    async def pieces(connection: ServerConnection) -> None:
        fragments = unmasked(Opcode.CONT, b"x", fin=False) * 10_000
        connection.transport.write(unmasked(opcode, b"a", fin=False) + fragments + unmasked(Opcode.CONT, b"z"))
        await connection.wait_closed()

    reverb.handle = pieces
    whole = b"a" + b"x" * 10_000 + b"z"
    async with to(gate) as client:
        assert await client.recv() == (whole.decode() if opcode is Opcode.TEXT else whole)


async def client_messages(client: object) -> AsyncIterator[object]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await client.recv()  # type: ignore[attr-defined]


async def test_messages_that_come_with_the_upstreams_answer_are_taken_one_by_one(
    tmp_path: Path, store_url: str
) -> None:
    async def play(call: Call) -> None:
        accept = accept_key(values(await call.head(), b"sec-websocket-key")[0].decode()).encode()
        head = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        call.say(head, accept, b"\r\n\r", b"\n" + unmasked(Opcode.BINARY, b"x") * 5_000)
        await call.until(b"\x88\x82")  # a close frame with a code, masked

    async with gate_to(play, tmp_path, store_url) as gate, to(gate) as client:
        for _ in range(5_000):
            assert await client.recv() == b"x"


# --- the handshake


async def test_frames_in_the_segment_of_the_handshake_are_kept(gate: Gate) -> None:
    early = frame(Opcode.TEXT, b"first") + frame(Opcode.PING, b"?") + frame(Opcode.TEXT, b"second")
    async with gate.raw(HEAD + ASKED + b"\r\n" + early) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        texts = [unmasked(Opcode.TEXT, b"first"), unmasked(Opcode.TEXT, b"second")]
        received = await client.exactly(len(b"".join(texts)) + 3)
        assert received.replace(unmasked(Opcode.PONG, b"?"), b"") == b"".join(texts)


async def test_frames_behind_a_pipelined_handshake_are_kept(gate: Gate) -> None:
    request = b"GET /_sluice/healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    async with gate.raw(request + HEAD + ASKED + b"\r\n" + frame(Opcode.TEXT, b"first")) as client:
        length = values(await client.head(), b"content-length")[0]
        await client.exactly(int(length))
        assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert await client.exactly(7) == unmasked(Opcode.TEXT, b"first")


@pytest.mark.parametrize(
    ("version", "status"),
    [(b"Sec-WebSocket-Version: 8\r\n", 426), (b"Sec-WebSocket-Version: 14\r\n", 426), (b"", 400)],
)
async def test_another_version_is_refused_with_the_one_that_is_spoken(
    gate: Gate, reverb: Reverb, version: bytes, status: int
) -> None:
    asked = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
    async with gate.raw(HEAD, asked, version, b"\r\n") as client:
        head, body = await client.head(), await client.rest()
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert values(head, b"sec-websocket-version") == [b"13"]
    assert values(head, b"content-type") == [b"application/problem+json"]
    assert values(head, b"upgrade") == ([b"websocket"] if status == 426 else [])
    assert b"this is no handshake of a WebSocket: " in body
    assert b"Sec-WebSocket-Version" in body
    assert reverb.connections == []


async def test_a_key_that_is_none_is_400_and_logged(gate: Gate, reverb: Reverb, heard: object) -> None:
    asked = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n\r\n"
    async with gate.raw(HEAD, asked) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")
    lines = [fields for message, fields in heard.lines if message == "request.refused"]  # type: ignore[attr-defined]
    assert [(line["status"], line["why"]) for line in lines] == [
        (400, "this is no handshake of a WebSocket: invalid Sec-WebSocket-Key header: x")
    ]
    assert reverb.connections == []
