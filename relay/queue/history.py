"""What has happened to one event at each of its endpoints.

Where an event waits is read from the queues. Of one that has left, its attempts stay in the endpoint's history for
`retention.delivered`, of the last 25,000 in each partition at most; its body is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from relay.queue import codec, delays, history_codec, locating
from relay.queue.codec import Lane, Stored, id_of, stream_of
from relay.queue.history_codec import Attempt, Departed, read_attempts, text
from relay.queue.layout import PARTITIONS, any_key, own_key, shared_key
from sluice.store import clock
from sluice.store.client import Arg, Store

State = Literal["waiting", "leased", "dead", "delivered", "expired", "replaced", "superseded", "dropped"]
_PAGES = 100  # of the history in one round trip; on a page are the events that left in one poll


@dataclass(frozen=True, slots=True)
class EndpointHistory:
    """The event at one endpoint. Moments in unix seconds."""

    endpoint: str
    state: State
    failed: int
    """Attempts so far that count."""
    attempts: tuple[Attempt, ...]
    """The last ones, those that do not count included."""
    at: float | None = None
    """When it left, or died."""
    due: float | None = None
    """When its session is to go on: the end of a delay, of a backoff, or of the lease while it is leased."""
    older: int = 0
    """Older events of its session that have to go first."""
    waits_for: str | None = None
    """The id of the first of them."""
    reason: str = ""
    """Dead, dropped: why it died. Replaced, superseded: the id of the newer event."""
    delayed_by: str | None = None
    """The limit that delays it."""
    awaits: str | None = None
    """The id of what goes first in its session, for which it waits; empty: that has not come yet."""


@dataclass(frozen=True, slots=True)
class EventHistory:
    id: str
    session: str | None
    lane: Lane
    accepted_at: float
    now: float
    """The time in its partition (`sluice/store/clock.py`)."""
    endpoints: tuple[EndpointHistory, ...]
    event: Stored | None
    """None: it has left everywhere, and its content is gone."""
    type: str | None = None
    """None: it has left everywhere undelivered."""


async def history_of(store: Store, endpoints: Sequence[str], event_id: str) -> EventHistory | None:
    """None where nothing is known of it. Raises StoreAway or StoreRefused."""
    answers = await store.run_all(
        [clock.look(any_key(partition)) for partition in range(PARTITIONS)],
        [("HGET", shared_key(partition, "events"), event_id) for partition in range(PARTITIONS)],
    )
    times, records = [clock.seconds(answer) for answer in answers[:PARTITIONS]], answers[PARTITIONS:]
    found = next(((p, record) for p, record in enumerate(records) if record is not None), None)
    if found is None:
        departed = await _departed(store, endpoints, range(PARTITIONS), event_id)
        return _history_of_departed(event_id, max(times), departed) if departed else None
    partition, event = found[0], codec.unpack(found[1])
    here = {name: await _in_queue(store, name, partition, event) for name in endpoints}
    elsewhere = [name for name, history in here.items() if history is None]
    for name, entry in (await _departed(store, elsewhere, [partition], event_id)).items():
        here[name] = _endpoint_history(name, entry)
    histories = tuple(history for history in here.values() if history is not None)
    return EventHistory(
        event_id, event.session, event.lane, event.accepted_at, times[partition], histories, event, event.type
    )


async def forget_older(store: Store, endpoint: str, seconds: float) -> None:
    """Drops what is known of events that left longer ago than this. Raises StoreAway or StoreRefused."""
    times = await clock.times(store, [any_key(partition) for partition in range(PARTITIONS)])
    for partition, now in enumerate(times):
        oldest, key = now - seconds, own_key(endpoint, partition, "history")
        while True:
            (pages,) = await store.commands(("LRANGE", key, 0, _PAGES - 1))
            old = sum(history_codec.written_at(page) < oldest for page in pages)
            if not old:
                break
            await store.commands(("LTRIM", key, old, -1))


async def ids_of_departed(store: Store, endpoint: str, partition: int) -> set[bytes]:
    """Of the events that the history of an endpoint knows. Raises StoreAway or StoreRefused."""
    return {id_of(entry.entry_id) async for entry in departed_of(store, endpoint, partition)}


async def departed_of(store: Store, endpoint: str, partition: int) -> AsyncIterator[Departed]:
    """All that the history of an endpoint knows in a partition, the last ones first.

    Raises StoreAway or StoreRefused.
    """
    key, end = own_key(endpoint, partition, "history"), -1
    while True:
        (pages,) = await store.commands(("LRANGE", key, end - _PAGES + 1, end))
        for page in reversed(pages):
            for entry in reversed([*history_codec.entries(page)]):
                yield entry
        if len(pages) < _PAGES:
            return
        end -= _PAGES


async def _in_queue(store: Store, endpoint: str, partition: int, event: Stored) -> EndpointHistory | None:
    """Where it is in the queue of an endpoint; None: not there."""
    latest: bytes | None = None
    if event.coalesce_key:
        (latest,) = await store.commands(("HGET", own_key(endpoint, partition, "latest"), event.coalesce_key))
    entry_ids = locating.forms(event, latest)
    queue, dead = own_key(endpoint, partition, "queue"), own_key(endpoint, partition, "dead")
    scores = await store.commands(
        *(("ZSCORE", queue, entry_id) for entry_id in entry_ids),
        *(("ZSCORE", dead, entry_id) for entry_id in entry_ids),
    )
    for entry_id, is_waiting, died in zip(entry_ids, scores, scores[len(entry_ids) :], strict=False):
        if died is not None:
            return await _dead(store, endpoint, partition, entry_id, float(died) / 1000)
        if is_waiting is not None:
            return await _waiting(store, endpoint, partition, entry_id, event)
    return None


async def _dead(store: Store, endpoint: str, partition: int, entry_id: bytes, died: float) -> EndpointHistory:
    attempts = own_key(endpoint, partition, "attempts")
    reason, (failed, log) = await store.commands(
        ("HGET", own_key(endpoint, partition, "reasons"), entry_id),
        ("HMGET", attempts, entry_id, history_codec.attempt_log_field(entry_id)),
    )
    return EndpointHistory(endpoint, "dead", int(failed or 0), read_attempts(log), at=died, reason=text(reason))


async def _waiting(store: Store, endpoint: str, partition: int, entry_id: bytes, event: Stored) -> EndpointHistory:
    stream, queue = stream_of(entry_id), own_key(endpoint, partition, "queue")
    begin, end = codec.stream_range(stream)
    not_before = round(event.not_before * 1000)
    session = codec.split_stream(stream)[1]
    lease, due, older, heads, (failed, log), delayed, awaited = await store.commands(
        ("HGET", own_key(endpoint, partition, "leases"), stream),
        ("ZSCORE", own_key(endpoint, partition, event.lane), stream),
        ("ZLEXCOUNT", queue, begin, b"(" + entry_id),
        ("ZRANGE", queue, begin, end, "BYLEX", "LIMIT", 0, 1),
        ("HMGET", own_key(endpoint, partition, "attempts"), entry_id, history_codec.attempt_log_field(entry_id)),
        ("ZRANGE", own_key(endpoint, partition, "delayed"), not_before, not_before, "BYSCORE"),
        ("HGET", own_key(endpoint, partition, "awaits"), session),
    )
    first = heads[0] if heads and heads[0] != entry_id else None
    return EndpointHistory(
        endpoint,
        "leased" if codec.is_leased(entry_id, lease) else "waiting",
        int(failed or 0),
        read_attempts(log),
        due=float(due) / 1000 if due is not None else None,
        older=int(older),
        waits_for=text(id_of(first)) if first is not None else None,
        delayed_by=delays.limit_of(delayed, event.id),
        awaits=_awaits(awaited) if awaited is not None and event.lane != "urgent" else None,
    )


def _awaits(stored: bytes) -> str:
    """As `awaits` of `relay/queue/lua/partition.lua` has it."""
    _, _, entry_id = stored.partition(b" ")
    return text(id_of(entry_id)) if entry_id else ""


async def _departed(
    store: Store, endpoints: Sequence[str], partitions: Sequence[int], event_id: str
) -> dict[str, Departed]:
    """By endpoint. Newest pages first, some pages of all endpoints in one round trip."""
    lists = [(endpoint, own_key(endpoint, partition, "history")) for endpoint in endpoints for partition in partitions]
    found: dict[str, Departed] = {}
    end = -1
    while lists:
        ranges: list[Sequence[Arg]] = [("LRANGE", key, end - _PAGES + 1, end) for _, key in lists]
        further = []
        for (endpoint, key), pages in zip(lists, await store.commands(*ranges), strict=True):
            entry = next(
                filter(None, (history_codec.find_on_page(page, event_id.encode()) for page in reversed(pages))), None
            )
            if entry is not None:
                found[endpoint] = entry
            elif len(pages) == _PAGES:
                further.append((endpoint, key))
        lists, end = further, end - _PAGES
    return found


def _history_of_departed(event_id: str, now: float, departed: dict[str, Departed]) -> EventHistory:
    first = next(iter(departed.values()))
    lane, _ = codec.split_stream(stream_of(first.entry_id))
    kind = next((entry.type for entry in departed.values() if entry.type), None)
    histories = tuple(_endpoint_history(endpoint, entry) for endpoint, entry in departed.items())
    return EventHistory(event_id, first.session, lane, first.accepted_at, now, histories, None, kind)


def _endpoint_history(endpoint: str, entry: Departed) -> EndpointHistory:
    attempts = entry.attempts
    if entry.state == "delivered" and entry.summary:
        attempts = (*attempts, replace(history_codec.read_attempt(entry.at, entry.summary), reason=""))
    reason = entry.summary if entry.state in ("replaced", "superseded", "dropped") else ""
    return EndpointHistory(endpoint, entry.state, entry.failed, attempts, at=entry.at, reason=reason)
