"""What is counted and logged of one WebSocket."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from gateway import access_log
from gateway.request import Head
from sluice.http.request_id import id_of, new_line
from sluice.http.server import metrics
from sluice.http.trace import id_of as trace_id, parent_of
from sluice.observe.log import Log

LOG = Log("gateway")


@dataclass(slots=True)
class WebSocketLogEntry:
    """What is counted and logged of one connection."""

    path: str
    head: Head | None = None
    """None: it could not be read."""
    id_line: bytes = field(default_factory=new_line)
    route: str = "-"
    client: str = "-"
    event: str | None = None
    session: str | None = None
    limit: str | None = None
    why: str | None = None
    status: int = 0
    code: int | None = None
    ended_by: str | None = None
    from_client: int = 0
    from_upstream: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    upstream: str | None = None
    upstream_seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def read(self, head: Head) -> None:
        self.head, self.id_line, self.client = head, head.id_line, head.client.text

    def came(self, message: str | bytes) -> None:
        """From the client, and was given to the upstream."""
        self.from_client += 1
        self.bytes_in += _size(message)

    def went(self, message: str | bytes) -> None:
        """From the upstream, and was given to the client."""
        self.from_upstream += 1
        self.bytes_out += _size(message)

    def answered(self, status: int) -> None:
        """The handshake has been answered; counted now, for a connection may last for days."""
        self.status = status
        metrics.request(self.route, status, time.perf_counter() - self.started)

    def write(self, *, combined: bool) -> None:
        if self.why is not None:
            access_log.count(self.why)
        if combined and self.head is not None:
            head = self.head
            LOG.text(
                access_log.combined_line(
                    self.client, head.method.encode(), head.target, 1, self.status, self.bytes_out, head.fields
                )
            )
            return
        said: dict[str, Any] = {
            "path": self.path,
            "route": self.route,
            "status": self.status,
            "code": self.code,
            "ended_by": self.ended_by,
            "seconds": round(time.perf_counter() - self.started, 3),
            "from_client": self.from_client,
            "from_upstream": self.from_upstream,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "client": self.client,
            "request_id": id_of(self.id_line),
            "upstream": self.upstream,
            "upstream_ms": None if self.upstream is None else round(self.upstream_seconds * 1000, 2),
            "event": self.event,
            "session": self.session,
            "limit": self.limit,
            "why": self.why,
        }
        if self.head is not None:
            access_log.tell_client(self.head.fields, said)
            parent = parent_of(self.head.fields)
            said["trace"] = None if parent is None else trace_id(parent)
        LOG.line("websocket", {name: value for name, value in said.items() if value is not None})


def _size(message: str | bytes) -> int:
    """Bytes of it on the wire."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())
