"""One attempt: one signed POST of a delivery, or of a batch of them."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Sequence

from relay.deliver.outcome import (
    MAX_SHOWN,
    Failed,
    NotSent,
    Outcome,
    Paused,
    Refused,
    Rejected,
    outcome_of,
    outcomes_of,
    proven,
    took_any,
)
from relay.policies import Endpoint
from relay.queue.codec import Delivery, Headers
from sluice.config import Signature
from sluice.http import addresses, client as http1, trace
from sluice.http.lenient_json import is_json
from sluice.http.senders import ID_HEADERS
from sluice.http.signatures import proof_of
from sluice.http.via import KEY as VIA
from sluice.process.cache import Cache

EVENT_ID = b"Webhook-Id"
"""Identifies an event over all attempts and replays, so that a receiver can drop repeats (from Standard Webhooks)."""
ATTEMPT = b"X-Sluice-Attempt"
BATCH_IDS = b"X-Sluice-Event-Ids"
"""The ids of the events of a batch, in its order, separated by commas."""
OF_CONTENT = frozenset((b"content-type", b"content-encoding", b"content-language", b"content-location"))
"""What says how a body is to be read (RFC 9110 section 8.3)."""
_PLAIN_ANSWER = (b"Accept-Encoding", b"identity")  # people read the answer to a rejected event
_MAX_SHOWN_OF_EACH = 512
_MAX_HEADS = 512 * 2**10
"""Bytes of what is kept for an endpoint: the part of the head before the signature is nearly always one of a few."""
_NOT_JSON = Rejected("the body is not JSON, or has over 2,000,000 values: it cannot go into a batch", None)
_NO_TIME = Failed("its batch was rejected, and there was no time to find out which event was the reason")
_AFTER_FAILURE = NotSent("an earlier event of its batch failed")

LEASE_OVER = NotSent("its lease was over before it could be sent")
_BODY_WITHIN = 1.0
"""Seconds that the body of an answer may take: the status line decides, and the body is for people to read."""

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


class Sender:
    """The connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, signature: Signature | None) -> None:
        origin = http1.Origin.of(endpoint.url)
        trusted = endpoint.private or addresses.is_literal(origin.host)
        self._pool = http1.Pool(
            origin,
            connect=endpoint.timeout,
            limit=endpoint.concurrency,
            wait=endpoint.timeout,
            refuse=None if trusted else addresses.kind_of,
        )
        self._base = http1.base_path(endpoint.url)
        self._host = (b"Host", origin.authority)
        self._proof = proof_of(signature) if signature else None
        self._names_event = signature is None or signature.preset != "standard"  # which names it itself
        self._timeout = endpoint.timeout
        self._within = http1.Deadlines(endpoint.timeout)
        self._head_starts: Cache[tuple[bytes, Headers], bytes] = Cache(_MAX_HEADS)
        made = self._proof.names if self._proof else frozenset()
        added = [
            (name.encode(), value.reveal()) for name, value in endpoint.headers if name.lower().encode() not in made
        ]
        if not any(name.lower() == _PLAIN_ANSWER[0].lower() for name, _ in added):
            added.append(_PLAIN_ANSWER)
        self._added = tuple(added)
        self._replaced = made.union(name.lower() for name, _ in self._added)
        self._forwarded = OF_CONTENT.union(ID_HEADERS, (VIA,), trace.NAMES, _lower(endpoint.forward))

    async def post(self, delivery: Delivery, begin_by: float = math.inf, headers: Headers | None = None) -> Outcome:
        """The whole attempt takes at most the endpoint's timeout. Never raises for anything the receiver does.

        `begin_by`: a moment of `boottime`, after which nothing is sent. `headers`: instead of those of the delivery.
        """
        if headers is None:
            headers = delivery.headers
        try:
            head_start = self._head_starts.get((delivery.target, headers))
            if head_start is None:
                head_start = self._make_head_start(delivery.target, headers)
        except http1.BadHead as error:
            return Rejected(f"cannot be sent: {error}", None)
        head = self._head(head_start, delivery.public_id.encode(), delivery.attempt, delivery.body)
        framing = http1.stated(len(delivery.body))
        try:
            response, answer = await http1.ask(
                self._pool,
                head,
                framing,
                delivery.body,
                within=self._within,
                most=MAX_SHOWN,
                begin_by=begin_by,
                body_within=_BODY_WITHIN,
            )
        except http1.UpstreamError as error:
            return _outcome_of_error(error)
        return outcome_of(response.status, () if response.status < 300 else response.headers, answer)

    async def post_batch(self, deliveries: Sequence[Delivery], begin_by: float = math.inf) -> list[Outcome]:
        """One POST to the endpoint's own address, the bodies in a JSON array; an outcome for each, in their order.

        A body that is not JSON is rejected before. Where the receiver rejects the array as a whole, it is halved until
        the bad events are found, all within the endpoint's timeout: no event becomes a dead letter for another's fault.
        """
        end = asyncio.get_running_loop().time() + self._timeout
        fit = [is_json(delivery.body) for delivery in deliveries]
        fitting = [each for each, fits in zip(deliveries, fit, strict=True) if fits]
        sent = iter(await self._post_together(fitting, end, begin_by=begin_by))
        return [next(sent) if fits else _NOT_JSON for fits in fit]

    async def close(self) -> None:
        await self._pool.close()

    async def _post_together(
        self, deliveries: Sequence[Delivery], end: float, took_some: bool = False, begin_by: float = math.inf
    ) -> list[Outcome]:
        """`took_some`: the receiver rejected these together with others, some of which it took by themselves."""
        events = len(deliveries)
        if not events:
            return []
        if asyncio.get_running_loop().time() >= end:
            return [_NO_TIME] * events
        try:
            status, headers, answer = await self._ask_together(deliveries, end, begin_by)
        except http1.UpstreamError as error:
            return [_outcome_of_error(error)] * events
        outcomes = outcomes_of(status, headers, answer, events)
        if status < 300 or not isinstance(outcomes[0], Rejected):
            return outcomes
        if events > 1:
            return await self._post_halves(deliveries, end, took_some)
        return proven(outcomes) if took_some else outcomes

    async def _post_halves(self, deliveries: Sequence[Delivery], end: float, took_some: bool) -> list[Outcome]:
        half = len(deliveries) // 2
        first = await self._post_together(deliveries[:half], end, took_some)
        if any(isinstance(outcome, (Failed, Paused, Refused)) for outcome in first):
            return first + [_AFTER_FAILURE] * (len(deliveries) - half)  # one of them might be of the same session
        # A session whose event is rejected waits until it is known whether that is the event's fault.
        stopped = {one.stream for one, outcome in zip(deliveries, first, strict=False) if _may_come_again(outcome)}
        going = [one for one in deliveries[half:] if one.stream not in stopped]
        second = await self._post_together(going, end, took_some or took_any(first))
        sent = iter(second)
        rest = [_AFTER_FAILURE if one.stream in stopped else next(sent) for one in deliveries[half:]]
        return (proven(first) if took_any(second) else first) + rest

    async def _ask_together(self, deliveries: Sequence[Delivery], end: float, begin_by: float) -> Answer:
        ids = b",".join(delivery.public_id.encode() for delivery in deliveries)
        head_start = self._head_start_of(b"", [(b"Content-Type", b"application/json"), (BATCH_IDS, ids)])
        batch_id = b"batch_" + hashlib.sha256(ids).hexdigest()[:28].encode()
        body = b"[%b]" % b",".join(delivery.body for delivery in deliveries)
        most = MAX_SHOWN + _MAX_SHOWN_OF_EACH * len(deliveries)
        timeout = end - asyncio.get_running_loop().time()
        head, framing = self._head(head_start, batch_id, deliveries[0].attempt, body), http1.stated(len(body))
        response, answer = await http1.ask(
            self._pool,
            head,
            framing,
            body,
            within=self._within,
            most=most,
            timeout=timeout,
            begin_by=begin_by,
            body_within=timeout,  # the statuses of its events may stand in it
        )
        return response.status, response.headers, answer

    def _head(self, head_start: bytes, event_id: bytes, attempt: int, body: bytes) -> bytes:
        """With a new signature each time, over the bytes that are sent."""
        lines = [head_start]
        if self._proof is not None:
            lines += [b"%b: %b\r\n" % pair for pair in self._proof.sign(body, time.time(), event_id)]
        if self._names_event:
            lines.append(b"%b: %b\r\n" % (EVENT_ID, event_id))
        lines.append(b"%b: %d\r\nContent-Length: %d\r\n\r\n" % (ATTEMPT, attempt, len(body)))
        return b"".join(lines)

    def _make_head_start(self, target: bytes, headers: Headers) -> bytes:
        """The head of what an event brings up to where the signature follows. Raises BadHead for what must not be sent.

        A header that the endpoint's policy adds replaces a stored one of the same name; one that we make replaces both.
        """
        forwarded = self._forwarded
        made = self._head_start_of(target, [pair for pair in headers if pair[0].lower() in forwarded])
        size = sum(len(name) + len(value) + 128 for name, value in headers)
        return self._head_starts.keep((target, headers), made, size + len(target) + len(made))

    def _head_start_of(self, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        stored = [pair for pair in headers if pair[0].lower() not in self._replaced]
        pairs = [self._host, *stored, *self._added]
        return http1.request_head(b"POST", self._base + target or b"/", pairs, http1.NO_BODY)[:-2]


def _lower(names: Sequence[str]) -> list[bytes]:
    return [name.lower().encode() for name in names]


def _outcome_of_error(error: http1.UpstreamError) -> Outcome:
    if isinstance(error, http1.AddressRefused):
        return Paused(f"{error}; write private: allow at the endpoint if this is intended", 0.0, None)
    if isinstance(error, http1.TooLate):
        return LEASE_OVER
    return Failed(str(error))


def _may_come_again(outcome: Outcome) -> bool:
    return isinstance(outcome, NotSent) or (isinstance(outcome, Rejected) and not outcome.is_proven)
