"""Spans by the SDK of OpenTelemetry: of requests, accepts, attempts and failovers, each under its parent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import orjson
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import process as gateway_process
from gateway.policies import edits, load
from relay import process as relay
from sluice.http.server.serving import listening
from sluice.http.signatures import sign
from sluice.observe import tracing
from sluice.observe.otel import OtelTracer
from sluice.process.loops import Stop
from tests.e2e.test_trace import ID, PARENT, POLICIES
from tests.gateway.proxy.test_balancing import gate_to, members, urls
from tests.gateway.running import Receiver, gateway
from tests.heard import Heard
from tests.relay.receiver import receiver
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """All that end; of gateways and relays that begin in this test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_known", [OtelTracer(provider)])
    return exporter


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def one(spans: InMemorySpanExporter, name: str) -> ReadableSpan:
    await until(lambda: named(spans, name), what=lambda: f"{name}: {[it.name for it in spans.get_finished_spans()]}")
    return named(spans, name)[0]


def parent_line(span: ReadableSpan) -> bytes:
    assert span.context is not None
    context = span.context
    return b"traceparent: 00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


async def test_a_request_has_a_span_in_the_trace_that_it_brings_and_its_upstream_one_below(
    spans: InMemorySpanExporter, tmp_path: Path, store_url: str, laravel: Receiver, heard: Heard
) -> None:
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        await gate.http.get("/page?token=secret", headers={"traceparent": PARENT, "tracestate": "vendor=value"})
        span = await one(spans, "GET /**")
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (ID, PARENT[36:52])
    assert span.context.trace_state.to_header() == "vendor=value"
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/**",
        "http.response.status_code": 200,
    }
    assert parent_line(span) in laravel.heads[0]
    assert b"tracestate: vendor=value" in laravel.heads[0]
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 < span.end_time - span.start_time < 60e9
    assert abs(span.end_time / 1e9 - time.time()) < 60
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert line["trace"] == ID


async def test_without_a_trace_one_begins_and_what_is_not_sound_is_passed_over(
    spans: InMemorySpanExporter, tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        await gate.http.get("/page", headers={"traceparent": PARENT.upper(), "tracestate": "a=1"})
        span = await one(spans, "GET /**")
    assert span.parent is None
    assert parent_line(span) in laravel.heads[0]
    assert b"tracestate" not in laravel.heads[0]


async def test_a_failure_is_said_and_a_failover_has_a_span(
    spans: InMemorySpanExporter, tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    async with members(free_port) as (a, b), gate_to(tmp_path, store_url, urls(a, b)) as gate:
        await a.stop()
        for _ in range(2):
            assert (await gate.http.get("/")).text == "b"
        failover = await one(spans, "failover")
        await b.stop()
        assert (await gate.http.get("/")).status_code == 502
        await until(lambda: [one for one in named(spans, "GET /**") if not one.status.is_ok], what="a failed span")
    assert failover.parent is not None
    requests = {span.context.span_id for span in named(spans, "GET /**") if span.context is not None}
    assert failover.parent.span_id in requests
    assert dict(failover.attributes or {}) == {"sluice.upstream": "laravel", "server.address": a.url}


async def test_an_event_s_attempts_are_below_its_accept_and_that_below_its_request(
    spans: InMemorySpanExporter, tmp_path: Path, store_url: str
) -> None:
    async with receiver(lambda got: (500 if got.all("x-sluice-attempt") == [b"1"] else 200, b"")) as laravel:
        path = tmp_path / "policies.yaml"
        path.write_text(POLICIES.format(store=store_url, laravel=laravel.url))
        policies, stop, bound = load(path, environment={"KEY": "the-key"}), Stop(), listening("127.0.0.1", 0)
        bound.listen()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with asyncio.TaskGroup() as group, httpx2.AsyncClient(base_url=url, trust_env=False) as http:
            group.create_task(gateway_process.run(policies, bound, stop, lambda _: []))
            group.create_task(relay.run(edits.live(policies), store_url, stop))
            body = orjson.dumps({"event": "message"})
            proof = {name.decode(): value for name, value in sign(policies.signatures["workers"], body, time.time())}
            told = await http.post("/hooks", content=body, headers={**proof, "traceparent": PARENT})
            assert told.status_code == 202
            await until(lambda: named(spans, "attempt laravel"), what="an attempt")
            request, accept = await one(spans, "POST /hooks"), await one(spans, "accept")
            stop.request()
    attempt = named(spans, "attempt laravel")[0]
    assert request.context is not None
    assert accept.context is not None
    assert accept.parent is not None
    assert attempt.parent is not None
    assert accept.parent.span_id == request.context.span_id
    assert attempt.parent.span_id == accept.context.span_id
    assert (accept.attributes or {})["sluice.event"] == told.json()["id"]
    assert {f"{span.context.trace_id:032x}" for span in spans.get_finished_spans() if span.context} == {ID}
    sent = {parent_line(span).partition(b": ")[2] for span in named(spans, "attempt laravel")}
    assert {got.all("traceparent")[0] for got in laravel.got} == sent


OFF = """
import sys
import gateway.app, relay.process
from sluice.observe import tracing
print(tracing.tracer(), [name for name in ("sluice.observe.otel", "opentelemetry.sdk.trace") if name in sys.modules])
"""


def test_when_it_is_off_nothing_of_it_is_imported() -> None:
    environment = {"PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", OFF]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("None []\n", "")


@pytest.mark.parametrize("setting", ["none", "", None])
def test_it_is_off_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, heard: Heard, setting: str | None) -> None:
    monkeypatch.setattr(tracing, "_known", [])
    monkeypatch.delenv(tracing.VARIABLE, raising=False)
    if setting is not None:
        monkeypatch.setenv(tracing.VARIABLE, setting)
    assert tracing.tracer() is None
    assert heard.lines == []


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("zipkin", "OTEL_TRACES_EXPORTER is zipkin; only otlp is known"),
        ("otlp", "import of sluice.observe.otel halted; None in sys.modules: pip install 'sluice[otel]'"),
    ],
    ids=["another exporter", "without the extra"],
)
def test_what_cannot_be_traced_is_said_and_nothing_else_suffers(
    monkeypatch: pytest.MonkeyPatch, heard: Heard, setting: str, why: str
) -> None:
    monkeypatch.setattr(tracing, "_known", [])
    monkeypatch.setenv(tracing.VARIABLE, setting)
    monkeypatch.setitem(sys.modules, "sluice.observe.otel", None)
    monkeypatch.delattr("sluice.observe.otel", raising=False)
    assert tracing.tracer() is None
    assert heard.lines == [("tracing.off", {"why": why})]
