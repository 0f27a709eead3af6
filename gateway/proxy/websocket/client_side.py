"""The client's side of a WebSocket, as the server hands it over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.problems import Receive, Send
from gateway.proxy.websocket.log_entry import WebSocketLogEntry
from gateway.request import Head
from sluice.http.websocket import WebSocketLimits


@dataclass(frozen=True, slots=True)
class ClientSide:
    head: Head
    offered: Sequence[str]
    """The subprotocols that it offers."""
    receive: Receive
    send: Send
    entry: WebSocketLogEntry
    limits: WebSocketLimits
    """How much either side may send."""
