from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette

from sessions import api as worker_api
from sessions.changes import Change, Changes
from sessions.keys import Key, Keys
from sessions.registry import Owner, Registry, Unknown, Unowned
from sessions.wakeups import Wakeups
from sluice.config import Secret, Signature
from sluice.http.bodies import BodyBudget
from sluice.http.call_signatures import sign_call
from sluice.http.signatures import sign
from sluice.store.client import Store
from tests.heard import Heard
from tests.sessions.making import place
from tests.waiting import until

pytestmark = pytest.mark.anyio

SIGNATURE = Signature("workers", "blazz", Secret(b"my-secret-key"), 300.0)
WORKER = {"id": "a", "instance": "1", "url": "http://127.0.0.1:3001/", "capacity": 5}


class Api:
    """Signs what it posts, unless told otherwise."""

    def __init__(self, registry: Registry, keys: Keys | None = None) -> None:
        known = keys or Keys([Key(SIGNATURE)], {})
        self.wakeups = Wakeups(Changes(Store("unix:///nonexistent/store.sock", timeout=0.2)))
        app = Starlette(routes=worker_api.routes(registry, self.wakeups, BodyBudget(2**20), lambda: known))
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://gateway")

    async def post(self, path: str, fields: object, signature: Signature = SIGNATURE) -> httpx2.Response:
        return await self.post_bytes(path, orjson.dumps(fields), signature)

    async def post_bytes(self, path: str, body: bytes, signature: Signature = SIGNATURE) -> httpx2.Response:
        path = f"/_sluice/workers{path}"
        headers = sign_call(signature, "POST", path, body, time.time())
        return await self.http.post(path, content=body, headers=headers)


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
    assert (registered.status_code, registered.json()) == (200, {"lease": 15.0, "beat": 5.0, "creates_above": 0})
    await registry.want({"s1": {}})
    assert await registry.place_orphans() == 1
    held = (await api.post("/a/beat", beat())).json()
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert owner.url == "http://127.0.0.1:3001"
    assert held == {"lease": 15.0, "sessions": {"s1": owner.fence}, "creates_above": owner.fence}

    report = {"fence": owner.fence, "state": "connected", "phone": "628"}
    assert (await api.post("/a/beat", beat(sessions={"s1": report}))).json() == held
    (row,) = await registry.sessions()
    assert (row.state, row.phone) == ("connected", "628")

    assert (await api.post("/a/leave", {"instance": "1"})).json() == {"left": True}
    assert isinstance(await registry.owner_of("s1"), Unowned)


@pytest.mark.parametrize("said", [{"takes_ids": True}, {"takes_ids": False}, {}])
async def test_a_worker_says_whether_it_takes_ids(api: Api, registry: Registry, said: dict[str, bool]) -> None:
    await api.post("", WORKER | said)
    await registry.want({"s1": {}})
    assert await registry.place_orphans() == 1
    held = (await api.post("/a/beat", beat())).json()["sessions"]
    report = {"fence": held["s1"], "state": "connected"}
    await api.post("/a/beat", beat(sessions={"s1": report}, draining=True))  # which changes what is known of the worker
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert owner.takes_ids is said.get("takes_ids", False)


async def test_a_session_that_a_person_ended_is_forgotten(api: Api, registry: Registry) -> None:
    await api.post("", WORKER)
    await registry.want({"s1": {}})
    assert await registry.place_orphans() == 1
    held = (await api.post("/a/beat", beat())).json()["sessions"]
    assert (await api.post("/a/beat", beat(gone=held))).json()["sessions"] == {}
    assert await registry.owner_of("s1") == Unknown()


async def test_an_unknown_worker_is_told_to_register_first(api: Api) -> None:
    assert problem(await api.post("/a/beat", beat()), 409) == (
        "a is not registered, or not as this instance: stop all sessions, then register"
    )


async def test_another_instance_is_told_to_register_first(api: Api) -> None:
    await api.post("", WORKER)
    problem(await api.post("/a/beat", beat(instance="2")), 409)


