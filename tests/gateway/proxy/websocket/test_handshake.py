"""The handshake of a WebSocket, through the whole gateway."""

from __future__ import annotations

from pathlib import Path

import pytest
from websockets.frames import Opcode
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from tests.gateway.proxy.websocket.reverb import ACCEPT, ASKED, KEY, Reverb, denied, frame, gate_to, to
from tests.gateway.running import FORWARDED, Gate, gateway, values, without_names
from tests.sluice.http.client.upstream import Call

pytestmark = [pytest.mark.anyio, pytest.mark.every_server(without="hypercorn")]


async def test_target_and_headers_go_out_byte_for_byte(tmp_path: Path, store_url: str) -> None:
    heads: list[bytes] = []

    async def play(call: Call) -> None:
        heads.append(await call.head())

    sent = (
        b"Cookie: a=1\r\nOrigin: https://shop.example\r\nAuthorization: Bearer t\r\nUser-Agent: x/1\r\n"
        b"X-Two: 1\r\nX-Two: 2\r\nX-Latin: gr\xfcn\r\nCookie: b=2\r\n"
    )
    dropped = (
        b"X-Forwarded-For: 6.6.6.6\r\nX-Real-Ip: 6.6.6.6\r\nTE: trailers\r\nKeep-Alive: 5\r\nX-Hop: 1\r\n"
        b"Connection: X-Hop, Host\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Accept: x\r\n"
        b"X_Forwarded_For: 6.6.6.6\r\nSec_WebSocket_Protocol: x\r\nX.Sluice.Fence: 99\r\n"
        b"Content-Length: 0\r\n"
    )
    async with gate_to(play, tmp_path, store_url) as gate:
        target = b"/app%2Fk;v=1//x?b=2&a=1&a=%20+/?"
        await denied(gate, b"GET ", target, b" HTTP/1.1\r\nHost: shop.example\r\n", sent, dropped, ASKED, b"\r\n")
    (head,) = heads
    start_line, *fields = without_names(head).removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert start_line == b"GET " + target + b" HTTP/1.1"
    ours, made = fields[:-4], fields[-4:]
    lower = [line.partition(b": ")[0].lower() + b": " + line.partition(b": ")[2] for line in ours]
    expected = (b"Host: shop.example\r\n" + sent + FORWARDED).removesuffix(b"\r\n").split(b"\r\n")
    assert lower == [line.partition(b": ")[0].lower() + b": " + line.partition(b": ")[2] for line in expected]
    assert made[:2] + made[3:] == [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"]
    assert made[2].startswith(b"Sec-WebSocket-Key: ")
    assert KEY not in made[2], "each side has a key of its own"


async def test_the_path_of_an_upstreams_url_goes_before_the_target(
    tmp_path: Path, store_url: str, reverb: Reverb
) -> None:
    async with gateway(tmp_path, store_url, reverb.url + "/base/") as gate, to(gate, "/app/key?v=1") as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    request = reverb.connections[0].request
    assert request is not None
    assert request.path == "/base/app/key?v=1"


async def test_the_upstreams_choice_of_subprotocol_is_the_clients(gate: Gate, reverb: Reverb) -> None:
    offered = [Subprotocol("other"), Subprotocol("v2"), Subprotocol("pusher")]
    async with to(gate, subprotocols=offered) as client:
        assert client.subprotocol == "v2"
    async with to(gate) as client:
        assert client.subprotocol is None
    first, second = [connection.request for connection in reverb.connections]
    assert first is not None
    assert second is not None
    assert first.headers.get_all("Sec-WebSocket-Protocol") == ["other, v2, pusher"]
    assert second.headers.get_all("Sec-WebSocket-Protocol") == []


async def test_the_upstreams_headers_reach_the_client_and_its_hop_by_hop_ones_do_not(
    tmp_path: Path, store_url: str
) -> None:
    async def play(call: Call) -> None:
        head = await call.head()
        accept = accept_key(values(head, b"sec-websocket-key")[0].decode()).encode()
        call.say(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\n"
            b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Latin: gr\xfcn\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            b"\x81\x05early"
        )
        await call.until(b"\x88\x80")  # an empty close frame, masked

    async with (
        gate_to(play, tmp_path, store_url) as gate,
        gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client,
    ):
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert values(head, b"set-cookie") == [b"a=1", b"b=2"]
        assert values(head, b"x-latin") == [b"gr\xfcn"]
        assert values(head, b"sec-websocket-accept") == [ACCEPT]
        assert values(head, b"upgrade") == [b"websocket"]
        assert values(head, b"x-hop") == values(head, b"sec-websocket-extensions") == []
        assert await client.exactly(7) == b"\x81\x05early", "what the upstream says at once"
        client.send(frame(Opcode.CLOSE, b""))
        await client.rest()
