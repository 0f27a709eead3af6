"""Why an event is not accepted."""

from __future__ import annotations

from sluice.store.protocol.errors import StoreAway


class BacklogFull(Exception):
    """The backlog of `endpoint` is at its cap, and no other endpoint may take the event alone; nothing was stored."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(f"the backlog of {endpoint} is full")
        self.endpoint = endpoint


class OtherContent(Exception):
    """An event with the same id was accepted before, with other content; this one was not stored."""


class NotReplicated(StoreAway):
    """The store has the event, but too few of its replicas have: a failover could lose it, so it is not accepted."""
