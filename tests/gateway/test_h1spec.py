"""What a client may send, and what becomes of it: RFC 9112 case by case, through the whole gateway.

The 33 cases of uNetworking/h1spec are among these (docs/h1spec.md tells how to run the suite itself). What is refused
never reaches the upstream, is answered as problem+json, and ends the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sluice.http.server.head import MAX_FIELDS, MAX_HEAD, MAX_TARGET
from tests.gateway.proxy.test_bytes import recorded
from tests.gateway.running import Gate, Raw, Receiver, lines, receiver, start, values

pytestmark = pytest.mark.anyio

HOST = b"Host: shop.example\r\n"
END = b"\r\n"
GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


@pytest.fixture(scope="module")
async def front(tmp_path_factory: pytest.TempPathFactory, store_address: str) -> AsyncIterator[tuple[Gate, Receiver]]:
    """One gateway for the whole table."""
    async with receiver() as upstream:
        upstream.play = lambda call: recorded(upstream, call)
        gate, task = start(tmp_path_factory.mktemp("h1spec"), store_address, upstream.url)
        async with gate.http:
            yield gate, upstream
        gate.stop.request()
        await task


REQUEST_LINE = {
    "nothing after the target": (b"GET / \r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "HTTP/0.9, not even an empty line": (b"GET /\r\n", 400),
    "HTTP/0.9 by number": (b"GET / HTTP/0.9\r\n" + HOST + END, 505),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n" + HOST + END, 505),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n" + HOST + END, 505),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/9.9": (b"GET / HTTP/9.9\r\n" + HOST + END, 505),
    "HTTP/1.10": (b"GET / HTTP/1.10\r\n" + HOST + END, 400),
    "HTTP/01.1": (b"GET / HTTP/01.1\r\n" + HOST + END, 400),
    "a lower-case version": (b"GET / http/1.1\r\n" + HOST + END, 400),
    "another protocol": (b"GET / RTSP/1.0\r\n" + HOST + END, 400),
    "ICE, which the parser knows": (b"SOURCE / ICE/1.0\r\n" + HOST + END, 400),
    "no space before the target": (b"GET/ HTTP/1.1\r\n" + HOST + END, 400),
    "no space behind the target": (b"GET /HTTP/1.1\r\n" + HOST + END, 400),
    "two spaces before the target": (b"GET  / HTTP/1.1\r\n" + HOST + END, 400),
    "two spaces behind the target": (b"GET /  HTTP/1.1\r\n" + HOST + END, 400),
    "a space at the end": (b"GET / HTTP/1.1 \r\n" + HOST + END, 400),
    "a space at the beginning": (b" GET / HTTP/1.1\r\n" + HOST + END, 400),
    "a tab for a space": (b"GET\t/ HTTP/1.1\r\n" + HOST + END, 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\n" + HOST + END, 400),
    "something before the method": (b"Extra lineGET / HTTP/1.1\r\n" + HOST + END, 400),
    "a method over 32 bytes": (b"A" * 33 + b" / HTTP/1.1\r\n" + HOST + END, 501),
    "a method over 32 bytes, without an end": (b"A" * 33, 501),
    "a method that is no token": (b"G@T / HTTP/1.1\r\n" + HOST + END, 400),
    "a bare LF behind the request line": (b"GET / HTTP/1.1\n" + HOST + END, 400),
    "a bare CR before it": (b"\rGET / HTTP/1.1\r\n" + HOST + END, 400),
    "two CRs behind it": (b"GET / HTTP/1.1\r\r\n" + HOST + END, 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "bare LFs all through": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
}
TARGET = {
    "a fragment": (b"GET /a#b HTTP/1.1\r\n" + HOST + END, 400),
    "a fragment behind an empty query": (b"GET /a?#b HTTP/1.1\r\n" + HOST + END, 400),
    "NUL": (b"GET /\x00 HTTP/1.1\r\n" + HOST + END, 400),
    "DEL": (b"GET /\x7f HTTP/1.1\r\n" + HOST + END, 400),
    "no slash": (b"GET a HTTP/1.1\r\n" + HOST + END, 400),
    "a query alone": (b"GET ?a HTTP/1.1\r\n" + HOST + END, 400),
    "* for GET": (b"GET * HTTP/1.1\r\n" + HOST + END, 400),
    "CONNECT": (b"CONNECT shop.example:443 HTTP/1.1\r\n" + HOST + END, 501),
    "CONNECT with a path": (b"CONNECT / HTTP/1.1\r\n" + HOST + END, 501),
    "another host than Host, which is none": (b"GET http://other.example/ HTTP/1.1\r\n\r\n", 400),
    "another host than Host, which is no host": (b"GET http://other.example/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "a host over 255 bytes": (b"GET http://" + b"a" * 256 + b"/ HTTP/1.1\r\n" + HOST + END, 400),
    "a user": (b"GET http://me@shop.example/ HTTP/1.1\r\n" + HOST + END, 400),
    "no authority": (b"GET http:/// HTTP/1.1\r\n" + HOST + END, 400),
    "another scheme": (b"GET ftp://shop.example/ HTTP/1.1\r\n" + HOST + END, 400),
    "over 16 KiB": (b"GET /" + b"a" * MAX_TARGET + b" HTTP/1.1\r\n" + HOST + END, 414),
    "over 16 KiB, without an end": (b"GET /" + b"a" * (MAX_TARGET + 300), 414),
}
HOSTS = {
    "none": (GET + END, 400),
    "none, beside a Content-Length": (GET + b"Content-Length: 5\r\n\r\n", 400),
    "two": (GET + HOST + b"Host: other.example\r\n\r\n", 400),
    "two of a kind": (GET + HOST + HOST + END, 400),
    "two in HTTP/1.0": (b"GET / HTTP/1.0\r\n" + HOST + HOST + END, 400),
    "empty": (GET + b"Host:\r\n\r\n", 400),
    "blank": (GET + b"Host:  \t\r\n\r\n", 400),
    "a path in it": (GET + b"Host: shop.example/x\r\n\r\n", 400),
    "a user in it": (GET + b"Host: me@shop.example\r\n\r\n", 400),
    "a space in it": (GET + b"Host: shop example\r\n\r\n", 400),
    "a list": (GET + b"Host: a, b\r\n\r\n", 400),
    "over 255 bytes": (GET + b"Host: " + b"a" * 256 + b"\r\n\r\n", 400),
    "a port that makes it over 255 bytes": (GET + b"Host: a:" + b"0" * 254 + b"\r\n\r\n", 400),
    "a port of letters": (GET + b"Host: a:http\r\n\r\n", 400),
    "bytes over 127": (GET + b"Host: caf\xc3\xa9\r\n\r\n", 400),
}
FIELDS = {
    "a bracket in a name": (GET + HOST + b"X-Invalid[]: test\r\n\r\n", 400),
    "a control character in a name": (GET + HOST + b"X\x01: a\r\n\r\n", 400),
    "a byte over 127 in a name": (GET + HOST + b"X\xe9: a\r\n\r\n", 400),
    "NUL in a name": (GET + HOST + b"X\x00: a\r\n\r\n", 400),
    "an empty name": (GET + HOST + b": a\r\n\r\n", 400),
    "a space before the colon": (GET + HOST + b"X : a\r\n\r\n", 400),
    "a tab before the colon": (GET + HOST + b"X\t: a\r\n\r\n", 400),
    "a space before the colon of a length": (POST + b"Content-Length : 3\r\n\r\nabc", 400),
    "no colon": (GET + HOST + b"X\r\n\r\n", 400),
    "BEL in a value": (GET + HOST + b"X: test\x07\r\n\r\n", 400),
    "NUL in a value": (GET + HOST + b"X: a\x00b\r\n\r\n", 400),
    "DEL in a value": (GET + HOST + b"X: a\x7fb\r\n\r\n", 400),
    "a folded line": (GET + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "a line folded by a tab": (GET + HOST + b"X: a\r\n\tb\r\n\r\n", 400),
    "a folded empty line": (GET + HOST + b"X:\r\n b\r\n\r\n", 400),
    "a space before the first field": (GET + b" " + HOST + END, 400),
    "a bare LF behind a value": (GET + HOST + b"X: a\nY: b\r\n\r\n", 400),
    "a bare CR in a value": (GET + HOST + b"X: a\rY: b\r\n\r\n", 400),
    "a bare CR behind the head": (GET + HOST + b"\rSome-Header: Test\r\n\r\n", 400),
    "a bare LF for the empty line": (GET + HOST + b"\n", 400),
    "over 256 of them": (GET + HOST + b"X: 1\r\n" * MAX_FIELDS + END, 431),
    "over 64 KiB": (GET + HOST + b"X: " + b"a" * MAX_HEAD + b"\r\n\r\n", 431),
    "over 64 KiB, without an end": (GET + HOST + b"X: " + b"a" * MAX_HEAD, 431),
    "an expectation nobody knows": (POST + b"Content-Length: 3\r\nExpect: 200-ok\r\n\r\nabc", 417),
}
LENGTHS = {
    **{
        f"{length.decode()!r}": (POST + b"Content-Length:" + length + b"\r\n\r\nabcde", 400)
        for length in (b"abc", b"+5", b"-5", b"-1234", b" 5 5", b"0x5", b"5_0", b"5.0", b"5,5", b" 5, 6", b"", b" ")
    },
    "far below 0": (POST + b"Content-Length: -123456789123456789123456789\r\n\r\n", 400),
    "more than 64 bits": (POST + b"Content-Length: 123456789123456789123456789\r\n\r\n", 400),
    "two of a kind": (POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "two that differ": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", 400),
    "a length, then chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST, 400),
    "both, in odd spelling": (POST + b"content-LengtH: 5\r\nTransFer-Encoding: chunked\r\n\r\n" + LAST, 400),
    "chunks, then a length": (GET + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + LAST, 400),
    "chunked in two fields": (POST + b"Transfer-Encoding: chunked\r\n" * 2 + END + LAST, 400),
    "gzip in a field before": (POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST, 400),
    **{
        f"coded {coding.decode()!r}": (POST + b"Transfer-Encoding: " + coding + b"\r\n\r\n" + LAST, 400)
        for coding in (
            *(b"", b"identity", b"xchunked", b"chunkedx", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip"),
            *(b",chunked", b"chunked,", b"chunked;a=b", b"'chunked'", b"\x0bchunked", b"identity, chunked"),
        )
    },
}


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(*case, id=f"{group}: {name}")
        for group, cases in {
            "request line": REQUEST_LINE,
            "target": TARGET,
            "Host": HOSTS,
            "field": FIELDS,
            "length": LENGTHS,
        }.items()
        for name, case in cases.items()
    ],
)
async def test_refused(front: tuple[Gate, Receiver], sent: bytes, status: int) -> None:
    gate, upstream = front
    before = len(upstream.heads)
    async with gate.raw(sent) as client:
        answer = await client.head()
        body = await client.rest()
    assert lines(answer)[0].split(b" ")[1] == b"%d" % status, answer + body
    assert values(answer, b"connection") == [b"close"]
    assert values(answer, b"content-type") == [b"application/problem+json"]
    assert values(answer, b"content-length") == [b"%d" % len(body)], "something came behind the refusal"
    assert b'"status":%d,' % status in body
    assert len(upstream.heads) == before


@pytest.mark.parametrize(
    "chunks",
    [
        *(b"0x3\r\nabc\r\n", b"+3\r\nabc\r\n", b"-3\r\nabc\r\n", b"3_\r\nabc\r\n", b"g\r\nabc\r\n", b"\r\nabc\r\n"),
        *(b"3\nabc\r\n", b"3\rabc\r\n", b"3 \r\nabc\r\n", b" 3\r\nabc\r\n", b"ffffffffffffffff1\r\nabc\r\n"),
        *(b"3\r\nabcd\r\n", b"3\r\nabc", b"3\r\nabc\n", b"3\r\nabc\r", b"3;\r\nabc\r\n", b"3;a\nb\r\nabc\r\n"),
        *(
            b"3;a=b\rx\r\nabc\r\n",
            b"3;a=\x00\r\nabc\r\n",
            b"0\r\nX : 1\r\n\r\n",
            b"0\r\nX: a\r\n b\r\n\r\n",
            b"0\r\n\n",
        ),
        *(b"0\r\nContent-Length: 5\r\n\r\n", b"3;a=" + b"b" * 2 * MAX_HEAD + b"\r\nabc\r\n"),
        b"0\r\n" + b"X: 1\r\n" * 12_000,
    ],
    ids=lambda chunks: repr(chunks[:20]),
)
async def test_a_broken_chunk_is_400_and_no_whole_request(front: tuple[Gate, Receiver], chunks: bytes) -> None:
    """The head is on its way by then; what counts is that the upstream never sees a request that ends."""
    gate, upstream = front
    before = len(upstream.bodies)
    async with gate.raw(CHUNKED, chunks, LAST) as client:
        answer = await client.head()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert values(answer, b"connection") == [b"close"]
        await client.rest()
    assert len(upstream.bodies) == before
    async with gate.raw(GET + HOST + END) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


ACCEPTED = {
    "a GET": GET + HOST + END,
    "odd spelling, a tab, an empty field": GET + b"hoSt:\tshop.example\r\nempty:\r\n\r\n",
    "an empty value": GET + HOST + b"X-Empty-Header: \r\n\r\n",
    "Expect beside no body": GET + HOST + b"Expect: 100-continue\r\n\r\n",
    "a POST": POST + b"Content-Length: 5\r\n\r\nhello",
    "a length with a space behind": POST + b"Content-Length: 5 \t\r\n\r\nhello",
    "a length with a zero before": POST + b"Content-Length: 05\r\n\r\nhello",
    "chunks": CHUNKED + b"c\r\nHellO world1\r\n" + LAST,
    "no length": POST + END,
    "an empty line before": b"\r\n" + GET + HOST + END,
    "empty lines before": b"\r\n\r\n\r\n" + GET + HOST + END,
    "an absolute target": b"GET http://shop.example/ HTTP/1.1\r\n" + HOST + END,
    "an absolute target with its port": b"GET http://SHOP.example:80/ HTTP/1.1\r\n" + HOST + END,
    "an absolute target without a path": b"GET http://shop.example HTTP/1.1\r\n" + HOST + END,
    "an absolute target with another host": b"GET http://other.example/ HTTP/1.1\r\n" + HOST + END,
    "a host of 255 bytes": GET + b"Host: " + b"a" * 255 + b"\r\n\r\n",
    "bytes over 127 in the target": b"GET /\xc3\xa9?\xff HTTP/1.1\r\n" + HOST + END,
    "HTTP/1.0 that asks for it": b"GET / HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n",
    "odd characters in the target": b'GET /<>"{}|\\^` HTTP/1.1\r\n' + HOST + END,
    "an IPv6 host": GET + b"Host: [::1]:8080\r\n\r\n",
    "256 fields": GET + HOST + b"X: 1\r\n" * (MAX_FIELDS - 1) + END,
    "a head of 60 KiB": GET + HOST + b"X: " + b"a" * 60 * 1024 + b"\r\n\r\n",
    "a target of 16 KiB": b"GET /" + b"a" * (MAX_TARGET - 1) + b" HTTP/1.1\r\n" + HOST + END,
    "an upgrade to nothing we know": GET + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "keep-alive": GET + HOST + b"Connection: Keep-Alive\r\n\r\n",
}


@pytest.mark.parametrize("sent", [pytest.param(sent, id=name) for name, sent in ACCEPTED.items()])
async def test_accepted_and_the_connection_lives_on(front: tuple[Gate, Receiver], sent: bytes) -> None:
    gate, upstream = front
    before = len(upstream.heads)
    async with gate.raw(sent) as client:
        assert await _answer(client) == b"200"
        client.send(sent)
        assert await _answer(client) == b"200"
    assert len(upstream.heads) == before + 2


@pytest.mark.parametrize("end", range(1, len(GET + HOST + END), 3))
async def test_a_fragment_is_waited_for(front: tuple[Gate, Receiver], end: int) -> None:
    gate, _ = front
    sent = GET + HOST + END
    async with gate.raw(sent[:end]) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await client.exactly(1)
        client.send(sent[end:])
        assert await _answer(client) == b"200"


@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX: 1\r\n\r\n",
    ],
)
async def test_byte_by_byte(front: tuple[Gate, Receiver], framed: bytes) -> None:
    gate, upstream = front
    upstream.bodies.clear()
    async with gate.raw() as client:
        for byte in POST + framed:
            client.send(bytes((byte,)))
            await asyncio.sleep(0.001)
        assert await _answer(client) == b"200"
    assert upstream.bodies == [b"hello"]


async def test_pipelined_requests_are_answered_in_order(front: tuple[Gate, Receiver]) -> None:
    """The first is the slowest; a refusal among them waits for its turn, and nothing behind it is read."""
    gate, upstream = front
    before = len(upstream.heads)
    requests = [
        POST.replace(b"/", b"/1", 1) + b"Content-Length: 3\r\n\r\nabc",
        GET.replace(b"/", b"/2", 1) + HOST + END,
        END + GET.replace(b"/", b"/3", 1) + HOST + END,
        GET + END,
        GET.replace(b"/", b"/never", 1) + HOST + END,
    ]
    async with gate.raw(*requests) as client:
        statuses = [await _answer(client) for _ in range(4)]
        assert await client.rest() == b""
    assert statuses == [b"200", b"200", b"200", b"400"]
    assert [lines(head)[0].split(b" ")[1] for head in upstream.heads[before:]] == [b"/1", b"/2", b"/3"]


async def test_bytes_after_a_last_request_are_passed_over(front: tuple[Gate, Receiver]) -> None:
    gate, upstream = front
    before = len(upstream.heads)
    async with gate.raw(GET, HOST, b"Connection: x, close\r\n\r\n", GET, HOST, END) as client:
        assert await _answer(client) == b"200"
        assert await client.rest() == b""
    assert len(upstream.heads) == before + 1


async def test_the_upstream_is_told_the_host_of_an_absolute_target(front: tuple[Gate, Receiver]) -> None:
    gate, upstream = front
    async with gate.raw(b"GET http://other.example:81/a?b HTTP/1.1\r\nX: y\r\n", HOST, END) as client:
        assert await _answer(client) == b"200"
    head = upstream.heads[-1]
    assert lines(head)[0] == b"GET /a?b HTTP/1.1"
    assert values(head, b"host") == values(head, b"x-forwarded-host") == [b"other.example:81"]
    assert values(head, b"x") == [b"y"]


async def test_http_1_0_keeps_its_connection_where_it_asks_for_it(front: tuple[Gate, Receiver]) -> None:
    gate, _ = front
    old = b"GET / HTTP/1.0\r\n" + HOST
    async with gate.raw() as client:
        for _ in range(2):
            client.send(old, b"Connection: Keep-Alive\r\n\r\n")
            head = await client.head()
            assert values(head, b"connection") == [b"keep-alive"]
            await client.exactly(2)
        client.send(old, END)
        assert values(await client.head(), b"connection") == [b"close"]
        assert await client.rest() == b"ok"


async def test_100_continue_comes_before_the_body(front: tuple[Gate, Receiver]) -> None:
    gate, _ = front
    async with gate.raw(POST, b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n") as client:
        assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert await _answer(client) == b"200"


async def test_star_is_for_options(front: tuple[Gate, Receiver]) -> None:
    """No route matches it, so it is refused by the edge, not by the server."""
    gate, _ = front
    async with gate.raw(b"OPTIONS * HTTP/1.1\r\n", HOST, END) as client:
        assert await _answer(client) in (b"200", b"400", b"404")
        client.send(GET + HOST + END)
        assert await _answer(client) == b"200"


async def _answer(client: Raw) -> bytes:
    """The status of the next answer; its body is read."""
    head = await client.head()
    await client.exactly(int(values(head, b"content-length")[0]))
    return lines(head)[0].split(b" ")[1]
