from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette

from sessions import api as worker_api
from sessions.registry import Owner, Registry, Unknown, Unowned
from sluice.config import Secret, Signature
from sluice.http.bodies import BodyBudget
from sluice.http.signatures import sign
from sluice.store.client import Store

pytestmark = pytest.mark.anyio

SIGNATURE = Signature("workers", "blazz", Secret(b"my-secret-key"), 300.0)
WORKER = {"id": "a", "instance": "1", "url": "http://127.0.0.1:3001/", "capacity": 5}


class Api:
    """Signs what it posts, unless told otherwise."""

    def __init__(self, registry: Registry, signature: Signature | None = SIGNATURE) -> None:
        app = Starlette(routes=worker_api.routes(registry, BodyBudget(2**20), lambda: signature))
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway")

    async def post(self, path: str, fields: object, signature: Signature = SIGNATURE) -> httpx2.Response:
        return await self.post_bytes(path, orjson.dumps(fields), signature)

    async def post_bytes(self, path: str, body: bytes, signature: Signature = SIGNATURE) -> httpx2.Response:
        headers = sign(signature, body, time.time())
        return await self.http.post(f"/_sluice/workers{path}", content=body, headers=headers)


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 15.0)


@pytest.fixture
async def api(registry: Registry) -> AsyncIterator[Api]:
    api = Api(registry)
    async with api.http:
        yield api


def problem(response: httpx2.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    fields: dict[str, Any] = response.json()
    assert fields["type"] == "about:blank"
    assert fields["status"] == status
    assert fields["title"]
    return str(fields["detail"])


def beat(**fields: object) -> dict[str, object]:
    return {"instance": "1", "sessions": {}} | fields


async def test_a_worker_registers_beats_and_leaves(api: Api, registry: Registry) -> None:
    registered = await api.post("", WORKER)
    assert (registered.status_code, registered.json()) == (200, {"lease": 15.0, "beat": 5.0})
    await registry.want({"s1": {}})
    held = (await api.post("/a/beat", beat())).json()
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert owner.url == "http://127.0.0.1:3001"
    assert held == {"lease": 15.0, "sessions": {"s1": owner.fence}}

    report = {"fence": owner.fence, "state": "connected", "phone": "628"}
    assert (await api.post("/a/beat", beat(sessions={"s1": report}))).json() == held
    (row,) = await registry.sessions()
    assert (row.state, row.phone) == ("connected", "628")

    assert (await api.post("/a/leave", {"instance": "1"})).json() == {"left": True}
    assert await registry.owner_of("s1") == Unowned()


async def test_a_session_that_a_person_ended_is_forgotten(api: Api, registry: Registry) -> None:
    await api.post("", WORKER)
    await registry.want({"s1": {}})
    held = (await api.post("/a/beat", beat())).json()["sessions"]
    assert (await api.post("/a/beat", beat(gone=held))).json()["sessions"] == {}
    assert await registry.owner_of("s1") == Unknown()


async def test_an_unknown_worker_is_told_to_register_first(api: Api) -> None:
    assert problem(await api.post("/a/beat", beat()), 409) == "register first"


async def test_another_instance_is_told_to_register_first(api: Api) -> None:
    await api.post("", WORKER)
    problem(await api.post("/a/beat", beat(instance="2")), 409)


@pytest.mark.parametrize("path", ["", "/a/beat", "/a/leave"])
async def test_a_wrong_signature_is_refused_with_the_reason(api: Api, path: str) -> None:
    stranger = Signature("workers", "blazz", Secret(b"another"), 300.0)
    assert "same secret" in problem(await api.post(path, WORKER, stranger), 401)


async def test_an_unsigned_request_is_refused(api: Api) -> None:
    response = await api.http.post("/_sluice/workers", content=orjson.dumps(WORKER))
    assert "X-HMAC-Signature" in problem(response, 401)


async def test_without_a_signature_in_the_policies_nobody_gets_in(registry: Registry) -> None:
    api = Api(registry, signature=None)
    async with api.http:
        detail = problem(await api.post("", WORKER), 403)
    assert detail == "sessions.verify names no signature; set it in policies.yaml"


async def test_a_body_over_the_limit_is_refused(api: Api) -> None:
    problem(await api.post_bytes("", b" " * (1024 * 1024 + 1)), 413)


@pytest.mark.parametrize(("body", "said"), [(b"", "not JSON"), (b"{", "not JSON"), (b"[]", "not a list")])
async def test_a_body_that_is_not_a_json_object_is_refused(api: Api, body: bytes, said: str) -> None:
    assert said in problem(await api.post_bytes("", body), 400)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 7),
        ("id", "a b"),
        ("instance", ""),
        ("url", "ftp://host"),
        ("url", "http://"),
        ("url", "http://host:port"),
        ("capacity", "5"),
        ("capacity", True),
        ("capacity", -1),
        ("capacity", None),
    ],
)
async def test_a_wrong_field_of_a_worker_is_named(api: Api, field: str, value: object) -> None:
    assert problem(await api.post("", WORKER | {field: value}), 400).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"instance": 1}, "instance"),
        ({"sessions": []}, "sessions"),
        ({"sessions": None}, "sessions"),
        ({"sessions": {"s1": 17}}, "sessions.s1"),
        ({"sessions": {"s1": {"fence": "17", "state": "x"}}}, "sessions.s1.fence"),
        ({"sessions": {"s1": {"fence": 2**60, "state": "x"}}}, "sessions.s1.fence"),
        ({"sessions": {"s1": {"fence": 17}}}, "sessions.s1.state"),
        ({"sessions": {"s1": {"fence": 17, "state": "x", "phone": 628}}}, "sessions.s1.phone"),
        ({"gone": ["s1"]}, "gone"),
        ({"gone": {"s1": 1.5}}, "gone.s1"),
    ],
)
async def test_a_wrong_field_of_a_beat_is_named(api: Api, fields: dict[str, object], named: str) -> None:
    assert problem(await api.post("/a/beat", beat(**fields)), 400).startswith(f"{named}: ")


async def test_while_the_store_is_away_workers_are_told_to_try_again() -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.2)
    api = Api(Registry(absent, 15.0))
    async with api.http:
        response = await api.post("", WORKER)
    problem(response, 503)
    assert response.headers["retry-after"] == "1"
    await absent.close()
