"""Whatever strangers write, always another one: nothing of a gateway grows with it.

All containers of the process are looked at, however they are called and whoever has them: one that nobody thought of
is found by its growth. What may grow lies in a Cache or a Latest (`sluice/process/cache.py`), which are bounded in
bytes.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import time
import tracemalloc
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.workers.sends import _RESET_WITHIN
from sessions.registry import ObservedSession, Registry, Worker
from sluice.http.signatures import sign
from sluice.process.cache import Cache, Latest
from sluice.store.client import Store
from tests.gateway.running import POLICIES, PROXY, SIGNATURE, Gate, Receiver, gateway, receiver
from tests.sluice.http.client.upstream import Call, saying

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ROUNDS = 300
GROWTH = 210
"""Entries; there are 200 event types that count by themselves, and nothing else of which there are so many."""
WARMED_BY = 20
LARGE = 60_000
LARGE_ROUNDS = 150
KEPT = 6 * 2**20
"""Bytes that may be left of nine million: what caches hold of the parts that are short enough."""
_CONTAINERS = (dict, set, list, deque, OrderedDict, defaultdict, Counter)
_Counted = type(functools.lru_cache(lambda: None))

Send = Callable[[Gate, int], Awaitable[bytes]]


def request(line: str, *fields: str, host: str = "shop.example") -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", f"Host: {host}", *fields, "Connection: close", "", ""]).encode("latin-1")


async def sent(gate: Gate, content: bytes, address: str = "127.0.0.1") -> bytes:
    """The answer, as far as it comes before the connection ends."""
    async with gate.raw(content, address=address) as client:
        try:
            return await client.rest()
        except ConnectionError:  # refused before all of it was read
            return b""


async def webhook(gate: Gate, event: str, session: str, **headers: str) -> bytes:
    return (await gate.post_event(event, session, headers=headers)).content


async def webhook_of_a_worker(gate: Gate, n: int) -> bytes:
    body = b'{"event":"other","data":{"session_id":"s%d"}}' % n
    proof = {name.decode(): value.decode() for name, value in sign(SIGNATURE, body, time.time())}
    instance = {"X-Instance-Url": f"http://10.0.0.1:{n + 1}"}
    answer = await gate.http.post("/w1/hooks/message", content=body, headers=proof | instance)
    assert answer.status_code == 202
    return answer.content


async def send_to(gate: Gate, session: str, how: str, **more: object) -> bytes:
    body = orjson.dumps({"session_id": session, "message": "news", **more}).decode()
    head = request(f"POST /api/messages/{how}", f"Content-Length: {len(body)}", "Content-Type: application/json")
    return await sent(gate, head + body.encode())


FLOODS: dict[str, Send] = {
    "hosts": lambda gate, n: sent(gate, request("GET /", host=f"h{n}.example")),
    "methods": lambda gate, n: sent(gate, request(f"M{n} /")),
    "paths": lambda gate, n: sent(gate, request(f"GET /p{n}/%2e{n}")),
    "paths of workers": lambda gate, n: sent(gate, request(f"GET /info?s{n}")),
    "queries": lambda gate, n: sent(gate, request(f"GET /?q{n}={n}")),
    "names of fields": lambda gate, n: sent(gate, request("GET /", f"X-N{n}: 1")),
    "values of fields": lambda gate, n: sent(gate, request("GET /", f"Cookie: n={n}", f"User-Agent: n{n}")),
    "options of a connection": lambda gate, n: sent(gate, request("GET /", f"Connection: n{n}, m{n}")),
    "chains of a trusted proxy": lambda gate, n: sent(
        gate, request("GET /", f"X-Forwarded-For: 10.1.{n // 250}.{n % 250}, unknown{n}"), PROXY
    ),
    "clients of a trusted proxy": lambda gate, n: sent(
        gate, request("GET /limited/", f"X-Forwarded-For: 10.2.{n // 250}.{n % 250}", f"X-Forwarded-Host: h{n}"), PROXY
    ),
    "sessions": lambda gate, n: webhook(gate, "message_received", f"s{n}"),
    "sessions that are limited": lambda gate, n: webhook(gate, "typing_indicator", f"s{n % (ROUNDS // 2)}"),
    "event types": lambda gate, n: webhook(gate, f"type-{n}", "s"),
    "names of workers": lambda gate, n: webhook(gate, "other", "s", **{"X-Instance-Url": f"http://10.0.0.1:{n + 1}"}),
    "keys of repeats": lambda gate, n: webhook(gate, "other", "s", **{"Idempotency-Key": f"k{n}"}),
    "lists of sessions": lambda gate, n: sent(gate, request(f"GET /api/sessions?workspace_id=w{n}&after=a{n}")),
}
OF_SESSIONS: dict[str, Send] = {
    "statuses": lambda gate, n: sent(gate, request(f"GET /api/sessions/s{n}/status")),
    "other requests": lambda gate, n: sent(gate, request(f"GET /api/sessions/s{n}/qr")),
    "sends": lambda gate, n: send_to(gate, f"s{n}", "send"),
    "bulk-sends": lambda gate, n: send_to(gate, f"s{n}", "bulk-send", recipients=["491"] * 7),
    "names of workers": lambda gate, n: webhook_of_a_worker(gate, n),
    "deletes": lambda gate, n: sent(gate, request(f"DELETE /api/sessions/s{n}")),
}
LARGE_ONES: dict[str, Callable[[str], bytes]] = {
    "host": lambda text: request("GET /", host=text),
    "longest host": lambda text: request("GET /", host=text[:240]),
    "method": lambda text: request(f"{text} /"),
    "path": lambda text: request(f"GET /{text[:16_000]}"),
    "query": lambda text: request(f"GET /?{text[:16_000]}"),
    "name of a field": lambda text: request("GET /", f"{text}: 1"),
    "value of a field": lambda text: request("GET /", f"Cookie: {text}"),
    "chain": lambda text: request("GET /", f"X-Forwarded-For: {text}"),
    "many in a chain": lambda text: request("GET /", f"X-Forwarded-For: {text[:8]},{'10.0.0.1,' * 6000}"),
    "forwarded host": lambda text: request("GET /", f"X-Forwarded-Host: {text}", f"X-Forwarded-Proto: {text[:99]}"),
    "options of a connection": lambda text: request("GET /", f"Connection: {text[:8]},{'a1,' * 15_000}"),
    "length": lambda text: request("POST /", f"Content-Length: {text}"),
    "session": lambda text: request(f"GET /api/sessions/{text[:16_000]}/unknown"),
    "session of a send": lambda text: request("POST /api/messages/send", "Content-Length: 0", f"X-Session: {text}"),
    "signature": lambda text: request("POST /hooks/message", f"X-HMAC-Signature: {text}", f"X-Timestamp: {text[:9]}"),
    "token of the console": lambda text: request("GET /_sluice/api/status", f"Authorization: Bearer {text}"),
    "request of a reserved path": lambda text: request(f"GET /_sluice/{text[:16_000]}"),
    "key of a WebSocket": lambda text: request(
        "GET /", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {text}"
    ),
}


@pytest.fixture
def answers(laravel: Receiver) -> Receiver:
    """A Laravel of which no two answers are alike: status line, names and values of fields."""
    numbers = iter(range(10**9))

    async def play(call: Call) -> None:
        while True:
            await call.head()
            n = next(numbers)
            call.say(b"HTTP/1.1 200 R%d\r\nX-A%d: 1\r\nX-B: %d\r\nContent-Length: 2\r\n\r\nok" % (n, n, n))

    laravel.play = play
    return laravel


async def flood(gate: Gate, send: Send, begin: int, end: int) -> None:
    """Twenty at a time."""
    numbers = iter(range(begin, end))

    async def some() -> None:
        for n in numbers:
            await send(gate, n)

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(some())


def containers() -> tuple[dict[int, Any], set[int]]:
    """All that the process has, by id; and which of them are within a Cache or a Latest."""
    gc.unfreeze()  # what a gateway has when it starts is left alone by the collector, and in none of its lists
    gc.collect()
    found: dict[int, Any] = {}
    bounded: set[int] = set()
    for thing in gc.get_objects():
        inside = gc.get_referents(thing)  # a dictionary of nothing but texts and numbers is in no list of the collector
        if type(thing) in (Cache, Latest):
            bounded.update(id(one) for one in inside)
        found.update((id(one), one) for one in (thing, *inside) if type(one) in _CONTAINERS or type(one) is _Counted)
    return found, bounded


def entries(container: Any) -> int:
    return container.cache_info().currsize if type(container) is _Counted else len(container)


def owner_of(container: Any) -> str:
    """For whoever has to find it."""
    if type(container) is _Counted:
        return f"lru_cache of {container.__module__}.{container.__qualname__}"
    names = []
    for one in gc.get_referrers(container):
        if isinstance(one, dict):
            names += [f"{one.get('__name__', '')}.{name}" for name, value in [*one.items()] if value is container]
        elif not isinstance(one, list | tuple):
            names.append(f"{type(one).__module__}.{type(one).__qualname__}")
    return f"{type(container).__name__} in {', '.join(map(str, names[:4]))}, with {str(container)[:120]}"


async def grown(gate: Gate, floods: Iterable[Send]) -> list[str]:
    """What has more entries after them, and no bound in bytes."""
    for send in floods:
        await flood(gate, send, 0, WARMED_BY)
    before = {key: entries(one) for key, one in containers()[0].items()}
    for send in floods:
        await flood(gate, send, WARMED_BY, ROUNDS)
    await asyncio.sleep(2 * _RESET_WITHIN)  # for so long an attempt is kept that may have been reset
    found, bounded = containers()
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # each of them ends
    bounded |= {id(found), id(bounded), id(before), id(timers)}
    more = [key for key, one in found.items() if key not in bounded and entries(one) - before.get(key, 0) > GROWTH]
    return [owner_of(found[key]) for key in more]


@pytest.mark.usefixtures("answers")
async def test_nothing_grows_with_what_strangers_write_but_what_is_bounded_in_bytes(gate: Gate) -> None:
    assert not await grown(gate, FLOODS.values())


async def test_nothing_grows_with_the_sessions_that_are_asked_for_but_what_is_bounded_in_bytes(
    tmp_path: Path, store: Store, store_url: str, laravel: Receiver
) -> None:
    async with receiver() as worker:
        body = b'{"success":true,"status":"connected"}'
        worker.play = saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        sessions = {f"s{n}": ObservedSession("connected") for n in range(ROUNDS)}
        await Registry(store, 60.0).observe(Worker("w1", "observed", worker.url, ROUNDS), sessions)
        named = f'sessions: {{{{workers: [{{{{name: w1, url: "{worker.url}", prefix: /w1}}}}], '
        text = POLICIES.replace("sessions: {{", named).replace("lease: 15s", "lease: 60s")
        async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
            assert not await grown(gate, OF_SESSIONS.values())


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("what", LARGE_ONES)
async def test_what_is_large_is_not_kept(gate: Gate, answers: Receiver, what: str) -> None:
    def text(n: int) -> str:
        return f"t{n:07}x" * (LARGE // 9)

    async def send(gate: Gate, n: int) -> bytes:
        return await sent(gate, LARGE_ONES[what](text(n)), PROXY)

    await flood(gate, send, 0, WARMED_BY)
    before = held()
    await flood(gate, send, WARMED_BY, WARMED_BY + LARGE_ROUNDS)
    assert held() - before < KEPT, f"{(held() - before) / LARGE_ROUNDS:.0f} bytes are left of each"


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 %b\r\n", b"HTTP/1.1 200 OK\r\n%b: 1\r\n", b"HTTP/1.1 200 OK\r\nX: %b\r\n"]
)
async def test_what_is_large_in_answers_is_not_kept(gate: Gate, laravel: Receiver, head: bytes) -> None:
    numbers = iter(range(10**9))

    async def play(call: Call) -> None:
        while True:
            await call.head()
            call.say(head % (b"t%07dx" % next(numbers) * (LARGE // 9)) + b"Content-Length: 2\r\n\r\nok")

    laravel.play = play

    async def send(gate: Gate, n: int) -> bytes:
        return await sent(gate, request(f"GET /{n}"))

    await flood(gate, send, 0, WARMED_BY)
    before = held()
    await flood(gate, send, WARMED_BY, WARMED_BY + LARGE_ROUNDS)
    assert held() - before < KEPT, f"{(held() - before) / LARGE_ROUNDS:.0f} bytes are left of each"
