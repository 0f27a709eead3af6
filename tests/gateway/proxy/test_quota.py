"""An upstream that has a limiter of its own, and says so as we do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.proxy.quota import without_the_looser
from sluice.http.client import fields_of
from tests.gateway.running import Gate, Receiver, gateway

pytestmark = [pytest.mark.anyio, pytest.mark.every_server]

POLICIES = """
version: 1
store: {{url: "{store}", promise: memory}}
upstreams: {{laravel: {{url: "{laravel}"}}}}
routes: [{{path: /**, upstream: laravel}}]
limit_headers: [ratelimit, x-ratelimit]
limits: [{{id: wide, per: [], rate: 10/hour, burst: 10}}]
"""


@pytest.fixture
async def gate(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    async with gateway(tmp_path, store_url, laravel.url, text=POLICIES) as gate:
        yield gate


def answer(status: bytes, *lines: bytes) -> bytes:
    return b"".join((b"HTTP/1.1 %b\r\n" % status, *(b"%b\r\n" % line for line in lines), b"Content-Length: 0\r\n\r\n"))


@pytest.mark.parametrize(
    ("left", "ours"), [(b"3", False), (b"9", False), (b"10", True), (b"59", True), (b"many", True), (b"-1", True)]
)
async def test_only_the_set_with_fewer_left_goes_out(gate: Gate, laravel: Receiver, left: bytes, ours: bool) -> None:
    laravel.response = answer(
        b"200 OK", b"x-ratelimit-limit: 60", b"X-RateLimit-Remaining: " + left, b"X-Ratelimit-Reset: 99", b"Kept: 1"
    )
    headers = (await gate.http.get("/")).headers
    said = {name: headers.get_list(f"x-ratelimit-{name}") for name in ("limit", "remaining", "reset")}
    theirs = {"limit": ["60"], "remaining": [left.decode()], "reset": ["99"]}
    assert said == ({"limit": ["10"], "remaining": ["9"], "reset": []} if ours else theirs)
    assert headers["ratelimit"] == '"wide";r=9;t=360'
    assert headers["kept"] == "1"


async def test_a_refusal_of_laravels_own_limiter_reaches_the_client_as_it_is(gate: Gate, laravel: Receiver) -> None:
    laravel.response = answer(
        b"429 Too Many Requests", b"X-RateLimit-Limit: 5", b"X-RateLimit-Remaining: 0", b"Retry-After: 42"
    )
    answered = await gate.http.get("/")
    assert (answered.status_code, answered.headers["retry-after"]) == (429, "42")
    assert answered.headers.get_list("x-ratelimit-limit") == ["5"]


async def test_structured_fields_of_both_go_out_as_members_of_one_list(gate: Gate, laravel: Receiver) -> None:
    laravel.response = answer(b"200 OK", b'RateLimit: "api";r=1;t=5')
    assert (await gate.http.get("/")).headers.get_list("ratelimit") == ['"api";r=1;t=5', '"wide";r=9;t=360']


def test_without_any_of_ours_theirs_stay() -> None:
    ours = (b'RateLimit: "a";r=1\r\n',)
    assert without_the_looser(ours, fields_of([(b"X-RateLimit-Remaining", b"5")])) == (True, ours)


def test_two_that_contradict_each_other_do_not_count() -> None:
    ours = [b"X-RateLimit-Limit: 9\r\n", b"X-RateLimit-Remaining: 7\r\n"]
    theirs = fields_of([(b"X-RateLimit-Remaining", b"5"), (b"X-RateLimit-Remaining", b"1")])
    assert without_the_looser(ours, theirs) == (False, ours)
