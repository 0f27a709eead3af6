"""What goes out."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given, strategies as st

from sluice.http.client import (
    CHUNKED,
    NO_BODY,
    BadBody,
    BadHead,
    Connection,
    Framing,
    IdleTimeout,
    UpstreamReset,
    sized,
    stated,
)
from sluice.http.client.framing import TOKEN, request_head
from tests.sluice.http.client.upstream import OK, Call, pool_to, upstream
from tests.waiting import until

HEADERS = [
    (b"Host", b"shop.example"),
    (b"x-B", b"2"),
    (b"X-a", b"1"),
    (b"x-B", b"  padded "),
    (b"X-Latin", b"\xe9\xff"),
    (b"X-Empty", b""),
]
HEAD = (
    b"POST /a%2Fb//c;d?x=1+2&x=%zz HTTP/1.1\r\nHost: shop.example\r\nx-B: 2\r\nX-a: 1\r\nx-B:   padded \r\n"
    b"X-Latin: \xe9\xff\r\nX-Empty: \r\n"
)
TARGET = b"/a%2Fb//c;d?x=1+2&x=%zz"


async def sent(framing: Framing, pieces: list[bytes], *, first: bytes = b"", end: bytes) -> bytes:
    """The bytes that reach the upstream, up to `end`, and that a good answer puts the connection back."""
    got = bytearray()

    async def play(call: Call) -> None:
        got.extend(await call.until(end))
        call.say(OK)
        await call.gone()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        with await pool.acquire() as connection:
            connection.send_head(b"POST", TARGET, HEADERS, framing, first)
            for piece in pieces:
                await connection.send_body(piece)
            connection.end_body()
            response = await connection.response(2)
            assert await response.read(100, 2) == b"ok"
        assert pool.idle == 1
    return bytes(got)


@pytest.mark.anyio
async def test_headers_go_out_byte_for_byte_in_order_with_repeats_and_nothing_added() -> None:
    assert await sent(NO_BODY, [], end=b"\r\n\r\n") == HEAD + b"\r\n"


@pytest.mark.anyio
async def test_a_sized_body_gets_its_length_after_the_callers_headers() -> None:
    expected = HEAD + b"Content-Length: 6\r\n\r\nab\r\ncd"
    assert await sent(sized(6), [b"ab\r", b"", b"\ncd"], end=b"cd") == expected
    assert await sent(sized(6), [], first=b"ab\r\ncd", end=b"cd") == expected
    assert await sent(sized(6), [b"cd"], first=b"ab\r\n", end=b"cd") == expected


@pytest.mark.anyio
async def test_a_large_body_given_with_the_head_arrives_whole() -> None:
    body = b"x" * 300_000 + b"end"
    got = await sent(sized(len(body)), [body[60_000:]], first=body[:60_000], end=b"\r\n\r\n")
    assert got.endswith(b"Content-Length: 300003\r\n\r\n")


@pytest.mark.anyio
async def test_a_chunked_body_is_chunked_and_an_empty_piece_does_not_end_it() -> None:
    expected = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"
    assert await sent(CHUNKED, [b"ab", b"", b"x" * 16], end=b"\r\n0\r\n\r\n") == expected
    assert await sent(CHUNKED, [b"", b"x" * 16], first=b"ab", end=b"\r\n0\r\n\r\n") == expected


def test_a_stated_length_stays_where_the_caller_put_it() -> None:
    head = request_head(b"PUT", b"/", [(b"content-Length", b"3"), (b"Host", b"a")], stated(3))
    assert head == b"PUT / HTTP/1.1\r\ncontent-Length: 3\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"GET", b"/a\r\nX: y", []),
        (b"GET", b"/a\0", []),
        (b"GET", b"/a b", []),
        (b"GET", b"/a\tb", []),
        (b"GET", b"", []),
        (b"GE\nT", b"/", []),
        (b"GE T", b"/", []),
        (b"", b"/", []),
        (b"CONNECT", b"a:1", []),
        (b"GET", b"/", [(b"X", b"a\rb")]),
        (b"GET", b"/", [(b"X", b"a\nb")]),
        (b"GET", b"/", [(b"X", b"a\r\nY: b")]),
        (b"GET", b"/", [(b"X", b"a\0b")]),
        (b"GET", b"/", [(b"X\r\n", b"a")]),
        (b"GET", b"/", [(b"X\n", b"a")]),
        (b"GET", b"/", [(b"X ", b"a")]),
        (b"GET", b"/", [(b"X:", b"a")]),
        (b"GET", b"/", [(b"", b"a")]),
        (b"GET", b"/", [(b"A", b"1"), (b"", b"a"), (b"B", b"2")]),
    ],
)
def test_a_head_that_reads_as_something_else_is_refused(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(BadHead):
        request_head(method, target, headers, NO_BODY)


@pytest.mark.parametrize(
    ("framing", "headers"),
    [
        (NO_BODY, [(b"Transfer-Encoding", b"chunked")]),
        (CHUNKED, [(b"transfer-encoding", b"chunked")]),
        (CHUNKED, [(b"content-length", b"3")]),
        (sized(3), [(b"Content-Length", b"3")]),
        (stated(3), [(b"Content-Length", b"4")]),
        (stated(3), [(b"Content-Length", b"3"), (b"CONTENT-LENGTH", b"3")]),
        (stated(3), [(b"Content-Length", b"9" * 5000)]),
        (stated(3), []),
        (NO_BODY, [(b"Content-Length", b"3")]),
    ],
)
def test_a_second_opinion_about_the_length_is_refused(framing: Framing, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadHead):
        request_head(b"POST", b"/", headers, framing)


def test_a_length_of_nothing_may_be_stated_without_a_body() -> None:
    headers = [(b"Content-Length", b"0"), (b"X-Content-Length", b"7")]
    assert b"Content-Length: 0\r\n" in request_head(b"POST", b"/", headers, NO_BODY)


NAMES = st.binary(min_size=1, max_size=20).map(lambda raw: bytes(TOKEN[byte % len(TOKEN)] for byte in raw))
VALUES = st.binary(max_size=40).map(lambda raw: raw.translate(None, b"\r\n\0"))
FRAMED = (b"content-length", b"transfer-encoding")


@given(st.lists(st.tuples(NAMES, VALUES).filter(lambda pair: pair[0].lower() not in FRAMED), max_size=20))
def test_any_valid_headers_make_exactly_their_lines(headers: list[tuple[bytes, bytes]]) -> None:
    lines = request_head(b"GET", b"/", headers, NO_BODY).split(b"\r\n")
    assert lines == [b"GET / HTTP/1.1", *(name + b": " + value for name, value in headers), b"", b""]


async def endlessly(connection: Connection, timeout: float = 5.0) -> None:
    while True:
        await connection.send_body(b"x" * 65536, timeout)
        await asyncio.sleep(0)


async def silent(call: Call) -> None:
    await call.head()
    await call.gone()


@pytest.mark.anyio
async def test_more_or_less_body_than_announced_cuts_the_connection() -> None:
    async with upstream(silent) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        connection.send_head(b"POST", b"/", [], sized(3))
        with pytest.raises(BadBody):
            await connection.send_body(b"abcd")
        connection = await pool.acquire()
        connection.send_head(b"POST", b"/", [], sized(3), b"ab")
        with pytest.raises(BadBody):
            connection.end_body()
        connection = await pool.acquire()
        with pytest.raises(BadBody):
            connection.send_head(b"GET", b"/", [], NO_BODY, b"a")
        connection = await pool.acquire()
        connection.send_head(b"POST", b"/", [], CHUNKED)
        connection.end_body()
        with pytest.raises(BadBody):
            await connection.send_body(b"late")
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_a_connection_is_on_loan_for_one_request() -> None:
    async with upstream(silent) as up, pool_to(up.origin) as pool:
        with await pool.acquire() as connection:
            with pytest.raises(RuntimeError):
                await connection.response(1)
            connection.send_head(b"GET", b"/", [])
            with pytest.raises(RuntimeError):
                connection.send_head(b"GET", b"/", [])


@pytest.mark.anyio
async def test_sending_waits_for_an_upstream_that_is_slow_to_take_it() -> None:
    go, total = asyncio.Event(), 32 * 1024 * 1024

    async def play(call: Call) -> None:
        await call.head()
        await go.wait()
        await call.reader.readexactly(total)
        call.say(OK)
        await call.gone()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        with await pool.acquire() as connection:
            connection.send_head(b"POST", b"/", [], sized(total))
            piece, taken = b"x" * 65536, 0

            async def send() -> None:
                nonlocal taken
                while taken < total:
                    await connection.send_body(piece)
                    taken += len(piece)

            sending = asyncio.create_task(send())
            before = -1
            while before != taken:
                before = taken
                for _ in range(50):
                    await asyncio.sleep(0)
            assert not sending.done()
            assert taken < total / 2
            go.set()
            await sending
            connection.end_body()
            assert await (await connection.response(5)).read(10, 5) == b"ok"
        assert pool.idle == 1


@pytest.mark.anyio
async def test_an_upstream_that_takes_no_more_of_the_body_is_given_up() -> None:
    never = asyncio.Event()

    async def play(call: Call) -> None:
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await never.wait()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        connection.send_head(b"POST", b"/", [], CHUNKED)
        with pytest.raises(IdleTimeout) as caught:
            await endlessly(connection, timeout=0.05)
        assert not caught.value.response_started
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_sending_on_a_lost_connection_raises_upstream_reset() -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.reset()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        connection.send_head(b"POST", b"/", [], CHUNKED)
        with pytest.raises(UpstreamReset) as caught:
            await endlessly(connection)
        assert not caught.value.response_started
        connection.end_body()


@pytest.mark.anyio
async def test_an_early_answer_is_read_while_the_body_is_still_being_sent() -> None:
    never = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        call.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await never.wait()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        with await pool.acquire() as connection:
            connection.send_head(b"POST", b"/", [], CHUNKED)

            sending = asyncio.create_task(endlessly(connection))
            response = await connection.response(2)
            assert response.status == 413
            assert await response.read(100, 2) == b"big"
            with pytest.raises(UpstreamReset) as caught:
                await sending
            assert caught.value.response_started
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_an_early_answer_is_read_though_the_upstream_has_reset_the_connection() -> None:
    """It closes with most of the request unread, which resets the connection; a write then fails before any reading."""
    said = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        call.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        said.set()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        for _ in range(50):
            said.clear()
            with await pool.acquire() as connection:
                connection.send_head(b"POST", b"/", [], sized(2**20))
                await connection.send_body(b"x" * 1000)
                await said.wait()
                with contextlib.suppress(UpstreamReset):
                    for _ in range(10):
                        await connection.send_body(b"x" * 1000)
                response = await connection.response(2)
                assert response.status == 413
                assert await response.read(100, 2) == b"big"
        await until(lambda: pool.open == 0)
    assert pool.idle == 0


@pytest.mark.anyio
async def test_an_upstream_that_takes_a_body_slowly_has_its_time_for_each_piece() -> None:
    total = 8 * 2**20

    async def play(call: Call) -> None:
        await call.head()
        for _ in range(16):
            await call.reader.readexactly(total // 16)
            await asyncio.sleep(0.05)
        call.say(OK)
        await call.gone()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        with await pool.acquire() as connection:
            connection.send_head(b"POST", b"/", [], sized(total), b"x" * total)
            assert connection.blocked
            await connection.drain(0.4)
            assert await (await connection.response(5)).read(10, 5) == b"ok"


@pytest.mark.anyio
async def test_a_connection_is_not_reused_while_part_of_the_request_is_still_on_its_way() -> None:
    never = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        call.say(OK)
        await never.wait()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        connection.send_head(b"POST", b"/", [], sized(32 * 1024 * 1024), b"x" * 32 * 1024 * 1024)
        connection.end_body()
        assert await (await connection.response(2)).read(10, 2) == b"ok"
        assert pool.idle == 0
        await until(lambda: pool.open == 0)
