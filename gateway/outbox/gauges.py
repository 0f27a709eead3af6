"""What the page of metrics says of sends that wait."""

from __future__ import annotations

from gateway.outbox.waiting import WaitingSends

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sluice_outbox_oldest_seconds": ("Since when the oldest of the sends that come first in their sessions waits.", ()),
    "sluice_outbox_sessions_unowned": ("Sessions with sends that no worker runs; 100 are looked at.", ()),
    "sluice_outbox_closed": ("1 while sends of a limit wait for its hours.", ("limit",)),
}


def values(seen: WaitingSends | None) -> dict[str, list[tuple[tuple[str, ...], float]]]:
    """By name, with the values of its labels."""
    if seen is None:
        return {}
    closed = {one.limit for one in seen.closed}
    return {
        "sluice_outbox_oldest_seconds": [((), seen.oldest)],
        "sluice_outbox_sessions_unowned": [((), len(seen.unowned))],
        "sluice_outbox_closed": [((limit,), float(limit in closed)) for limit in seen.limits],
    }
