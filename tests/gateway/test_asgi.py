"""The gateway as a Starlette application: mounted, wrapped, opened and closed by its lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus

from gateway import app, asgi
from gateway.policies import load
from sluice.config import PolicyError
from sluice.console import http as console
from sluice.http.server import serving, target_of
from sluice.process import embedded_store
from sluice.process.loops import Stop
from sluice.store import durability, embedded
from sluice.store.client import Store, StoreAway
from tests.gateway.running import SECRET, Receiver, lines, problem, read_policies
from tests.gateway.servers import SERVERS
from tests.heard import Heard
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@asynccontextmanager
async def served(app: Any, *, lifespan: Any = "on") -> AsyncIterator[str]:
    """The address of an application on uvicorn."""
    bound = serving.listening("127.0.0.1", 0)
    server = Uvicorn(uvicorn.Config(app, proxy_headers=False, log_config=None, lifespan=lifespan))
    running = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        yield f"127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


@asynccontextmanager
async def client_of(app: Any, *, lifespan: Any = "on") -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        served(app, lifespan=lifespan) as address,
        httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=15.0) as http,
    ):
        yield http


@pytest.fixture
def edge(tmp_path: Path, store_url: str, laravel: Receiver) -> asgi.Application:
    return asgi.create(read_policies(tmp_path, store_url, laravel.url))


async def test_below_a_mount_prefix_routes_upstreams_and_reserved_paths_see_the_path_without_it(
    edge: asgi.Application, laravel: Receiver
) -> None:
    site = Starlette(routes=[Mount("/ed ge", edge)], lifespan=edge.router.lifespan_context)
    async with client_of(site) as http:
        assert (await http.get("/ed%20ge/a%2Fb//c?d=%20")).status_code == 200
        assert lines(laravel.heads[0])[0] == b"GET /a%2Fb//c?d=%20 HTTP/1.1"
        assert (await http.get("/ed%20ge/_sluice/healthz")).json() == {"status": "ok"}
        assert [(await http.get("/ed%20ge/limited/x")).status_code for _ in range(2)] == [200, 429]
        assert (await http.get("/elsewhere")).status_code == 404
        assert len(laravel.heads) == 2


async def test_a_websocket_below_a_mount_prefix_reaches_the_upstream(tmp_path: Path, store_url: str) -> None:
    async def echo(connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.send(connection.request.path)

    async with serve(echo, "127.0.0.1", 0) as reverb:
        url = f"http://127.0.0.1:{next(iter(reverb.sockets)).getsockname()[1]}"
        edge = asgi.create(read_policies(tmp_path, store_url, url))
        site = Starlette(routes=[Mount("/edge", edge)], lifespan=edge.router.lifespan_context)
        async with served(site) as address, connect(f"ws://{address}/edge/app/k?v=1", proxy=None) as client:
            assert await client.recv() == "/app/k?v=1"


async def test_routes_of_the_application_come_before_those_of_the_policies(
    edge: asgi.Application, laravel: Receiver
) -> None:
    async def hello(_: Request) -> Response:
        return PlainTextResponse("hello")

    edge.router.routes.append(Route("/hello", hello))
    async with client_of(edge) as http:
        assert (await http.get("/hello")).text == "hello"
        assert (await http.get("/hello/laravel")).text == "ok"


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Stamp"] = "1"
        return response


async def test_middleware_wraps_every_answer(edge: asgi.Application, laravel: Receiver) -> None:
    edge.add_middleware(Stamp)
    async with client_of(edge) as http:
        for path in ("/page", "/_sluice/healthz", "/a/%2e%2e/%2e%2e/x"):
            assert (await http.get(path)).headers["x-stamp"] == "1"
        body = bytes(range(256)) * 1000
        assert (await http.post("/upload", content=body)).status_code == 200
        assert laravel.bodies[-1] == body


async def test_an_answer_that_the_upstream_breaks_off_never_looks_complete(
    edge: asgi.Application, laravel: Receiver
) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")

    laravel.play = play
    async with client_of(edge) as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get("/x")


async def test_without_its_lifespan_it_answers_503_and_says_why(edge: asgi.Application) -> None:
    async with client_of(edge, lifespan="off") as http:
        assert problem(await http.get("/x")) == (
            503,
            "the gateway is not open: its lifespan has not run, or has ended; see the log",
        )


async def test_a_file_that_is_wrong_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text("version: 1\nlimit: []\n")
    with pytest.raises(PolicyError, match="limit: unknown key; did you mean limits"):
        asgi.create(file)


async def test_a_store_that_is_away_fails_the_start(
    tmp_path: Path, laravel: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "_STORE_ANSWERS_WITHIN", 0.1)
    edge = asgi.create(read_policies(tmp_path, "unix:///nonexistent/store.sock", laravel.url))
    with pytest.raises(StoreAway, match="^the store was not usable within 0.1s: no connection to "):
        async with edge.router.lifespan_context(edge):
            raise AssertionError


async def test_a_store_that_does_not_keep_the_promise_fails_the_start(tmp_path: Path, store_url: str) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(f'version: 1\nstore: {{url: "{store_url}", promise: always}}\n')
    with pytest.raises(durability.PromiseBroken, match="the store does not keep `always`: appendfsync is everysec"):
        async with asgi.create(file).router.lifespan_context(None):
            raise AssertionError


async def test_a_loop_that_crashes_is_logged_and_everything_is_answered_503(
    edge: asgi.Application, laravel: Receiver, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash = asyncio.Event()

    async def note(_: object) -> None:
        await crash.wait()
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(app, "_note_inflows", note)
    async with client_of(edge) as http:
        assert (await http.get("/page")).status_code == 200
        crash.set()
        await until(lambda: "gateway.crashed" in heard.messages())
        assert problem(await http.get("/page"))[0] == 503


async def test_the_console_is_handed_in(tmp_path: Path, store_url: str, laravel: Receiver) -> None:
    policies = read_policies(tmp_path, store_url, laravel.url)
    async with client_of(asgi.create(policies)) as http:
        assert (await http.get("/_sluice/")).status_code == 404
    async with client_of(asgi.create(policies, console.routes)) as http:
        assert "text/html" in (await http.get("/_sluice/")).headers["content-type"]


async def test_log_lines_go_to_the_logger_sluice(
    edge: asgi.Application, caplog: pytest.LogCaptureFixture, laravel: Receiver
) -> None:
    caplog.set_level(logging.INFO, "sluice")
    async with client_of(edge) as http:
        await http.get("/page")
    said = [record.getMessage() for record in caplog.records if record.name == "sluice"]
    assert any(line.startswith("request method=GET path=/page route=/** status=200 ") for line in said)


# --- the embedded store


@pytest.fixture
def on_its_own_store(short_folder: Path, laravel: Receiver, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A policies file that asks for the embedded store."""
    monkeypatch.setenv("SECRET", SECRET)
    file = short_folder / "policies.yaml"
    read_policies(short_folder, "embedded", laravel.url)
    file.write_text(file.read_text().replace("store:", f"data: {short_folder}/data\nstore:"))
    return file


