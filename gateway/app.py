"""What a gateway is made of: opened, kept up to date with the policies, and closed in order."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from starlette.routing import BaseRoute

from gateway import charts, metrics, reserved
from gateway.alerts.decide import Seen
from gateway.alerts.engine import Engine, open_engine
from gateway.edge import Edge
from gateway.ingest import endings
from gateway.ingest.hold import Hold
from gateway.ingest.webhooks import Ingest
from gateway.lifecycle import Lifecycle
from gateway.limits import delays, peers
from gateway.limits.held import HeldRequests
from gateway.limits.limiter import Limiter
from gateway.outbox import dispatching as outbox_loop
from gateway.outbox.dispatching import Dispatching
from gateway.outbox.handing import HandOver
from gateway.outbox.outbox import Outbox
from gateway.outbox.receipts import MessageIds
from gateway.outbox.results import Results
from gateway.policies import KINDS, Policies, Upstream, edits
from gateway.proxy import health
from gateway.proxy.balancing import BalancedUpstream
from gateway.proxy.circuit import UpstreamCircuit
from gateway.proxy.failing import Failing
from gateway.proxy.health import Checks
from gateway.proxy.shares import ShareRule
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.websocket import BalancedWebSocket, WebSocketUpstream
from gateway.reload import ConnectedUpstream, Reloader, Snapshot
from gateway.resources import Resources
from gateway.tokens import TokenGuard
from gateway.vault import GatewayVault
from gateway.workers import activity, deletes
from gateway.workers.accounts import Division, divides
from gateway.workers.connections import LOOK_EVERY
from gateway.workers.proxy import WorkerProxy
from gateway.workers.send_records import SendRecords
from gateway.workers.sends import Sends
from relay import inflow
from relay.inflow import Inflow
from relay.policies import OF_SENDS, OUTBOX
from relay.process import open_queue, settings_of
from relay.progress import Progress
from relay.queue.inbox import Inbox
from relay.queue.replicated import Replicated
from sessions import registry
from sessions.changes import Changes
from sessions.existing import ExistingWorkers, WatchedWorker
from sessions.instances import Instances
from sessions.keeper import Keeper
from sessions.lifecycle import cleaning, scaler, traffic, watching, yielding
from sessions.profiles import summary as vault_summary
from sessions.profiles.summary import VaultWatch
from sessions.registry import Registry
from sessions.wakeups import Wakeups
from sluice.config.live import LivePolicies
from sluice.history import rings
from sluice.history.recorder import Recorder
from sluice.http.bodies import BodyBudget
from sluice.http.server.certificates import Certificate
from sluice.observe import log as logs, recent
from sluice.process.by_settings import BySettings
from sluice.process.loops import Stop, every
from sluice.store import clock
from sluice.store.client import Store, StoreAway, StoreRefused

_STORE_TIMEOUT = 2.0
_WORKERS = Upstream("workers", "", connect=1.0, headers=30.0, idle=60.0)
_TIDY_EVERY = 60.0

Console = Callable[[Resources], Sequence[BaseRoute]]
"""The routes that the console adds to the reserved paths, of what it looks at."""
Observe = Callable[[Resources, bool], Awaitable[Seen]]
"""How the console finds out what is wrong, for alerts; True: only what this machine alone knows."""


async def nothing_seen(_: Resources, here: bool) -> Seen:
    return Seen((), frozenset(KINDS))


@asynccontextmanager
async def opened(
    policies: Policies,
    store_url: str,
    console: Console,
    certificates: Sequence[Certificate] = (),
    observe: Observe = nothing_seen,
) -> AsyncIterator[Reloader]:
    """A gateway that answers whatever is handed to it, until the block is left. A loop that crashes ends the block."""
    # No two that ever ran have the same name, also where each is process 1 of its container.
    name, stop = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}", Stop()
    parts = _Parts(policies, store_url, name, certificates)
    await parts.look()
    reloader = Reloader(policies, lambda policies, before: _snapshot(parts, policies, before, console), parts.let_go)
    parts.alerts = open_engine(
        parts.store,
        name,
        lambda: parts.live.current,
        lambda: observe(reloader.snapshot.resources, False),
        lambda: observe(reloader.snapshot.resources, True),
    )
    failing = Failing()
    try:
        async with asyncio.TaskGroup() as group:
            watch, dispatching = _Watch(parts, group), Dispatching(parts.store, parts.hand_over, group)
            parts.outbox.wake = dispatching.wake

            def apply(policies: Policies) -> None:
                reloader.apply(policies)
                parts.limiter.forget()
                parts.bodies.limit = policies.bodies
                parts.shares.apply(policies)
                parts.tokens.apply(policies.admin.refused)
                parts.sends.apply(policies.sessions.shields)
                parts.workers.apply(policies.sessions)
                parts.lifecycle.apply(policies)
                watch.apply(policies)
                parts.outbox.apply(policies)
                dispatching.apply(policies)
                logs.apply(policies.log)

            watch.apply(policies)
            dispatching.apply(policies)
            await parts.vault.sweep()
            parts.changes.subscribe(parts.workers.changed)
            group.create_task(every(deletes.EVERY, stop, parts.workers.deletes.run_once))
            group.create_task(every(_TIDY_EVERY, stop, parts.workers.close_unused))
            group.create_task(every(LOOK_EVERY, stop, parts.workers.end_lapsed))
            group.create_task(every(yielding.EVERY, stop, lambda: _let_yield(parts, reloader.snapshot)))
            group.create_task(every(outbox_loop.EVERY, stop, dispatching.run_once))
            group.create_task(every(endings.EVERY, stop, lambda: _tell_endings(parts, reloader.snapshot)))
            group.create_task(every(cleaning.EVERY, stop, lambda: _clean(parts, reloader.snapshot)))
            group.create_task(every(activity.EVERY, stop, lambda: parts.workers.activity.report(parts.registry)))
            group.create_task(every(scaler.EVERY, stop, lambda: _scale(parts, reloader.snapshot)))
            group.create_task(every(traffic.EVERY, stop, lambda: _tell_traffic(parts, reloader.snapshot)))
            group.create_task(every(watching.EVERY, stop, lambda: _watch_sessions(parts, reloader.snapshot)))
            group.create_task(every(clock.EVERY, stop, clock.Watch(parts.store, parts.slots).run_once))
            group.create_task(every(peers.EVERY, stop, lambda: _be_there(parts, name)))
            group.create_task(every(inflow.EVERY, stop, lambda: _note_inflows(reloader.snapshot.resources)))
            group.create_task(
                every(delays.EVERY, stop, lambda: parts.delays.run_once(reloader.snapshot.resources.policies))
            )
            group.create_task(
                every(
                    vault_summary.EVERY,
                    stop,
                    lambda: parts.vault_watch.run_once(reloader.snapshot.resources.policies.sessions.vault),
                )
            )
            group.create_task(every(recent.EVERY, stop, lambda: _note_failing(failing)))
            group.create_task(every(health.EVERY, stop, lambda: _check_members(reloader.snapshot)))
            group.create_task(_recorder(parts, name, reloader).run(stop))
            group.create_task(parts.alerts.run(stop))
            group.create_task(parts.changes.run(stop))
            group.create_task(Keeper(parts.registry, parts.changes).run(stop))
            group.create_task(parts.live.watch(stop, apply))
            try:
                yield reloader
            finally:
                stop.request()
                watch.stop()
                dispatching.close()
    finally:
        await reloader.close()
        await parts.close()


async def _be_there(parts: _Parts, name: str) -> None:
    await parts.sends.note_left()
    await peers.run_once(parts.limits_store, name, parts.limiter)


class _Parts:
    """What no edit of the policies replaces."""

    alerts: Engine
    stores_sends = True
    """Or did so, under other policies: their callers may know messages by ids of ours."""

    def __init__(self, policies: Policies, store_url: str, name: str, certificates: Sequence[Certificate]) -> None:
        self.store = Store(store_url, timeout=_STORE_TIMEOUT)
        self.limits_store = Store(store_url, timeout=policies.store.timeout)
        # What waits for a replica keeps nobody else waiting.
        self.inbox_store = Store(store_url, timeout=_STORE_TIMEOUT)
        self.registry = Registry(self.store, policies.sessions.lease)
        self.vault_watch = VaultWatch(self.store, self.registry)
        self.changes = Changes(self.store)
        self.wakeups = Wakeups(self.changes)
        self.limiter = Limiter(self.limits_store)
        self.delays = delays.Delays(self.store)
        replicas = 1 if policies.store.promise == "replica" else 0
        inbox = Inbox(self.inbox_store, replicas=replicas)
        self.inflows: defaultdict[str, Inflow] = defaultdict(Inflow)
        self.progress = Progress()
        self.began = time.monotonic()
        self.certificates = certificates
        self.tokens = TokenGuard(policies.admin.refused)
        self.endless = Stop()
        self.existing: Sequence[ExistingWorkers] = ()
        self.instances = Instances()
        self.live: LivePolicies[Policies] = edits.live(policies)
        self.bodies = BodyBudget(policies.bodies)
        self.shares = ShareRule(policies)
        self.workers = WorkerProxy(self.registry, _WORKERS, policies.sessions, self.bodies, self.shares)
        self.hold = Hold(inbox, self.bodies)
        self.held = HeldRequests(self.limiter, self.limits_store, self.bodies)
        self.vault = GatewayVault(store_url, policies.data)
        self.results = Results(self.store, name, Replicated(self.inbox_store, replicas=replicas))
        self.results.receipts = self.message_ids = MessageIds(self.store)
        self.outbox = Outbox(self.store, self.hold, self.results, policies)
        self.hand_over = HandOver(self.results, self.limiter, self.store, self.workers.ways, policies)
        self.sends = Sends(self.workers, SendRecords(self.store, name), self.bodies, self.outbox)
        self.sends.apply(policies.sessions.shields)
        self.lifecycle = Lifecycle(self.registry, self.store, name, policies, self.workers.traffic)

    async def look(self) -> None:
        """At what was there before."""
        with suppress(StoreAway, StoreRefused):
            self.stores_sends = (await open_queue(self.store, OF_SENDS, self.live.current).counts()).accepted > 0

    def slots(self) -> list[str]:
        """Some key of each slot whose time this gateway keeps; the relays keep that of the queues."""
        return [*self.limiter.slots, *registry.KEY_PATTERNS[:1], rings.KEY_PATTERNS[0]]

    def watched(self) -> Sequence[WatchedWorker]:
        """The existing workers, as they were last seen."""
        return [seen for existing in self.existing for seen in existing.seen]

    def let_go(self) -> None:
        """Ends what waits longer than a gateway that stops has time."""
        self.endless.request()
        self.held.stop()
        self.results.stop()
        self.sends.stop()
        self.wakeups.close()

    async def close(self) -> None:
        await self.lifecycle.close()
        await self.sends.close()
        await self.outbox.close()
        await self.workers.close()
        await self.held.close()
        await self.vault.close()
        for store in (self.store, self.limits_store, self.inbox_store):
            await store.close()


def _snapshot(parts: _Parts, policies: Policies, before: Snapshot | None, console: Console) -> Snapshot:
    """What these policies ask for. Of `before` it has all that they leave as it was."""
    endpoints = policies.relay.endpoints
    queues = (before.queues if before else BySettings()).edited(
        {name: settings_of(policies, endpoint) for name, endpoint in endpoints.items()},
        lambda name: open_queue(parts.store, endpoints[name], policies),
    )
    upstreams = (before.upstreams if before else BySettings()).edited(
        policies.upstreams, lambda name: _connected(policies.upstreams[name], parts.shares)
    )
    resources = Resources(
        *(policies, parts.store, parts.registry, queues.things, parts.live),
        *(parts.inflows, parts.progress, parts.watched, parts.began, parts.instances),
        *(parts.certificates, parts.tokens, lambda: parts.vault_watch.seen, parts.endless),
        alerts=lambda: parts.alerts.known,
    )
    parts.stores_sends = parts.stores_sends or OUTBOX in endpoints
    message_ids = parts.message_ids if parts.stores_sends else None
    hear = parts.workers.activity.note if policies.sessions.rebalance else None
    known = (parts.instances, parts.registry, message_ids, hear, parts.workers.traffic)
    ingest = Ingest(policies, queues.things, parts.hold, *known)
    edge = Edge(
        policies,
        parts.limiter,
        ingest,
        parts.workers,
        parts.sends,
        parts.outbox,
        {name: upstream.http for name, upstream in upstreams.things.items()},
        {name: upstream.websocket for name, upstream in upstreams.things.items()},
        parts.bodies,
        parts.hold,
        parts.held,
        Division(policies.sessions, parts.store, parts.registry, parts.watched) if divides(policies.sessions) else None,
    )
    vault = parts.vault.routes(policies)
    app = reserved.build(resources, ingest, parts.wakeups, parts.bodies, vault, console(resources))
    return Snapshot(resources, edge, ingest, app, queues, upstreams, policies.clients.bounds(), parts.shares)


def _connected(upstream: Upstream, rule: ShareRule) -> ConnectedUpstream:
    circuit = UpstreamCircuit(upstream.name, show=metrics.upstream_circuit)
    if not upstream.urls and upstream.health is None:
        return ConnectedUpstream(UpstreamClient(upstream, rule, circuit), WebSocketUpstream(upstream, circuit))
    balanced = BalancedUpstream(upstream, rule, circuit)
    checks = Checks(upstream, balanced.members) if upstream.health else None
    return ConnectedUpstream(balanced, BalancedWebSocket(upstream, circuit, balanced), checks)


def _recorder(parts: _Parts, name: str, reloader: Reloader) -> Recorder:
    return Recorder(
        parts.store,
        name,
        lambda: charts.levels(reloader.snapshot.policies),
        lambda: charts.look(reloader.snapshot.resources),
    )


async def _note_inflows(resources: Resources) -> None:
    """While the store is away nothing is noted."""
    for name, queue in resources.queues.items():
        try:
            counts = await queue.counts()
        except (StoreAway, StoreRefused):
            return
        resources.inflows[name].note(time.monotonic(), counts.accepted - counts.stale)
        rate = resources.policies.relay.endpoints[name].rate
        resources.progress.note(name, counts, rate.interval if rate else 0.0)


async def _tell_endings(parts: _Parts, snapshot: Snapshot) -> None:
    await parts.lifecycle.tell(snapshot.policies, snapshot.ingest)


async def _let_yield(parts: _Parts, snapshot: Snapshot) -> None:
    await parts.lifecycle.let_yield(snapshot.policies)


async def _clean(parts: _Parts, snapshot: Snapshot) -> None:
    await parts.lifecycle.clean(snapshot.policies, parts.vault.erase_by(snapshot.policies))


async def _scale(parts: _Parts, snapshot: Snapshot) -> None:
    await parts.lifecycle.scale(snapshot.policies)


async def _tell_traffic(parts: _Parts, snapshot: Snapshot) -> None:
    await parts.lifecycle.tell_traffic(snapshot.policies)


async def _watch_sessions(parts: _Parts, snapshot: Snapshot) -> None:
    await parts.lifecycle.watch(snapshot.policies)


async def _check_members(snapshot: Snapshot) -> None:
    await health.run_once([upstream.checks for upstream in snapshot.upstreams.things.values() if upstream.checks])


async def _note_failing(failing: Failing) -> None:
    await recent.run_once()
    failing.note(time.time())


class _Watch:
    """Over existing workers, each by itself in `group`: an edit of one leaves the others watched as they were."""

    def __init__(self, parts: _Parts, group: asyncio.TaskGroup) -> None:
        self._parts = parts
        self._group = group
        self._watched: BySettings[tuple[ExistingWorkers, Stop]] = BySettings()

    def apply(self, policies: Policies) -> None:
        sessions = policies.sessions
        settings = {worker.name: (worker, sessions.most) for worker in sessions.workers}

        def begin(name: str) -> tuple[ExistingWorkers, Stop]:
            worker, capacity = settings[name]
            return ExistingWorkers(self._parts.registry, [worker], capacity), Stop()

        before, self._watched = self._watched, self._watched.edited(settings, begin)
        for _, stop in before.missing_in(self._watched).values():
            stop.request()
        for existing, stop in self._watched.missing_in(before).values():
            self._group.create_task(existing.run(stop))
        self._parts.existing = [existing for existing, _ in self._watched.things.values()]

    def stop(self) -> None:
        for _, stop in self._watched.things.values():
            stop.request()
