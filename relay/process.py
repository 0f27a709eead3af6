"""The relay process: it runs one `EndpointRelay` for each endpoint until it is stopped.

An edit of the policies replaces those whose endpoint it touches and leaves the others alone. One that is replaced
finishes and settles what is in flight before its successor leases anything, so that nothing is lost, sent twice or
overtaken, and there is never more in flight than either policy allows.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from dataclasses import replace
from typing import TypeVar

from redis.exceptions import RedisError

from relay import presence
from relay.circuit import Circuit, circuit_key
from relay.deliver.sender import Sender
from relay.deliver.traced import TracedSender
from relay.dispatch.loop import Dispatcher
from relay.policies import Endpoint, RelaySnapshot, Retention
from relay.queue import janitor, order
from relay.queue.layout import PARTITIONS, any_key
from relay.queue.queue import Queue
from sluice.config.live import LivePolicies
from sluice.history.recorder import Recorder
from sluice.observe import log as logs, tracing
from sluice.observe.log import Log
from sluice.process import service
from sluice.process.by_settings import BySettings
from sluice.process.loops import Stop, every, tune_gc
from sluice.store import clock
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("relay")
P = TypeVar("P", bound=RelaySnapshot)
_STORE_TIMEOUT = 5.0
_LEASE = 5.0  # seconds after which the deliveries of a killed process go to another; extended during an attempt
_PROBE_MARGIN = 5.0  # seconds between the end of the longest attempt and giving its probe to another


def open_queue(store: Store, endpoint: Endpoint, policies: RelaySnapshot) -> Queue:
    """The queue of an endpoint, with the same settings in every process."""
    backlog = policies.relay.backlog
    return Queue(
        store,
        endpoint.name,
        lease=_LEASE,
        max_bytes=backlog.bytes,
        max_events=backlog.events,
        in_order=endpoint.order == "session",
        max_per_stream=endpoint.batch.max if endpoint.batch else 1,
        keep_history=policies.relay.retention.delivered > 0,
        required=endpoint.required,
        keep_bodies=policies.relay.retention.bodies > 0,
        remember=policies.relay.remember,
        attempt=endpoint.timeout,
    )


def open_circuit(store: Store, endpoint: Endpoint) -> Circuit:
    """The circuit of an endpoint, with the same settings in every process."""
    return Circuit(store, endpoint.name, endpoint.circuit, endpoint.rate, probe_lease=endpoint.timeout + _PROBE_MARGIN)


def settings_of(policies: RelaySnapshot, endpoint: Endpoint) -> object:
    """All that the relaying of an endpoint depends on: it is replaced when any of this differs."""
    signature = policies.signatures[endpoint.sign] if endpoint.sign else None
    return endpoint, signature, replace(policies.relay, endpoints={})


async def run(live: LivePolicies[P], store_url: str, stop: Stop) -> None:
    """Delivers until stopped, then finishes what is in flight. Edits of the policies' file go live meanwhile."""
    store = Store(store_url, timeout=_STORE_TIMEOUT)
    name = f"{socket.gethostname()}:{os.getpid()}"
    policies = live.current

    async def drop_dead() -> None:
        relay = live.current.relay
        await janitor.run_once(store, relay.endpoints, relay.retention)

    def slots() -> list[str]:
        circuits = [circuit_key(endpoint) for endpoint in live.current.relay.endpoints]
        return [*(any_key(partition) for partition in range(PARTITIONS)), *circuits]

    def apply(edited: P) -> None:
        relays.apply(edited)
        logs.apply(edited.log)

    tune_gc()
    LOG.info("relay.started", endpoints=list(policies.relay.receivers), revision=policies.revision)
    try:
        async with asyncio.TaskGroup() as group:
            relays = _EndpointRelays(store, group)
            relays.apply(policies)
            group.create_task(every(janitor.EVERY, stop, drop_dead))
            group.create_task(every(order.EVERY, stop, relays.sort))
            group.create_task(every(janitor.TRIM_EVERY, stop, lambda: relays.trim(live.current.relay.retention)))
            group.create_task(every(clock.EVERY, stop, clock.Watch(store, slots).run_once))
            group.create_task(every(presence.EVERY, stop, lambda: _report(store, name, relays)))
            group.create_task(Recorder(store, f"{name}:{secrets.token_hex(4)}").run(stop))
            group.create_task(live.watch(stop, apply))
            service.ready()
            await stop.wait()
            relays.stop()
    finally:
        await store.close()
    LOG.info("relay.stopped")


