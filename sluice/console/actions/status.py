"""Looks at everything that a person wants on one screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from gateway.look import Look, look, nothing_known
from gateway.policies import Policies
from gateway.resources import Resources
from relay.policies import Endpoint
from relay.queue.queue import Counts, Notice
from sessions.existing import WatchedWorker
from sessions.lifecycle.policies import KINDS, Watch
from sessions.registry import Notice as SessionNotice, Summary, WorkerRow
from sluice.config.live import LivePolicies
from sluice.console.actions.alert_status import alert_status
from sluice.console.actions.circuits import circuit_of
from sluice.console.actions.deployment import moment
from sluice.console.actions.division import division_of
from sluice.console.actions.scaling_status import scaling_status
from sluice.console.actions.traffic import Counted, counted
from sluice.console.actions.vault_status import vault_status
from sluice.console.cleanup import cleanup_status
from sluice.console.messages import messages
from sluice.console.outbox import outbox_status
from sluice.console.status import (
    Backlog,
    ClockJump,
    DiskStatus,
    DisputedSession,
    EndpointStatus,
    ExistingWorkerStatus,
    FaultStatus,
    Lately,
    ListenerStatus,
    PoliciesStatus,
    PolicyProblem,
    RemovedEndpoint,
    RivalStatus,
    SessionCounts,
    ShowStatus,
    Status,
    StoreStatus,
    UntoldEndings,
    WorkerStatus,
)
from sluice.console.worker_notes import notes_on
from sluice.http.server.binding import unserved

_EXAMPLES = 3


async def show(gateway: Resources, _: ShowStatus) -> Status:
    """Everything on one screen; while the store is away, what only it knows is null or empty."""
    now = time.time()
    seen, of_processes = await asyncio.gather(look(gateway), asyncio.to_thread(counted, gateway.policies, now))
    return _status(gateway, seen, of_processes, now)


async def here(gateway: Resources) -> Status:
    """What this machine knows without the store: the rest is null or empty, as if all were well there."""
    now = time.time()
    return _status(gateway, nothing_known(gateway), await asyncio.to_thread(counted, gateway.policies, now), now)


def _status(gateway: Resources, seen: Look, of_processes: Counted, now: float) -> Status:
    policies = gateway.policies
    lease, sessions = gateway.registry.lease, seen.sessions
    named = {one.name for one in policies.sessions.workers}
    existing = {one.worker: _existing(gateway, one, now) for one in gateway.watched()}
    status = Status(
        at=datetime.fromtimestamp(now, UTC),
        revision=policies.revision,
        policies=_policies(gateway.live),
        promise=policies.store.promise,
        store=_store(seen),
        relays=seen.relays,
        traffic=of_processes.traffic,
        endpoints={name: _endpoint(gateway, seen, one) for name, one in policies.relay.endpoints.items()},
        removed=tuple(_stranded(name, one) for name, one in seen.stranded.items()),
        workers=tuple(_worker(row, lease, named, existing) for row in (sessions.workers if sessions else ())),
        sessions=_sessions(sessions),
        clock_jump=ClockJump(seen.jump.seconds, seen.jump.ago, seen.jump.offset) if seen.jump else None,
        upstreams=of_processes.upstreams,
        existing=tuple(existing.values()),
        rivals=tuple(RivalStatus(one.session, one.stays, one.worker) for one in seen.rivals),
        one_phone=policies.sessions.one_phone.keep,
        outbox=outbox_status(seen.sends),
        cleanup=cleanup_status(policies.sessions.cleanup, seen.cleanings),
        untold=_untold(seen.untold, now),
        faults=_faults(seen, policies.sessions.watch),
        one_phone_enforced=policies.sessions.one_phone.enforce,
        advertise=policies.sessions.advertise,
        division=division_of(policies.sessions, gateway.watched(), seen.divided, now),
        last_minute=of_processes.last_minute,
        listeners=tuple(_listeners(gateway, now)),
        unserved=unserved(),
        disk=DiskStatus(seen.disk.path, seen.disk.free, seen.disk.total) if seen.disk else None,
        processes=of_processes.processes,
        up_s=time.monotonic() - gateway.began,
        scaling=scaling_status(seen, rebalances=policies.sessions.rebalance is not None),
        alerts=alert_status(policies, gateway.alerts()),
        vault=vault_status(policies.sessions.vault, seen.vault, seen.troubles, sessions),
    )
    said = messages(status)
    return replace(status, messages=tuple(text for _, text in said), message_topics=tuple(topic for topic, _ in said))


def _untold(seen: Sequence[SessionNotice], now: float) -> UntoldEndings | None:
    oldest = min((one.at for one in seen), default=None)
    return None if oldest is None else UntoldEndings(len(seen), max(0.0, now - oldest / 1000))


def _policies(live: LivePolicies[Policies]) -> PoliciesStatus:
    problems = tuple(PolicyProblem(one.line, one.column, one.key, one.message, one.hint) for one in live.problems)
    return PoliciesStatus(str(live.current.source), moment(live.loaded_at), problems, tuple(live.needs_restart))


def _store(seen: Look) -> StoreStatus:
    known = seen.store
    if known is None:
        return StoreStatus(seen.why_away is None, seen.why_away)
    return StoreStatus(
        ok=seen.why_away is None,
        why=seen.why_away,
        version=known.version,
        up_s=known.up,
        memory=known.memory,
        max_memory=known.max_memory,
        machine=known.machine,
        appends=known.appends,
        failing=known.failing,
    )


def _endpoint(gateway: Resources, seen: Look, endpoint: Endpoint) -> EndpointStatus:
    counts, circuit = seen.counts[endpoint.name], seen.circuits[endpoint.name]
    backlog = gateway.policies.relay.backlog
    interval = endpoint.rate.interval if endpoint.rate else 0.0
    return EndpointStatus(
        circuit=circuit_of(endpoint.name, circuit) if circuit else None,
        waiting=counts.waiting if counts else None,
        leased=counts.leased if counts else None,
        dead=counts.dead if counts else None,
        bytes=counts.bytes if counts else None,
        oldest_due_s=counts.oldest_due if counts else None,
        accepted=counts.accepted if counts else None,
        delivered=counts.delivered if counts else None,
        retried=counts.retried if counts else None,
        replaced=counts.replaced if counts else None,
        expired=counts.expired if counts else None,
        superseded=counts.superseded if counts else None,
        inflow=gateway.inflows[endpoint.name].per_second,
        rate=1 / endpoint.rate.interval if endpoint.rate else None,
        max_per_second=_max_per_second(endpoint),
        backlog=Backlog(backlog.events, backlog.bytes),
        stalled_s=gateway.progress.note(endpoint.name, counts, interval) if counts else 0.0,
        dead_bytes=counts.dead_bytes if counts else None,
        refused=_lately(counts, "refused"),
        left_out=_lately(counts, "left_out"),
        sorting=counts.sorting if counts else False,
        dead_dropped=_lately(counts, "capped"),
        kept_bytes=counts.kept_bytes if counts else None,
        bodies_dropped=_lately(counts, "unkept"),
    )


def _listeners(gateway: Resources, now: float) -> Iterator[ListenerStatus]:
    certificates = {one.listener: one for one in gateway.certificates}
    for listener in gateway.policies.listeners:
        known = certificates.get(listener.name)
        yield ListenerStatus(
            listener.name,
            str(listener.address),
            admin=listener in gateway.policies.admin.listen,
            certificate=str(known.files.cert) if known else None,
            ends_s=known.ends - now if known else None,
            problem=known.problem if known else None,
        )


def _lately(counts: Counts | None, what: Notice) -> Lately | None:
    found = counts.lately.get(what) if counts else None
    return Lately(found.times, found.since, found.last) if found else None


def _max_per_second(endpoint: Endpoint) -> float | None:
    if endpoint.rate is None:
        return None
    return (endpoint.batch.max if endpoint.batch else 1) / endpoint.rate.interval


def _stranded(name: str, counts: Counts) -> RemovedEndpoint:
    return RemovedEndpoint(name, counts.waiting, counts.leased, counts.dead)


def _worker(
    row: WorkerRow, lease: float, named: Collection[str], existing: Mapping[str, ExistingWorkerStatus]
) -> WorkerStatus:
    lost, is_named = row.beat_left <= 0, not row.existing or row.worker in named
    return WorkerStatus(
        worker=row.worker,
        url=row.url,
        existing=row.existing,
        sessions=row.waiting if lost and row.existing else row.sessions,
        capacity=row.capacity,
        lost=lost,
        last_beat_s=None if lost else max(0.0, lease - row.beat_left),
        beat_left_s=row.beat_left,
        reserved=row.reserved,
        waiting=row.waiting,
        draining=row.draining,
        drains_s=row.drains,
        memory=row.memory,
        cpu=row.cpu,
        dropped_events=row.dropped,
        named=is_named,
        notes=notes_on(row, existing.get(row.worker), named=is_named),
    )


def _sessions(seen: Summary | None) -> SessionCounts:
    if seen is None:
        return SessionCounts(None, None, {}, None)
    return SessionCounts(seen.total, seen.connected, seen.states, seen.unowned, seen.ended)


def _faults(seen: Look, policy: Watch) -> tuple[FaultStatus, ...]:
    counts = seen.sessions.faults if seen.sessions else {}
    names = {kind: sorted(name for name, one in seen.faults.items() if one.kind == kind) for kind in KINDS}
    return tuple(
        FaultStatus(kind, counts[kind], tuple(names[kind][:_EXAMPLES]), kind in policy.restart)
        for kind in KINDS
        if counts.get(kind)
    )


def _existing(gateway: Resources, seen: WatchedWorker, now: float) -> ExistingWorkerStatus:
    return ExistingWorkerStatus(
        worker=seen.worker,
        url=seen.url,
        why=seen.why,
        since_s=max(0.0, now - seen.since),
        answered=seen.answered,
        disputed=tuple(DisputedSession(one.session, one.owner, seen.worker) for one in seen.disputed),
        keyed=seen.keyed,
        refused=seen.refused,
        several=seen.several,
        up_s=None if seen.began is None else max(0.0, now - seen.began),
        missing=seen.missing,
        restoring_s=seen.restoring_left(now, gateway.policies.sessions.restore),
        odd=seen.odd,
        example=seen.example,
        instance=gateway.instances.of(seen.worker),
    )