@pytest.mark.parametrize("path", ["", "/a/beat", "/a/leave"])
async def test_a_wrong_signature_is_refused_with_the_reason(api: Api, path: str) -> None:
    stranger = Signature("workers", "blazz", Secret(b"another"), 300.0)
    assert problem(await api.post(path, WORKER, stranger), 401) == (
        f"X-Sluice-Signature does not match; check the secret, that POST /_sluice/workers{path} is what was signed, "
        "and in sessions.keys that this secret may speak for this worker"
    )


@pytest.mark.parametrize("headers", [[], sign(SIGNATURE, orjson.dumps(WORKER), time.time())])
async def test_a_call_that_signs_less_than_all_of_it_is_told_how_to_sign(
    api: Api, headers: list[tuple[bytes, bytes]]
) -> None:
    response = await api.http.post("/_sluice/workers", content=orjson.dumps(WORKER), headers=headers)
    said = problem(response, 401)
    assert said.startswith("send X-Sluice-Timestamp with the unix time in seconds and X-Sluice-Signature with v1= ")
    assert "POST, /_sluice/workers and the body" in said


async def test_a_signature_of_another_call_proves_nothing(api: Api, registry: Registry) -> None:
    body = orjson.dumps(WORKER)
    headers = sign_call(SIGNATURE, "POST", "/_sluice/workers/b/beat", body, time.time())
    problem(await api.http.post("/_sluice/workers", content=body, headers=headers), 401)
    assert await registry.workers() == []


async def test_an_old_call_is_refused_unread(api: Api) -> None:
    headers = sign_call(SIGNATURE, "POST", "/_sluice/workers", b"", time.time() - 1000)
    response = await api.http.post("/_sluice/workers", content=b" " * 10, headers=headers)
    assert re.fullmatch(r"X-Sluice-Timestamp is 100\ds old, 300s are allowed", problem(response, 401))


async def test_without_a_key_in_the_policies_nobody_gets_in(registry: Registry) -> None:
    api = Api(registry, Keys([], {}))
    async with api.http:
        detail = problem(await api.post("", WORKER), 403)
    assert detail == "neither sessions.verify nor sessions.keys names a signature; set one in policies.yaml"


async def test_a_key_speaks_for_no_other_worker(registry: Registry) -> None:
    first, second = (Signature(name, "blazz", Secret(name.encode()), 300.0) for name in ("first", "second"))
    api = Api(registry, Keys([Key(first, ("a",)), Key(second, ("b-*",))], {}))
    async with api.http:
        assert (await api.post("", WORKER, first)).status_code == 200
        detail = problem(await api.post("", WORKER, second), 403)
        assert detail == "this secret may speak for b-*, not for a (sessions.keys)"
        assert "sessions.keys" in problem(await api.post("/a/beat", beat(), second), 401)
        assert "sessions.keys" in problem(await api.post("/a/leave", {"instance": "1"}, second), 401)
        problem(await api.post("/c/beat", beat(), second), 401)
        assert (await api.post("/a/beat", beat(), first)).status_code == 200


async def test_an_existing_worker_keeps_its_name_and_its_address(registry: Registry, heard: Heard) -> None:
    api = Api(registry, Keys([Key(SIGNATURE)], {"a": "http://127.0.0.1:3001"}))
    async with api.http:
        assert "is the name of an existing worker" in problem(await api.post("", WORKER), 409)
        assert "is the existing worker a" in problem(await api.post("", WORKER | {"id": "b"}), 409)
    refused = [(fields["worker"], fields["why"]) for message, fields in heard.lines if message == "worker.refused"]
    assert [worker for worker, _ in refused] == ["a", "b"]
    assert "is the name of an existing worker" in refused[0][1]
    assert await registry.workers() == []


