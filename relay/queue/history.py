"""What has happened to one event, and why it is not there yet.

Where an event waits is read from the queues. Of one that has left, a few words remain with its endpoint for
`retention.delivered`, of the last 25,000 in each partition at most; its body is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relay.circuit import CircuitStatus
from relay.queue.codec import Stored, id_of, unpack
from relay.queue.layout import PARTITIONS, own_keys, shared_keys
from sluice.store.client import Arg, Store

State = Literal["waiting", "leased", "dead", "delivered", "expired", "replaced", "dropped"]
_LANES = {"u": "urgent", "n": "normal", "b": "bulk"}
_STATES: dict[bytes, State] = {
    b"delivered": "delivered",
    b"expired": "expired",
    b"replaced": "replaced",
    b"dropped": "dropped",
}
_PAGES = 100  # in one round trip; on one are those of one turn


@dataclass(frozen=True, slots=True)
class Attempt:
    """One that has ended. `at` in unix seconds, `status` None: there was no answer."""

    at: float
    status: int | None
    ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class EndpointHistory:
    """The event at one endpoint. Moments in unix seconds."""

    endpoint: str
    state: State
    failed: int
    """Attempts so far that count."""
    history: tuple[Attempt, ...]
    """The last of them, those that do not count included."""
    at: float | None = None
    """When it left, or died."""
    due: float | None = None
    """When its session is to go on: the end of a delay, of a backoff, or of the lease while it is leased."""
    ahead: int = 0
    """Older events of its session that have to go first."""
    behind: str | None = None
    """The id of the first of them."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EventHistory:
    id: str
    session: str | None
    lane: str
    accepted_at: float
    now: float
    """The store's clock."""
    parts: tuple[EndpointHistory, ...]
    event: Stored | None
    """None: it has left everywhere, and its content with it."""


async def history_of(store: Store, endpoints: Sequence[str], identity: str) -> EventHistory | None:
    """None where nothing is known of it. Raises StoreAway or StoreRefused."""
    clock, *records = await store.commands(
        ("TIME",), *(("HGET", shared_keys(partition)[0], identity) for partition in range(PARTITIONS))
    )
    now = int(clock[0]) + int(clock[1]) / 1e6
    found = next(((p, record) for p, record in enumerate(records) if record is not None), None)
    if found is None:
        gone = await _gone(store, endpoints, range(PARTITIONS), identity)
        return _story_of_gone(identity, now, gone) if gone else None
    partition, event = found[0], unpack(found[1])
    here = {name: await _part(store, name, partition, event) for name in endpoints}
    elsewhere = [name for name, part in here.items() if part is None]
    for one in await _gone(store, elsewhere, [partition], identity):
        here[one.part.endpoint] = one.part
    parts = tuple(part for part in here.values() if part is not None)
    return EventHistory(identity, event.session, _LANES[event.lane], event.accepted_at, now, parts, event)


async def forget_older(store: Store, endpoint: str, seconds: float) -> None:
    """Drops what is known of events that left longer ago than this. Raises StoreAway or StoreRefused."""
    ((now, _),) = await store.commands(("TIME",))
    for partition in range(PARTITIONS):
        left = _own(endpoint, partition)["left"]
        while True:
            (pages,) = await store.commands(("LRANGE", left, 0, _PAGES - 1))
            old = sum(int(page.partition(b" ")[0]) / 1000 < int(now) - seconds for page in pages)
            if not old:
                break
            await store.commands(("LTRIM", left, old, -1))


# --- reading


def _own(endpoint: str, partition: int) -> dict[str, str]:
    return {key.rpartition(":")[2]: key for key in own_keys(endpoint, partition)}


async def _part(store: Store, endpoint: str, partition: int, event: Stored) -> EndpointHistory | None:
    """Where it is in the queue of an endpoint; None: not there."""
    key = _own(endpoint, partition)
    eids = [_eid(event.lane, event.session or event.id, event), _eid(event.lane, event.id, event)]
    if event.kept:
        (replacing,) = await store.commands(("HGET", key["latest"], event.kept))
        if replacing is not None and id_of(replacing) == event.id.encode():
            eids.insert(0, replacing)
    destinations = await store.commands(
        *(("ZSCORE", key["queue"], entry_id) for entry_id in eids),
        *(("ZSCORE", key["dead"], entry_id) for entry_id in eids),
    )
    for entry_id, waits, died in zip(eids, destinations, destinations[len(eids) :], strict=False):
        if died is not None:
            return await _dead(store, endpoint, key, entry_id, float(died) / 1000)
        if waits is not None:
            return await _waiting(store, endpoint, key, entry_id, _LANES[event.lane])
    return None


