"""A receiver that plays Laravel: the same signature check, the same limiter, and a ledger of what arrived.

The order is the one of VerifyWhatsAppHmac.php: signature, then limiter, so that a badly signed request costs no
allowance. Repeats are answered 200 as the real one does; the ledger counts them.
"""

from __future__ import annotations

import html
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sluice.config import Signature
from sluice.http.signatures import refusal

KEPT = 200_000
"""Deliveries, and event ids, that are remembered; older ones are forgotten."""
_ADDRESSES = 10_000
_LINES = 1_000
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_SHOWN = ("host", "forwarded", "via", "user-agent", "x-real-ip", "x-request-id")


class Limiter:
    """Laravel's counter per client address, flaw and all: its window starts anew with every accepted request.

    So it does not forget while it accepts: `limit` requests with less than `minute` seconds between them, however
    slowly they come, and the address is shut out until `minute` seconds after the last accepted one.
    """

    def __init__(self, limit: int, minute: float) -> None:
        self._limit = limit
        self._minute = minute
        self._counters: dict[str, tuple[int, float]] = {}

    def accepts(self, address: str, now: float) -> bool:
        """`now` in seconds of any clock that never goes back."""
        count, ends = self._counters.get(address, (0, now))
        if now >= ends:
            count = 0
        if count >= self._limit:
            return False
        if len(self._counters) >= _ADDRESSES:
            self._forget(now)
        self._counters[address] = (count + 1, now + self._minute)
        return True

    def _forget(self, now: float) -> None:
        self._counters = {address: state for address, state in self._counters.items() if now < state[1]}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One accepted request."""

    id: str | None
    """Header `webhook-id`; None from a sender that sets none."""
    event: str
    session: str
    sequence: int | None
    at: float
    """Unix seconds."""
    attempt: int
    """How often this event has been here, refusals included, from 1."""


@dataclass(frozen=True, slots=True)
class _Seen:
    attempts: int
    accepted: bool


_NEVER = _Seen(0, False)


class Ledger:
    """What arrived, in the order of arrival; the counts are for ever, the deliveries the newest `KEPT`."""

    def __init__(self) -> None:
        self.deliveries: deque[Delivery] = deque(maxlen=KEPT)
        self.accepted = 0
        self.refused = 0
        self.unauthorized = 0
        self.repeated = 0
        self.out_of_order = 0
        self.events: Counter[str] = Counter()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._highest: dict[str, int] = {}

    def refuse(self, event_id: str | None, body: dict[str, Any]) -> None:
        """The limiter sent it away."""
        self.refused += 1
        self._see(_identity(event_id, body), accepted=False)

    def accept(self, event_id: str | None, body: dict[str, Any], at: float) -> Delivery:
        """`at` in unix seconds."""
        before = self._see(_identity(event_id, body), accepted=True)
        session, sequence = _session(body), _sequence(body)
        delivery = Delivery(event_id, str(body.get("event", "")), session, sequence, at, before.attempts + 1)
        self.accepted += 1
        self.events[delivery.event] += 1
        self.deliveries.append(delivery)
        if before.accepted:
            self.repeated += 1
        elif sequence is not None:
            self._order(session, sequence)
        return delivery

    def summary(self) -> dict[str, Any]:
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "unauthorized": self.unauthorized,
            "repeated": self.repeated,
            "out_of_order": self.out_of_order,
            "events": dict(self.events),
        }

    def _see(self, identity: str | None, *, accepted: bool) -> _Seen:
        """How often it had been here before."""
        if identity is None:
            return _NEVER
        before = self._seen.get(identity, _NEVER)
        self._seen[identity] = _Seen(before.attempts + 1, before.accepted or accepted)
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        return before

    def _order(self, session: str, sequence: int) -> None:
        highest = self._highest.get(session)
        if highest is not None and sequence <= highest:
            self.out_of_order += 1
        else:
            self._highest[session] = sequence


def app(
    signature: Signature,
    *,
    limit: int = 100,
    minute: float = 60.0,
    trust_forwarded: bool = False,
    ledger: Ledger | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The receiver. `minute` is the limiter's window in seconds; `trust_forwarded` counts by the last X-Forwarded-For
    instead of the TCP peer."""
    receiver = _Receiver(signature, Limiter(limit, minute), ledger or Ledger(), trust_forwarded, clock)
    return Starlette(
        routes=[
            Route("/api/whatsapp/webhooks/{rest:path}", receiver.webhook, methods=["POST"]),
            Route("/ledger", receiver.summary),
            Route("/ledger/events", receiver.events),
            Route("/{path:path}", _page, methods=_METHODS),
        ]
    )


class _Receiver:
    def __init__(
        self, signature: Signature, limiter: Limiter, ledger: Ledger, trust_forwarded: bool, clock: Callable[[], float]
    ) -> None:
        self._signature = signature
        self._limiter = limiter
        self._ledger = ledger
        self._trust_forwarded = trust_forwarded
        self._clock = clock

    async def webhook(self, request: Request) -> Response:
        raw = await request.body()
        why = refusal(self._signature, request.headers.raw, raw, time.time())
        if why is not None:
            self._ledger.unauthorized += 1
            return JSONResponse({"message": why}, status_code=401)
        event_id = request.headers.get("webhook-id")
        body = _object(raw)
        if not self._limiter.accepts(self._address(request), self._clock()):
            self._ledger.refuse(event_id, body or {})
            return JSONResponse({"message": "Too Many Attempts."}, status_code=429)
        if body is None:
            return JSONResponse({"message": "The body must be a JSON object."}, status_code=422)
        self._ledger.accept(event_id, body, time.time())
        return JSONResponse({"status": "received"})

    async def summary(self, request: Request) -> Response:
        return JSONResponse(self._ledger.summary())

    async def events(self, request: Request) -> Response:
        return StreamingResponse(ndjson(list(self._ledger.deliveries)), media_type="application/x-ndjson")

    def _address(self, request: Request) -> str:
        forwarded = request.headers.getlist("x-forwarded-for") if self._trust_forwarded else []
        if forwarded:
            return forwarded[-1].rsplit(",", 1)[-1].strip()
        return request.client.host if request.client else ""


async def ndjson(rows: list[Any]) -> AsyncIterator[bytes]:
    """Rows (dataclasses or plain) as newline-delimited JSON, in pieces that do not hold up the loop."""
    for start in range(0, len(rows), _LINES):
        yield b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows[start : start + _LINES])


async def _page(request: Request) -> Response:
    shown = [(k, v) for k, v in request.headers.items() if k in _SHOWN or k.startswith(("x-forwarded-", "x-sluice-"))]
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in shown)
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return HTMLResponse(
        "<!doctype html><title>Demo Laravel</title><h1>Demo Laravel</h1>"
        f"<p>This request came through: <code>{html.escape(request.method)} {html.escape(target)}</code></p>"
        f'<table>{rows}</table><p>What arrived so far: <a href="/ledger">/ledger</a></p>'
    )


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def _data(body: dict[str, Any]) -> dict[str, Any]:
    data = body.get("data")
    return data if isinstance(data, dict) else {}


def _session(body: dict[str, Any]) -> str:
    return str(_data(body).get("session_id", ""))


def _sequence(body: dict[str, Any]) -> int | None:
    sequence = _data(body).get("sequence")
    return sequence if isinstance(sequence, int) else None


def _identity(event_id: str | None, body: dict[str, Any]) -> str | None:
    """What a repeat is known by; workers that post directly send no id, but count what matters."""
    if event_id is not None:
        return event_id
    sequence = _sequence(body)
    return None if sequence is None else f"{_session(body)}/{sequence}"
