"""The circuits of the endpoints: seen, held by a person, and released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from relay.circuit import Circuit, CircuitStatus, State
from relay.process import open_circuit
from sluice.console.actions.deployment import Deployment, Problem, unknown_endpoint
from sluice.console.decode import Bounds


@dataclass(frozen=True, slots=True)
class ListCircuits:
    pass


@dataclass(frozen=True, slots=True)
class HoldCircuit:
    endpoint: str
    hold: Literal["open", "closed"] | None
    """open: nothing is sent; closed: everything is sent, whatever comes of it; null: released, results decide again."""
    why: Annotated[str, Bounds(0, 500)] = ""
    """For whoever looks at it."""


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


@dataclass(frozen=True, slots=True)
class CircuitList:
    circuits: tuple[CircuitOfEndpoint, ...]
    """In the order of the policies."""


@dataclass(frozen=True, slots=True)
class HeldCircuit:
    changed: bool
    """False: it was so already."""
    circuit: CircuitOfEndpoint


async def list_circuits(deployment: Deployment, _: ListCircuits) -> CircuitList:
    """The circuits of all endpoints."""
    endpoints = deployment.policies.relay.endpoints.values()
    return CircuitList(
        tuple([circuit_of(one.name, await open_circuit(deployment.store, one).view()) for one in endpoints])
    )


async def hold(deployment: Deployment, request: HoldCircuit) -> HeldCircuit | Problem:
    """Hold a circuit open or closed, whatever comes of deliveries, or release it."""
    endpoints = deployment.policies.relay.endpoints
    if request.endpoint not in endpoints:
        return unknown_endpoint(request.endpoint, endpoints)
    circuit = open_circuit(deployment.store, endpoints[request.endpoint])
    changed = await _set(circuit, request)
    return HeldCircuit(changed, circuit_of(request.endpoint, await circuit.view()))


async def _set(circuit: Circuit, request: HoldCircuit) -> bool:
    return await (circuit.release() if request.hold is None else circuit.hold(request.hold, request.why))


def circuit_of(endpoint: str, status: CircuitStatus) -> CircuitOfEndpoint:
    at_rest = status.state == "closed" and not status.held
    retry_after = 0.0 if status.state == "closed" else status.retry_after
    return CircuitOfEndpoint(endpoint, status.state, status.held, retry_after, None if at_rest else status.why or None)
