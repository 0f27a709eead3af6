"""The description of the workers' API: valid, complete, and true of what a gateway answers, also to bad input."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.resources import Resources
from sessions import api as worker_api
from sessions.calls import CALLS, PREFIX
from sessions.changes import Changes
from sessions.keys import Key, Keys
from sessions.wakeups import Wakeups
from sluice.config import Secret, Signature
from sluice.console import http as console
from sluice.console.workers_openapi import document
from sluice.http.bodies import BodyBudget
from sluice.http.call_signatures import sign_call
from tests.sluice.demo.serving import served

pytestmark = pytest.mark.anyio
SIGNATURE = Signature("workers", "blazz", Secret(b"my-secret-key"), 300.0)
REPORT = {"fence": 1, "state": "connected", "phone": None, "reason": None}


def signing(app: ASGIApp) -> ASGIApp:
    """Signs each call before `app` sees it, so that a tool that knows nothing of signatures can call it."""

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        path = scope["raw_path"].decode()
        headers = sign_call(SIGNATURE, "POST", path, body, time.time())
        whole: Message = {"type": "http.request", "body": body, "more_body": False}
        left = [whole]

        async def replay() -> Message:
            return left.pop() if left else await receive()

        more_headers = [(name.lower(), value) for name, value in headers]
        await app({**scope, "headers": [*scope["headers"], *more_headers]}, replay, send)

    return signed


@pytest.fixture
async def http(parts: Resources) -> AsyncIterator[httpx2.AsyncClient]:
    keys = Keys([Key(SIGNATURE)], {"taken": "http://127.0.0.1:3001"})
    routes = worker_api.routes(parts.registry, Wakeups(Changes(parts.store)), BodyBudget(2**22), lambda: keys)
    app = Starlette(routes=[*routes, *console.routes(parts)])
    async with served(signing(app)) as address, httpx2.AsyncClient(base_url=address, trust_env=False) as client:
        yield client


def test_it_is_valid() -> None:
    validate(document())


async def test_it_is_served_to_anybody(http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{PREFIX}/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == document()


def test_it_has_every_call_and_every_field_of_it() -> None:
    described = document()
    assert described["paths"].keys() == {PREFIX + call.path for call in CALLS}
    schemas = described["components"]["schemas"]
    for call in CALLS:
        operation = described["paths"][PREFIX + call.path]["post"]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body["properties"].keys() == {field.name for field in fields(call.request)}
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert answer == {"$ref": f"#/components/schemas/{call.answer.__name__}"}
        assert schemas[call.answer.__name__]["properties"].keys() == {field.name for field in fields(call.answer)}


def test_every_text_and_number_has_bounds() -> None:
    """Of what comes from outside."""
    answers = {call.answer.__name__ for call in CALLS} | {"Problem"}
    found: list[str] = []

    def look(place: str, schema: dict[str, Any]) -> None:
        kinds = schema.get("type", [])
        for kind, bound in (("string", "maxLength"), ("integer", "maximum"), ("number", "maximum")):
            if kind in kinds and bound not in schema:
                found.append(place)
        if "object" in kinds and "properties" not in schema and "maxProperties" not in schema:
            found.append(place)
        for name, member in schema.get("properties", {}).items():
            look(f"{place}.{name}", member)
        if "propertyNames" in schema:
            look(f"{place}:", {"type": "string", **schema["propertyNames"]})
            look(f"{place}.*", schema["additionalProperties"])

    described = document()
    for call in CALLS:
        operation = described["paths"][PREFIX + call.path]["post"]
        look(call.name, operation["requestBody"]["content"]["application/json"]["schema"])
    for name, schema in described["components"]["schemas"].items():
        if name not in answers:
            look(name, schema)
    assert found == []


async def answered(http: httpx2.AsyncClient, call: str, fields: dict[str, Any]) -> httpx2.Response:
    path = next(PREFIX + one.path.format(id="w1") for one in CALLS if one.name == call)
    return await http.post(path, content=orjson.dumps(fields))


async def test_what_is_answered_is_what_is_described(http: httpx2.AsyncClient) -> None:
    about = {"id": "w1", "instance": "1", "url": "http://127.0.0.1:3009", "capacity": 3}
    beat = {"instance": "1", "sessions": {"s1": REPORT}, "gone": {"s2": 2}, "released": {"s3": 3}, "draining": False}
    said: dict[str, dict[str, Any]] = {
        "register": about,
        "beat": {**beat, "load": {"memory": 0.5, "cpu": 0}},
        "wait": {"instance": "1", "since": 0.1, "seconds": 0.1},
        "leave": {"instance": "1"},
    }
    assert said.keys() == {call.name for call in CALLS}
    described = document()
    for name, body in said.items():
        answer = await answered(http, name, body)
        assert answer.status_code == 200, answer.text
        kind = next(call.answer.__name__ for call in CALLS if call.name == name)
        schema = {**described["components"]["schemas"][kind], "additionalProperties": False}
        assert list(Draft202012Validator(schema).iter_errors(answer.json())) == [], name


async def test_a_refusal_is_what_is_described(http: httpx2.AsyncClient) -> None:
    problem = Draft202012Validator(document()["components"]["schemas"]["Problem"])
    for status, name, body in (
        (400, "register", {}),
        (409, "beat", {"instance": "1", "sessions": {}}),
        (409, "register", {"id": "taken", "instance": "1", "url": "http://127.0.0.1:3009", "capacity": 3}),
    ):
        answer = await answered(http, name, body)
        assert (answer.status_code, list(problem.iter_errors(answer.json()))) == (status, [])


@pytest.mark.slow
async def test_no_call_makes_it_fail_or_answer_what_is_not_described(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{http.base_url}{PREFIX}/openapi.json"),
        *("--phases", "coverage,fuzzing", "--max-examples", "15", "--generation-deterministic", "--no-color"),
        # The signature is added on the way; and an address may look like one and lead nowhere that is allowed.
        *("--exclude-checks", "positive_data_acceptance,ignored_auth"),
        cwd=tmp_path,  # it keeps what it has found
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
