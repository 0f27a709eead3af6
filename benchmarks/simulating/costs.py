"""What one thing costs, as measured (benchmarks/README.md), and the numbers of the code that bound how fast it goes."""

from __future__ import annotations

from dataclasses import dataclass

US = 1e-6


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU in seconds, of one core of the machine that measured; memory in bytes. Compiled code."""

    accept_gateway: float = 87 * US
    accept_store: float = 32 * US
    """The relay beside BullMQ: accepting costs gateway and store so much for each event."""
    deliver_relay: float = 45 * US
    deliver_store: float = 30 * US
    proxied: float = 40 * US
    """One checkout beside another: a proxied request."""
    decide_store: float = 8 * US
    """The limiter beside the library limits: three buckets in one call."""
    pickup: float = 2.0e-3
    """From stored to sent, while nothing waits: the wake, the poll, and what of the p50 of `idle` is not CPU."""
    beat: float = 682 * US
    """The registry of sessions, at 100,000: a beat of 100 sessions that is nothing new."""
    beat_changed: float = 2769 * US
    lapse: float = 1796 * US
    """Of 50 sessions."""
    place: float = 2009 * US
    """One round of `place_orphans`."""
    event_bytes: float = 964.0
    session_bytes: float = 276.0 + 189.0
    bucket_bytes: float = 145.0
    browser_bytes: float = 400e6
    """Of a session in a browser on the real page, as others measure it (docs/browser-workers.md)."""
    browser_start: float = 2.4
    """Of one browser, two at a time on two cores: 50 sessions in 60 s."""


PARTITIONS = 4
"""`relay/queue/layout.py`: all that waits lies in so many slots, each of which one core serves."""
ROUND, ROUND_OF, WORKER_ROUND_OF, LOOKED_AT = 0.2, 64, 8, 8
"""`sessions/keeper.py`, `upkeep.py`, `placement.py`, `lua/orphans.lua`: a gateway grants so many orphans in a round, so
many to one worker, of so many workers; from the end of a round to the next it waits so long."""
LAPSING_AT_ONCE = 50
"""`sessions/keeper.py`."""
START_AT_ONCE = 2
"""`sessions.browser.start_at_once`."""
