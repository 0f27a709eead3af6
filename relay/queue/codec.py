"""An event as it is accepted, a delivery as it is leased, and how both lie in the store.

Only this file and `history_codec.py` know where in a record or an entry id something stands; `lua/events.lua` and
`lua/partition.lua` describe their forms.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Literal

import orjson

from sluice.process.cache import Cache

Headers = tuple[tuple[bytes, bytes], ...]
Lane = Literal["urgent", "normal", "bulk"]
LANE_LETTERS: dict[Lane, str] = {"urgent": "u", "normal": "n", "bulk": "b"}
"""In the store a lane is one letter: it stands in several keys and fields of each waiting event."""
_LANES: dict[str, Lane] = {letter: lane for lane, letter in LANE_LETTERS.items()}


@dataclass(frozen=True, slots=True)
class DelayedBy:
    """The limit that delays an event for longest, and the numbers of the bucket it was in."""

    limit: str
    interval: float
    """Seconds for one token."""
    burst: int
    others: float = 0.0
    """Seconds for which all other limits delay it."""


@dataclass(frozen=True, slots=True)
class Superseding:
    """Of the events with the same key only the newest is sent, whatever their sessions (`relay/queue/newest.py`)."""

    key: str
    order: int = 0
    """Unix ms. 0: when it was accepted, by its own record. Else when that was, where it is sent once more; or as the
    registry decided which session stays (`sessions/lua/ready.lua`)."""


@dataclass(frozen=True, slots=True)
class GoesFirst:
    """What is not urgent of a session waits for one of its events, which is."""

    which: Literal["first", "after"]
    """It is the one that they wait for, or it announces that one."""
    within: float
    """Seconds that they wait at most, for it to come, or once it has failed on its own."""


@dataclass(frozen=True, slots=True)
class Event:
    """`body` is opaque: what is stored is what is sent. `id` and `session` hold no byte below 3."""

    id: str
    type: str
    session: str | None
    target: bytes
    """Path and query on the receiver, as they came."""
    headers: Headers
    """The end-to-end headers that go with it; signatures and framing are computed for each attempt."""
    body: bytes
    lane: Lane
    coalesce_key: str = ""
    """Not empty: a newer event of the same lane, session and coalesce key replaces a waiting older one."""
    ttl: float = 0.0
    """Seconds it is worth sending; 0: for ever."""
    delay: float = 0.0
    """Seconds before it may first be sent (a limit with `over: queue`)."""
    delayed_by: DelayedBy | None = None
    """By it the delay follows an edit of the limit (`relay/queue/delays.py`)."""
    dedupe_window: float = 60.0
    """Seconds a repeat of its id is recognised; while the event is in the store it always is."""
    digest: str = ""
    """Not empty: a repeat of its id must have the same."""
    senders_id: str = ""
    """What its sender calls it, where receivers are to be told that instead of `id`; not unique, so nothing else goes
    by it."""
    fence: int = 0
    """Of the lease under which its session sent it, in microseconds since 1970; 0: its sender knows of none."""
    superseding: Superseding | None = None
    """None: no other event is a newer one of the same."""
    goes_first: GoesFirst | None = None
    """None: nothing waits for it, nor because of it."""

    @property
    def ordering_key(self) -> str:
        """What keeps its order within a lane: the session. An event without a session waits for no other."""
        return self.session or self.id


class Failures:
    """What an event has failed so far. Never changed. It is described in `lua/partition.lua`."""

    def __init__(self, unspent: int, at: float, for_s: float, was_rejected: bool) -> None:
        self.unspent = unspent
        """POSTs since the last one that counted as an attempt."""
        self.at = at
        """Unix seconds, by the clock of the endpoint's circuit: when the last one ended; 0: none has failed."""
        self.for_s = for_s
        """Seconds in which it kept failing while others were delivered."""
        self.was_rejected = was_rejected
        """By the last answer."""


NO_FAILURES = Failures(0, 0.0, 0.0, False)


class Delivery:
    """A leased event on its way to its endpoint. Never changed.

    Like `Settlement` it is a plain class, because mypyc makes one five times as fast as a dataclass.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 (as the attributes are called)
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
        failures: Failures = NO_FAILURES,
        public_id: str = "",
        superseding: Superseding | None = None,
    ) -> None:
        self.id = id
        self.type = type
        self.session = session
        self.target = target
        self.headers = headers
        self.body = body
        self.accepted_at = accepted_at
        """Unix seconds, by the store's clock."""
        self.attempt = attempt
        """1 for the first. What failed while nobody got through is not counted."""
        self.partition = partition
        self.stream = stream
        """Lane letter and session, or event id: within a stream the order is kept."""
        self.token = token
        """The fence of its lease."""
        self.entry_id = entry_id
        """Stream, sequence number and event id: by it the store knows the event in the queue of this endpoint."""
        self.crash_count = crash_count
        """Holders in a row whose lease ended while they had it."""
        self.head = head
        """Its record up to where the content begins: settling needs it."""
        self.size = size
        """Bytes of its record."""
        self.failures = failures
        self.public_id = public_id or id
        """What the receiver is told: the sender's own id, where it has one."""
        self.superseding = superseding
        self.lease = token + b" " + entry_id
        """Token and entry id. Unlike the entry id it changes when the lease was lost and the event is leased again."""


def new_id(idempotency: str | None = None) -> str:
    """An event id. The same `idempotency` always gives the same id, so that a repeat is recognised by it."""
    if idempotency is None:
        return f"evt_{int(time.time() * 1000):012x}{secrets.token_hex(8)}"
    return "evt_" + hashlib.sha256(idempotency.encode()).hexdigest()[:28]


