"""One clock for each side: the upstream's begins when it has the whole request, and a slow client costs it nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from tests.gateway.running import Gate, Raw, Receiver, gateway, problem
from tests.heard import Heard
from tests.sluice.http.client.upstream import OK, Call
from tests.waiting import until

pytestmark = pytest.mark.anyio

TEXT = """
version: 1
store: {{url: "{store}", promise: memory}}
clients: {{body: 1s, send: 1s}}
upstreams:
  laravel: {{url: "{laravel}", connect: 1s, headers: {headers}, idle: 400ms}}
routes:
  - {{path: /patient, upstream: laravel, headers: 20s, idle: 20s}}
  - {{path: /hasty, upstream: laravel, headers: 100ms}}
  - {{path: /small, upstream: laravel, body: 10B}}
  - {{path: /**, upstream: laravel}}
"""
HEADERS = 0.4
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
MORE_THAN_OPENS_A_CIRCUIT = 25


@pytest.fixture
async def hasty(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    """It gives Laravel 0.4 s for the head of an answer, and as long for nothing to move."""
    async with gateway(tmp_path, store_url, laravel.url, headers="400ms", text=TEXT) as gate:
        yield gate


async def asked(gate: Gate) -> int:
    return (await gate.http.get("/asked")).status_code


@asynccontextmanager
async def resetting(gate: Gate, *pieces: bytes) -> AsyncIterator[Raw]:
    """A client that does not close its connection in the end, but resets it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    client = Raw(reader, writer)
    client.send(*pieces)
    try:
        yield client
    finally:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def test_an_upload_may_take_longer_than_the_upstream_has_for_its_answer(hasty: Gate, laravel: Receiver) -> None:
    async with hasty.raw(POST) as client:
        for _ in range(10):
            await asyncio.sleep(HEADERS / 4)
            client.send(b"x")
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert laravel.bodies == [b"x" * 10]


async def test_the_upstreams_time_begins_when_it_has_the_whole_request(hasty: Gate, laravel: Receiver) -> None:
    async def silent(call: Call) -> None:
        await call.gone()

    laravel.play = silent
    async with hasty.raw(POST) as client:
        await asyncio.sleep(2 * HEADERS)
        client.send(b"x" * 10)
        sent = time.monotonic()
        assert (await client.head()).startswith(b"HTTP/1.1 504 ")
        assert time.monotonic() - sent > HEADERS - 0.05


async def test_clients_that_upload_slowly_and_leave_open_no_circuit(hasty: Gate, laravel: Receiver) -> None:
    async def leave() -> None:
        async with resetting(hasty, POST, b"xxx"):
            await asyncio.sleep(1.5 * HEADERS)

    await asyncio.gather(*(leave() for _ in range(MORE_THAN_OPENS_A_CIRCUIT)))
    assert await asked(hasty) == 200


async def test_an_upstream_that_is_tired_of_a_slow_client_has_not_failed(
    hasty: Gate, laravel: Receiver, heard: Heard
) -> None:
    async def tired(call: Call) -> None:
        head = await call.head()
        if head.startswith(b"GET"):
            call.say(OK)
            return
        await asyncio.sleep(0.1)
        call.reset()

    laravel.play = tired

    async def wait() -> None:
        async with hasty.raw(POST, b"xxx") as client:
            assert (await client.head()).startswith(b"HTTP/1.1 502 ")

    await asyncio.gather(*(wait() for _ in range(MORE_THAN_OPENS_A_CIRCUIT)))
    assert await asked(hasty) == 200
    assert "upstream.circuit" not in heard.messages()


async def test_clients_that_stall_get_408_and_open_no_circuit(hasty: Gate, laravel: Receiver, heard: Heard) -> None:
    async def stall() -> None:
        async with hasty.raw(POST, b"xxx") as client:
            assert (await client.head()).startswith(b"HTTP/1.1 408 ")

    await asyncio.gather(*(stall() for _ in range(MORE_THAN_OPENS_A_CIRCUIT)))
    assert await asked(hasty) == 200
    assert {fields["status"] for message, fields in heard.lines if message == "request"} == {408, 200}


@pytest.mark.slow
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"], indirect=True)
async def test_on_another_server_a_client_that_stalls_gets_408_too(hasty: Gate, laravel: Receiver) -> None:
    """None of them tells of it, and an upstream's time has not begun."""
    async with hasty.raw(POST, b"xxx") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 408 ")
    assert await asked(hasty) == 200


async def test_a_client_that_reads_nothing_is_cut_and_that_is_not_the_upstreams_fault(
    hasty: Gate, laravel: Receiver, heard: Heard
) -> None:
    laravel.response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**30 + b"x" * 32 * 2**20
    async with hasty.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        await until(lambda: "request" in heard.messages())
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert line["why"] == "the client took nothing of its answer for 1 seconds (clients.send)"
    assert "upstream.broke_off" not in heard.messages()


async def test_an_upstream_that_takes_nothing_of_an_upload_is_504_and_has_failed(
    hasty: Gate, laravel: Receiver, heard: Heard
) -> None:
    async def deaf(call: Call) -> None:
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(20)

    laravel.play = deaf
    answer = await hasty.http.post("/", content=b"x" * 32 * 2**20)
    assert problem(answer) == (504, "laravel did not take the request in time")
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert line["why"] == "laravel did not take the request in time: it took no more of the body for 0.4 s"


async def test_a_client_that_reads_slowly_costs_the_upstream_no_time(
    hasty: Gate, laravel: Receiver, heard: Heard
) -> None:
    body = b"x" * 16 * 2**20
    laravel.response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with hasty.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        await client.head()
        await asyncio.sleep(2 * HEADERS)
        assert await client.exactly(len(body)) == body
    assert "upstream.broke_off" not in heard.messages()


async def test_a_client_that_resets_within_its_answer_is_not_the_upstreams_fault(
    hasty: Gate, laravel: Receiver, heard: Heard
) -> None:
    laravel.response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**30 + b"x" * 2**20
    async with resetting(hasty, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        await client.head()
    await until(lambda: "request" in heard.messages())
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert (line["status"], line["why"]) == (200, "the client left in the middle of its answer")
    assert "upstream.broke_off" not in heard.messages()


async def test_a_client_that_leaves_before_its_answer_is_told_of_in_the_log(
    hasty: Gate, laravel: Receiver, heard: Heard
) -> None:
    async with resetting(hasty, POST, b"xxx"):
        await until(lambda: laravel.heads)
    await until(lambda: "request" in heard.messages())
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert (line["status"], line["why"]) == (499, "the client left before it was answered")


@pytest.mark.parametrize(("path", "status"), [("/patient", 200), ("/hasty", 504), ("/usual", 504)])
async def test_a_route_says_how_long_its_answer_may_take(
    hasty: Gate, laravel: Receiver, path: str, status: int
) -> None:
    async def slow(call: Call) -> None:
        await call.head()
        await asyncio.sleep(1.0)
        call.say(OK)

    laravel.play = slow
    assert (await hasty.http.get(path)).status_code == status


@pytest.mark.parametrize(("path", "is_whole"), [("/patient", True), ("/usual", False)])
async def test_a_route_says_for_how_long_its_answer_may_pause(
    hasty: Gate, laravel: Receiver, heard: Heard, path: str, is_whole: bool
) -> None:
    async def pauses(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        await asyncio.sleep(1.0)
        call.say(b"k")

    laravel.play = pauses
    try:
        assert (await hasty.http.get(path)).text == "ok"
        assert is_whole
    except httpx2.RemoteProtocolError:
        assert not is_whole
        (broken,) = [fields for message, fields in heard.lines if message == "upstream.broke_off"]
        assert broken["why"] == "broken off: no more of the body within 0.4 s"


async def test_a_body_that_says_it_is_longer_than_its_route_takes_is_refused_unsent(
    hasty: Gate, laravel: Receiver
) -> None:
    answer = await hasty.http.post("/small", content=b"x" * 11)
    detail = "the body is 11 bytes, this route takes 10 at most (`body:` of the route)"
    assert problem(answer) == (413, detail)
    assert laravel.heads == []
    assert (await hasty.http.post("/small", content=b"x" * 10)).status_code == 200


async def test_a_body_in_chunks_that_turns_out_longer_is_refused_and_never_complete(
    hasty: Gate, laravel: Receiver, heard: Heard
) -> None:
    got: list[bytes] = []

    async def play(call: Call) -> None:
        got.append(await call.gone())

    laravel.play = play
    head = b"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with hasty.raw(head, b"6\r\nxxxxxx\r\n") as client:
        await until(lambda: laravel.upstream.calls)
        client.send(b"6\r\nxxxxxx\r\n0\r\n\r\n")
        answer = await client.head()
    assert answer.startswith(b"HTTP/1.1 413 ")
    await until(lambda: got)
    assert not got[0].endswith(b"0\r\n\r\n")
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert line["why"] == "the body is over 10 bytes, this route takes 10 at most (`body:` of the route)"