async def _dead(store: Store, endpoint: str, key: dict[str, str], entry_id: bytes, died: float) -> EndpointHistory:
    reason, (failed, history) = await store.commands(
        ("HGET", key["reasons"], entry_id), ("HMGET", key["attempts"], entry_id, entry_id + b"\3")
    )
    return EndpointHistory(endpoint, "dead", int(failed or 0), _attempts(history), at=died, reason=_text(reason))


async def _waiting(store: Store, endpoint: str, key: dict[str, str], entry_id: bytes, lane: str) -> EndpointHistory:
    stream = entry_id[: entry_id.index(b"\0")]
    owner, due, ahead, heads, (failed, history) = await store.commands(
        ("HGET", key["owners"], stream),
        ("ZSCORE", key[lane], stream),
        ("ZLEXCOUNT", key["queue"], b"[" + stream + b"\0", b"(" + entry_id),
        ("ZRANGE", key["queue"], b"[" + stream + b"\0", b"(" + stream + b"\1", "BYLEX", "LIMIT", 0, 1),
        ("HMGET", key["attempts"], entry_id, entry_id + b"\3"),
    )
    leased = owner is not None and _seq(entry_id) <= int(owner.split(b" ")[1])
    first = heads[0] if heads and heads[0] != entry_id else None
    return EndpointHistory(
        endpoint,
        "leased" if leased else "waiting",
        int(failed or 0),
        _attempts(history),
        due=float(due) / 1000 if due is not None else None,
        ahead=int(ahead),
        behind=_text(id_of(first)) if first is not None else None,
    )


@dataclass(frozen=True, slots=True)
class _Departed:
    """What a page says of an event."""

    stream: str
    accepted_at: float
    part: EndpointHistory


async def _gone(store: Store, endpoints: Sequence[str], partitions: Sequence[int], identity: str) -> list[_Departed]:
    """Newest first through what each endpoint knows of those that have left, some pages of all of them at a time."""
    lists = [(endpoint, _own(endpoint, partition)["left"]) for endpoint in endpoints for partition in partitions]
    found: list[_Departed] = []
    end = -1
    while lists:
        asked: list[Sequence[Arg]] = [("LRANGE", left, end - _PAGES + 1, end) for _, left in lists]
        further = []
        for (endpoint, left), pages in zip(lists, await store.commands(*asked), strict=True):
            gone = next(filter(None, (_on_page(endpoint, page, identity.encode()) for page in reversed(pages))), None)
            if gone is not None:
                found.append(gone)
            elif len(pages) == _PAGES:
                further.append((endpoint, left))
        lists, end = further, end - _PAGES
    return found


def _story_of_gone(identity: str, now: float, gone: Sequence[_Departed]) -> EventHistory:
    stream = gone[0].stream
    session = stream[1:] if stream[1:] != identity else None
    parts = tuple(one.part for one in gone)
    return EventHistory(identity, session, _LANES[stream[0]], gone[0].accepted_at, now, parts, None)


def _on_page(endpoint: str, page: bytes, identity: bytes) -> _Departed | None:
    """What the last line about this event says on a page (`relay/queue/lua/partition.lua`)."""
    if b"\0" + identity + b"\1" not in page:
        return None
    header, _, rest = page.partition(b"\n")
    found = None
    while rest:
        about, _, rest = rest.partition(b"\n")
        entry_id, _, rest = rest.partition(b"\1")
        accepted, how, failed, length, told = about.split(b" ", 4)
        attempts, rest = rest[: int(length)], rest[int(length) :]
        if id_of(entry_id) == identity:
            found = (entry_id, accepted, how, failed, told, attempts)
    return found and _told(endpoint, header, *found)


