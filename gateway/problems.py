"""Refusals as problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import orjson

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Refusal(Exception):
    """Ends the handling of a request with this answer. `retry_after` in whole seconds."""

    def __init__(self, status: int, detail: str, *, retry_after: bytes | None = None, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.more = more

    def body(self) -> bytes:
        title = HTTPStatus(self.status).phrase
        about = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail, **self.more}
        return orjson.dumps(about)


class ClientGone(Exception):
    """The client went away before its request was read."""


class BadPath(ValueError):
    """A path that no two readers would understand in the same way."""


async def answer_refusal(send: Send, refusal: Refusal) -> None:
    headers = [(b"retry-after", refusal.retry_after)] if refusal.retry_after else []
    await answer(send, refusal.status, refusal.body(), b"application/problem+json", headers)


async def answer_json(send: Send, status: int, value: object) -> None:
    await answer(send, status, orjson.dumps(value), b"application/json", [])


async def answer(send: Send, status: int, body: bytes, content_type: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    framing = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*framing, *headers]})
    await send({"type": "http.response.body", "body": body})
