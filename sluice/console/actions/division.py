"""How existing workers come to know which sessions are their own, as `status` shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gateway.workers.accounts import divides
from sessions.existing import WatchedWorker
from sessions.policies import SessionsPolicy
from sluice.console.status import DivisionStatus, UndividedWorker

_ASKS_WITHIN = 60.0
"""Seconds from a worker's start in which it has asked, and been answered."""


def division_of(
    policy: SessionsPolicy, watched: Sequence[WatchedWorker], divided: Mapping[str, float] | None, now: float
) -> DivisionStatus:
    """`divided`: as `sessions.divided` knows it; None: the store does not say. `now`: unix seconds."""
    if not divides(policy) or len(policy.workers) < 2:
        return DivisionStatus()
    without = tuple(worker.name for worker in policy.workers if not worker.prefix)
    undivided = () if divided is None else tuple(_undivided(policy, watched, divided, now))
    return DivisionStatus(without, undivided)


def _undivided(
    policy: SessionsPolicy, watched: Sequence[WatchedWorker], divided: Mapping[str, float], now: float
) -> Iterator[UndividedWorker]:
    prefixes = {worker.name: worker.prefix for worker in policy.workers if worker.prefix}
    for one in watched:
        if one.worker not in prefixes or one.why is not None or one.began is None or one.several:
            continue
        if now - one.began > _ASKS_WITHIN and divided.get(one.worker, 0.0) < one.began - _ASKS_WITHIN:
            yield UndividedWorker(one.worker, prefixes[one.worker], now - one.began)
