"""One small request, one small answer: what the webhook sender needs."""

from __future__ import annotations

from time import monotonic

from sluice.http.client.deadlines import Deadlines
from sluice.http.client.framing import NO_BODY, Framing, Headers, request_head, sized
from sluice.http.client.pool import Pool
from sluice.http.client.response import Response
from sluice.http.errors import UpstreamReset

WITH_BODY = frozenset((b"POST", b"PUT", b"PATCH"))
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
) -> tuple[Response, bytes]:
    """The same, of a head that is known to be sound and to say what `framing` says: the response, and what of its body.

    `within` is the usual timeout, shared by many; `timeout` is a shorter one. `head_only`: it is a HEAD.
    """
    began = monotonic()
    longest = within.seconds if timeout is None else timeout
    kept = pool.kept()
    connection = kept or await pool.acquire(timeout=longest)
    try:
        response = connection.send(head, framing, body, head_only=head_only)
        await response.head(within if kept and timeout is None else began + longest - monotonic())
    except UpstreamReset as reset:
        if reset.response_started or not connection.reused:
            raise
        connection = await pool.acquire(fresh=True, timeout=began + longest - monotonic())
        response = connection.send(head, framing, body, head_only=head_only)
        await response.head(began + longest - monotonic())
    if response.complete:
        return response, response.take()[:most]
    return response, await response.read(most, began + longest - monotonic())
