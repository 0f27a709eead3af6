"""A whole Sluice exports its spans by OTLP over HTTP, to a receiver that reads them as the protocol defines them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from tests.e2e.deployment import deployment
from tests.e2e.receiver import receiving
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


class Collector:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()

    async def take(self, request: Request) -> Response:
        sent = ExportTraceServiceRequest.FromString(await request.body())
        for of_resource in sent.resource_spans:
            names = [one.value.string_value for one in of_resource.resource.attributes if one.key == "service.name"]
            self.services.update(names)
            for scope in of_resource.scope_spans:
                self.spans += scope.spans
        return Response(ExportTraceServiceResponse().SerializeToString(), media_type="application/x-protobuf")

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@asynccontextmanager
async def collector(port: int) -> AsyncIterator[Collector]:
    made, stop = Collector(), Stop()
    app = Starlette(routes=[Route("/v1/traces", made.take, methods=["POST"])])
    serving = asyncio.create_task(serve(app, listening("127.0.0.1", port), stop))
    try:
        yield made
    finally:
        stop.request()
        await serving


def exporting_to(port: int) -> dict[str, str]:
    return {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }


async def test_spans_of_gateway_and_relay_arrive_as_one_trace(short_folder: Path, free_port: Callable[[], int]) -> None:
    ports, port = (free_port(), free_port()), free_port()
    async with (
        receiving(ports[1]) as laravel,
        collector(port) as collected,
        deployment(short_folder, ports) as sluice,
    ):
        sluice.environment = exporting_to(port)
        await sluice.start_up()
        identity = await sluice.send("webjs_1_1_a")
        await until(lambda: laravel.taken(), what="a delivery")
        await until(lambda: collected.named("attempt laravel"), timeout=20, what="the span of the relay")
        await until(lambda: collected.named("accept"), timeout=20, what="the span of the gateway")
        (attempt,), (accept,) = collected.named("attempt laravel"), collected.named("accept")
        assert (attempt.trace_id, attempt.parent_span_id) == (accept.trace_id, accept.span_id)
        assert identity in {one.value.string_value for one in attempt.attributes if one.key == "sluice.event"}
        assert collected.services == {"sluice"}


async def test_while_nobody_takes_them_everything_else_goes_on(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    ports = (free_port(), free_port())
    async with receiving(ports[1]) as laravel, deployment(short_folder, ports) as sluice:
        sluice.environment = exporting_to(free_port())
        await sluice.start_up()
        for number in range(20):
            await sluice.send("webjs_1_1_a", number)
        await until(lambda: len(laravel.taken()) == 20, what="all deliveries")
