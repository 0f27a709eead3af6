"""How sessions do that somebody runs: what is seen of them, what is wrong with them, and that they are restarted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sessions import signs
from sessions.scripts import GATEWAY, Scripted, load
from sessions.signs import NotedFault, Telling

_ACTIVITY, _FAULT, _UNTOLD = load("activity", adds=True), load("fault"), load("untold")
_FAULTS, _RESTART, _RESTARTED = load("faults"), load("restart"), load("restarted")
ASKED_FOR = 75.0
"""Seconds for which an existing worker may be at a restart: a little more than it gives itself for a request."""
IN_FLIGHT = 3.0
"""Seconds for which a send that a gateway has seen counts as in flight; it says so each second while it is."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one session. Seconds since its last event, and since the first send without one; None: there was none."""

    session: str
    heard: float | None
    sent: float | None
    sending: bool


@dataclass(frozen=True, slots=True)
class Over:
    kind: str
    lasted: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """`ask`: `worker` is an existing one, and who restarts the session has to ask it, and to say what came of it."""

    worker: str
    ask: bool


WhyNot = Literal["unknown", "unowned", "changed", "sending", "restarting", "limited"]
"""Of a restart: nobody knows the session; nobody runs it, or it is on its way; it is otherwise than expected; a send
is in flight; it is being restarted; it was restarted too often."""
_WHY_NOT: dict[bytes, WhyNot] = {
    b"unknown": "unknown",
    b"unowned": "unowned",
    b"changed": "changed",
    b"sending": "sending",
    b"restarting": "restarting",
    b"limited": "limited",
}


class Watched(Scripted):
    """Each method is one round trip, and raises StoreAway or StoreRefused."""

    async def see(self, seen: Sequence[Seen]) -> None:
        """What this gateway has seen of a few hundred sessions."""
        parts = [part for one in seen for part in (one.session, _ago(one.heard), _ago(one.sent), int(one.sending))]
        await self._run(_ACTIVITY, *parts)

    async def unwell(
        self, session: str, kind: str, since: float, reason: str, *, state: str, as_of: float, by: str = GATEWAY
    ) -> Literal["none", "begun", "changed"]:
        """Notes what is wrong with a session. `state`, `as_of` (unix seconds): as it must still be."""
        args = (session, kind, round(since * 1000), _line(reason), state, round(as_of * 1000), by)
        answer = await self._run(_FAULT, *args)
        return "begun" if answer == b"begun" else "changed" if answer == b"changed" else "none"

    async def well(self, session: str, how: str, *, state: str, as_of: float, by: str = GATEWAY) -> Over | None:
        """It is over. None: it was already, or the session is otherwise by now."""
        answer = await self._run(_FAULT, session, "", 0, _line(how), state, round(as_of * 1000), by)
        return None if answer == b"none" else Over(answer[1].decode(), int(answer[2]) / 1000)

    async def faults(self, limit: int) -> dict[str, NotedFault]:
        """Of some sessions that are not well, by session."""
        return signs.faults(await self._run(_FAULTS, limit))

    async def untold(self, given: Sequence[Telling] = (), limit: int = 100) -> list[Telling]:
        """What Laravel is to be told, the oldest first; what it was `given` is so no more."""
        return signs.tellings(await self._run(_UNTOLD, limit, *(one.line for one in given)))

    async def restart(
        self,
        session: str,
        by: str = GATEWAY,
        *,
        most: int = 0,
        within: float = 3600.0,
        state: str = "",
        as_of: float | None = None,
    ) -> Restarted | WhyNot:
        """Its worker starts it anew, with its login. `most`: restarts within so many seconds; 0: any number. `state`,
        `as_of`: as it must still be."""
        moment = "" if as_of is None else round(as_of * 1000)
        numbers = (most, round(within * 1000), state, moment, round(ASKED_FOR * 1000), round(IN_FLIGHT * 1000))
        answer = await self._run(_RESTART, session, by, *numbers)
        if isinstance(answer, bytes):
            return _WHY_NOT[answer]
        return Restarted(answer[1].decode(), ask=answer[0] == b"ask")

    async def restarted(self, session: str, what: str, by: str = GATEWAY) -> None:
        """What came of asking its existing worker."""
        await self._run(_RESTARTED, session, _line(what), by)


def _ago(seconds: float | None) -> int | str:
    return "" if seconds is None else max(0, round(seconds * 1000))


def _line(text: str) -> str:
    """Without tabs and line ends: it stands in a line."""
    return " ".join(text.split())[:200]
