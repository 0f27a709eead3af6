"""What the registry is told while existing workers ask Laravel which sessions they are to start."""

from __future__ import annotations

from collections.abc import Sequence

from sessions.scripts import Scripted, load

_ASK_FOR, _STARTING = load("ask_for"), load("starting")


class Starting(Scripted):
    """Methods raise StoreAway or StoreRefused."""

    async def starts(self, worker: str) -> None:
        """This existing worker asks what it is to start. What is read from now on of who has a session may be told it:
        for two leases, in which it is seen to be live if it is, no create takes one of its sessions elsewhere."""
        await self._run(_STARTING, worker, 2 * self._lease_ms)

    async def ask_for(self, sessions: Sequence[str]) -> None:
        """Laravel has them still: of those that nobody has it is noted, so that they are no orphans to the cleaner."""
        await self._run(_ASK_FOR, *sessions)
