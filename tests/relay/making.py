"""Events to try things with."""

from __future__ import annotations

from relay.queue.codec import Event, Lane, new_id


def event(session: str | None = "s1", body: bytes = b"{}", lane: Lane = "normal", **more: object) -> Event:
    known = {"id": new_id(), "type": "message_received", "target": b"/hook?a=1", "headers": ((b"X-A", b"1"),)}
    return Event(**{**known, "session": session, "body": body, "lane": lane, **more})  # type: ignore[arg-type]
