"""The status as it is seen live: every two seconds, one look for all, and no longer than it may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import orjson
import pytest

from gateway.resources import Resources
from sluice.console import live
from tests.sluice.console.test_http import BEARER, http, served

__all__ = ["http"]
pytestmark = pytest.mark.anyio


@asynccontextmanager
async def stream(http: httpx2.AsyncClient) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    async with http.stream("GET", "/_sluice/live", headers=BEARER, timeout=30) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"

        async def statuses() -> AsyncIterator[dict[str, Any]]:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield orjson.loads(line.removeprefix("data: "))

        yield statuses()


async def test_it_tells_the_status_again_and_again(http: httpx2.AsyncClient, parts: Resources) -> None:
    async with stream(http) as statuses:
        first = await anext(statuses)
        assert first["store"]["ok"] is True
        second = await anext(statuses)
    assert first["at"] < second["at"]


async def test_all_who_look_share_one_look(http: httpx2.AsyncClient) -> None:
    async with stream(http) as one, stream(http) as two, stream(http) as three:
        seen = [await anext(statuses) for _ in range(3) for statuses in (one, two, three)]
    assert len({status["at"] for status in seen}) <= 5, "of nine"


async def test_without_a_token_nothing_is_told(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/_sluice/live")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_gateway_that_stops_ends_it(parts: Resources) -> None:
    async with served(parts) as http, stream(http) as statuses:
        await anext(statuses)
        parts.stop.request()
        async with asyncio.timeout(60):
            assert [status async for status in statuses] == []


async def test_other_policies_end_it_so_that_another_token_does(parts: Resources) -> None:
    async with served(parts) as http, stream(http) as statuses:
        await anext(statuses)
        parts.live.current = replace(parts.policies, revision="another")
        async with asyncio.timeout(60):
            assert len([status async for status in statuses]) <= 1


async def test_it_ends_after_its_time(parts: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LONGEST", 0.5)
    async with served(parts) as http, stream(http) as statuses:
        async with asyncio.timeout(60):
            assert [status["store"]["ok"] async for status in statuses] == [True]


async def test_only_so_many_may_look(parts: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST", 1)
    async with served(parts) as http:
        async with stream(http) as statuses:
            await anext(statuses)
            answer = await http.get("/_sluice/live", headers=BEARER)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.json()["detail"] == "1 pages look at this gateway already; close some"
        async with asyncio.timeout(60):
            while (await http.get("/_sluice/api/status", headers=BEARER)).status_code != 200:
                await asyncio.sleep(0.05)
            await asyncio.sleep(1.5)
        async with stream(http) as statuses:
            assert (await anext(statuses))["store"]["ok"] is True
