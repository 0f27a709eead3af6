"""One attempt: one signed POST of a delivery, ending in an outcome."""

from __future__ import annotations

import time

from relay.event import Delivery
from relay.outcome import SHOWN, Failed, Outcome, outcome_of
from runtime import http1
from runtime.policies import Endpoint, Signature
from runtime.signatures import sign

EVENT_ID = b"Webhook-Id"
"""The same over all attempts and replays of an event: by it a receiver drops repeats (Standard Webhooks' name)."""
ATTEMPT = b"X-Sluice-Attempt"


class Sender:
    """The connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, signature: Signature | None) -> None:
        origin = http1.Origin.of(endpoint.url)
        self._pool = http1.Pool(origin, connect=endpoint.timeout, limit=endpoint.concurrency, wait=endpoint.timeout)
        self._base = http1.base_path(endpoint.url)
        self._host = (b"Host", origin.authority)
        self._signature = signature
        self._timeout = endpoint.timeout

    async def post(self, delivery: Delivery) -> Outcome:
        """The whole attempt takes at most the endpoint's timeout. Never raises for anything the receiver does."""
        try:
            status, headers, answer = await http1.exchange(
                self._pool,
                b"POST",
                self._base + delivery.target,
                self._headers(delivery),
                delivery.body,
                timeout=self._timeout,
                most=SHOWN,
            )
        except http1.UpstreamError as error:
            return Failed(str(error))
        return outcome_of(status, headers, answer)

    def _headers(self, delivery: Delivery) -> list[tuple[bytes, bytes]]:
        """Signed anew each time, over the bytes that are sent; ours come last, so nothing stored can stand for them."""
        proof = sign(self._signature, delivery.body, time.time()) if self._signature else []
        ours = [(EVENT_ID, delivery.id.encode()), (ATTEMPT, b"%d" % delivery.attempt)]
        return [self._host, *delivery.headers, *proof, *ours]

    async def close(self) -> None:
        await self._pool.close()
