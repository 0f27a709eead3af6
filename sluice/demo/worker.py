"""A worker without a browser: the existing Node service's HTTP API and webhooks, and the demo's traffic.

It is a `Worker` as the one with browsers is, whose logins are played (`login.py`) and whose webhooks are posted once
(`webhooks.py`). It takes ids: a send that has one is sent once, and called so.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sessions.worker.api import WorkerApi
from sessions.worker.worker import Emit, Worker
from sluice.config import Signature
from sluice.demo.laravel import ndjson
from sluice.demo.login import DemoLogin, OnSent
from sluice.demo.webhooks import TIMEOUT, Accepted, Counts, Webhooks

DRAIN_TIMEOUT = 0.2
"""Seconds in which a stopped session may still send what waits; within the margin by which a lease ends early here."""


class DemoWorker(Worker):
    """`url` is this worker's own address, sent along with every webhook. `minute` is the length of a minute of traffic,
    `timeout` the longest one webhook may take; all in seconds."""

    def __init__(
        self,
        name: str,
        laravel_url: str,
        signature: Signature,
        url: str,
        *,
        minute: float = 60.0,
        traffic: bool = True,
        timeout: float = TIMEOUT,
        drain_timeout: float = DRAIN_TIMEOUT,
    ) -> None:
        self._webhooks = Webhooks(laravel_url, signature, url, timeout)
        self._minute = minute if traffic else None
        self.on_sent: OnSent = lambda session, text, message: None
        """Called with each message that goes out: its session, its text and its id."""
        super().__init__(name, self._webhooks, self._login, drain=drain_timeout)

    @property
    def counts(self) -> Counts:
        return self._webhooks.counts

    @property
    def accepted(self) -> list[Accepted]:
        """The newest webhooks that were answered 2xx, in the order of the answers."""
        return list(self._webhooks.accepted)

    def app(self) -> Starlette:
        app = WorkerApi(self).app()
        app.add_route("/demo/accepted", self._accepted)
        app.add_middleware(BaseHTTPMiddleware, dispatch=self._sign)
        return app

    def _login(self, session: str, fence: int, emit: Emit, may_act: Callable[[], bool]) -> DemoLogin:
        return DemoLogin(session, fence, emit, may_act, self._minute, lambda *sent: self.on_sent(*sent))

    async def _accepted(self, request: Request) -> Response:
        return StreamingResponse(ndjson(self.accepted), media_type="application/x-ndjson")

    async def _sign(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Says on every answer who gave it."""
        response = await call_next(request)
        response.headers["X-Demo-Worker"] = self.name
        return response
