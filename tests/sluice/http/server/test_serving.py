from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sluice.http.server.serving import CannotListen, listening, serve
from sluice.process.loops import Stop
from tests.waiting import until

pytestmark = pytest.mark.anyio


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.05)  # while the server stops, new connections are passed over
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_signal_drains_the_server_and_is_not_raised_a_second_time(free_port: Callable[[], int]) -> None:
    stop, port = Stop(), free_port()
    stop.on_signals()
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        started.set()
        await go_on.wait()
        return PlainTextResponse("done")

    running = asyncio.create_task(serve(Starlette(routes=[Route("/", slow)]), listening("127.0.0.1", port), stop))
    await until(lambda: listens(port))
    async with httpx2.AsyncClient() as client:
        asked = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
        await started.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: not listens(port))
        go_on.set()
        assert (await asked).text == "done"
    await running
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(number)


def test_a_taken_port_is_said_with_the_cure(free_port: Callable[[], int]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(CannotListen) as refused:
        listening("127.0.0.1", port)
    assert str(refused.value) == (
        f"cannot listen on 127.0.0.1:{port}: address already in use; stop what listens there, or choose another address"
    )
