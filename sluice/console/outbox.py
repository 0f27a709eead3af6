"""The sends that limits keep, and why they wait: for `status`."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.outbox.waiting import WaitingSends


@dataclass(frozen=True, slots=True)
class ClosedHours:
    limit: str
    hours: str
    opens_in_s: float


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    oldest_s: float
    """Seconds since the oldest of the sends that come first in their sessions was accepted; 0: none waits."""
    unowned: tuple[str, ...]
    """Some of the sessions with sends that no worker runs."""
    oldest_unowned_s: float
    closed: tuple[ClosedHours, ...]
    """Limits outside of whose hours it is now."""
    limits: tuple[str, ...]
    """That keep sends."""


def outbox_status(seen: WaitingSends | None) -> OutboxStatus | None:
    if seen is None:
        return None
    closed = tuple(ClosedHours(one.limit, one.hours, one.opens_in) for one in seen.closed)
    return OutboxStatus(seen.oldest, tuple(seen.unowned), seen.oldest_unowned, closed, tuple(seen.limits))
