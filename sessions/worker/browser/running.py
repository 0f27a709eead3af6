"""A whole worker with browsers: its sessions, its API, its membership, and the watchdog beside them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette

from sessions.membership import Membership
from sessions.policies import SessionsPolicy
from sessions.profiles.errors import ProfileError
from sessions.worker.api import WorkerApi
from sessions.worker.browser.capacity import Capacity
from sessions.worker.browser.errors import NotInstalled
from sessions.worker.browser.guarded import Guard
from sessions.worker.browser.login import BrowserLogin
from sessions.worker.browser.logins import browser_logins
from sessions.worker.browser.starts import at_once
from sessions.worker.dropped import Dropped
from sessions.worker.joining import join
from sessions.worker.outgoing import Outgoing
from sessions.worker.policies import BrowserPolicy
from sessions.worker.worker import Worker
from sluice.config import Signature
from sluice.process.boottime import boottime
from sluice.store.client import Store

UNUSABLE: tuple[type[Exception], ...] = (NotInstalled, ProfileError)
"""Why no session can be run on this machine, with the cure."""
_STORE_TIMEOUT = 2.0
_GRACE = 1 / 12
"""Of a lease: a membership stops its sessions a sixth before the end; what has not closed by then is killed."""


@dataclass(frozen=True, slots=True)
class At:
    """Where a worker is, and how it proves itself."""

    name: str
    gateway: str
    url: str
    calls: Signature
    webhooks: Signature
    store: str
    data: Path


@asynccontextmanager
async def browser_worker(at: At, policy: SessionsPolicy) -> AsyncIterator[tuple[Starlette, Membership]]:
    """Its API, which is to be served, and its membership, which is to be run. Raises `UNUSABLE`."""
    store, guard = Store(at.store, timeout=_STORE_TIMEOUT), Guard()
    try:
        dropped = Dropped()
        async with browser_logins(policy, at.data, store, guard, dropped) as make:
            worker = Worker(at.name, Outgoing(at.gateway, at.webhooks, at.url, dropped), make)
            measured = Capacity(lambda: [one for one in worker.logins() if isinstance(one, BrowserLogin)])
            membership = join(
                *(worker, at.gateway, at.calls, at.url),
                measured if policy.per_worker is None else policy.per_worker,
                dropped=dropped.lately,
                start_at_once=at_once((policy.browser or BrowserPolicy()).start_at_once, len(os.sched_getaffinity(0))),
            )
            guard.until = _closed_by(membership, policy.lease * _GRACE)
            async with guard.watching(), measured.measuring():
                try:
                    yield WorkerApi(worker).app(), membership
                finally:
                    await worker.close()
    finally:
        await store.close()


def _closed_by(membership: Membership, grace: float) -> Callable[[], float]:
    """Until when browsers may run: a moment of `boottime`."""
    last = boottime() + grace

    def until() -> float:
        nonlocal last
        if membership.holding.until:
            last = membership.holding.until
        return last + grace

    return until
