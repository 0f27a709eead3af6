"""What `policies.yaml` says, as one immutable snapshot.

`runtime.policies.read` makes it from the file; everybody else only reads it. Durations are seconds (float), sizes are
bytes (int), rates are `Rate`. A request works on one snapshot from start to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

Network = IPv4Network | IPv6Network
Promise = Literal["memory", "second", "always"]
Over = Literal["queue", "drop", "reject"]
StoreAway = Literal["allow", "deny", "local"]


class Secret:
    """A value that never shows itself: not in `repr`, not in a log, not in an error. `reveal()` is the only way out."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` events in each `period` seconds, refilled evenly."""

    amount: int
    period: float

    @property
    def interval(self) -> float:
        """Seconds for one event."""
        return self.period / self.amount

    def __str__(self) -> str:
        return f"{self.amount}/{self.period:g}s"


@dataclass(frozen=True, slots=True)
class Listen:
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class StorePolicy:
    url: str
    """`embedded`, or a redis://, rediss://, unix:// address."""
    promise: Promise
    timeout: float
    """The longest the limiter waits for the store before a limit's `when_store_away` decides."""


@dataclass(frozen=True, slots=True)
class Trust:
    proxies: tuple[Network, ...]
    hosts: tuple[str, ...]
    lists: Mapping[str, tuple[Network, ...]]
    deny: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    url: str
    connect: float
    headers: float
    idle: float


@dataclass(frozen=True, slots=True)
class Signature:
    name: str
    preset: Literal["blazz"]
    secret: Secret
    tolerance: float


# --- routes: where a request goes, and where its event type and session are written


@dataclass(frozen=True, slots=True)
class Fixed:
    """The event type is the route's own, whatever the request says."""

    value: str


@dataclass(frozen=True, slots=True)
class JsonPointer:
    """RFC 6901, into the request's JSON body."""

    pointer: str


@dataclass(frozen=True, slots=True)
class Header:
    name: str


@dataclass(frozen=True, slots=True)
class PathSegment:
    """The `{name}` of the route's path."""

    name: str


EventSource = Fixed | JsonPointer | Header
SessionSource = JsonPointer | Header | PathSegment


@dataclass(frozen=True, slots=True)
class ToUpstream:
    """Stream it to a fixed address."""

    upstream: str


@dataclass(frozen=True, slots=True)
class ToRelay:
    """Store it, answer 202, deliver it later."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class ToWorkers:
    """`owner`: the worker that owns the session; `place`: the same, placed first; `list`: the registry answers."""

    how: Literal["list", "place", "owner"]


Action = ToUpstream | ToRelay | ToWorkers


@dataclass(frozen=True, slots=True)
class Route:
    path: str
    methods: frozenset[str]
    """Empty: any."""
    verify: str | None
    """Name of the signature every request must carry."""
    event: EventSource | None
    session: SessionSource | None
    action: Action
    body: int
    """Bytes of body that are read where the body has to be read (relayed, verified or looked into)."""
    line: int


@dataclass(frozen=True, slots=True)
class Limit:
    id: str
    events: tuple[str, ...]
    """Event types or globs (`session_*`); empty: every request, with or without an event type."""
    per: tuple[Literal["session", "ip", "event"], ...]
    rate: Rate
    burst: int
    over: Over
    exempt: tuple[str, ...]
    """Names of trusted lists that this limit leaves alone (`except` in the file)."""
    observe: bool
    """Evaluated and counted, never enforced (`mode: observe`)."""
    when_store_away: StoreAway


# --- relay


@dataclass(frozen=True, slots=True)
class Retry:
    attempts: int
    base: float
    cap: float


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    window: float
    minimum: int
    ratio: float
    open: float
    cap: float
    probes: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    name: str
    url: str
    sign: str | None
    timeout: float
    concurrency: int
    rate: Rate | None
    order: Literal["session", "none"]
    retry: Retry
    circuit: CircuitPolicy


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


@dataclass(frozen=True, slots=True)
class ExistingWorker:
    """A worker service that we do not run and that knows nothing of us."""

    url: str
    key: Secret | None


@dataclass(frozen=True, slots=True)
class SessionsPolicy:
    lease: float
    per_worker: int
    workers: tuple[ExistingWorker, ...]
    verify: str | None
    """Name of the signature by which a worker proves itself at `/_sluice/workers`."""


@dataclass(frozen=True, slots=True)
class ConsolePolicy:
    token: Secret | None


@dataclass(frozen=True, slots=True)
class Policies:
    source: Path
    revision: str
    """First 12 hex digits of the SHA-256 of the file."""
    listen: Listen
    data: Path
    """Absolute."""
    store: StorePolicy
    trust: Trust
    upstreams: Mapping[str, Upstream]
    signatures: Mapping[str, Signature]
    routes: tuple[Route, ...]
    limits: tuple[Limit, ...]
    relay: RelayPolicy
    sessions: SessionsPolicy
    console: ConsolePolicy
    warnings: tuple[str, ...] = field(default=())
