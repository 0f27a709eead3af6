"""What an upstream answers early, in between, or not as it should be written; and why an answer is 502 or 504."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.running import Gate, Receiver, gateway, problem
from tests.heard import Heard
from tests.sluice.http.client.upstream import OK, Call, saying
from tests.waiting import until

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HINTS = (
    b"HTTP/1.1 102 Processing\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n"
    b"Connection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 3\r\n\r\n"
)


def why_of(heard: Heard) -> str:
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    return str(line["why"])


# --- interim responses


async def test_interim_responses_go_on_as_they_come(gate: Gate, laravel: Receiver) -> None:
    go = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 100 Continue\r\n\r\n", HINTS)
        await go.wait()
        call.say(OK)

    laravel.play = play
    async with gate.raw(GET) as client:
        assert await client.head() == b"HTTP/1.1 102 Processing\r\n\r\n"
        assert await client.head() == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
        go.set()
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert await client.exactly(2) == b"ok"


async def test_an_http_1_0_client_gets_no_interim_responses(gate: Gate, laravel: Receiver) -> None:
    laravel.play = saying(HINTS, OK)
    async with gate.raw(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def test_a_request_that_got_an_interim_response_is_not_repeated(gate: Gate, laravel: Receiver) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(OK)
        await call.head()
        call.say(HINTS)

    laravel.play = play
    assert (await gate.http.get("/")).status_code == 200
    assert (await gate.http.get("/")).status_code == 502
    assert len(laravel.upstream.calls) == 1


# --- early answers


@pytest.mark.parametrize(
    "framed", [b"Content-Length: 3\r\n\r\nbig", b"Transfer-Encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n"]
)
async def test_an_early_413_of_an_upstream_that_closes_is_never_502(
    gate: Gate, laravel: Receiver, framed: bytes
) -> None:
    """It closes with most of the body unread, so its kernel resets the connection while we write."""

    async def play(call: Call) -> None:
        await call.head()
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        call.say(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\n" + framed)

    laravel.play = play
    for _ in range(30):
        async with gate.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n") as client:
            for _ in range(20):
                client.send(b"x" * 100_000)
                await asyncio.sleep(0)
            assert (await client.head()).startswith(b"HTTP/1.1 413 ")


# --- lenient reading


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nX-A: b\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nX-A:\r\n b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1  200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n2  \r\nok\r\n0 \r\n\r\n",
    ],
)
async def test_what_may_be_read_leniently_is_passed_on_as_it_should_have_been_written(
    gate: Gate, laravel: Receiver, answer: bytes
) -> None:
    laravel.response = answer
    async with gate.raw(GET) as client:
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 200 OK\r\nX-A: b\r\n")
        assert head.count(b"\n") == head.count(b"\r\n")
        assert b"ok" in await client.exactly(2 if b"Content-Length" in answer else 12)
    assert (await gate.http.get("/")).text == "ok"
    assert len(laravel.upstream.calls) == 1, "the connection is kept"


# --- why


@pytest.mark.parametrize(
    ("answer", "detail", "cause"),
    [
        (b"", "laravel broke off before it answered", "upstream closed before the response"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
            "laravel answered what cannot be passed on",
            "bad response: content-length is not a number",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "laravel answered what cannot be passed on",
            "bad response: the length is said more than once",
        ),
        (
            b"SSH-2.0-OpenSSH\r\n",
            "laravel answered what cannot be passed on",
            "bad response: it does not begin with HTTP/1.1",
        ),
        (
            b"HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n",
            "laravel answered what cannot be passed on",
            "a status over 599",
        ),
    ],
)
async def test_the_log_says_which_rule_an_answer_has_broken(
    gate: Gate, laravel: Receiver, heard: Heard, answer: bytes, detail: str, cause: str
) -> None:
    laravel.play = saying(answer, close=True)
    assert problem(await gate.http.get("/")) == (502, detail)
    assert why_of(heard) == f"{detail}: {cause}"


async def test_the_log_says_that_the_upstream_reset_the_connection(gate: Gate, laravel: Receiver, heard: Heard) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.reset()

    laravel.play = play
    assert (await gate.http.get("/")).status_code == 502
    said = "connection reset by the upstream before the response"
    assert why_of(heard) == f"laravel broke off before it answered: {said}"


async def test_the_log_says_that_nobody_listens_there(
    tmp_path: Path, store_url: str, free_port: Callable[[], int], heard: Heard
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with gateway(tmp_path, store_url, url) as gate:
        assert problem(await gate.http.get("/")) == (502, "laravel cannot be reached")
    assert why_of(heard) == f"laravel cannot be reached: no connection to {url}: connection refused"


async def test_the_log_says_that_the_name_is_not_resolved(tmp_path: Path, store_url: str, heard: Heard) -> None:
    async with gateway(tmp_path, store_url, "http://nowhere.invalid:8000") as gate:
        assert (await gate.http.get("/")).status_code in (502, 504)
    begin = "laravel cannot be reached: no connection to http://nowhere.invalid:8000: its name is not resolved: "
    late = "laravel did not answer in time: no connection to http://nowhere.invalid:8000 within 1 s"
    assert why_of(heard).startswith(begin) or why_of(heard) == late  # as fast as this machine's resolver is


async def test_the_log_says_that_the_certificate_is_not_trusted(
    tmp_path: Path, store_url: str, heard: Heard, certificate: Path
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=tls)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, gateway(tmp_path, store_url, url) as gate:
        assert problem(await gate.http.get("/")) == (502, "laravel cannot be reached")
    said = f"no connection to {url}: its certificate is not trusted: self-signed certificate"
    assert why_of(heard) == f"laravel cannot be reached: {said}"


async def test_the_log_says_that_an_upstream_speaks_no_tls(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    laravel.play = saying(OK)

    async def play(call: Call) -> None:
        call.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    laravel.play = play
    url = laravel.url.replace("http:", "https:")
    async with gateway(tmp_path, store_url, url) as gate:
        assert (await gate.http.get("/")).status_code == 502
    assert why_of(heard).startswith(f"laravel cannot be reached: no connection to {url}: no TLS with it: ")


async def test_the_log_says_how_long_a_silent_upstream_was_waited_for(
    tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    laravel.play = saying()
    async with gateway(tmp_path, store_url, laravel.url, headers="200ms") as gate:
        assert (await gate.http.get("/")).status_code == 504
    assert why_of(heard) == "laravel did not answer in time: no response within 0.2 s"


@pytest.mark.parametrize("status", [502, 504])
async def test_the_log_says_whose_a_502_is_that_is_passed_on(
    gate: Gate, laravel: Receiver, heard: Heard, status: int
) -> None:
    laravel.response = b"HTTP/1.1 %d Sorry\r\nContent-Length: 0\r\n\r\n" % status
    assert (await gate.http.get("/")).status_code == status
    assert why_of(heard) == f"laravel answered {status}"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\nx\r\n",
            "bad response: a chunk does not begin with its size in hexadecimal digits and CR LF",
        ),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "bad response: a chunk is longer than its size"),
        (b"Content-Length: 9\r\n\r\nab", "upstream closed in the middle of the body"),
    ],
)
async def test_the_log_says_why_an_answer_was_cut(
    gate: Gate, laravel: Receiver, heard: Heard, broken: bytes, why: str
) -> None:
    laravel.play = saying(b"HTTP/1.1 200 OK\r\n" + broken, close=True)
    async with gate.raw(GET) as client:
        await client.head()
        assert b"ab" in await client.rest()
    await until(lambda: "request" in heard.messages())
    assert why_of(heard) == f"broken off: {why}"
    (told,) = [fields for message, fields in heard.lines if message == "upstream.broke_off"]
    assert told["why"] == f"broken off: {why}"