async def _answers(url: str) -> bool:
    store = Store(url, timeout=1.0)
    try:
        await store.ping()
    except StoreAway:
        return False
    finally:
        await store.close()
    return True


async def test_the_lifespan_starts_the_embedded_store_and_stops_it_again(on_its_own_store: Path) -> None:
    url = embedded.url(load(on_its_own_store).data)
    edge = asgi.create(on_its_own_store)
    async with client_of(edge) as http:
        assert (await http.get("/_sluice/healthz")).status_code == 200
        assert await _answers(url)
    assert not await _answers(url)


async def test_a_second_worker_uses_the_store_of_the_first_and_takes_it_over_when_that_one_ends(
    on_its_own_store: Path,
) -> None:
    policies = load(on_its_own_store)
    url = embedded.url(policies.data)
    async with contextlib.AsyncExitStack() as first, contextlib.AsyncExitStack() as second:
        await first.enter_async_context(embedded_store.running(policies.data, policies.store.promise))
        await second.enter_async_context(embedded_store.running(policies.data, policies.store.promise))
        with pytest.raises(embedded.FolderInUse), embedded.locked(policies.data):
            raise AssertionError
        await first.aclose()
        await until(lambda: _answers(url), what="the second to run the store")
    assert not await _answers(url)


# --- what a server tells


