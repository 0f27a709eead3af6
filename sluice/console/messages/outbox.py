"""What the sends that limits keep have to say (`over: queue`)."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.console.messages.wording import age, listed, some
from sluice.console.outbox import OutboxStatus

_SOON = 10.0  # seconds in which a worker that was lost is followed by another
_LONG = 300.0  # seconds that sends wait for their pace before it is worth a word


def outbox(seen: OutboxStatus | None, waiting: int, unknown: int) -> Iterator[str]:
    """`waiting`: sends; `unknown`: those of the last minute of which nobody knows whether they went out."""
    if unknown:
        yield (
            f"nobody knows whether {some(unknown, 'send', 'sends')} of the last minute went out, so they are dead "
            "letters and not repeated: see sluice dead list --endpoint outbox, ask the phone, then replay or drop them"
        )
    if seen is None or not waiting:
        return
    if seen.unowned and seen.oldest_unowned_s >= _SOON:
        sessions = some(len(seen.unowned), "session waits", "sessions wait")
        yield (
            f"the sends of {sessions} as no worker runs them, {seen.unowned[0]} first, the oldest for "
            f"{age(seen.oldest_unowned_s)}: see sluice sessions list --orphaned"
        )
    for closed in seen.closed:
        yield (
            f"{some(waiting, 'send waits', 'sends wait')} for the hours of limit {closed.limit} ({closed.hours}), "
            f"which begin in {age(closed.opens_in_s)}"
        )
    if not seen.closed and not seen.unowned and seen.oldest_s >= _LONG:
        yield (
            f"{some(waiting, 'send waits', 'sends wait')} for the pace of {_limits(seen)}, the oldest for "
            f"{age(seen.oldest_s)}: raise its rate, or have less sent"
        )


def _limits(seen: OutboxStatus) -> str:
    return f"{'limit' if len(seen.limits) == 1 else 'limits'} {listed(seen.limits)}"
