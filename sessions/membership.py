"""A worker's place among the others.

        registered, beat answered
   out ───────────────────────────▶ in ──┐ beat answered: runs what the answer says
    ▲                               │ ▲  │
    ├──── not registered (409) ─────┤ └──┘ the next beat is due after `beat` seconds, or as soon as it was given a
    └──── no answer in time ────────┘      session or has lost one
          all sessions are stopped, before others may have them

The lease is counted from the moment a beat was sent, by a clock that goes on while the machine is suspended, and ends a
margin early. So whatever the network did meanwhile, the store still holds the lease for us while `fence_of` answers a
number.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

from sessions.beats import Beats, State as State
from sessions.calls import PREFIX
from sessions.client import Client, Conflict, NoAnswer
from sessions.lease import Lease
from sessions.load import Usage
from sessions.reconciler import Reconciler
from sluice.config import Signature
from sluice.observe.log import Log
from sluice.process.boottime import boottime
from sluice.process.loops import Stop

log = Log("sessions.membership")

START_AT_ONCE = 2
_FIRST_TIMEOUT = 2.0
_FIRST_PAUSE = 0.5
_SHORTEST_PAUSE = 0.05
_DRAIN = 30.0
_STOP_AT_ONCE = 2
_BEAT_ANSWER = frozenset(("lease", "sessions", "creates_above"))


class _NotRegistered(Exception):
    pass


class Membership:
    """Keeps one worker registered at the gateway `base_url`, and runs exactly the sessions it is given.

    `start` and `stop` (see `Reconciler`) run beside the beats, at most `start_at_once` starts at a time; `stop` must
    cease to act at once. `state(session)` answers how it stands, for the next report; `load` how full the machine is.
    `capacity` may be asked with each beat, `dropped` how many events could not be passed on within the last hour.
    `takes_ids`: it sends what has an id only once. The lease must be well above 400 ms.
    """

    def __init__(
        self,
        base_url: str,
        signature: Signature,
        *,
        worker: str,
        url: str,
        capacity: int | Callable[[], int],
        start: Callable[[str, int], Awaitable[object]],
        stop: Callable[[str], Awaitable[object]],
        state: Callable[[str], State],
        load: Callable[[], Mapping[str, float] | None] | None = None,
        dropped: Callable[[], int] | None = None,
        start_at_once: int = START_AT_ONCE,
        takes_ids: bool = False,
    ) -> None:
        self.worker = worker
        self.instance = secrets.token_hex(8)
        self._path = f"{PREFIX}/{worker}"
        self._capacity = capacity
        self._about = {"id": worker, "url": url, **({"takes_ids": True} if takes_ids else {})}
        self._sessions = Reconciler(worker, start, stop, start_at_once)
        self._beats = Beats(self._sessions, state, load or Usage().shares)
        self._beats.capacity = capacity if callable(capacity) else None
        self._beats.dropped = dropped or self._beats.dropped
        self._client = Client(base_url, signature, self.instance)
        self._lease: float | None = None
        self._beat_every = _FIRST_TIMEOUT
        self._registered_at: float | None = None
        self._lost_in_a_row = 0
        self._beat_sent_at = 0.0
        self.holding = Lease(self._lapse)
        self._due = asyncio.Event()
        self._outage = ""

    def fence_of(self, session: str) -> int | None:
        """The fence under which this worker may act for the session at this very moment, else None.

        True even when the process was frozen, or the machine suspended, meanwhile: ask before every act.
        """
        return self._sessions.fence_of(session) if self.holding.stands else None

    def accept(self, session: str, fence: int) -> bool:
        """A gateway asks for its create: whether it runs here from now on, under this fence; else that is answered 421.

        It is not when the create was sent for a place that is not held for this worker any more, or when the session
        runs here under another fence.
        """
        return self.holding.stands and self._beats.accept(session, fence)

    def end(self, session: str, fence: int) -> None:
        """A person ended it here, under this fence: it is stopped, and forgotten with the next beat, which is due now.

        It may have been placed here so lately that no beat has told of it yet.
        """
        self._beats.end(session, fence)
        self._due.set()

    async def run(self, stop: Stop) -> None:
        """Until stopped; then stops the sessions, leaving each to others only after that. Takes 30 s at most."""
        try:
            while not stop.requested:
                await self._until_due(await self.run_once(), stop)
            await self._leave()
        finally:
            self._demote()
            await self._client.close()

    async def run_once(self) -> float:
        """Registers or beats, once. Answers the seconds until the next run."""
        try:
            if self._registered_at is None:
                await self._sessions.settled(self._lease or 0.0)
                await self._register()
            await self._beat()
        except _NotRegistered:
            log.warning("membership.lost", worker=self.worker)
            self._demote()
            self._lost_in_a_row = min(self._lost_in_a_row + 1, 10)
            return _pause_after(self._lost_in_a_row, self._beat_every, self._lease or _FIRST_PAUSE)
        except NoAnswer as reason:
            self._in_trouble(reason)
            return reason.again_in or (self._beat_every / 5 if self._lease else _FIRST_PAUSE)
        if self._outage:
            log.info("membership.answered_again", worker=self.worker)
            self._outage = ""
        return self._beat_every

    # --- calls

    async def _register(self) -> None:
        about = {**self._about, "capacity": self._capacity() if callable(self._capacity) else self._capacity}
        answer = await self._client.post(PREFIX, about, self._beat_every, {"lease", "beat", "creates_above"})
        self._lease, self._beat_every = float(answer["lease"]), float(answer["beat"])
        self._beats.creates_above = int(answer["creates_above"])
        self._registered_at = boottime()

    async def _beat(self) -> None:
        self._due.clear()
        sent = self._beat_sent_at = boottime()
        try:
            answer = await self._client.post(f"{self._path}/beat", self._beats.said(), self._beat_every, _BEAT_ANSWER)
        except Conflict:
            raise _NotRegistered from None
        lease = float(answer["lease"])
        deadline = sent + lease - max(lease / 6, 0.2)
        if boottime() >= deadline:
            self._demote()
            raise NoAnswer("the answer was read when the lease was over already")
        self.holding.renew(deadline)
        if self._registered_at is not None and boottime() - self._registered_at > 10 * lease:
            self._lost_in_a_row = 0
        self._beats.answered(answer["sessions"], int(answer["creates_above"]))

    async def _changed(self, seconds: float) -> None:
        """Returns when the worker was given a session or has lost one, as far as the gateway can tell."""
        began = boottime()
        try:
            since = {"since": began - self._beat_sent_at, "seconds": seconds}
            await self._client.post(f"{self._path}/wait", since, seconds + _FIRST_PAUSE, {"changed"})
        except NoAnswer:
            await asyncio.sleep(max(0.0, began + seconds - boottime()))  # the next beat tells what is wrong

    async def _until_due(self, seconds: float, stop: Stop) -> None:
        """Until the next beat is due; it is never due at once, whatever the gateway answers."""
        waits = [stop.wait(), self._due.wait(), *([] if self._registered_at is None else [self._changed(seconds)])]
        await _first_of(waits, at_least=min(_SHORTEST_PAUSE, seconds), at_most=seconds)

    def _lapse(self) -> None:
        log.warning("membership.lapsed", worker=self.worker, sessions=len(self._sessions.running))
        self._demote()

    def _demote(self) -> None:
        self._registered_at = None
        self.holding.end()
        self._beats.stop_all()

    # --- leaving

    async def _leave(self) -> None:
        """Closes everything under leases that are still renewed; then lets go."""
        ends = boottime() + _DRAIN
        self._beats.draining = True
        while self._registered_at is not None and self._sessions.running and boottime() < ends:
            await self._give_on(ends)
        self._beats.stop_all()
        if self._registered_at is None:
            await self._sessions.settled(max(0.0, ends - boottime()))
            return
        while not await self._sessions.settled(min(self._beat_every, ends - boottime())):
            await self._ignoring_outages(self._beat())
            if boottime() >= ends:
                log.error("membership.not_stopped", worker=self.worker, sessions=len(self._sessions.running))
                return  # what has not stopped keeps its lease: others get it when that is over
        if self._beats.owes:
            await self._ignoring_outages(self._beat())
        await self._ignoring_outages(self._client.post(f"{self._path}/leave", {}, self._beat_every, {"left"}))

    async def _give_on(self, ends: float) -> None:
        """Stops a few sessions; each of them is another's as soon as it has stopped."""
        await self._ignoring_outages(self._beat())
        closing = dict(list(self._sessions.running.items())[:_STOP_AT_ONCE])
        for session in closing:
            self._sessions.end(session)
        while closing and self._registered_at is not None and boottime() < ends:
            await self._sessions.changed(min(self._beat_every, max(0.0, ends - boottime())))
            stopped = closing.keys() - self._sessions.running.keys()
            self._beats.release({session: closing.pop(session) for session in stopped})
            await self._ignoring_outages(self._beat())

    async def _ignoring_outages(self, call: Awaitable[object]) -> None:
        try:
            await call
        except _NotRegistered:
            pass
        except NoAnswer as reason:
            self._in_trouble(reason)

    def _in_trouble(self, reason: NoAnswer) -> None:
        event = "membership.taken" if isinstance(reason, Conflict) else "membership.no_answer"
        if self._outage != event:
            log.warning(event, worker=self.worker, gateway=self._client.gateway, reason=str(reason))
        self._outage = event


async def _first_of(waits: Sequence[Coroutine[None, None, object]], *, at_least: float, at_most: float) -> None:
    """Waits for the first of them, within these bounds in seconds; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.sleep(at_least)
        await asyncio.wait(tasks, timeout=at_most, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _pause_after(losses: int, beat_every: float, lease: float) -> float:
    """Two processes under one id and url would put each other out for ever: each time more slowly."""
    return min(beat_every / 5 * 4.0 ** (losses - 1), 4 * lease)
