"""How long to wait before the next attempt."""

from __future__ import annotations

from random import random

MAX_RETRY_AFTER = 3600.0
"""Seconds; no receiver is left alone for longer, whatever it asks for."""


def delay(
    attempt: int, base: float, cap: float, retry_after: float | None = None, chance: float | None = None
) -> float:
    """Seconds to wait after failed attempt number `attempt` (1 is the first).

    Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter"): evenly between 0 and the doubled base, so
    that what failed together is not tried again together. `retry_after` is a floor, up to an hour. `chance` in [0, 1)
    replaces the random number.
    """
    ceiling = min(cap, base * 2.0 ** min(attempt - 1, 62))
    factor = random() if chance is None else chance
    return max(ceiling * factor, min(retry_after or 0.0, MAX_RETRY_AFTER))
