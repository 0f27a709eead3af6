"""Webhooks: stored before they are answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.ingest.hold import Hold
from gateway.limits.decide import Decision
from gateway.policies import Policies
from gateway.request import Head, Json
from relay import metrics
from relay.deliver.sender import ATTEMPT, BATCH_IDS, EVENT_ID
from relay.filters import takes
from relay.policies import EventPolicy, RelayPolicy
from relay.queue.codec import DelayedBy, Event, Headers, new_id
from relay.queue.errors import BacklogFull
from relay.queue.lanes import lane_of
from relay.queue.queue import Queue
from sluice.config import Promise
from sluice.http.senders import USUAL, Sender
from sluice.http.signatures import AGEING, proof_of
from sluice.store.client import StoreAway, StoreRefused

_MADE_ANEW = AGEING | {b"host", b"content-length", EVENT_ID.lower(), ATTEMPT.lower(), BATCH_IDS.lower()}
_REPEATED_SOON = 60.0  # seconds in which a client that heard no answer sends again, without a key of its own
_NEVER_STALE = EventPolicy(ttl=None, keep_latest=False, by=None)


@dataclass(frozen=True, slots=True)
class Receipt:
    """`endpoints` empty: none of them takes such an event, and nothing was stored."""

    id: str
    endpoints: tuple[str, ...]
    repeat: bool = False

    def fields(self, promise: Promise) -> dict[str, object]:
        """What the answer says."""
        if not self.endpoints:
            return {"status": "ignored", "id": self.id}
        return {"status": "queued", "id": self.id, "promise": promise} | ({"repeat": True} if self.repeat else {})


class Webhook:
    """A request that is to be stored. Never changed."""

    __slots__ = ("body", "decision", "endpoints", "event", "head", "json", "sender", "session", "started")

    def __init__(
        self,
        endpoints: Sequence[str],
        head: Head,
        body: bytes,
        json: Json | None,
        event: str,
        session: str | None,
        decision: Decision,
        sender: Sender,
        started: float,
    ) -> None:
        self.endpoints = endpoints
        self.head = head
        self.body = body
        self.json = json
        self.event = event
        self.session = session
        self.decision = decision
        self.sender = sender
        self.started = started
        """When it came (`time.monotonic`)."""


class Ingest:
    """Makes events of verified webhooks and stores them for those of their endpoints that take them.

    The headers of every signature of the policies stay here: whoever proves himself to us by a key must not find that
    we have sent it on.
    """

    def __init__(self, policies: Policies, queues: Mapping[str, Queue], hold: Hold) -> None:
        self._policy = policies.relay
        self._queues = queues
        self._hold = hold
        self._made_anew = _MADE_ANEW.union(*(proof_of(each).names for each in policies.signatures.values()))

    async def accept(self, webhook: Webhook) -> Receipt:
        """Raises Refusal, as the sender repeats it: the store is away, or a backlog is at its cap, and it was held as
        long as it may be."""
        known, event = self._policy.endpoints, webhook.event
        endpoints = [name for name in webhook.endpoints if takes(known[name].events, event)]
        return await self.store(self._event(webhook), endpoints, webhook.sender, webhook.started)

    async def publish(self, event: Event) -> Receipt:
        """For every endpoint that takes it. Raises Refusal 503 like `accept`."""
        names = [name for name, endpoint in self._policy.endpoints.items() if takes(endpoint.events, event.type)]
        return await self.store(event, names)

    async def store(
        self, event: Event, endpoints: Sequence[str], sender: Sender = USUAL, since: float | None = None
    ) -> Receipt:
        """For exactly these. `since` (`time.monotonic`; None: now): when its sender began to wait. Raises Refusal like
        `accept`."""
        if not endpoints:
            return Receipt(event.id, ())
        destinations = [self._queues[name].destination for name in endpoints]
        try:
            accepted = await self._hold.accept(event, destinations, sender, since)
        except BacklogFull as full:
            metrics.refused(full.endpoint, "backlog_full")
            raise sender.refusal(f"the backlog of {full.endpoint} is full (relay.backlog)", b"30") from None
        except (StoreAway, StoreRefused):
            for name in endpoints:
                metrics.refused(name, "store_away")
            raise sender.refusal("the event could not be stored; send it again", b"2") from None
        for name in endpoints:
            metrics.accepted(name, event.type)
        return Receipt(event.id, tuple(endpoints), accepted.repeat)

    def _event(self, webhook: Webhook) -> Event:
        head, session = webhook.head, webhook.session
        key = head.value(b"idempotency-key")
        headers = tuple((field.name, field.value) for field in head.forwarded() if field.key not in self._made_anew)
        return as_event(
            self._policy,
            new_id(f"{' '.join(webhook.endpoints)}\0{session}\0{key.decode('latin-1')}" if key else None),
            webhook.event,
            session,
            Post(head.target, headers, webhook.body),
            webhook.json,
            delay=webhook.decision.delay,
            delayed_by=webhook.decision.delayed_by,
            remember=bool(key),
        )


@dataclass(frozen=True, slots=True)
class Post:
    """What a receiver is to get."""

    target: bytes
    headers: Headers
    body: bytes


def as_event(
    policy: RelayPolicy,
    event_id: str,
    event_type: str,
    session: str | None,
    post: Post,
    json: Json | None,
    *,
    remember: bool,
    delay: float = 0.0,
    delayed_by: DelayedBy | None = None,
) -> Event:
    """An event as the policies say how it travels. `remember`: its id is one by which repeats are meant to be found."""
    stale = policy.events.get(event_type, _NEVER_STALE)
    return Event(
        id=event_id,
        type=event_type,
        session=session,
        target=post.target,
        headers=post.headers,
        body=post.body,
        lane=lane_of(event_type, policy.lanes),
        coalesce_key=_coalesce_key(stale, event_type, json),
        ttl=stale.ttl or 0.0,
        delay=delay,
        delayed_by=delayed_by,
        dedupe_window=policy.dedupe if remember else _REPEATED_SOON,
    )


def _coalesce_key(stale: EventPolicy, event: str, json: Json | None) -> str:
    """By what a newer event replaces a waiting older one. Where the pointer leads nowhere, nothing is replaced."""
    if not stale.keep_latest:
        return ""
    if stale.by is None:
        return event
    value = json.at(stale.by) if json else None
    return f"{event}\1{value}" if isinstance(value, (str, int)) else ""
