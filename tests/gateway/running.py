"""A whole gateway on a socket, and what stands around it: receivers that record bytes, clients that send them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson

from gateway import policies
from gateway.limits.headers import QUOTA_EXCEEDED
from gateway.policies import Policies
from sluice.config import Secret, Signature
from sluice.http.call_signatures import sign_call
from sluice.http.server import serving
from sluice.http.signatures import sign
from sluice.process.loops import Stop
from tests.gateway.servers import SERVERS
from tests.sluice.http.client.upstream import OK, Call, Play, Upstream, upstream

SECRET = "quite-secret"
SIGNATURE = Signature("workers", "blazz", Secret(SECRET.encode()), 300.0)
STRANGER = Signature("workers", "blazz", Secret(b"guessed"), 300.0)
PROXY, DENIED = "127.0.0.3", "127.0.0.2"
FORWARDED = (
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: shop.example\r\n"
    b"X-Forwarded-Port: 80\r\nX-Forwarded-Proto: http\r\n"
    b"X-Sluice-Via: 00000000\r\n"
)
"""What the next one is told of a client that asked us for shop.example."""

POLICIES = """
version: 1
store: {{url: "{store}", promise: memory}}
trust:
  proxies: [127.0.0.3/32]
  deny: [127.0.0.2/32]
upstreams:
  laravel: {{url: "{laravel}", connect: 1s, headers: {headers}, idle: 10s}}
signatures:
  workers: {{preset: blazz, secret: env:SECRET, tolerance: 5m}}
