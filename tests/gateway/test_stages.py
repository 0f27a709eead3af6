"""What a request is refused for before it is read, and what a refused one takes from the limits."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sluice.http.signatures import sign
from sluice.store.client import Store
from tests.counted import counted
from tests.gateway.running import DENIED, SECRET, SIGNATURE, STRANGER, Gate, Receiver, gateway, read_policies, values
from tests.heard import Heard
from tests.sluice.cli.command import command, environment
from tests.waiting import until

pytestmark = pytest.mark.anyio

POLICIES = """
version: 1
bodies: {bodies}
store: {{url: "{store}", promise: memory}}
trust: {{deny: [127.0.0.2/32]}}
upstreams: {{laravel: {{url: "{laravel}", headers: {headers}}}}}
signatures: {{workers: {{preset: blazz, secret: env:SECRET}}}}
routes:
  - {{path: /hooks/*, methods: [POST], verify: workers, event: {{json: /event}}, session: {{json: /data/session_id}},
     body: {body}, relay: laravel}}
  - {{path: "/signed/{{session}}", methods: [POST], verify: workers, event: a, body: {body}, relay: laravel}}
  - {{path: "/of/{{session}}", methods: [POST], event: {{json: /event}}, body: {body}, relay: laravel}}
  - {{path: /app/**, methods: [GET], upstream: laravel}}
{limits}
relay: {{endpoints: {{laravel: {{url: "{laravel}"}}}}}}
"""
ADDRESS = "  - {id: address, per: [ip], rate: 1/hour, burst: 3}"
SESSION = "  - {id: session, per: [session], rate: 1/hour, burst: 2}"
OTHER_SESSION = "  - {id: message, event: message_received, per: [session], rate: 1/hour, burst: 5}"


@pytest.fixture
async def gate_with(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Callable[..., Any]]:
    async with contextlib.AsyncExitStack() as stack:

        async def made(*limits: str, bodies: str = "1MiB", body: str = "64KiB") -> Gate:
            text = POLICIES.replace(
                "{limits}", "\n".join(["limits:", *limits] if limits else []).replace("{", "{{").replace("}", "}}")
            )
            text = text.replace("{bodies}", bodies).replace("{body}", body)
            return await stack.enter_async_context(gateway(tmp_path, store_url, laravel.url, text=text))

        yield made


def head(path: str, *lines: bytes, length: int = 60_000) -> bytes:
    about = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % (path.encode(), length)
    return about + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


async def unread(gate: Gate, *, path: str = "/hooks/a", signed: bool = True, address: str = "127.0.0.1") -> int:
    """The status of an answer to a head alone, whose body never comes."""
    proof = [b"%b: %b" % pair for pair in sign(STRANGER, b"", time.time())] if signed else []
    async with gate.raw(head(path, *proof), address=address) as client:
        return int((await client.head()).split(b" ")[1])


async def statuses(times: int, ask: Callable[[], Any]) -> list[int]:
    answers = [await ask() for _ in range(times)]
    return [answer if isinstance(answer, int) else answer.status_code for answer in answers]


# --- before the body


async def test_without_signature_headers_a_request_is_refused_unread(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with()
    assert await unread(gate, signed=False) == 401


async def test_with_a_stale_timestamp_a_request_is_refused_unread(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with()
    proof = [b"%b: %b" % pair for pair in sign(SIGNATURE, b"", time.time() - 1000)]
    async with gate.raw(head("/hooks/a", *proof)) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 401 ")


async def test_unsigned_requests_are_limited_and_the_next_one_is_429_unread(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with(ADDRESS)
    assert await statuses(5, lambda: unread(gate, signed=False)) == [401, 401, 401, 429, 429]
    assert await unread(gate) == 429, "nor is one with signature headers read"


async def test_a_429_that_is_not_read_tells_what_is_left(gate_with: Callable[..., Any], heard: Heard) -> None:
    gate = await gate_with(ADDRESS)
    await statuses(3, lambda: unread(gate, signed=False))
    proof = [b"%b: %b" % pair for pair in sign(STRANGER, b"", time.time())]
    async with gate.raw(head("/hooks/a", *proof)) as client:
        answer = await client.head()
        content = orjson.loads(await client.exactly(int(values(answer, b"content-length")[0])))
    assert values(answer, b"ratelimit") == [b'"address";r=0;t=3600']
    assert 3590 <= int(values(answer, b"retry-after")[0]) <= 3600
    assert (content["limit"], content["violated-policies"]) == ("address", ["address"])
    rows = [fields for message, fields in heard.lines if message == "request"]
    assert [(row["status"], row["limit"], row["counted"]) for row in rows] == [
        *[(401, None, "head")] * 3,
        (429, "address", "head"),
    ]


async def test_after_the_last_token_the_next_request_costs_the_store_nothing(
    gate_with: Callable[..., Any], store: Store
) -> None:
    gate = await gate_with(ADDRESS)
    await statuses(3, lambda: unread(gate, signed=False))
    before = await scripts(store)
    assert await statuses(20, lambda: unread(gate)) == [429] * 20
    assert await scripts(store) - before <= 2, "no more than the gateway's own watch"


async def test_a_good_webhook_costs_one_call_for_all_limits_and_one_to_store_it(
    gate_with: Callable[..., Any], store: Store
) -> None:
    gate = await gate_with(ADDRESS.replace("3", "1000"), SESSION.replace("2", "1000"))
    await gate.post_event()
    before = await scripts(store)
    for _ in range(20):
        assert (await gate.post_event()).status_code == 202
    assert 40 <= await scripts(store) - before <= 43


async def scripts(store: Store) -> int:
    stats = await store.redis.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {"calls": 0})["calls"])


# --- what a refused request takes


async def test_a_bad_signature_spends_nobodys_session_tokens(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with(SESSION)
    assert await statuses(5, lambda: gate.post_event(signature=STRANGER)) == [401] * 5
    assert await statuses(5, lambda: unread_bad(gate, "/signed/s1")) == [401] * 5, "nor where the path names it"
    assert await statuses(3, gate.post_event) == [202, 202, 429]


async def unread_bad(gate: Gate, path: str) -> httpx2.Response:
    proof = {name.decode(): value.decode() for name, value in sign(STRANGER, b"{}", time.time())}
    return await gate.http.post(path, content=b"{}", headers=proof)


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda gate: gate.post_event(signature=STRANGER), 401),
        (lambda gate: gate.post_event(body=b"no JSON"), 400),
        (lambda gate: gate.post_event(body=b"{}"), 400),
        (lambda gate: gate.post_event(body=b" " * 65_537), 413),
        (lambda gate: gate.http.get("/nowhere"), 404),
        (lambda gate: gate.http.get("/app/%2e%2e/%2e%2e/x"), 400),
    ],
)
async def test_what_is_refused_takes_from_the_limits_that_need_only_its_head(
    gate_with: Callable[..., Any], ask: Callable[[Gate], Any], status: int
) -> None:
    gate = await gate_with(ADDRESS, OTHER_SESSION)
    assert await statuses(4, lambda: ask(gate)) == [status] * 3 + [429]


async def test_a_session_in_the_head_of_an_unsigned_request_is_known(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with(SESSION)
    assert await statuses(3, lambda: gate.http.post("/of/s1", content=b"{}")) == [400, 400, 429]
    assert await statuses(1, lambda: gate.http.post("/of/s2", content=b'{"event": "a"}')) == [202]


async def test_a_denied_address_costs_nothing(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with("  - {id: all, rate: 1/hour, burst: 2}")
    assert await statuses(4, lambda: unread(gate, address=DENIED)) == [403] * 4
    assert await statuses(3, gate.post_event) == [202, 202, 429]


async def test_an_upstreams_404_takes_from_all_limits_and_is_passed_on(
    gate_with: Callable[..., Any], laravel: Receiver
) -> None:
    laravel.response = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    gate = await gate_with(ADDRESS)
    assert await statuses(4, lambda: gate.http.get("/app/x")) == [404, 404, 404, 429]


async def test_a_limit_that_queues_refuses_what_cannot_be_delivered(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with("  - {id: address, per: [ip], rate: 1/hour, burst: 2, over: queue}")
    bad = await statuses(4, lambda: gate.post_event(signature=STRANGER))
    assert bad == [401, 401, 429, 429], "it runs into no debt for others"
    assert (await gate.post_event()).status_code == 202, "and what can wait is read, and waits"


async def test_a_limit_that_drops_refuses_what_is_wrong_in_itself(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with("  - {id: address, per: [ip], rate: 1/hour, burst: 1, over: drop}")
    assert await statuses(2, lambda: gate.post_event(signature=STRANGER)) == [401, 429]
    assert (await gate.post_event()).json() == {"status": "dropped", "limit": "address"}


async def test_a_limit_that_observes_counts_what_is_refused_unread(gate_with: Callable[..., Any], store: Store) -> None:
    gate = await gate_with(ADDRESS, "  - {id: seen-unread, per: [ip], rate: 1/hour, burst: 100, mode: observe}")
    assert await statuses(6, lambda: unread(gate, signed=False)) == [401] * 3 + [429] * 3
    assert await statuses(2, lambda: unread(gate)) == [429] * 2
    page = (await gate.http.get("/_sluice/metrics")).text
    assert 'sluice_limit_decisions_total{decision="allowed",limit="seen-unread"} 8.0' in page


async def test_a_handshake_that_is_refused_takes_from_the_limits_too(gate_with: Callable[..., Any]) -> None:
    gate = await gate_with(ADDRESS)
    for status in (404, 404, 404, 429):
        with pytest.raises(InvalidStatus) as caught:
            async with connect(f"ws://127.0.0.1:{gate.port}/nowhere"):
                pass
        assert caught.value.response.status_code == status


# --- bodies in memory


async def bodies_refused(gate: Gate) -> float:
    """By every gateway of this process so far."""
    page = counted()
    found = re.search(r'^sluice_bodies_refused_total{reason="bodies_full"} (.+)$', page, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def test_bodies_over_the_budget_wait_and_are_refused_like_a_full_backlog(
    gate_with: Callable[..., Any], hold_for: Callable[[float], None]
) -> None:
    hold_for(1.0)
    gate = await gate_with(bodies="128KiB")
    before = await bodies_refused(gate)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            proof = [b"%b: %b" % pair for pair in sign(SIGNATURE, b"", time.time())]
            client = await stack.enter_async_context(gate.raw(head("/hooks/a", *proof), b"x" * 59_000))
        begin = time.monotonic()
        answer = await client.head()
        assert answer.startswith(b"HTTP/1.1 429 "), "which is what existing workers repeat"
        assert values(answer, b"retry-after") == [b"5"]
        assert time.monotonic() - begin < 4
    assert await bodies_refused(gate) == before + 1
    assert (await gate.post_event()).status_code == 202, "what was held is free again"


@pytest.mark.slow
async def test_a_process_holds_no_more_than_the_budget(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    """Sixteen uploads of 4 MiB, all but their last byte, where 8 MiB are allowed."""
    port = free_port()
    text = POLICIES.replace("{bodies}", "8MiB").replace("{body}", "4MiB").replace("{limits}", "")
    text = text.replace("preset: blazz", "preset: body-sha256")  # which is held for three seconds only
    policies = read_policies(tmp_path, store_url, "http://127.0.0.1:1", text=f"{text}listen: 127.0.0.1:{port}\n")
    started = (*command("gateway", "--policies", policies.source),)
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*started, env=environment({"SECRET": SECRET}), stderr=quiet)
    proof = [b"%b: %b" % pair for pair in sign(policies.signatures["workers"], b"", time.time())]
    gate = Gate(policies, port)
    try:
        async with contextlib.AsyncExitStack() as stack, gate.http:
            await until(lambda: healthy(gate), timeout=20, what="the gateway to start")
            before = resident(process.pid)
            about = (head("/hooks/a", *proof, length=4_194_304), b"x" * 4_194_303)
            uploads = [await stack.enter_async_context(gate.raw(*about)) for _ in range(16)]
            answers = [asyncio.create_task(upload.head()) for upload in uploads]
            held = [resident(process.pid) - before]
            while not any(answer.done() for answer in answers):
                held.append(resident(process.pid) - before)
                await asyncio.sleep(0.05)
            assert next(answer.result().split(b" ")[1] for answer in answers if answer.done()) == b"503"
            for answer in answers:
                answer.cancel()
            assert 8 <= max(held) < 24, f"{max(held)} MiB for a budget of 8"
    finally:
        process.terminate()
        await process.wait()


async def healthy(gate: Gate) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return (await gate.http.get("/_sluice/healthz")).status_code == 200
    return False


def resident(pid: int) -> float:
    """MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
