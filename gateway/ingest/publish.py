"""Publishing over HTTP: `POST /_sluice/events`, one event or a list of them.

    {"type": "order_paid", "session": "s1", "data": {...}, "id": "order-17", "path": "/hooks/orders",
     "headers": {"X-Instance-Url": "http://10.0.0.5:3000"}, "fence": 1764440000000000}

Only `type` must be there. Each endpoint whose `events` match gets the event's own bytes, in order per `session`, at
`path` behind its url, with these headers. By its `id`, or by the request's Idempotency-Key and its place in the list, a
repeat is known for `relay.dedupe` within its session: what the answer and the receivers are told is the id with the
session behind it. A list is checked as a whole before any of it is stored; then its events are stored in their order.
Every request is signed over the exact bytes of its body, as `relay.verify` says. Every refusal is problem+json (RFC
9457) and says the cure.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.ingest.carried import published_headers
from gateway.ingest.fence import HEADER, fence_field, read_fence
from gateway.ingest.identity import REPEATED_SOON, digest_of
from gateway.ingest.webhooks import Ingest, Post, Receipt, as_event
from gateway.policies import Policies
from gateway.problems import ClientGone, Refusal
from gateway.request import Json
from relay.queue.codec import Event, Headers, new_id
from sluice.config import Promise
from sluice.config.parsers import EVENT_TYPE
from sluice.http import lenient_json, signed_json
from sluice.http.bodies import BodyBudget, HeldBody
from sluice.http.fields import fields_of
from sluice.http.signed_json import Members, problem, wrong
from sluice.http.trace import id_in, kept_of

PATH = "/_sluice/events"
MAX_BODY = 8 * 2**20
"""Reading it takes the gateway's time from others; what is larger goes through a route with `relay:`."""
MAX_LIST = 1000
_AT_ONCE = 256
_FOR_GOOD = 409
"""The status of an event that is refused by its fence, and for which no other has to wait."""
_KNOWN = ("type", "session", "data", "id", "path", "headers", "fence")
_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}")
_PLAIN = re.compile(r"[A-Za-z0-9_:.-]{1,64}")
_TARGET = re.compile(r"/[!-~]{0,2047}")
_MAX_SESSION = 200
_HEADERS = ((b"Content-Type", b"application/json"),)
_BOUNDARIES = json.JSONDecoder(parse_int=lambda _: 0, parse_float=lambda _: 0.0)
_BLANK = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an event. `why`: it was not stored."""

    receipt: Receipt
    why: Refusal | None = None

    def fields(self, promise: Promise) -> dict[str, object]:
        if self.why is not None:
            return {"status": "refused", "id": self.receipt.id, "detail": self.why.detail}
        return self.receipt.fields(promise) | {"endpoints": self.receipt.endpoints}


def routes(policies: Policies, intake: Ingest, bodies: BodyBudget, now: Callable[[], float] = time.time) -> list[Route]:
    relay = policies.relay
    signature = policies.signatures[relay.verify] if relay.verify else None

    async def publish(request: Request) -> Response:
        held = HeldBody(bodies)
        try:
            body = await signed_json.read(request, held, signature, "relay.verify", MAX_BODY, now())
            key, fences = request.headers.get("idempotency-key", ""), request.headers.getlist(HEADER.decode())
            traces = kept_of(fields_of(request.headers.raw))
            events, is_list = read_events(body, key, policies, [fence.encode("latin-1") for fence in fences], traces)
            return _answer(await _store(events, intake), policies.store.promise, is_list=is_list)
        except Refusal as refused:
            return problem(request, refused)
        except ClientGone:
            return Response(status_code=400)  # nobody reads it
        finally:
            held.release()

    return [Route(PATH, publish, methods=["POST"])]


async def _store(events: Sequence[Event], intake: Ingest) -> list[Stored]:
    """In their order, many at once; after one that is to be sent again no more of them are begun."""
    stored: list[Stored] = []
    for start in range(0, len(events), _AT_ONCE):
        stored += await asyncio.gather(*(_store_one(event, intake) for event in events[start : start + _AT_ONCE]))
        why = _first_refusal(stored)
        if why is not None and why.status != _FOR_GOOD:
            return stored + [Stored(Receipt(event.id, ()), why) for event in events[len(stored) :]]
    return stored


async def _store_one(event: Event, intake: Ingest) -> Stored:
    try:
        return Stored(await intake.publish(event))
    except Refusal as refused:
        return Stored(Receipt(event.id, ()), refused)


# --- the request


def read_events(
    body: bytes, idempotency_key: str, policies: Policies, fences: Sequence[bytes] = (), traces: Headers = ()
) -> tuple[list[Event], bool]:
    """The events, and whether they came as a list. `fences` and `traces` (`traceparent`, `tracestate`): of the request,
    for each event that has none of its own.

    Raises Refusal 400 for the first that is wrong, 413 for too many.
    """
    content = _parsed(body)
    if not isinstance(content, list):
        return [_event(content, body.strip(b" \t\n\r"), "", idempotency_key, policies, fences, traces)], False
    if not content:
        raise Refusal(400, "the list is empty")
    if len(content) > MAX_LIST:
        raise Refusal(413, f"the list has {len(content)} events, it may have {MAX_LIST}")
    events = []
    for i, (fields, own_bytes) in enumerate(zip(content, _pieces(body.decode()), strict=True)):
        key = f"{idempotency_key}\0{i}" if idempotency_key else ""
        events.append(_event(fields, own_bytes, f"[{i}]", key, policies, fences, traces))
    return events, True


def _parsed(body: bytes) -> object:
    try:
        body.decode()
        return lenient_json.loads(body)
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {error}") from None


def _pieces(text: str) -> Iterator[bytes]:
    """The bytes of each item of a list that is known to be JSON, as they were written."""
    at = text.index("[") + 1
    while True:
        begin = _after_blanks(text, at)
        try:
            _, end = _BOUNDARIES.raw_decode(text, begin)
        except RecursionError:
            raise Refusal(400, "the list is nested too deeply") from None
        yield text[begin:end].encode()
        at = _after_blanks(text, end) + 1
        if text[at - 1] == "]":
            return


def _after_blanks(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _event(
    fields: object,
    own_bytes: bytes,
    place: str,
    idempotency_key: str,
    policies: Policies,
    fences: Sequence[bytes],
    traces: Headers,
) -> Event:
    if not isinstance(fields, dict):
        wrong(place or "the body", "an object" if place else "an event, or a list of them", fields)
    at = f"{place}." if place else ""
    _refuse_unknown(fields, at)
    event_type = _text(fields, "type", at, EVENT_TYPE, "an event type, 1 to 128 of A-Z a-z 0-9 _ . : / -")
    own_id = _text(fields, "id", at, _ID, "1 to 128 of A-Z a-z 0-9 _ : -") if "id" in fields else ""
    path = _text(fields, "path", at, _TARGET, "a path such as /hooks/orders") if "path" in fields else ""
    session = _session(fields.get("session"), at)
    headers = published_headers(fields["headers"], at, policies, event_type) if "headers" in fields else ()
    if id_in(headers) is None:
        headers += traces
    own_fence = "fence" in fields
    fence = fence_field(fields["fence"], session, f"{at}fence") if own_fence else read_fence(fences, session)
    return as_event(
        policies.relay,
        _event_id(own_id, idempotency_key, session),
        event_type,
        session,
        Post(path.encode(), _HEADERS + headers, own_bytes),
        Json(fields),
        window=policies.relay.dedupe if own_id or idempotency_key else REPEATED_SOON,
        digest=_digest(fields) if own_id or idempotency_key else "",
        fence=fence,
    )


def _digest(fields: Members) -> str:
    """Of what must be the same in a repeat, which may come under another fence."""
    content = {name: value for name, value in fields.items() if name != "fence"}
    return digest_of(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def _event_id(own_id: str, idempotency_key: str, session: str | None) -> str:
    """Of two sessions the same id or key means two events. An own id can still be read in it."""
    if not own_id:
        return new_id(f"published\0{session}\0{idempotency_key}" if idempotency_key else None)
    if session is None:
        return own_id
    return f"{own_id}.{session if _PLAIN.fullmatch(session) else new_id(session)}"


def _refuse_unknown(fields: Members, at: str) -> None:
    for name in fields:
        if name not in _KNOWN:
            close = get_close_matches(name, _KNOWN, n=1)
            cure = f"did you mean {close[0]}" if close else f"an event has {', '.join(_KNOWN)}"
            raise Refusal(400, f"{at}{name[:80]}: unknown; {cure}")


def _text(fields: Members, name: str, at: str, pattern: re.Pattern[str], wanted: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        wrong(at + name, wanted, value)
    if not pattern.fullmatch(value):
        raise Refusal(400, f"{at}{name}: must be {wanted}")
    return value


def _session(value: object, at: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        wrong(f"{at}session", "a string", value)
    if not 0 < len(value) <= _MAX_SESSION or not value.isprintable():
        raise Refusal(400, f"{at}session: must be 1 to {_MAX_SESSION} printable characters")
    return value


# --- the answer


def _answer(stored: Sequence[Stored], promise: Promise, *, is_list: bool) -> Response:
    """Raises Refusal when any of them was not stored: the others are named in it, and found as repeats when all are
    sent again. With 409 nothing is to be sent again: the others are stored."""
    why = _first_refusal(stored)
    fields = [one.fields(promise) for one in stored]
    if why is not None:
        more = {"events": fields} if is_list else {}
        raise Refusal(why.status, why.detail, retry_after=why.retry_after, **more)
    return Response(orjson.dumps({"events": fields} if is_list else fields[0]), 202, media_type="application/json")


def _first_refusal(stored: Sequence[Stored]) -> Refusal | None:
    """The first that has a cure; where there is none, the first."""
    refusals = [one.why for one in stored if one.why is not None]
    return next((why for why in refusals if why.status != _FOR_GOOD), refusals[0] if refusals else None)
