"""What a person should know now, in sentences. Pure: a status comes in; nothing to say means that all is well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluice.console.actions.circuits import CircuitOfEndpoint
from sluice.console.status import EndpointStatus, RemovedEndpoint, SessionCounts, Status, StoreStatus, WorkerStatus

_LATE = 10.0  # seconds past its time: less is how a pace and a busy second look
_NEARLY_FULL = 0.8
_BARELY_MORE = 1.05  # times the rate: what a minute more or less makes of a queue that keeps up


def messages(status: Status) -> list[str]:
    """What stops everything first, what waits for a person before what passes by itself."""
    sentences = [*_store(status.store), *_relays(status), *_policies(status)]
    for name, endpoint in status.endpoints.items():
        sentences += [f"{name}: {sentence}" for sentence in _endpoint(name, endpoint)]
    for removed in status.removed:
        sentences += _removed(removed)
    return [*sentences, *_sessions(status.workers, status.sessions)]


def age(seconds: float) -> str:
    """`12s`, `3m 5s`, `2h 10m`, `3d 4h`."""
    whole = max(0, round(seconds))
    for unit, size, rest, rest_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            small = whole % size // rest_size
            return f"{whole // size}{unit} {small}{rest}" if small else f"{whole // size}{unit}"
    return f"{whole}s"


def _store(store: StoreStatus) -> Iterator[str]:
    if not store.ok:
        yield f"the store does not answer ({store.why}): webhooks get 503 until it does; nothing accepted is lost"


def _relays(status: Status) -> Iterator[str]:
    if status.relays == 0 and status.endpoints:
        yield "no relay is running: events are accepted and wait"


def _policies(status: Status) -> Iterator[str]:
    file = status.policies
    if file.problems:
        first, others = file.problems[0], len(file.problems) - 1
        place = f"line {first.line}: " if first.line else ""
        key = f"{first.key}: " if first.key else ""
        more = f"; {_some(others, 'mistake', 'mistakes')} more: sluice check" if others else ""
        yield (
            f"{file.source} is wrong, so revision {status.revision} stays in force: "
            f"{place}{key}{first.message}; {first.hint}{more}"
        )
    if file.needs_restart:
        keys = file.needs_restart
        yield f"{file.source}: {_listed(keys)} changed, which counts from the next start on; restart Sluice"


# --- endpoints


def _endpoint(name: str, endpoint: EndpointStatus) -> Iterator[str]:
    waiting = endpoint.waiting
    if waiting is None:
        return
    circuit, too_much = endpoint.circuit, _too_much(name, endpoint)
    if circuit is not None and circuit.held:
        yield _held(name, circuit, waiting)
    elif circuit is not None and circuit.state != "closed":
        yield _circuit(circuit, waiting)
    elif (endpoint.oldest_due_s or 0.0) >= _LATE and not too_much:
        yield _late(endpoint)
    if too_much:
        yield too_much
    if endpoint.dead:
        yield f"{_some(endpoint.dead, 'dead letter waits', 'dead letters wait')} for a person: sluice dead list"
    full = max(waiting / endpoint.backlog.events, (endpoint.bytes or 0) / endpoint.backlog.bytes)
    if full >= _NEARLY_FULL:
        yield f"the backlog is {full:.0%} full; at 100% events are refused with 503"


def _removed(removed: RemovedEndpoint) -> Iterator[str]:
    if removed.waiting or removed.leased:
        wait = _some(removed.waiting + removed.leased, "event waits", "events wait")
        yield f"{removed.endpoint} is no longer an endpoint, and {wait} for it: put it back to deliver them"


def _circuit(circuit: CircuitOfEndpoint, waiting: int) -> str:
    because = f" ({circuit.why})" if circuit.why else ""
    wait = f"{_some(waiting, 'event waits', 'events wait')}, nothing is lost"
    if circuit.state == "half-open":
        return f"the circuit is half-open{because}: a few probes go through; {wait}"
    left = f"open for {age(circuit.retry_after)} more" if circuit.retry_after else "open until the next probe"
    return f"the circuit is {left}{because}; {wait}"


def _held(name: str, circuit: CircuitOfEndpoint, waiting: int) -> str:
    because = f" ({circuit.why})" if circuit.why else ""
    if circuit.state == "closed":
        means = "everything is sent, whatever comes of it"
    else:
        means = f"nothing is sent; {_some(waiting, 'event waits', 'events wait')}, nothing is lost"
    return f"the circuit is held {circuit.state} by a person{because}: {means}; sluice circuit release {name}"


def _too_much(name: str, endpoint: EndpointStatus) -> str:
    """Where more comes in, for minutes, than the endpoint's rate can ever deliver."""
    comes, goes = endpoint.inflow, endpoint.max_per_second
    if comes is None or goes is None or not endpoint.waiting or comes <= goes * _BARELY_MORE:
        return ""
    full = max(0.0, endpoint.backlog.events - endpoint.waiting) / (comes - goes)
    return (
        f"{_each_minute(comes)} come in and its rate lets {_each_minute(goes)} through: the backlog grows by "
        f"{_each_minute(comes - goes)} and is full in {age(full)}; raise relay.endpoints.{name}.rate, or give "
        "events that go stale a ttl or keep: latest"
    )


def _each_minute(per_second: float) -> str:
    return f"{per_second * 60:,.0f} a minute"


def _late(endpoint: EndpointStatus) -> str:
    waiting, oldest = endpoint.waiting or 0, endpoint.oldest_due_s or 0.0
    late = f"{_some(waiting, 'event waits', 'events wait')}, the oldest for {age(oldest)}"
    rate = endpoint.rate
    return f"{late}; the endpoint's rate lets {rate:.3g} a second through" if rate is not None else late


# --- sessions


def _sessions(workers: Sequence[WorkerStatus], sessions: SessionCounts) -> Iterator[str]:
    spare = any(not w.existing and not w.lost and w.sessions < w.capacity for w in workers)
    for worker in workers:
        yield from _worker(worker, spare=spare)
    orphans = (sessions.unowned or 0) - sum(worker.sessions for worker in workers if worker.lost)
    if orphans > 0:
        yield f"{_some(orphans, 'session has', 'sessions have')} no worker; {_next_worker(spare)}"


def _worker(worker: WorkerStatus, *, spare: bool) -> Iterator[str]:
    name, sessions = worker.worker, worker.sessions
    if worker.existing:
        if worker.lost:
            its = _some(sessions, "session cannot move: its login is", "sessions cannot move: their logins are")
            yield f"worker {name} does not answer; its {its} there"
    elif worker.lost:
        if sessions:
            its = _some(sessions, "session has", "sessions have")
            yield f"worker {name} is lost; its {its} no worker; {_next_worker(spare)}"
    elif worker.last_beat_s is not None and worker.last_beat_s > worker.beat_left_s:
        late, left = age(worker.last_beat_s), age(worker.beat_left_s)
        its = _some(sessions, "session moves", "sessions move")
        yield f"worker {name} has not beaten for {late}; its {its} when its lease ends in {left}"


def _next_worker(spare: bool) -> str:
    return (
        "a worker with free capacity takes over with its next beat"
        if spare
        else "no worker has free capacity, start one more: sluice worker"
    )


def _some(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
