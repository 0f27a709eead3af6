"""Who ended a connection, and with what. Pure."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from websockets.exceptions import ConnectionClosed

EMPTY, VANISHED = 1005, 1006  # codes that are never sent (RFC 6455 §7.4.1)
GOING_AWAY, INTERNAL_ERROR, RESTART = 1001, 1011, 1012

Message = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class End:
    """Who ended the connection, and with what."""

    by: Literal["client", "upstream", "gateway"]
    code: int
    reason: str = ""


def client_end(message: Message) -> End:
    """uvicorn gives a reason, if only an empty one, for the close frames it was sent, and none for what it made up."""
    code = message.get("code", EMPTY)
    if "reason" in message or code not in (EMPTY, VANISHED, RESTART):
        return End("client", code, message.get("reason") or "")
    if code == RESTART:
        return End("gateway", code)
    return End("client", VANISHED)


def upstream_end(closed: ConnectionClosed) -> End:
    if closed.rcvd is not None and closed.rcvd_then_sent:
        return End("upstream", closed.rcvd.code, closed.rcvd.reason)
    return End("upstream", VANISHED, "the upstream broke off")