def _told(
    endpoint: str,
    header: bytes,
    entry_id: bytes,
    accepted: bytes,
    how: bytes,
    failed: bytes,
    told: bytes,
    attempts: bytes,
) -> _Departed:
    at, state, history = int(header.partition(b" ")[0]) / 1000, _STATES[how], _attempts(attempts)
    if state == "delivered" and told:
        history = (*history, _attempt(at, told))
    reason = _text(told) if state in ("replaced", "dropped") else ""
    stream = _text(entry_id.partition(b"\0")[0])
    return _Departed(
        stream, int(accepted) / 1000, EndpointHistory(endpoint, state, int(failed), history, at=at, reason=reason)
    )


def _eid(lane: str, of: str, event: Stored) -> bytes:
    return f"{lane}{of}\0{event.seq:014d}\0{event.id}".encode()


def _seq(entry_id: bytes) -> int:
    at = entry_id.index(b"\0") + 1
    return int(entry_id[at : at + 14])


def _attempts(history: bytes | None) -> tuple[Attempt, ...]:
    lines = (line.partition(b" ") for line in (history or b"").splitlines())
    return tuple(_attempt(int(at) / 1000, told) for at, _, told in lines)


def _attempt(at: float, told: bytes) -> Attempt:
    """Of `relay.deliver.retry`'s words: status or `-`, milliseconds, reason."""
    status, ms, *reason = told.decode("utf-8", "replace").split(" ", 2)
    return Attempt(at, int(status) if status.isdigit() else None, float(ms), reason[0] if reason else "")


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


# --- in words


def why(
    part: EndpointHistory,
    story: EventHistory,
    circuit: CircuitStatus,
    *,
    pace: float | None,
    attempts: int,
    relays: int,
) -> str:
    """Why it is not there yet, or what became of it. `pace`: seconds for one, None: as fast as it goes."""
    match part.state:
        case "delivered":
            took = (part.at or story.now) - story.accepted_at
            return f"delivered {_seconds(took)} after it was accepted, by attempt {part.failed + 1}"
        case "expired":
            return "not sent: it was no longer worth sending (relay.events, ttl)"
        case "replaced":
            return f"not sent: {part.reason} took its place (relay.events, keep: latest)"
        case "dropped":
            return f"dropped as a dead letter; it had died because: {_first_line(part.reason)}"
        case "dead":
            return f"a dead letter: {_first_line(part.reason)}; `sluice dead replay {story.id}` sends it again"
        case "leased":
            return f"being delivered right now, attempt {part.failed + 1}"
        case _:
            return _why_waiting(part, story, circuit, pace, attempts, relays)


def _why_waiting(
    part: EndpointHistory, story: EventHistory, circuit: CircuitStatus, pace: float | None, attempts: int, relays: int
) -> str:
    if circuit.held and circuit.state == "open":
        return f"a person holds the circuit of {part.endpoint} open: {circuit.why or 'no reason given'}"
    if circuit.state == "open":
        return f"the circuit of {part.endpoint} is open for {_seconds(circuit.retry_after)} more: {circuit.why}"
    wait = (part.due or story.now) - story.now
    if part.behind is not None:
        older = f"waits behind {part.ahead} older of its session, first {part.behind}"
        return f"{older}, which goes on in {_seconds(wait)} at the latest" if wait > 0 else older
    if wait > 0:
        if part.failed == 0 and not part.history:
            return f"held back for {_seconds(wait)} more by a limit with over: queue"
        last = f": {_first_line(part.history[-1].reason)}" if part.history else ""
        return f"waits {_seconds(wait)} for attempt {part.failed + 1} of {attempts}{last}"
    if not relays:
        return "it is due, but no relay is running"
    if circuit.state == "half-open":
        return f"the circuit of {part.endpoint} is half-open: it waits for a probe to go well"
    if pace is not None:
        return f"it is due, and waits for the pace of {part.endpoint}: one in {_seconds(pace)}"
    return "it is due, and is claimed next"


def _first_line(text: str) -> str:
    return text.splitlines()[0][:200] if text else "no reason given"


def _seconds(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 120:
        return f"{seconds:.1f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7200 else f"{seconds / 3600:.1f}h"
