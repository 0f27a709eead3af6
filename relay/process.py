"""The relay process: one dispatcher for each endpoint, side by side, until stopped."""

from __future__ import annotations

import asyncio
import os
import socket

from redis.exceptions import RedisError

from relay import janitor, presence
from relay.circuit import Circuit
from relay.dead import DeadLetters
from relay.dispatcher import Dispatcher
from relay.queue import Queue
from relay.sender import Sender
from runtime.logs import Log
from runtime.loops import Stop, every
from runtime.policies import Endpoint, Policies
from runtime.store import Store

LOG = Log("relay")
_STORE_TIMEOUT = 5.0
_LEASE_MARGIN = 5.0  # seconds between the end of the longest attempt and the end of its lease


def open_queue(store: Store, endpoint: Endpoint, policies: Policies) -> Queue:
    """The queue of an endpoint, as every process must see it."""
    backlog = policies.relay.backlog
    return Queue(
        store,
        endpoint.name,
        lease=endpoint.timeout + _LEASE_MARGIN,
        most_bytes=backlog.bytes,
        most_events=backlog.events,
    )


def open_circuit(store: Store, endpoint: Endpoint) -> Circuit:
    """The circuit of an endpoint, as every process must see it."""
    return Circuit(store, endpoint.name, endpoint.circuit, endpoint.rate, probe_lease=endpoint.timeout + _LEASE_MARGIN)


async def run(policies: Policies, store_url: str, stop: Stop) -> None:
    """Delivers until stopped, then finishes what is under way."""
    store = Store(store_url, timeout=_STORE_TIMEOUT)
    name = f"{socket.gethostname()}:{os.getpid()}"
    endpoints = policies.relay.endpoints.values()
    queues = {endpoint.name: open_queue(store, endpoint, policies) for endpoint in endpoints}
    senders = {
        endpoint.name: Sender(endpoint, policies.signatures[endpoint.sign] if endpoint.sign else None)
        for endpoint in endpoints
    }
    dispatchers = {
        endpoint.name: Dispatcher(
            queues[endpoint.name],
            open_circuit(store, endpoint),
            senders[endpoint.name],
            retry=endpoint.retry,
            concurrency=endpoint.concurrency,
        )
        for endpoint in endpoints
    }
    dead = [DeadLetters(store, name) for name in queues]
    keep_dead = policies.relay.keep_dead
    LOG.info("relay.started", endpoints=list(dispatchers), revision=policies.revision)
    try:
        async with asyncio.TaskGroup() as group:
            ear = group.create_task(_listen(store, {queues[n].channel.encode(): d for n, d in dispatchers.items()}))
            group.create_task(every(janitor.EVERY, stop, lambda: janitor.turn(dead, keep_dead)))
            group.create_task(every(presence.EVERY, stop, lambda: presence.report(store, name)))
            running = [group.create_task(dispatcher.run(stop)) for dispatcher in dispatchers.values()]
            await asyncio.gather(*running)
            ear.cancel()
    finally:
        for sender in senders.values():
            await sender.close()
        await store.close()
    LOG.info("relay.stopped")


async def _listen(store: Store, dispatchers: dict[bytes, Dispatcher]) -> None:
    """Wakes dispatchers when something new is accepted. Without it they find out half a second later."""
    if not dispatchers:
        return
    while True:
        ear = store.redis.pubsub(ignore_subscribe_messages=True)
        try:
            await ear.subscribe(*dispatchers)
            while True:
                message = await ear.get_message(timeout=60)
                if message is not None:
                    dispatchers[message["channel"]].wake(message["data"])
        except (RedisError, OSError):
            await asyncio.sleep(0.5)
        finally:
            await ear.aclose()  # type: ignore[no-untyped-call]
