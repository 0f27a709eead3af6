"""What came of an attempt, and what to do about it. No I/O.

2xx                                          Delivered
429; 503 with Retry-After                    Paused    the endpoint cannot take anything now: no attempt is spent
401 403 404 405 410                          Paused    the endpoint's own fault (a wrong secret, a missing route)
408 425 3xx other 5xx; no answer, timeout    Failed    an attempt is spent, and the circuit counts it
any other status                             Rejected  the event's fault: a dead letter at once
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_ENDPOINTS_FAULT = {
    401: "check that both sides have the same secret",
    403: "the receiver refuses us; check its middleware",
    404: "the receiver has no such route; check the endpoint's url",
    405: "the receiver takes no POST there; check the endpoint's url",
    410: "the receiver says it is gone; check the endpoint's url",
}
_FAILED = {408, 425}
SHOWN = 2048
"""Bytes of the receiver's answer that are kept with a dead letter."""


@dataclass(frozen=True, slots=True)
class Delivered:
    status: int


@dataclass(frozen=True, slots=True)
class Failed:
    reason: str
    retry_after: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """`at_least` seconds, as the endpoint asked; 0 when it did not say."""

    reason: str
    at_least: float
    status: int


@dataclass(frozen=True, slots=True)
class Rejected:
    reason: str
    status: int


Outcome = Delivered | Failed | Paused | Rejected


def outcome_of(status: int, headers: Iterable[tuple[bytes, bytes]], answer: bytes, now: float | None = None) -> Outcome:
    """`answer`: the beginning of the body, for people to read. `now`: unix seconds."""
    if 200 <= status < 300:
        return Delivered(status)
    retry_after = parse_retry_after(headers, time.time() if now is None else now)
    if status == 429 or (status == 503 and retry_after is not None):
        return Paused(f"answered {status}", retry_after or 0.0, status)
    if status in _ENDPOINTS_FAULT:
        return Paused(f"answered {status}: {_ENDPOINTS_FAULT[status]}", retry_after or 0.0, status)
    if status in _FAILED or status < 400 or status >= 500:
        return Failed(f"answered {status}", retry_after, status)
    shown = answer[:SHOWN].decode("utf-8", "replace").strip()
    return Rejected(f"answered {status}" + (f": {shown}" if shown else ""), status)


def parse_retry_after(headers: Iterable[tuple[bytes, bytes]], now: float) -> float | None:
    """Seconds, from a number or a date (RFC 9110 section 10.2.3); None where there is none that makes sense."""
    for name, value in headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            if text.isascii() and text.isdigit():
                return float(min(int(text), 10**9))
            try:
                return max(0.0, parsedate_to_datetime(text).timestamp() - now)
            except (ValueError, TypeError, OverflowError):
                return None
    return None
