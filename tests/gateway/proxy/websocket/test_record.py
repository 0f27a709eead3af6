"""What stopping does to WebSockets, and what is logged and counted of them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from websockets.http11 import USER_AGENT

from sluice.observe import metrics
from tests.gateway.proxy.websocket.reverb import ASKED, Logged, Reverb, closed, denied, hold, linger, to
from tests.gateway.running import Gate, gateway, start
from tests.sluice.http.client.upstream import upstream
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server(without="hypercorn")]


async def test_a_stop_closes_both_sides_with_1012_and_leaves_no_task(
    tmp_path: Path, store_url: str, reverb: Reverb, keep_history: Logged
) -> None:
    reverb.handle = linger
    before = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as clients:
        async with gateway(tmp_path, store_url, reverb.url) as gate:
            opened = [await clients.enter_async_context(to(gate)) for _ in range(20)]
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 3
        assert {(await closed(client))[0] for client in opened} == {1012}
        assert {(await closed(connection))[0] for connection in reverb.connections} == {1012}
    assert len(keep_history()) == 20
    assert {(line["code"], line["ended_by"]) for line in keep_history()} == {(1012, "gateway")}
    await until(lambda: not {task for task in asyncio.all_tasks() - before if "websocket" in repr(task.get_coro())})


async def test_a_stop_does_not_wait_for_a_handshake(tmp_path: Path, store_url: str) -> None:
    async with upstream(hold) as up:
        gate, task = start(tmp_path, store_url, str(up.origin))
        async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
            await until(lambda: up.calls)
            gate.stop.request()
            async with asyncio.timeout(3):
                await task
            assert (await client.head()).startswith(b"HTTP/1.1 500 ")
        await gate.http.aclose()


async def test_one_log_line_and_one_count_for_each_connection(gate: Gate, keep_history: Logged, reverb: Reverb) -> None:
    def counted(status: str) -> float:
        return metrics.registry().get_sample_value("sluice_requests_total", {"route": "/**", "status": status}) or 0.0

    before = counted("101")
    async with to(gate, "/app/key?secret=1") as client:
        assert counted("101") == before + 1, "counted when it is answered, not when it ends"
        await client.send("one")
        await client.send("zw\u00f6lf".encode())
        await client.recv()
        await client.recv()
        (request_id,) = client.response.headers.get_all("X-Request-Id") if client.response else ()
        await client.close(4001)
    await until(keep_history)
    (line,) = keep_history()
    assert line.pop("seconds") >= line.pop("upstream_ms") / 1000 > 0
    assert reverb.connections[0].request is not None
    assert reverb.connections[0].request.headers["X-Request-Id"] == request_id
    assert line == {
        "path": "/app/key",
        "route": "/**",
        "status": 101,
        "code": 4001,
        "ended_by": "client",
        "from_client": 2,
        "from_upstream": 2,
        "bytes_in": 9,
        "bytes_out": 9,
        "client": "127.0.0.1",
        "request_id": request_id,
        "upstream": reverb.url.partition("//")[2],
        "host": f"127.0.0.1:{gate.port}",
        "user_agent": USER_AGENT,
    }


async def test_a_refused_handshake_is_logged_with_its_reason(gate: Gate, keep_history: Logged) -> None:
    async with to(gate, "/limited/x"):
        await denied(gate, b"GET /limited/x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
        await until(keep_history)
        (line,) = keep_history()
    assert (line["status"], line.get("code"), line["limit"]) == (429, None, "limited")
    assert line["why"] == "limit limited is used up"
