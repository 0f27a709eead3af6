"""A client that does not bring its upload to an end: told as its own doing, and held against nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from sluice.http.signatures import sign
from sluice.observe import metrics
from tests.gateway.running import POLICIES, SIGNATURE, Gate, Raw, Receiver, gateway
from tests.heard import Heard
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = pytest.mark.anyio

SIZED = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome"
CHUNKED = b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"
LEFT = (499, "the client left before it was answered")
ENOUGH = 30
"""More failures than open a circuit."""


@pytest.fixture
async def gate(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    text = POLICIES.replace("\ntrust:", "\nclients: {{body: 500ms}}\ntrust:", 1)
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
        yield gate


class Uploads:
    """Plays an upstream that waits for each upload to end."""

    def __init__(self) -> None:
        self.begun = self.cut = 0

    def have_begun(self, number: int) -> bool:
        return self.begun == number

    async def play(self, call: Call) -> None:
        await call.head()
        self.begun += 1
        await call.gone()
        self.cut += 1


def told(heard: Heard) -> list[tuple[int, str | None]]:
    """Status and reason of each request in the access log."""
    return [(fields["status"], fields["why"]) for message, fields in heard.lines if message == "request"]


def failures() -> dict[str, float]:
    """Requests to an upstream without an answer, by what came of them."""
    samples = [sample for family in metrics.registry().collect() for sample in family.samples]
    requests = [sample for sample in samples if sample.name == "sluice_upstream_requests_total"]
    return {one.labels["outcome"]: one.value for one in requests if one.labels["outcome"] != "answered"}


@pytest.mark.parametrize("leave", [Raw.reset, Raw.hang_up], ids=["reset", "closed"])
@pytest.mark.parametrize("sent", [SIZED, CHUNKED], ids=["sized", "in chunks"])
async def test_an_upload_that_its_client_leaves_is_499_and_no_failure_of_the_upstream(
    gate: Gate, laravel: Receiver, heard: Heard, sent: bytes, leave: Callable[[Raw], None]
) -> None:
    uploads = Uploads()
    laravel.play = uploads.play
    before = failures()
    for number in range(ENOUGH):
        async with gate.raw(sent) as client:
            await until(partial(uploads.have_begun, number + 1))
            leave(client)
    await until(lambda: len(told(heard)) == ENOUGH)
    assert told(heard) == [LEFT] * ENOUGH
    await until(lambda: uploads.cut == ENOUGH, what="the connections to the upstream to be cut, each")
    assert failures() == before
    laravel.play = laravel.record
    assert (await gate.http.get("/x")).status_code == 200, "the circuit is closed"
    assert not {"upstream.broke_off", "request.failed"} & set(heard.messages())


async def test_an_upload_that_is_reset_while_its_upstream_takes_no_more_is_499(
    gate: Gate, laravel: Receiver, heard: Heard
) -> None:
    """Nobody reads from such a client, so that it went has to be looked for."""
    begun, go_on, cut = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def busy(call: Call) -> None:
        await call.head()
        begun.set()
        await go_on.wait()
        with suppress(ConnectionError):
            await call.gone()
        cut.set()

    laravel.play = busy
    before = failures()
    async with gate.raw(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n") as client:
        client.send(bytes(50_000_000))
        await begun.wait()
        await asyncio.sleep(1)
        client.reset()
        await until(lambda: told(heard) == [LEFT])
    go_on.set()
    async with asyncio.timeout(5):
        await cut.wait()
    assert failures() == before


async def test_a_webhook_whose_body_is_reset_is_499_and_not_stored(gate: Gate, heard: Heard) -> None:
    proof = b"".join(b"%b: %b\r\n" % pair for pair in sign(SIGNATURE, b"", time.time()))
    head = b"POST /hooks/m HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n" + proof
    async with gate.raw(head, b"Expect: 100-continue\r\n\r\n") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 100 ")
        client.send(b"some")
        client.reset()
    await until(lambda: told(heard) == [LEFT])


@pytest.mark.parametrize("sent", [SIZED, CHUNKED], ids=["sized", "in chunks"])
async def test_an_upload_that_stalls_is_408_in_the_log_too_and_no_failure_of_the_upstream(
    gate: Gate, laravel: Receiver, heard: Heard, sent: bytes
) -> None:
    uploads = Uploads()
    laravel.play = uploads.play
    before = failures()
    async with AsyncExitStack() as stack:
        for client in [await stack.enter_async_context(gate.raw(sent)) for _ in range(ENOUGH)]:
            assert (await client.head()).startswith(b"HTTP/1.1 408 ")
    await until(lambda: len(told(heard)) == ENOUGH)
    assert told(heard) == [(408, "no more of the body came for 0.5 seconds (clients.body)")] * ENOUGH
    assert failures() == before
    laravel.play = laravel.record
    assert (await gate.http.get("/x")).status_code == 200, "the circuit is closed"
