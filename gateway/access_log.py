"""The access log: one line for each answered request, as JSON between the other lines, or in Apache's combined format.

A query is never in it, neither the request's nor that of the page it came from: there secrets stand (keys of workers,
signed links, tokens).
"""

from __future__ import annotations

import re
import time
from typing import Any, Final

from gateway import metrics as counted
from gateway.plan import Admission, Invalid, Plan
from gateway.request import Head
from gateway.routing import AMBIGUOUS
from gateway.workers.prefixes import UNKNOWN
from sluice.http.bodies import HeldBody
from sluice.http.fields import HOST, REFERER, TRACEPARENT, USER_AGENT, Fields
from sluice.http.request_id import id_of
from sluice.http.server import Exchange, metrics
from sluice.http.trace import id_of as trace_id, parent_of
from sluice.http.via import RETURNED
from sluice.observe.log import Log
from sluice.observe.log_lines import MAX_TEXT
from sluice.observe.tracing import Span

LOG: Final = Log("gateway")
_monotonic: Final = time.monotonic
_NOT_AS_IT_IS: Final = re.compile(rb'[\x00-\x1f"\\\x7f-\xff]')
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class AccessLogEntry:
    """What the log line of a request tells. What most requests never set stays with the class."""

    head: Head | None = None
    plan: Admission | Plan | Invalid | None = None
    """As far as the request came."""
    counted: str | None = None
    """Which limits it took from: `head`, those that need only its head; `none`; None: all that apply."""
    body: HeldBody | None = None
    """What it holds of the budget for bodies."""
    limit: str | None = None
    status: int = 0
    id: str | None = None
    why: str | None = None


def write(log: AccessLogEntry, exchange: Exchange, started: float, *, combined: bool, several: bool) -> None:
    """Counts and logs a request that was answered, or whose client is gone, and ends its span. `several`: there are
    several listeners, so it is worth a word which one it was. `started`: when it came (`time.monotonic`)."""
    seconds = _monotonic() - started
    plan, head = log.plan, log.head
    assert plan is not None
    assert head is not None
    metrics.request(plan.rules.name, log.status, seconds)
    if exchange.asked_at > 0.0:
        metrics.added(exchange.asked_at - started)
    if exchange.span is not None:
        _end(exchange.span, log)
    if log.why is not None:
        count(log.why)
    if combined:
        raw, client = exchange.head, plan.subject.client.text
        minor = 1 if raw.current else 0
        size = exchange.bytes_out
        LOG.text(combined_line(client, raw.method, raw.target, minor, log.status, size, raw.fields))
    else:
        fields = _fields(log, plan, head, exchange, seconds)
        if several:
            fields["on"] = head.listener
        LOG.line("request", fields)


def _end(span: Span, log: AccessLogEntry) -> None:
    route = log.plan.rules.name if log.plan is not None else "-"
    method = log.head.method if log.head is not None else ""
    said: dict[str, str | int] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": log.status,
    }
    if log.id is not None:
        said["sluice.event"] = log.id
    if log.limit is not None:
        said["sluice.limit"] = log.limit
    span.end(said, name=f"{method} {route}", failed=(log.why or "") if log.status >= 500 else "")


def count(why: str) -> None:
    """Of what was refused that for which `status` has a sentence of its own."""
    if why == UNKNOWN:
        counted.unknown_prefix()
    elif why == RETURNED:
        counted.returned()
    elif why.startswith(AMBIGUOUS):
        counted.ambiguous_path()


def broken_off(upstream: str, head: Head, exchange: Exchange) -> None:
    """Its answer had begun, and the client got a part of it."""
    request_id = id_of(head.id_line)
    LOG.warning("upstream.broke_off", upstream=upstream, path=path_text(head), why=exchange.why, request_id=request_id)


def path_text(head: Head) -> str:
    return head.path.decode("utf-8", "backslashreplace")


def _fields(
    log: AccessLogEntry, plan: Admission | Plan | Invalid, head: Head, exchange: Exchange, seconds: float
) -> dict[str, Any]:
    subject = plan.subject
    fields: dict[str, Any] = {
        "method": head.method,
        "path": path_text(head),
        "route": plan.rules.name,
        "status": log.status,
        "ms": _milliseconds(seconds),
        "client": subject.client.text,
        "request_id": id_of(head.id_line),
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
    }
    tell_client(head.fields, fields)
    if exchange.upstream:
        fields["upstream"] = exchange.upstream
        if exchange.upstream_seconds >= 0.0:
            fields["upstream_ms"] = _milliseconds(exchange.upstream_seconds)
    if head.fields.kinds & TRACEPARENT:
        parent = parent_of(head.fields)
        if parent is not None:
            fields["trace"] = trace_id(parent)
    if head.worker is not None:
        fields["worker"] = head.worker
    if subject.event is not None:
        fields["event"] = subject.event
    if subject.session is not None:
        fields["session"] = subject.session
    if log.limit is not None:
        fields["limit"] = log.limit
    if log.counted is not None:
        fields["counted"] = log.counted
    if log.id is not None:
        fields["id"] = log.id
    if log.why is not None:
        fields["why"] = log.why
    return fields


def _milliseconds(seconds: float) -> float:
    """To two digits. `round` would take four times as long, and is called twice for each request."""
    return int(seconds * 100_000.0 + 0.5) / 100.0


def tell_client(fields: Fields, said: dict[str, Any]) -> None:
    """Adds what the client says of itself."""
    kinds = fields.kinds
    if kinds & HOST:
        said["host"] = _text(fields.first(HOST))
    if kinds & USER_AGENT:
        said["user_agent"] = _text(fields.first(USER_AGENT))
    if kinds & REFERER:
        said["referer"] = _text(fields.first(REFERER)).partition("?")[0]


def _text(value: bytes | None) -> str:
    return (value or b"").decode("latin-1")


def combined_line(
    client: str, method: bytes, target: bytes, minor: int, status: int, size: int, fields: Fields
) -> bytes:
    """`client - - [time] "request" status bytes "referer" "user agent"`, as Apache has it, escaped as nginx does.

    `minor`: the digit behind `HTTP/1.`; `size`: bytes of the answer's body; `fields`: those of the request.
    """
    return b'%b - - [%b] "%b %b HTTP/1.%d" %d %d "%b" "%b"' % (
        client.encode(),
        _now(int(time.time())),
        _escaped(method),
        _escaped(target.partition(b"?")[0]),
        minor,
        status,
        size,
        _or_hyphen((fields.first(REFERER) or b"").partition(b"?")[0]),
        _or_hyphen(fields.first(USER_AGENT) or b""),
    )


def _or_hyphen(value: bytes) -> bytes:
    return _escaped(value) if value else b"-"


def _escaped(value: bytes) -> bytes:
    """Not longer than any field of a log may be, but for what is escaped."""
    return _NOT_AS_IT_IS.sub(_hexadecimal, value[:MAX_TEXT])


def _hexadecimal(found: re.Match[bytes]) -> bytes:
    return b"\\x%02X" % found[0][0]


def _now(second: int) -> bytes:
    at = time.gmtime(second)
    return b"%02d/%b/%d:%02d:%02d:%02d +0000" % (
        at.tm_mday,
        _MONTHS[at.tm_mon - 1].encode(),
        at.tm_year,
        at.tm_hour,
        at.tm_min,
        at.tm_sec,
    )
