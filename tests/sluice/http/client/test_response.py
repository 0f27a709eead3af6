"""What comes in: RFC 9112 §6.3 case by case, and what is refused."""

from __future__ import annotations

import asyncio

import pytest

from sluice.http.client import (
    CHUNKED,
    BadResponse,
    BodyCut,
    Deadlines,
    HeadTimeout,
    IdleTimeout,
    Pool,
    Response,
    UpstreamReset,
    stated,
)
from sluice.http.client.response import _in_words
from tests.sluice.http.client.upstream import OK, Call, pool_to, saying, upstream
from tests.waiting import until

LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"


async def ask(pool: Pool, method: bytes = b"GET") -> Response:
    connection = await pool.acquire()
    connection.send_head(method, b"/", [(b"Host", b"a")])
    return await connection.response(2)


async def whole(response: Response) -> bytes:
    body = b""
    while piece := await response.chunk(2):
        body += piece
    return body


@pytest.mark.anyio
async def test_headers_come_back_raw_in_order_with_repeats_and_case() -> None:
    answer = LINE + (
        b"Set-Cookie: XSRF-TOKEN=a, b; path=/\r\nset-cookie: laravel=c\r\n"
        b"X-Latin: \xe9\r\nX-Empty:\r\nContent-Length: 0"
    )
    async with upstream(saying(answer + b"\r\n\r\n")) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        assert response.headers == [
            (b"Set-Cookie", b"XSRF-TOKEN=a, b; path=/"),
            (b"set-cookie", b"laravel=c"),
            (b"X-Latin", b"\xe9"),
            (b"X-Empty", b""),
            (b"Content-Length", b"0"),
        ]


