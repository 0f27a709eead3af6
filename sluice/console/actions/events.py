"""One event: what has happened to it, and why it is not there yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from relay import presence
from relay.process import open_circuit
from relay.queue.history import EndpointHistory, EventHistory, State, history_of
from relay.queue.kept import Kept
from relay.why import why
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, moment, not_found
from sluice.console.actions.paging import endpoint_names
from sluice.http.trace import id_in


@dataclass(frozen=True, slots=True)
class ShowEvent:
    id: str


@dataclass(frozen=True, slots=True)
class EventAttempt:
    at: datetime
    status: int | None
    """null: there was no answer."""
    ms: float
    reason: str


@dataclass(frozen=True, slots=True)
class EventAtEndpoint:
    state: State
    why: str
    """Why it is not there yet, or what became of it."""
    at: datetime | None
    """When it left the queue, or died."""
    due_at: datetime | None
    """When its session is to go on, while it waits."""
    older: int
    """Older events of its session that have to go first."""
    waits_for: str | None
    """The id of the first of them."""
    attempts: tuple[EventAttempt, ...]
    kept_until: datetime | None
    """Until then it can be sent once more, if nothing is dropped for want of room; null: its body is not kept."""


@dataclass(frozen=True, slots=True)
class EventDetails:
    id: str
    event: str | None
    """null: it has left everywhere undelivered, and its content with it."""
    session: str | None
    lane: str
    bytes: int | None
    """Of its body."""
    accepted_at: datetime
    trace: str | None
    """The id of the trace that it came with (`traceparent`), while its content is there."""
    endpoints: Mapping[str, EventAtEndpoint]


async def show(deployment: Deployment, request: ShowEvent) -> EventDetails | Problem:
    """What has happened to an event, and why it is not there yet."""
    names = await endpoint_names(deployment, None)
    history = await history_of(deployment.store, [] if isinstance(names, Problem) else names, request.id)
    if history is None:
        return not_found(
            f"nothing is known of an event {quoted(request.id)}: it was not accepted, or it left longer ago than "
            "relay.retention.delivered keeps"
        )
    relays = await presence.alive(deployment.store)
    return EventDetails(
        id=history.id,
        event=history.type,
        session=history.session,
        lane=history.lane,
        bytes=len(history.event.body) if history.event else None,
        accepted_at=moment(history.accepted_at),
        trace=id_in(history.event.headers) if history.event else None,
        endpoints={part.endpoint: await _at_endpoint(deployment, history, part, relays) for part in history.endpoints},
    )


async def _at_endpoint(
    deployment: Deployment, history: EventHistory, part: EndpointHistory, relays: int
) -> EventAtEndpoint:
    endpoint = deployment.policies.relay.endpoints.get(part.endpoint)
    if endpoint is None:
        because = f"{part.endpoint} is not an endpoint of the policies: sluice queue move {part.endpoint} NEW"
    else:
        circuit = await open_circuit(deployment.store, endpoint).view()
        pace = endpoint.rate.interval if endpoint.rate else None
        because = why(
            part,
            history,
            circuit,
            pace=pace,
            attempts=endpoint.retry.attempts,
            relays=1 if endpoint.internal else relays,
        )
    return EventAtEndpoint(
        state=part.state,
        why=because,
        at=None if part.at is None else moment(part.at),
        due_at=moment(part.due) if part.due is not None and part.state == "waiting" else None,
        older=part.older,
        waits_for=part.waits_for,
        attempts=tuple(EventAttempt(moment(one.at), one.status, one.ms, one.reason) for one in part.attempts),
        kept_until=await _kept_until(deployment, history, part),
    )


async def _kept_until(deployment: Deployment, history: EventHistory, part: EndpointHistory) -> datetime | None:
    keeps = deployment.policies.relay.retention.bodies
    if not keeps or part.state != "delivered" or part.at is None:
        return None
    kept = await Kept(deployment.store, part.endpoint).by_ids([history.id])
    return moment(kept[0].place.delivered / 1000 + keeps) if kept else None
