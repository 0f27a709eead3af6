"""A status in which all is well, to be changed by one thing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from relay.circuit import State
from sluice.console.actions.circuits import CircuitOfEndpoint
from sluice.console.messages import messages
from sluice.console.status import (
    Backlog,
    EndpointStatus,
    PoliciesStatus,
    RequestCounts,
    SessionCounts,
    Status,
    StoreStatus,
    Traffic,
)

_NOW = datetime.now(UTC)
WELL = Status(
    at=_NOW,
    revision="5e1f00d5e1f0",
    policies=PoliciesStatus("policies.yaml", _NOW, (), ()),
    promise="second",
    store=StoreStatus(True, None),
    relays=1,
    traffic=Traffic(RequestCounts(0, {}), {}, {}, {}),
    endpoints={},
    removed=(),
    workers=(),
    sessions=SessionCounts(0, 0, {}, 0),
    advertise="http://sluice:8080",
    up_s=3600.0,
)


def circuit(state: State = "closed", retry_after: float = 0.0, why: str | None = None, *, held: bool = False) -> Any:
    return CircuitOfEndpoint("laravel", state, held, retry_after, why)


CALM = EndpointStatus(circuit(), *(0, 0, 0, 0, 0.0), *(0, 0, 0, 0, 0), *(None, None, None), Backlog(1000, 1000))


def endpoint(**more: Any) -> EndpointStatus:
    return replace(CALM, **more)


def said(**changed: Any) -> list[str]:
    return [sentence for _, sentence in messages(replace(WELL, **changed))]
