"""The relay process: one line for each endpoint, side by side, until stopped.

An edit of the policies replaces the lines whose endpoint it touches and leaves the others alone. A line that is
replaced finishes and settles what is under way before the next one of its endpoint leases anything, so that nothing is
lost, sent twice or overtaken, and never is more under way than either policy allows.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from typing import TypeVar

from redis.exceptions import RedisError

from relay import presence
from relay.circuit import Circuit
from relay.deliver.sender import Sender
from relay.dispatch.loop import Dispatcher
from relay.policies import Endpoint, RelaySnapshot
from relay.queue import janitor
from relay.queue.queue import Queue
from sluice.config.live import LivePolicies
from sluice.observe.log import Log
from sluice.process.loops import Stop, every, tune_gc
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("relay")
P = TypeVar("P", bound=RelaySnapshot)
_STORE_TIMEOUT = 5.0
_LEASE = 5.0  # seconds after which the deliveries of a killed process go to another; extended during an attempt
_PROBE_MARGIN = 5.0  # seconds between the end of the longest attempt and giving its probe to another


def open_queue(store: Store, endpoint: Endpoint, policies: RelaySnapshot) -> Queue:
    """The queue of an endpoint, as every process must see it."""
    backlog = policies.relay.backlog
    return Queue(
        store,
        endpoint.name,
        lease=_LEASE,
        max_bytes=backlog.bytes,
        max_events=backlog.events,
        in_order=endpoint.order == "session",
        max_per_stream=endpoint.batch.max if endpoint.batch else 1,
        keep_history=policies.relay.keep_delivered > 0,
    )


def open_circuit(store: Store, endpoint: Endpoint) -> Circuit:
    """The circuit of an endpoint, as every process must see it."""
    return Circuit(store, endpoint.name, endpoint.circuit, endpoint.rate, probe_lease=endpoint.timeout + _PROBE_MARGIN)


def settings_of(policies: RelaySnapshot, endpoint: Endpoint) -> object:
    """All that the queue and the line of an endpoint are made of: they are made anew when any of it differs."""
    signature = policies.signatures[endpoint.sign] if endpoint.sign else None
    return endpoint, signature, replace(policies.relay, endpoints={})


async def run(live: LivePolicies[P], store_url: str, stop: Stop) -> None:
    """Delivers until stopped, then finishes what is under way. Edits of the policies' file go live meanwhile."""
    store = Store(store_url, timeout=_STORE_TIMEOUT)
    name = f"{socket.gethostname()}:{os.getpid()}"
    policies = live.current

    async def drop_dead() -> None:
        relay = live.current.relay
        await janitor.turn(store, relay.endpoints, relay.keep_dead, relay.keep_delivered)

    tune_gc()
    LOG.info("relay.started", endpoints=list(policies.relay.endpoints), revision=policies.revision)
    try:
        async with asyncio.TaskGroup() as group:
            lines = _EndpointRelays(store, group)
            lines.apply(policies)
            group.create_task(every(janitor.EVERY, stop, drop_dead))
            group.create_task(every(presence.EVERY, stop, lambda: _report(store, name, lines)))
            group.create_task(live.watch(stop, lines.apply))
            await stop.wait()
            lines.stop()
    finally:
        await store.close()
    LOG.info("relay.stopped")


class Line:
    """One endpoint at work: its queue, its circuit, its connections, and the loop that moves its deliveries."""

    def __init__(self, store: Store, endpoint: Endpoint, policies: RelaySnapshot) -> None:
        self.settings = settings_of(policies, endpoint)
        self.queue = open_queue(store, endpoint, policies)
        self.stop = Stop()
        circuit = open_circuit(store, endpoint)
        self._sender = Sender(endpoint, policies.signatures[endpoint.sign] if endpoint.sign else None)
        self.dispatcher = Dispatcher(
            self.queue,
            circuit,
            self._sender,
            retry=endpoint.retry,
            concurrency=endpoint.concurrency,
            batch=endpoint.batch,
        )

    async def run(self) -> None:
        """Until stopped; then what is under way is finished and settled."""
        try:
            await self.dispatcher.run(self.stop)
        finally:
            await self._sender.close()


class _EndpointRelays:
    """The lines that run. Their tasks are in `group`: one that crashes ends the process."""

    def __init__(self, store: Store, group: asyncio.TaskGroup) -> None:
        self._store = store
        self._group = group
        self._lines: dict[str, Line] = {}
        self._last: dict[str, asyncio.Task[None]] = {}
        """Of each endpoint the newest line's task; those before it have ended when it begins."""
        self._channels: list[str] = []
        self._ear: asyncio.Task[None] | None = None

    def apply(self, policies: RelaySnapshot) -> None:
        """Goes over to these policies. What cannot be made raises before anything has changed."""
        endpoints = policies.relay.endpoints
        made = {
            name: Line(self._store, endpoint, policies)
            for name, endpoint in endpoints.items()
            if name not in self._lines or self._lines[name].settings != settings_of(policies, endpoint)
        }
        for name in [name for name in self._lines if name in made or name not in endpoints]:
            self._lines.pop(name).stop.request()
        for name, line in made.items():
            self._lines[name] = line
            self._last[name] = self._group.create_task(self._run(line, self._last.get(name)))
        self._listen_anew()

    @property
    def seconds_stuck(self) -> float:
        """Seconds since the last turn of the line that has gone longest without one."""
        return max((line.dispatcher.seconds_stuck for line in self._lines.values()), default=0.0)

    def stop(self) -> None:
        """Nothing more is leased; the tasks end when what is under way is settled."""
        for line in self._lines.values():
            line.stop.request()
        if self._ear is not None:
            self._ear.cancel()

    async def _run(self, line: Line, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        await line.run()
        if self._lines.get(line.queue.endpoint) is None:
            await _tell_removed(line.queue)

    def _listen_anew(self) -> None:
        channels = sorted(line.queue.channel for line in self._lines.values())
        if channels == self._channels:
            return
        self._channels = channels
        if self._ear is not None:
            self._ear.cancel()
        self._ear = self._group.create_task(self._listen(channels)) if channels else None

    async def _listen(self, channels: list[str]) -> None:
        """Wakes dispatchers when something new is accepted. Without it they find out half a second later."""
        while True:
            ear = self._store.redis.pubsub(ignore_subscribe_messages=True)
            try:
                await ear.subscribe(*channels)
                while True:
                    message = await ear.get_message(timeout=60)
                    if message is not None:
                        self._wake(message["channel"].decode(), message["data"])
            except (RedisError, OSError):
                await asyncio.sleep(0.5)
            finally:
                await ear.aclose()  # type: ignore[no-untyped-call]

    def _wake(self, channel: str, partitions: bytes) -> None:
        for line in self._lines.values():
            if line.queue.channel == channel:
                line.dispatcher.wake(partitions)


async def _report(store: Store, name: str, lines: _EndpointRelays) -> None:
    """Only a process that progresses says that it is alive."""
    if lines.seconds_stuck < presence.STUCK:
        await presence.report(store, name)
    else:
        LOG.error("relay.stuck", for_s=round(lines.seconds_stuck, 1))


async def _tell_removed(queue: Queue) -> None:
    """What waits for an endpoint that is no longer in the policies stays in the store until it is put back."""
    try:
        counts = await queue.counts()
    except (StoreAway, StoreRefused):
        LOG.warning("endpoint.removed", endpoint=queue.endpoint)
    else:
        LOG.warning("endpoint.removed", endpoint=queue.endpoint, waiting=counts.waiting, dead=counts.dead)
