"""While an existing worker restarts a session as we asked it to, nobody else has it start that session's browser."""

from __future__ import annotations

from gateway.problems import Refusal
from sessions.registry import Registry
from sluice.store.client import StoreAway, StoreRefused


async def held_back(registry: Registry, session: str) -> Refusal | None:
    """Of what may open a browser on its login; None: it may. Two round trips, of rare requests."""
    try:
        row = await registry.session(session)
        until = None if row is None else row.signs.restarting_until
        if until is None or await registry.time() / 1000 >= until:
            return None
    except (StoreAway, StoreRefused):
        return Refusal(503, "whether the session is being restarted is not known right now", retry_after=b"1")
    return Refusal(503, f"session {session} is being restarted where it runs", retry_after=b"5")
