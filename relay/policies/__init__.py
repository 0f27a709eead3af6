"""The section `relay` of policies.yaml."""

from relay.policies.model import (
    Backlog,
    Batch,
    CircuitPolicy,
    Endpoint,
    EventPolicy,
    Lanes,
    RelayPolicy,
    RelaySnapshot,
    Retry,
)

__all__ = [
    "Backlog",
    "Batch",
    "CircuitPolicy",
    "Endpoint",
    "EventPolicy",
    "Lanes",
    "RelayPolicy",
    "RelaySnapshot",
    "Retry",
]
