"""An edit of the policies in a running gateway: who is served by what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from gateway.limits.headers import QUOTA_EXCEEDED
from sluice.http.server import serving
from sluice.process.loops import Stop
from tests.gateway.running import SECRET, Gate, Receiver, gateway
from tests.heard import Heard
from tests.sluice.http.client.upstream import OK, Call
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit is read with the environment of the process."""
    monkeypatch.setenv("SECRET", SECRET)


async def edit(gate: Gate, heard: Heard, old: str, new: str) -> None:
    """Returns when it is live."""
    file = gate.policies.source
    before = heard.messages().count("policies.loaded")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    await until(lambda: heard.messages().count("policies.loaded") > before, what="the edit to be live")


class Holding:
    """Answers a request when it is let go, and remembers whether it was cut meanwhile."""

    def __init__(self) -> None:
        self.held = 0
        self.cut = False
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


async def test_a_request_under_way_outlives_many_edits_but_not_any_number(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    holding = Holding()
    laravel.play = holding.play
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        in_flight = asyncio.create_task(gate.http.get("/held"))
        await until(lambda: holding.held)
        for number in range(1, 4):  # what had nothing under way is closed at once, and counts for nothing
            await edit(gate, heard, f"rate: {number}/hour", f"rate: {number + 1}/hour")
        slow = [Holding() for _ in range(8)]
        waiting = []
        for number, one in enumerate(slow, 4):
            assert not holding.cut
            laravel.play = one.play
            waiting.append(asyncio.create_task(gate.http.get("/held")))
            await until(lambda one=one: one.held)
            await edit(gate, heard, f"rate: {number}/hour", f"rate: {number + 1}/hour")
        assert (await in_flight).status_code == 502
        assert [fields["in_flight"] for message, fields in heard.lines if message == "generation.cut"] == [1]
        for one in slow:
            one.lets_go.set()
        assert [(await answer).status_code for answer in waiting] == [200] * 8


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
        while (await gate.http.get("/x")).status_code == 502:
            pass
        await edit(gate, heard, "rate: 1/hour", "rate: 2/hour")
        assert (await gate.http.get("/x")).status_code == 503
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
