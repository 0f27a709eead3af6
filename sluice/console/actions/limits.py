"""The limits of a subject: how full its buckets are, full again, and what they delay let go."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated

from gateway.limits.applicable import DELAY, GIVE_BACK, OBSERVE, Bucket
from gateway.limits.by_subject import Found, Names, bucket_of
from gateway.limits.decide import wait
from gateway.limits.take import TAKE, levels_of, slots_of, take_arguments
from gateway.policies import Limit, Over
from relay.queue import delays
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, invalid, moment, not_found
from sluice.http.decode import Bounds
from sluice.store.client import Store

_HAIR = 1e-6
Name = Annotated[str, Bounds(1, 200)] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowLimits:
    """Whose buckets; what is not given is not known, and limits that count by it have no bucket."""

    session: Name = None
    workspace: Name = None
    ip: Annotated[str, Bounds(1, 45)] | None = None
    event: Name = None
    limit: Name = None
    """Only this one, by its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetLimits(ShowLimits):
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDelayed:
    session: Annotated[str, Bounds(1, 200)]
    limit: Name = None
    """Only what this one delays, by its id."""


@dataclass(frozen=True, slots=True)
class BucketLevel:
    limit: str
    subject: str
    """Such as `session s1`, or `everybody`."""
    level: float
    """Tokens that are there; below 0: its debt."""
    burst: int
    """Tokens that it holds at most."""
    amount: int
    """Tokens that come back in `period`."""
    period: float
    """Seconds."""
    over: Over
    enforced: bool
    """False: it only counts."""
    debt: float
    """Tokens that were taken ahead of time, by what the limit delays."""
    wait: float
    """Seconds until the next request has its tokens; so long it is refused, delayed or held. 0: they are there."""
    until: datetime | None
    """The end of this wait."""
    override: str | None
    """Whose numbers these are, such as `session vip-*`; null: the limit's own."""


@dataclass(frozen=True, slots=True)
class OtherLimit:
    limit: str
    why: str
    """It has no bucket for this subject."""


@dataclass(frozen=True, slots=True)
class LimitLevels:
    buckets: tuple[BucketLevel, ...]
    """In the order of the policies."""
    others: tuple[OtherLimit, ...]


@dataclass(frozen=True, slots=True)
class LimitsReset:
    reset: int
    """Buckets that were not full, and are now; of a dry run: would be."""
    buckets: tuple[BucketLevel, ...]
    """As they were."""


@dataclass(frozen=True, slots=True)
class DelayedReleased:
    events: int
    """Go now instead of later."""
    debts: tuple[BucketLevel, ...]
    """The buckets whose debt is cleared, as they were."""


async def show(deployment: Deployment, request: ShowLimits) -> LimitLevels | Problem:
    """The buckets of a subject: level, numbers, and until when they refuse or delay."""
    found = _found(deployment, request)
    if isinstance(found, Problem):
        return found
    others = [OtherLimit(one.limit.id, one.why_none) for one in found if one.bucket is None]
    return LimitLevels(await bucket_levels(deployment.store, found), tuple(others))


async def reset(deployment: Deployment, request: ResetLimits) -> LimitsReset | Problem:
    """The buckets of a subject are full again. Gateways that remember a refusal know it within a second."""
    found = _found(deployment, request)
    if isinstance(found, Problem):
        return found
    buckets = [one.bucket for one in found if one.bucket is not None]
    levels = await bucket_levels(deployment.store, found)
    lacking = [i for i, level in enumerate(levels) if level.level < level.burst - _HAIR]
    if lacking and not request.dry_run:
        await deployment.store.commands(*(("DEL", buckets[i].key) for i in lacking))
    return LimitsReset(len(lacking), tuple([levels[i] for i in lacking]))


