"""Requests and answers as Express and PHP see them: bodies read whole, JSON answers, errors in HTML."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import socket
import zlib
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import uvicorn

from sluice.process.loops import Stop

MAX_BODY = 50 * 1024 * 1024
Scope = MutableMapping[str, Any]


@dataclass(slots=True)
class Asked:
    """A request, read whole. `fields` are those of a JSON object or of a form; a repeated one is a list."""

    method: str
    path: str
    query: dict[str, Any]
    headers: dict[str, str]
    body: bytes
    client: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Given:
    """An answer: a value is sent as JSON, a text as HTML."""

    status: int
    value: Any
    headers: dict[str, str] = field(default_factory=dict)


class TooLarge(Exception):
    """The body is over 50 MB."""


Answer = Callable[[Asked], Awaitable[Given]]


def application(answer: Answer) -> Callable[..., Awaitable[None]]:
    """An ASGI application. A caller that hangs up does not stop `answer`."""

    async def app(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "http":
            return
        try:
            given = await answer(await _read(scope, receive))
        except TooLarge:
            given = Given(413, page("PayloadTooLargeError: request entity too large"), {"connection": "close"})
        body = given.value.encode() if isinstance(given.value, str) else json.dumps(given.value).encode()
        kind = "text/html; charset=utf-8" if isinstance(given.value, str) else "application/json; charset=utf-8"
        headers = {"content-type": kind, "content-length": str(len(body)), "etag": f'W/"{zlib.crc32(body):x}"'}
        pairs = [(name.encode(), value.encode()) for name, value in (headers | given.headers).items()]
        await send({"type": "http.response.start", "status": given.status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    return app


async def _read(scope: Scope, receive: Callable[[], Awaitable[Any]]) -> Asked:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise TooLarge
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
    peer = (scope["client"] or ("", 0))[0]
    return Asked(scope["method"], scope["path"], form(scope["query_string"]), headers, bytes(body), peer)


def form(text: bytes) -> dict[str, Any]:
    """As Express's `qs` reads it: what is repeated is an array."""
    pairs = parse_qs(text.decode(), keep_blank_values=True)
    return {name: values[0] if len(values) == 1 else values for name, values in pairs.items()}


def page(error: str) -> str:
    """What Express answers where nobody catches an error."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>\n<body>\n'
        f"<pre>{html.escape(error)}</pre>\n</body>\n</html>\n"
    )


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(answer: Answer, bound: socket.socket, stop: Stop, *, keep_alive: int = 5) -> None:
    """Until stopped; kept connections are closed after `keep_alive` idle seconds, as Node does."""
    config = uvicorn.Config(
        application(answer),
        proxy_headers=False,
        server_header=False,
        log_config=None,
        lifespan="off",
        timeout_keep_alive=keep_alive,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    await server.serve(sockets=[bound])
    ending.cancel()
