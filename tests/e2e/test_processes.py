"""`--processes N`: several gateways on one address, as one to everybody who looks."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluice.http.server.serving import CannotListen, listening, serve
from sluice.process.loops import Stop
from tests.e2e.deployment import Deployment, answers, deployment
from tests.ports import port_of
from tests.waiting import until

pytestmark = pytest.mark.anyio

NAMES = ("gateway-1", "gateway-2")
ADDRESS = "{id: address, per: [ip], rate: 3000/minute, burst: 500, except: [laravel]}"
FEW = "{id: address, per: [ip], rate: 1/hour, burst: 20, over: reject}"


@pytest.fixture
async def sluice(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Deployment]:
    """Not started yet; its Laravel answers everything, `/slow` after two seconds."""
    ports, stop = (free_port(), free_port()), Stop()

    async def answer(request: Request) -> Response:
        await asyncio.sleep(2.0 if request.url.path == "/slow" else 0.0)
        return PlainTextResponse("well")

    app = Starlette(routes=[Route("/{path:path}", answer)])
    laravel = asyncio.create_task(serve(app, listening("127.0.0.1", ports[1]), stop))
    try:
        async with deployment(short_folder, ports) as deployed:
            yield deployed
    finally:
        stop.request()
        await laravel


def keep_history(sluice: Deployment, process: str, message: str) -> int:
    """How many lines of this message a process has written."""
    file = sluice.policies.data / "logs" / f"{process}.jsonl"
    return sum(orjson.loads(row)["msg"] == message for row in file.read_bytes().splitlines()) if file.exists() else 0


async def both_started(sluice: Deployment, times: int = 1) -> None:
    await until(
        lambda: all(keep_history(sluice, name, "gateway.started") >= times for name in NAMES),
        what=f"both gateways; it said:\n{sluice.said()}",
    )


async def get(sluice: Deployment, path: str) -> httpx2.Response:
    """Over a connection of its own."""
    # verify=False: there is no TLS here, and to read all certificates for each request takes longer than the request.
    async with httpx2.AsyncClient(base_url=sluice.gateway, trust_env=False, verify=False, timeout=10) as client:
        return await client.get(path, headers={"connection": "close"})


async def counted(sluice: Deployment) -> int:
    page = (await get(sluice, "/_sluice/metrics")).text
    return sum(int(float(found)) for found in re.findall(r"^sluice_requests_total\{.*\} (\S+)$", page, re.MULTILINE))


async def test_both_answer_and_count_as_one_and_a_limit_is_exact_across_them(sluice: Deployment) -> None:
    sluice.file.write_text(sluice.file.read_text().replace(ADDRESS, FEW))
    await sluice.start_up("--processes", "2")
    await both_started(sluice)

    codes = Counter(one.status_code for one in await asyncio.gather(*(get(sluice, "/") for _ in range(60))))
    assert codes == {200: 20, 429: 40}

    def shares() -> list[int]:
        return [keep_history(sluice, name, "request") for name in NAMES]

    await until(lambda: sum(shares()) == 60, what="60 lines of requests")
    assert all(shares()), f"one of them answered nothing: {shares()}"

    async def all_count_them() -> bool:
        return {await counted(sluice) for _ in range(12)} == {60}

    await until(all_count_them, what="60 on the page, whichever of them is asked")
    assert (await sluice.status())["traffic"]["requests"]["total"] == 60
    assert not (sluice.policies.data / "logs" / "gateway.jsonl").exists()


async def test_one_that_is_killed_comes_back_while_the_other_answers_and_all_drain(
    sluice: Deployment, store_url: str
) -> None:
    text = sluice.file.read_text().replace("{promise: second}", f"{{promise: second, url: '{store_url}'}}")
    sluice.file.write_text(text)
    stale = sluice.policies.data / "metrics-gateway" / "counter_1.db"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier run")
    sluice.up = await sluice.sluice("gateway", "--processes", "2")
    await both_started(sluice)
    await until(lambda: "stop with Ctrl-C" in sluice.said(), what="it to say where")
    assert await answers(f"{sluice.gateway}/_sluice/healthz")
    assert not stale.exists()

    taken = f"cannot listen on 127.0.0.1:{port_of(sluice.policies)}: address already in use"
    for more in ((), ("--processes", "2")):
        code, _, complaint = await sluice.run("gateway", *more)
        assert (code, complaint.startswith(f"sluice: {taken};")) == (2, True), complaint

    for _ in range(20):
        assert (await get(sluice, "/")).status_code == 200

    async def the_page_shows_them() -> bool:
        return {await counted(sluice) for _ in range(12)} == {20}

    await until(the_page_shows_them, what="20 on the page: a process counts into it once a second")
    await sluice.kill_child("gateway-1")
    answered, failed = 0, 0
    while keep_history(sluice, "gateway-1", "gateway.started") < 2:
        try:
            assert (await get(sluice, "/")).status_code == 200
            answered += 1
        except httpx2.TransportError:
            failed += 1
        await asyncio.sleep(0.01)
    assert answered > 10
    assert failed <= 2, "only what was under way with the killed one"
    assert "gateway-1 was killed by SIGKILL; it is started again in 0.25s" in sluice.said()

    async def all_counted() -> bool:
        return await counted(sluice) == 20 + answered

    await until(all_counted, what=f"{20 + answered} on the page: what the killed one counted stays counted")

    slow = [asyncio.create_task(get(sluice, "/slow")) for _ in range(16)]
    await asyncio.sleep(0.5)
    os.kill(sluice.up.pid, signal.SIGTERM)

    async def refused() -> bool:
        return not await answers(f"{sluice.gateway}/_sluice/healthz")

    await until(refused, what="nobody to take new connections")
    assert not any(one.done() for one in slow), "both stop at once, not one after the other"
    assert [(await one).status_code for one in slow] == [200] * 16
    async with asyncio.timeout(60):
        assert await sluice.up.wait() == 0
    assert [keep_history(sluice, name, "gateway.stopped") for name in NAMES] == [1, 1]
    assert sluice.said().splitlines()[-1].endswith("  stopped")


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", ""])
@pytest.mark.parametrize("command", ["up", "gateway"])
async def test_a_wrong_number_is_refused_in_words(capsys: pytest.CaptureFixture[str], command: str, wrong: str) -> None:
    from sluice.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main([command, f"--processes={wrong}"])
    assert ended.value.code == 2
    assert f'"{wrong}" is not a number of processes; write 1, 2 or more' in capsys.readouterr().err


async def test_an_address_is_shared_only_among_those_that_share(free_port: Callable[[], int]) -> None:
    port = free_port()
    first = listening("127.0.0.1", port, shared=True)
    with first, listening("127.0.0.1", port, shared=True), pytest.raises(CannotListen, match="already in use"):
        listening("127.0.0.1", port)
    with listening("127.0.0.1", port), pytest.raises(CannotListen, match="already in use"):
        listening("127.0.0.1", port, shared=True)
