"""Who goes first: urgent, normal, bulk."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache

from relay.policies import Lanes

LETTERS = {"urgent": "u", "normal": "n", "bulk": "b"}


@lru_cache(maxsize=4096)
def lane_of(event: str, lanes: Lanes) -> str:
    """The lane's letter of an event type: the first that names it, urgent before bulk; all others are normal."""
    if any(fnmatchcase(event, pattern) for pattern in lanes.urgent):
        return LETTERS["urgent"]
    if any(fnmatchcase(event, pattern) for pattern in lanes.bulk):
        return LETTERS["bulk"]
    return LETTERS["normal"]


def quotas(total: int, turn: int) -> tuple[int, int, int]:
    """The least that urgent, normal and bulk get of `total` claims; what is left goes to the first that has any.

    Bulk gets a tenth, and its whole share at once every tenth turn where a tenth would be less than one: never
    nothing for ever, never in the way.
    """
    bulk = total // 10 or (1 if turn % 10 == 0 and total else 0)
    normal = (total - bulk) * 4 // 10
    return total - bulk - normal, normal, bulk
