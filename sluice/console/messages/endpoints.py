"""What an endpoint's circuit and queue have to say, and what a removed endpoint left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from relay.circuit import MAX_KEYS
from relay.policies import OUTBOX
from sluice.console.actions.circuits import AnswersOfEndpoint, CircuitOfEndpoint
from sluice.console.messages.backlog import backlog
from sluice.console.messages.wording import age, each_minute, some, things
from sluice.console.status import EndpointStatus, RemovedEndpoint

_LATE = 10.0  # seconds past its time: less is how a pace and a busy second look
_BARELY_MORE = 1.05  # times the rate: what a minute more or less makes of a queue that keeps up


def endpoints(seen: Mapping[str, EndpointStatus], removed: Sequence[RemovedEndpoint], now: datetime) -> Iterator[str]:
    for name, endpoint in seen.items():
        for sentence in _endpoint(name, endpoint, now):
            yield f"{name}: {sentence}"
    for one in removed:
        yield from _removed(one)


def _endpoint(name: str, endpoint: EndpointStatus, now: datetime) -> Iterator[str]:
    waiting = endpoint.waiting
    if waiting is None:
        return
    circuit, too_much = endpoint.circuit, _too_much(name, endpoint)
    if circuit is not None and circuit.held:
        yield _held(name, circuit, waiting)
    elif circuit is not None and circuit.state != "closed":
        yield _circuit(name, circuit, waiting, now)
    elif (endpoint.oldest_due_s or 0.0) >= _LATE and not too_much:
        yield _late(name, endpoint)
    if endpoint.stalled_s and circuit is not None and circuit.state == "closed":
        yield (
            f"no relay has taken what is due for {age(endpoint.stalled_s)}, though the circuit is closed: restart the "
            "relay, and see its log"
        )
    if too_much:
        yield too_much
    if endpoint.dead:
        yield f"{some(endpoint.dead, 'dead letter waits', 'dead letters wait')} for a person: sluice dead list"
    if endpoint.sorting:
        yield "what waits is put in the order of its sessions first (order: session), which takes a running relay"
    yield from backlog(name, endpoint)


def _removed(removed: RemovedEndpoint) -> Iterator[str]:
    if removed.endpoint == OUTBOX:
        yield from _no_longer_kept(removed)
        return
    parts = []
    if removed.waiting or removed.leased:
        parts.append(some(removed.waiting + removed.leased, "event waits", "events wait"))
    if removed.dead:
        parts.append(some(removed.dead, "dead letter waits", "dead letters wait"))
    yield (
        f"{removed.endpoint} is not an endpoint of the policies, and {' and '.join(parts)} for it: put it back to "
        f"deliver them, or give them to another: sluice queue move {removed.endpoint} NEW"
    )


def _no_longer_kept(removed: RemovedEndpoint) -> Iterator[str]:
    if removed.waiting or removed.leased:
        sends = some(removed.waiting + removed.leased, "send waits", "sends wait")
        yield f"{sends} that no limit keeps any more (over: queue): they are given to their workers without a pace"
    if removed.dead:
        sends = some(removed.dead, "send is a dead letter", "sends are dead letters")
        yield f"{sends} that no limit keeps any more (over: queue): sluice dead list --endpoint outbox, and drop them"


def _circuit(name: str, circuit: CircuitOfEndpoint, waiting: int, now: datetime) -> str:
    because = f" ({circuit.why})" if circuit.why else ""
    wait = f"{things(name, waiting, 'waits', 'wait')}, nothing is lost{_failing(name, circuit, now)}"
    if circuit.state == "half-open":
        return f"the circuit is half-open{because}: a few probes go through; {wait}"
    left = f"open for {age(circuit.retry_after)} more" if circuit.retry_after else "open until the next probe"
    return f"the circuit is {left}{because}; {wait}; try it now: sluice circuit probe {name}"


def _failing(name: str, circuit: CircuitOfEndpoint, now: datetime) -> str:
    """Since when nobody gets through, and what the answers are."""
    if circuit.failing_since is None:
        return ""
    lately = [one for one in circuit.answers if one.last_at >= circuit.failing_since]
    answers = f": {', then '.join(answers_of(one) for one in lately)}" if lately else ""
    since = f"; nobody has got through for {age((now - circuit.failing_since).total_seconds())}{answers}"
    if not 0 < circuit.failing_sessions < MAX_KEYS:
        return since
    only = some(circuit.failing_sessions, "session fails", "sessions fail")
    return (
        f"{since}; only {only}: if it is for an event of theirs, see sluice queue list --endpoint {name}, and skip it"
    )


def answers_of(answers: AnswersOfEndpoint) -> str:
    return f"{answers.status or 'no answer'} x {answers.times}"


def _held(name: str, circuit: CircuitOfEndpoint, waiting: int) -> str:
    because = f" ({circuit.why})" if circuit.why else ""
    if circuit.state == "closed":
        means = "everything is sent, whatever comes of it"
    else:
        means = f"nothing is sent; {things(name, waiting, 'waits', 'wait')}, nothing is lost"
    return f"the circuit is held {circuit.state} by a person{because}: {means}; sluice circuit release {name}"


def _too_much(name: str, endpoint: EndpointStatus) -> str:
    """Where more comes in, for minutes, than the endpoint's rate can ever deliver."""
    comes, goes = endpoint.inflow, endpoint.max_per_second
    if comes is None or goes is None or not endpoint.waiting or comes <= goes * _BARELY_MORE:
        return ""
    full = max(0.0, endpoint.backlog.events - endpoint.waiting) / (comes - goes)
    return (
        f"{each_minute(comes)} come in and its rate lets {each_minute(goes)} through: the backlog grows by "
        f"{each_minute(comes - goes)} and is full in {age(full)}; raise relay.endpoints.{name}.rate, or give "
        "events that go stale a ttl or keep: latest"
    )


def _late(name: str, endpoint: EndpointStatus) -> str:
    waiting, oldest = endpoint.waiting or 0, endpoint.oldest_due_s or 0.0
    late = f"{things(name, waiting, 'waits', 'wait')}, the oldest for {age(oldest)}"
    rate = endpoint.rate
    return f"{late}; the endpoint's rate lets {rate:.3g} a second through" if rate is not None else late
