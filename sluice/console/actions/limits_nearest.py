"""Who is near a limit or over it: found by the access log of this machine, and looked at in the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Any

from gateway.limits.by_subject import Found, Names, bucket_of
from gateway.policies import Limit, Policies
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, moment, not_found, unavailable
from sluice.console.actions.limits import BucketLevel, bucket_levels
from sluice.console.actions.trying import text_of, trial
from sluice.http.decode import Bounds

_MAX_BUCKETS = 400
"""That the store is asked for."""
_MOST = 50
_NOTHING_KNOWN = "the text of the policies in force is not there any more; restart Sluice, or put their file right"


@dataclass(frozen=True, slots=True)
class NearestLimits:
    limit: Annotated[str, Bounds(1, 200)] | None = None
    """Only this one, by its id."""
    seconds: Annotated[int, Bounds(10, 86400)] = 600
    """How far to look back in the access log."""


@dataclass(frozen=True, slots=True)
class NearSubject:
    bucket: BucketLevel
    """As it is now."""
    session: str | None
    workspace: str | None
    ip: str | None
    event: str | None
    requests: int
    """That met the limit in that time, by the log; 0: fewer than others."""
    refused: int
    """Of them it would have refused, dropped, delayed or held: an estimate, with a bucket that began full."""


@dataclass(frozen=True, slots=True)
class NearestSubjects:
    began: datetime | None
    """Of what the log holds of that time; null: nothing."""
    complete: bool
    """It reaches back so far."""
    requests: int
    subjects: tuple[NearSubject, ...]
    """The one with the smallest share of its tokens left first, 50 at most."""


async def nearest(deployment: Deployment, request: NearestLimits) -> NearestSubjects | Problem:
    """The subjects that were seen lately and are nearest to a limit, or over it."""
    policies = deployment.policies
    if request.limit is not None and request.limit not in [limit.id for limit in policies.limits]:
        known = ", ".join(limit.id for limit in policies.limits) or "none"
        return not_found(f"there is no limit {quoted(request.limit)}; there are {known}")
    text = await asyncio.to_thread(text_of, policies)
    if text is None:
        return unavailable(_NOTHING_KNOWN)
    found = await trial(policies, text, None, request.seconds)
    if isinstance(found, Problem):
        return found
    log = found["log"]
    if log is None:
        return NearestSubjects(None, complete=False, requests=0, subjects=())
    seen = list(_seen(policies, log["old"]["limits"], request.limit))[:_MAX_BUCKETS]
    levels = await bucket_levels(deployment.store, [one for one, *_ in seen])
    near = [_near(level, names, *counts) for level, (_, names, *counts) in zip(levels, seen, strict=True)]
    near.sort(key=lambda one: (one.bucket.level / one.bucket.burst, -one.refused, -one.requests))
    return NearestSubjects(moment(log["began"]), log["complete"], log["old"]["requests"], tuple(near[:_MOST]))


def _seen(policies: Policies, limits: Mapping[str, Any], only: str | None) -> Iterator[tuple[Found, Names, int, int]]:
    """Those that have a bucket; of each limit first whom it refuses most."""
    now = time.time()
    for limit in policies.limits:
        counts = limits.get(limit.id) if only in (None, limit.id) else None
        if counts is None:
            continue
        refused = {tuple(subject): times for subject, times in counts["worst"]}
        requests = {tuple(subject): times for subject, times in counts["seen"]}
        for subject in dict.fromkeys((*refused, *requests)):
            names = _names(limit, subject)
            found = bucket_of(limit, names, policies, now)
            if found.bucket is not None:
                yield found, names, requests.get(subject, 0), refused.get(subject, 0)


def _names(limit: Limit, subject: Sequence[str]) -> Names:
    by = dict(zip(limit.per, subject, strict=True))
    address = ip_network(by["ip"], strict=False).network_address if "ip" in by else None
    return Names(by.get("session"), by.get("workspace"), address, by.get("event"))


def _near(level: BucketLevel, names: Names, requests: int, refused: int) -> NearSubject:
    address = str(names.address) if names.address is not None else None
    return NearSubject(level, names.session, names.workspace, address, names.event, requests, refused)
