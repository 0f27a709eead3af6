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


class StaleFence(Exception):
    """Its session has another owner by now: an event under a higher fence was accepted; this one was not stored."""


class FenceBeyond(Exception):
    """No lease can have its fence yet, as it is more than an hour ahead of the store's time; it was not stored."""


class NotReplicated(StoreAway):
    """The store has the event, but too few of its replicas have: a failover could lose it, so it is not accepted."""