async def release(deployment: Deployment, request: ReleaseDelayed) -> DelayedReleased | Problem:
    """What limits delay of a session goes now, and its own buckets are out of debt."""
    queueing = [limit for limit in deployment.policies.limits if limit.over == "queue"]
    if request.limit is not None and request.limit not in [limit.id for limit in queueing]:
        known = ", ".join(limit.id for limit in queueing) or "none"
        return not_found(f"there is no limit {quoted(request.limit)} with over: queue; there are {known}")
    if _unprintable(request.session):
        return invalid("session: must be printable characters")
    found = [
        bucket_of(limit, Names(session=request.session), deployment.policies, time.time())
        for limit in queueing
        if request.limit in (None, limit.id) and "session" in limit.per
    ]
    # The debt first: what is accepted in between is delayed no longer than what comes after.
    levels = await bucket_levels(deployment.store, found)
    debts = [level for level in levels if level.debt]
    await _give(deployment.store, [one.bucket for one in found if one.bucket is not None], levels)
    events = 0
    for endpoint in deployment.policies.relay.endpoints:
        events += await delays.release(deployment.store, endpoint, session=request.session, limit=request.limit)
    return DelayedReleased(events, tuple(debts))


async def _give(store: Store, buckets: Sequence[Bucket], levels: Sequence[BucketLevel]) -> None:
    """Each bucket its debt, and no more than makes it hold less than a token."""
    owing = [
        replace(bucket, mode=GIVE_BACK, cost=math.ceil(level.debt))
        for bucket, level in zip(buckets, levels, strict=True)
        if level.debt
    ]
    for part in slots_of(owing).values() if owing else ():
        await store.run(TAKE, *take_arguments([part]))


def _found(deployment: Deployment, request: ShowLimits) -> list[Found] | Problem:
    """What the limits that are meant are to the subject."""
    limits = deployment.policies.limits
    if request.limit is not None and request.limit not in [limit.id for limit in limits]:
        known = ", ".join(limit.id for limit in limits) or "none"
        return not_found(f"there is no limit {quoted(request.limit)}; there are {known}")
    try:
        names = _names(request)
    except ValueError as error:
        return invalid(str(error))
    meant = [limit for limit in limits if request.limit in (None, limit.id)]
    found = [bucket_of(limit, names, deployment.policies, time.time()) for limit in meant]
    if any(one.bucket is not None for one in found):
        return found
    if request.limit is not None:
        return invalid(f"limit {request.limit} {found[0].why_none}")
    if names == Names():
        return invalid("say whose limits: a session, a workspace, an address (ip) or an event type (event)")
    return invalid(_no_bucket(limits))


def _no_bucket(limits: Sequence[Limit]) -> str:
    if not limits:
        return "the policies have no limits"
    subjects = " and ".join(dict.fromkeys(per for limit in limits for per in limit.per))
    return f"no limit has a bucket for this subject; they count per {subjects}"


def _names(request: ShowLimits) -> Names:
    """Raises ValueError."""
    for name in ("session", "workspace", "event"):
        if _unprintable(getattr(request, name) or ""):
            raise ValueError(f"{name}: must be printable characters")
    address: IPv4Address | IPv6Address | None = None
    if request.ip is not None:
        try:
            address = ip_address(request.ip)
        except ValueError:
            raise ValueError(f"ip: {quoted(request.ip)} is not an address; write 203.0.113.7 or 2001:db8::1") from None
    return Names(request.session, request.workspace, address, request.event)


def _unprintable(name: str) -> bool:
    return not name.isprintable()


async def bucket_levels(store: Store, found: Sequence[Found]) -> tuple[BucketLevel, ...]:
    """Of those that have a bucket. Raises StoreAway or StoreRefused."""
    there = [(one, one.bucket) for one in found if one.bucket is not None]
    levels = await levels_of(store, [bucket for _, bucket in there])
    return tuple([_level(one, bucket, level) for (one, bucket), level in zip(there, levels, strict=True)])


def _level(found: Found, bucket: Bucket, level: float) -> BucketLevel:
    limit, override = found.limit, found.override
    rate = override.rate if override is not None and override.rate is not None else limit.rate
    seconds = wait(bucket, level) if level < bucket.cost - _HAIR else 0.0
    return BucketLevel(
        limit=limit.id,
        subject=" ".join(f"{per} {name}" for per, name in zip(limit.per, bucket.key.split("\0")[1:], strict=True))
        or "everybody",
        level=round(level, 3),
        burst=bucket.burst,
        amount=rate.amount,
        period=rate.period,
        over=limit.over,
        enforced=bucket.mode != OBSERVE,
        debt=round(-level, 3) if bucket.mode == DELAY and level < -_HAIR else 0.0,
        wait=round(seconds, 3),
        until=moment(time.time() + seconds) if seconds else None,
        override=f"{override.by} {', '.join(override.names)}" if override is not None else None,
    )
