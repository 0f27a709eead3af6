"""WebSockets: passed on message by message between a client, whose side the server speaks, and an upstream.

The rules, each with a test of its name in `tests/gateway/proxy/websocket`:

1.  Nothing is opened upstream before a handshake has passed everything that a request passes; what refuses it is an
    answer in plain HTTP. So is what the upstream refuses it with.
2.  The target goes out byte for byte, the end-to-end headers in their order; the handshake's own are made anew on
    either side, so the two sides need not speak the same extensions. We offer an upstream none.
3.  Messages arrive whole, in their order, as text or binary. 16 of them, or 64 KiB and the last, wait here; then
    whoever sends waits too. One that is not taken for `idle` seconds ends the connection.
4.  What a side closes with is what the other is closed with. A side that vanishes is never reported as a clean end:
    the client reads 1011, the upstream 1001.
5.  No side delays other connections by what it sends: frames are read in turns (`sluice.http.websocket`). Who sends
    more frames without content than `clients.websocket.control`, or a longer message than `message`, is cut off.
6.  A connection may be quiet for as long as both sides answer pings; one that does not is gone after 40 seconds.
"""

from __future__ import annotations

from gateway.proxy.websocket.balanced import BalancedWebSocket
from gateway.proxy.websocket.client_side import ClientSide
from gateway.proxy.websocket.log_entry import WebSocketLogEntry
from gateway.proxy.websocket.serving import Destination, read_handshake, serve
from gateway.proxy.websocket.upstream import NotTheOne, WebSocketUpstream, WorkerWebSocket

__all__ = [
    "BalancedWebSocket",
    "ClientSide",
    "Destination",
    "NotTheOne",
    "WebSocketLogEntry",
    "WebSocketUpstream",
    "WorkerWebSocket",
    "read_handshake",
    "serve",
]
