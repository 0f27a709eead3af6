"""The whole gateway, through sockets: what is refused, what is stored, what is passed on and how."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from gateway import reserved
from gateway.workers import reach
from relay import presence
from relay.queue.errors import BacklogFull
from relay.queue.inbox import Inbox
from relay.queue.queue import Counts, Queue
from sluice.http.signatures import sign
from sluice.store.client import Store
from tests.gateway.running import (
    DENIED,
    FORWARDED,
    PROXY,
    SIGNATURE,
    STRANGER,
    Gate,
    Receiver,
    as_served,
    gateway,
    lines,
    problem,
    values,
    without_names,
)
from tests.gateway.store_link import link_to
from tests.relay.making import event
from tests.sluice.http.client.upstream import Call, saying
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server]

Raised = (httpx2.RemoteProtocolError, httpx2.ReadError)


# --- refused


async def test_a_bad_signature_is_401(gate: Gate, queue: Queue) -> None:
    status, detail = problem(await gate.post_event(signature=STRANGER))
    assert (status, detail) == (
        401,
        "X-HMAC-Signature does not match the body; check that both sides have the same secret",
    )
    assert (await queue.counts()).accepted == 0


async def test_no_signature_is_401(gate: Gate) -> None:
    response = await gate.http.post("/hooks/message", content=b"{}")
    assert problem(response) == (401, "the headers X-HMAC-Signature and X-Timestamp must both be there, once")


@pytest.mark.parametrize(("age", "said"), [(302, "s old"), (-302, "s ahead of our clock")])
async def test_a_stale_timestamp_is_401(gate: Gate, age: float, said: str) -> None:
    status, detail = problem(await gate.post_event(at=time.time() - age))
    assert status == 401
    assert said in detail
    assert "300s are allowed" in detail


@pytest.mark.our_server("hypercorn says 100 Continue before the application is asked")
async def test_a_body_that_says_it_is_too_large_is_413_before_it_is_sent(gate: Gate) -> None:
    head = b"POST /hooks/m HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    async with gate.raw(head) as client:
        answer = await client.head()
        assert answer.startswith(b"HTTP/1.1 413 ")
        body = await client.exactly(int(values(answer, b"content-length")[0]))
    assert b"the body is 99999999 bytes, this route takes 1024 at most (`body:` of the route)" in body


async def test_a_chunked_body_that_turns_out_too_large_is_413_before_its_end(gate: Gate) -> None:
    proof = b"".join(b"%b: %b\r\n" % pair for pair in sign(SIGNATURE, b"", time.time()))
    head = b"POST /hooks/m HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" + proof + b"\r\n"
    async with gate.raw(head, b"401\r\n", b"x" * 0x401) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_is_not_json_is_400(gate: Gate) -> None:
    status, detail = problem(await gate.post_event(body=b"event=typing"))
    assert status == 400
    assert detail.startswith("the body is not JSON (")
    assert detail.endswith("); this route reads /event and /data/session_id from it")


@pytest.mark.parametrize("body", [b"{}", b"[]", b'"event"', b'{"event": ""}', b'{"event": null}'])
async def test_a_webhook_without_an_event_type_is_400(gate: Gate, body: bytes) -> None:
    assert problem(await gate.post_event(body=body)) == (
        400,
        "the request names no event type where the route looks for it",
    )


async def test_an_event_type_that_is_no_string_is_400(gate: Gate) -> None:
    assert problem(await gate.post_event(body=b'{"event": 7}')) == (400, "the event type is not a string")


async def test_a_request_for_a_session_that_names_none_is_400(gate: Gate) -> None:
    response = await gate.http.post("/api/messages/text", json={"text": "hi"})
    assert problem(response) == (400, "the request names no session where the route looks for it")


async def test_trace_is_refused_for_every_path(gate: Gate, laravel: Receiver) -> None:
    """It would show the sender what we say beside its own fields (RFC 9110 section 9.3.8)."""
    for path, allowed in (
        ("/", "GET, HEAD, POST, PUT, OPTIONS"),
        ("/info", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("/nowhere/x", "GET, HEAD, POST, PUT, DELETE, OPTIONS"),
    ):
        answer = await gate.http.request("TRACE", path)
        assert problem(answer) == (405, "TRACE is refused for every path")
        assert answer.headers["allow"] == allowed
    assert laravel.heads == []


async def test_no_route_is_404(gate: Gate, laravel: Receiver) -> None:
    assert problem(await gate.http.request("PATCH", "/x")) == (404, "no route of policies.yaml matches")
    assert laravel.heads == []


async def test_a_path_out_of_the_root_is_400(gate: Gate, laravel: Receiver) -> None:
    async with gate.raw(b"GET /a/%2e%2e/../etc HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as client:
        assert b"the path leads out of the root" in await client.rest()
    assert laravel.heads == []


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"Host: a\r\nHost: b\r\n", b"a request has exactly one Host header"),
        (b"Host: a\r\nHost: a\r\n", b"a request has exactly one Host header"),
        (b"", b"a request has exactly one Host header"),
        (b"Host: a/b\r\n", b"the Host header is not a host"),
        (b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", b"the only transfer coding understood here is chunked"),
    ],
)
async def test_a_head_that_can_be_read_in_two_ways_is_400(
    gate: Gate, laravel: Receiver, server: str, head: bytes, why: bytes
) -> None:
    async with gate.raw(b"GET / HTTP/1.1\r\n", head, b"Connection: close\r\n\r\n") as client:
        answer = await client.head()
        if server != "hypercorn":  # it refuses such a head by itself, without words and partly as 501
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert values(answer, b"content-type") == [b"application/problem+json"]
            assert why in await client.rest()
    assert laravel.heads == []


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: +3\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ],
)
async def test_a_body_whose_length_is_said_twice_never_reaches_laravel(
    gate: Gate, laravel: Receiver, lengths: bytes
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + lengths + b"\r\n3\r\nabc\r\n0\r\n\r\n"
    async with gate.raw(head) as client:
        assert (await client.head()).split(b" ")[1] in (b"400", b"501")  # hypercorn says 501 to an unknown coding
    assert laravel.heads == []


async def test_a_denied_address_is_403(gate: Gate, laravel: Receiver) -> None:
    async with gate.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", address=DENIED) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 403 ")
        assert b"this address is denied (trust.deny)" in await client.rest()
    assert laravel.heads == []


async def test_a_denied_address_is_denied_behind_our_proxy_too(gate: Gate) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 127.0.0.2\r\nConnection: close\r\n\r\n"
    async with gate.raw(head, address=PROXY) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 403 ")
    async with gate.raw(head) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def test_a_limit_that_is_used_up_is_429_with_retry_after(gate: Gate, laravel: Receiver) -> None:
    assert (await gate.http.get("/limited/a")).status_code == 200
    refused = await gate.http.get("/limited/b")
    assert problem(refused) == (429, "limit limited is used up")
    assert refused.json()["limit"] == "limited"
    assert 3590 <= int(refused.headers["retry-after"]) <= 3600
    assert len(laravel.heads) == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [("/%6Cimited/x", 429), ("/limited/", 429), ("//limited/x", 400), ("/limited%2Fx", 400), ("/a/../limited/x", 400)],
)
async def test_no_spelling_of_the_path_slips_past_a_limit(gate: Gate, path: str, status: int) -> None:
    head = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
    async with gate.raw(head % b"/limited/x", head % path.encode()) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        await client.exactly(2)
        assert (await client.head()).startswith(b"HTTP/1.1 %d " % status)


async def test_a_websocket_to_no_session_is_501(gate: Gate) -> None:
    head = (
        b"GET /api/sessions HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with gate.raw(head) as client:
        answer = await client.head()
        assert answer.startswith(b"HTTP/1.1 501 ")
        assert values(answer, b"content-type") == [b"application/problem+json"]
        assert b"WebSockets are passed on to upstreams and to owners of sessions" in await client.rest()


@pytest.mark.our_server("uvicorn does not read a body beside an upgrade")
async def test_an_upgrade_beside_a_body_is_ignored_and_the_body_arrives(gate: Gate, laravel: Receiver) -> None:
    """As Java's HTTP client sends a first POST (RFC 9110 section 7.8)."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
    async with gate.raw(head, b"Content-Length: 3\r\n\r\nabc") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert laravel.bodies == [b"abc"]
    assert values(laravel.heads[0], b"upgrade") == []


