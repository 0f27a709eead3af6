"""The span of a request, where tracing is on (`sluice/observe/tracing.py`)."""

from __future__ import annotations

from gateway.ingest.identity import Webhook
from gateway.ingest.webhooks import Ingest, Receipt
from gateway.limits.decide import Decision
from gateway.request import Head
from sluice.http import trace
from sluice.http.fields import TRACESTATE
from sluice.http.server import Exchange
from sluice.observe.tracing import Span, Tracer


def begin(tracer: Tracer, exchange: Exchange, head: Head, began: float) -> None:
    """From now on the head has our span as its parent, for whoever is asked and for the event that it becomes."""
    parent, fields = trace.parent_of(head.fields), head.fields
    state = b",".join([field.value for field in fields.all if field.kind == TRACESTATE])
    sound = parent is not None and state and trace.is_sound_state([state])
    exchange.span = tracer.request(head.method, parent, state.decode("latin-1") if sound else "", began)
    head.fields = trace.with_parent(fields, exchange.span.parent)


async def accept(intake: Ingest, span: Span, webhook: Webhook, decision: Decision, since: float) -> Receipt:
    """As `Ingest.accept`, in a span of its own, which is the parent of all attempts of the event."""
    accepting, failed = span.accept(), "not stored"
    webhook.head.fields = trace.with_parent(webhook.head.fields, accepting.parent)
    try:
        receipt = await intake.accept(webhook, decision, since)
        failed = ""
        return receipt
    finally:
        accepting.end({"sluice.event": receipt.id} if not failed else {}, failed=failed)
