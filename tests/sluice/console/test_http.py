from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette

from gateway.policies import Policies
from gateway.resources import Resources
from sessions.registry import Worker
from sluice.console import http as api
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.sessions.making import place
from tests.sluice.console.deployment import TOKEN, parts_on, policies_in

pytestmark = pytest.mark.anyio

BEARER = {b"Authorization": b"Bearer " + TOKEN.encode()}


@asynccontextmanager
async def served(parts: Resources) -> AsyncIterator[httpx2.AsyncClient]:
    """The console behind a real server."""
    bound, stop = listening("127.0.0.1", 0), Stop()
    base = f"http://127.0.0.1:{bound.getsockname()[1]}"
    serving = asyncio.create_task(serve(Starlette(routes=api.routes(parts)), bound, stop))
    try:
        async with httpx2.AsyncClient(base_url=base, trust_env=False, timeout=120) as client:
            yield client
    finally:
        stop.request()
        await serving


@pytest.fixture
async def http(parts: Resources) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(parts) as client:
        yield client


@pytest.mark.parametrize("path", ["/_sluice/api/status", "/_sluice/api/sessions"])
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer wrong",
        b"Bearer " + TOKEN.encode()[:-1],
        b"Bearer " + TOKEN.encode() + b"x",
        b"Basic " + TOKEN.encode(),
        TOKEN.encode(),
        b"Bearer \xff\xfe",
    ],
)
async def test_without_the_token_nothing_is_told(
    http: httpx2.AsyncClient, path: str, authorization: bytes | None
) -> None:
    response = await http.get(path, headers={b"Authorization": authorization} if authorization is not None else {})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "send Authorization: Bearer <console.token>",
    }


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER  "])
async def test_the_token_opens_whatever_the_case_of_the_scheme(http: httpx2.AsyncClient, scheme: bytes) -> None:
    response = await http.get("/_sluice/api/status", headers={b"Authorization": scheme + TOKEN.encode()})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["store"]["ok"] is True


@pytest.mark.parametrize("authorization", [{}, BEARER, {b"Authorization": b"Bearer"}])
async def test_without_a_token_in_the_policies_nobody_gets_in(
    store: Store, tmp_path: Path, authorization: dict[bytes, bytes]
) -> None:
    async with served(parts_on(store, policies_in(tmp_path, ""))) as http:
        response = await http.get("/_sluice/api/status", headers=authorization)
    assert response.status_code == 403
    assert "www-authenticate" not in response.headers
    assert response.json()["detail"] == (
        "console.token is not set; set it in policies.yaml, for example to env:SLUICE_CONSOLE_TOKEN, and restart"
    )


async def test_sessions_are_told_row_by_row(http: httpx2.AsyncClient, parts: Resources) -> None:
    await parts.registry.register(Worker("w1", "1", "http://127.0.0.1:3101", 5))
    await place(parts.registry, "s1", {"workspace_id": 7})
    await parts.registry.want({"s2": {}})
    first, second = (await http.get("/_sluice/api/sessions", headers=BEARER)).json()["sessions"]
    assert (first["session"], first["workspace"], first["state"], first["worker"]) == ("s1", "7", "created", "w1")
    assert (second["session"], second["worker"], second["lease_left"]) == ("s2", None, None)


async def test_sessions_cannot_be_told_while_the_store_is_away(policies: Policies, short_folder: Path) -> None:
    store = Store(f"unix://{short_folder}/nobody.sock", timeout=0.5)
    async with served(parts_on(store, policies)) as http:
        response = await http.get("/_sluice/api/sessions", headers=BEARER)
        status = await http.get("/_sluice/api/status", headers=BEARER)
    await store.close()
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["detail"] == "the store does not answer; try again"
    assert (status.status_code, status.json()["store"]["ok"]) == (200, False)


async def test_the_page_lies_one_slash_further(http: httpx2.AsyncClient) -> None:
    response = await http.get("/_sluice")
    assert (response.status_code, response.headers["location"]) == (307, "/_sluice/")
