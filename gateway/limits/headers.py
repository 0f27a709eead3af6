"""What an answer says of the limits that its request met.

RateLimit-Policy and RateLimit are those of draft-ietf-httpapi-ratelimit-headers-11 (structured fields, RFC 9651):

    RateLimit-Policy: "send";q=30;w=60,"address";q=3000;w=60
    RateLimit: "send";r=4;t=2,"address";r=499;t=1

`q` tokens come back in `w` seconds; `r` are there now; `t` is when the next one is, in a refusal when there are as many
as the request costs. X-RateLimit-* say the same of the one with the least left, as Laravel's throttle does. Limits that
only observe are nobody's business.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

from gateway.limits.applicable import OBSERVE, Bucket
from gateway.policies import LimitHeader

QUOTA_EXCEEDED: Final = "https://iana.org/assignments/http-problem-types#quota-exceeded"


def header_lines(
    buckets: Sequence[Bucket], levels: Sequence[float], violated: Collection[str], wanted: Collection[LimitHeader]
) -> list[bytes]:
    """Whole field lines. `levels`: the tokens of each bucket now; below 0: a queue's debt.

    In a refusal only of the limits that are violated: a later `t` of another would say to wait longer.
    """
    shown = [
        (bucket, level)
        for bucket, level in zip(buckets, levels, strict=True)
        if bucket.mode != OBSERVE and (not violated or bucket.limit.id in violated)
    ]
    if not shown:
        return []
    lines: list[bytes] = []
    if "ratelimit" in wanted:
        lines.append(
            _policy(tuple([(bucket.limit.id, bucket.interval, bucket.limit.rate.period) for bucket, _ in shown]))
        )
        states = [_now(bucket, level, refuses=bool(violated)) for bucket, level in shown]
        lines.append(f"RateLimit: {','.join(states)}\r\n".encode())
    if "x-ratelimit" in wanted:
        least, level = min(shown, key=lambda pair: pair[1] / pair[0].burst)
        lines.append(b"X-RateLimit-Limit: %d\r\n" % least.burst)
        lines.append(b"X-RateLimit-Remaining: %d\r\n" % _whole(level))
    return lines


@lru_cache(maxsize=1024)
def _policy(limits: tuple[tuple[str, float, float], ...]) -> bytes:
    parts = []
    for name, interval, period in limits:
        window = max(1, math.ceil(period))  # the draft knows whole seconds only
        parts.append(f'"{name}";q={math.floor(window / interval + 1e-9)};w={window}')
    return f"RateLimit-Policy: {','.join(parts)}\r\n".encode()


def _now(bucket: Bucket, level: float, *, refuses: bool) -> str:
    left = _whole(level)
    if left >= bucket.burst and not refuses:
        return f'"{bucket.limit.id}";r={left}'
    wait = math.ceil(((bucket.cost if refuses else left + 1) - level) * bucket.interval - 1e-6)
    return f'"{bucket.limit.id}";r={left};t={wait if wait > 0 else 1}'


def _whole(level: float) -> int:
    return int(level + 1e-9) if level > 0 else 0