@pytest.mark.parametrize(
    ("scope", "target"),
    [
        ({"raw_path": b"/a%2Fb", "path": "/a/b", "query_string": b"c=%20"}, b"/a%2Fb?c=%20"),
        ({"path": "/grü ß/%", "query_string": b""}, b"/gr%C3%BC%20%C3%9F/%"),
        ({"raw_path": b"/m%6Funt/x", "path": "/mount/x", "root_path": "/mount"}, b"/x"),
        ({"raw_path": b"/mount", "path": "/mount", "root_path": "/mount"}, b"/"),
        ({"raw_path": b"/mounted/x", "path": "/mounted/x", "root_path": "/mount"}, b"/mounted/x"),
        ({"raw_path": b"/gr%C3%BC/x", "path": "/grü/x", "root_path": "/grü"}, b"/x"),
        ({"raw_path": b"/x", "path": "/x", "root_path": "/other"}, b"/x"),
    ],
)
def test_the_target_is_what_is_below_the_prefix_byte_for_byte(scope: dict[str, Any], target: bytes) -> None:
    assert target_of(scope) == target


async def asked(edge: asgi.Application, messages: list[dict[str, Any]], **scope: Any) -> list[dict[str, Any]]:
    """What an application sends that is given these messages, as a server of HTTP/2 would give them."""
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    whole = {
        "type": "http",
        "http_version": "2",
        "method": "POST",
        "scheme": "http",
        "path": "/upload",
        "query_string": b"",
        "headers": [(b"host", b"a")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await edge({**whole, **scope}, receive, send)
    return sent


async def test_a_body_without_a_stated_length_arrives_as_http2_sends_it(
    edge: asgi.Application, laravel: Receiver
) -> None:
    bodies = []

    async def play(call: Call) -> None:
        bodies.append(await call.until(b"0\r\n\r\n"))
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    laravel.play = play
    pieces = [
        {"type": "http.request", "body": b"one", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
    ]
    async with edge.router.lifespan_context(edge):
        sent = await asked(edge, list(pieces))
    assert sent[0]["status"] == 200
    assert bodies[0].endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ([(b"host", b"a"), (b"host", b"b")], "a request has exactly one Host header"),
        ([], "a request has exactly one Host header"),
        ([(b"host", b"a"), (b"x", b"1\r\ny: 2\r\n\r\nz")], "this is not HTTP/1.1: a field line is"),
        ([(b"host", b"a"), (b"content-length", b"1"), (b"content-length", b"2")], "given more than once"),
    ],
)
async def test_what_a_careless_server_passes_on_is_refused_by_the_rules_of_our_own(
    edge: asgi.Application, laravel: Receiver, headers: list[tuple[bytes, bytes]], detail: str
) -> None:
    async with edge.router.lifespan_context(edge):
        start, body = await asked(edge, [], headers=headers)
    assert start["status"] == 400
    assert detail in body["body"].decode()
    assert laravel.heads == []


async def test_a_websocket_on_hypercorn(tmp_path: Path, store_url: str) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(echo, "127.0.0.1", 0) as reverb:
        url = f"http://127.0.0.1:{next(iter(reverb.sockets)).getsockname()[1]}"
        bound, stop = serving.listening("127.0.0.1", 0), Stop()
        address = f"ws://127.0.0.1:{bound.getsockname()[1]}"
        running = asyncio.ensure_future(SERVERS["hypercorn"](read_policies(tmp_path, store_url, url), bound, stop))
        async with connect(f"{address}/app", proxy=None) as client:
            for message in ("text", b"bytes"):
                await client.send(message)
                assert await client.recv() == message
        with pytest.raises(InvalidStatus) as denied:
            await connect(f"{address}/api/sessions", proxy=None)
        assert denied.value.response.status_code == 501
        stop.request()
        await running
