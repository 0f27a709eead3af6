"""A worker is known by the prefix of its LARAVEL_URL; everything goes on as if the prefix had not been there."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.explain import HypotheticalRequest, explain, outcome
from gateway.workers.prefixes import Prefixes, prefixes_of
from relay.process import open_queue
from sessions.policies import ExistingWorker
from sluice.http.signatures import sign
from sluice.store.client import Store
from tests.gateway.running import (
    POLICIES,
    SIGNATURE,
    STRANGER,
    Gate,
    Receiver,
    gateway,
    lines,
    problem,
    read_policies,
)
from tests.heard import Heard
from tests.waiting import until

NAMED = POLICIES.replace(
    "sessions: {{lease: 15s, verify: workers}}",
    """
sessions:
  lease: 15s
  verify: workers
  workers:
    - {{name: w1, url: http://127.0.0.1:9, prefix: /w/w1}}
    - {{name: w2, url: http://127.0.0.1:10, prefix: /w/w2}}
    - {{name: w3, url: http://127.0.0.1:11}}
""",
)


def worker(prefix: str) -> ExistingWorker:
    return ExistingWorker("http://127.0.0.1:9", name=prefix or "none", prefix=prefix)


def prefixes(*of: str) -> Prefixes:
    found = prefixes_of([worker(prefix) for prefix in of])
    assert found is not None
    return found


# --- what is whose


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/w/w1", "/w/w1"),
        (b"/w/w1/", "/w/w1"),
        (b"/w/w1/api/x", "/w/w1"),
        (b"/w/w1//api", "/w/w1"),
        (b"/deep/er/w4/api", "/deep/er/w4"),
        (b"/w5", "/w5"),
        (b"/w/w11/api", None),
        (b"/w/W1/api", None),
        (b"/w/%771/api", None),
        (b"//w/w1/api", None),
        (b"/w", None),
        (b"/w5x/api", None),
        (b"/api/w/w1", None),
        (b"/deep/er", None),
        (b"/", None),
        (b"", None),
    ],
)
def test_a_prefix_is_whole_segments_at_the_start_of_a_path(path: bytes, name: str | None) -> None:
    found = prefixes("/w/w1", "/deep/er/w4", "/w5", "").of(path)
    assert found == (None if name is None else (name, len(name)))


def test_without_a_prefix_in_the_policies_there_is_nothing_to_look_for() -> None:
    assert prefixes_of([worker(""), worker("")]) is None


@pytest.mark.parametrize(
    ("path", "unknown"), [(b"/w/w9/api", True), (b"/w/", True), (b"/w", False), (b"/w5/x", False), (b"/", False)]
)
def test_a_folder_of_prefixes_holds_nothing_else(path: bytes, *, unknown: bool) -> None:
    assert prefixes("/w/w1", "/top").is_unknown(path) is unknown


# --- through the gateway


@pytest.fixture
async def named(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    async with gateway(tmp_path, store_url, laravel.url, text=NAMED) as gate:
        yield gate


def requests(heard: Heard) -> list[dict[str, Any]]:
    return [fields for message, fields in heard.lines if message == "request"]


async def post(gate: Gate, path: str, *, signature: Any = SIGNATURE) -> Any:
    body = b'{"event": "message_received", "data": {"session_id": "s1"}}'
    proof = {name.decode(): value.decode() for name, value in sign(signature, body, time.time())}
    return await gate.http.post(path, content=body, headers=proof)


@pytest.mark.anyio
async def test_a_webhook_is_stored_for_the_path_without_the_prefix(named: Gate, store: Store, heard: Heard) -> None:
    assert (await post(named, "/w/w1/hooks/message?a=%2F")).status_code == 202
    queue = open_queue(store, named.policies.relay.endpoints["laravel"], named.policies)
    (delivery,) = (await queue.poll([], 10)).leased
    assert delivery.target == b"/hooks/message?a=%2F"
    (request,) = requests(heard)
    assert (request["path"], request["route"], request["worker"]) == ("/hooks/message", "/hooks/*", "w1")


@pytest.mark.anyio
async def test_signature_and_limits_hold_behind_a_prefix(named: Gate) -> None:
    assert problem(await post(named, "/w/w1/hooks/message", signature=STRANGER))[0] == 401
    assert (await named.http.get("/w/w1/limited/x")).status_code == 200
    assert problem(await named.http.get("/w/w2/limited/x")) == (429, "limit limited is used up")
    assert problem(await named.http.get("/limited/x")) == (429, "limit limited is used up")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("/w/w1/a%2Fb//c?x=/w/w1", b"GET /a%2Fb//c?x=/w/w1 HTTP/1.1"),
        ("/w/w1", b"GET / HTTP/1.1"),
        ("/w/w1?x", b"GET /?x HTTP/1.1"),
        ("/plain?x", b"GET /plain?x HTTP/1.1"),
    ],
)
async def test_the_rest_of_a_target_goes_on_byte_for_byte(
    named: Gate, laravel: Receiver, sent: str, arrives: bytes
) -> None:
    async with named.raw(b"GET %b HTTP/1.1\r\nHost: gate\r\n\r\n" % sent.encode()) as client:
        await client.head()
    assert lines(laravel.heads[0])[0] == arrives


@pytest.mark.anyio
async def test_a_prefix_is_no_way_out_of_the_root(named: Gate, laravel: Receiver) -> None:
    async with named.raw(b"GET /w/w1/../../x HTTP/1.1\r\nHost: gate\r\n\r\n") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 400 ")
    assert laravel.heads == []


@pytest.mark.anyio
async def test_without_a_prefix_no_worker_is_named(named: Gate, heard: Heard) -> None:
    await named.http.get("/x")
    await until(lambda: requests(heard))
    assert requests(heard)[0]["worker"] is None


@pytest.mark.anyio
async def test_an_unknown_prefix_is_404_and_does_not_reach_laravel(
    named: Gate, laravel: Receiver, heard: Heard
) -> None:
    answer = await post(named, "/w/w9/hooks/message")
    assert problem(answer) == (404, "no worker of sessions.workers has this prefix")
    assert "w1" not in answer.text
    (request,) = requests(heard)
    assert (request["path"], request["route"], request["worker"]) == ("/w/w9/hooks/message", "-", None)
    assert laravel.heads == []


# --- in words


def test_explain_says_whose_prefix_it_is(tmp_path: Path) -> None:
    policies = read_policies(tmp_path, "unix:///nowhere", "http://127.0.0.1:1", text=NAMED)
    known = explain(policies, HypotheticalRequest("GET", "/w/w2/x", "192.0.2.7"), 0.0)
    assert known.notes == ["worker w2 sends it, by its prefix, which is taken off"]
    assert known.destination == "passed on to upstream laravel"
    unknown = explain(policies, HypotheticalRequest("GET", "/w/w9/x", "192.0.2.7"), 0.0)
    assert outcome(unknown, None) == "404: no worker of sessions.workers has this prefix"
