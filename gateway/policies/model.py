"""What `policies.yaml` says, as one immutable snapshot.

`gateway.policies.read` makes it from the file; everybody else only reads it. Durations are seconds (float), sizes are
bytes (int), rates are `Rate`. A request works on one snapshot from start to end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.policies.admin import AdminPolicy, admin
from gateway.policies.alerts import AlertPolicy, alerts
from gateway.policies.clients import Clients
from gateway.policies.limits import Limit, LimitHeader, limit_list
from gateway.policies.routes import Route, route
from gateway.policies.trust import Trust, trust
from gateway.policies.upstreams import ConsolePolicy, Upstream, upstream
from relay.policies import RelayPolicy, check_relay
from sessions.policies import SessionsPolicy, sessions
from sluice.config import Listen, LogPolicy, Signature, StorePolicy, common, listening, parsers
from sluice.config.fields import Value, section, setting
from sluice.config.listening import Listener
from sluice.config.parsers import choice, each, named, of
from sluice.config.problems import Malformed, quoted
from sluice.config.written import Written

BODIES = 128 * 2**20


def _folder(text: str) -> Path:
    if not text or "\0" in text:
        raise Malformed(f"{quoted(text)} is not a folder", "write .sluice")
    return Path(text)


def _limit_headers(value: Value) -> frozenset[LimitHeader]:
    kind: Callable[[Value], LimitHeader] = choice("ratelimit", "x-ratelimit")
    return frozenset(each(kind)(value))


@dataclass(frozen=True, slots=True)
class Policies:
    source: Path
    revision: str
    """First 12 hex digits of the SHA-256 of the file."""
    listen: tuple[Listener, ...] = setting(listening.listeners, (listening.at(Listen("127.0.0.1", 8080)),))
    """Where the gateway answers: one address, a list of them, or entries by name. Not written: `127.0.0.1:8080`."""
    data: Path = setting(of(_folder), Path(".sluice"))
    """Folder of the embedded store, logs and locks; in the file it may be relative to the file."""
    bodies: int = setting(parsers.size, BODIES)
    """Bytes of request bodies that one process holds in memory."""
    store: StorePolicy = setting(common.store, StorePolicy())
    """Where all that outlives a process lies."""
    trust: Trust = setting(trust, Trust())
    """Whose word counts, and who gets no answer."""
    clients: Clients = setting(section(Clients), Clients())
    """How long, and how much, one client may take."""
    upstreams: Mapping[str, Upstream] = setting(named(upstream), {})
    """Fixed addresses to which requests go, by name."""
    signatures: Mapping[str, Signature] = setting(named(common.signature), {})
    """How requests prove who sent them, and how ours do, by name."""
    routes: tuple[Route, ...] = setting(each(route), ())
    """What happens to requests of a path and method. The first that matches wins."""
    limits: tuple[Limit, ...] = setting(limit_list, ())
    """All that apply to a request are decided; one that refuses takes nothing from the others. At most 128."""
    limit_headers: frozenset[LimitHeader] = setting(_limit_headers, frozenset({"ratelimit"}))
    """What answers say of the limits they met: RateLimit-Policy and RateLimit, X-RateLimit-*, both or nothing."""
    relay: RelayPolicy = setting(section(RelayPolicy, check_relay), RelayPolicy())
    """What is stored before it is answered, and to whom it is delivered."""
    sessions: SessionsPolicy = setting(sessions, SessionsPolicy())
    """Who runs which WhatsApp login."""
    admin: AdminPolicy = setting(admin, AdminPolicy())
    """Where `/_sluice/` answers, and whom."""
    console: ConsolePolicy = setting(section(ConsolePolicy), ConsolePolicy(None))
    """Tokens of the console and its API."""
    alerts: AlertPolicy = setting(alerts, AlertPolicy())
    """Who is told what goes wrong."""
    log: LogPolicy = setting(common.log, LogPolicy())
    """What is logged, where, and how much of it is kept."""
    warnings: tuple[str, ...] = ()
    written: Mapping[tuple[str, ...], Written] = field(default_factory=dict, compare=False, repr=False)
    """Key by key what the file says, in its author's words; by it edits are described."""

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """All of them, those of `admin` too."""
        return (*self.listen, *self.admin.listen)
