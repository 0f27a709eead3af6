"""The circuits of the endpoints: seen, held by a person, released, and tried out with one attempt."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from relay.circuit import Circuit, CircuitStatus, Probed, State
from relay.process import open_circuit, open_queue
from sluice.console.actions.deployment import Deployment, Problem, moment, unknown_endpoint
from sluice.http.decode import Bounds

PROBED_WITHIN = 4.0
"""Seconds in which it is awaited what comes of a probe."""
_LOOK_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class ListCircuits:
    endpoint: str | None = None
    """Only this one's."""


@dataclass(frozen=True, slots=True)
class HoldCircuit:
    endpoint: str
    hold: Literal["open", "closed"] | None
    """open: nothing is sent; closed: everything is sent, whatever comes of it; null: released, results decide again."""
    why: Annotated[str, Bounds(0, 500)] = ""
    """For whoever looks at it."""


@dataclass(frozen=True, slots=True)
class ProbeCircuit:
    endpoint: str


@dataclass(frozen=True, slots=True)
class AnswersOfEndpoint:
    """Answers that were no 2xx."""

    status: int | None
    """null: no answer."""
    times: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class CircuitOfEndpoint:
    endpoint: str
    state: State
    held: bool
    """By a person, until it is released."""
    retry_after: float
    """Seconds until an open circuit lets probes through; 0 while it is closed or held."""
    why: str | None
    """Why it is not closed, or why it is held."""
    failing_since: datetime | None = None
    """When the first attempt failed after the last 2xx; null: none has."""
    failing_sessions: int = 0
    """Sessions (or events without one) that failed since then; 3: three or more."""
    answers: tuple[AnswersOfEndpoint, ...] = ()
    """The last few statuses that were no 2xx, oldest first."""
    opened: int = 0
    """How often it has opened so far."""
    opened_first_at: datetime | None = None
    opened_last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CircuitList:
    circuits: tuple[CircuitOfEndpoint, ...]
    """In the order of the policies."""


@dataclass(frozen=True, slots=True)
class HeldCircuit:
    changed: bool
    """False: it was so already."""
    circuit: CircuitOfEndpoint


@dataclass(frozen=True, slots=True)
class ProbedCircuit:
    outcome: Literal["delivered", "failed", "all_is_sent", "not_begun", "nothing_waits"]
    """all_is_sent: the circuit is closed. not_begun: nothing has come of it within a few seconds."""
    status: int | None
    """Of the answer that was no 2xx; null: there was none."""
    why: str | None
    event: str | None
    """The id of one that was made due for it; another that was due may have gone instead."""
    circuit: CircuitOfEndpoint


async def list_circuits(deployment: Deployment, request: ListCircuits) -> CircuitList | Problem:
    """The circuits of all endpoints: their states, since when they fail, with which statuses, how often they opened."""
    endpoints = deployment.policies.relay.endpoints
    if request.endpoint is not None and request.endpoint not in endpoints:
        return unknown_endpoint(request.endpoint, endpoints)
    wanted = [one for one in endpoints.values() if request.endpoint in (None, one.name)]
    return CircuitList(
        tuple([circuit_of(one.name, await open_circuit(deployment.store, one).view()) for one in wanted])
    )


async def hold(deployment: Deployment, request: HoldCircuit) -> HeldCircuit | Problem:
    """Hold a circuit open or closed, whatever comes of deliveries, or release it."""
    endpoints = deployment.policies.relay.endpoints
    if request.endpoint not in endpoints:
        return unknown_endpoint(request.endpoint, endpoints)
    circuit = open_circuit(deployment.store, endpoints[request.endpoint])
    changed = await _set(circuit, request)
    return HeldCircuit(changed, circuit_of(request.endpoint, await circuit.view()))


async def probe(deployment: Deployment, request: ProbeCircuit) -> ProbedCircuit | Problem:
    """Send one of those that wait, whatever the circuit's state, and say what came of it within a few seconds."""
    endpoints = deployment.policies.relay.endpoints
    if request.endpoint not in endpoints:
        return unknown_endpoint(request.endpoint, endpoints)
    endpoint = endpoints[request.endpoint]
    circuit = open_circuit(deployment.store, endpoint)
    event = await open_queue(deployment.store, endpoint, deployment.policies).advance_one()
    probed = await _result_of(circuit, await circuit.probe()) if event is not None else None
    seen = circuit_of(request.endpoint, await circuit.view())
    if probed is None:
        return ProbedCircuit("not_begun" if event else "nothing_waits", None, None, event, seen)
    outcome: Literal["delivered", "failed", "all_is_sent"] = "delivered" if probed.went_well else "failed"
    return ProbedCircuit(
        "all_is_sent" if probed.was_closed else outcome, probed.status, probed.why or None, event, seen
    )


async def _result_of(circuit: Circuit, number: int) -> Probed | None:
    """None: it is not known within a few seconds."""
    end = asyncio.get_running_loop().time() + PROBED_WITHIN
    while asyncio.get_running_loop().time() < end:
        probed = (await circuit.view()).probed
        if probed is not None and probed.number >= number:
            return probed if probed.number == number else None
        await asyncio.sleep(_LOOK_EVERY)
    return None


async def _set(circuit: Circuit, request: HoldCircuit) -> bool:
    return await (circuit.release() if request.hold is None else circuit.hold(request.hold, request.why))


def circuit_of(endpoint: str, status: CircuitStatus) -> CircuitOfEndpoint:
    at_rest = status.state == "closed" and not status.held
    retry_after = 0.0 if status.state == "closed" else status.retry_after
    return CircuitOfEndpoint(
        *(endpoint, status.state, status.held, retry_after, None if at_rest else status.why or None),
        failing_since=_moment(status.failing_since),
        failing_sessions=status.failing_keys,
        answers=tuple(
            AnswersOfEndpoint(one.status, one.times, moment(one.first), moment(one.last)) for one in status.answers
        ),
        opened=status.opened,
        opened_first_at=_moment(status.opened_first),
        opened_last_at=_moment(status.opened_last),
    )


def _moment(seconds: float) -> datetime | None:
    return moment(seconds) if seconds else None
