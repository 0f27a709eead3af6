"""The reserved paths under `/_sluice/`: health, metrics, the APIs of workers and of the vault, publishing, and what the
console adds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway import gauges
from gateway.ingest import publish
from gateway.ingest.webhooks import Ingest
from gateway.look import look
from gateway.reserved_access import PREFIX, ReservedPaths, client_of_scope
from gateway.resources import Resources
from relay import presence
from relay.circuit import Circuit
from relay.process import open_circuit
from relay.progress import Progress
from relay.queue.queue import Queue
from sessions import api as worker_api
from sessions.wakeups import Wakeups
from sluice.http.bodies import BodyBudget
from sluice.http.problem import FAILED, Refusal
from sluice.http.signed_json import problem
from sluice.process.shared import Shared
from sluice.store.client import Store, StoreAway, StoreRefused

_FRESH = 1.0
"""Seconds for which one page of metrics, and one look at the readiness, serve everybody."""
_FULL_FOR = 10.0
"""Seconds after the last event that was turned away in which a backlog is called full."""


def build(
    resources: Resources,
    ingest: Ingest,
    wakeups: Wakeups,
    bodies: BodyBudget,
    vault: Sequence[BaseRoute],
    more: Sequence[BaseRoute],
) -> ReservedPaths:
    """`vault`: its API. `more`: the console's routes, handed in from above."""

    policies, store, queues = resources.policies, resources.store, resources.queues
    page, readiness = Shared[bytes](_FRESH), Shared[tuple[list[str], list[str]]](_FRESH)
    circuits = {name: open_circuit(store, endpoint) for name, endpoint in policies.relay.endpoints.items()}

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def look_for_problems() -> tuple[list[str], list[str]]:
        return await _not_ready(store, queues, circuits, resources.progress), await _full(queues)

    async def readyz(_: Request) -> Response:
        problems, warnings = await readiness.get(look_for_problems)
        body = {"status": "not ready" if problems else "ready", "problems": problems, "warnings": warnings}
        return JSONResponse(body, 503 if problems else 200)

    async def make_page() -> bytes:
        seen = await look(resources)
        return gauges.page(seen, policies.relay, resources.watched(), resources.certificates)

    async def metrics_page(request: Request) -> Response:
        try:
            if policies.admin.metrics == "token":
                client = client_of_scope(request.scope, policies.trust.proxies)
                given = request.headers.get("authorization", "")
                resources.tokens.check(given, policies.console, client, time.monotonic())
        except Refusal as refusal:
            return refused_token(request, refusal)
        return Response(await page.get(make_page), media_type="text/plain; version=0.0.4; charset=utf-8")

    keys = policies.sessions.keys_of(policies.signatures, policies.listeners)
    application = Starlette(
        routes=[
            Route(f"{PREFIX}/healthz", healthz),
            Route(f"{PREFIX}/readyz", readyz),
            Route(f"{PREFIX}/metrics", metrics_page),
            *worker_api.routes(resources.registry, wakeups, bodies, lambda: keys),
            *publish.routes(policies, ingest, bodies),
            *more,
            *vault,
        ],
        exception_handlers={HTTPException: _not_here, Exception: _failed},
    )
    return ReservedPaths(policies, application)


def refused_token(request: Request, refusal: Refusal) -> Response:
    """401 says which scheme is meant (RFC 6750 section 3)."""
    return problem(request, refusal, {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow", "")
    detail = f"this path takes {allowed}" if allowed else f"there is nothing at this path of {PREFIX}/"
    return problem(request, Refusal(error.status_code, detail), error.headers)


async def _failed(request: Request, _: Exception) -> Response:
    return problem(request, FAILED)


async def _not_ready(
    store: Store, queues: Mapping[str, Queue], circuits: Mapping[str, Circuit], progress: Progress
) -> list[str]:
    """Why this deployment does not do its work, in words."""
    try:
        relays = await presence.alive(store)
        if queues and not relays:
            return ["no relay is running: events are accepted and wait"]
        return [
            f"what is due for {name} is not claimed, though its circuit is closed"
            for name, queue in queues.items()
            if await progress.stalled(queue, circuits[name])
        ]
    except (StoreAway, StoreRefused) as error:
        return [f"the store does not answer: {error}"]


async def _full(queues: Mapping[str, Queue]) -> list[str]:
    """Which endpoints refuse events, in words. Other gateways refuse them too, so it is no reason to avoid this one."""
    warnings: list[str] = []
    try:
        for name, queue in queues.items():
            counts, most = await queue.counts(), queue.destination
            turned_away = [counts.lately[what] for what in ("refused", "left_out") if what in counts.lately]
            if any(lately.last < _FULL_FOR for lately in turned_away):
                used = f"{counts.waiting + counts.leased} of {most.max_events} events"
                warnings.append(
                    f"the backlog of {name} is full ({used}, {counts.bytes} of {most.max_bytes} bytes): events are "
                    "refused, or leave it out (relay.backlog)"
                )
    except (StoreAway, StoreRefused):
        pass
    return warnings