async def test_a_body_over_the_limit_is_refused(api: Api) -> None:
    problem(await api.post_bytes("", b" " * (1024 * 1024 + 1)), 413)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"[]", "send a JSON object"),
        (b'{"id":"a"}', "instance is missing; it has to be a text of at most 128 characters"),
    ],
)
async def test_a_body_that_says_no_worker_is_refused(api: Api, body: bytes, said: str) -> None:
    assert problem(await api.post_bytes("", body), 400).startswith(said)


LONG = "x" * 501
ID = "1 to 128 of A-Z a-z 0-9 . _ : [ ] -"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("id", 7, f"id: 7 is not {ID}"),
        ("id", "", f'id: "" is not {ID}'),
        ("id", "a b", f'id: "a b" is not {ID}'),
        ("id", "x" * 129, f'id: "{"x" * 80}…" is not {ID}'),
        ("instance", "", 'instance: "" is not a text of at most 128 characters'),
        ("instance", "x" * 129, f'instance: "{"x" * 80}…" is not a text of at most 128 characters'),
        ("url", "", 'url: "" is not a text of at most 500 characters'),
        ("url", LONG, f'url: "{"x" * 80}…" is not a text of at most 500 characters'),
        ("url", "ftp://host", 'url: "ftp://host" is not an http address; write http://127.0.0.1:8000'),
        ("capacity", "5", 'capacity: "5" is not a whole number from 0 to 2000'),
        ("capacity", True, "capacity: true is not a whole number from 0 to 2000"),
        ("capacity", -1, "capacity: -1 is not a whole number from 0 to 2000"),
        ("capacity", 2001, "capacity: 2001 is not a whole number from 0 to 2000"),
        ("capacity", None, "capacity: null is not a whole number from 0 to 2000"),
        ("colour", "red", '"colour" is not known here; there are capacity, id, instance, takes_ids, url'),
        ("takes_ids", "yes", 'takes_ids: "yes" is not true or false'),
    ],
)
async def test_a_wrong_field_of_a_worker_is_told(api: Api, field: str, value: object, said: str) -> None:
    assert problem(await api.post("", WORKER | {field: value}), 400) == said


FENCE = "a whole number from 0 to 9007199254740991"
NAME = "a text of at most 200 characters"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"instance": 1}, "instance: 1 is not a text of at most 128 characters"),
        ({"sessions": []}, "sessions: [] is not a JSON object of at most 2000 items"),
        ({"sessions": None}, "sessions: null is not a JSON object of at most 2000 items"),
        ({"sessions": {"": {"fence": 1, "state": "x"}}}, f'sessions: "" is not {NAME}'),
        ({"sessions": {"x" * 201: {"fence": 1, "state": "x"}}}, f'sessions: "{"x" * 80}…" is not {NAME}'),
        ({"sessions": {"s1": 17}}, "sessions.s1: send a JSON object"),
        ({"sessions": {"s1": {"fence": "17", "state": "x"}}}, f'sessions.s1.fence: "17" is not {FENCE}'),
        ({"sessions": {"s1": {"fence": 2**60, "state": "x"}}}, f"sessions.s1.fence: {2**60} is not {FENCE}"),
        (
            {"sessions": {"s1": {"fence": 17}}},
            "sessions.s1.state is missing; it has to be a text of at most 64 characters",
        ),
        (
            {"sessions": {"s1": {"fence": 17, "state": "x" * 65}}},
            f'sessions.s1.state: "{"x" * 65}" is not a text of at most 64 characters',
        ),
        (
            {"sessions": {"s1": {"fence": 17, "state": "x", "phone": 628}}},
            "sessions.s1.phone: 628 is not a text of at most 64 characters or null",
        ),
        ({"gone": ["s1"]}, 'gone: ["s1"] is not a JSON object of at most 2000 items'),
        ({"gone": {"s1": 1.5}}, f"gone.s1: 1.5 is not {FENCE}"),
        ({"creates_above": -1}, f"creates_above: -1 is not {FENCE}"),
        ({"gone": {f"s{i}": 1 for i in range(2001)}}, "gone: "),
    ],
)
async def test_a_wrong_field_of_a_beat_is_told(api: Api, fields: dict[str, object], said: str) -> None:
    detail = problem(await api.post("/a/beat", beat(**fields)), 400)
    assert detail == said or (said == "gone: " and detail.endswith("is not a JSON object of at most 2000 items"))