# --- stored


async def test_a_webhook_is_stored_before_it_is_answered(gate: Gate, queue: Queue, laravel: Receiver) -> None:
    body = b'{"event":  "message_received", "data": {"session_id": "s1", "text": "gr\xc3\xbc\xc3\x9fe"}}'
    answer = await gate.post_event(body=body, headers={"Content-Type": "application/json", "X-Other": "1"})
    assert answer.status_code == 202
    told = answer.json()
    assert told == {"status": "queued", "id": told["id"], "promise": "memory"}
    (delivery,) = (await queue.poll([], 10)).leased
    assert (delivery.id, delivery.type, delivery.session) == (told["id"], "message_received", "s1")
    assert (delivery.target, delivery.body) == (b"/hooks/message", body)
    kept = {name.lower(): value for name, value in delivery.headers}
    assert kept.keys() == {b"content-type", b"x-sluice-via"}
    assert kept[b"content-type"] == b"application/json"
    assert laravel.heads == [], "the relay delivers, not the gateway"


async def test_a_chunked_webhook_is_stored_too(gate: Gate, queue: Queue) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"event": "session_lost",'
        yield b' "data": {"session_id": "s1"}}'

    body = b'{"event": "session_lost", "data": {"session_id": "s1"}}'
    signed = (await gate.post_event(body=body)).request.headers
    proof = {name: signed[name] for name in ("X-HMAC-Signature", "X-Timestamp")}
    answer = await gate.http.post("/hooks/message", content=pieces(), headers=proof)
    assert answer.status_code == 202
    assert [delivery.body for delivery in (await queue.poll([], 10)).leased] == [body]


