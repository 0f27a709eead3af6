"""Who proves to be the operator by `console.token`, or a reader by `console.read`, and how often an address may be
wrong about it. No I/O."""

from __future__ import annotations

import hmac
import math
from typing import Literal

from gateway.client_ip import Client
from gateway.metrics import reserved_refused
from gateway.policies import ConsolePolicy
from sluice.config import Rate
from sluice.http.problem import Refusal
from sluice.observe.log import Log
from sluice.process.cache import Latest

LOG = Log("console")
DEFAULT = Rate(10, 60.0)
NO_TOKEN = "console.token is not set; set it in policies.yaml, for example to env:SLUICE_CONSOLE_TOKEN, and restart"  # noqa: S105
SEND_TOKEN = "send Authorization: Bearer <console.token>"  # noqa: S105
Role = Literal["operator", "reader"]
_KEPT = 2**20
"""Bytes; of the addresses that were wrong most recently is known how often."""


class TokenGuard:
    """Counts for this process: `rate` wrong tokens of one address, or of one /64 of IPv6. Beyond it even the right one
    is refused until some time has passed, so guessing goes no faster than that."""

    def __init__(self, rate: Rate = DEFAULT) -> None:
        self._rate = rate
        self._full_at: Latest[str, float] = Latest(_KEPT)
        """When each address will have all of its tries again, in monotonic seconds."""

    def apply(self, rate: Rate) -> None:
        """From now on; with another rate everybody begins anew."""
        if rate != self._rate:
            self._rate = rate
            self._full_at.clear()

    def check(self, authorization: str, policy: ConsolePolicy, client: Client, now: float) -> Role:
        """`now`: monotonic seconds. Raises Refusal 403 where no token is set, 401 and 429."""
        expected = policy.token.reveal() if policy.token else b""
        if not expected:
            raise Refusal(403, NO_TOKEN)
        reading = policy.read.reveal() if policy.read else b""
        if not authorization:
            raise Refusal(401, SEND_TOKEN)
        wait = self._wait(client.subject, now)
        if wait > 0:
            reserved_refused("limited")
            detail = f"too many wrong tokens came from {client.text} (admin.refused); wait, then send the right one"
            raise Refusal(429, detail, retry_after=b"%d" % math.ceil(wait))
        scheme, _, given = authorization.partition(" ")
        proof = given.strip().encode("latin-1") if scheme.lower() == "bearer" else b""
        if hmac.compare_digest(proof, expected):
            return "operator"
        if reading and hmac.compare_digest(proof, reading):
            return "reader"
        self._note(client.subject, now)
        reserved_refused("token")
        LOG.info("token.refused", client=client.text)
        raise Refusal(401, SEND_TOKEN)

    def _wait(self, subject: str, now: float) -> float:
        """Seconds until the address may try again; at most 0: it may now."""
        rate = self._rate
        return (self._full_at.get(subject) or 0.0) - (rate.amount - 1) * rate.interval - now

    def _note(self, subject: str, now: float) -> None:
        full_at = max(self._full_at.get(subject) or 0.0, now) + self._rate.interval
        self._full_at.keep(subject, full_at, len(subject))
