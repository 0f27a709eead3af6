"""A request for a worker, and what we ask a worker ourselves in the course of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from gateway.proxy.upstream import UpstreamRequest
from gateway.request import Head, Json
from gateway.workers.calls import Call
from gateway.workers.keys import given_in
from sluice.http.fields import HOST, Field, Fields
from sluice.http.server import Exchange

_KEY = b"x-api-key"
_PLAIN = Field(b"Accept-Encoding", b"identity")


@dataclass(slots=True)  # frozen ones take twice as long to make
class WorkerRequest:
    call: Call
    session: str
    """Empty: it names none."""
    outgoing: UpstreamRequest
    json: Json | None
    timeout: float
    """Seconds until the head of the worker's answer."""
    exchange: Exchange

    @property
    def size(self) -> int:
        return len(self.outgoing.body or b"")

    @property
    def fields(self) -> Mapping[str, Any]:
        """Of its body; empty where that is no JSON object."""
        value = self.json.value if self.json else None
        return value if isinstance(value, Mapping) else {}


def uncompressed(outgoing: UpstreamRequest) -> UpstreamRequest:
    """The same, of a worker whose answer we read: what is compressed nobody here looks into, as no one can say how much
    it becomes."""
    head = outgoing.head
    fields = Fields([field for field in head.fields.all if field.key != b"accept-encoding"] + [_PLAIN])
    plain = Head(head.method, head.path, head.target, fields, head.length, head.client, head.scheme, head.via)
    return UpstreamRequest(plain, outgoing.body, outgoing.more, outgoing.within, outgoing.idle, outgoing.most)


def own_get(request: WorkerRequest, path: str) -> UpstreamRequest:
    """A GET of ours with the key that this request carries."""
    in_body = request.fields.get("api_key")
    key = in_body if isinstance(in_body, str) else given_in(request.outgoing.head)
    query = f"?{urlencode({'api_key': key})}" if key else ""
    return _without_body(request, "GET", f"{path}{query}")


def status_path(session: str) -> str:
    return f"/api/sessions/{quote(session, safe='')}/status"


def as_reconnect(request: WorkerRequest) -> UpstreamRequest:
    """A create, as the reconnect that closes the session's browser first; its body says the same."""
    head = request.outgoing.head
    target = f"/api/sessions/{quote(request.session, safe='')}/reconnect".encode()
    changed = Head(
        "POST", target, target, head.fields, head.length, head.client, head.scheme, head.via, id_line=head.id_line
    )
    return UpstreamRequest(changed, request.outgoing.body, idle=request.outgoing.idle)


def _without_body(request: WorkerRequest, method: str, target: str) -> UpstreamRequest:
    head = request.outgoing.head
    fields = Fields([field for field in head.fields.all if field.kind == HOST or field.key == _KEY] + [_PLAIN])
    path = target.partition("?")[0].encode()
    asking = Head(method, path, target.encode(), fields, 0, head.client, head.scheme, head.via, id_line=head.id_line)
    return UpstreamRequest(asking, b"")
