"""Reading policies.yaml: each room declares its own section with the parsers that are here."""

from sluice.config.model import (
    Listen,
    Preset,
    Promise,
    Rate,
    Secret,
    Signature,
    StorePolicy,
)
from sluice.config.problems import PolicyError, Problem
from sluice.config.units import Network

__all__ = [
    "Listen",
    "Network",
    "PolicyError",
    "Preset",
    "Problem",
    "Promise",
    "Rate",
    "Secret",
    "Signature",
    "StorePolicy",
]
