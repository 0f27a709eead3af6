"""What is wrong now, as the rules for alerts name it: of the status, as everybody sees it.

`observe` is what `gateway.alerts` looks with. docs/alerts.md says what each kind means. What only one machine knows is
found on each of them, and says on which.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace

from gateway.alerts.decide import Found, Seen
from gateway.policies import KINDS, Policies
from gateway.proxy.failing import failed, is_failing
from gateway.resources import Resources
from relay.policies import OUTBOX
from sluice.console.actions import status as looking
from sluice.console.messages import age, topics
from sluice.console.messages.faults import faults
from sluice.console.messages.wording import SENDS_CURE, size, some, things
from sluice.console.status import EndpointStatus, LimitDecisions, ShowStatus, Status, UpstreamStatus, WorkerStatus
from sluice.history.rings import read
from sluice.store.client import StoreAway, StoreRefused

_ENOUGH = 20
"""Requests: of fewer a share says little."""
_OF_MACHINE = frozenset(("policies", "listeners", "traffic", "console", "machine"))
"""Topics of what is told of requests, of the file of the policies and of the machine."""
_GROWING = "dead_letters_growing"
_KNOWN_WITHOUT_STORE = frozenset(
    ("store_away", "policies_rejected", "upstream_failing", "limit_refusing", "worker_never_seen")
)


async def observe(resources: Resources, here: bool = False) -> Seen:
    """`here`: only what this machine alone knows, without the store."""
    if here:
        return Seen(tuple(one for one in seen_in(await looking.here(resources), {}).found if one.machine))
    status = await looking.show(resources, ShowStatus())
    fewest = await _fewest_dead(resources) if _asks_for_growth(resources.policies) else {}
    return seen_in(status, fewest)


def seen_in(status: Status, fewest_dead: Mapping[str, float] | None) -> Seen:
    """`fewest_dead`: of the last hour, by endpoint; None: that is not known now."""
    unknown = frozenset[str]() if status.store.ok else frozenset(KINDS) - _KNOWN_WITHOUT_STORE
    if fewest_dead is None:
        unknown |= {_GROWING}
    found = (*_found(status), *_growing(status, fewest_dead or {}))
    return Seen(tuple(map(_placed, found)), unknown)


def _placed(found: Found) -> Found:
    if not _is_of_machine(found):
        return found
    machine = socket.gethostname()
    return replace(found, machine=machine, text=f"on {machine}: {found.text}")


def _is_of_machine(found: Found) -> bool:
    match found.kind:
        case "policies_rejected" | "upstream_failing" | "limit_refusing":
            return True
        case "store_nearly_full":
            return found.subject == "disk"
        case "anything_wrong":
            return found.subject in _OF_MACHINE or found.subject.startswith("upstream ")
    return False


def _asks_for_growth(policies: Policies) -> bool:
    return any(rule.when == _GROWING for rule in policies.alerts.rules)


async def _fewest_dead(resources: Resources) -> Mapping[str, float] | None:
    try:
        steps = await read(resources.store, "hour")
    except (StoreAway, StoreRefused):
        return None
    dead = {one.of: values for one, values in steps.series.items() if one.chart == "dead"}
    return {name: min(value for value in values if value is not None) for name, values in dead.items()}


def _growing(status: Status, fewest_dead: Mapping[str, float]) -> Iterator[Found]:
    for name, endpoint in status.endpoints.items():
        dead = endpoint.dead or 0
        grown = dead - fewest_dead.get(name, dead)
        if grown > 0:
            came = some(round(grown), "dead letter came", "dead letters came")
            text = f"endpoint {name}: {came} within the last hour, {dead} wait for a person: sluice dead list"
            yield Found(_GROWING, name, text, grown)


def _found(status: Status) -> Iterator[Found]:
    yield from _deployment(status)
    for name, endpoint in status.endpoints.items():
        yield from _endpoint(name, endpoint)
    for name, upstream in status.upstreams.items():
        yield from _upstream(name, upstream)
    for limit, decisions in status.last_minute.limits.items():
        yield from _limit(limit, decisions)
    yield from _workers(status)
    yield from _sessions(status)
    yield from _faults(status)
    yield from _vault(status)
    yield from _anything(status)


def _deployment(status: Status) -> Iterator[Found]:
    store, jump = status.store, status.clock_jump
    if not store.ok:
        text = f"the store does not answer ({store.why}): webhooks are held, then refused, and nothing is delivered"
        yield Found("store_away", "", f"{text}; see its host, and sluice status")
    if status.relays == 0 and status.endpoints.keys() - {OUTBOX}:
        yield Found("no_relay", "", "no relay is running: events are accepted and wait; start sluice relay")
    if status.policies.problems:
        first = status.policies.problems[0]
        yield Found(
            "policies_rejected",
            "",
            f"{status.policies.source} is wrong (line {first.line}: {first.key} {first.message}), so revision "
            f"{status.revision} stays in force: sluice check",
        )
    if jump is not None:
        way = "back" if jump.jumped_s < 0 else "forward"
        yield Found("clock_jumped", "", f"the store's clock jumped {way} by {age(abs(jump.jumped_s))}: timedatectl")
    if store.memory is not None and store.max_memory:
        used = store.memory / store.max_memory
        text = f"the store uses {used:.0%} of its maxmemory ({size(store.max_memory)}); at 100% it refuses writes"
        yield Found("store_nearly_full", "memory", f"{text}: raise maxmemory, or let less wait", used)
    if status.disk is not None and status.disk.total:
        used = 1 - status.disk.free / status.disk.total
        text = f"the disk of {status.disk.path} is {used:.0%} full, {size(status.disk.free)} left"
        yield Found("store_nearly_full", "disk", f"{text}: free some, or move data to a larger one", used)


def _endpoint(name: str, endpoint: EndpointStatus) -> Iterator[Found]:
    """What only the store knows is null while it is away."""
    circuit, waiting = endpoint.circuit, endpoint.waiting or 0
    waits = things(name, waiting, "waits", "wait")
    if circuit is not None and circuit.state != "closed":
        how = "held open by a person" if circuit.held else circuit.state
        why = f" ({circuit.why})" if circuit.why else ""
        text = f"endpoint {name}: its circuit is {how}{why}, and {waits}: sluice circuit show {name}"
        yield Found("circuit_open", name, text)
    if endpoint.oldest_due_s is not None:
        text = f"endpoint {name}: {waits}, the oldest for {age(endpoint.oldest_due_s)}: sluice status says why"
        yield Found("backlog_age", name, text, endpoint.oldest_due_s)
    if endpoint.waiting is not None:
        full = max(waiting / endpoint.backlog.events, (endpoint.bytes or 0) / endpoint.backlog.bytes)
        refused, delayed = (
            "events are refused, or leave it out",
            "cure what delays the deliveries, or raise relay.backlog",
        )
        then = f"sends are refused: {SENDS_CURE}" if name == OUTBOX else f"{refused}: {delayed}"
        yield Found("backlog_full", name, f"endpoint {name}: its backlog is {full:.0%} full; at 100% {then}", full)
    if endpoint.dead:
        text = f"endpoint {name}: {some(endpoint.dead, 'dead letter waits', 'dead letters wait')} for a person"
        yield Found("dead_letters", name, f"{text}: sluice dead list", float(endpoint.dead))


def _upstream(name: str, upstream: UpstreamStatus) -> Iterator[Found]:
    if upstream.circuit == "closed" and not is_failing(upstream.outcomes):
        return
    bad, total = failed(upstream.outcomes), sum(upstream.outcomes.values())
    text = f"upstream {name}: {bad} of {total} requests of the last minute failed"
    circuit = "" if upstream.circuit == "closed" else f", and its circuit is {upstream.circuit}"
    yield Found("upstream_failing", name, f"{text}{circuit}: start it or cure it; sluice status says how they failed")


def _limit(limit: str, decisions: LimitDecisions) -> Iterator[Found]:
    counted = decisions.allowed + decisions.delayed + decisions.dropped + decisions.rejected
    if counted >= _ENOUGH and decisions.rejected:
        share = decisions.rejected / counted
        text = f"limit {limit} refuses {share:.0%}: {decisions.rejected} of {counted} requests of the last minute"
        yield Found("limit_refusing", limit, f"{text}; sluice limits show says how full its buckets are", share)


def _workers(status: Status) -> Iterator[Found]:
    silent = {one.worker: one for one in status.existing if one.why is not None}
    never = {name for name, one in silent.items() if not one.answered}
    for worker in status.workers:
        if worker.lost and worker.worker not in never and (worker.sessions or worker.worker in silent):
            yield Found("worker_lost", worker.worker, _lost(worker))
    known = {worker.worker for worker in status.workers if worker.lost}
    for name, one in silent.items():
        if name in never:
            text = f"worker {name} of sessions.workers has never answered at {one.url} ({one.why})"
            yield Found("worker_never_seen", name, f"{text}: start it, or take it out of sessions.workers")
        elif name not in known:
            text = f"worker {name} does not answer at {one.url} ({one.why}) for {age(one.since_s)}"
            yield Found("worker_lost", name, f"{text}: start it again")


def _lost(worker: WorkerStatus) -> str:
    its = some(worker.sessions, "session has", "sessions have")
    return f"worker {worker.worker} is lost; its {its} no worker: sluice sessions list --worker {worker.worker}"


def _sessions(status: Status) -> Iterator[Found]:
    for worker in status.existing:
        for one in worker.disputed:
            text = f"session {one.session} runs at {one.owner} and at {one.also_at}: close it at the second"
            yield Found("session_disputed", one.session, text)
    for rival in status.rivals:
        text = f"session {rival.session} at {rival.worker} is connected with the phone of session {rival.stays}"
        yield Found(
            "session_disputed", rival.session, f"{text}: sluice sessions clean --duplicates, or see sessions.one_phone"
        )


def _faults(status: Status) -> Iterator[Found]:
    """By kind, not by session: the status names only some of them, and which ones changes from look to look."""
    for fault in status.faults:
        kind = fault.kind if fault.kind in ("silent", "flapping") else "stuck"
        for sentence in faults([fault]):
            yield Found(f"session_{kind}", fault.kind, sentence, float(fault.sessions))


def _vault(status: Status) -> Iterator[Found]:
    vault = status.vault
    if vault is None:
        return
    if vault.away is not None:
        yield Found("vault_stale", "vault", f"the vault cannot be reached, so no login is saved: {vault.away}")
    if vault.late_total:
        its = some(vault.late_total, "connected session was", "connected sessions were")
        text = (
            f"{its} not saved for over {age(3 * vault.every_s)}, such as {vault.late[0].session if vault.late else '-'}"
        )
        yield Found("vault_stale", "snapshots", f"{text}: sluice vault list, and the logs of their workers")


def _anything(status: Status) -> Iterator[Found]:
    said: dict[str, list[str]] = {}
    for topic, sentences in topics(status):
        said.setdefault(topic, []).extend(sentences)
    for topic, found in said.items():
        if found:
            more = f" (and {len(found) - 1} more: sluice status)" if len(found) > 1 else ""
            yield Found("anything_wrong", topic, found[0] + more)
