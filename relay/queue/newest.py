"""Which event is the newest of those that supersede each other, whatever their sessions.

A phone has one connected row at its receiver. A `session_ready` that is sent after a newer one of the same phone would
take that away, so it is not sent: not when it is late, nor tried again, replayed or sent once more. The order is that
of their acceptance. Their sessions lie in different partitions, so the newest is noted in a key of its own, and whoever
sends one asks there first (`lua/newest.lua`). That is noted once more where it is sent: a gateway that dies between
storing an event and noting it loses nothing. Owns the keys `sl:{<nn>}:<endpoint>:newest:<what>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relay.queue.codec import Delivery, Stored, Superseding
from relay.queue.layout import partition_of
from sluice.store.client import Call, Store, load_script

_NEWEST = load_script("relay.queue", "newest")
_ENDED = -1
KEY_PATTERNS = ("sl:{<nn>}:<endpoint>:newest:<what>",)


@dataclass(frozen=True, slots=True)
class MaySend:
    """Of an event that is to be sent."""

    may: Literal["go", "wait", "superseded"]
    newest: str
    """The id of the newest one."""


class Newest:
    """Of one endpoint. `remember`: seconds in which an older event may still turn up; `attempt`: those that sending one
    may take. Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, endpoint: str, remember: float, attempt: float) -> None:
        self._store = store
        self._endpoint = endpoint
        self._remember = int(remember * 1000)
        self._attempt = int(attempt * 1000)

    def accepted(self, superseding: Superseding, event_id: str, at: int) -> Call:
        """Notes an event that was accepted. `at`: unix ms."""
        return self._call(superseding, event_id, "", superseding.order or at, 0)

    async def may_send(self, delivery: Delivery, *, alone: bool) -> MaySend:
        """Whether it may be sent. `alone`: while no older one is being sent for another session; then `ended` follows
        when its attempt is over."""
        may, newest = await self._ask(delivery, self._attempt if alone else 0)
        return MaySend(may.decode(), newest.decode())

    async def ended(self, delivery: Delivery) -> None:
        """The next one need not wait any more."""
        await self._ask(delivery, _ENDED)

    async def _ask(self, delivery: Delivery, takes: int) -> Any:
        superseding = delivery.superseding
        assert superseding is not None
        order = superseding.order or round(delivery.accepted_at * 1000)
        call = self._call(superseding, delivery.id, delivery.session or "", order, takes)
        return (await self._store.run_all([call]))[0]

    def _call(self, superseding: Superseding, event_id: str, session: str, order: int, takes: int) -> Call:
        key = _key(self._endpoint, superseding.key)
        return Call(_NEWEST, [key], [order, event_id, session, takes, self._remember])


async def superseded(store: Store, endpoint: str, events: Iterable[Stored]) -> set[str]:
    """The ids of those that are no longer sent to an endpoint. Raises StoreAway or StoreRefused."""
    each = [(event, event.superseding) for event in events if event.superseding is not None]
    keys = [_key(endpoint, superseding.key) for _, superseding in each]
    known: Sequence[bytes | None] = await store.commands(*(("GET", key) for key in keys)) if keys else []
    return {event.id for (event, one), newest in zip(each, known, strict=True) if _is_older(event, one, newest)}


def _is_older(event: Stored, superseding: Superseding, newest: bytes | None) -> bool:
    """As `lua/newest.lua` has it."""
    if newest is None:
        return False
    at, identity, *_ = newest.decode("utf-8", "replace").split("\0")
    ours, theirs = event.id.partition("~")[0], identity.partition("~")[0]
    order = superseding.order or round(event.accepted_at * 1000)
    return ours != theirs and (order, ours) < (int(at), theirs)


def _key(endpoint: str, what: str) -> str:
    return f"sl:{{{partition_of(what):02d}}}:{endpoint}:newest:{what}"
