"""Which events go first: urgent, normal, bulk."""

from __future__ import annotations

from fnmatch import fnmatchcase

from relay.policies import Lanes
from relay.queue.codec import Lane
from sluice.process.cache import Cache

_known: Cache[tuple[str, Lanes], Lane] = Cache(2**20)


def lane_of(event: str, lanes: Lanes) -> Lane:
    """The lane of an event type: the first that names it, urgent before bulk; all others are normal."""
    known = _known.get((event, lanes))
    return _known.keep((event, lanes), _found(event, lanes), event.__sizeof__()) if known is None else known


def _found(event: str, lanes: Lanes) -> Lane:
    if any(fnmatchcase(event, pattern) for pattern in lanes.urgent):
        return "urgent"
    if any(fnmatchcase(event, pattern) for pattern in lanes.bulk):
        return "bulk"
    return "normal"


def quotas(total: int, poll: int) -> tuple[int, int, int]:
    """The least that urgent, normal and bulk get of `total` leases in poll number `poll`.

    What is left goes to the first lane that has any. Bulk gets a tenth, or one in every tenth poll where a tenth would
    be less than one: so it never starves, and is never in the way.
    """
    bulk = total // 10 or (1 if poll % 10 == 0 and total else 0)
    normal = (total - bulk) * 4 // 10
    return total - bulk - normal, normal, bulk
