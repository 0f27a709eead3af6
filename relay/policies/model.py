"""The section `relay` of `policies.yaml`. Durations are seconds, sizes are bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sluice.config import Rate, Secret, Signature


@dataclass(frozen=True, slots=True)
class Retry:
    """A delivery that keeps failing is a dead letter after `attempts`, or `within` seconds of being accepted."""

    attempts: int
    base: float
    cap: float
    within: float | None = None
    """`for` in the file; None: only the attempts count."""


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    window: float
    minimum: int
    ratio: float
    open: float
    cap: float
    probes: int
    slow_start: float = 0.0
    """Seconds after closing in which the concurrency grows to all of it; 0: at once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Up to `max` events in one POST, none of which waits longer than `wait` seconds for the others."""

    max: int
    wait: float


@dataclass(frozen=True, slots=True)
class Endpoint:
    name: str
    url: str
    """The target of an event is appended to it; a batch goes to the address itself."""
    sign: str | None
    timeout: float
    concurrency: int
    rate: Rate | None
    order: Literal["session", "none"]
    retry: Retry
    circuit: CircuitPolicy
    events: tuple[str, ...] = ()
    """Event types or globs (`session_*`) it is sent; empty: all."""
    headers: tuple[tuple[str, Secret], ...] = ()
    """Sent with every attempt, in place of what an event brings under the same name."""
    batch: Batch | None = None
    private: bool = False
    """Its name may lead to a private address (`sluice.http.addresses`)."""


@dataclass(frozen=True, slots=True)
class Lanes:
    urgent: tuple[str, ...]
    bulk: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventPolicy:
    """What goes stale. `ttl`: not sent once older; `keep_latest`: a newer one replaces a waiting older one."""

    ttl: float | None
    keep_latest: bool
    by: str | None
    """JSON pointer whose value, with the session and the event type, tells which older one is replaced."""


@dataclass(frozen=True, slots=True)
class Backlog:
    bytes: int
    events: int


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    endpoints: Mapping[str, Endpoint]
    lanes: Lanes
    events: Mapping[str, EventPolicy]
    dedupe: float
    keep_dead: float
    """`retention.dead`: a dead letter is dropped when it is older than this."""
    backlog: Backlog
    keep_delivered: float = 0.0
    """`retention.delivered`: seconds in which a delivered event can still be looked at; 0: not at all."""
    verify: str | None = None
    """Name of the signature by which a publisher proves itself at `/_sluice/events`."""


class RelaySnapshot(Protocol):
    """What the relay needs of the policies as a whole."""

    @property
    def source(self) -> Path: ...
    @property
    def revision(self) -> str: ...
    @property
    def data(self) -> Path: ...
    @property
    def relay(self) -> RelayPolicy: ...
    @property
    def signatures(self) -> Mapping[str, Signature]: ...
