"""What travels: an event as it is accepted, a delivery as it is leased."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache

import orjson

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Event:
    """`body` is opaque: what is stored is what is sent. `id` and `session` hold no byte below 3."""

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
    """Seconds a repeat of its id is recognised, and in any case as long as it is here."""

    @property
    def ordering_key(self) -> str:
        """What keeps its order within a lane: the session. An event without session waits for nobody."""
        return self.session or self.id


@dataclass(slots=True, init=False)
class Delivery:
    """A leased event on its way to its endpoint. Never changed."""

    id: str
    type: str
    session: str | None
    target: bytes
    headers: Headers
    body: bytes
    accepted_at: float
    """Unix seconds, by the store's clock."""
    attempt: int
    """1 for the first."""
    partition: int
    stream: bytes
    """What keeps its order: lane and session."""
    token: bytes
    """The fence of its lease."""
    entry_id: bytes
    """Stream, place in it, and id."""
    crash_count: int = 0
    """Holders whose lease ended while they had it, one after the other."""
    head: bytes = b""
    """Its record up to where the content begins, which says what happens when it leaves."""
    size: int = 0
    """Bytes of its record."""
    lease: bytes = b""
    """Names its lease. Unlike the eid, another one when it was lost and leased again meanwhile."""

    def __init__(
        self,
        id: str,  # noqa: A002 (as the fields are called)
        type: str,  # noqa: A002
        session: str | None,
        target: bytes,
        headers: Headers,
        body: bytes,
        accepted_at: float,
        attempt: int,
        partition: int,
        stream: bytes,
        token: bytes,
        entry_id: bytes,
        crash_count: int = 0,
        head: bytes = b"",
        size: int = 0,
    ) -> None:
        self.id = id
        self.type = type
        self.session = session
        self.target = target
        self.headers = headers
        self.body = body
        self.accepted_at = accepted_at
        self.attempt = attempt
        self.partition = partition
        self.stream = stream
        self.token = token
        self.entry_id = entry_id
        self.crash_count = crash_count
        self.head = head
        self.size = size
        self.lease = token + b" " + entry_id


def new_id(idempotency: str | None = None) -> str:
    """An event id. The same `idempotency` always gives the same id, so that a repeat is recognised by it."""
    if idempotency is None:
        return f"evt_{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
    return "evt_" + hashlib.sha256(idempotency.encode()).hexdigest()[:28]


def pack(event: Event) -> bytes:
    """The stored form: one line of JSON about the event, then its body untouched.

    Raises ValueError for a header with a line break in it.
    """
    lines = b"\n".join([part for field in event.headers for part in field]).decode("latin-1")
    if event.headers and lines.count("\n") != 2 * len(event.headers) - 1:
        raise ValueError("a header has a line break in it")
    about = [event.id, event.type, event.session, event.target.decode("latin-1"), lines]
    return orjson.dumps(about) + b"\n" + event.body


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as its record tells it."""

    id: str
    type: str
    session: str | None
    target: bytes
    headers: Headers
    body: bytes
    seq: int
    accepted_at: float
    not_before: float
    """Unix seconds, like `accepted_at`."""
    expires: float
    """Unix seconds; 0: never."""
    lane: str
    kept: bytes
    """The field of `latest` by which a newer event finds it; empty: none replaces it."""


def unpack(record: bytes) -> Stored:
    """The record that `relay/queue/lua/accept.lua` makes (its form is in `events.lua`)."""
    header, _, rest = record.partition(b"\n")
    seq, accepted, delay, ttl, _, _, lane, length = header.split(b" ")
    about, _, body = rest[int(length) :].partition(b"\n")
    identity, kind, session, target, headers = orjson.loads(about)
    at = int(accepted)
    return Stored(
        id=identity,
        type=kind,
        session=session,
        target=target.encode("latin-1"),
        headers=_headers(headers),
        body=body,
        seq=int(seq),
        accepted_at=at / 1000,
        not_before=(at + int(delay)) / 1000,
        expires=(at + int(ttl)) / 1000 if ttl != b"0" else 0.0,
        lane=lane.decode(),
        kept=rest[: int(length)],
    )


def delivery_of(
    partition: int, token: bytes, entry_id: bytes, record: bytes, failed: int, crash_count: int
) -> Delivery:
    """What `relay/queue/lua/turn.lua` leases; `failed`: attempts so far."""
    line = record.index(b"\n") + 1
    fields = record[:line].split(b" ")
    begin = line + int(fields[7])
    body = record.index(b"\n", begin) + 1
    identity, kind, session, target, headers = orjson.loads(record[begin:body])
    return Delivery(
        identity,
        kind,
        session,
        target.encode("latin-1"),
        _headers(headers),
        record[body:],
        int(fields[1]) / 1000,
        failed + 1,
        partition,
        entry_id[: entry_id.index(b"\0")],
        token,
        entry_id,
        crash_count,
        record[:begin],
        len(record),
    )


@lru_cache(maxsize=1024)
def _headers(lines: str) -> Headers:
    """Of many events they are the same: what they come from sends all of them alike."""
    parts = lines.encode("latin-1").split(b"\n") if lines else []
    return tuple(zip(parts[::2], parts[1::2], strict=True))


def id_of(entry_id: bytes) -> bytes:
    """The event of a place in a queue (`relay/queue/lua/events.lua`)."""
    return entry_id[entry_id.index(b"\0") + 16 :]
