"""Why sends wait, for `status` and the metrics: the sessions whose turn comes first are looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.policies import Limit, Policies, queues_sends
from relay.policies import OUTBOX
from relay.queue.codec import id_of, stream_range
from relay.queue.heads import heads_of
from relay.queue.layout import PARTITIONS, own_key
from sessions.registry import LastOwner, Owner, Registry, Unknown, Unowned
from sluice.store.client import Store

MOST = 25
"""Sessions of each partition that are looked at."""


@dataclass(frozen=True, slots=True)
class ClosedHours:
    """Of a limit, outside of which its sends wait now."""

    limit: str
    hours: str
    opens_in: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class WaitingSends:
    oldest: float
    """Seconds since the oldest of the sends that come first in their sessions was accepted; 0: none waits."""
    unowned: Sequence[str]
    """Sessions with sends that no worker runs, some of them."""
    oldest_unowned: float
    """The same of these."""
    closed: Sequence[ClosedHours]
    limits: Sequence[str]
    """That keep sends."""


async def look(store: Store, registry: Registry, policies: Policies) -> WaitingSends:
    """Raises StoreAway or StoreRefused."""
    now = time.time()
    heads = [head for some in await asyncio.gather(*(_heads(store, p) for p in range(PARTITIONS))) for head in some]
    owners = await asyncio.gather(*(registry.owner_of(session) for session, _ in heads))
    unowned = [head for head, owner in zip(heads, owners, strict=True) if _is_nobodys(owner)]
    limits = limits_of_sends(policies)
    return WaitingSends(
        oldest=max([now - at for _, at in heads], default=0.0),
        unowned=[session for session, _ in sorted(unowned, key=lambda head: head[1])],
        oldest_unowned=max([now - at for _, at in unowned], default=0.0),
        closed=[
            ClosedHours(limit.id, str(limit.hours), opens_in)
            for limit in limits
            if limit.hours is not None and (opens_in := limit.hours.opens_in(now)) > 0
        ],
        limits=[limit.id for limit in limits],
    )


def limits_of_sends(policies: Policies) -> list[Limit]:
    """Those that keep sends."""
    return [limit for limit in policies.limits if any(queues_sends(limit, route) for route in policies.routes)]


def _is_nobodys(found: Owner | Unowned | Unknown) -> bool:
    """Whether nobody can be asked. Of a session that nobody knows any worker is."""
    match found:
        case Unowned(LastOwner(existing=True, live=True)):
            return False
        case Unowned():
            return True
    return False


async def _heads(store: Store, partition: int) -> list[tuple[str, float]]:
    """Sessions, and when the send that comes first in each was accepted (unix seconds)."""
    queue = own_key(OUTBOX, partition, "queue")
    (streams,) = await store.commands(("ZRANGE", own_key(OUTBOX, partition, "normal"), 0, MOST - 1))
    if not streams:
        return []
    commands = [("ZRANGE", queue, *stream_range(stream), "BYLEX", "LIMIT", 0, 1) for stream in streams]
    firsts = await store.commands(*commands)
    ids = [id_of(first[0]) for first in firsts if first]
    events = await heads_of(store, partition, ids)
    return [(event[0].session or "", event[0].accepted_at) for event in events if event is not None]