async def test_a_repeat_is_recognised_by_its_idempotency_key(gate: Gate, queue: Queue) -> None:
    key = {"Idempotency-Key": "7f3"}
    first, second = [(await gate.post_event(headers=key)).json() for _ in range(2)]
    assert second == first | {"repeat": True}
    other_session = (await gate.post_event(session="s2", headers=key)).json()
    assert other_session["id"] != first["id"]
    assert "repeat" not in other_session
    counts = await queue.counts()
    assert (counts.waiting, counts.repeats) == (2, 1)


async def test_without_a_key_two_equal_webhooks_are_two_events(gate: Gate, queue: Queue) -> None:
    first, second = [(await gate.post_event()).json()["id"] for _ in range(2)]
    assert first != second
    assert (await queue.counts()).waiting == 2


async def test_what_is_over_a_dropping_limit_is_202_dropped_and_not_stored(gate: Gate, queue: Queue) -> None:
    assert (await gate.post_event("typing_indicator")).json()["status"] == "queued"
    dropped = await gate.post_event("typing_indicator")
    assert (dropped.status_code, dropped.json()) == (202, {"status": "dropped", "limit": "typing"})
    assert (await gate.post_event("typing_indicator", "s2")).json()["status"] == "queued"
    assert (await queue.counts()).accepted == 2


async def test_what_is_over_a_queueing_limit_is_stored_and_waits(gate: Gate, queue: Queue) -> None:
    now = time.time()  # the same signature again would be a repeat
    answers = [await gate.post_event("message_received", at=now - i) for i in range(4)]
    assert [answer.json()["status"] for answer in answers] == ["queued"] * 4
    assert (await queue.counts()).waiting == 4
    (delivery,) = (await queue.poll([], 10)).leased
    assert delivery.id == answers[0].json()["id"]


