"""Bad states of a whole deployment made real: what `status` says of them, whichever gateway process is asked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from tests.e2e.deployment import WEBHOOKS, Deployment, deployment
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ADDRESS = "{id: address, per: [ip], rate: 3000/minute, burst: 500, except: [laravel]}"
FEW = "{id: address, per: [ip], rate: 1/hour, burst: 20, over: reject}"
CURE = r"start it or cure it: curl -i http://127\.0\.0\.1:\d+ shows whether it answers"


@pytest.fixture
async def sluice(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Deployment]:
    """Two gateways, no Laravel."""
    async with deployment(short_folder, (free_port(), free_port())) as deployed:
        await deployed.start_up("--processes", "2")
        yield deployed


async def ask(sluice: Deployment, times: int) -> list[int]:
    """Each over a connection of its own, so that both gateways get some."""

    async def one() -> int:
        async with httpx2.AsyncClient(base_url=sluice.gateway, trust_env=False, verify=False, timeout=10) as client:
            return (await client.get("/anything")).status_code

    return await asyncio.gather(*(one() for _ in range(times)))


async def says(sluice: Deployment, sentence: str, timeout: float = 20.0) -> None:
    """Every one of several looks, as either process may answer."""
    seen: list[list[str]] = []

    async def said() -> bool:
        seen[:] = [(await sluice.status())["messages"] for _ in range(4)]
        return all(any(re.fullmatch(sentence, one) for one in messages) for messages in seen)

    await until(said, timeout=timeout, what=f"{sentence}; it says {seen}")


async def test_an_upstream_that_is_down_is_told_by_every_process_until_it_is_back(sluice: Deployment) -> None:
    assert set(await ask(sluice, 4)) == {502}
    since = r"(, for \d+s)?"
    await says(
        sluice,
        rf"upstream laravel: 4 of 4 requests of the last minute failed \(4 could not be reached\){since}; {CURE}",
    )
    assert set(await ask(sluice, 120)) == {502, 503}
    await says(
        sluice,
        r"upstream laravel: its circuit is (open|half-open): one request a second goes through to find out "
        r"whether it is back, and others get 503 after a second; 124 of 124 requests of the last minute failed "
        rf"\([^)]*refused by the circuit[^)]*\){since}; {CURE}",
    )
    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        page = (await client.get(f"{sluice.gateway}/_sluice/metrics")).text
    assert re.search(r'^sluice_upstream_circuit_open\{upstream="laravel"\} (1.0|0.5)$', page, re.MULTILINE)
    assert re.search(r'^sluice_upstream_failing_seconds\{upstream="laravel"\} [1-9]', page, re.MULTILINE)

    async def answer(_: Request) -> Response:
        return PlainTextResponse("well")

    stop, port = Stop(), int(sluice.laravel.rpartition(":")[2])
    app = Starlette(routes=[Route("/{path:path}", answer)])
    laravel = asyncio.create_task(serve(app, listening("127.0.0.1", port), stop))
    try:

        async def well() -> bool:
            await ask(sluice, 4)
            return (await sluice.status())["messages"] == []

        await until(well, timeout=90, what="all to be well again")
    finally:
        stop.request()
        await laravel


async def test_webhooks_that_nobody_can_prove_and_a_limit_that_refuses_most(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    async with deployment(short_folder, (free_port(), free_port())) as sluice:
        sluice.file.write_text(sluice.file.read_text().replace(ADDRESS, FEW))
        await sluice.start_up("--processes", "2")

        async def post() -> int:
            async with httpx2.AsyncClient(base_url=sluice.gateway, trust_env=False, verify=False) as client:
                return (await client.post(WEBHOOKS.decode(), json={"event": "message_received"})).status_code

        assert await asyncio.gather(*(post() for _ in range(5))) == [401] * 5
        await says(
            sluice,
            r"route /api/whatsapp/webhooks/\*: 5 of 5 requests of the last minute got 401, and nobody sends them "
            r"again: compare the secrets of both sides, and their clocks",
        )
        assert (await ask(sluice, 55)).count(429) == 40
        await says(
            sluice,
            r"limit address refuses 67%: 40 of 60 requests of the last minute got 429; raise its rate or burst, or see "
            r"in the log who sends, and with sluice limits show how full the buckets are",
        )


async def test_a_process_that_was_started_again_is_named(sluice: Deployment) -> None:
    await sluice.kill_child("relay")
    await says(
        sluice,
        r"relay was started again 1 time, the last time \d+s ago: its log says why "
        r"\(logs/relay\.jsonl in the data folder, or where log\.to leads\)",
    )
    await sluice.kill_child("gateway-2")
    await says(sluice, r"gateway-2 was started again 1 time, the last time \d+s ago: .*")


async def test_the_page_of_metrics_names_what_runs(sluice: Deployment) -> None:
    page = ""

    async def has_all() -> bool:
        nonlocal page
        page = (await client.get(f"{sluice.gateway}/_sluice/metrics")).text
        return all(f'process_open_fds{{process="{name}"}}' in page for name in ("gateway-1", "gateway-2", "relay"))

    async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
        await until(has_all, what="each process to have counted for the first time")
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        found = dict(re.findall(rf'^{name}{{process="([\w-]+)"}} (\S+)$', page, re.MULTILINE))
        assert found.keys() == {"gateway-1", "gateway-2", "relay"}
        assert all(float(value) > 0 for value in found.values())
    build = re.search(r"^sluice_build_info\{(.*)\} 1.0$", page, re.MULTILINE)
    assert build is not None
    assert {name for name, _ in re.findall(r'(\w+)="([^"]+)"', build[1])} == {"version", "commit", "python", "store"}
    names = re.findall(r"^# HELP (\S+)", page, re.MULTILINE)
    assert len(names) == len(set(names))
