"""What an endpoint could not take in or keep, as its backlog, its dead letters or its kept bodies were at their cap."""

from __future__ import annotations

from collections.abc import Iterator

from relay.policies import OUTBOX
from sluice.console.messages.wording import SENDS_CURE, age, some, things
from sluice.console.status import EndpointStatus, Lately

_NEARLY_FULL = 0.8
_LAST_MINUTE = 60.0  # seconds; of it `traffic` tells


def backlog(name: str, endpoint: EndpointStatus) -> Iterator[str]:
    """Of the endpoint `name`, whose counts are known."""
    full = max((endpoint.waiting or 0) / endpoint.backlog.events, (endpoint.bytes or 0) / endpoint.backlog.bytes)
    if full >= _NEARLY_FULL:
        sends, events = f"sends are refused: {SENDS_CURE}", "events are refused, or leave this endpoint out"
        then = sends if name == OUTBOX else f"{events} (relay.backlog)"
        yield f"the backlog is {full:.0%} full; at 100% {then}"
    refused, left_out, dropped = endpoint.refused, endpoint.left_out, endpoint.dead_dropped
    if refused and refused.last_s > _LAST_MINUTE:
        were = things(name, refused.times, "was", "were")
        cure = SENDS_CURE if name == OUTBOX else "deliver faster, or raise relay.backlog"
        yield f"{were} refused {_when(refused)}, as the backlog was full: {cure}"
    if left_out:
        were = some(left_out.times, "event was", "events were")
        yield (
            f"{were} left out {_when(left_out)}, as the backlog was full: they come when their senders repeat them; "
            f"raise relay.backlog, or have them refused: relay.endpoints.{name}.required: true"
        )
    if dropped:
        were = some(dropped.times, "dead letter was", "dead letters were")
        yield (
            f"{were} dropped {_when(dropped)}, the oldest of too many: replay those that are left, sluice dead list, "
            "or raise relay.retention.dead_events and dead_bytes"
        )
    if endpoint.bodies_dropped:
        were = some(endpoint.bodies_dropped.times, "delivered event", "delivered events")
        yield (
            f"the bodies of {were} were dropped early {_when(endpoint.bodies_dropped)}, as there were too many bytes, "
            "so they cannot be sent once more: raise relay.retention.bodies_bytes, or keep them for less long (bodies)"
        )


def _when(lately: Lately) -> str:
    return f"in the last {age(lately.since_s)}, the newest {age(lately.last_s)} ago"