@pytest.mark.parametrize(
    ("method", "answer", "body", "kept"),
    [
        (b"GET", LINE + b"Content-Length: 3\r\n\r\nabc", b"abc", True),
        (b"GET", LINE + b"Content-Length: 3 \r\n\r\nabc", b"abc", True),
        (b"GET", LINE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS, b"abc", True),
        (b"GET", LINE + b"Transfer-Encoding: Chunked \r\n\r\n" + CHUNKS, b"abc", True),
        (b"GET", LINE + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-T: v\r\n\r\n", b"abc", True),
        (b"GET", LINE + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (b"GET", LINE + b"Connection: x, Close\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (b"GET", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (b"GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
        (b"HEAD", LINE + b"Content-Length: 3\r\n\r\n", b"", True),
        (b"HEAD", LINE + b"Transfer-Encoding: chunked\r\n\r\n", b"", True),
        (b"HEAD", LINE + b"\r\n", b"", True),
        (b"HEAD", LINE + b"Connection: close\r\n\r\n", b"", False),
        (b"HEAD", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", b"", False),
        (b"HEAD", LINE + b"Content-Length: 3\r\n\r\nabc", b"", False),
        (b"HEAD", LINE + b"Transfer-Encoding: chunked\r\n\r\n3", b"", False),
        (b"HEAD", LINE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"", False),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", b"", True),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", b"", True),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", b"", False),
        (b"GET", LINE + b"Content-Length: 3\r\n\r\nabcX", b"abc", False),
        (b"GET", LINE + b"Content-Length: 3\r\n\r\nabc" + OK, b"abc", False),
        (b"GET", LINE + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"H", b"abc", False),
        (b"GET", b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok", True),
        (b"GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, b"ok", True),
        (b"HEAD", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", b"", True),
        (b"GET", LINE + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
        (b"GET", b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"GET", b"HTTP/1.1 200 OK\nContent-Length: 7\n\n\r\n\r\nabc", b"\r\n\r\nabc", True),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\n\r\nabc", b"abc", True),
        (b"GET", b"HTTP/1.1 200 OK\nContent-Length: 3\r\n\nabc", b"abc", True),
        (b"GET", b"HTTP/1.1 103 Hm\nLink: a\n\nHTTP/1.1 200 OK\nContent-Length: 3\n\nabc", b"abc", True),
        (b"GET", b"HTTP/1.1\t200  OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
        (b"GET", b"HTTP/1.2 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
        (b"GET", LINE + b"Content-Length \t: 3\r\n\r\nabc", b"abc", True),
        (b"GET", LINE + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS, b"abc", True),
        (b"GET", LINE + b"X-A: a\r\n folded\r\n\t\r\nContent-Length:\r\n 3\r\n\r\nabc", b"abc", True),
        (b"GET", LINE + b"Transfer-Encoding: chunked\r\n\r\n3  \r\nabc\r\n0\t\r\n\r\n", b"abc", True),
        (b"GET", LINE + b"Transfer-Encoding: chunked\r\n\r\n003 ;x=y\r\nabc\r\n00\r\nX-T: v\n\n", b"abc", True),
    ],
)
@pytest.mark.anyio
async def test_a_response_ends_where_its_rules_say_and_the_connection_is_kept_only_if_it_ended_to_the_byte(
    method: bytes, answer: bytes, body: bytes, kept: bool
) -> None:
    async with upstream(saying(answer)) as up, pool_to(up.origin) as pool:
        assert await whole(await ask(pool, method)) == body
        await until(lambda: pool.open == kept)
        assert pool.idle == kept


@pytest.mark.anyio
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_a_response_may_come_byte_by_byte(method: bytes) -> None:
    answer = b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" + LINE + b"X-Long: abc\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def play(call: Call) -> None:
        while True:
            await call.head()
            for byte in answer + (CHUNKS if method == b"GET" else b""):
                call.say(bytes((byte,)))
                await asyncio.sleep(0)

    async with upstream(play) as up, pool_to(up.origin) as pool:
        for _ in range(2):
            response = await ask(pool, method)
            assert response.headers == [(b"X-Long", b"abc"), (b"Transfer-Encoding", b"chunked")]
            assert await whole(response) == (b"abc" if method == b"GET" else b"")
        assert len(up.calls) == 1


@pytest.mark.parametrize(
    "answer",
    [
        LINE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + CHUNKS,
        LINE + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        LINE + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        LINE + b"Content-Length: 3, 3\r\n\r\nabc",
        LINE + b"Content-Length: +3\r\n\r\nabc",
        LINE + b"Content-Length: 0x3\r\n\r\nabc",
        LINE + b"Content-Length:\r\n\r\nabc",
        LINE + b"Content-Length: 99999999999999999999\r\n\r\nabc",
        LINE + b"Content-Length : 3\r\nContent-Length: 3\r\n\r\nabc",
        LINE + b"Content-Length : 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        LINE + b"Content-Length: 3\n folded\r\n\r\nabc",
        LINE + b" X-A: a\r\nContent-Length: 0\r\n\r\n",
        LINE + b"X-A: a\rX-B: b\r\nContent-Length: 0\r\n\r\n",
        LINE + b"X A: a\r\nContent-Length: 0\r\n\r\n",
        LINE + b": a\r\nContent-Length: 0\r\n\r\n",
        LINE + b"X-A\r\nContent-Length: 0\r\n\r\n",
        LINE + b"Transfer-Encoding: gzip\r\n\r\nabc",
        LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
        LINE + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
        LINE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        LINE + b"Transfer-Encoding: chunked\t\r\n\r\n" + CHUNKS,
        LINE + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
        LINE + b"Transfer-Encoding:\r\n\r\n" + CHUNKS,
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 099 Odd\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        LINE + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
        LINE + b"X: y\r\n" * 257 + b"\r\n",
        LINE + b"X: " + b"y" * 65536 + b"\r\n\r\n",
        LINE + b"X: " + b"y" * 70000,
        LINE + b"X: " + b"y" * 300000,
        b"HTTP/1.1 200 OK\n" + b"X: y\n" * 20000,
        b"HTTP/1.1 200 OK\n" + b"X: y\n" * 20000 + b"\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3000,
    ],
)
@pytest.mark.anyio
async def test_a_response_whose_framing_cannot_be_trusted_is_refused_and_the_connection_cut(answer: bytes) -> None:
    async with upstream(saying(answer)) as up, pool_to(up.origin) as pool:
        with pytest.raises(BadResponse) as caught:
            await ask(pool)
        assert caught.value.response_started
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_what_is_read_leniently_is_handed_on_as_it_should_have_been_written() -> None:
    answer = b"HTTP/1.1  200 OK\nX-A : a\nX-B: b\r\n  c \n\td\nSet-Cookie: x\nset-cookie\t:y\nContent-Length: 0\n\n"
    async with upstream(saying(answer)) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        assert [field.line for field in response.fields.all] == [
            b"X-A: a\r\n",
            b"X-B: b c d\r\n",
            b"Set-Cookie: x\r\n",
            b"set-cookie: y\r\n",
            b"Content-Length: 0\r\n",
        ]


@pytest.mark.anyio
async def test_interim_responses_are_told_of_as_they_come() -> None:
    told: list[tuple[int, list[tuple[bytes, bytes]]]] = []
    go = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n")
        await go.wait()
        call.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)

    async with upstream(play) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        response = connection.send_head(b"GET", b"/", [])
        response.on_interim = lambda status, fields: told.append(
            (status, [(field.name, field.value) for field in fields.all])
        )
        await until(lambda: len(told) == 2)
        assert told == [(102, []), (103, [(b"Link", b"</a>"), (b"Link", b"</b>")])]
        assert not response.status
        go.set()
        assert await whole(await connection.response(2)) == b"ok"
        assert told[2:] == [(103, [])]


@pytest.mark.anyio
async def test_a_head_of_256_fields_and_nearly_64_kib_is_accepted() -> None:
    answer = LINE + b"X: %b\r\n" % (b"y" * 248) * 255 + b"Content-Length: 2\r\n\r\nok"
    assert 64_000 < len(answer) < 65_536
    async with upstream(saying(answer)) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        assert len(response.headers) == 256
        assert await whole(response) == b"ok"


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize(
    "rest",
    [
        *(b"0x3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"-1\r\n", b"3 \nabc\r\n", b"fffffffffffffffff\r\n"),
        *(
            b"3\nabc\r\n0\r\n\r\n",
            b"3\r\nabc\n0\r\n\r\n",
            b" 3\r\nabc\r\n",
            b"\r\n",
            b"3 3\r\nabc\r\n",
            b"3;a\rb\r\nabc\r\n",
        ),
    ],
)
@pytest.mark.anyio
async def test_broken_chunks_are_an_error_and_never_a_clean_end(rest: bytes, close: bool) -> None:
    answer = LINE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n" + rest
    async with upstream(saying(answer, close=close)) as up, pool_to(up.origin) as pool:
        with pytest.raises((BadResponse, BodyCut)):
            await whole(await ask(pool))
        await until(lambda: pool.open == 0)


@pytest.mark.parametrize("rest", [b"3;" + b"x" * 400_000, b"0\r\nX-T: " + b"x" * 400_000])
@pytest.mark.anyio
async def test_endless_chunk_extensions_and_trailers_are_refused(rest: bytes) -> None:
    answer = LINE + b"Transfer-Encoding: chunked\r\n\r\n" + rest
    async with upstream(saying(answer)) as up, pool_to(up.origin) as pool:
        with pytest.raises(BadResponse):
            await whole(await ask(pool))


@pytest.mark.anyio
async def test_a_body_without_a_length_ends_with_the_connection_which_is_not_reused() -> None:
    async with upstream(saying(LINE + b"\r\nabc", close=True)) as up, pool_to(up.origin) as pool:
        assert await whole(await ask(pool)) == b"abc"
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_a_body_without_a_length_that_is_reset_is_cut() -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(LINE + b"\r\nabc")
        await call.until(b"go")
        call.reset()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        connection.send_head(b"POST", b"/", [(b"Content-Length", b"99")], stated(99))
        response = await connection.response(2)
        assert await response.chunk(2) == b"abc"
        await connection.send_body(b"go" + b"x" * 60)
        with pytest.raises(BodyCut):
            await response.chunk(2)


@pytest.mark.parametrize(
    "answer",
    [
        LINE + b"Content-Length: 9\r\n\r\nabc",
        LINE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        LINE + b"Transfer-Encoding: chunked\r\n\r\n9\r\nabc",
        LINE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
@pytest.mark.anyio
async def test_a_body_cut_short_is_never_a_clean_end_and_what_came_is_handed_out_first(answer: bytes) -> None:
    async with upstream(saying(answer, close=True)) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        assert await response.chunk(2) == b"abc"
        for _ in range(2):
            with pytest.raises(BodyCut) as caught:
                await response.chunk(2)
        assert caught.value.response_started
        await until(lambda: pool.open == 0)


@pytest.mark.parametrize(("answer", "started"), [(b"", False), (b"HTTP/1.1 200 OK\r\nX-A", True)])
@pytest.mark.anyio
async def test_closed_before_the_head_is_a_reset_that_says_whether_a_response_had_begun(
    answer: bytes, started: bool
) -> None:
    async with upstream(saying(answer, close=True)) as up, pool_to(up.origin) as pool:
        with pytest.raises(UpstreamReset) as caught:
            await ask(pool)
        assert caught.value.response_started is started


@pytest.mark.anyio
async def test_a_head_that_does_not_come_in_time_cuts_the_connection() -> None:
    async with upstream(saying(b"HTTP/1.1 200 OK\r\n")) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        connection.send_head(b"GET", b"/", [])
        with pytest.raises(HeadTimeout):
            await connection.response(0.05)
        with pytest.raises(UpstreamReset):
            await connection.response(0.05)
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_what_is_left_of_a_longer_time_is_told_in_round_numbers() -> None:
    async with upstream(saying(LINE + b"Content-Length: 9\r\n\r\nabc")) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        await response.chunk(2)
        with pytest.raises(IdleTimeout, match=r"^no more of the body within 0\.1 s$"):
            await response.chunk(0.0999979)
    assert _in_words(None) == "any time"
    assert _in_words(9.99979) == "10 s"
    assert _in_words(Deadlines(1200.0)) == "1200 s"


@pytest.mark.anyio
async def test_the_head_has_its_time_from_when_the_request_was_sent() -> None:
    async with upstream(saying(b"")) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        response = connection.send_head(b"POST", b"/", [], CHUNKED)
        waiting = asyncio.create_task(response.until_sent())
        await asyncio.sleep(0.2)
        assert not waiting.done()
        connection.end_body()
        response.sent()
        await waiting
        with pytest.raises(HeadTimeout, match=r"^no response within 0\.05 s$"):
            await response.head(0.05)


@pytest.mark.anyio
async def test_a_body_that_stops_moving_cuts_the_connection() -> None:
    async with upstream(saying(LINE + b"Content-Length: 9\r\n\r\nabc")) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        assert await response.chunk(2) == b"abc"
        with pytest.raises(IdleTimeout):
            await response.chunk(0.05)
        with pytest.raises(BodyCut):
            await response.chunk(0.05)
        await until(lambda: pool.open == 0)


@pytest.mark.parametrize("answer", [b"", LINE + b"Content-Length: 9\r\n\r\n"])
@pytest.mark.anyio
async def test_a_cancelled_wait_cuts_the_connection(answer: bytes) -> None:
    async with upstream(saying(answer)) as up, pool_to(up.origin) as pool:

        async def use() -> None:
            await whole(await ask(pool))

        task = asyncio.create_task(use())
        await until(lambda: bool(up.calls))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_leaving_the_block_cuts_what_is_unfinished_and_the_upstream_sees_it_at_once() -> None:
    left = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.say(LINE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await call.gone()
        left.set()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        with await pool.acquire() as connection:
            connection.send_head(b"GET", b"/", [])
            response = await connection.response(2)
            assert await response.chunk(2) == b"abc"
        async with asyncio.timeout(2):
            await left.wait()
        with pytest.raises(BodyCut):
            await response.chunk(2)


@pytest.mark.anyio
async def test_an_abort_tells_the_task_that_reads() -> None:
    async with upstream(saying(b"")) as up, pool_to(up.origin) as pool:
        connection = await pool.acquire()
        connection.send_head(b"GET", b"/", [])
        reading = asyncio.create_task(connection.response(5))
        await asyncio.sleep(0)
        connection.abort()
        with pytest.raises(UpstreamReset):
            await reading


@pytest.mark.anyio
async def test_an_event_stream_is_handed_out_piece_by_piece_as_it_comes() -> None:
    go = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.say(LINE + b"Content-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await go.wait()
        call.say(b"data: 2\n\n")

    async with upstream(play) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        assert await response.chunk(None) == b"data: 1\n\n"
        go.set()
        assert await response.chunk(None) == b"data: 2\n\n"
        assert await response.chunk(None) == b""


@pytest.mark.anyio
async def test_a_reader_that_is_slow_makes_the_upstream_wait_and_then_gets_every_byte() -> None:
    total, sent = 16 * 1024 * 1024, 0

    async def play(call: Call) -> None:
        nonlocal sent
        while True:
            await call.head()
            call.say(LINE + b"Content-Length: %d\r\n\r\n" % total)
            while sent < total:
                call.say(b"x" * 65536)
                sent += 65536
                await call.writer.drain()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        before = -1
        while before != sent:
            before = sent
            for _ in range(50):
                await asyncio.sleep(0)
        assert sent < total
        first = await response.chunk(2)
        assert len(first) <= 512 * 1024
        rest = 0
        while piece := await response.chunk(2):
            rest += len(piece)
        assert len(first) + rest == total
        assert pool.idle == 1


@pytest.mark.anyio
async def test_reading_a_small_answer_stops_at_the_most_and_cuts_an_endless_rest() -> None:
    answer = LINE + b"Content-Length: 1000000\r\n\r\n" + b"x" * 5000
    async with upstream(saying(answer)) as up, pool_to(up.origin) as pool:
        assert await (await ask(pool)).read(1000, 2) == b"x" * 1000
        await until(lambda: pool.open == 0)


@pytest.mark.anyio
async def test_reading_a_complete_answer_that_is_longer_keeps_the_connection() -> None:
    async with upstream(saying(OK)) as up, pool_to(up.origin) as pool:
        assert await (await ask(pool)).read(1, 2) == b"o"
        assert await (await ask(pool)).read(2, 2) == b"ok"
        assert await (await ask(pool)).read(9, 2) == b"ok"
        assert len(up.calls) == 1


@pytest.mark.anyio
async def test_reading_has_one_end_for_all_pieces_together() -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(LINE + b"\r\n")
        while True:
            call.say(b"x")
            await asyncio.sleep(0.01)

    async with upstream(play) as up, pool_to(up.origin) as pool:
        response = await ask(pool)
        with pytest.raises(IdleTimeout):
            async with asyncio.timeout(5):
                await response.read(10_000, 0.1)


@pytest.mark.anyio
async def test_a_body_still_unread_when_the_connection_goes_on_to_the_next_is_not_mixed_up() -> None:
    answers = [LINE + b"Content-Length: 5\r\n\r\nfirst", LINE + b"Content-Length: 6\r\n\r\nsecond"]

    async def play(call: Call) -> None:
        for answer in answers:
            await call.head()
            call.say(answer)
        await call.gone()

    async with upstream(play) as up, pool_to(up.origin) as pool:
        with await pool.acquire() as one:
            one.send_head(b"GET", b"/1", [])
            first = await one.response(2)
            with await pool.acquire() as two:
                assert two.reused
                two.send_head(b"GET", b"/2", [])
                one.abort()
                second = await two.response(2)
                assert await whole(first) == b"first"
                assert await whole(second) == b"second"
        assert len(up.calls) == 1
