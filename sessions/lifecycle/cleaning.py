"""Sessions that do not run and are of no use any more are ended, and later purged with their profiles.

One process at a time does it, each `cleanup.every`. What it ends stays, with its login, until it is purged: a create or
`sluice sessions restore` brings it back. What is connected is never touched. What nobody runs is stale, whatever it was
before, once it is orphaned: nobody has run it for long, and nobody has asked for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import orjson

from sessions.lifecycle.cleanings import NotClosed, Run
from sessions.lifecycle.closing import Closing, Outcome
from sessions.lifecycle.election import Election
from sessions.lifecycle.policies import Cleanup
from sessions.lifecycle.stale import spell
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
_SHOWN = 5
BY = "cleanup"
Erase = Callable[[str], Awaitable[None]]
"""Takes a session's profile out of the vault, for good."""
Record = Callable[[str, Mapping[str, object]], Awaitable[None]]
"""Writes into the audit log what was done, and to what."""


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
    orphaned: bool = False
    """Nobody runs it, and that is why."""


def why_stale(row: SessionRow, policy: Cleanup, now: float) -> str | None:
    """In words. `now`: seconds since 1970."""
    if row.ended:
        return None
    if row.state not in ("connected", "created"):
        why = policy.stale_after.why(row.state, now - row.since)
        if why is not None:
            return why
    return f"orphaned for {spell(now - _wanted(row))}" if _is_orphaned(row, policy, now) else None


def _is_orphaned(row: SessionRow, policy: Cleanup, now: float) -> bool:
    return row.worker is None and now - _wanted(row) >= policy.orphaned


def _wanted(row: SessionRow) -> float:
    """When somebody last ran it or asked for it."""
    return max(row.since, row.lost_since or 0.0, row.asked_for or 0.0)


def stale(rows: Iterable[SessionRow], policy: Cleanup, now: float) -> Iterator[StaleSession]:
    """`now`: seconds since 1970."""
    for row in rows:
        why = why_stale(row, policy, now)
        if why is not None:
            orphaned = _is_orphaned(row, policy, now)
            yield StaleSession(row.session, row.state, row.since, why, row.worker, row.workspace, row.phone, orphaned)


async def find(registry: Registry, policy: Cleanup, most: int) -> AsyncIterator[StaleSession]:
    """Some of those that are stale, page after page. Raises StoreAway and StoreRefused."""
    now, go_on, found = await registry.time() / 1000, "", 0
    while True:
        page = await registry.page(go_on, _PAGE)
        for one in stale(page.rows, policy, now):
            yield one
            found += 1
            if found >= most:
                return
        go_on = page.go_on
        if not go_on:
            return


async def clean(closing: Closing, one: StaleSession, by: str = BY) -> Outcome:
    """Ends it, if it is still as it was found. Raises StoreAway and StoreRefused."""
    unowned = one.orphaned and one.worker is None
    return await closing.end(one.session, "deleted", by=by, state=one.state, since=one.since, unowned=unowned)


class Cleaner:
    """`election`: among all processes that clean. `record` is told of what is purged; of what is ended Laravel is told,
    and whoever does that tells it."""

    def __init__(self, registry: Registry, election: Election, record: Record) -> None:
        self._registry = registry
        self._election = election
        self._record = record

    async def run_once(self, policy: Cleanup, closing: Closing, erase: Erase | None) -> None:
        """`erase` None: there is no vault. Where it ends early, another look goes on."""
        try:
            if not await self._election.win(_HELD):
                return
            run = await self._clean(policy, closing)
            if not policy.dry_run:
                run = await self._purge(run, policy.purge, erase)
            again = min(policy.every, _AGAIN) if run.not_purged else policy.every
            await self._election.done(again, orjson.dumps(run))
        except (StoreAway, StoreRefused) as error:
            LOG.warning("cleanup.broken_off", reason=str(error))

    async def _clean(self, policy: Cleanup, closing: Closing) -> Run:
        """An existing worker that does not close one is asked no more in this run, and keeps nobody else's waiting."""
        left, deaf = policy.at_once, dict[str | None, NotClosed]()
        run = Run(self._election.name, policy.dry_run)
        async for one in find(self._registry, policy, _LOOKED_AT):
            if one.worker in deaf:
                continue
            if left == 0:
                run = replace(run, more=True)
                break
            about = {"session": one.session, "why": one.why, "worker": one.worker}
            if policy.dry_run:
                LOG.info("session.would_be_cleaned", **about)
                left, run = left - 1, replace(run, would_end=run.would_end + 1)
                continue
            outcome = await clean(closing, one)
            LOG.info("session.cleaned", **about, outcome=outcome)
            if outcome == "not_closed":
                deaf[one.worker] = NotClosed(one.session, one.worker or "")
            elif outcome == "ended":
                left, run = left - 1, replace(run, ended=run.ended + 1)
            await self._election.win(_HELD)
        return replace(run, not_closed=tuple(deaf.values())[:_SHOWN])

    async def _purge(self, run: Run, after: float, erase: Erase | None) -> Run:
        """What is marked when the vault's place is away is brought to its end another time."""
        found = await self._registry.ended_for(after, _PURGED_AT_ONCE)
        for done, (session, since) in enumerate(found):
            if not await self._registry.purge(session, since, erased=False):
                continue
            try:
                if erase is not None:
                    await erase(session)
            except (ProfileError, OSError) as error:
                LOG.warning("session.not_purged", session=session, reason=str(error))
                return replace(run, not_purged=len(found) - done, why_not_purged=str(error)[:200])
            await self._registry.purge(session, since, erased=True)
            LOG.info("session.purged", session=session)
            await self._record("purge_session", {"session": session, "vault": erase is not None})
            run = replace(run, purged=run.purged + 1)
            await self._election.win(_HELD)
        return run