routes:
  - {{path: /hooks/*, methods: [POST], verify: workers, event: {{json: /event}}, session: {{json: /data/session_id}},
     body: 1KiB, relay: laravel}}
  - {{path: /api/sessions, methods: [GET], workers: list}}
  - {{path: /api/sessions, methods: [POST], session: {{json: /session_id}}, workers: place}}
  - {{path: "/api/sessions/{{session}}/**", workers: owner}}
  - {{path: /api/messages/*, methods: [POST], session: {{json: /session_id}}, event: message_send, workers: owner}}
  - {{path: "/api/messages/{{session}}/*", workers: owner}}
  - {{path: /health/**, workers: health}}
  - {{path: /info, workers: any}}
  - {{path: /limited/**, event: limited, upstream: laravel}}
  - {{path: /undecided/**, event: undecided, upstream: laravel}}
  - {{path: /nowhere/**, methods: [DELETE], upstream: laravel}}
  - {{path: /**, methods: [GET, HEAD, POST, PUT, OPTIONS], upstream: laravel}}
limit_headers: []
limits:
  - {{id: limited, event: limited, rate: 1/hour, burst: 1, over: reject}}
  - {{id: typing, event: typing_indicator, per: [session], rate: 1/hour, burst: 1, over: drop}}
  - {{id: message, event: message_received, per: [session], rate: 1/hour, burst: 2, over: queue}}
  - {{id: undecided, event: undecided, rate: 1000/second, when_store_away: deny}}
  - {{id: address, per: [ip], rate: 1000/second, burst: 1000, when_store_away: local}}
relay:
  endpoints:
    laravel: {{url: "{laravel}", sign: workers}}
sessions: {{lease: 15s, verify: workers}}
"""


_SIGNED: deque[int] = deque(maxlen=200)
"""The seconds in which the last webhooks were signed."""
_NAME = re.compile(rb"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+:", re.MULTILINE)


class Receiver:
    """Plays Laravel or a worker: keeps the bytes of every request, answers `response` unless told another `play`."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.response = OK
        self.play: Play = self.record
        self.upstream: Upstream

    @property
    def url(self) -> str:
        return str(self.upstream.origin)

    async def record(self, call: Call) -> None:
        while True:
            head = await call.head()
            self.heads.append(head)
            length = [line.partition(b":")[2] for line in lines(head) if line.lower().startswith(b"content-length:")]
            self.bodies.append(await call.reader.readexactly(int(length[0])) if length else b"")
            call.say(self.response)

    async def answer(self, call: Call) -> None:
        await self.play(call)


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    made = Receiver()
    async with upstream(made.answer, tls=tls) as made.upstream:
        yield made


def lines(head: bytes) -> list[bytes]:
    return head.removesuffix(b"\r\n\r\n").split(b"\r\n")


def as_served(head: bytes) -> bytes:
    """A head or one of its lines as it is on every server: but ours all of them make field names lower case."""
    head = without_names(head)
    return head if server == "sluice" else re.sub(_NAME, lambda name: name[0].lower(), head)


def without_names(head: bytes) -> bytes:
    """A head in which all gateways have the same name, without the id that a request gets, another one each time."""
    head = re.sub(rb"(?im)^x-request-id: [!-~]+\r\n", b"", head)
    return re.sub(rb"(?i)(X-Sluice-Via: )[0-9a-f]{8}", rb"\g<1>00000000", head)


def values(head: bytes, name: bytes) -> list[bytes]:
    """The values of a header, in their order."""
    pairs = [line.partition(b":") for line in lines(head)[1:]]
    return [value.strip() for key, _, value in pairs if key.lower() == name.lower()]


class Raw:
    """A client that sends exactly these bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *pieces: bytes) -> None:
        self._writer.write(b"".join(pieces))

    def take_nothing(self) -> None:
        """From now on what the gateway sends stays in the kernels."""
        self._writer.transport.pause_reading()

    def reset(self) -> None:
        linger_for_nothing = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_nothing)
        self._writer.transport.abort()

    def hang_up(self) -> None:
        self._writer.close()

    async def head(self) -> bytes:
        async with asyncio.timeout(60):
            return await self._reader.readuntil(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(60):
            return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """Until the gateway closes."""
        async with asyncio.timeout(60):
            return await self._reader.read()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Gate:
    def __init__(self, policies: Policies, port: int) -> None:
        self.policies = policies
        self.stop = Stop()
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.http = httpx2.AsyncClient(base_url=self.url, trust_env=False, verify=False, timeout=15.0)

    @asynccontextmanager
    async def raw(self, *pieces: bytes, address: str = "127.0.0.1") -> AsyncIterator[Raw]:
        """A connection on which these bytes were sent, from this address."""
        client = Raw(*await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0)))
        client.send(*pieces)
        try:
            yield client
        finally:
            await client.close()

    async def post_event(
        self,
        event: object = "message_received",
        session: object = "s1",
        *,
        signature: Signature = SIGNATURE,
        at: float | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        """A signed webhook. None is signed in the same second as another, as that would be a repeat of it."""
        if body is None:
            body = b'{"event": %s, "data": {"session_id": %s}}' % (_json(event), _json(session))
        proof = sign(signature, body, _unused_second() if at is None else at)
        sent = {name.decode(): value.decode() for name, value in proof} | (headers or {})
        return await self.http.post("/hooks/message", content=body, headers=sent)

    async def post_signed(self, path: str, fields: dict[str, object]) -> None:
        body = orjson.dumps(fields)
        proof = {name.decode(): value.decode() for name, value in sign_call(SIGNATURE, "POST", path, body, time.time())}
        assert (await self.http.post(path, content=body, headers=proof)).status_code == 200


def _unused_second() -> int:
    second = int(time.time())
    while second in _SIGNED:
        second -= 1
    _SIGNED.append(second)
    return second


def _json(value: object) -> bytes:
    return b"null" if value is None else b'"%s"' % str(value).encode()


server = "sluice"
"""On which of `SERVERS` gateways run now; the fixture of this name sets it."""


def read_policies(
    folder: Path, store_url: str, laravel: str, headers: str = "10s", text: str | None = None
) -> Policies:
    """Those above, from a file in the folder."""
    file = folder / "policies.yaml"
    file.write_text((text or POLICIES).format(store=store_url, laravel=laravel, headers=headers))
    return policies.load(file, environment={"SECRET": SECRET, "SECRET_KEY": "k", "VAULT_KEY": "k" * 32})


def start(
    folder: Path, store_url: str, laravel: str, headers: str = "10s", text: str | None = None
) -> tuple[Gate, asyncio.Future[None]]:
    """A gateway that takes connections from now on, and the task that ends when it has stopped."""
    read = read_policies(folder, store_url, laravel, headers, text)
    bound = serving.listening("127.0.0.1", 0)
    bound.listen()
    gate = Gate(read, bound.getsockname()[1])
    return gate, asyncio.ensure_future(SERVERS[server](read, bound, gate.stop))


@asynccontextmanager
async def gateway(
    folder: Path, store_url: str, laravel: str, *, headers: str = "10s", text: str | None = None
) -> AsyncIterator[Gate]:
    """A gateway that serves until the block is left. `headers`: how long Laravel may be silent."""
    gate, task = start(folder, store_url, laravel, headers, text)
    try:
        async with gate.http:
            yield gate
    finally:
        gate.stop.request()
        await task


def problem(response: httpx2.Response) -> tuple[int, str]:
    """Status and detail of a refusal, which must be problem+json (RFC 9457)."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    fields: dict[str, Any] = response.json()
    assert fields["type"] == (QUOTA_EXCEEDED if response.status_code == 429 else "about:blank")
    assert fields["status"] == response.status_code
    assert fields["title"]
    return response.status_code, fields["detail"]
