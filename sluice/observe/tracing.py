"""Spans of OpenTelemetry, an extra (`pip install sluice[otel]`). Off unless `OTEL_TRACES_EXPORTER=otlp` is set: then
nothing of it is imported, and a request costs one look at a None more.

Where spans go, under which name and how many of them, the other variables of OpenTelemetry say
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER` …).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

from sluice.observe.log import Log

LOG = Log("tracing")
VARIABLE = "OTEL_TRACES_EXPORTER"
Attributes = Mapping[str, str | int]


class Span(Protocol):
    """What is under way. Times are of `time.monotonic`."""

    parent: bytes
    """The `traceparent` of what is asked in its course."""

    def accept(self) -> Span:
        """The storing of the event that a request becomes."""
        ...

    def failed_over(self, upstream: str, member: str, began: float) -> None:
        """A member was asked in vain since `began`, and another one is next."""
        ...

    def end(self, attributes: Attributes, *, name: str = "", failed: str = "") -> None:
        """`name`: where it is known only now. `failed`: why it failed; empty: it did not."""
        ...


class Tracer(Protocol):
    def request(self, method: str, parent: bytes | None, state: str, began: float) -> Span:
        """A request that has come, in the trace that it brings, if it brings one."""
        ...

    def attempt(self, endpoint: str, parents: Sequence[bytes], attributes: Attributes) -> Span:
        """An attempt to deliver events: one goes on in its trace; several are linked to theirs."""
        ...


_known: list[Tracer | None] = []


def tracer() -> Tracer | None:
    """That of this process; None: tracing is off."""
    if not _known:
        _known.append(_made())
    return _known[0]


def _made() -> Tracer | None:
    wanted = os.environ.get(VARIABLE, "none")
    if wanted in ("", "none"):
        return None
    if wanted != "otlp":
        LOG.error("tracing.off", why=f"{VARIABLE} is {wanted}; only otlp is known")
        return None
    try:
        from sluice.observe import otel
    except ImportError as missing:
        LOG.error("tracing.off", why=f"{missing}: pip install 'sluice[otel]'")
        return None
    return otel.exporting()
