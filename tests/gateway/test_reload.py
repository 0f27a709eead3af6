"""An edit of the policies in a running gateway: who is served by what."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from gateway import app
from gateway.edge import Edge
from gateway.limits.headers import QUOTA_EXCEEDED
from gateway.proxy.circuit import MINIMUM
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.websocket import WebSocketUpstream
from sluice.http.server import serving
from sluice.process.loops import Stop
from tests.gateway.running import SECRET, Gate, Receiver, gateway, read_policies, receiver
from tests.gateway.store_link import link_to
from tests.heard import Heard
from tests.sluice.http.client.upstream import OK, Call
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit is read with the environment of the process."""
    monkeypatch.setenv("SECRET", SECRET)


async def edit(gate: Gate, heard: Heard, *texts: str) -> None:
    """Replaces old by new, and so on in pairs. Returns when the edit is live."""
    file = gate.policies.source
    before = heard.messages().count("policies.loaded")
    text = file.read_text()
    for old, new in zip(texts[::2], texts[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    written = file.with_suffix(".new")
    written.write_text(text)
    written.replace(file)
    await until(lambda: heard.messages().count("policies.loaded") > before, what="the edit to be live")


class Holding:
    """Answers a request when it is let go, and remembers whether it was cut meanwhile."""

    def __init__(self) -> None:
        self.held = 0
        self.cut = False
        self.closed = False
        self.lets_go = asyncio.Event()

    async def play(self, call: Call) -> None:
        await call.head()
        self.held += 1
        cut = asyncio.create_task(call.reader.read())
        let = asyncio.create_task(self.lets_go.wait())
        await asyncio.wait((cut, let), return_when=asyncio.FIRST_COMPLETED)
        self.cut = cut.done()
        let.cancel()
        call.say(OK)
        await cut
        self.closed = True


async def test_a_request_in_flight_outlives_many_edits_of_its_upstream_but_not_any_number(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    holding = Holding()
    laravel.play = holding.play
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        in_flight = asyncio.create_task(gate.http.get("/held"))
        await until(lambda: holding.held)
        for number in range(10, 13):  # what has nothing in flight is closed at once, and counts for nothing
            await edit(gate, heard, f"idle: {number}s", f"idle: {number + 1}s")
        slow = [Holding() for _ in range(8)]
        waiting = []
        for number, one in enumerate(slow, 13):
            assert not holding.cut
            laravel.play = one.play
            waiting.append(asyncio.create_task(gate.http.get("/held")))
            await until(lambda one=one: one.held)
            await edit(gate, heard, f"idle: {number}s", f"idle: {number + 1}s")
        assert (await in_flight).status_code == 502
        assert [fields["connections"] for message, fields in heard.lines if message == "upstream.cut"] == [1]
        for one in slow:
            one.lets_go.set()
        assert [(await answer).status_code for answer in waiting] == [200] * 8


async def test_an_edit_elsewhere_keeps_the_connection_to_an_upstream(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        assert (await gate.http.get("/x")).status_code == 200
        await edit(gate, heard, "rate: 1/hour", "rate: 2/hour")
        assert (await gate.http.get("/x")).status_code == 200
        assert len(laravel.heads) == 2
        assert len(laravel.upstream.calls) == 1


async def test_a_request_in_flight_ends_where_it_began_when_an_edit_changes_the_upstream_s_url(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    holding = Holding()
    laravel.play = holding.play
    async with receiver() as other, gateway(tmp_path, store_url, laravel.url) as gate:
        in_flight = asyncio.create_task(gate.http.get("/held"))
        await until(lambda: holding.held)
        await edit(gate, heard, f'"{laravel.url}", connect', f'"{other.url}", connect')
        assert (await gate.http.get("/x")).status_code == 200
        assert len(other.heads) == 1
        holding.lets_go.set()
        assert (await in_flight).content == b"ok"
        assert not holding.cut
        await until(lambda: holding.closed, what="its connection to be closed with the last request")


async def test_a_connection_that_is_not_in_use_is_closed_at_once_when_an_edit_removes_its_upstream(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    holding = Holding()
    holding.lets_go.set()
    laravel.play = holding.play
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        assert (await gate.http.get("/x")).status_code == 200
        assert not holding.closed
        section = f'laravel: {{url: "{laravel.url}", connect'
        renamed = section.replace("laravel", "other", 1)
        await edit(gate, heard, section, renamed, "upstream: laravel}", "upstream: other}")
        await until(lambda: holding.closed, what="the connection to be closed")


async def test_an_edit_elsewhere_keeps_what_is_known_of_a_session_s_owner_and_the_connection_to_it(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    async with (
        receiver() as worker,
        link_to(store_url) as link,
        gateway(tmp_path, link.url, laravel.url) as gate,
    ):
        await gate.post_signed("/_sluice/workers", {"id": "w1", "instance": "1", "url": worker.url, "capacity": 5})
        assert (await gate.http.post("/api/sessions", json={"session_id": "s1"})).status_code == 200
        assert (await gate.http.get("/api/sessions/s1/qr")).status_code == 200
        await edit(gate, heard, "rate: 1/hour", "rate: 2/hour")
        link.block()
        assert (await gate.http.get("/api/sessions/s1/qr")).status_code == 200, "the registry cannot be asked now"
        assert len(worker.upstream.calls) == 1


async def test_a_hundred_edits_leave_nothing_behind(tmp_path: Path, store_url: str, laravel: Receiver) -> None:
    first = read_policies(tmp_path, store_url, laravel.url)
    slower = replace(first, upstreams={"laravel": replace(first.upstreams["laravel"], idle=11.0)})
    bound, stop = serving.listening("127.0.0.1", 0), Stop()
    async with app.opened(first, store_url, lambda resources: []) as reloader:
        running = asyncio.create_task(serving.serve(reloader, bound, stop, reloader.direct))
        async with Gate(first, bound.getsockname()[1]).http as http:
            before = _upstream_objects()
            for policies in [slower, first] * 50:
                assert (await http.get("/x")).status_code == 200
                reloader.apply(policies)
            await until(lambda: sum(call.reader.at_eof() for call in laravel.upstream.calls) == 100)
            assert (await http.get("/x")).status_code == 200
            assert _upstream_objects() < before + 20
        stop.request()
        await running


def _upstream_objects() -> int:
    gc.collect()
    return sum(isinstance(found, (UpstreamClient, WebSocketUpstream, Edge)) for found in gc.get_objects())


async def test_a_websocket_outlives_an_edit(tmp_path: Path, store_url: str, heard: Heard) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as reverb:
        port = next(iter(reverb.sockets)).getsockname()[1]
        async with (
            gateway(tmp_path, store_url, f"http://127.0.0.1:{port}") as gate,
            connect(f"ws://127.0.0.1:{gate.port}/app", proxy=None) as socket,
        ):
            await socket.send("before")
            assert await socket.recv() == "before"
            await edit(gate, heard, f"http://127.0.0.1:{port}", "http://127.0.0.1:1")
            await socket.send("after")
            assert await socket.recv() == "after"


async def test_answers_tell_how_the_limits_stand(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        assert "ratelimit" not in (await gate.http.get("/x")).headers
        await edit(gate, heard, "limit_headers: []", "limit_headers: [ratelimit, x-ratelimit]")
        passed = await gate.http.get("/limited/x")
        assert passed.status_code == 200
        assert passed.headers["ratelimit-policy"] == '"limited";q=1;w=3600,"address";q=1000;w=1'
        assert passed.headers["ratelimit"] == '"limited";r=0;t=3600,"address";r=999;t=1'
        assert (passed.headers["x-ratelimit-limit"], passed.headers["x-ratelimit-remaining"]) == ("1", "0")
        refused = await gate.http.get("/limited/x")
        assert refused.headers["ratelimit"].startswith('"limited";r=0;t=3')
        assert int(refused.headers["retry-after"]) >= int(refused.headers["ratelimit"].partition("t=")[2])
        assert refused.json() == {
            "type": QUOTA_EXCEEDED,
            "title": "Quota exceeded",
            "status": 429,
            "detail": "limit limited is used up",
            "limit": "limited",
            "violated-policies": ["limited"],
            "request_id": refused.headers["x-request-id"],
        }


async def test_a_used_up_key_is_asked_for_again_after_an_edit(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    """And its bucket has kept its level: a larger burst does not refill it."""
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        assert [(await gate.http.get("/limited/x")).status_code for _ in range(3)] == [200, 429, 429]
        await edit(gate, heard, "rate: 1/hour, burst: 1, over: reject", "rate: 20/second, burst: 40, over: reject")
        await until(lambda: _passes(gate), timeout=2.0, what="the new rate to bring a token")


async def _passes(gate: Gate) -> bool:
    return (await gate.http.get("/limited/x")).status_code == 200


async def test_an_edit_elsewhere_leaves_an_upstream_alone_that_fails(
    tmp_path: Path, store_url: str, heard: Heard, free_port: Callable[[], int]
) -> None:
    laravel = f"http://127.0.0.1:{free_port()}"
    async with gateway(tmp_path, store_url, laravel) as gate:
        for _ in range(MINIMUM):
            assert (await gate.http.get("/x")).status_code == 502
        await edit(gate, heard, "rate: 1/hour", "rate: 2/hour")
        many = await asyncio.gather(*(gate.http.get("/x") for _ in range(5)))
        assert [answer.status_code for answer in many].count(503) >= 3, "one is the probe"
        await edit(gate, heard, laravel, f"http://127.0.0.1:{free_port()}")
        assert (await gate.http.get("/x")).status_code == 502, "another address is another upstream"


@pytest.fixture
async def node() -> AsyncIterator[str]:
    """The address of an existing worker that runs the session `s1`."""

    async def sessions(_: Request) -> Response:
        return JSONResponse({"sessions": [{"session_id": "s1", "status": "connected"}]})

    async def health(_: Request) -> Response:
        return Response()

    bound, stop = serving.listening("127.0.0.1", 0), Stop()
    app = Starlette(routes=[Route("/health", health), Route("/api/sessions", sessions)])
    running = asyncio.create_task(serving.serve(app, bound, stop))
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    stop.request()
    await running


async def test_an_existing_worker_that_an_edit_adds_is_watched(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard, node: str
) -> None:
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        assert (await gate.http.get("/api/sessions")).json()["total"] == 0
        await edit(gate, heard, "verify: workers}\n", f"verify: workers, workers: [{{url: '{node}'}}]}}\n")

        async def seen() -> bool:
            return bool((await gate.http.get("/api/sessions")).json()["total"])

        await until(seen, what="the session of the worker")


async def test_a_connection_goes_by_the_clients_section_that_counted_when_it_was_made(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    async with gateway(tmp_path, store_url, laravel.url) as gate, gate.raw() as before:
        await edit(gate, heard, "\ntrust:", "\nclients: {first_byte: 300ms, head_size: 1KiB}\ntrust:")
        async with gate.raw() as after, gate.raw(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1024) as large:
            assert (await large.head()).startswith(b"HTTP/1.1 431 ")
            assert await after.rest() == b""
        before.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2000 + b"\r\n\r\n")
        assert (await before.head()).startswith(b"HTTP/1.1 200 ")