async def test_many_webhooks_at_once_are_all_stored_once(gate: Gate, queue: Queue) -> None:
    answers = await asyncio.gather(*(gate.post_event("message_sent", f"s{i % 7}") for i in range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 100
    counts: Counts = await queue.counts()
    assert (counts.accepted, counts.waiting) == (100, 100)


# --- the store away


@pytest.mark.our_server("the lifespan of the application does not begin without a store")
async def test_without_a_store_nothing_is_accepted_falsely_and_laravel_is_still_reached(
    tmp_path: Path, laravel: Receiver, hold_for: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_for(3.0)
    monkeypatch.setattr(reach, "HOLD_AT_MOST", 2.0)
    async with gateway(tmp_path, "unix:///nonexistent/store.sock", laravel.url) as gate:
        begin = time.monotonic()
        webhook, passed, undecided, listed, owned, placed, ready, healthy, metrics = await asyncio.gather(
            gate.post_event(),
            gate.http.get("/page"),
            gate.http.get("/undecided/x"),
            gate.http.get("/api/sessions"),
            gate.http.get("/api/sessions/s1/qr"),
            gate.http.post("/api/sessions", json={"session_id": "s1"}),
            gate.http.get("/_sluice/readyz"),
            gate.http.get("/_sluice/healthz"),
            gate.http.get("/_sluice/metrics"),
        )
        assert 2.5 < time.monotonic() - begin < 5, "held as long as its sender may be, no longer"
    assert (webhook.status_code, webhook.json()["detail"]) == (429, "the event could not be stored; send it again")
    assert webhook.headers["retry-after"] == "2"
    assert (passed.status_code, passed.content) == (200, b"ok")
    assert problem(undecided) == (503, "limit undecided cannot be decided right now")
    assert undecided.headers["retry-after"] == "1"
    assert problem(listed) == (503, "the registry cannot be read right now")
    assert problem(owned) == (503, "who owns the session is not known right now")
    assert problem(placed) == (503, "no session can be created right now: the store does not answer")
    assert {response.headers["retry-after"] for response in (listed, owned, placed)} == {"1"}
    assert ready.status_code == 503
    assert (healthy.status_code, metrics.status_code) == (200, 200)


async def test_a_silent_store_holds_webhooks_for_a_bounded_time_and_recovery_needs_no_person(
    tmp_path: Path, store_url: str, laravel: Receiver, hold_for: Callable[[float], None]
) -> None:
    hold_for(3.0)
    async with link_to(store_url) as link, gateway(tmp_path, link.url, laravel.url) as gate:
        assert (await gate.post_event()).status_code == 202
        link.block()
        begin = time.monotonic()
        assert (await gate.http.get("/page")).status_code == 200
        assert time.monotonic() - begin < 0.25 + 0.5
        assert (await gate.post_event()).status_code == 429
        assert time.monotonic() - begin < 6
        link.mend()

        async def accepted() -> bool:
            return (await gate.post_event()).status_code == 202

        await until(accepted, what="webhooks to be accepted again")


async def test_a_short_absence_of_the_store_is_not_noticed_by_producers(
    tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    async with link_to(store_url) as link, gateway(tmp_path, link.url, laravel.url) as gate:
        link.block()
        posted = asyncio.create_task(gate.post_event())
        await until(lambda: link.accepted >= 2, what="the queue to ask the store")
        link.mend()
        assert (await posted).status_code == 202


# --- passed on to Laravel


async def test_a_request_reaches_laravel_byte_for_byte_and_nothing_is_added(gate: Gate, laravel: Receiver) -> None:
    target = b"/a%2Fb//c;d=1/%7e~/./x?b=1&a=2&b=%20+3&&c="
    headers = b"Cookie: a=\xe9\r\nx-TWICE: 1\r\nCookie: b=2\r\nX-Twice: 2\r\n"
    head = b"GET " + target + b" HTTP/1.1\r\nHost: shop.example\r\n" + headers + b"\r\n"
    async with gate.raw(head) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    (got,) = laravel.heads
    assert as_served(got) == as_served(head.removesuffix(b"\r\n") + FORWARDED + b"\r\n")


async def test_what_a_stranger_says_about_forwarding_is_replaced(gate: Gate, laravel: Receiver) -> None:
    spoofed = (
        b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=1\r\n"
        b"X-Real-IP: 10.0.0.1\r\nX-Sluice-Fence: 99\r\nX-Forwarded-Anything: x\r\nConnection: X-Forwarded-For\r\n"
        b"X_Forwarded_Prefix: /evil\r\nX.Forwarded.For: 10.0.0.1\r\nX_Real_IP: 10.0.0.1\r\nX_Sluice_Fence: 99\r\n"
        b"Transfer_Encoding: chunked\r\nX-Original-URL: /admin\r\nProxy: http://evil\r\n"
    )
    async with gate.raw(b"GET / HTTP/1.1\r\nHost: shop.example\r\n" + spoofed + b"\r\n") as client:
        await client.head()
    (got,) = laravel.heads
    assert as_served(got) == as_served(b"GET / HTTP/1.1\r\nHost: shop.example\r\n" + FORWARDED + b"\r\n")


@pytest.mark.parametrize(
    ("host", "port"),
    [(b"app.test", b"80"), (b"app.test:8443", b"8443"), (b"[2001:db8::1]", b"80"), (b"[2001:db8::1]:8080", b"8080")],
)
async def test_the_port_that_laravel_builds_links_with_is_the_hosts(
    gate: Gate, laravel: Receiver, host: bytes, port: bytes
) -> None:
    async with gate.raw(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host) as client:
        await client.head()
    assert values(laravel.heads[0], b"x-forwarded-port") == [port]


@pytest.mark.parametrize(
    ("said", "port"),
    [
        (b"X-Forwarded-Proto: https\r\n", b"443"),
        (b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: app.test:8443, inner\r\n", b"8443"),
        (b"X-Forwarded-Proto: https\r\nX-Forwarded-Port: 4430\r\n", b"4430"),
        (b"X-Forwarded-Host: app.test\r\n", b"80"),
    ],
)
async def test_behind_our_proxy_the_port_is_that_of_what_it_says(
    gate: Gate, laravel: Receiver, said: bytes, port: bytes
) -> None:
    async with gate.raw(b"GET / HTTP/1.1\r\nHost: app.test\r\n" + said + b"\r\n", address=PROXY) as client:
        await client.head()
    assert values(laravel.heads[0], b"x-forwarded-port") == [port]


@pytest.mark.parametrize("address", ["127.0.0.1", PROXY])
async def test_a_chain_of_proxies_that_is_too_long_is_refused(gate: Gate, laravel: Receiver, address: str) -> None:
    chains = [b"X-Forwarded-For: " + b", ".join([b"198.51.100.9"] * count) + b"\r\n" for count in (290, 300)]
    answers = []
    for chain in chains:
        async with gate.raw(b"GET / HTTP/1.1\r\nHost: a\r\n" + chain + b"\r\n", address=address) as client:
            head = await client.head()
            answers.append((head[9:12], await client.exactly(int(values(head, b"content-length")[0]))))
    assert [status for status, _ in answers] == [b"200", b"400"]
    assert b"the X-Forwarded-* fields have over 4096 bytes together" in answers[1][1]
    assert len(laravel.heads) == 1


async def test_what_our_proxy_says_about_forwarding_is_passed_on(gate: Gate, laravel: Receiver) -> None:
    said = b"X-Forwarded-For: 9.9.9.9, 198.51.100.9\r\nX-Forwarded-Host: shop.example\r\nX-Forwarded-Proto: https\r\n"
    async with gate.raw(b"GET / HTTP/1.1\r\nHost: inner\r\n" + said + b"\r\n", address=PROXY) as client:
        await client.head()
    told = [line for line in lines(laravel.heads[0]) if line.lower().startswith(b"x-forwarded-")]
    assert told == [
        b"X-Forwarded-For: 198.51.100.9",
        as_served(b"X-Forwarded-Host: shop.example"),
        b"X-Forwarded-Port: 443",
        as_served(b"X-Forwarded-Proto: https"),
    ]


@pytest.mark.our_server("hypercorn goes over to HTTP/2 where it is asked to, beside a body or not")
async def test_hop_by_hop_headers_stay_behind_on_the_way_in(gate: Gate, laravel: Receiver) -> None:
    hops = (
        b"Connection: keep-alive, X-Hop, Host\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Connection: x\r\n"
        b"Proxy-Authorization: x\r\nUpgrade: h2c\r\nX-End: 1\r\n"
    )
    async with gate.raw(b"GET / HTTP/1.1\r\nHost: shop.example\r\n" + hops + b"\r\n") as client:
        await client.head()
    (got,) = laravel.heads
    kept = b"GET / HTTP/1.1\r\nHost: shop.example\r\nX-End: 1\r\n"
    assert as_served(got) == as_served(kept + FORWARDED + b"\r\n")


async def test_an_answer_comes_back_with_its_repeats_and_without_hop_by_hop_headers(
    gate: Gate, laravel: Receiver
) -> None:
    laravel.response = (
        b"HTTP/1.1 299 Odd\r\nSet-Cookie: XSRF-TOKEN=a; Path=/\r\nServer: nginx\r\nSet-Cookie: session=b, c\r\n"
        b"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n"
        b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b"
    )
    async with gate.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        answer = await client.head()
        assert await client.exactly(2) == b"\x1f\x8b"
    assert lines(answer)[0].startswith(b"HTTP/1.1 299")
    assert lines(without_names(answer))[1:] == [
        as_served(b"Set-Cookie: XSRF-TOKEN=a; Path=/"),
        as_served(b"Server: nginx"),
        as_served(b"Set-Cookie: session=b, c"),
        as_served(b"Content-Encoding: gzip"),
        as_served(b"Content-Length: 2"),
    ]


async def test_a_body_of_known_length_arrives_with_that_length(gate: Gate, laravel: Receiver) -> None:
    body = bytes(range(256)) * 4096
    assert (await gate.http.post("/upload", content=body)).status_code == 200
    assert laravel.bodies == [body]
    assert values(laravel.heads[0], b"content-length") == [b"%d" % len(body)]


async def test_a_request_without_a_body_stays_without_one(gate: Gate, laravel: Receiver) -> None:
    await gate.http.get("/")
    assert values(laravel.heads[0], b"content-length") == values(laravel.heads[0], b"transfer-encoding") == []


async def test_a_chunked_upload_is_streamed_while_it_comes(gate: Gate, laravel: Receiver) -> None:
    half = asyncio.Event()
    got: list[bytes] = []

    async def play(call: Call) -> None:
        got.append(await call.head())
        got.append(await call.until(b"first"))
        half.set()
        got.append(await call.until(b"0\r\n\r\n"))
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    laravel.play = play
    head = b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with gate.raw(head, b"5\r\nfirst\r\n") as client, asyncio.timeout(60):
        await half.wait()
        client.send(b"6\r\nsecond\r\n0\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert values(got[0], b"transfer-encoding") == [b"chunked"]
    assert b"second" in got[2]


async def test_an_early_answer_reaches_a_client_that_still_uploads(gate: Gate, laravel: Receiver) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await call.gone()

    laravel.play = play
    async with gate.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nxxx") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 413 ")


async def test_the_first_event_of_a_stream_comes_at_once(gate: Gate, laravel: Receiver) -> None:
    more = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        call.say(b"9\r\ndata: 1\n\n\r\n")
        await more.wait()
        call.say(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    laravel.play = play
    async with asyncio.timeout(60), gate.http.stream("GET", "/events") as response:
        events = response.aiter_raw()
        assert await anext(events) == b"data: 1\n\n"
        more.set()
        assert [event async for event in events] == [b"data: 2\n\n"]


@pytest.mark.parametrize(
    ("method", "response", "expected"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", b"Content-Length: 1234"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", b"X-A: 1"),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', b'ETag: "a"'),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 1234\r\n\r\n', b'ETag: "a"'),
    ],
)
async def test_an_answer_without_a_body_has_none_and_the_connection_lives_on(
    gate: Gate, laravel: Receiver, server: str, method: bytes, response: bytes, expected: bytes
) -> None:
    laravel.response = response
    async with gate.raw(method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        for _ in range(2):
            answer = await client.head()
            assert lines(answer)[0].split(b" ")[1] == response.split(b" ")[1]
            assert as_served(expected) in answer
            if server != "hypercorn":  # it may name the coding, as RFC 9112 section 6.1 lets it
                assert b"chunked" not in answer.lower()
            client.send(method + b" /y HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 ")
    assert len(laravel.heads) == 3


async def test_a_client_that_leaves_before_the_answer_closes_the_upstreams_connection(
    gate: Gate, laravel: Receiver
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        asked.set()
        await call.gone()
        left.set()

    laravel.play = play
    async with asyncio.timeout(60):
        async with gate.raw(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"):
            await asked.wait()
        await left.wait()


async def test_a_client_that_leaves_is_not_repeated_on_another_connection(gate: Gate, laravel: Receiver) -> None:
    heads: list[bytes] = []
    asked, left = asyncio.Event(), asyncio.Event()

    async def play(call: Call) -> None:
        if call.number > 1:
            await saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(call)
        heads.append(await call.head())
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        heads.append(await call.head())
        asked.set()
        await call.gone()
        left.set()

    laravel.play = play
    async with asyncio.timeout(60):
        async with gate.raw(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n") as client:
            await client.head()
            client.send(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            await asked.wait()
        await left.wait()
    assert (await gate.http.get("/3")).status_code == 200
    assert len(laravel.upstream.calls) == 2, "the request of the client that left went out again"


async def test_a_client_that_leaves_within_the_answer_closes_the_upstreams_connection(
    gate: Gate, laravel: Receiver
) -> None:
    left = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await call.gone()
        left.set()

    laravel.play = play
    async with asyncio.timeout(60):
        async with gate.raw(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n") as client:
            await client.head()
            await client.exactly(6)
        await left.wait()


async def test_a_client_that_leaves_within_its_upload_closes_the_upstreams_connection(
    gate: Gate, laravel: Receiver
) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def play(call: Call) -> None:
        await call.until(b"abc")
        asked.set()
        await call.gone()
        left.set()

    laravel.play = play
    async with asyncio.timeout(60):
        async with gate.raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"):
            await asked.wait()
        await left.wait()


async def test_a_kept_connection_that_has_closed_meanwhile_is_not_seen_by_the_client(
    gate: Gate, laravel: Receiver
) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        if call.number == 1:
            await call.head()  # taken, and closed without an answer

    laravel.play = play
    assert [(await gate.http.get(f"/{i}")).status_code for i in range(2)] == [200, 200]
    assert len(laravel.upstream.calls) == 2


async def test_an_upload_is_never_repeated(gate: Gate, laravel: Receiver) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await call.head()

    laravel.play = play
    assert (await gate.http.get("/")).status_code == 200
    assert problem(await gate.http.post("/", content=b"x")) == (502, "laravel broke off before it answered")
    assert len(laravel.upstream.calls) == 1


async def test_an_upstream_that_refuses_is_502(tmp_path: Path, store_url: str, free_port: Callable[[], int]) -> None:
    async with gateway(tmp_path, store_url, f"http://127.0.0.1:{free_port()}") as gate:
        assert problem(await gate.http.get("/")) == (502, "laravel cannot be reached")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "broke off before it answered"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "broke off before it answered"),
        (b"garbage\r\n\r\n", "answered what cannot be passed on"),
    ],
)
async def test_an_upstream_that_breaks_off_is_502(gate: Gate, laravel: Receiver, answer: bytes, said: str) -> None:
    laravel.play = saying(answer, close=True)
    assert problem(await gate.http.get("/")) == (502, f"laravel {said}")


async def test_a_status_that_no_client_could_be_given_is_502(gate: Gate, laravel: Receiver) -> None:
    laravel.response = b"HTTP/1.1 700 What\r\nContent-Length: 0\r\n\r\n"
    assert problem(await gate.http.get("/"))[0] == 502


async def test_a_silent_upstream_is_504(tmp_path: Path, store_url: str, laravel: Receiver) -> None:
    left = asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        await call.gone()
        left.set()

    laravel.play = play
    async with gateway(tmp_path, store_url, laravel.url, headers="200ms") as gate:
        begin = time.monotonic()
        assert problem(await gate.http.get("/")) == (504, "laravel did not answer in time")
        assert 0.19 < time.monotonic() - begin < 1.5
        async with asyncio.timeout(60):
            await left.wait()


@pytest.mark.parametrize(
    ("framing", "part"),
    [(b"Content-Length: 10", b"half"), (b"Transfer-Encoding: chunked", b"4\r\nhalf\r\n"), (b"Content-Length: 10", b"")],
)
async def test_an_answer_that_is_cut_is_never_ended_cleanly(
    gate: Gate, laravel: Receiver, framing: bytes, part: bytes
) -> None:
    laravel.play = saying(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n", part, close=True)
    async with gate.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert await client.rest() == part
    with pytest.raises(Raised):
        await gate.http.get("/")


# --- the reserved paths


async def test_healthz_readyz_and_metrics_answer(gate: Gate, store: Store) -> None:
    assert (await gate.http.get("/_sluice/healthz")).json() == {"status": "ok"}
    waiting = await gate.http.get("/_sluice/readyz")
    assert (waiting.status_code, waiting.json()["problems"]) == (
        503,
        ["no relay is running: events are accepted and wait"],
    )
    await presence.report(store, "relay-1")

    async def is_ready() -> bool:
        return (await gate.http.get("/_sluice/readyz")).status_code == 200

    await until(is_ready, what="the next look at its readiness")
    assert (await gate.http.get("/_sluice/readyz")).json() == {"status": "ready", "problems": [], "warnings": []}
    await gate.post_event()
    metrics = await gate.http.get("/_sluice/metrics")
    assert metrics.status_code == 200
    assert 'sluice_queue_events{endpoint="laravel",place="waiting"} 1.0' in metrics.text
    assert 'sluice_backlog_capacity_events{endpoint="laravel"} 1e+06' in metrics.text
    assert 'sluice_requests_total{route="/hooks/*",status="202"}' in metrics.text


async def test_a_backlog_that_turns_events_away_is_in_the_words_of_readyz(store: Store) -> None:
    queue, inbox = Queue(store, "crm", lease=5.0, max_bytes=10**6, max_events=1), Inbox(store)
    assert await reserved._full({"crm": queue}) == []
    await inbox.accept(event(), [queue.destination])
    with pytest.raises(BacklogFull):
        await inbox.accept(event(), [queue.destination])
    (warning,) = await reserved._full({"crm": queue})
    assert re.fullmatch(
        r"the backlog of crm is full \(1 of 1 events, \d+ of 1000000 bytes\): events are refused, or leave it out "
        r"\(relay.backlog\)",
        warning,
    )


@pytest.mark.parametrize("path", ["/_sluice", "/_sluice/nothing", "/%5Fsluice/nothing"])
async def test_reserved_paths_never_reach_laravel(gate: Gate, laravel: Receiver, path: str) -> None:
    assert (await gate.http.get(path)).status_code == 404
    assert laravel.heads == []


async def test_a_path_that_only_begins_like_a_reserved_one_is_laravels(gate: Gate, laravel: Receiver) -> None:
    assert (await gate.http.get("/_sluiceways")).status_code == 200
    assert len(laravel.heads) == 1


async def test_stopping_lets_a_request_under_way_end(tmp_path: Path, store_url: str, laravel: Receiver) -> None:
    asked, finish = asyncio.Event(), asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        asked.set()
        await finish.wait()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    laravel.play = play
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        in_flight = asyncio.create_task(gate.http.get("/slow"))
        await asked.wait()
        gate.stop.request()
        await until(lambda: not _listens(gate.port), what="the gateway to take no more connections")
        finish.set()
        assert (await in_flight).content == b"done"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.05)  # while the server stops, new connections are passed over
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- an upstream that fails


async def test_an_upstream_that_fails_is_left_alone_but_for_one_request_a_second(gate: Gate, laravel: Receiver) -> None:
    laravel.response = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    answers = [(await gate.http.get("/x")).status_code for _ in range(20)]
    assert answers == [502] * 20, "what it takes to be sure"
    many = await asyncio.gather(*(gate.http.get("/x") for _ in range(10)))
    assert sorted(answer.status_code for answer in many) == [502, *[503] * 9], "one is the probe"
    refused = next(answer for answer in many if answer.status_code == 503)
    assert refused.json()["detail"] == "upstream laravel unavailable, circuit open"
    assert refused.headers["retry-after"] == "1"
    assert len(laravel.heads) == 21


async def test_whoever_waits_for_the_probe_of_an_upstream_that_is_back_is_answered(
    gate: Gate, laravel: Receiver
) -> None:
    laravel.response = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    for _ in range(20):
        await gate.http.get("/x")
    laravel.response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    many = await asyncio.gather(*(gate.http.get("/x") for _ in range(10)))
    assert [answer.status_code for answer in many] == [200] * 10


async def test_a_500_is_one_request_s_failure_and_not_the_upstream_s(gate: Gate, laravel: Receiver) -> None:
    laravel.response = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
    assert {(await gate.http.get("/x")).status_code for _ in range(40)} == {500}
