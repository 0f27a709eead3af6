"""What `policies.yaml` says, as one immutable snapshot.

`sluice.config.read` makes it from the file; everybody else only reads it. Durations are seconds (float), sizes are
bytes (int), rates are `Rate`. A request works on one snapshot from start to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sluice.config.lists import AddressList, Network

Per = Literal["session", "workspace", "ip", "event"]
OverriddenBy = Literal["session", "workspace", "list"]
LimitHeader = Literal["ratelimit", "x-ratelimit"]
Promise = Literal["memory", "second", "always", "replica"]
Preset = Literal["blazz", "body-sha256", "dotted", "waha", "standard", "key"]
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
class Signature:
    """`sluice.http.signatures` says what each preset signs, and how."""

    name: str
    preset: Preset
    secret: Secret
    """The newest; of preset `standard` the bytes that `whsec_` encodes."""
    tolerance: float
    """Seconds a signed timestamp may be off."""
    older: tuple[Secret, ...] = ()
    """Others that still prove a request while secrets are exchanged."""
    header: str = ""
    """Empty: the preset's own."""
    timestamp_header: str = ""
    prefix: str | None = None
    """What stands before the proof in its header; None: what is usual in that header."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return (self.secret, *self.older)


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


# --- relay


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
    limit_headers: frozenset[LimitHeader] = frozenset({"ratelimit"})
    """What answers say of the limits they met: RateLimit-Policy and RateLimit, X-RateLimit-*, both or nothing."""
    warnings: tuple[str, ...] = field(default=())
