"""A relay of one endpoint that runs in the test, and a receiver that answers what the test wants."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from relay.circuit import Circuit
from relay.deliver.sender import Sender
from relay.dispatch.loop import Dispatcher
from relay.policies import CircuitPolicy, Endpoint, Retry
from relay.queue.codec import Event, Lane, new_id
from relay.queue.dead_letters import DeadLetters
from relay.queue.history import history_of
from relay.queue.inbox import Inbox
from relay.queue.newest import Newest
from relay.queue.queue import Queue
from sluice.config import Secret, Signature
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.waiting import until

SIGNATURE = Signature("laravel", "blazz", Secret(b"s3cret"), tolerance=300)
CIRCUIT = CircuitPolicy(window=30, minimum=1000, ratio=0.5, open=0.05, cap=0.2, probes=1)
RETRY = Retry(attempts=3, base=0.01, cap=0.05)


class Receiver:
    """A real HTTP server whose answers are chosen by the test; it remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[bytes, bytes], bytes, str]] = []
        self.answer: Callable[[bytes], tuple[int, list[tuple[bytes, bytes]], bytes]] = lambda body: (200, [], b"")
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = 0
        self.max_at_once = 0

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.at_once += 1
        self.max_at_once = max(self.max_at_once, self.at_once)
        self.requests.append((dict(scope["headers"]), body, scope["raw_path"].decode()))
        await self.gate.wait()
        status, headers, answer = self.answer(body)
        self.at_once -= 1
        headers = [*headers, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body, _ in self.requests]


class Relay:
    def __init__(
        self, store: Store, url: str, *, keep_bodies: bool = False, newest: Newest | None = None, **changes: object
    ) -> None:
        known = Endpoint("laravel", url, "laravel", 1.0, 16, None, "session", RETRY, CIRCUIT)
        self.endpoint = replace(known, **changes)  # type: ignore[arg-type]
        batch = self.endpoint.batch
        per_stream = batch.max if batch else 1
        self.queue = Queue(
            *(store, "laravel"),
            lease=5.0,
            max_bytes=10**7,
            max_events=10**5,
            max_per_stream=per_stream,
            keep_bodies=keep_bodies,
            attempt=self.endpoint.timeout,
        )
        self.queue.newest = newest or self.queue.newest
        self.inbox = Inbox(store)
        self.dead = DeadLetters(store, "laravel")
        circuit = Circuit(store, "laravel", self.endpoint.circuit, self.endpoint.rate, probe_lease=1.0)
        self.sender = Sender(self.endpoint, SIGNATURE)
        self.dispatcher = Dispatcher(
            *(self.queue, circuit, self.sender),
            retry=self.endpoint.retry,
            concurrency=self.endpoint.concurrency,
            batch=batch,
        )
        self.stop = Stop()

    async def accept(self, body: bytes, session: str = "s", lane: Lane = "normal") -> str:
        event = Event(new_id(), "message_received", session, b"/hook?x=1", ((b"content-type", b"a/b"),), body, lane)
        await self.inbox.accept(event, [self.queue.destination])
        self.dispatcher.wake(b"0,1,2,3")
        return event.id

    async def settled(self, count: int) -> bool:
        counts = await self.queue.counts()
        return counts.delivered + counts.dead == count and counts.leased == 0


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[Relay]:
    loop = asyncio.create_task(relay.dispatcher.run(relay.stop))
    try:
        yield relay
    finally:
        relay.stop.request()
        await loop
        await relay.sender.close()


@asynccontextmanager
async def neighbours(relay: Relay) -> AsyncIterator[None]:
    """Other sessions have events all the time, which are called b"other"."""

    async def accepting() -> None:
        for number in itertools.count():
            await relay.accept(b"other", f"other{number}")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(accepting())
    try:
        yield
    finally:
        task.cancel()


async def died(relay: Relay, dead: int = 1) -> None:
    async def are_dead() -> bool:
        return (await relay.queue.counts()).dead == dead

    await until(are_dead)


async def tried(relay: Relay, store: Store, event: str, times: int) -> list[str]:
    """The reasons of its attempts, as soon as there are as many."""
    reasons: list[str] = []

    async def often_enough() -> bool:
        history = await history_of(store, ["laravel"], event)
        assert history is not None
        reasons[:] = [attempt.reason for attempt in history.endpoints[0].attempts]
        return len(reasons) >= times

    await until(often_enough)
    return reasons
