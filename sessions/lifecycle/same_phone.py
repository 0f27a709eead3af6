"""Before a create of a session that has had a phone, and when one becomes connected with it, the cleaner looks at the
other sessions of that phone in the workspace, whenever its next run is due.

A create does not name its phone in the contract, so of a session that is new the phone is known when it is connected;
of one that is created again it is known before. Laravel, told that a session is ready, removes every other row of its
phone, so what has lost its connection and is not being logged in is of no use any more from that moment on.
"""

from __future__ import annotations

from dataclasses import dataclass

from sessions.ending import Why
from sessions.lifecycle.cleaning import BY, why_stale
from sessions.lifecycle.closing import Closing
from sessions.lifecycle.phones import Keep
from sessions.lifecycle.policies import Cleanup
from sessions.records import PhoneInUse, SessionRow
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.lifecycle")
_CLAIM = 60.0
"""Seconds for which one gateway has a phone to itself, and after which it is looked at again."""
_AT_ONCE = 5
_OVER = frozenset(("disconnected", "logged_out", "failed"))
"""A new code that somebody may be about to scan, with whatever phone, is no such state."""


@dataclass(frozen=True, slots=True)
class Useless:
    why: Why
    in_words: str


def useless(row: SessionRow, connected: str, policy: Cleanup, now: float) -> Useless | None:
    """Whether a session is to be ended whose phone `connected` (empty: nobody) is connected with. Pure."""
    if row.ended or (row.state == "connected" and row.worker is not None) or row.session == connected:
        return None
    if connected and row.state in _OVER:
        return Useless("superseded", f"{row.state}; {connected} is connected with its phone")
    why = why_stale(row, policy, now)
    return Useless("deleted", why) if why is not None else None


async def run_once(registry: Registry, closing: Closing, policy: Cleanup | None, keep: Keep, *, enforce: bool) -> None:
    """Costs a round trip while there is nothing to do. Without a policy nothing is cleaned. `enforce`: also existing
    workers are asked to close a session that is not stale by itself."""
    try:
        for phone in await registry.phones_in_use(limit=_AT_ONCE, claim=_CLAIM):
            if policy is not None:
                await _look_at(registry, closing, phone, policy, keep, enforce=enforce)
            await registry.phones_in_use((phone.key,), 0)
    except (StoreAway, StoreRefused):
        return  # the claims end by themselves


async def _look_at(
    registry: Registry, closing: Closing, phone: PhoneInUse, policy: Cleanup, keep: Keep, *, enforce: bool
) -> None:
    now = await registry.time() / 1000
    for session in phone.idle:
        row = await registry.session(session)
        if row is None:
            continue
        stays = phone.connected if keep != "allow" and (enforce or not row.existing) else ""
        found = useless(row, stays, policy, now)
        if found is None:
            continue
        about = {"session": session, "why": found.in_words, "worker": row.worker}
        if policy.dry_run:
            LOG.info("session.would_be_cleaned", **about)
            continue
        in_favour_of = stays if found.why == "superseded" else ""
        outcome = await closing.end(
            session, found.why, by=BY, stays=in_favour_of, state=row.state, since=row.since, unowned=row.worker is None
        )
        LOG.info("session.cleaned", **about, outcome=outcome)
