"""The description of the vault's API: valid, and true of what a gateway answers, also to bad input."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.resources import Resources
from sessions.profiles import api, troubles
from sessions.profiles.calls import PREFIX, Access
from sessions.profiles.contents import InStore, Manifests
from sessions.profiles.generations import Generations
from sessions.profiles.prepared import PreparedZips
from sessions.profiles.transfers import Transfers
from sessions.profiles.vault import Vault
from sluice.console import http as console
from sluice.console.vault_openapi import document
from sluice.http.call_signatures import sign_call
from sluice.store.client import Store
from tests.sessions.profiles.calling import SIGNATURE, VaultClient, zipped
from tests.sessions.profiles.making import SECRET, profile
from tests.sluice.demo.serving import served

pytestmark = pytest.mark.anyio


def signing(app: ASGIApp) -> ASGIApp:
    """Signs each call before `app` sees it, so that a tool that knows nothing of signatures can call it."""

    async def signed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["raw_path"].startswith(PREFIX.encode()):
            await app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name: value for name, value in scope["headers"] if name != b"x-sluice-content-sha256"}
        digest = hashlib.sha256(body).hexdigest().encode()
        fence = headers.get(b"x-sluice-fence", b"").strip()
        pairs = sign_call(SIGNATURE, scope["method"], scope["raw_path"].decode(), fence + b"\n" + digest, time.time())
        left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return left.pop() if left else await receive()

        proof = [(name.lower(), value) for name, value in pairs] + [(b"x-sluice-content-sha256", digest)]
        kept = [pair for pair in scope["headers"] if pair[0] not in (b"x-sluice-content-sha256", *dict(proof))]
        await app({**scope, "headers": [*kept, *proof]}, replay, send)

    return signed


@pytest.fixture
async def http(parts: Resources, store: Store, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    vault = Vault(Generations(store), Manifests(store), InStore(store), [SECRET])
    transfers = Transfers(tmp_path)
    served_api = api.VaultApi(vault, transfers, PreparedZips(), Access(SIGNATURE), partial(troubles.note, store), 10.0)
    app = Starlette(routes=[*console.routes(parts), *api.routes(served_api)])
    async with served(signing(app)) as address, httpx2.AsyncClient(base_url=address, trust_env=False) as client:
        yield client
    transfers.close()


def test_it_is_valid() -> None:
    validate(document())


async def test_it_is_served_to_anybody(http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{PREFIX}/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == document()


async def test_what_is_answered_is_what_is_described(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    vault = VaultClient(http)
    described = document()["paths"][f"{PREFIX}/{{session}}"]
    fence = (await vault.start())["fence"]
    made = zipped(profile(tmp_path / "source", size=10), tmp_path / "a.zip")
    answers = {
        "post": await vault.call("POST", "s2"),
        "put": await vault.put(made, fence, X_Sluice_Browser="Chromium 156"),
        "head": await vault.call("HEAD"),
        "get": await vault.call("GET"),
        "delete": await vault.call("DELETE", fence=fence),
    }
    assert answers.keys() == described.keys() - {"parameters"}
    for method, answer in answers.items():
        said: dict[str, Any] = described[method]["responses"][str(answer.status_code)]
        assert answer.is_success, method
        assert said.get("headers", {}).keys() <= {name.title() for name in answer.headers} | {
            "ETag",
            "X-Sluice-Content-SHA256",
        }
        for media, form in said["content"].items():
            assert answer.headers["content-type"] == media
            if "schema" in form:
                schema = document()["components"]["schemas"][form["schema"]["$ref"].rpartition("/")[2]]
                closed = {**schema, "additionalProperties": False}
                assert list(Draft202012Validator(closed).iter_errors(answer.json())) == [], method


@pytest.mark.slow
async def test_no_call_makes_it_fail_or_answer_what_is_not_described(http: httpx2.AsyncClient, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{http.base_url}{PREFIX}/openapi.json"),
        *("--phases", "coverage,fuzzing", "--max-examples", "15", "--generation-deterministic", "--no-color"),
        # The signature and the digest are added on the way; and what is described as a zip is not always one.
        *("--exclude-checks", "positive_data_acceptance,ignored_auth,missing_required_header,negative_data_rejection"),
        cwd=tmp_path,  # it keeps what it has found
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
