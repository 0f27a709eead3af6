"""A request that comes back to the gateway that it has passed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from relay.deliver.outcome import Failed
from relay.deliver.sender import Sender
from relay.process import open_queue
from sessions.registry import Registry, Worker
from sluice.http.via import RETURNED
from sluice.observe import metrics
from sluice.store.client import Store
from tests.gateway.proxy.websocket.reverb import ASKED
from tests.gateway.running import SIGNATURE, Gate, gateway, problem, values
from tests.sluice.http.client.upstream import Call, upstream
from tests.waiting import until

pytestmark = pytest.mark.anyio


def counted() -> float:
    """Requests that came back, as `status` is told of them."""
    return metrics.registry().get_sample_value("sluice_returned_requests_total") or 0.0


@asynccontextmanager
async def gateway_behind_itself(folder: Path, store_url: str) -> AsyncIterator[tuple[Gate, str]]:
    """A gateway whose upstream leads back to it, and the address that does."""
    port = asyncio.get_running_loop().create_future()

    async def lead_back(call: Call) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", await port)
        try:
            await asyncio.gather(_pump(call.reader, writer), _pump(reader, call.writer))
        finally:
            writer.close()

    async with upstream(lead_back) as leading, gateway(folder, store_url, str(leading.origin)) as gate:
        port.set_result(gate.port)
        yield gate, str(leading.origin)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            sink.write(piece)
    finally:
        sink.close()


async def test_an_upstream_that_is_the_gateway_itself_is_answered_508(tmp_path: Path, store_url: str) -> None:
    before = counted()
    async with gateway_behind_itself(tmp_path, store_url) as (gate, _):
        assert problem(await gate.http.get("/x")) == (508, RETURNED)
    assert counted() == before + 1


async def test_so_is_a_websocket(tmp_path: Path, store_url: str) -> None:
    handshake = (b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    before = counted()
    async with gateway_behind_itself(tmp_path, store_url) as (gate, _), gate.raw(*handshake) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 508 ")
        await until(lambda: counted() == before + 1)


async def test_so_is_a_worker_that_is_the_gateway_itself(tmp_path: Path, store_url: str, store: Store) -> None:
    async with gateway_behind_itself(tmp_path, store_url) as (gate, address):
        registry = Registry(store, 600.0)
        await registry.register(Worker("a", "1", address, 5))
        assert problem(await gate.http.get("/info")) == (508, RETURNED)


async def test_an_event_that_is_delivered_to_the_route_it_came_by_is_not_accepted_again(
    tmp_path: Path, store_url: str, store: Store
) -> None:
    async with gateway_behind_itself(tmp_path, store_url) as (gate, address):
        assert (await gate.post_event()).status_code == 202
        endpoint = replace(gate.policies.relay.endpoints["laravel"], url=address)
        queue = open_queue(store, endpoint, gate.policies)
        queue.look_everywhere()
        (delivery,) = (await queue.poll([], 10)).leased
        sender = Sender(endpoint, SIGNATURE)
        try:
            outcome = await sender.post(delivery)
        finally:
            await sender.close()
        assert isinstance(outcome, Failed)
        assert "508" in outcome.reason
        assert (await queue.counts()).accepted == 1


async def test_gateways_one_behind_the_other_pass_a_request_on(tmp_path: Path, store_url: str) -> None:
    heads: list[bytes] = []

    async def play(call: Call) -> None:
        heads.append(await call.head())
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    outer.mkdir()
    async with (
        upstream(play) as laravel,
        gateway(inner, store_url, str(laravel.origin)) as second,
        gateway(outer, store_url, second.url) as first,
    ):
        assert (await first.http.get("/x")).status_code == 200
    (names,) = values(heads[0], b"x-sluice-via")
    assert len(set(names.split(b", "))) == 2
