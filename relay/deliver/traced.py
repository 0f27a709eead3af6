"""Attempts with a span each; only where tracing is on does one stand before the sender."""

from __future__ import annotations

import math
from collections.abc import Sequence

from relay.deliver.outcome import Delivered, Outcome
from relay.deliver.sender import Sender
from relay.queue.codec import Delivery, Headers
from sluice.http.trace import PARENT
from sluice.observe.tracing import Span, Tracer


class TracedSender:
    """The receiver gets the span of the attempt as its parent."""

    def __init__(self, sender: Sender, tracer: Tracer, endpoint: str) -> None:
        self._sender = sender
        self._tracer = tracer
        self._endpoint = endpoint

    async def post(self, delivery: Delivery, begin_by: float = math.inf) -> Outcome:
        about: dict[str, str | int] = {
            "sluice.event": delivery.id,
            "sluice.type": delivery.type,
            "sluice.attempt": delivery.attempt,
        }
        span = self._tracer.attempt(self._endpoint, _parents(delivery.headers), about)
        others = tuple([pair for pair in delivery.headers if pair[0].lower() != PARENT])
        outcomes: list[Outcome] = []
        try:
            outcomes.append(await self._sender.post(delivery, begin_by, ((PARENT, span.parent), *others)))
            return outcomes[0]
        finally:
            _end(span, outcomes)

    async def post_batch(self, deliveries: Sequence[Delivery], begin_by: float = math.inf) -> list[Outcome]:
        parents = [parent for one in deliveries for parent in _parents(one.headers)]
        span = self._tracer.attempt(self._endpoint, parents, {"sluice.events": len(deliveries)})
        outcomes: list[Outcome] = []
        try:
            outcomes = await self._sender.post_batch(deliveries, begin_by)
            return outcomes
        finally:
            _end(span, outcomes)


def _parents(headers: Headers) -> list[bytes]:
    return [value for name, value in headers if name.lower() == PARENT]


def _end(span: Span, outcomes: Sequence[Outcome]) -> None:
    """The first that is not delivered says why."""
    failed = [one for one in outcomes if not isinstance(one, Delivered)]
    statuses = [one.status for one in outcomes if one.status is not None]
    said: dict[str, str | int] = {"http.response.status_code": statuses[0]} if statuses else {}
    span.end(said, failed=failed[0].reason if failed else "" if outcomes else "cut off")
