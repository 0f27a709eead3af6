"""One small request, one small answer: what the webhook sender needs."""

from __future__ import annotations

import math
from time import monotonic
from typing import Final

from sluice.http.client.connection import Connection
from sluice.http.client.deadlines import Deadlines
from sluice.http.client.framing import NO_BODY, Framing, Headers, request_head, sized
from sluice.http.client.pool import Pool
from sluice.http.client.response import Response
from sluice.http.errors import TooLate, UpstreamError, UpstreamReset
from sluice.process.boottime import boottime

WITH_BODY: Final = frozenset((b"POST", b"PUT", b"PATCH"))
"""Methods whose empty body still gets its Content-Length: 0 (RFC 9110 §8.6)."""


async def exchange(
    pool: Pool, method: bytes, target: bytes, headers: Headers, body: bytes, *, timeout: float, most: int
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and the first `most` bytes of the answer, all within `timeout` seconds from now.

    Sent once more, on a fresh connection, if a reused one had been closed before any byte of a response: so the
    request may arrive twice. Content-Length is ours. Raises BadHead or an UpstreamError.
    """
    framing = sized(len(body)) if body or method in WITH_BODY else NO_BODY
    head = request_head(method, target, headers, framing)
    within = Deadlines(timeout)
    response, answer = await ask(pool, head, framing, body, within=within, most=most, head_only=method == b"HEAD")
    return response.status, response.headers, answer


async def ask(
    pool: Pool,
    head: bytes,
    framing: Framing,
    body: bytes,
    *,
    within: Deadlines,
    most: int,
    timeout: float | None = None,
    head_only: bool = False,
    begin_by: float = math.inf,
    body_within: float | None = None,
) -> tuple[Response, bytes]:
    """The same, of a head that is known to be sound and to say what `framing` says: the response, and what of its body.

    `within` is the usual timeout, shared by many; `timeout` is a shorter one. `head_only`: it is a HEAD. `begin_by`: a
    moment of `boottime`; where it must wait for a connection until after that, it raises TooLate and sends nothing.
    `body_within`: only the head of the response matters; what counts of the body is what has come so many seconds
    later, be it cut, late or wrong.
    """
    began = monotonic()
    longest = within.seconds if timeout is None else timeout
    kept = pool.kept()
    connection = kept or await _acquire(pool, longest, begin_by, fresh=False)
    try:
        response = connection.send(head, framing, body, head_only=head_only)
        await response.head(within if kept and timeout is None else began + longest - monotonic())
    except UpstreamReset as reset:
        if reset.response_started or not connection.reused:
            raise
        connection = await _acquire(pool, began + longest - monotonic(), begin_by, fresh=True)
        response = connection.send(head, framing, body, head_only=head_only)
        await response.head(began + longest - monotonic())
    if response.complete:
        return response, response.take()[:most]
    left = began + longest - monotonic()
    if body_within is None:
        return response, await response.read(most, left)
    return response, await _what_comes(response, connection, most, min(left, body_within))


async def _what_comes(response: Response, connection: Connection, most: int, timeout: float) -> bytes:
    """The first `most` bytes of the body, or what of them has come after `timeout` seconds, however it ended."""
    end = monotonic() + timeout
    body = b""
    try:
        while len(body) < most:
            piece = await response.chunk(max(0.0, end - monotonic()))
            if not piece:
                return body
            body += piece
    except UpstreamError:
        return body
    connection.abort()
    return body[:most]


async def _acquire(pool: Pool, timeout: float, begin_by: float, *, fresh: bool) -> Connection:
    connection = await pool.acquire(fresh=fresh, timeout=timeout)
    if begin_by != math.inf and boottime() > begin_by:
        connection.abort()
        raise TooLate("not begun in time")
    return connection
