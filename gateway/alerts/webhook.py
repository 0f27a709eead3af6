"""One POST of JSON to a webhook, or a heartbeat: over a connection of its own, apart from all others."""

from __future__ import annotations

import asyncio
import ssl
import time
from urllib.parse import urlunsplit

from gateway.alerts.failed import SendFailed
from gateway.policies.alerts import hook_of
from sluice.config import Secret, Signature
from sluice.config.problems import Malformed
from sluice.http import client as http1
from sluice.http.signatures import sign
from sluice.observe.printable import on_one_line

_MAX_ANSWER, _SHOWN = 4096, 200


async def post(url: Secret, body: bytes, signature: Signature | None, timeout: float) -> str:
    """What came back, of 2xx. Raises SendFailed for anything else, a redirect too: nobody else is sent what this one
    was. No word of it names the path or the query, by which anybody could post there.
    """
    headers = [(b"Content-Type", b"application/json"), (b"Accept-Encoding", b"identity")]
    if signature is not None:
        headers += sign(signature, body, time.time())
    return await _ask(url, b"POST", headers, body, timeout)


async def beat(url: Secret, timeout: float) -> str:
    """A GET, as the services for dead man's switches take it. Raises SendFailed."""
    return await _ask(url, b"GET", [(b"Accept-Encoding", b"identity")], b"", timeout)


async def _ask(url: Secret, method: bytes, headers: list[tuple[bytes, bytes]], body: bytes, timeout: float) -> str:
    try:
        parts = hook_of(url)
        origin = http1.Origin.of(f"{parts.scheme}://{parts.netloc}")
        target = urlunsplit(("", "", parts.path or "/", parts.query, "")).encode()
        tls = await asyncio.to_thread(ssl.create_default_context) if parts.scheme == "https" else None
        pool = http1.Pool(origin, connect=timeout, limit=1, wait=timeout, tls=tls)
    except (Malformed, ValueError) as error:
        raise SendFailed(f"its address cannot be used: {error}") from None
    try:
        fields = [(b"Host", origin.authority), (b"User-Agent", b"Sluice"), *headers]
        status, _, answer = await http1.exchange(pool, method, target, fields, body, timeout=timeout, most=_MAX_ANSWER)
    except (http1.UpstreamError, http1.BadHead) as error:
        raise SendFailed(str(error)) from None
    finally:
        await pool.close()
    said = on_one_line(answer.decode("utf-8", "replace").strip())[:_SHOWN]
    came = f"{status} {said}".rstrip()
    if 300 <= status < 400:
        raise SendFailed(
            f"answered {status}, which leads elsewhere, and is not followed: write the address it leads to"
        )
    if not 200 <= status < 300:
        raise SendFailed(f"answered {came}")
    return f"answered {came}"
