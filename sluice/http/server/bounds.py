"""How long, and how much, one client may take of a server."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.http.websocket.limits import UNLESS_WRITTEN, WebSocketLimits


@dataclass(frozen=True, slots=True)
class ClientBounds:
    """Of one connection, from the moment it is made. Durations are seconds, sizes bytes."""

    first_byte: float = 10.0
    """Until the first byte of the first request."""
    head: float = 30.0
    """From the first byte of a head to its last."""
    body: float = 75.0
    """The longest pause within a body, while somebody is there to take it."""
    send: float = 60.0
    """The longest time in which a client takes nothing of what was written for it, as nginx's send_timeout."""
    keep_alive: float = 75.0
    """From an answer to the first byte of the next request."""
    head_size: int = 64 * 1024
    websocket: WebSocketLimits = UNLESS_WRITTEN
    """How much either side of a WebSocket may send."""
