"""What is counted and logged of one WebSocket."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from sluice.http.server import metrics
from sluice.observe.log import Log

LOG = Log("gateway")


@dataclass(slots=True)
class WebSocketLogEntry:
    """What is counted and logged of one connection."""

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
    started: float = field(default_factory=time.perf_counter)

    def answered(self, status: int) -> None:
        """The handshake has been answered; counted now, for a connection may last for days."""
        self.status = status
        metrics.request(self.route, status, time.perf_counter() - self.started)

    def write(self, path: str) -> None:
        LOG.info(
            "websocket",
            path=path,
            route=self.route,
            status=self.status,
            code=self.code,
            ended_by=self.ended_by,
            seconds=round(time.perf_counter() - self.started, 3),
            from_client=self.from_client,
            from_upstream=self.from_upstream,
            client=self.client,
            event=self.event,
            session=self.session,
            limit=self.limit,
            why=self.why,
        )
