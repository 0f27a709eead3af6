"""An event that a person sends to an endpoint to see it arrive: it goes the way of any other, and is signed as they."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import orjson

from relay.process import open_queue
from relay.queue.codec import Event, new_id
from relay.queue.errors import BacklogFull
from relay.queue.inbox import Inbox
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind, unknown_endpoint
from sluice.http.decode import Bounds, Form

_TYPE = r"[A-Za-z0-9_.:/-]{1,128}"
_PATH = r"(/[!-~]{0,2047})?"
_HEADERS = ((b"Content-Type", b"application/json"),)


@dataclass(frozen=True, slots=True)
class TryEndpoint:
    endpoint: str
    event: Annotated[str, Form(_TYPE, "an event type, 1 to 128 of A-Z a-z 0-9 _ . : / -")] = "sluice_test"
    """Laravel knows no such event, and answers 200 to it."""
    path: Annotated[str, Bounds(0, 2048), Form(_PATH, "a path such as /hooks/orders")] = ""
    """Behind the endpoint's url; empty: the url itself."""
    session: Annotated[str, Bounds(0, 200)] = ""
    """Behind whose older events it goes; empty: it is of no session."""
    dry_run: bool = False
    """Nothing is sent; the answer says what would be."""


@dataclass(frozen=True, slots=True)
class TriedEndpoint:
    id: str | None
    """By which show_event tells what becomes of it; null: dry run."""
    url: str
    """To which it goes."""
    signed: bool
    body: str
    waiting: int
    """Events that wait for this endpoint already."""


async def try_endpoint(deployment: Deployment, request: TryEndpoint) -> TriedEndpoint | Problem:
    """Send a test event to an endpoint, as if a worker had sent it; Laravel takes it for one that it does not know."""
    policies = deployment.policies
    endpoint = policies.relay.receivers.get(request.endpoint)
    if endpoint is None:
        return unknown_endpoint(request.endpoint, policies.relay.receivers)
    if not request.session.isprintable():
        return Problem(ProblemKind.INVALID, "session: must be printable")
    queue = open_queue(deployment.store, endpoint, policies)
    counts = await queue.counts()
    event = _event(request)
    plan = TriedEndpoint(
        None,
        endpoint.url + request.path,
        endpoint.sign is not None,
        event.body.decode(),
        counts.waiting + counts.leased,
    )
    if request.dry_run:
        return plan
    try:
        await Inbox(deployment.store).accept(event, [queue.destination])
    except BacklogFull:
        return Problem(
            ProblemKind.CONFLICT,
            f"the backlog of {endpoint.name} is full (relay.backlog): skip or drop what waits (sluice queue list)",
        )
    return TriedEndpoint(event.id, plan.url, plan.signed, plan.body, plan.waiting)


def _event(request: TryEndpoint) -> Event:
    session = request.session or None
    data = {"session_id": session, "workspace_id": None, "sent_by": "sluice"}
    return Event(
        id=new_id(),
        type=request.event,
        session=session,
        target=request.path.encode(),
        headers=_HEADERS,
        body=orjson.dumps({"event": request.event, "data": data}),
        lane="urgent",
    )