class EndpointRelay:
    """The queue of an endpoint, its circuit, its connections, and the loop that moves its deliveries."""

    def __init__(self, store: Store, endpoint: Endpoint, policies: RelaySnapshot) -> None:
        self.queue = open_queue(store, endpoint, policies)
        self.stop = Stop()
        self._store = store
        self._in_order = endpoint.order == "session"
        circuit = open_circuit(store, endpoint)
        self._sender = Sender(endpoint, policies.signatures[endpoint.sign] if endpoint.sign else None)
        tracer = tracing.tracer()
        self.dispatcher = Dispatcher(
            self.queue,
            circuit,
            self._sender if tracer is None else TracedSender(self._sender, tracer, endpoint.name),
            retry=endpoint.retry,
            concurrency=endpoint.concurrency,
            batch=endpoint.batch,
        )

    async def run(self) -> None:
        """Until stopped; then what is in flight is finished and settled."""
        try:
            await self._keep_order()
            await self.dispatcher.run(self.stop)
        finally:
            await self._sender.close()

    async def sort(self) -> None:
        """What could not be put in order when it began. While the store is away nothing is done; the next run will."""
        if self._in_order and not self.stop.requested:
            try:
                await order.go_on(self._store, self.queue.endpoint)
            except (StoreAway, StoreRefused):
                return

    async def _keep_order(self) -> None:
        """Before anything is leased: else newer events could pass older ones that wait in another form."""
        while not self.stop.requested:
            try:
                await order.keep(self._store, self.queue.endpoint, in_order=self._in_order)
            except (StoreAway, StoreRefused):
                await self.stop.sleep(order.EVERY)
            else:
                return


class _EndpointRelays:
    """Those that run now. Their tasks are in `group`: one that crashes ends the process."""

    def __init__(self, store: Store, group: asyncio.TaskGroup) -> None:
        self._store = store
        self._group = group
        self._relays: BySettings[EndpointRelay] = BySettings()
        self._newest: dict[str, asyncio.Task[None]] = {}
        """By endpoint: the task of the newest one. Its predecessors have ended before it begins."""
        self._channels: list[str] = []
        self._listener: asyncio.Task[None] | None = None

    def apply(self, policies: RelaySnapshot) -> None:
        """Switches to these policies. Where something cannot be created it raises before anything has changed."""
        endpoints = policies.relay.receivers
        before = self._relays
        self._relays = before.edited(
            {name: settings_of(policies, endpoint) for name, endpoint in endpoints.items()},
            lambda name: EndpointRelay(self._store, endpoints[name], policies),
        )
        for relay in before.missing_in(self._relays).values():
            relay.stop.request()
        for name, relay in self._relays.missing_in(before).items():
            self._newest[name] = self._group.create_task(self._run(relay, self._newest.get(name)))
        self._update_listener()

    @property
    def seconds_stuck(self) -> float:
        """Seconds since the last poll of the one that has gone longest without."""
        return max((relay.dispatcher.seconds_stuck for relay in self._relays.things.values()), default=0.0)

    async def sort(self) -> None:
        for relay in self._relays.things.values():
            await relay.sort()

    async def trim(self, retention: Retention) -> None:
        """Where a delivery has become a dead letter since the last time, or its body was kept."""
        for relay in self._relays.things.values():
            queue = relay.queue
            had_buried, had_kept = queue.has_buried, queue.has_kept
            queue.has_buried = queue.has_kept = False
            try:
                if had_buried:
                    await janitor.trim_dead(self._store, queue.endpoint, retention)
                if had_kept:
                    await janitor.trim_kept(self._store, queue.endpoint, retention)
            except (StoreAway, StoreRefused):
                queue.has_buried, queue.has_kept = had_buried or queue.has_buried, had_kept or queue.has_kept

    def stop(self) -> None:
        """Nothing more is leased; the tasks end when what is in flight is settled."""
        for relay in self._relays.things.values():
            relay.stop.request()
        if self._listener is not None:
            self._listener.cancel()

    async def _run(self, relay: EndpointRelay, predecessor: asyncio.Task[None] | None) -> None:
        if predecessor is not None:
            await asyncio.wait([predecessor])
        await relay.run()
        if self._relays.things.get(relay.queue.endpoint) is None:
            await _log_removed(relay.queue)

    def _update_listener(self) -> None:
        channels = sorted(relay.queue.channel for relay in self._relays.things.values())
        if channels == self._channels:
            return
        self._channels = channels
        if self._listener is not None:
            self._listener.cancel()
        self._listener = self._group.create_task(self._listen(channels)) if channels else None

    async def _listen(self, channels: list[str]) -> None:
        """Wakes dispatchers when something new is accepted. Without it they notice half a second later."""
        while True:
            subscriber = self._store.redis.pubsub(ignore_subscribe_messages=True)
            try:
                await subscriber.subscribe(*channels)
                while True:
                    message = await subscriber.get_message(timeout=60)
                    if message is not None:
                        self._wake(message["channel"].decode(), message["data"])
            except (RedisError, OSError):
                await asyncio.sleep(0.5)
            finally:
                await subscriber.aclose()  # type: ignore[no-untyped-call]

    def _wake(self, channel: str, partitions: bytes) -> None:
        for relay in self._relays.things.values():
            if relay.queue.channel == channel:
                relay.dispatcher.wake(partitions)


async def _report(store: Store, name: str, relays: _EndpointRelays) -> None:
    """Only a process that makes progress reports that it is alive."""
    if relays.seconds_stuck < presence.STUCK:
        await presence.report(store, name)
    else:
        LOG.error("relay.stuck", for_s=round(relays.seconds_stuck, 1))


async def _log_removed(queue: Queue) -> None:
    """What waits for an endpoint that is no longer in the policies stays in the store until the endpoint is back."""
    try:
        counts = await queue.counts()
    except (StoreAway, StoreRefused):
        LOG.warning("endpoint.removed", endpoint=queue.endpoint)
    else:
        LOG.warning("endpoint.removed", endpoint=queue.endpoint, waiting=counts.waiting, dead=counts.dead)
