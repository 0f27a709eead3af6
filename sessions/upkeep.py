"""What nobody asks for: leases end, orphans are granted, and what an earlier version left is taken over."""

from __future__ import annotations

from sessions import metrics, records
from sessions.placement import share
from sessions.records import Lapsed
from sessions.scripts import KEYS_OF_EARLIER, Scripted, load
from sessions.states import MOVES_FOR_SCRIPTS

_AT_ONCE = 64
_LAPSING_AT_ONCE = 50
_MIGRATED_AT_ONCE = 50
_FORGOTTEN_FOR = 600.0  # seconds, over the lease: no list is older than that
_LAPSE, _ORPHANS, _GRANT = load("lapse"), load("orphans"), load("grant")
_MIGRATE = load("migrate")
_BEGIN_ANEW = load("begin_anew")


class Upkeep(Scripted):
    """For `sessions/keeper.py`. No call costs the store more than a few milliseconds; who calls again goes on."""

    async def lapse(self, limit: int = _LAPSING_AT_ONCE) -> Lapsed:
        """Ends leases and reservations that have run out, of `limit` sessions at most."""
        kept = round((self.lease + _FORGOTTEN_FOR) * 1000)
        moved, next_end, orphans = await self._run(_LAPSE, limit, kept)
        return Lapsed(moved, None if next_end < 0 else next_end, orphans)

    async def migrate(self) -> bool:
        """Takes over some of what an earlier version left in the store. True while there may be more."""
        args = (_MIGRATED_AT_ONCE, MOVES_FOR_SCRIPTS)
        return bool(await self._store.run(_MIGRATE, KEYS_OF_EARLIER, args))

    async def begin_anew(self, step: float) -> int:
        """After a backup was restored: nobody has a session, and fences go on `step` seconds after now. Returns the one
        that counts as the last."""
        return int(await self._run(_BEGIN_ANEW, round(step * 1_000_000)))

    async def place_orphans(self, by: str = "keeper") -> int:
        """Grants those that have waited longest to workers of ours with room, one round. How many. Two round trips."""
        orphans, fleet, alike = records.orphans(await self._run(_ORPHANS, _AT_ONCE))
        chosen = share(fleet, orphans, alike)
        if not chosen:
            return 0
        parts = [part for session, to in chosen.items() for part in (session, to.worker, to.instance)]
        waited = await self._run(_GRANT, by, *parts)
        for ms in waited:
            if ms >= 0:
                metrics.session_failed_over(ms / 1000)
        return len(waited)
