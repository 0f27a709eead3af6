"""One small request, one small answer: what the webhook sender needs."""

from __future__ import annotations

import asyncio

from runtime.http1.connection import Connection
from runtime.http1.errors import BadHead, UpstreamReset
from runtime.http1.framing import NO_BODY, Headers, sized
from runtime.http1.pool import Pool
from runtime.http1.response import Response

WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))
"""Methods whose empty body still gets its Content-Length: 0 (RFC 9110 §8.6)."""


async def exchange(
    pool: Pool, method: bytes, target: bytes, headers: Headers, body: bytes, *, timeout: float, most: int
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and the first `most` bytes of the answer, all within `timeout` seconds from now.

    Sent once more, on a fresh connection, if a reused one had been closed before any byte of a response: so the
    request may arrive twice. Content-Length is ours. Raises BadHead or an UpstreamError.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    connection = await pool.acquire(timeout=timeout)
    try:
        response = await _ask(connection, method, target, headers, body, end - loop.time())
    except UpstreamReset as reset:
        if reset.response_started or not connection.reused:
            raise
        connection = await pool.acquire(fresh=True, timeout=end - loop.time())
        response = await _ask(connection, method, target, headers, body, end - loop.time())
    return response.status, response.headers, await response.read(most, end - loop.time())


async def _ask(
    connection: Connection, method: bytes, target: bytes, headers: Headers, body: bytes, timeout: float
) -> Response:
    framing = sized(len(body)) if body or method in WITH_BODY else NO_BODY
    try:
        connection.send_head(method, target, headers, framing, body)
    except BadHead:
        connection.abort()
        raise
    return await connection.response(timeout)
