"""How the edge answers: JSON, and refusals as problem+json (RFC 9457) or as a page for people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from sluice.http.bodies import Receive
from sluice.http.fields import pair_of
from sluice.http.negotiation import accepted, accepted_by
from sluice.http.problem import ClientGone, Pairs, Refusal
from sluice.http.request_id import id_of
from sluice.http.server import Exchange

__all__ = [
    "BadPath",
    "ClientGone",
    "Receive",
    "Refusal",
    "Send",
    "answer",
    "answer_json",
    "answer_refusal",
    "refuse",
    "too_large",
]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def too_large(size: str, most: int) -> Refusal:
    return Refusal(413, f"the body {size}, this route takes {most} at most (`body:` of the route)")


class BadPath(ValueError):
    """A path that no two readers would understand in the same way."""


async def refuse(exchange: Exchange, refusal: Refusal) -> None:
    """As the client of this exchange wants to hear it."""
    headers, body = refusal.answer(accepted_by(exchange.head.fields), id_of(exchange.id_line))
    await _answer(exchange.send, refusal.status, headers, body)


async def answer_refusal(send: Send, refusal: Refusal, fields: Pairs, id_line: bytes) -> None:
    """The same where there is no exchange. `fields`: the fields of the request, names in lower case."""
    headers, body = refusal.answer(accepted(fields), id_of(id_line))
    await _answer(send, refusal.status, [*headers, pair_of(id_line)], body)


async def answer_json(send: Send, status: int, value: object) -> None:
    await answer(send, status, orjson.dumps(value), b"application/json", [])


async def answer(send: Send, status: int, body: bytes, content_type: bytes, headers: Pairs) -> None:
    framing = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await _answer(send, status, [*framing, *headers], body)


async def _answer(send: Send, status: int, headers: Pairs, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
