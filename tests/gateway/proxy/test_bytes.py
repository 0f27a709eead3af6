"""Any request that is valid HTTP/1.1 arrives at the upstream byte for byte, however its packets were cut."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.gateway.running import FORWARDED, Gate, Receiver, lines, receiver, start, values
from tests.sluice.http.client.upstream import OK, Call

pytestmark = pytest.mark.anyio

Pairs = list[tuple[bytes, bytes]]
METHODS = (b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS")
"""Those the route of the gateway under test takes."""
IN_TARGET = bytes(byte for byte in (*range(0x21, 0x7F), *range(0x80, 0x100)) if byte not in b"#?")
IN_NAME = b"!#$%&'*+-.^_`|~0123456789abcxyzABCXYZ"
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
IN_VALUE = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
OUR_OWN = (
    *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"),
    *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"host", b"content-length"),
)
"""Names that mean something on the way: other tests have them."""


def a_text(alphabet: bytes, *, least: int = 0, most: int = 20) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), min_size=least, max_size=most).map(bytes)


def is_ours(name: bytes) -> bool:
    return name.lower() in OUR_OWN or name.lower().startswith((b"x-", b"forwarded"))


paths = (
    st.lists(
        st.sampled_from([b"%2F", b"%2f", b"%7E", b"%C3%A9", b"\xc3\xa9", b"//", b"/./"]) | a_text(IN_TARGET, most=8),
        max_size=4,
    )
    .map(b"".join)
    .filter(lambda path: b".." not in unquote_to_bytes(path) and not CONTROL.search(unquote_to_bytes(path)))
)
"""Without what the edge refuses: a way out of the root, an encoded control character."""
targets = st.builds(
    lambda path, query: b"/p" + path + (b"" if query is None else b"?" + query),
    paths,
    st.none() | a_text(IN_TARGET + b"??%%&&=="),
)
names = st.sampled_from([b"Cookie", b"cookie", b"Accept", b"A", b"Set-Cookie2"]) | a_text(IN_NAME, least=1, most=8)
white = st.sampled_from([b"", b" ", b"\t", b"  \t "])
fields = st.lists(
    st.tuples(
        names.filter(lambda name: not is_ours(name)), white, a_text(IN_VALUE).map(lambda v: v.strip(b" \t")), white
    ),
    max_size=12,
)
bodies = st.binary(max_size=200) | st.builds(
    lambda piece, n: piece * n, st.binary(min_size=1, max_size=50), st.integers(1, 4000)
)


@dataclass(slots=True)
class Request:
    method: bytes
    target: bytes
    fields: list[tuple[bytes, bytes, bytes, bytes]]
    body: bytes | None
    chunks: list[int] = field(default_factory=list)
    """Sizes of its chunks, used over and over; none: by Content-Length."""

    def sent(self) -> bytes:
        pieces = [self.method, b" ", self.target, b" HTTP/1.1\r\nHost: shop.example\r\n"]
        for name, before, value, after in self.fields:
            pieces += (name, b":", before, value, after, b"\r\n")
        if self.body is None:
            pieces.append(b"\r\n")
        elif not self.chunks:
            pieces += (b"Content-Length: %d\r\n\r\n" % len(self.body), self.body)
        else:
            pieces += (b"Transfer-Encoding: chunked\r\n\r\n", self._chunked(self.body))
        return b"".join(pieces)

    def _chunked(self, body: bytes) -> bytes:
        pieces, at, turn = [], 0, 0
        while at < len(body):
            piece = body[at : at + self.chunks[turn % len(self.chunks)]]
            pieces += (b"%x%b\r\n" % (len(piece), b";a=b" * (turn % 2)), piece, b"\r\n")
            at, turn = at + len(piece), turn + 1
        return b"".join((*pieces, b"0\r\nX-Trailer: dropped\r\n\r\n"))

    def pairs(self) -> Pairs:
        return [(name.lower(), value) for name, _, value, _ in self.fields]


requests = st.builds(
    Request,
    st.sampled_from(METHODS),
    targets,
    fields,
    st.none() | bodies,
    st.just([]) | st.lists(st.integers(1, 5) | st.integers(6, 70_000), min_size=1, max_size=5),
)


async def recorded(upstream: Receiver, call: Call) -> None:
    """Like `upstream.record`, for bodies in chunks too: head and body are kept once the request has ended."""
    while True:
        head = await call.head()
        if values(head, b"transfer-encoding") == [b"chunked"]:
            body = await _unchunked(call)
        else:
            length = values(head, b"content-length")
            body = await call.reader.readexactly(int(length[0])) if length else b""
        upstream.heads.append(head)
        upstream.bodies.append(body)
        call.say(OK.removesuffix(b"ok") if head.startswith(b"HEAD ") else OK)


async def _unchunked(call: Call) -> bytes:
    pieces = []
    while size := int((await call.until(b"\r\n")).partition(b";")[0], 16):
        pieces.append((await call.reader.readexactly(size + 2))[:-2])
    assert await call.until(b"\r\n") == b"\r\n", "a trailer was passed on"
    return b"".join(pieces)


@pytest.fixture(scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory, store_address: str) -> AsyncIterator[tuple[Gate, Receiver]]:
    async with receiver() as upstream:
        upstream.play = lambda call: recorded(upstream, call)
        gate, task = start(tmp_path_factory.mktemp("bytes"), store_address, upstream.url)
        async with gate.http:
            yield gate, upstream
        gate.stop.request()
        await task


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=st.lists(requests, min_size=1, max_size=3), cuts=st.lists(st.integers(1, 300), max_size=8))
async def test_a_valid_request_arrives_byte_for_byte(
    front: tuple[Gate, Receiver], batch: list[Request], cuts: list[int]
) -> None:
    """Up to three of them on one connection, each answered before the next is sent or not: they may be pipelined."""
    gate, upstream = front
    upstream.heads.clear()
    upstream.bodies.clear()
    sent = b"".join(request.sent() for request in batch)
    async with gate.raw() as client:
        for cut in cuts:
            client.send(sent[:cut])
            sent = sent[cut:]
            await asyncio.sleep(0.001)
        client.send(sent)
        for request in batch:
            answer = await client.head()
            assert answer.startswith(b"HTTP/1.1 200 "), (request, answer)
            if request.method != b"HEAD":
                await client.exactly(2)
    assert len(upstream.heads) == len(batch)
    for request, head, body in zip(batch, upstream.heads, upstream.bodies, strict=True):
        assert lines(head)[0] == request.method + b" " + request.target + b" HTTP/1.1"
        assert _end_to_end(head) == request.pairs()
        assert body == (request.body or b"")


def _end_to_end(head: bytes) -> Pairs:
    """Without what the gateway says itself, which is checked to be there."""
    told = {line.partition(b":")[0].lower() for line in FORWARDED.split(b"\r\n") if line} | {b"x-request-id"}
    pairs = []
    for line in lines(head)[1:]:
        name, _, value = line.partition(b":")
        pairs.append((name.lower(), value.removeprefix(b" ")))
    assert pairs[0] == (b"host", b"shop.example")
    assert told <= {name for name, _ in pairs}
    framing = {b"host", b"content-length", b"transfer-encoding"}
    return [(name, value) for name, value in pairs if name not in told | framing]
