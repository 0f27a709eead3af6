"""Sessions that do not run and are of no use any more are ended, and later purged with their profiles.

One process at a time does it, each `cleanup.every`. What it ends stays, with its login, until it is purged: a create or
`sluice sessions restore` brings it back. What is connected is never touched, nor what was connected and has no worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from sessions.lifecycle.closing import Closing, Outcome
from sessions.lifecycle.election import Election
from sessions.lifecycle.policies import Cleanup
from sessions.lifecycle.stale import StaleAfter
from sessions.profiles.errors import ProfileError
from sessions.records import SessionRow
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.lifecycle")
EVERY = 10.0
"""Seconds between two looks whether it is due."""
_HELD = 60.0
"""Seconds after which another process goes on, where one was killed."""
_AGAIN = 60.0
"""Seconds until the next run, where the vault was away."""
_PAGE = 1000
_LOOKED_AT = 100_000
"""Stale sessions of one run, at most."""
_PURGED_AT_ONCE = 100
_BY = "cleanup"
Erase = Callable[[str], Awaitable[None]]
"""Takes a session's profile out of the vault, for good."""


@dataclass(frozen=True, slots=True)
class StaleSession:
    session: str
    state: str
    since: float
    """Seconds since 1970."""
    why: str
    worker: str | None
    workspace: str | None
    phone: str | None


def stale(rows: Iterable[SessionRow], rule: StaleAfter, now: float) -> Iterator[StaleSession]:
    """`now`: seconds since 1970."""
    for row in rows:
        if row.ended or row.state == "created":
            continue
        why = rule.why(row.state, now - row.since)
        if why is not None:
            yield StaleSession(row.session, row.state, row.since, why, row.worker, row.workspace, row.phone)


async def find(registry: Registry, rule: StaleAfter, most: int) -> AsyncIterator[StaleSession]:
    """Some of those that are stale, page after page. Raises StoreAway and StoreRefused."""
    now, go_on, found = await registry.time() / 1000, "", 0
    while True:
        page = await registry.page(go_on, _PAGE)
        for one in stale(page.rows, rule, now):
            yield one
            found += 1
            if found >= most:
                return
        go_on = page.go_on
        if not go_on:
            return


async def clean(closing: Closing, one: StaleSession, by: str = _BY) -> Outcome:
    """Ends it, if it is still as it was found. Raises StoreAway and StoreRefused."""
    return await closing.end(one.session, "deleted", by=by, state=one.state, since=one.since)


class Cleaner:
    """`election`: among all processes that clean."""

    def __init__(self, registry: Registry, election: Election) -> None:
        self._registry = registry
        self._election = election

    async def run_once(self, policy: Cleanup, closing: Closing, erase: Erase | None) -> None:
        """`erase` None: there is no vault. Where it ends early, another look goes on."""
        try:
            if not await self._election.win(_HELD):
                return
            await self._clean(policy, closing)
            all_purged = policy.dry_run or await self._purge(policy.purge, erase)
            await self._election.done(policy.every if all_purged else min(policy.every, _AGAIN))
        except (StoreAway, StoreRefused) as error:
            LOG.warning("cleanup.broken_off", reason=str(error))

    async def _clean(self, policy: Cleanup, closing: Closing) -> None:
        """An existing worker that does not close one is asked no more in this run, and keeps nobody else's waiting."""
        left, deaf = policy.at_once, set[str | None]()
        async for one in find(self._registry, policy.stale_after, _LOOKED_AT):
            if one.worker in deaf:
                continue
            if left == 0:
                break
            about = {"session": one.session, "why": one.why, "worker": one.worker}
            if policy.dry_run:
                LOG.info("session.would_be_cleaned", **about)
                left -= 1
                continue
            outcome = await clean(closing, one)
            LOG.info("session.cleaned", **about, outcome=outcome)
            if outcome == "not_closed":
                deaf.add(one.worker)
            else:
                left -= 1
            await self._election.win(_HELD)

    async def _purge(self, after: float, erase: Erase | None) -> bool:
        """False: the vault's place is away. What is marked by then is brought to its end another time."""
        for session, since in await self._registry.ended_for(after, _PURGED_AT_ONCE):
            if not await self._registry.purge(session, since, erased=False):
                continue
            try:
                if erase is not None:
                    await erase(session)
            except (ProfileError, OSError) as error:
                LOG.warning("session.not_purged", session=session, reason=str(error))
                return False
            await self._registry.purge(session, since, erased=True)
            LOG.info("session.purged", session=session)
            await self._election.win(_HELD)
        return True