async def test_a_second_live_process_under_an_id_is_refused_until_the_first_has_left(
    api: Api, registry: Registry, heard: Heard
) -> None:
    await api.post("", WORKER)
    twin = WORKER | {"instance": "2", "url": "http://10.0.0.9:3000"}
    refused = await api.post("", twin)
    assert re.fullmatch(
        r"another live process is registered as a, at http://127\.0\.0\.1:3001; stop it, or give this one an id of its "
        r"own\. If it is gone already, its place is free in 1[45]s",
        problem(refused, 409),
    )
    assert 13 <= int(refused.headers["retry-after"]) <= 15
    assert (await api.post("/a/beat", beat())).status_code == 200, "the first one has lost nothing"
    assert (await api.post("/a/leave", {"instance": "1"})).json() == {"left": True}
    (line,) = [fields for message, fields in heard.lines if message == "worker.twin_refused"]
    assert line == {"worker": "a", "url": "http://10.0.0.9:3000", "taken_by": "http://127.0.0.1:3001"}
    assert (await api.post("", twin)).status_code == 200


async def test_a_process_that_was_started_again_at_its_address_is_let_in_at_once(api: Api) -> None:
    await api.post("", WORKER)
    assert (await api.post("", WORKER | {"instance": "2"})).status_code == 200
    problem(await api.post("/a/beat", beat()), 409)


async def test_a_worker_tells_why_and_how_full_it_is_and_gives_sessions_on(api: Api, registry: Registry) -> None:
    await api.post("", WORKER)
    await place(registry, "s1", {})
    await place(registry, "s2", {})
    held = (await api.post("/a/beat", beat())).json()["sessions"]
    report = {"fence": held["s1"], "state": "failed", "reason": "no display"}
    said = beat(sessions={"s1": report}, released={"s2": held["s2"]}, draining=True, load={"memory": 0.5, "cpu": 1})
    assert (await api.post("/a/beat", said)).json()["sessions"] == {"s1": held["s1"]}
    row = await registry.session("s1")
    assert row is not None
    assert (row.state, row.reason) == ("failed", "no display")
    assert isinstance(await registry.owner_of("s2"), Unowned)


async def test_a_wait_is_answered_when_its_time_is_over_or_something_has_changed(api: Api) -> None:
    said = {"instance": "1", "since": 0.0, "seconds": 0.1}
    assert (await api.post("/a/wait", said)).json() == {"changed": False}
    waiting = asyncio.create_task(api.post("/a/wait", said | {"seconds": 5}))
    await until(lambda: api.wakeups.waiting == 1)
    began = time.monotonic()
    api.wakeups.tell(Change("s1", "a", 17, ""))
    assert (await waiting).json() == {"changed": True}
    assert time.monotonic() - began < 3
    assert (await api.post("/a/wait", said | {"since": 60})).json() == {"changed": True}, "since its last beat"
    assert (await api.post("/b/wait", said | {"since": 60})).json() == {"changed": False}


async def test_a_newer_wait_of_a_worker_ends_the_one_before(api: Api) -> None:
    said = {"instance": "1", "since": 0.0, "seconds": 5}
    first = asyncio.create_task(api.post("/a/wait", said))
    await until(lambda: api.wakeups.waiting == 1)
    second = asyncio.create_task(api.post("/a/wait", said))
    await first
    assert not second.done()
    api.wakeups.close()
    await second


async def test_while_the_store_is_away_workers_are_told_to_try_again() -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.2)
    api = Api(Registry(absent, 15.0))
    async with api.http:
        response = await api.post("", WORKER)
    problem(response, 503)
    assert response.headers["retry-after"] == "1"
    await absent.close()
