"""Events to try things with."""

from __future__ import annotations

from relay.queue.codec import Event, Lane, new_id
from relay.queue.inbox import Accepted, Inbox
from relay.queue.queue import Queue


def event(session: str | None = "s1", body: bytes = b"{}", lane: Lane = "normal", **more: object) -> Event:
    known = {"id": new_id(), "type": "message_received", "target": b"/hook?a=1", "headers": ((b"X-A", b"1"),)}
    return Event(**{**known, "session": session, "body": body, "lane": lane, **more})  # type: ignore[arg-type]


async def accept(queue: Queue, event: Event) -> Accepted:
    """Stores an event for this endpoint alone."""
    return await Inbox(queue._store).accept(event, [queue.destination])
