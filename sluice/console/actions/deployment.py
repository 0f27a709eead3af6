"""What the actions work on, and how they refuse."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from gateway.policies import Policies
from sessions.registry import Registry
from sluice.config.problems import quoted
from sluice.store.client import Store


class Deployment(Protocol):
    """A gateway's resources, or what a command has opened for itself."""

    @property
    def policies(self) -> Policies: ...
    @property
    def store(self) -> Store: ...
    @property
    def registry(self) -> Registry: ...


class ProblemKind(StrEnum):
    INVALID = "invalid"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Problem:
    """The request asks for what cannot be done; the message says why, and what to do."""

    kind: ProblemKind
    message: str


def invalid(message: str) -> Problem:
    return Problem(ProblemKind.INVALID, message)


def not_found(message: str) -> Problem:
    return Problem(ProblemKind.NOT_FOUND, message)


def unavailable(message: str) -> Problem:
    return Problem(ProblemKind.UNAVAILABLE, message)


def unknown_endpoint(name: str, endpoints: Collection[str]) -> Problem:
    return not_found(f"there is no endpoint {quoted(name)}; there are {', '.join(endpoints) or 'none'}")


def moment(seconds: float) -> datetime:
    """Of unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)
