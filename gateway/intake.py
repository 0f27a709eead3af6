"""Webhooks: stored before they are answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.limiter import Decision
from gateway.problems import Refusal
from gateway.request import Head, Json
from relay.event import Event, new_id
from relay.inbox import Accepted, BacklogFull
from relay.lanes import lane_of
from relay.queue import Queue
from relay.sender import ATTEMPT, EVENT_ID
from runtime import metrics
from runtime.policies import EventPolicy, RelayPolicy, Signature
from runtime.signatures import AGEING, proof_of
from runtime.store import StoreAway, StoreRefused

_MADE_ANEW = AGEING | {b"host", b"content-length", EVENT_ID.lower(), ATTEMPT.lower()}
_NEVER_STALE = EventPolicy(ttl=None, keep_latest=False, by=None)


class Intake:
    """Makes events of verified webhooks and puts them into their endpoint's queue.

    `signatures`: all of the policies. The headers of each stay here: whoever proves himself to us by a key must not
    find that we have sent it on.
    """

    def __init__(self, policy: RelayPolicy, queues: Mapping[str, Queue], signatures: Iterable[Signature] = ()) -> None:
        self._policy = policy
        self._queues = queues
        self._made_anew = _MADE_ANEW.union(*(proof_of(signature).names for signature in signatures))

    async def accept(
        self,
        endpoint: str,
        head: Head,
        body: bytes,
        json: Json | None,
        event: str,
        session: str | None,
        decision: Decision,
    ) -> Accepted:
        """Raises Refusal 503 with Retry-After: the store is away, or the backlog is at its cap."""
        given = self._event(endpoint, head, body, json, event, session, decision)
        try:
            accepted = await self._queues[endpoint].accept(given)
        except BacklogFull:
            metrics.refused(endpoint, "backlog_full")
            raise Refusal(503, f"the backlog of {endpoint} is full (relay.backlog)", retry_after=b"30") from None
        except (StoreAway, StoreRefused):
            metrics.refused(endpoint, "store_away")
            raise Refusal(503, "the event could not be stored; send it again", retry_after=b"2") from None
        metrics.accepted(endpoint, event)
        return accepted

    def _event(
        self,
        endpoint: str,
        head: Head,
        body: bytes,
        json: Json | None,
        event: str,
        session: str | None,
        decision: Decision,
    ) -> Event:
        stale = self._policy.events.get(event, _NEVER_STALE)
        key = head.value(b"idempotency-key")
        return Event(
            id=new_id(f"{endpoint}\0{session}\0{key.decode('latin-1')}" if key else None),
            type=event,
            session=session,
            target=head.target,
            headers=tuple((field.name, field.value) for field in head.forwarded() if field.key not in self._made_anew),
            body=body,
            lane=lane_of(event, self._policy.lanes),
            keep=_keep(stale, event, json),
            ttl=stale.ttl or 0.0,
            delay=decision.delay,
            remember=self._policy.dedupe if key else 60.0,
        )


def _keep(stale: EventPolicy, event: str, json: Json | None) -> str:
    """By what a newer event replaces a waiting older one. Where the pointer leads nowhere, nothing is replaced."""
    if not stale.keep_latest:
        return ""
    if stale.by is None:
        return event
    value = json.at(stale.by) if json else None
    return f"{event}\1{value}" if isinstance(value, (str, int)) else ""
