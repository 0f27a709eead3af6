"""Webhooks: stored before they are answered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gateway import metrics as gateway_metrics
from gateway.ingest.carried import INSTANCE_URL, Carried
from gateway.ingest.fence import BEYOND, STALE, fence_of
from gateway.ingest.hold import Hold
from gateway.ingest.identity import Webhook, digest_of, identity_of
from gateway.limits.decide import Decision
from gateway.outbox.receipts import MessageIds
from gateway.policies import Policies
from gateway.problems import Refusal
from gateway.request import Json, json_if_any
from relay import metrics
from relay.filters import takes
from relay.policies import NEVER_STALE, EventPolicy, RelayPolicy
from relay.queue.codec import DelayedBy, Event, GoesFirst, Headers, Superseding, new_id
from relay.queue.errors import BacklogFull, FenceBeyond, OtherContent, StaleFence
from relay.queue.lanes import lane_of
from relay.queue.queue import Queue
from sessions.instances import Instances
from sessions.lifecycle.traffic import Traffic
from sessions.registry import Ready, Registry
from sluice.config import Promise
from sluice.http.senders import USUAL, Sender
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG: Final = Log("gateway")
_TELLS: Final = {
    "session_ready": "connected",
    "session_disconnected": "disconnected",
    "qr_code_generated": "qr_scanning",
}
"""What a session's state is by then, by the events of the existing workers."""
_ANNOUNCED: Final = Ready("", 0)
_MAX_PHONE: Final = 64
_MAX_WORKSPACE: Final = 200
_OTHER_CONTENT: Final = (
    "an event with this id or key was accepted before, with other content (relay.dedupe); "
    "give each event an id of its own, and a repeat the same content"
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """`endpoints` empty: none of them takes such an event, and nothing was stored."""

    id: str
    endpoints: tuple[str, ...]
    repeat: bool = False
    left_out: tuple[str, ...] = ()
    """Endpoints that take such events and do not get this one, as their backlogs are full, unless it is repeated."""

    def fields(self, promise: Promise) -> dict[str, object]:
        """What the answer says."""
        if not self.endpoints:
            return {"status": "ignored", "id": self.id}
        fields: dict[str, object] = {"status": "queued", "id": self.id, "promise": promise}
        if self.repeat:
            fields["repeat"] = True
        if self.left_out:
            fields["left_out"] = self.left_out
        return fields


class Ingest:
    """Makes events of verified webhooks and stores them for those of their endpoints that take them."""

    def __init__(
        self,
        policies: Policies,
        queues: Mapping[str, Queue],
        hold: Hold,
        instances: Instances | None = None,
        registry: Registry | None = None,
        message_ids: MessageIds | None = None,
        hear: Callable[[str], None] | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        """`registry`: which is told what sessions say of themselves. `message_ids`: where sends are stored, by which
        ids their callers know them. `hear`: is told of which session an event is. `traffic`: notes
        what sessions say themselves."""
        self._policy = policies.relay
        self._instances = instances or Instances()
        self._registry = registry
        self._message_ids = message_ids
        self._hear_of = hear
        self._traffic = traffic
        self._queues = queues
        self._hold = hold
        self._carried = Carried(policies)

    async def accept(self, webhook: Webhook, decision: Decision, since: float) -> Receipt:
        """`since`: when it came (`time.monotonic`). Raises Refusal, as the sender repeats it: the store is away, or the
        backlogs are full (of all endpoints, or of one that is required), and it was held as long as it may be; 409 for
        good when another owner of its session has sent something, 400 or 422 when it is wrong in itself."""
        known, event = self._policy.endpoints, webhook.event
        if self._traffic is not None and webhook.session is not None:
            self._traffic.heard(webhook.session)
        order = 0
        if event == "session_ready":
            ready = await self._decided(webhook)
            if ready.yields:
                LOG.info("session.not_announced", session=webhook.session, stays=ready.yields)
                gateway_metrics.session_not_announced()
                return Receipt(new_id(None), ())
            order = ready.order
        endpoints = [name for name in webhook.endpoints if takes(known[name].events, event)]
        body = webhook.body if self._message_ids is None else await self._message_ids.body_of(webhook, since)
        receipt = await self.store(self._event(webhook, decision, body, order), endpoints, webhook.sender, since)
        if webhook.head.worker is not None and event in _TELLS and not order:
            await self._hear(webhook, webhook.head.worker, _TELLS[event])
        return receipt

    async def _decided(self, webhook: Webhook) -> Ready:
        """Whether a session that is ready stays, of those of its phone (`sessions.one_phone`), and in which order
        Laravel is to hear of them: told of the others later, it would remove the account of the one that stays."""
        session, said, registry = webhook.session, webhook.json, self._registry
        if registry is None or session is None or said is None:
            return _ANNOUNCED
        phone, worker = said.at("/data/phone_number"), webhook.head.worker or ""
        known = phone[:_MAX_PHONE] if isinstance(phone, str) else None
        fence = fence_of(webhook.head, session) if webhook.proven is not None else 0
        try:
            found = await registry.ready(session, known, worker=worker, fence=fence) if worker or fence else None
            if found is None and registry.keep == "oldest":
                found = await _taken(registry, session, said, known)
        except (StoreAway, StoreRefused):
            return _ANNOUNCED
        return found or _ANNOUNCED

    async def _hear(self, webhook: Webhook, worker: str, state: str) -> None:
        """The worker may end before it is looked at again, and Laravel drops the messages of a session that is not
        connected."""
        if self._registry is None or webhook.session is None:
            return
        phone = webhook.json.at("/data/phone_number") if webhook.json else None
        known = phone[:_MAX_PHONE] if isinstance(phone, str) else None
        with contextlib.suppress(StoreAway, StoreRefused):  # the worker's next list tells it, too
            await self._registry.hear(worker, webhook.session, state, known)

    async def publish(self, event: Event) -> Receipt:
        """For every endpoint that takes it. Raises Refusal like `accept`, 503 where it is to be sent again."""
        names = [name for name, endpoint in self._policy.receivers.items() if takes(endpoint.events, event.type)]
        return await self.store(event, names)

    async def store(
        self, event: Event, endpoints: Sequence[str], sender: Sender = USUAL, since: float | None = None
    ) -> Receipt:
        """For exactly these. `since` (`time.monotonic`; None: now): when its sender began to wait. Raises Refusal like
        `accept`."""
        if self._hear_of is not None and event.session is not None:
            self._hear_of(event.session)
        if not endpoints:
            return Receipt(event.id, ())
        destinations = [self._queues[name].destination for name in endpoints]
        try:
            accepted = await self._hold.accept(event, destinations, sender, since)
        except BacklogFull as full:
            metrics.refused(full.endpoint, "backlog_full")
            raise sender.refusal(f"the backlog of {full.endpoint} is full (relay.backlog)", b"30") from None
        except (OtherContent, StaleFence, FenceBeyond, StoreAway, StoreRefused) as error:
            raise _refused(endpoints, error, sender) from None
        left_out = accepted.left_out
        for name in left_out:
            metrics.left_out(name)
        stored = tuple([name for name in endpoints if name not in left_out]) if left_out else tuple(endpoints)
        for name in stored:
            metrics.accepted(name, event.type)
        return Receipt(event.id, stored, accepted.repeat, left_out)

    def _event(self, webhook: Webhook, decision: Decision, body: bytes, order: int) -> Event:
        """`body`: what is stored of it. It is known by what came."""
        head = webhook.head
        if head.worker is not None:
            self._instances.note(head.worker, head.value(INSTANCE_URL))
        known_by = identity_of(webhook, self._policy.dedupe)
        return as_event(
            self._policy,
            new_id(known_by.key),
            webhook.event,
            webhook.session,
            Post(webhook.head.target, self._carried.of(webhook.head, webhook.endpoints, webhook.sender), body),
            webhook.json,
            window=known_by.window,
            senders_id=known_by.senders_id,
            digest=known_by.digest,
            delay=decision.delay,
            delayed_by=decision.delayed_by,
            fence=fence_of(webhook.head, webhook.session) if webhook.proven is not None else 0,
            order=order,
        )


async def _taken(registry: Registry, session: str, said: Json, phone: str | None) -> Ready | None:
    """Of a session of which the registry knows no worker."""
    workspace = said.at("/data/workspace_id")
    if phone is None or not isinstance(workspace, (str, int)):
        return None
    stays = await registry.taken(session, str(workspace)[:_MAX_WORKSPACE], phone)
    return None if stays is None else Ready(stays, 0)


def _refused(endpoints: Sequence[str], error: Exception, sender: Sender) -> Refusal:
    """Of an event that none of these gets."""
    reason, refusal = "store_away", sender.refusal("the event could not be stored; send it again", b"2")
    if isinstance(error, OtherContent):
        reason, refusal = "other_content", Refusal(422, _OTHER_CONTENT)
    elif isinstance(error, StaleFence):
        reason, refusal = "stale_fence", Refusal(409, STALE)
    elif isinstance(error, FenceBeyond):
        reason, refusal = "fence_beyond", Refusal(400, BEYOND)
    for name in endpoints:
        metrics.refused(name, reason)
    return refusal


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
    window: float,
    senders_id: str = "",
    digest: str = "",
    delay: float = 0.0,
    delayed_by: DelayedBy | None = None,
    fence: int = 0,
    order: int = 0,
) -> Event:
    """An event as the policies say how it travels.

    `window`: seconds in which a repeat of its id is recognised. `order`: among those that supersede each other (unix
    ms); 0: that of their acceptance.
    """
    stale = policy.events.get(event_type, NEVER_STALE)
    return Event(
        id=event_id,
        type=event_type,
        session=session,
        target=post.target,
        headers=post.headers,
        body=post.body,
        lane=lane_of(event_type, policy.lanes),
        coalesce_key=_coalesce_key(stale, event_type, post.body, json),
        ttl=stale.ttl or 0.0,
        delay=delay,
        delayed_by=delayed_by,
        dedupe_window=window,
        senders_id=senders_id,
        digest=digest,
        fence=fence,
        superseding=_superseding(stale.supersede, event_type, post.body, json, order) if stale.supersede else None,
        goes_first=None if stale is NEVER_STALE or session is None else _goes_first(stale),
    )


def _goes_first(policy: EventPolicy) -> GoesFirst | None:
    if policy.first is not None:
        return GoesFirst("first", policy.first)
    return GoesFirst("after", policy.announces) if policy.announces else None


def _superseding(pointers: Sequence[str], event: str, body: bytes, json: Json | None, order: int) -> Superseding | None:
    """What a newer event has to have in common with this one; None where a pointer leads to nothing."""
    content = json if json is not None else json_if_any(body)
    values = [content.at(pointer) for pointer in pointers] if content is not None else []
    named = [str(value) for value in values if isinstance(value, (str, int)) and value != ""]
    if not named or len(named) != len(values):
        return None
    return Superseding(digest_of("\0".join([event, *named]).encode("utf-8", "replace")), order)


def _coalesce_key(stale: EventPolicy, event: str, body: bytes, json: Json | None) -> str:
    """By what a newer event replaces a waiting older one. Where the pointer leads nowhere, nothing is replaced."""
    if not stale.keep_latest:
        return ""
    if stale.by is None:
        return event
    content = json if json is not None else json_if_any(body)
    value = content.at(stale.by) if content is not None else None
    return f"{event}\1{value}" if isinstance(value, (str, int)) else ""
