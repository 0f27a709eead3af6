"""Sessions that are kept, and run by nobody until somebody creates them again or takes that back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sessions import records
from sessions.records import Changed, Ended, Notice, PhoneInUse, Rival, StillRuns, Unknown
from sessions.scripts import GATEWAY, Scripted, load

Why = Literal["superseded", "deleted"]
_END, _RESTORE, _RIVALS, _NOTICES = load("end"), load("restore"), load("rivals"), load("notices")
_TAKEN, _ENDED, _PURGE, _IDLE_PHONES = load("taken"), load("ended"), load("purge"), load("idle_phones")


class Ending(Scripted):
    """Each method is one round trip, and raises StoreAway or StoreRefused."""

    async def end(
        self,
        session: str,
        why: Why,
        *,
        by: str = GATEWAY,
        stays: str = "",
        state: str = "",
        since: float | None = None,
        closed: bool = False,
        unowned: bool = False,
    ) -> Ended | Changed | StillRuns | Unknown:
        """Keeps it, and lets nobody run it until it is created again or restored. One of ours that runs it stops it.

        `stays`: in favour of which session. `state`, `since` (unix seconds): as it must still be; else nothing is done.
        `closed`: the existing worker that ran it has closed it. After StillRuns, which means that it is about to be
        asked to, it ends by itself, too, when that worker lists it no more. `unowned`: only where nobody has it.
        """
        moment = "" if since is None else round(since * 1000)
        answer = await self._run(_END, session, why, stays, by, state, moment, int(closed), int(unowned))
        match answer:
            case b"unknown":
                return Unknown()
            case b"changed":
                return Changed()
            case [b"runs", worker]:
                return StillRuns(worker.decode())
        _, worker, stops_first = answer
        return Ended(worker.decode(), stops_first == b"1")

    async def restore(self, session: str, by: str = GATEWAY) -> bool:
        """A person takes back that it was ended. False: it is not known, or was not ended."""
        return bool(await self._run(_RESTORE, session, by))

    async def ended_for(self, seconds: float, limit: int) -> list[tuple[str, int]]:
        """Sessions that were ended at least so long ago, and when (ms), for `purge`."""
        found = await self._run(_ENDED, round(seconds * 1000), limit)
        return [(session.decode(), int(since)) for session, since in records.pairs(found)]

    async def purge(self, session: str, since: int, *, erased: bool) -> bool:
        """First it is marked, so that nobody brings it back, and then, when its profile is `erased`, it is forgotten.
        False: it is not ended any more, or since another moment."""
        return bool(await self._run(_PURGE, session, since, int(erased)))

    async def taken(self, session: str, workspace: str, phone: str) -> str | None:
        """Another session of the workspace that is connected with this phone."""
        found = await self._run(_TAKEN, session, workspace, phone)
        return None if found is None else str(found.decode())

    async def phones_in_use(self, done: Sequence[str] = (), limit: int = 10, *, claim: float = 0.0) -> list[PhoneInUse]:
        """Phones with which a session has become connected, or that one had which is just created, where other
        sessions have had them, too. Who gets one has it to himself for `claim` seconds; `done`: keys of those that were
        looked at."""
        return records.phones(await self._run(_IDLE_PHONES, limit, round(claim * 1000), *done))

    async def rivals(self, limit: int = 100, *, claim: float = 0.0) -> list[Rival]:
        """Sessions on existing workers that should yield their phone, those that wait longest first. Who is about to
        close them has them to himself for `claim` seconds: others that want to do that are not told of them."""
        return records.rivals(await self._run(_RIVALS, limit, round(claim * 1000)))

    async def notices(self, given: Sequence[Notice] = (), limit: int = 100) -> list[Notice]:
        """What Laravel is to be told of ended sessions; of those that were `given` to it, nothing any more."""
        parts = [part for one in given for part in (one.session, one.at)]
        return records.notices(await self._run(_NOTICES, limit, *parts))