def microseconds(interval: float) -> int:
    """Of seconds for a token; never 0."""
    return max(1, round(interval * 1e6))


def pack(event: Event) -> bytes:
    """The stored form: one line of JSON about the event, then its body untouched.

    Raises ValueError for a header with a line break in it.
    """
    lines = b"\n".join([part for field in event.headers for part in field]).decode("latin-1")
    if event.headers and lines.count("\n") != 2 * len(event.headers) - 1:
        raise ValueError("a header has a line break in it")
    about: list[str | int | None] = [event.id, event.type, event.session, event.target.decode("latin-1"), lines]
    if event.senders_id or event.superseding is not None:
        about.append(event.senders_id)
    if event.superseding is not None:
        about += (event.superseding.key, event.superseding.order)
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
    endpoints: int
    """How many it was accepted for."""
    sequence: int
    accepted_at: float
    not_before: float
    """Unix seconds, like `accepted_at`."""
    expires: float
    """Unix seconds; 0: never."""
    lane: Lane
    coalesce_key: bytes
    """The field of `latest` by which a newer event finds it; empty: none replaces it."""
    senders_id: str = ""
    """What receivers are told instead of `id`, where its sender had an id of its own."""
    superseding: Superseding | None = None


def unpack(record: bytes) -> Stored:
    """Of a record that `relay/queue/lua/accept.lua` has written."""
    header, _, rest = record.partition(b"\n")
    sequence, accepted, delay, ttl, _, endpoints, lane, length = header.split(b" ")
    about, _, body = rest[int(length) :].partition(b"\n")
    identity, kind, session, target, headers, *more = orjson.loads(about)
    at = int(accepted)
    return Stored(
        id=identity,
        type=kind,
        session=session,
        target=target.encode("latin-1"),
        headers=_headers(headers),
        body=body,
        endpoints=int(endpoints),
        sequence=int(sequence),
        accepted_at=at / 1000,
        not_before=(at + int(delay)) / 1000,
        expires=(at + int(ttl)) / 1000 if ttl != b"0" else 0.0,
        lane=_LANES[lane.decode()],
        coalesce_key=rest[: int(length)],
        senders_id=more[0] if more else "",
        superseding=Superseding(more[1], more[2]) if len(more) > 2 else None,
    )


def delivery_of(
    partition: int,
    token: bytes,
    entry_id: bytes,
    record: bytes,
    failed: int,
    crash_count: int,
    failures: bytes = b"",
) -> Delivery:
    """Of a record that `relay/queue/lua/poll.lua` has leased; `failed`: attempts so far."""
    line = record.index(b"\n") + 1
    fields = record[:line].split(b" ")
    begin = line + int(fields[7])
    body = record.index(b"\n", begin) + 1
    about = orjson.loads(record[begin:body])
    target: str = about[3]
    return Delivery(
        about[0],
        about[1],
        about[2],
        target.encode("latin-1"),
        _headers(about[4]),
        record[body:],
        int(fields[1]) / 1000,
        failed + 1,
        partition,
        stream_of(entry_id),
        token,
        entry_id,
        crash_count,
        record[:begin],
        len(record),
        _failures(failures) if failures else NO_FAILURES,
        about[5] if len(about) > 5 else "",
        Superseding(about[6], about[7]) if len(about) > 7 else None,
    )


def _failures(stored: bytes) -> Failures:
    unspent, at, for_ms, rejected = stored.split(b" ")
    return Failures(int(unspent), int(at) / 1000, int(for_ms) / 1000, rejected == b"1")


_known_headers: Cache[str, Headers] = Cache(4 * 2**20)


def _headers(lines: str) -> Headers:
    """Kept, as most events of one source have the same headers."""
    known = _known_headers.get(lines)
    if known is not None:
        return known
    parts = lines.encode("latin-1").split(b"\n") if lines else []
    pairs = tuple(zip(parts[::2], parts[1::2], strict=True))
    return _known_headers.keep(lines, pairs, 2 * len(lines) + 64 * len(parts))


# --- entry ids: stream, NUL, sequence number in 14 digits, NUL, event id


def entry_id_of(lane: Lane, name: str, sequence: int, event_id: str) -> bytes:
    """`name`: what follows the lane in the name of the stream, a session or an event id."""
    return f"{LANE_LETTERS[lane]}{name}\0{sequence:014d}\0{event_id}".encode()


def stream_of(entry_id: bytes) -> bytes:
    return entry_id[: entry_id.index(b"\0")]


def sequence_of(entry_id: bytes) -> int:
    """By which the events of a stream are sent in order."""
    begin = entry_id.index(b"\0") + 1
    return int(entry_id[begin : begin + 14])


def id_of(entry_id: bytes) -> bytes:
    """The event's id."""
    return entry_id[entry_id.index(b"\0") + 16 :]


def split_stream(stream: bytes) -> tuple[Lane, str]:
    """The lane, and the session or event id."""
    text = stream.decode("utf-8", "replace")
    return _LANES[text[0]], text[1:]


def stream_range(stream: bytes) -> tuple[bytes, bytes]:
    """Between which the entry ids of a stream are, for ZRANGE BYLEX."""
    return b"[" + stream + b"\0", b"(" + stream + b"\1"


def is_leased(entry_id: bytes, lease: bytes | None) -> bool:
    """Whether the lease of its stream includes it; a lease covers a stream up to a sequence number."""
    return lease is not None and sequence_of(entry_id) <= int(lease.split(b" ")[1])
