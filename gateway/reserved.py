"""The reserved paths under `/_sluice/`: health, metrics, the workers' API, publishing, and what the console adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.ingest import publish
from gateway.ingest.webhooks import Ingest
from gateway.policies import Policies
from relay import metrics as relay_metrics, presence
from relay.circuit import Circuit
from relay.process import open_circuit
from relay.progress import Progress
from relay.queue.queue import Queue
from relay.queue.stranded import stranded
from sessions import api as worker_api, metrics as session_metrics
from sessions.registry import Registry
from sluice.http.bodies import BodyBudget
from sluice.observe import metrics
from sluice.store.client import Store, StoreAway, StoreRefused

PREFIX = "/_sluice"
_PREFIX = PREFIX.encode()


def is_reserved(target: bytes) -> bool:
    """Whether a target, which may have a query, is answered here and never by a route."""
    if not target.startswith(b"/_") and b"%" not in target:
        return False
    path = unquote_to_bytes(target.partition(b"?")[0])
    return path == _PREFIX or path.startswith(_PREFIX + b"/")


def build(
    policies: Policies,
    store: Store,
    registry: Registry,
    queues: Mapping[str, Queue],
    ingest: Ingest,
    bodies: BodyBudget,
    more: Sequence[BaseRoute],
) -> Starlette:
    """`more`: the console's routes, handed in from above."""

    progress = Progress()
    circuits = {name: open_circuit(store, endpoint) for name, endpoint in policies.relay.endpoints.items()}

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        problems = await _not_ready(store, queues, circuits, progress)
        return JSONResponse(
            {"status": "not ready" if problems else "ready", "problems": problems}, 503 if problems else 200
        )

    async def metrics_page(_: Request) -> Response:
        await _read_gauges(store, registry, queues)
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    verify = policies.signatures[policies.sessions.verify] if policies.sessions.verify else None
    return Starlette(
        routes=[
            Route(f"{PREFIX}/healthz", healthz),
            Route(f"{PREFIX}/readyz", readyz),
            Route(f"{PREFIX}/metrics", metrics_page),
            *worker_api.routes(registry, bodies, lambda: verify),
            *publish.routes(policies, ingest, bodies),
            *more,
        ]
    )


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


async def _read_gauges(store: Store, registry: Registry, queues: Mapping[str, Queue]) -> None:
    """Brings the gauges up to date; what cannot be read right now keeps its last value."""
    try:
        for name, queue in queues.items():
            counts = await queue.counts()
            for place, events in (("waiting", counts.waiting), ("leased", counts.leased), ("dead", counts.dead)):
                relay_metrics.queue_holds(name, place, events)
        left = (await stranded(store, queues)).values()
        relay_metrics.stranded(sum(counts.waiting + counts.leased + counts.dead for counts in left))
        session_metrics.sessions_are((await registry.summary()).states)
    except (StoreAway, StoreRefused):
        return
