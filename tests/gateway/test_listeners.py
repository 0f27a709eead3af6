"""A gateway at several addresses: TCP, unix sockets and TLS, with routes that are `on` some of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus

from gateway import asgi, process
from gateway.policies import Policies, load
from sluice.console import http as api
from sluice.http.server.binding import Bound, CannotListen, bind
from sluice.observe import metrics
from sluice.process.loops import Stop
from tests.authority import certify
from tests.gateway.running import Receiver, problem, receiver, values
from tests.heard import Heard
from tests.sluice.http.client.upstream import OK, Call
from tests.waiting import until

pytestmark = pytest.mark.anyio

POLICIES = """
version: 1
listen:
  public: 127.0.0.1:{public}
  workers: "127.0.0.1:{workers}"
  local: {{address: "unix:{socket}", mode: 0600}}
  secure: {{address: 127.0.0.1:{secure}, cert: file:tls.crt, key: file:tls.key}}
store: {{url: "{store}", promise: memory}}
upstreams:
  laravel: {{url: "{laravel}"}}
  node: {{url: "{node}"}}
routes:
  - {{path: /health, upstream: node, on: workers}}
  - {{path: /cleanup/**, upstream: node, on: [workers, local]}}
  - {{path: /, upstream: node, on: workers}}
  - {{path: /**, upstream: laravel, on: [public, secure, local]}}
{more}
"""


class Site:
    """A gateway with these policies, and how to ask each of its listeners."""

    def __init__(self, folder: Path, policies: Policies, bound: list[Bound]) -> None:
        self.folder = folder
        self.policies = policies
        self.bound = {one.listener.name: one for one in bound}
        self.stop = Stop()

    def port(self, name: str) -> int:
        number: int = self.bound[name].socket.getsockname()[1]
        return number

    @property
    def certificate(self) -> Any:
        return self.bound["secure"].certificate

    @asynccontextmanager
    async def at(self, name: str) -> AsyncIterator[httpx2.AsyncClient]:
        one, trusted = self.bound[name], ssl.create_default_context()
        if one.listener.tls:
            trusted.load_verify_locations(one.listener.tls.cert)
        scheme = "https" if one.listener.tls else "http"
        transport = httpx2.AsyncHTTPTransport(uds=str(self.folder / "edge.sock")) if name == "local" else None
        base = "http://localhost" if name == "local" else f"{scheme}://127.0.0.1:{self.port(name)}"
        async with httpx2.AsyncClient(base_url=base, transport=transport, trust_env=False, verify=trusted) as client:
            yield client

    async def get(self, name: str, path: str, **headers: str) -> httpx2.Response:
        async with self.at(name) as client:
            return await client.get(path, headers=headers)


Made = Callable[..., Any]


@pytest.fixture
async def node() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        made.response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnode"
        yield made


@pytest.fixture
async def site(short_folder: Path, store_url: str, laravel: Receiver, node: Receiver) -> AsyncIterator[Made]:
    certify(short_folder)
    running: list[tuple[Stop, asyncio.Task[None]]] = []

    async def make(more: str = "", text: str = POLICIES) -> Site:
        file = short_folder / "policies.yaml"
        ports = dict.fromkeys(("public", "workers", "secure", "admin"), 0)
        fields = {"socket": "edge.sock", "store": store_url, "laravel": laravel.url, "node": node.url, **ports}
        file.write_text(text.format(more=more, **fields))
        policies = load(file, environment={"TOKEN": "the-token-of-tests"})
        made = Site(short_folder, policies, bind(policies.listeners))
        running.append(
            (made.stop, asyncio.create_task(process.run(policies, [*made.bound.values()], made.stop, api.routes)))
        )
        return made

    yield make
    for stop, task in running:
        stop.request()
        await task


async def test_each_listener_has_its_own_routes_so_paths_that_both_sides_have_go_the_right_way(site: Made) -> None:
    gate = await site()
    said = {
        (name, path): (await gate.get(name, path)).text
        for name in ("public", "secure", "workers", "local")
        for path in ("/", "/health")
    }
    assert said == {
        ("public", "/"): "ok", ("public", "/health"): "ok",
        ("secure", "/"): "ok", ("secure", "/health"): "ok",
        ("workers", "/"): "node", ("workers", "/health"): "node",
        ("local", "/"): "ok", ("local", "/health"): "ok",
    }  # fmt: skip
    assert (await gate.get("workers", "/cleanup/run")).text == "node"
    assert (await gate.get("public", "/cleanup/run")).text == "ok", "Laravel's own 404 it would be"
    assert problem(await gate.get("workers", "/login")) == (404, "no route of policies.yaml matches")


async def test_laravel_learns_by_which_scheme_it_was_asked(site: Made, laravel: Receiver) -> None:
    gate = await site()
    for name in ("public", "secure"):
        await gate.get(name, "/page")
    assert [values(head, b"X-Forwarded-Proto") for head in laravel.heads] == [[b"http"], [b"https"]]


async def test_who_comes_over_a_unix_socket_counts_as_this_machine(site: Made, laravel: Receiver) -> None:
    gate = await site("trust: {deny: [127.0.0.9]}")
    assert (await gate.get("local", "/page")).text == "ok"
    assert values(laravel.heads[0], b"X-Forwarded-For") == [b"127.0.0.1"]
    assert os.stat(gate.folder / "edge.sock").st_mode & 0o777 == 0o600


async def test_a_proxy_behind_a_unix_socket_is_believed_where_this_machine_is(site: Made, laravel: Receiver) -> None:
    gate = await site("trust: {proxies: [127.0.0.1]}")
    await gate.get("local", "/page", **{"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "https"})
    assert values(laravel.heads[0], b"X-Forwarded-For") == [b"192.0.2.9"]
    assert values(laravel.heads[0], b"X-Forwarded-Proto") == [b"https"]


async def test_hosts_are_checked_at_every_listener(site: Made) -> None:
    gate = await site("trust: {hosts: [gate.test]}")
    for name in ("public", "secure", "local"):
        assert (await gate.get(name, "/page", Host="gate.test")).status_code == 200
        assert (await gate.get(name, "/page", Host="other.test")).status_code == 400


async def test_the_access_log_says_which_listener_it_was(site: Made, heard: Heard) -> None:
    gate = await site()
    for name in ("public", "secure", "local"):
        await gate.get(name, "/page")
    await until(lambda: heard.messages().count("request") == 3)
    assert [fields["on"] for message, fields in heard.lines if message == "request"] == ["public", "secure", "local"]
    (started,) = [fields["listen"] for message, fields in heard.lines if message == "gateway.started"]
    assert started.startswith("public 127.0.0.1:0, workers 127.0.0.1:0, local unix:")
    assert started.endswith("secure 127.0.0.1:0 (TLS)")


async def test_websockets_have_the_routes_of_their_listener(site: Made) -> None:
    async def echo(socket: Any) -> None:
        async for message in socket:
            await socket.send(message)

    async with serve(echo, "127.0.0.1", 0) as reverb:
        port = reverb.sockets[0].getsockname()[1]
        text = POLICIES.replace("  node: ", f'  echo: {{{{url: "http://127.0.0.1:{port}"}}}}\n  node: ').replace(
            "  - {{path: /health,", "  - {{path: /app, upstream: echo, on: [secure, local]}}\n  - {{path: /health,"
        )
        gate = await site("trust: {proxies: [10.0.0.0/8]}", text)
        trusted = ssl.create_default_context(cafile=str(gate.folder / "tls.crt"))
        async with AsyncExitStack() as stack:
            secure = await stack.enter_async_context(connect(f"wss://127.0.0.1:{gate.port('secure')}/app", ssl=trusted))
            local = await stack.enter_async_context(unix_connect(str(gate.folder / "edge.sock"), "ws://localhost/app"))
            for socket in (secure, local):
                await socket.send("well")
                assert await socket.recv() == "well"
        with pytest.raises(InvalidStatus, match="HTTP 404"):
            async with connect(f"ws://127.0.0.1:{gate.port('workers')}/app"):
                pass


# --- TLS


async def handshake(port: int, context: ssl.SSLContext) -> dict[str, Any]:
    """The certificate that the server showed, and the version that was agreed on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="gate.test")
    ssl_object = writer.get_extra_info("ssl_object")
    found = {"der": ssl_object.getpeercert(binary_form=True), "version": ssl_object.version()}
    writer.close()
    del reader
    return found


def anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_is_1_2_or_newer(site: Made) -> None:
    gate = await site()
    context = anybody()
    assert (await handshake(gate.port("secure"), context))["version"] == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert (await handshake(gate.port("secure"), context))["version"] == "TLSv1.2"
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await handshake(gate.port("secure"), context)


async def test_who_speaks_no_tls_to_it_gets_nothing_and_disturbs_nobody(site: Made) -> None:
    gate = await site()
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port("secure"))
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(60):
        answer = await reader.read()
    assert b"HTTP/" not in answer
    writer.close()
    assert (await gate.get("secure", "/page")).text == "ok"


def shake_hands(port: int, context: ssl.SSLContext) -> None:
    """As most clients do: they say what is wrong before they leave, which asyncio does not."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as wire:
        context.wrap_socket(wire, server_hostname="gate.test").close()


def failed_handshakes(reason: str) -> float:
    labels = {"listener": "secure", "reason": reason}
    return metrics.registry().get_sample_value("sluice_tls_handshakes_failed_total", labels) or 0.0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_handshakes_that_fail_are_counted_by_what_was_wrong(site: Made) -> None:
    gate = await site()
    before = {reason: failed_handshakes(reason) for reason in ("certificate", "no_tls", "version", "other")}
    port = gate.port("secure")
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(shake_hands, port, ssl.create_default_context())
    await until(lambda: failed_handshakes("certificate") == before["certificate"] + 1)
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.read()
        writer.close()
    await until(lambda: failed_handshakes("no_tls") == before["no_tls"] + 2)
    old = anybody()
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(shake_hands, port, old)
    await until(lambda: failed_handshakes("version") == before["version"] + 1)
    _, silent = await asyncio.open_connection("127.0.0.1", port)
    silent.close()
    assert (await gate.get("secure", "/page")).text == "ok"
    assert failed_handshakes("other") == before["other"], "who leaves without a word has not failed"


async def test_who_takes_nothing_over_tls_is_cut_and_little_of_its_answer_is_held(
    site: Made, laravel: Receiver, heard: Heard
) -> None:
    taken = 0
    piece = bytes(256 * 1024)

    async def large(call: Call) -> None:
        nonlocal taken
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 * len(piece)))
        with suppress(ConnectionError):
            for _ in range(256):
                call.say(piece)
                await call.writer.drain()
                taken += len(piece)

    laravel.play = large
    gate = await site("clients: {send: 2s}")
    tracemalloc.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port("secure"), ssl=anybody())
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.transport.pause_reading()
        await until(lambda: "client.cut" in heard.messages(), timeout=30)
        _, peak = tracemalloc.get_traced_memory()
        writer.transport.abort()
    finally:
        tracemalloc.stop()
    (cut,) = [fields for message, fields in heard.lines if message == "client.cut"]
    assert cut["why"] == "the client took nothing of its answer for 2 seconds (clients.send)"
    await until(lambda: "request" in heard.messages())
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert (line["status"], line["why"]) == (200, cut["why"])
    assert peak < 4 * 2**20, "of the 64 MiB, by client, gateway and upstream together"
    assert taken < 32 * 2**20, "the rest never left the upstream: what is encrypted is held by nobody either"


def put(source: tuple[Path, Path], folder: Path) -> None:
    for file, name in zip(source, ("tls.crt", "tls.key"), strict=True):
        shutil.copy(file, folder / f"{name}.new")
        os.replace(folder / f"{name}.new", folder / name)


async def test_a_new_certificate_counts_without_a_restart_and_open_connections_go_on(site: Made, heard: Heard) -> None:
    gate = await site()
    first = await handshake(gate.port("secure"), anybody())
    async with gate.at("secure") as client:
        assert (await client.get("/page")).text == "ok"
        put(certify(gate.folder, "next", days=30), gate.folder)
        await until(lambda: "certificate.loaded" in heard.messages(), what="the new certificate to be in force")
        second = await handshake(gate.port("secure"), anybody())
        assert second["der"] != first["der"]
        assert (await client.get("/page")).text == "ok"
    assert (await gate.get("secure", "/page")).text == "ok", "a client that trusts only the new one"
    assert 29 * 86400 < gate.certificate.ends - time.time() < 31 * 86400


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("key of another", "tls.key is not the key of {folder}/tls.crt; put the right pair there"),
        ("text", "tls.crt holds no certificate; write its PEM form there"),
        ("gone", "tls.crt cannot be read (no such file or directory); put it there"),
        ("cut", "tls.crt holds a certificate that cannot be read; write a right one there"),
    ],
)
async def test_a_broken_new_certificate_keeps_the_old_one_and_is_told(
    site: Made, heard: Heard, broken: str, why: str
) -> None:
    gate = await site("console: {token: env:TOKEN}")
    before = await handshake(gate.port("secure"), anybody())
    cert = gate.folder / "tls.crt"
    if broken == "key of another":
        cert.write_bytes(certify(gate.folder, "another")[0].read_bytes())
    elif broken == "text":
        cert.write_text("soon")
    elif broken == "cut":
        cert.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    else:
        cert.unlink()
    await until(lambda: "certificate.refused" in heard.messages(), what="the broken certificate to be seen")
    assert (await handshake(gate.port("secure"), anybody()))["der"] == before["der"]
    said = f"{gate.folder}/{why.format(folder=gate.folder)}"
    (fields,) = [fields for message, fields in heard.lines if message == "certificate.refused"]
    assert (fields["on"], fields["why"]) == ("secure", said)
    status = (await gate.get("public", "/_sluice/api/status", Authorization="Bearer the-token-of-tests")).json()
    sentence = f"listener secure: its new certificate is not in force, the one from before is: {said}"
    assert sentence in status["messages"]
    assert 'sluice_certificate_refused{on="secure"} 1.0' in (await gate.get("public", "/_sluice/metrics")).text
    put(certify(gate.folder, "right"), gate.folder)
    await until(lambda: "certificate.loaded" in heard.messages(), what="the right pair to be in force")
    assert gate.certificate.problem is None


async def test_status_lists_the_listeners_and_says_that_a_certificate_ends_soon(site: Made) -> None:
    gate = await site("console: {token: env:TOKEN}")
    put(certify(gate.folder, "short", days=10), gate.folder)
    await until(lambda: gate.certificate.ends < time.time() + 11 * 86400, what="the short one")
    status = (await gate.get("public", "/_sluice/api/status", Authorization="Bearer the-token-of-tests")).json()
    assert [(one["name"], one["admin"]) for one in status["listeners"]] == [
        ("public", False), ("workers", False), ("local", False), ("secure", False),
    ]  # fmt: skip
    (sentence,) = [one for one in status["messages"] if one.startswith("listener")]
    assert sentence.startswith("listener secure: its certificate ends in 9d 23h: put a new one into /tmp/sluice-")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda folder: (folder / "tls.key").unlink(),
            "tls.key cannot be read (no such file or directory); put it there",
        ),
        (lambda folder: (folder / "tls.key").write_text("x"), "tls.key holds no private key; write its PEM form there"),
    ],
)
async def test_without_a_certificate_that_can_be_used_nothing_starts(
    site: Made, short_folder: Path, change: Callable[[Path], object], why: str
) -> None:
    change(short_folder)
    with pytest.raises(CannotListen) as caught:
        await site()
    assert str(caught.value) == f"cannot listen on secure 127.0.0.1:0 (TLS): {short_folder}/{why}"
    assert not (short_folder / "edge.sock").exists(), "what was bound before is given back"


@pytest.mark.parametrize("name", ["secure", "local"])
async def test_what_is_in_flight_is_answered_when_the_gateway_stops(site: Made, laravel: Receiver, name: str) -> None:
    gate = await site()
    asked, goes_on = asyncio.Event(), asyncio.Event()

    async def slowly(call: Call) -> None:
        await call.head()
        asked.set()
        await goes_on.wait()
        call.say(OK)

    laravel.play = slowly
    answer = asyncio.create_task(gate.get(name, "/page"))
    await asked.wait()
    gate.stop.request()
    await asyncio.sleep(0.3)
    goes_on.set()
    assert (await answer).text == "ok"
    assert not (gate.folder / "edge.sock").exists()


async def test_a_client_that_reads_nothing_over_tls_is_cut(site: Made, laravel: Receiver, heard: Heard) -> None:
    gate = await site("clients: {send: 1s}")

    async def much(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + bytes(50_000_000))

    laravel.play = much
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port("secure"), ssl=anybody(), limit=1024)
    writer.write(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: "client.cut" in heard.messages(), timeout=20, what="the client to be cut")
    writer.transport.abort()
    del reader


async def test_a_refusal_is_read_over_tls_though_the_body_was_not(site: Made) -> None:
    text = POLICIES.replace(
        "routes:\n", "routes:\n  - {{path: /hook, methods: [POST], verify: w, upstream: laravel}}\n"
    )
    gate = await site("signatures: {w: {preset: blazz, secret: env:TOKEN}}", text)
    head = b"POST /hook HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n"

    def ask() -> bytes:
        raw = socket.create_connection(("127.0.0.1", gate.port("secure")), timeout=20)
        with anybody().wrap_socket(raw) as wire:
            wire.sendall(head + bytes(4_000_000))
            return wire.recv(65536)

    assert (await asyncio.to_thread(ask)).startswith(b"HTTP/1.1 4")


# --- on another server


async def test_on_another_server_the_address_tells_which_listener_it_is(tmp_path: Path, store_url: str) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(
        f'version: 1\nlisten: {{public: "0.0.0.0:80", workers: "127.0.0.1:3000", local: "unix:/run/a.sock"}}\n'
        f'store: {{url: "{store_url}"}}\nupstreams: {{laravel: {{url: "http://127.0.0.1:1"}}}}\n'
        "routes: [{path: /a, upstream: laravel, on: workers}]\n"
    )
    application = asgi.create(file)
    async with application.opened():
        for server, status in (
            (("127.0.0.1", 3000), 502),
            (("127.0.0.1", 80), 404),
            (("10.0.0.1", 3000), 404),
            (None, 404),
        ):
            scope = {
                "type": "http",
                "http_version": "1.1",
                "method": "GET",
                "path": "/a",
                "raw_path": b"/a",
                "query_string": b"",
            }
            scope |= {"headers": [(b"host", b"a")], "client": ("127.0.0.1", 5), "server": server, "scheme": "http"}
            sent: list[Any] = []

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": b"", "more_body": False}

            async def send(message: Any, sent: list[Any] = sent) -> None:
                sent.append(message)

            await application(scope, receive, send)
            assert sent[0]["status"] == status, server
