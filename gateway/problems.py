"""How the edge answers: JSON, and refusals as problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from sluice.http.bodies import Receive
from sluice.http.fields import pair_of
from sluice.http.problem import MEDIA_TYPE, ClientGone, Refusal

__all__ = [
    "BadPath",
    "ClientGone",
    "Receive",
    "Refusal",
    "Send",
    "answer",
    "answer_json",
    "answer_refusal",
    "too_large",
]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def too_large(size: str, most: int) -> Refusal:
    return Refusal(413, f"the body {size}, this route takes {most} at most (`body:` of the route)")


class BadPath(ValueError):
    """A path that no two readers would understand in the same way."""


async def answer_refusal(send: Send, refusal: Refusal) -> None:
    headers = [(b"retry-after", refusal.retry_after)] if refusal.retry_after else []
    headers += map(pair_of, refusal.lines)
    await answer(send, refusal.status, refusal.body(), MEDIA_TYPE.encode(), headers)


async def answer_json(send: Send, status: int, value: object) -> None:
    await answer(send, status, orjson.dumps(value), b"application/json", [])


async def answer(send: Send, status: int, body: bytes, content_type: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    framing = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*framing, *headers]})
    await send({"type": "http.response.body", "body": body})
