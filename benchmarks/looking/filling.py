"""Sessions and events in the store, as many as the console has to bear."""

from __future__ import annotations

import asyncio

from relay.process import open_queue
from relay.queue.codec import Event
from relay.queue.inbox import Inbox
from relay.queue.queue import Settlement
from sessions.registry import ObservedSession, Registry, Worker
from sluice.process.addresses import store_url
from sluice.store.client import Store
from tests.e2e.deployment import Deployment

BACKLOG = 4_000_000
_AT_ONCE = 2048
_PER_WORKER = 1000


async def sessions(deployed: Deployment, count: int) -> None:
    """Of existing workers, a thousand on each, most of them connected."""
    store = Store(store_url(deployed.policies), timeout=60.0)
    registry = Registry(store, 3600.0)
    for first in range(0, count, _PER_WORKER):
        worker = Worker(f"benchmark-{first // _PER_WORKER:03}", "1", "http://127.0.0.1:9", _PER_WORKER)
        for begin in range(first, min(first + _PER_WORKER, count), 100):
            numbers = range(begin, min(begin + 100, count))
            await registry.observe(worker, {f"session-{i:06}": _session(i) for i in numbers} if numbers else {})
    await store.close()


def _session(number: int) -> ObservedSession:
    state = "connected" if number % 10 else "disconnected"
    return ObservedSession(state, f"62{number:09}", {"workspace_id": number % 500})


async def events(deployed: Deployment, count: int, *, dead: int) -> None:
    """Of as many sessions as there are thousands of them; `dead` of them are dead letters, the others wait."""
    store = Store(store_url(deployed.policies), timeout=60.0)
    queue = open_queue(store, deployed.policies.relay.endpoints["laravel"], deployed.policies)
    inbox, to = Inbox(store), [queue.destination]
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        await asyncio.gather(*(inbox.accept(_event(i), to) for i in numbers))
        if dead > 0 and first % (_AT_ONCE * 8) == 0:
            dead -= await _bury(queue, min(dead, 8000))
    await store.close()


async def _bury(queue, most: int) -> int:
    queue.look_everywhere()
    leased = (await queue.poll([], most)).leased
    await queue.poll([Settlement(one, "dead", "answered 422: no such contact") for one in leased], 0)
    return len(leased)


def _event(number: int) -> Event:
    session, body = f"session-{number % 20_000:06}", b'{"event":"message_received","data":{"text":"hello"}}'
    kind = "message_received" if number % 3 else "message_status_updated"
    return Event(f"evt_{number:09}", kind, session, b"/api/whatsapp/webhooks/webjs", (), body, lane="normal")
