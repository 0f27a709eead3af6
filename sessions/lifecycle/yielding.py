"""Sessions on existing workers that should yield their phone to another one are closed, if the policies say so."""

from __future__ import annotations

from sessions.lifecycle.closing import Closing
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.lifecycle")
EVERY = 2.0
"""Seconds between two looks."""
_CLAIM = 30.0
"""Seconds for which one gateway has such a session to itself, and after which it is tried again."""
_AT_ONCE = 10
_BY = "one_phone"


async def run_once(registry: Registry, closing: Closing) -> None:
    """Costs a round trip while there is nothing to do."""
    try:
        for rival in await registry.rivals(_AT_ONCE, claim=_CLAIM):
            outcome = await closing.end(rival.session, "superseded", by=_BY, stays=rival.stays)
            about = {"session": rival.session, "worker": rival.worker, "stays": rival.stays}
            LOG.info("session.superseded", **about, outcome=outcome)
    except (StoreAway, StoreRefused):
        return  # the claims end by themselves
