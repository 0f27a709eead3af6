"""What `policies.yaml` says, as one immutable snapshot, and the sections that the edge declares.

`gateway.policies.read` makes it from the file; everybody else only reads it. Durations are seconds (float), sizes are
bytes (int), rates are `Rate`. A request works on one snapshot from start to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway.policies.lists import AddressList
from relay.policies.model import RelayPolicy
from sessions.policies import SessionsPolicy
from sluice.config import (
    Listen,
    Rate,
    Secret,
    Signature,
    StorePolicy,
)
from sluice.config.units import Network
from sluice.config.written import Written

Per = Literal["session", "workspace", "ip", "event"]
OverriddenBy = Literal["session", "workspace", "list"]
LimitHeader = Literal["ratelimit", "x-ratelimit"]
Over = Literal["queue", "drop", "reject"]
BODIES = 128 * 2**20
StoreAway = Literal["allow", "deny", "local"]


@dataclass(frozen=True, slots=True)
class Trust:
    proxies: tuple[Network, ...]
    hosts: tuple[str, ...]
    lists: Mapping[str, AddressList]
    deny: AddressList


@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    url: str
    connect: float
    headers: float
    idle: float


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
SessionSource = JsonPointer | Header | PathSegment  # of a workspace too


@dataclass(frozen=True, slots=True)
class ToUpstream:
    """Stream it to a fixed address."""

    upstream: str


@dataclass(frozen=True, slots=True)
class ToRelay:
    """Store it, answer 202, deliver it later: to each of these endpoints whose `events` it is one of."""

    endpoints: tuple[str, ...]


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
    workspace: SessionSource | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """Other numbers for some subjects of a limit; their buckets stay the same ones."""

    by: OverriddenBy
    names: tuple[str, ...]
    """Sessions or workspaces, `*` for any rest of a name; or one trusted list."""
    rate: Rate | None
    """None: unlimited."""
    burst: int
    """0 where it is unlimited."""
    until: float | None
    """Unix seconds of the first moment at which it no longer counts; None: it has no end."""


@dataclass(frozen=True, slots=True)
class Limit:
    id: str
    events: tuple[str, ...]
    """Event types or globs (`session_*`); empty: every request, with or without an event type."""
    per: tuple[Per, ...]
    rate: Rate
    burst: int
    over: Over
    exempt: tuple[str, ...]
    """Names of trusted lists that this limit leaves alone (`except` in the file)."""
    enforce: float
    """The share of subjects it is enforced for: 1.0 all, 0.0 none (`mode: observe`); the others are only counted."""
    when_store_away: StoreAway
    cost: int | JsonPointer = 1
    """Tokens of one request, or where its body says how many (`gateway.limits.applicable.cost_of`)."""
    ipv4_prefix: int = 32
    """Bits of an IPv4 address that count for `per: ip`; of an IPv6 address it is always 64."""
    overrides: tuple[Override, ...] = ()

    @property
    def observe(self) -> bool:
        """Evaluated and counted, enforced for nobody."""
        return self.enforce == 0.0


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
    limit_headers: frozenset[LimitHeader] = frozenset({"ratelimit"})
    """What answers say of the limits they met: RateLimit-Policy and RateLimit, X-RateLimit-*, both or nothing."""
    bodies: int = BODIES
    """Bytes of request bodies that one process holds in memory."""
    warnings: tuple[str, ...] = field(default=())
    written: Mapping[tuple[str, ...], Written] = field(default_factory=dict, compare=False, repr=False)
    """Key by key what the file says, in its author's words; by it edits are described."""
