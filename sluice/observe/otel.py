"""The spans themselves, by the SDK of OpenTelemetry. Imported only where tracing is on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from sluice import __version__
from sluice.observe.tracing import Attributes, Span, Tracer


def exporting() -> OtelTracer:
    """Exports in a thread of its own, as the variables of OpenTelemetry say; what is left at its end, too."""
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes.get("service.name", "")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "sluice"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTracer(provider)


class OtelTracer(Tracer):
    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("sluice", __version__)

    def request(self, method: str, parent: bytes | None, state: str, began: float) -> Span:
        context = None if parent is None else trace.set_span_in_context(NonRecordingSpan(_context_of(parent, state)))
        made = self._tracer.start_span(method, context, SpanKind.SERVER, start_time=_nanoseconds(began))
        return _OtelSpan(self._tracer, made)

    def attempt(self, endpoint: str, parents: Sequence[bytes], attributes: Attributes) -> Span:
        contexts = [_context_of(parent, "") for parent in parents]
        if len(contexts) == 1:
            context, links = trace.set_span_in_context(NonRecordingSpan(contexts[0])), []
        else:
            context, links = None, [Link(one) for one in contexts]
        said = {"sluice.endpoint": endpoint, **attributes}
        made = self._tracer.start_span(f"attempt {endpoint}", context, SpanKind.CLIENT, said, links)
        return _OtelSpan(self._tracer, made)


class _OtelSpan(Span):
    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span
        context = span.get_span_context()
        self.parent = b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)

    def accept(self) -> Span:
        context = trace.set_span_in_context(self._span)
        return _OtelSpan(self._tracer, self._tracer.start_span("accept", context, SpanKind.PRODUCER))

    def failed_over(self, upstream: str, member: str, began: float) -> None:
        said = {"sluice.upstream": upstream, "server.address": member}
        context, start = trace.set_span_in_context(self._span), _nanoseconds(began)
        made = self._tracer.start_span("failover", context, SpanKind.CLIENT, said, start_time=start)
        made.set_status(Status(StatusCode.ERROR))
        made.end()

    def end(self, attributes: Attributes, *, name: str = "", failed: str = "") -> None:
        span = self._span
        if span.is_recording():
            if name:
                span.update_name(name)
            span.set_attributes(dict(attributes))
            if failed:
                span.set_status(Status(StatusCode.ERROR, failed))
        span.end()


def _context_of(parent: bytes, state: str) -> SpanContext:
    """Of a sound `traceparent`."""
    flags = TraceFlags(int(parent[53:55], 16))
    known = TraceState.from_header([state]) if state else None
    return SpanContext(int(parent[3:35], 16), int(parent[36:52], 16), True, flags, known)


def _nanoseconds(moment: float) -> int:
    """Since 1970, of a moment of `time.monotonic`."""
    return time.time_ns() - int((time.monotonic() - moment) * 1e9)
