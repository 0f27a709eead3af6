"""A gateway that stops resets nobody: what it has taken it answers, and everybody else is refused a connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import asgi, process
from gateway.policies import Policies
from relay.process import open_queue
from sluice.http.server import serving
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.e2e.contract_sender import ContractSender
from tests.gateway.running import POLICIES, SIGNATURE, Gate, read_policies
from tests.waiting import until

pytestmark = pytest.mark.anyio


def begin(policies: Policies, port: int) -> tuple[Stop, asyncio.Task[None]]:
    """A gateway that listens on the port from now on."""
    stop = Stop()
    return stop, asyncio.create_task(process.run(policies, serving.listening("127.0.0.1", port), stop, asgi.no_console))


@pytest.mark.slow
async def test_existing_workers_lose_nothing_while_the_gateway_is_restarted_again_and_again(
    tmp_path: Path, store_url: str, store: Store, free_port: Callable[[], int]
) -> None:
    text = POLICIES.replace("rate: 1000/second, burst: 1000,", "rate: 1000000/second, burst: 1000000,")
    policies, port = read_policies(tmp_path, store_url, "http://127.0.0.1:1", text=text), free_port()
    bodies = [
        b'{"event": "message_sent", "data": {"session_id": "s%d", "message": {"id": "%d"}}}' % (n % 10, n)
        for n in range(3000)
    ]
    workers = [ContractSender(port, SIGNATURE) for _ in range(5)]
    stop, task = begin(policies, port)
    sending = [
        asyncio.create_task(emit(worker, bodies[number::50]))
        for number in range(50)
        for worker in [workers[number % 5]]
    ]
    for _ in range(4):
        await asyncio.sleep(0.3)
        stop.request()
        await task
        stop, task = begin(policies, port)
    await asyncio.gather(*sending)
    stop.request()
    await task
    assert [worker.lost for worker in workers] == [{}] * 5
    assert {outcome for worker in workers for outcome in worker.attempts} <= {"202", "refused"}
    queue = open_queue(store, policies.relay.endpoints["laravel"], policies)
    assert (await queue.counts()).waiting == len(bodies)


async def emit(worker: ContractSender, bodies: list[bytes]) -> None:
    for body in bodies:
        await worker.send(body)


async def test_a_successor_on_the_same_listening_socket_takes_connections_again(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `sluice up`, which listens itself."""
    policies = read_policies(tmp_path, store_url, "http://127.0.0.1:1", text=POLICIES)
    with serving.listening("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        for _ in range(2):
            address = str(policies.listen[0].address)
            monkeypatch.setenv(serving.INHERITED, f'{{"{address}": {held.dup().detach()}}}')
            bound, stop = serving.bind(policies.listen, inherited=serving.inherited()), Stop()
            task = asyncio.create_task(process.run(policies, bound, stop, asgi.no_console))
            worker = ContractSender(port, SIGNATURE)
            await worker.send(b'{"event": "message_sent", "data": {"session_id": "s1"}}')
            assert worker.attempts == {"202": 1}
            stop.request()
            await task


async def test_a_request_on_a_connection_that_was_just_made_is_still_answered(gate: Gate) -> None:
    async with gate.raw() as quick, gate.raw() as idle:
        await until(lambda: _accepted(gate, 2))
        gate.stop.request()
        await asyncio.sleep(0.3)  # by then it takes no more connections
        begin = time.monotonic()
        quick.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await quick.head()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in head
        assert await idle.rest() == b""
        assert time.monotonic() - begin < 2, "nobody is waited for long"


def _accepted(gate: Gate, connections: int) -> bool:
    """Whether so many clients of the gateway are connected, and accepted."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = [row for row in rows if int(row[1].partition(":")[2], 16) == gate.port and row[3] == "01"]
    return len([row for row in ours if row[9] != "0"]) >= connections
