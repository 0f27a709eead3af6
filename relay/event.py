"""What travels: an event as it is accepted, a delivery as it is leased."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field

import orjson

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """An event for one endpoint. `body` is opaque: the bytes that are stored are the bytes that are sent."""

    id: str
    type: str
    session: str | None
    target: bytes
    """Path and query on the receiver, as they came."""
    headers: Headers
    """The end-to-end headers that go with it; signatures and framing are made anew for each attempt."""
    body: bytes
    lane: str
    keep: str = ""
    """Not empty: a newer event of the same stream and `keep` replaces a waiting older one."""
    ttl: float = 0.0
    """Seconds it is worth sending; 0: for ever."""
    delay: float = 0.0
    """Seconds before it may first be sent (a limit with `over: queue`)."""
    remember: float = 60.0
    """Seconds a repeat of its id is recognised."""
    accepted_at: float = field(default_factory=time.time)

    @property
    def stream(self) -> str:
        """What keeps its order: the session within its lane. An event without session is a stream of its own."""
        return self.lane + (self.session or self.id)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A leased event on its way to its endpoint."""

    id: str
    type: str
    session: str | None
    target: bytes
    headers: Headers
    body: bytes
    accepted_at: float
    attempt: int
    """1 for the first."""
    partition: int
    stream: bytes
    token: bytes
    eid: bytes


def new_id(idempotency: str | None = None) -> str:
    """An event id. The same `idempotency` always gives the same id, so that a repeat is recognised by it."""
    if idempotency is None:
        return f"evt_{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
    return "evt_" + hashlib.sha256(idempotency.encode()).hexdigest()[:28]


def pack(event: Event) -> bytes:
    """The stored form: one line of JSON about the event, then its body untouched."""
    about = [
        event.id,
        event.type,
        event.session,
        event.target.decode("latin-1"),
        [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers],
        event.accepted_at,
    ]
    return orjson.dumps(about) + b"\n" + event.body


@dataclass(frozen=True, slots=True)
class Unpacked:
    id: str
    type: str
    session: str | None
    target: bytes
    headers: Headers
    accepted_at: float
    body: bytes


def unpack(content: bytes) -> Unpacked:
    line, _, body = content.partition(b"\n")
    identity, kind, session, target, headers, accepted_at = orjson.loads(line)
    pairs = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in headers)
    return Unpacked(identity, kind, session, target.encode("latin-1"), pairs, accepted_at, body)
